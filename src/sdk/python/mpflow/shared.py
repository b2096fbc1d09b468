"""The objects that all workers of a run share, by their names in the pipeline's ``shared`` section.

    from mpflow import shared

    with shared.screen:                     # lock
        print("one at a time")
    if shared.gpu.acquire(timeout=5):       # semaphore
        shared.gpu.release()
    shared.hits.value = 3                   # value, in shared memory
    shared.hits.add(1)                      # returns the new value; no other addition comes in between
    shared.grid[3], shared.grid[0:8]        # array, in shared memory
    shared.go.wait(timeout=10)              # event
    shared.round.wait()                     # barrier
    shared.settings["level"]                # dict

A lock or a permit belongs to the thread that acquired it, and is released when that thread or its process ends, however
it ends. Only the standard library is used, on Python 3.9 or newer.
"""

# Every name of this module begins with an underscore, but for what the manual names: the others are the user's.
import base64 as _base64
import fcntl as _fcntl
import json as _json
import math as _math
import mmap as _mmap
import os as _os
import pickle as _pickle
import socket as _socket
import sys as _sys
import threading as _threading
import time as _time
import types as _types
from collections.abc import MutableMapping as _MutableMapping
from difflib import get_close_matches as _get_close_matches
from errno import EDEADLK as _EDEADLK
from threading import BrokenBarrierError

_VARIABLE = "MPFLOW_SHARED"
_PROTOCOL = 1
_LONGEST_LINE = 1 << 20
_WHOLE = 2048  # what is no longer goes through a socket as a whole, or not at all
_WORD = 8
_CODES = {"i64": "q", "u64": "Q", "f64": "d", "bool": "Q"}
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


class _Lost(ConnectionError):
    """The connection to the run is lost; what this thread held is released."""


# ---- connections


class _Connection:
    """One thread's connection. What it acquired is released when it closes."""

    def __init__(self, path, register):
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._unread = b""
        # The number of the last request, and the last reply: what a signal's handler interrupts is known by them.
        self._id = 0
        self._last = b"{}"
        # First of all: a fork in another thread must know it.
        register(self)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise _Lost(f"cannot reach the run at {path}: {error}; has it ended?") from error
        hello = {"op": "hello", "protocol": _PROTOCOL, "pid": _os.getpid()}
        hello["worker"] = _os.environ.get("MPFLOW_WORKER", "")
        self.objects = self.call(hello)["objects"]

    def close(self):
        self._socket.close()

    def call(self, request):
        """Sends a request and waits for its reply."""
        self._id += 1
        request["id"] = self._id
        text = _json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = text.encode("utf-8", "surrogatepass") + b"\n"
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"a request to the run is at most {_LONGEST_LINE} bytes long, and this is {len(line)}")
        try:
            self._send(line)
            return self._reply()
        except (_Lost, _Refused):
            raise
        except BaseException:
            # A signal's handler has raised, as Ctrl-C does. The reply may be still to come, and would be taken for the
            # next one's.
            self._give_up(request, len(line))
            raise

    def call_for_memory(self):
        """Asks for the memory of values and arrays: its descriptor."""
        self._send(b'{"op":"map"}\n')
        data, fds, _, _ = _socket.recv_fds(self._socket, 4096, 1, _socket.MSG_CMSG_CLOEXEC)
        self._unread += data
        self._reply()
        if not fds:
            raise OSError("the shared memory did not come: this process may open no more files")
        return fds[0]

    def _send(self, line):
        try:
            self._socket.sendall(line)
        except OSError as error:
            self._lost(error)

    def _reply(self):
        line = self._line()
        reply = _json.loads(line)
        error = reply.get("error")
        if error is not None:
            raise _Refused(error)
        return reply["ok"]

    def _line(self):
        while True:
            end = self._unread.find(b"\n")
            if end >= 0:
                self._last, self._unread = self._unread[:end], self._unread[end + 1 :]
                return self._last
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                self._lost(error)
            if not data:
                self._lost("the run has closed it")
            self._unread += data

    def _give_up(self, request, length):
        """Ends a wait, so that the connection can be used again and what it holds stays held. Whether the request has gone,
        and whether its reply has come, is not known: the reply to `cancel` comes after it in any case."""
        try:
            if length > _WHOLE:
                raise ValueError("a part of it may have gone")
            asked, self._id = self._id, self._id + 1
            reply = _json.loads(self._last)
            self._send(b'{"op":"cancel","id":%d}\n' % self._id)
            while True:
                later = _json.loads(self._line())
                if later["id"] == self._id:
                    break
                reply = later
            was_granted = reply.get("id") == asked and reply.get("ok") is True
            if was_granted and request["op"] == "acquire":
                self.call({"op": "release", "name": request["name"]})
        except BaseException:
            self.close()

    def _lost(self, why):
        self.close()
        raise _Lost(f"the connection to the run is lost, and what this thread held is released: {why}")

    @property
    def is_open(self):
        return self._socket.fileno() >= 0


