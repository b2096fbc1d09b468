"""What both modes have: ports by their names, further inputs, connections, and what happens before a wait."""

import os
from _thread import RLock

from . import _call
from ._errors import Undecodable, unknown
from ._ports import Buffer, Output, Waiter, codec_of


class Work:
    """A worker's ports, for the length of its life. `mpflow.emit` and its like end here."""

    def __init__(self, task, control, segments):
        self.task = task
        self.control = control
        self.segments = segments
        # Held by whoever sends; main thread and watcher do.
        self.lock = RLock()
        # Nothing may be written after an interrupted write: a half frame would swallow it.
        self.is_torn = False
        self.waited = 0.0
        self._codecs = {}
        self._inputs = {}
        self._connections = {}
        block = task["block"]
        self.outputs = [
            Output(position, output, self._codec(output["format"]), block)
            for position, output in enumerate(task["outputs"])
        ]
        self._by_name = {output.name: output for output in self.outputs}

    def _codec(self, name):
        codec = self._codecs.get(name)
        if codec is None:
            codec = self._codecs[name] = codec_of(name, self.segments)
        return codec

    def output(self, port):
        """The output of that name. Raises ValueError."""
        try:
            return self._by_name[port]
        except (KeyError, TypeError):
            raise unknown("output port", port, self._by_name) from None

    def input(self, port):
        """An iterator over the records of an input port, always the same one. Raises ValueError."""
        records = self._inputs.get(port)
        if records is None:
            for described in self.task["inputs"]:
                if described["name"] == port:
                    break
            else:
                raise unknown("input port", port, [one["name"] for one in self.task["inputs"]])
            if described["leased"]:
                raise ValueError(f"the records of `{port}` come as calls of the function in `map` mode")
            from itertools import chain

            records = self._inputs[port] = chain.from_iterable(self._blocks(described))
        return records

    def _blocks(self, described):
        """The records of an input, as lists of what came together."""
        codec = self._codec(described["format"])
        buffer = Buffer(described["fd"])
        waiter = Waiter(described["fd"], self.control, self.segments)
        chunked = codec.chunked
        need, ended = 1, False
        while True:
            start, end = buffer.start, buffer.end
            if chunked:
                if end - start >= 4:
                    need = 4 + int.from_bytes(buffer.view[start : start + 4], "little")
                    if end - start >= need:
                        buffer.start = start + need
                        yield codec.decode_chunk(buffer.view[start : start + need])
                        self.segments.send_freed()
                        need = 4
                        continue
            elif end > start:
                stop = codec.cut(buffer.data, start, end, ended)
                if stop > start:
                    buffer.start = stop
                    yield codec.decode_all(buffer.view[start:stop])
                    continue
                need = end - start + 1
            if ended:
                if chunked and end > start:
                    raise Undecodable(f"the input port `{described['name']}` ended within a chunk")
                return
            if not waiter.is_ready():
                self.before_wait()
                from time import monotonic

                began = monotonic()
                try:
                    waiter.wait()
                finally:
                    self.waited += monotonic() - began
                    self.after_wait()
            ended = not buffer.read(need)

    def before_wait(self):
        """Nothing that is done may wait for what is not there yet."""
        raise NotImplementedError

    def after_wait(self):
        """The wait is over."""
        raise NotImplementedError

    def connection(self, other):
        """This end of a pipe. Raises ValueError."""
        connection = self._connections.get(other)
        if connection is None:
            descriptors = self.task.get("connections") or {}
            if other not in descriptors:
                raise unknown("pipe to stage", other, descriptors)
            from fcntl import F_GETFL, fcntl
            from multiprocessing.connection import Connection

            descriptor = descriptors[other]
            way = fcntl(descriptor, F_GETFL) & os.O_ACCMODE
            connection = Connection(descriptor, readable=way != os.O_WRONLY, writable=way != os.O_RDONLY)
            self._connections[other] = connection
        return connection

    def calls(self, function, is_built):
        """`_call.over` with the task's fixed arguments, which a class was given when it was built."""
        args, kwargs = self.arguments(is_built)
        return _call.over(function, args, kwargs, self.task.get("unpack", False))

    def arguments(self, is_built):
        """The fixed arguments of a call."""
        if is_built:
            return [], {}
        return self.task.get("args") or [], self.task.get("kwargs") or {}

    def finish(self):
        """Sends what is left."""
        raise NotImplementedError

    def close(self):
        """Closes the ports: whoever is at their other ends sees the end of this work."""
        task = self.task
        for descriptor in {port["fd"] for port in task["inputs"] + task["outputs"]} | {task.get("answers")}:
            if descriptor is not None:
                os.close(descriptor)
