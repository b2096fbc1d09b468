"""Many workers that import NumPy, and then wait.

    hundred.py METHOD COUNT READY [preload]

is a Pool of them. Each worker writes one byte to READY, a named pipe, when it could begin. `Waiting` does the same in the
engine's pipeline.
"""

import os
import sys

import numpy  # noqa: F401


def _say(path):
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b".")
    os.close(descriptor)


class Waiting:
    def __init__(self, path):
        _say(path)

    def __call__(self, record):
        return record


def main(method, count, path):
    import multiprocessing
    from time import sleep

    context = multiprocessing.get_context(method)
    if "preload" in sys.argv:
        context.set_forkserver_preload(["numpy"])
    with context.Pool(count, initializer=_say, initargs=(path,)):
        # Ended by a signal, when its workers have been looked at.
        sleep(1000)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
