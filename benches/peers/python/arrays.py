"""NumPy arrays from one stage to another.

The functions are what the engine's pipeline runs. As a program this is the same by hand:

    arrays.py CONTENDER BYTES COUNT

`queue` puts them on a `multiprocessing.Queue`; `slots` copies them into a ring of shared memory, guarded by two semaphores,
where the reader looks at them in place. All print how many arrived in order and whole, as far as their ends tell.
"""

import sys

import numpy

SLOTS = 8


def _made(size):
    """A few arrays, which are sent again and again: what is measured is their way, not their making."""
    arrays = [numpy.zeros(size // 8) for _ in range(4)]
    for number, array in enumerate(arrays):
        array[0] = array[-1] = number
    return arrays


def source(size, count):
    arrays = _made(size)
    for number in range(count):
        # An object of its own: one that comes twice in what is pickled together would be sent once.
        yield arrays[number % 4].view()


def sink(arrays):
    good = 0
    for number, array in enumerate(arrays):
        good += array[0] == array[-1] == number % 4
    yield f"{good}"


# By hand.


def _put(size, count, queue):
    for array in source(size, count):
        queue.put(array)
    queue.put(None)


def _got(queue):
    # An array has no truth value, which `iter(queue.get, None)` would ask for.
    while (array := queue.get()) is not None:
        yield array


def _fill(size, count, name, free, full):
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(name)
    slots = numpy.ndarray((SLOTS, size // 8), buffer=memory.buf)
    for number, array in enumerate(source(size, count)):
        free.acquire()
        slots[number % SLOTS] = array
        full.release()
    del slots
    memory.close()


def _filled(size, count, memory, free, full):
    slots = numpy.ndarray((SLOTS, size // 8), buffer=memory.buf)
    for number in range(count):
        full.acquire()
        yield slots[number % SLOTS]
        free.release()


def main(contender, size, count):
    from multiprocessing import Process, Queue, Semaphore
    from multiprocessing.shared_memory import SharedMemory

    if contender == "queue":
        queue = Queue(SLOTS)
        process = Process(target=_put, args=(size, count, queue), daemon=True)
        process.start()
        print(*sink(_got(queue)))
        process.join()
        return
    memory = SharedMemory(create=True, size=size * SLOTS)
    free, full = Semaphore(SLOTS), Semaphore(0)
    process = Process(target=_fill, args=(size, count, memory.name, free, full), daemon=True)
    process.start()
    print(*sink(_filled(size, count, memory, free, full)))
    process.join()
    memory.unlink()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