class _Refused(Exception):
    """The run does not do what it was asked."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]
        self.message = error["message"] + (f" ({error['help']})" if error.get("help") else "")


class _Run:
    """What this process knows of the run: its objects, its memory, and the connections of its threads."""

    def __init__(self):
        self._here = _threading.local()
        self._guard = _threading.Lock()
        self._all = []
        self._infos = None
        self._made = {}
        self._memory = None

    def connection(self):
        connection = getattr(self._here, "connection", None)
        if connection is None or not connection.connection.is_open:
            path = _os.environ.get(_VARIABLE)
            if not path:
                raise RuntimeError(
                    f"there are no shared objects here: {_VARIABLE} is not set, so that this process is no worker of a "
                    "run whose pipeline has a `shared` section; start it by `mpflow run`"
                )
            connection = self._here.connection = _OfThread(_Connection(path, self._register))
            if self._infos is None:
                self._infos = {info["name"]: info for info in connection.connection.objects}
        return connection.connection

    def _register(self, connection):
        with self._guard:
            self._all = [other for other in self._all if other.is_open]
            self._all.append(connection)

    def call(self, name, op, **more):
        request = {"op": op, "name": name}
        request.update(more)
        connection = self.connection()
        try:
            return connection.call(request)
        except _Refused as refused:
            raise _error_of(refused) from None

    def infos(self):
        if self._infos is None:
            self.connection()
        return self._infos

    def object(self, name):
        made = self._made.get(name)
        if made is None:
            info = self.infos().get(name)
            if info is None:
                near = _get_close_matches(name, self._infos, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, self._infos))}"
                raise AttributeError(f"this run has no shared object {name!r}; {hint}")
            kind = _KINDS.get(info["kind"])
            if kind is None:
                raise AttributeError(f"shared object {name!r} is a {info['kind']}, which this SDK does not know")
            with self._guard:
                made = self._made.setdefault(name, kind(info))
        return made

    def memory(self):
        if self._memory is None:
            fd = self.connection().call_for_memory()
            with self._guard:
                if self._memory is None:
                    self._memory = _Memory(fd)
                else:
                    # Not closed: that would release the record locks that this process has on the file.
                    self._memory.spare.append(fd)
        return self._memory

    def forked(self):
        """In the child of a fork: the connections are the parent's. A copy that lived on would hold its locks."""
        for connection in self._all:
            connection.close()
        self._here = _threading.local()
        self._guard = _threading.Lock()
        self._all = []
        for made in self._made.values():
            made._forked()


class _OfThread:
    """Closes a thread's connection when the thread ends."""

    def __init__(self, connection):
        self.connection = connection

    def __del__(self):
        self.connection.close()


def _error_of(refused):
    if refused.code == "broken_barrier":
        return BrokenBarrierError(refused.message)
    if refused.code in ("already_held", "not_held"):
        return RuntimeError(refused.message)
    if refused.code == "not_a_number":
        return TypeError(refused.message)
    return ValueError(refused.message)


# ---- locks, semaphores, events, barriers


