"""Segments: large values in shared memory, written by one worker and mapped by others.

Own segments are made here, named by chunks, and written again when RECYCLE says that nobody reads them any more.
Given ones are mapped when first named, and stay mapped until FORGET. Each time that a chunk names one, an object
stands for that use: it exports the bytes, read-only, and when it dies, and with it the last array that looked at the
bytes, this worker owes a FREE.
"""

import os
import sys

# How much one worker keeps for later, and how many segments it has at once: the protocol allows no more.
FREE_BYTES = 128 << 20
MOST = 256

_PAGE = 4096


class Segments:
    """Both directions of one worker's segments. Without a control connection there are none."""

    def __init__(self, control):
        self._control = control
        self._own = {}
        # Own ones that may be written again, by their size, which is mostly the same.
        self._free = {}
        self._free_bytes = 0
        # What RECYCLE named: whichever thread reads the control connection leaves it here for `put`.
        self._returned = []
        self._last = 0
        self._given = {}
        self._freed = []
        self._view = None

    # Own segments.

    def put(self, data):
        """Copies `data` into a segment: (id, size), or None where there can be none, so that it must travel in band."""
        size = len(data) if isinstance(data, bytes) else data.nbytes
        number = self._take(size)
        if number is None:
            return None
        self._own[number][:size] = data
        return number, size

    def _take(self, size):
        if not self._free and self._own:
            # Some may have come back since.
            self._control.receive(self, False)
        self._settle_returned()
        for room in sorted(self._free) if len(self._free) > 1 else self._free:
            # One that is much too large is better kept for what needs it.
            if size <= room <= 4 * size + (1 << 20):
                numbers = self._free[room]
                number = numbers.pop()
                if not numbers:
                    del self._free[room]
                self._free_bytes -= room
                return number
        if len(self._own) >= MOST:
            self._drop_free()
            if len(self._own) >= MOST:
                return None
        return self._make(size)

    def _make(self, size):
        import fcntl
        import mmap

        # A little more than asked for, so that the next one, which is rarely of the very same size, fits as well.
        step = _PAGE if size < 1 << 20 else 1 << 18
        room = -(-size // step) * step
        try:
            descriptor = os.memfd_create("mpflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except (OSError, AttributeError):
            return None
        try:
            os.ftruncate(descriptor, room)
            os.posix_fallocate(descriptor, 0, room)
            # F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW: Python 3.9's fcntl has the names only where libc's headers had.
            fcntl.fcntl(descriptor, 1033, 2 | 4)
            mapping = mmap.mmap(descriptor, room)
            self._last += 1
            self._control.send_segment(self._last, room, descriptor)
        except OSError:
            # No memory, no descriptors, no seals: the pipe will do.
            return None
        finally:
            os.close(descriptor)
        self._own[self._last] = mapping
        return self._last

    def give_back(self, numbers):
        """These were taken and are named by nothing."""
        for number in numbers:
            room = len(self._own[number])
            self._free.setdefault(room, []).append(number)
            self._free_bytes += room

    def recycle(self, numbers):
        """Nobody reads these own segments any more."""
        self._returned += numbers

    def _settle_returned(self):
        if not self._returned:
            return
        returned, self._returned = self._returned, []
        self.give_back([number for number in returned if number in self._own])
        while self._free_bytes > FREE_BYTES and self._free_count() > 1:
            self._drop(1)

    def _free_count(self):
        return sum(map(len, self._free.values()))

    def _drop_free(self):
        """Makes room for segments of another size."""
        self._drop((self._free_count() + 1) // 2)

    def _drop(self, count):
        """Gives up so many of those that are free, those of the size that was free first before others."""
        from ._control import DROP

        dropped = b""
        for _ in range(count):
            room = next(iter(self._free))
            number = self._free[room].pop(0)
            if not self._free[room]:
                del self._free[room]
            self._free_bytes -= room
            self._own.pop(number).close()
            dropped += number.to_bytes(8, "little")
        if dropped:
            self._control.send(DROP, dropped)

    # Given segments.

    def given(self, number, size, descriptor):
        """A segment that records will name."""
        import mmap

        try:
            self._given[number] = _mapping_class()(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def view(self, number, size):
        """A read-only view of the first `size` bytes of a segment; when all that look through it die, this use ends."""
        while number not in self._given:
            self._control.receive(self, True)
        if self._view is None:
            self._view = _view_maker(self._freed.append)
        return self._view(number, self._given[number], size)

    def forget(self, numbers):
        """These will not be named again. The last use of each unmaps it."""
        for number in numbers:
            self._given.pop(number, None)

    def send_freed(self):
        """Tells the engine which uses have ended."""
        freed = self._freed
        if freed:
            from ._control import FREE

            # Others may be added meanwhile, by whichever thread drops an array.
            count = len(freed)
            numbers = freed[:count]
            del freed[:count]
            for at in range(0, count, 1000):
                self._control.send(FREE, b"".join([n.to_bytes(8, "little") for n in numbers[at : at + 1000]]))


_MAPPING = None


def _mapping_class():
    """A mapping that may know its address."""
    global _MAPPING
    if _MAPPING is None:
        import mmap

        class Mapping(mmap.mmap):
            address = None

        _MAPPING = Mapping
    return _MAPPING


_CAN = None


def can_be_received():
    """Whether this Python can map a segment so that it notices the end of a use."""
    global _CAN
    if _CAN is None:
        # Looked for, not loaded: most workers are never given any. A worker that was forked knows it from its server.
        find = sys.modules["_frozen_importlib_external"].PathFinder.find_spec
        _CAN = sys.version_info >= (3, 12) or "_ctypes" in sys.modules or find("_ctypes") is not None
    return _CAN


def _view_maker(freed):
    return _by_method(freed) if sys.version_info >= (3, 12) else _by_address(freed)


def _by_method(freed):
    class Use:
        """Exports a part of a segment. An array keeps whatever gave it its buffer, which is this."""

        __slots__ = ("number", "mapping", "size")

        def __init__(self, number, mapping, size):
            self.number, self.mapping, self.size = number, mapping, size

        def __buffer__(self, flags):
            return memoryview(self.mapping)[: self.size]

        def __del__(self, freed=freed):
            freed(self.number)

    return lambda number, mapping, size: memoryview(Use(number, mapping, size))


def _by_address(freed):
    """Before Python 3.12 no class can export a buffer; a ctypes array over the address of the mapping can."""
    import ctypes
    from _pickle import PickleBuffer

    class Buffer(ctypes.Structure):
        _fields_ = [
            ("buf", ctypes.c_void_p),
            ("obj", ctypes.py_object),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", ctypes.c_int),
            ("ndim", ctypes.c_int),
            ("format", ctypes.c_char_p),
            ("shape", ctypes.c_void_p),
            ("strides", ctypes.c_void_p),
            ("suboffsets", ctypes.c_void_p),
            ("internal", ctypes.c_void_p),
        ]

    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int]
    release = ctypes.pythonapi.PyBuffer_Release
    release.argtypes = [ctypes.POINTER(Buffer)]
    kinds = {}

    def kind_of(size):
        kind = kinds.get(size)
        if kind is None:
            if len(kinds) > 1000:
                kinds.clear()

            class Use(ctypes.c_ubyte * size):
                # `mapping` keeps the memory, `number` says whose use ends.
                def __del__(self):
                    freed(self.number)

            kind = kinds[size] = Use
        return kind

    def address_of(mapping):
        found = Buffer()
        get(mapping, ctypes.byref(found), 0)
        # The mapping stays where it is until it dies, and the exporter keeps it alive.
        release(ctypes.byref(found))
        return found.buf

    def use(number, mapping, size):
        if mapping.address is None:
            mapping.address = address_of(mapping)
        exporter = kind_of(size).from_address(mapping.address)
        exporter.number, exporter.mapping = number, mapping
        # By way of a PickleBuffer, since `memoryview.cast` does not take ctypes' name for a byte.
        return PickleBuffer(memoryview(exporter).toreadonly()).raw()

    return use
