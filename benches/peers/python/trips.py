"""The way of one small record to a worker and back, with nothing else going on.

`echo` is what the engine's pipeline runs. As a program:

    trips.py pipe           answers each line on its standard input
    trips.py queue COUNT    prints the median of so many trips over two `multiprocessing.Queue`s, in seconds
"""

import sys


def echo(record):
    return record


def _answer(requests, answers):
    for record in iter(requests.get, None):
        answers.put(record)


def _over_queues(count):
    from multiprocessing import Process, Queue
    from statistics import median
    from time import perf_counter

    requests, answers = Queue(), Queue()
    process = Process(target=_answer, args=(requests, answers))
    process.start()
    times = []
    for number in range(count + 100):
        began = perf_counter()
        requests.put(f"{number}")
        assert answers.get() == f"{number}"
        times.append(perf_counter() - began)
    requests.put(None)
    process.join()
    # The first ones start the queues' threads.
    print(median(times[100:]))


if __name__ == "__main__":
    if sys.argv[1] == "pipe":
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    else:
        _over_queues(int(sys.argv[2]))