class _Object:
    def __init__(self, info):
        self._name = info["name"]
        self._info = info

    def __repr__(self):
        return f"<shared {self._info['kind']} {self._name!r}>"

    def _forked(self):
        pass

    def __reduce__(self):
        return (_by_name, (self._name,))


def _by_name(name):
    return _run.object(name)


class _Lock(_Object):
    """A lock. It belongs to the thread that acquired it, and is released when that thread or its process ends."""

    def acquire(self, blocking=True, timeout=None):
        """Waits for it, at most `timeout` seconds; whether it was acquired."""
        return _run.call(self._name, "acquire", timeout=timeout if blocking else 0)

    def release(self):
        _run.call(self._name, "release")

    def locked(self):
        """Whether somebody holds it (of a semaphore: all of it) at this moment."""
        return _run.call(self._name, "state")["free"] == 0

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *exception):
        self.release()


class _Semaphore(_Lock):
    """A semaphore: as many at a time as it has permits. A permit belongs to the thread that acquired it."""


class _Event(_Object):
    """An event, as `threading.Event`."""

    def set(self):
        _run.call(self._name, "set")

    def clear(self):
        _run.call(self._name, "clear")

    def is_set(self):
        return _run.call(self._name, "is_set")

    def wait(self, timeout=None):
        """Waits until it is set, at most `timeout` seconds; whether it is."""
        return _run.call(self._name, "wait", timeout=timeout)


class _Barrier(_Object):
    """A barrier, as `threading.Barrier`."""

    def wait(self, timeout=None):
        """Waits until all parties have come, and returns as which of them this one came, from 0.

        Raises `BrokenBarrierError` when a party is gone, or has waited longer than its time-out.
        """
        return _run.call(self._name, "wait", timeout=timeout)

    def reset(self):
        """Makes it whole again. Whoever waits at it gets `BrokenBarrierError`."""
        _run.call(self._name, "reset")

    def abort(self):
        """Breaks it."""
        _run.call(self._name, "abort")

    @property
    def parties(self):
        return _run.call(self._name, "state")["parties"]

    @property
    def n_waiting(self):
        return _run.call(self._name, "state")["waiting"]

    @property
    def broken(self):
        return _run.call(self._name, "state")["broken"] is not None


# ---- values and arrays


class _Memory:
    """The memory that values and arrays lie in."""

    def __init__(self, fd):
        self.fd = fd
        self.spare = []
        _os.set_inheritable(fd, False)
        self.map = _mmap.mmap(fd, _os.fstat(fd).st_size)


class _Exclusive:
    """Some words of the memory for one thread of one process alone: against threads a lock of this process, against
    processes a record lock, which the kernel releases when its holder dies."""

    # How many record locks this thread has: one that waits with none cannot be part of a deadlock.
    _held = _threading.local()

    def __init__(self, start, length):
        self._start, self._length = start, length
        self._threads = _threading.RLock()
        self._depth = 0

    def __enter__(self):
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._lock()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        self._held.count = getattr(self._held, "count", 0) + 1
        return self

    def __exit__(self, *exception):
        self._held.count -= 1
        self._depth -= 1
        try:
            if self._depth == 0:
                _fcntl.lockf(_run.memory().fd, _fcntl.LOCK_UN, self._length, self._start)
        finally:
            self._threads.release()

    def _lock(self):
        fd = _run.memory().fd
        while True:
            try:
                return _fcntl.lockf(fd, _fcntl.LOCK_EX, self._length, self._start)
            except OSError as error:
                # The kernel takes the threads of a process for one, and sees circles that are none.
                if error.errno != _EDEADLK or getattr(self._held, "count", 0) > 0:
                    raise
                _time.sleep(0.001)


