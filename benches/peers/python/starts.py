"""How long a new worker takes.

    starts.py METHOD COUNT [numpy] [preload]

starts one worker after another, each when its predecessor has ended, and prints the median of the times from the end
of one to the first line of the function of the next, in seconds. `Replaced` does the same in the engine's pipeline: each
worker ends at its second record, and its successor answers that.
"""

import os
import sys
from time import monotonic

if "numpy" in sys.argv or "numpy" in os.environ.get("STARTS", ""):
    import numpy  # noqa: F401


class Replaced:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.file.write(f"{monotonic()}\n")
        self.is_new = True

    def __call__(self, record):
        if self.is_new:
            self.is_new = False
            return record
        self.file.write(f"{monotonic()}\n")
        os._exit(1)


def _work(pipe):
    began = monotonic()
    pipe.send_bytes(f"{began} {monotonic()}".encode())
    os._exit(0)


def main(method, count):
    import multiprocessing
    from statistics import median

    context = multiprocessing.get_context(method)
    if "preload" in sys.argv:
        context.set_forkserver_preload(["numpy"])
    times, ended = [], None
    for _ in range(count + 1):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs,))
        process.start()
        theirs.close()
        process.join()
        began, end = map(float, mine.recv_bytes().split())
        if ended is not None:
            times.append(began - ended)
        ended = end
    print(median(times))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
