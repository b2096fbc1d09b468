"""Two nodes of dora: arrays from one to the other, or one small message there and back.

    over_dora.py arrays BYTES COUNT     prints the seconds from the first array to the last
    over_dora.py buffers BYTES COUNT    the same by `send_output_raw`, which dora advises for large data
    over_dora.py roomy BYTES COUNT      as `arrays`, with shared memory for eight of the largest
    over_dora.py trips COUNT            prints the median of the seconds of so many trips

Starts both nodes by `dora run`, each of them this same file. dora drops what a full queue cannot take, so that the
receiver of the arrays says of each that it has looked at it, and no more than `AHEAD` are on their way. An array or an
answer that is lost all the same is waited for forever: a run that hangs is ended, and tried again.
"""

import sys

AHEAD = 8
# Seconds until a run is taken to hang, and how many runs may.
LONGEST = 20
TRIES = 3
# Seconds until dora is killed that has been asked to end.
GRACE = 5
# Bytes of shared memory of each node where there is to be room. By default it is 8 MiB, and what does not fit in goes
# through dora's daemon instead.
ROOMY = 512 << 20
# For zenoh, which takes dora's messages from node to node by two buffers: what finds none free for a millisecond, as
# where another process has the processor, it drops, and neither node is told. So many microseconds it waits instead,
# which is longer than any run.
PATIENCE = {"wait_before_drop": 60_000_000, "max_wait_before_drop_fragments": 60_000_000}


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


def _run(first, second, arguments, settings={}):
    import tempfile

    for tried in range(1, TRIES + 1):
        with tempfile.TemporaryDirectory(prefix="dora-", ignore_cleanup_errors=True) as folder:
            _describe(folder, first, second, arguments, settings)
            status, log = _ended(folder)
            seconds = _told(folder)
        if status == 0 and seconds:
            print(seconds)
            return
        if status is not None:
            sys.exit(f"dora ended with {status}:\n{log}")
        print(f"dora hung for {LONGEST} s in run {tried} of {TRIES}", file=sys.stderr)
    sys.exit(f"dora hung in every run; the last of its log:\n{log}")


def _describe(folder, first, second, arguments, settings):
    """Writes what dora is to run, and how. JSON is YAML, and JSON5."""
    import json
    import os

    def node(name, other):
        return {
            "id": name,
            "path": os.path.abspath(__file__),
            "args": " ".join([f"node-{name}", *arguments]),
            "inputs": {"value": {"source": f"{other}/value", "queue_size": 2 * AHEAD}},
            "outputs": ["value"],
            **settings,
        }

    with open(os.path.join(folder, "dataflow.yml"), "w") as file:
        json.dump({"nodes": [node(first, second), node(second, first)]}, file)
    with open(os.path.join(folder, "zenoh.json5"), "w") as file:
        json.dump({"transport": {"link": {"tx": {"queue": {"congestion_control": {"drop": PATIENCE}}}}}}, file)


def _ended(folder):
    """The status of dora, which is `None` if it hung, and the last of its log."""
    import os
    import subprocess

    environment = {
        "DORA_ZENOH_CONFIG_OVERLAY": os.path.join(folder, "zenoh.json5"),
        "OVER_DORA_TOLD": os.path.join(folder, "told"),
        # The nodes' interpreter is the `python` of the PATH.
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
    }
    # Not a pipe, which a node that is left would hold open.
    with open(os.path.join(folder, "log"), "w+b") as log:
        dora = subprocess.Popen(
            # Where this process is killed, it ends by itself.
            ["dora", "run", "--stop-after", str(2 * LONGEST), "dataflow.yml"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = dora.wait(LONGEST)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(dora)
        log.seek(0)
        return status, log.read().decode(errors="replace")[-4000:]


def _end(dora):
    """Ends dora, if it has not ended, and its nodes: each is a process group of its own, but all are of one session."""
    import os
    import signal
    import subprocess
    from contextlib import suppress

    # The nodes then end too, and remove their shared memory. That of a killed one zenoh removes when it is next used.
    dora.terminate()
    with suppress(subprocess.TimeoutExpired):
        dora.wait(GRACE)
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(ProcessLookupError):
            if os.getsid(int(process)) == dora.pid:
                os.kill(int(process), signal.SIGKILL)
    dora.wait()


def _told(folder):
    """What `_tell` has written, if it has."""
    import os
    from contextlib import suppress

    with suppress(FileNotFoundError), open(os.path.join(folder, "told")) as told:
        return told.read().strip()


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
    elif what == "roomy":
        _run("send", "take", arguments, {"shared_memory_pool_size": ROOMY})
    elif what == "buffers":
        _run("fill", "take", arguments)
    else:
        _run("ask", "echo", arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