class _Numbers(_Object):
    def __init__(self, info):
        super().__init__(info)
        self._element = info["element"]
        self._length = info.get("length") or 1
        self._made_words = None
        self._forked()

    def _forked(self):
        self._exclusive = _Exclusive(self._info["offset"], self._length * _WORD)

    @property
    def _words(self):
        words = self._made_words
        if words is None:
            start = self._info["offset"]
            whole = memoryview(_run.memory().map)
            words = whole[start : start + self._length * _WORD].cast(_CODES[self._element])
            self._made_words = words
        return words

    def get_lock(self):
        """For several accesses that nothing may come between: `with shared.hits.get_lock(): …`. Others are kept out only
        by this and by `add`; plain reads and writes go on."""
        return self._exclusive

    def _read(self, index):
        word = self._words[index]
        return bool(word) if self._element == "bool" else word

    def _write(self, index, value):
        self._words[index] = self._checked(value)

    def _checked(self, value):
        element = self._element
        try:
            if element == "f64":
                return float(value)
            if element == "bool":
                if value is True or value is False:
                    return int(value)
                raise TypeError
            number = value.__index__()
        except (TypeError, AttributeError):
            raise TypeError(f"{self!r} holds {element}, and {value!r} is none") from None
        least, most = (0, _MOST) if element == "u64" else (_LEAST, -_LEAST - 1)
        if not least <= number <= most:
            raise OverflowError(f"{number} does not fit the {element} of {self!r}")
        return number

    def _add(self, index, by):
        if self._element == "bool":
            raise TypeError(f"nothing can be added to {self!r}, which is a bool")
        words = self._words
        with self._exclusive:
            words[index] = total = self._checked(words[index] + by)
        return total

    def _compare_and_set(self, index, expected, value):
        with self._exclusive:
            if self._read(index) != expected:
                return False
            self._write(index, value)
            return True


class _Value(_Numbers):
    """One number in shared memory."""

    @property
    def value(self):
        return self._read(0)

    @value.setter
    def value(self, value):
        self._write(0, value)

    def add(self, by=1):
        """Adds, and returns the new value. No other `add` comes in between, be it of Python, Rust or a command."""
        return self._add(0, by)

    def compare_and_set(self, expected, value):
        """Writes `value` if it is `expected` now; whether it was."""
        return self._compare_and_set(0, expected, value)


class _Array(_Numbers):
    """Numbers in shared memory, as many as were declared."""

    def _index(self, index):
        try:
            number = index.__index__()
        except AttributeError:
            raise TypeError(f"an index of {self!r} is a whole number, not {index!r}") from None
        if not -self._length <= number < self._length:
            raise IndexError(f"{self!r} has no element {number}: it has {self._length}")
        return number % self._length

    def __len__(self):
        return self._length

    def __iter__(self):
        return (self._read(index) for index in range(self._length))

    def __getitem__(self, index):
        if isinstance(index, slice):
            found = self._words[index].tolist()
            return list(map(bool, found)) if self._element == "bool" else found
        return self._read(self._index(index))

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            indices = range(*index.indices(self._length))
            values = [self._checked(item) for item in value]
            if len(values) != len(indices):
                raise ValueError(f"{len(values)} values for {len(indices)} elements: an array keeps its length")
            for position, item in zip(indices, values):
                self._words[position] = item
        else:
            self._write(self._index(index), value)

    def add(self, index, by=1):
        """Adds to an element, and returns its new value."""
        return self._add(self._index(index), by)

    def compare_and_set(self, index, expected, value):
        """Writes `value` to an element if it is `expected` now; whether it was."""
        return self._compare_and_set(self._index(index), expected, value)


# ---- dictionaries


def _is_json(value):
    """Whether JSON gives back just this: not a tuple, which would become a list."""
    kind = type(value)
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if value is None or kind is bool:
        return True
    if kind is int:
        return _LEAST <= value <= _MOST
    if kind is float:
        return _math.isfinite(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str and _is_json(key) and _is_json(item) for key, item in value.items())
    return False


def _stored(value):
    try:
        if _is_json(value):
            return {"json": value}
    except RecursionError:
        pass
    return {"pickle": _base64.b64encode(_pickle.dumps(value, protocol=4)).decode("ascii")}


def _loaded(stored):
    if "json" in stored:
        return stored["json"]
    return _pickle.loads(_base64.b64decode(stored["pickle"]))


