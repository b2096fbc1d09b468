"""`stream` mode, and sources in either: the function makes a stream of values, which are written as they come."""

from itertools import islice
from time import monotonic

from . import _call
from ._control import OutputClosed
from ._errors import Uncodable
from ._ports import write
from ._watch import Watch
from ._work import Work

# A gathering should last about this long: less costs more writes than it need, more makes others wait.
QUICK, SLOW = 0.001, 0.004

# What lies in segments need not be copied on its way: more of it may travel together.
_LARGE_BYTES = 1 << 20


class Stream(Work):
    """A worker whose function is called once."""

    def __init__(self, task, control, segments):
        super().__init__(task, control, segments)
        self._watch = Watch(self._flush_late)
        # What the function has yielded in this gathering, and how much of it is sent.
        self._out = []
        self._sent = 0
        self._stdout = self._by_name.get("stdout")
        # An error of the watching thread, for the main one to raise.
        self._error = None
        # Emitted values that are gathered before they are sent: see `emit`.
        self._gather = 1
        self._emitted = 0
        self._emit_since = 0.0
        self._block_bytes = task["block"]["bytes"]
        self._resume = False

    def run(self, function, is_built):
        """Calls the function and sends what comes of it. Returns when it has ended."""
        values = self._stream_of(self._call(function, is_built))
        try:
            self._drain(values)
        finally:
            # Its `finally` blocks run now, also where it was not taken to its end.
            close = getattr(values, "close", None)
            if close is not None:
                close()

    def _call(self, function, is_built):
        args, kwargs = self.arguments(is_built)
        names = [port["name"] for port in self.task["inputs"]]
        if not names:
            return function(*args, **kwargs)
        return function(self.input("stdin" if "stdin" in names else names[0]), *args, **kwargs)

    def _stream_of(self, result):
        kind = type(result)
        if result is None:
            return iter(())
        if _call.is_many(kind):
            return result
        if _call.is_plain(kind) and self.task["mode"] == "map":
            # A source that is called as any function is in this mode: one result.
            return iter((result,))
        if isinstance(result, (str, bytes, bytearray, dict)) or not hasattr(kind, "__iter__"):
            raise TypeError(
                "in `stream` mode a function yields its values or returns an iterable of them, "
                f"and this one returned a `{kind.__name__}`"
            )
        return iter(result)

    def finish(self):
        """Sends what is left."""
        self._watch.end()
        with self.lock:
            self._flush()
        self._raise_late()

    def _drain(self, values):
        size = 1
        watch, most = self._watch, self.task["block"]["records"]
        while True:
            self._out = out = []
            self._sent = 0
            self.waited = 0.0
            if size > 1:
                watch.begin()
            began = monotonic()
            try:
                out.extend(islice(values, size))
            finally:
                # Where it raises, what it had yielded before is good.
                took = monotonic() - began - self.waited
                watch.end()
                # Only whoever holds the lock can say whether a write was interrupted: the watching thread may be in
                # the middle of one, and what came since it began is sent after it.
                with self.lock:
                    if not self.is_torn:
                        self._flush()
                self._raise_late()
            if len(out) < size:
                return
            if took < QUICK:
                size = min(2 * size, most)
            elif took > SLOW:
                size = max(1, int(size * SLOW / 2 / took))
            if self._stdout is not None:
                # Nor should a chunk become much larger than a block.
                most_bytes = _LARGE_BYTES if self._stdout.is_large else self._block_bytes
                size = max(1, min(size, most_bytes // (self._stdout.average + 1) + 1))

    def emit(self, value, port):
        output = self.output(port)
        if not output.wanted:
            return
        with self.lock:
            self._raise_late()
            if self._emitted == 0:
                self._emit_since = monotonic()
            output.values.append(value)
            self._emitted += 1
            if self._emitted < self._gather:
                if not self._watch.is_on:
                    self._watch.begin()
                return
            self._flush()
            took = monotonic() - self._emit_since
            if took < QUICK:
                self._gather = min(2 * self._gather, output.limit, self._block_bytes // (output.average + 1) + 1)
            elif took > SLOW:
                self._gather = max(1, int(self._gather * SLOW / 2 / took))

    def before_wait(self):
        with self.lock:
            self._flush()
        self._raise_late()
        self.segments.send_freed()
        self._resume = self._watch.is_on
        self._watch.end()

    def after_wait(self):
        if self._resume:
            self._watch.begin()

    def _raise_late(self):
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _flush_late(self):
        """What the watching thread does."""
        with self.lock:
            if self.is_torn or self._error is not None or not self._watch.is_on:
                return False
            try:
                return self._flush(True)
            except BaseException as error:
                self._error = error
                return False

    def _flush(self, is_late=False):
        """Sends all that there is. Held: the lock. Returns whether there was any.

        `is_late`: the watching thread asks, and the main one may be adding to what there is.
        """
        sent_any = False
        if self._emitted:
            self._emitted = 0
            for output in self.outputs:
                if output.values:
                    values, output.values = output.values, []
                    self._send(output, values)
                    sent_any = True
        out, sent = self._out, self._sent
        ready = len(out)
        if ready > sent:
            # Before it is sent, so that an error does not make it be sent again.
            self._sent = ready
            if self._stdout is not None:
                # While it is being gathered it may grow: a copy then.
                self._send(self._stdout, out[sent:ready] if sent or is_late or self._watch.is_on else out)
            if self._watch.is_on:
                # A long gathering goes on: let go of what it need not keep.
                out[sent:ready] = [None] * (ready - sent)
            sent_any = True
        return sent_any

    def _send(self, output, values):
        if not output.wanted:
            return
        try:
            data = output.encode(values)
        except Uncodable:
            output.codec.rollback()
            if len(values) == 1:
                raise
            half = len(values) // 2
            self._send(output, values[:half])
            self._send(output, values[half:])
            return
        output.codec.commit()
        output.way.before(output.is_large)
        self.is_torn = True
        try:
            write(output.way.descriptor, [data])
        except BrokenPipeError:
            self.is_torn = False
            output.wanted = False
            # As with a command, whose reader is gone; another port may still have one.
            if not any(other.wanted for other in self.outputs):
                raise OutputClosed from None
        else:
            self.is_torn = False

