"""The two ends of a port: bytes in, and how values become records, blocks and bytes out."""

import os
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, poll

# Room for one read: at first what the kernel's default pipe holds, and more as soon as a read fills it.
_FIRST_SIZE = 64 << 10
_READ_SIZE = 1 << 20
_KEEP_SIZE = 4 << 20


class Buffer:
    """Bytes that were read from a descriptor and not used yet: `data[start:end]`."""

    __slots__ = ("descriptor", "data", "view", "start", "end")

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self._renew(_FIRST_SIZE, b"")

    def _renew(self, size, old):
        data = bytearray(size)
        data[: len(old)] = old
        self.data, self.view = data, memoryview(data)
        self.start, self.end = 0, len(old)

    def read(self, need):
        """Reads once, so that `need` bytes from `start` can come to lie in one piece. False at the end of the input."""
        if self.start == self.end:
            was_full = self.end == len(self.data)
            self.start = self.end = 0
            if was_full and len(self.data) < _READ_SIZE:
                self._renew(min(4 * len(self.data), _READ_SIZE), b"")
            if need <= _READ_SIZE < _KEEP_SIZE < len(self.data):
                self._renew(_READ_SIZE, b"")
        if need > len(self.data):
            # A frame says how long it is; a line does not, and grows by doubling.
            self._renew(max(need, 2 * len(self.data)), self.view[self.start : self.end])
        elif self.start and (self.start + need > len(self.data) or self.end == len(self.data)):
            rest = bytes(self.view[self.start : self.end])
            self.data[: len(rest)] = rest
            self.start, self.end = 0, len(rest)
        elif self.end == len(self.data):
            self._renew(2 * len(self.data), self.view[self.start : self.end])
        count = os.readv(self.descriptor, [self.view[self.end :]])
        self.end += count
        return count > 0


class Waiter:
    """Waits for bytes on an input, and looks after the control connection meanwhile."""

    def __init__(self, descriptor, control, segments):
        self._control, self._segments = control, segments
        self._descriptor = descriptor
        self._poll = poll()
        self._poll.register(descriptor, POLLIN)
        self._poll.register(control.descriptor, POLLIN)

    def is_ready(self):
        """Whether a read would not wait."""
        return any(descriptor == self._descriptor for descriptor, _ in self._poll.poll(0))

    def wait(self):
        """Returns when a read would not wait."""
        while True:
            came = False
            for descriptor, events in self._poll.poll():
                if descriptor == self._descriptor:
                    came = True
                elif events & (POLLIN | POLLHUP | POLLERR | POLLNVAL):
                    self._control.receive(self._segments, False)
            if came:
                return


class Output:
    """An output port: its format, and how much of it goes into one chunk."""

    __slots__ = ("position", "name", "codec", "wanted", "way", "limit", "max_record", "average", "values", "owners", "is_large")

    def __init__(self, position, task, codec, block):
        self.position = position
        self.name = task["name"]
        self.codec = codec
        self.wanted = task.get("wanted", True)
        self.way = None if task["fd"] is None else Way(task["fd"])
        self.limit = max(1, min(task["block_records"], block["records"]))
        self.max_record = task["max_record"]
        # Bytes per record, of late, or 0: how many to take before coding them is decided by it.
        self.average = 0
        # Whether what was encoded last lies in segments.
        self.is_large = False
        # Emitted and not sent yet; in `map` mode with the places of the records that they belong to.
        self.values = []
        self.owners = []

    def encode(self, values):
        """The bytes of `values`, in chunks that hold no more records than they may.

        A record over `max_record` travels alone, so that the engine sees that it is one, and whose.

        Raises Uncodable. Nothing may be sent of what was encoded then: `codec.rollback()`.
        """
        limit, codec = self.limit, self.codec
        shared_before = codec.shared_bytes
        if len(values) <= limit:
            data = self._chunk(values)
        else:
            data = b"".join([self._chunk(values[at : at + limit]) for at in range(0, len(values), limit)])
        shared = codec.shared_bytes - shared_before
        self.is_large = shared > 0
        self.average = (len(data) + shared) // len(values) + 1
        return data

    def _chunk(self, values):
        try:
            data = self.codec.encode(values)
        except Exception as error:
            if hasattr(error, "port"):
                error.port = self.name
            raise
        if len(data) > self.max_record and len(values) > 1 and self.codec.chunked:
            self.codec.undo()
            half = len(values) // 2
            return self._chunk(values[:half]) + self._chunk(values[half:])
        return data


def codec_of(name, segments):
    """The codec of a format."""
    if name == "pickle":
        from ._pickles import Pickles

        return Pickles(segments)
    if name == "msgpack":
        from ._msgpack import MessagePack

        return MessagePack(segments)
    if name == "json":
        from ._formats import Json

        return Json()
    if name == "frames":
        from ._formats import Frames

        return Frames()
    from ._formats import Lines

    return Lines(name)


class Way:
    """The writing end of a pipe to the engine.

    What is large lies in segments, and only a few bytes that name them go through the pipe: hundreds of arrays would
    fit into it, and all of their memory would wait there. As long as it names segments the pipe has one page, which
    is writable when it is empty, so that one chunk waits in it and memory is used again while it is warm.
    """

    __slots__ = ("descriptor", "_wide", "_room")

    def __init__(self, descriptor):
        self.descriptor = descriptor
        # Its size before it was made one page.
        self._wide = 0
        self._room = None

    def before(self, is_large):
        """Waits for the pipe to be empty before what names segments is written."""
        if is_large:
            self._narrow()
            self._room.poll()
        elif self._wide:
            self._resize(self._wide)
            self._wide = 0

    def _narrow(self):
        if self._room is None:
            self._room = poll()
            self._room.register(self.descriptor, POLLOUT)
        if not self._wide:
            wide = self._resize(None)
            if wide and self._resize(_PAGE):
                self._wide = wide

    def _resize(self, size):
        """Its size, or 0: it is no pipe, or holds more than that."""
        import fcntl

        try:
            # F_GETPIPE_SZ and F_SETPIPE_SZ, which Python 3.9 does not know by name.
            return fcntl.fcntl(self.descriptor, 1032) if size is None else fcntl.fcntl(self.descriptor, 1031, size)
        except OSError:
            return 0


_PAGE = 4096

# Pieces of less are put together before they are written, which is quicker than several; larger ones are not copied.
_SMALL = 64 << 10


def write(descriptor, pieces):
    """Writes all of `pieces`, however long it takes."""
    for piece in pieces:
        if len(piece) > _SMALL:
            break
    else:
        pieces = [b"".join(pieces)]
    pieces = [piece for piece in pieces if piece]
    while pieces:
        try:
            written = os.writev(descriptor, pieces) if len(pieces) > 1 else os.write(descriptor, pieces[0])
        except BlockingIOError:
            # Whoever made the pipe left it non-blocking.
            os.set_blocking(descriptor, True)
            continue
        while pieces and written >= len(pieces[0]):
            written -= len(pieces[0])
            del pieces[0]
        if written:
            pieces[0] = memoryview(pieces[0])[written:]