_MISSING = object()


class _Dict(_Object, _MutableMapping):
    """A dictionary of the run. Keys are strings, in sorted order; values are whatever JSON or pickle can carry, and what
    is read is a copy: to change a list in it, write the changed list back."""

    def _key(self, key):
        if not isinstance(key, str):
            raise TypeError(f"a key of {self!r} is a str, not {key!r}")
        return key

    def __getitem__(self, key):
        found = _run.call(self._name, "get", key=self._key(key))
        if found is None:
            raise KeyError(key)
        return _loaded(found)

    def __setitem__(self, key, value):
        _run.call(self._name, "put", key=self._key(key), value=_stored(value))

    def __delitem__(self, key):
        if not _run.call(self._name, "delete", key=self._key(key)):
            raise KeyError(key)

    def __contains__(self, key):
        return isinstance(key, str) and _run.call(self._name, "contains", key=key)

    def __len__(self):
        return _run.call(self._name, "len")

    def __iter__(self):
        return iter(self.keys())

    def _pages(self, op, key_of):
        after = None
        while True:
            page = _run.call(self._name, op, after=after)
            yield from page["page"]
            if not page["more"]:
                return
            after = key_of(page["page"][-1])

    def keys(self):
        """A list: the keys as they were when it was asked for."""
        return list(self._pages("keys", lambda key: key))

    def items(self):
        """A list of pairs."""
        return [(key, _loaded(value)) for key, value in self._pages("items", lambda item: item[0])]

    def values(self):
        """A list."""
        return [value for _, value in self.items()]

    def pop(self, key, default=_MISSING):
        found = _run.call(self._name, "pop", key=self._key(key))
        if found is not None:
            return _loaded(found)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self):
        for key in self:
            found = self.pop(key, _MISSING_HERE)
            if found is not _MISSING_HERE:
                return key, found
        raise KeyError(f"{self!r} is empty")

    def setdefault(self, key, default=None):
        return _loaded(_run.call(self._name, "setdefault", key=self._key(key), value=_stored(default)))

    def update(self, *others, **more):
        """All at once: nobody sees a part of it."""
        entries = dict(*others, **more)
        listed = [(self._key(key), _stored(value)) for key, value in entries.items()]
        _run.call(self._name, "update", entries=listed)

    def clear(self):
        _run.call(self._name, "clear")

    def add(self, key, by=1):
        """Adds to a number, 0 where there is none yet, and returns the sum. Nothing comes in between."""
        if not (type(by) in (int, float) and _is_json(by)):
            raise TypeError(f"{by!r} is no number that can be added")
        return _run.call(self._name, "add", key=self._key(key), by=by)

    def compare_and_set(self, key, expected, value):
        """Writes `value` if the entry is `expected` now; whether it was. Compared is how they are written."""
        request = {"key": self._key(key), "expected": _stored(expected), "value": _stored(value)}
        return _run.call(self._name, "compare_and_set", **request)

    def copy(self):
        """A plain `dict` of it."""
        return dict(self.items())

    def __repr__(self):
        return _Object.__repr__(self)

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


_MISSING_HERE = object()

_KINDS = {
    "lock": _Lock,
    "semaphore": _Semaphore,
    "event": _Event,
    "barrier": _Barrier,
    "value": _Value,
    "array": _Array,
    "dict": _Dict,
}

_run = _Run()
_os.register_at_fork(after_in_child=lambda: _run.forked())


class _Module(_types.ModuleType):
    """This module, whose attributes are the shared objects."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _run.object(name)

    def __setattr__(self, name, value):
        if not name.startswith("_"):
            raise AttributeError(f"shared objects are declared in the pipeline: `{name}` cannot be set; "
                                 f"a value is written by `shared.{name}.value = …`")
        super().__setattr__(name, value)

    def __getitem__(self, name):
        """An object by its name, where that is known only when the program runs."""
        return _run.object(name)

    def __dir__(self):
        return sorted(_run.infos())


_sys.modules[__name__].__class__ = _Module
