"""Two nodes of dora: arrays from one to the other, or one small message there and back.

    over_dora.py arrays BYTES COUNT     prints the seconds from the first array to the last
    over_dora.py buffers BYTES COUNT    the same by `send_output_raw`, which dora advises for large data
    over_dora.py trips COUNT            prints the median of the seconds of so many trips

Starts both nodes by `dora run`, each of them this same file. dora drops what a full queue cannot take, so that the
receiver of the arrays says of each that it has looked at it, and no more than `AHEAD` are on their way.
"""

import sys

AHEAD = 8
# Seconds until it is taken to hang.
LONGEST = 120


def _send_arrays(node, size, count):
    import arrays
    import pyarrow

    made = [pyarrow.array(array) for array in arrays._made(size)]
    _send(node, count, lambda number: node.send_output("value", made[number % 4]))


def _send_buffers(node, size, count):
    import arrays
    import numpy

    made = arrays._made(size)

    def send(number):
        with node.send_output_raw("value", size) as buffer:
            numpy.frombuffer(buffer, numpy.float64)[:] = made[number % 4]

    _send(node, count, send)


def _send(node, count, send):
    free = AHEAD
    for number in range(count):
        while free == 0:
            free += _next(node) is not None
        send(number)
        free -= 1
    # Until all have been looked at.
    while free < AHEAD:
        free += _next(node) is not None


def _take_arrays(node, _, count):
    from time import perf_counter

    import pyarrow

    good, began = 0, None
    for number in range(count):
        array = _next(node).to_numpy(zero_copy_only=True).view("float64")
        began = began or perf_counter()
        good += array[0] == array[-1] == number % 4
        node.send_output("value", pyarrow.array([number]))
    assert good == count, f"{good} of {count} arrays were right"
    _tell((perf_counter() - began) * count / (count - 1))
    _stay(node)


def _trips(node, count):
    from statistics import median
    from time import perf_counter

    import pyarrow

    times = []
    for number in range(count + 100):
        began = perf_counter()
        node.send_output("value", pyarrow.array([number]))
        assert _next(node)[0].as_py() == number
        times.append(perf_counter() - began)
    _tell(median(times[100:]))


def _echo(node, count):
    for _ in range(count + 100):
        node.send_output("value", _next(node))
    _stay(node)


def _next(node):
    """The value of the next message."""
    while True:
        event = node.next()
        assert event is not None and event["type"] != "STOP", f"{event} came instead of a message"
        if event["type"] == "INPUT":
            return event["value"]


def _stay(node):
    """Until the other node has ended: what one has sent that ends may be lost."""
    while (event := node.next()) is not None and event["type"] != "STOP":
        pass


def _tell(seconds):
    """The nodes' standard output goes to dora's log."""
    import os

    with open(os.environ["OVER_DORA_TOLD"], "w") as told:
        print(seconds, file=told)


def _run(first, second, arguments):
    import json
    import os
    import subprocess
    import tempfile

    def node(name, other):
        return {
            "id": name,
            "path": os.path.abspath(__file__),
            "args": " ".join([f"node-{name}", *arguments]),
            "inputs": {"value": {"source": f"{other}/value", "queue_size": 2 * AHEAD}},
            "outputs": ["value"],
        }

    with tempfile.TemporaryDirectory() as folder:
        told = os.path.join(folder, "told")
        with open(os.path.join(folder, "dataflow.yml"), "w") as file:
            # JSON is YAML.
            json.dump({"nodes": [node(first, second), node(second, first)]}, file)
        # The nodes' interpreter is the `python` of the PATH.
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        ended = subprocess.run(
            ["dora", "run", "dataflow.yml"],
            cwd=folder,
            env={**os.environ, "OVER_DORA_TOLD": told, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
        )
        if ended.returncode != 0 or not os.path.exists(told):
            sys.exit(f"dora ended with {ended.returncode}:\n{ended.stdout.decode(errors='replace')[-4000:]}")
        with open(told) as file:
            print(file.read().strip())


def main(what, *arguments):
    roles = {
        "send": _send_arrays,
        "fill": _send_buffers,
        "take": _take_arrays,
        "ask": _trips,
        "echo": _echo,
    }
    if what.startswith("node-"):
        from dora import Node

        roles[what.removeprefix("node-")](Node(), *map(int, arguments))
    elif what == "arrays":
        _run("send", "take", arguments)
    elif what == "buffers":
        _run("fill", "take", arguments)
    else:
        _run("ask", "echo", arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
