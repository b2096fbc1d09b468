"""Ray: small tasks on two processors, and arrays from one process to another through its object store.

    over_ray.py tasks COUNT             prints the seconds of so many tasks that square a number
    over_ray.py batches COUNT           the same by tasks of 1000 numbers each
    over_ray.py arrays BYTES COUNT      prints the seconds of so many arrays from an actor that makes them to one that looks

Ray's own start, which takes seconds, is not in them. No more than so many are on their way, by `ray.wait`, as its
documents advise.
"""

import sys
from time import perf_counter

BATCH = 1000
# Arrays on their way: the same as the slots of the ring by hand.
AHEAD = 8


def _start():
    import os

    import ray

    # Its sessions too lie in the folder that is removed at the end.
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, _temp_dir=os.environ["HOME"])
    return ray


def _done(ray, calls, most):
    """The results of all calls, of which so many are on their way at most."""
    pending = []
    for call in calls:
        pending.append(call)
        if len(pending) >= most:
            ready, pending = ray.wait(pending, num_returns=max(1, most // 4))
            yield from ray.get(ready)
    yield from ray.get(pending)


def _square(number):
    return number * number % 1009


def tasks(count):
    ray = _start()
    square = ray.remote(_square)
    list(_done(ray, (square.remote(number) for number in range(100)), 100))
    began = perf_counter()
    total = sum(_done(ray, (square.remote(number) for number in range(count)), 1000))
    seconds = perf_counter() - began
    assert total == sum(map(_square, range(count)))
    return seconds


def batches(count):
    ray = _start()

    @ray.remote
    def squares(numbers):
        return [_square(number) for number in numbers]

    def calls(records):
        return (squares.remote(list(range(at, at + BATCH))) for at in range(0, records, BATCH))

    list(_done(ray, calls(10 * BATCH), 10))
    began = perf_counter()
    total = sum(sum(results) for results in _done(ray, calls(count), 100))
    seconds = perf_counter() - began
    assert total == sum(map(_square, range(count)))
    return seconds


def arrays(size, count):
    ray = _start()

    @ray.remote(num_cpus=1)
    class Source:
        def __init__(self):
            import arrays

            self.arrays = arrays._made(size)

        def array(self, number):
            return self.arrays[number % 4]

    @ray.remote(num_cpus=1)
    class Sink:
        def look(self, array, number):
            return bool(array[0] == array[-1] == number % 4)

    source, sink = Source.remote(), Sink.remote()

    def looks(records):
        # The array goes from one to the other: it is never here.
        return (sink.look.remote(source.array.remote(number), number) for number in range(records))

    assert all(_done(ray, looks(AHEAD), AHEAD))
    began = perf_counter()
    good = sum(_done(ray, looks(count), AHEAD))
    seconds = perf_counter() - began
    assert good == count, f"{good} of {count} arrays were right"
    return seconds


def main(what, *arguments):
    import os
    import signal
    import tempfile

    # One that hangs is ended by the signal.
    signal.alarm(120)
    # Where `arrays` is found by Ray's workers too.
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home:
        # It writes a token into the home folder.
        os.environ["HOME"] = home
        print({"tasks": tasks, "batches": batches, "arrays": arrays}[what](*map(int, arguments)))
        sys.modules["ray"].shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
