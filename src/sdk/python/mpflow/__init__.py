"""What a Python function of an mpflow pipeline may use besides its arguments.

    import mpflow

    def links(page):
        for link in page["links"]:
            mpflow.emit(link, port="links")
        return page["text"]

Values that are returned, yielded or emitted are coded together a moment later, many at once: do not change them
afterwards. Records that come large (64 KiB and more, NumPy arrays for instance) are views of shared memory, for
reading only: copy what you want to change.

`mpflow.Ext(code, data)` is an extension value of the format `msgpack`.
"""

import os as _os

__all__ = ["Ext", "connection", "emit", "input", "ready", "shared", "worker"]


class _Worker:
    """The worker that this process is. Outside of a pipeline the names are None, the rank 0 and the pool 1."""

    @property
    def name(self):
        """Its name: the stage's, and `/RANK` where the pool is larger than 1."""
        return _os.environ.get("MPFLOW_WORKER")

    @property
    def stage(self):
        """The name of its stage."""
        return _os.environ.get("MPFLOW_STAGE")

    @property
    def rank(self):
        """Its place in the pool, from 0."""
        return int(_os.environ.get("MPFLOW_RANK") or 0)

    @property
    def pool(self):
        """How many workers the pool has."""
        return int(_os.environ.get("MPFLOW_POOL") or 1)

    @property
    def pid(self):
        """Its process id."""
        return _os.getpid()

    def __repr__(self):
        return f"<mpflow worker {self.name}: rank {self.rank} of {self.pool}, pid {self.pid}>"


class _Outside:
    """Stands for the work where there is none: outside of a pipeline, and in processes that a worker has forked."""

    def __init__(self, why):
        self.why = why

    def __getattr__(self, name):
        raise RuntimeError(f"mpflow.{name}: {self.why}")


worker = _Worker()

# The running worker's ports (`_map.Map` or `_stream.Stream`).
_work = _Outside("this process is not a worker of a pipeline")

# The running worker's task document, or None.
_task = None


def emit(value, port="stdout"):
    """Sends `value` to the stage's output `port`.

    In `map` mode it belongs to the results of the record that is being worked on: it is dropped if that fails, and
    goes before what the function returns. Nothing happens where no edge leaves the port.

    Raises ValueError when no edge names such a port, with the nearest name.
    """
    _work.emit(value, port)


def input(port):
    """An iterator over the records of a further input port; it waits for records, and ends when no more will come.

    Raises ValueError when no edge names such a port, with the nearest name.
    """
    return _work.input(port)


def connection(other):
    """This end of the duplex pipe to the stage `other`, a `multiprocessing.connection.Connection`.

    The same object each time. Raises ValueError when there is no such pipe, with the nearest name.
    """
    return _work.connection(other)


def ready():
    """Tells the engine that this worker is ready, for a stage with `ready: {notify: true}`; otherwise nothing."""
    descriptor = _os.environ.get("MPFLOW_NOTIFY")
    if descriptor:
        try:
            _os.write(int(descriptor), b"ready\n")
        except (OSError, ValueError):
            # The engine looks no more, or this is a child that was given the variable only.
            pass


def __getattr__(name):
    # Imported when first asked for: most workers share nothing.
    if name == "shared":
        import importlib

        return importlib.import_module("mpflow.shared")
    if name == "Ext":
        from ._msgpack import Ext

        return Ext
    raise AttributeError(f"module 'mpflow' has no attribute {name!r}")
