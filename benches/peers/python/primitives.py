"""What `multiprocessing` has, by itself. Each prints the seconds of one task or value, interpreters not counted:

    primitives.py pool CHUNK COUNT    a Pool of two at so many small tasks, by `imap_unordered`
    primitives.py queue COUNT         one process puts so many values of 64 bytes, this one gets them
    primitives.py latency COUNT       the median of half the way to another process and back, the queues being idle
"""

import sys
from multiprocessing import Pool, Process, Queue
from statistics import median
from time import perf_counter, sleep


def square(number):
    return number * number % 1009


def _put(queue, count):
    for number in range(count):
        queue.put(f"{number:.>64}")


def _answer(requests, answers):
    for number in iter(requests.get, 0):
        answers.put(number)


def pool(chunk, count):
    with Pool(2) as workers:
        workers.map(square, range(1000))
        began = perf_counter()
        total = sum(workers.imap_unordered(square, range(count), chunk))
        seconds = perf_counter() - began
    assert total == sum(map(square, range(count)))
    return seconds / count


def queue(count):
    values = Queue()
    process = Process(target=_put, args=(values, count))
    process.start()
    assert values.get() == f"{0:.>64}"
    began = perf_counter()
    for number in range(1, count):
        assert values.get() == f"{number:.>64}"
    seconds = perf_counter() - began
    process.join()
    return seconds / (count - 1)


def latency(count):
    requests, answers = Queue(), Queue()
    process = Process(target=_answer, args=(requests, answers))
    process.start()
    times = []
    for number in range(1, count + 101):
        sleep(0.0002)
        began = perf_counter()
        requests.put(number)
        assert answers.get() == number
        times.append((perf_counter() - began) / 2)
    requests.put(0)
    process.join()
    # The first ones start the queues' threads.
    return median(times[100:])


if __name__ == "__main__":
    print({"pool": pool, "queue": queue, "latency": latency}[sys.argv[1]](*map(int, sys.argv[2:])))
