"""The fork server: a process of one thread that has imported what workers need, and is forked for each of them.

It is started as `python3 SDK-FOLDER/__main__.py --server`, by a process that reaps orphans (a child subreaper), with

* `MPFLOW_SERVER`: the number of a descriptor, a Unix socket of type SEQPACKET. When its other end is closed, the
  server ends.
* `MPFLOW_TASK`: the number of a descriptor on a JSON document, `{"folder": …, "path": […], "target": …|null,
  "preload": […]}`. The folders are put on the import path as a worker's are. The modules in `preload` are imported,
  and then the module of `target`, where there is one (`start_method: fork`). Nothing is called.

What it says, each one message of JSON:

* `{"ready": {"threads": n, "modules": [names]}}`: everything is imported. `threads` run besides the server's own, and
  will be missing in every worker; the imports of `modules` have started them. Threads that end at a fork by
  themselves, as those of OpenBLAS do, are not counted.
* `{"broken": {"error": …, "traceback": …|null, "nearest": …|null}}`: something cannot be imported, as in a worker's
  BROKEN. The server ends with 1.
* `{"forked": {"id": …, "pid": …}}`: a request is done. The worker is nobody's child but the reaper's; it has its
  session, descriptors, environment, limits, and goes on as any worker does: it finds its function, says so on its
  control connection and waits for GO.
* `{"failed": {"id": …, "error": …}}`: a request is not done, and no process is left of it.

What it is told: one message for each worker, the request's id (8 bytes, little-endian), with descriptors: first that
of a file in memory, read from its beginning, then those that the worker is to have. In the file: JSON, a NUL, the
working directory, a NUL, and the environment, each `NAME=value` ended by a NUL. The JSON:

    {"id": 7, "argv": ["python3", ".../__main__.py", "tasks:square"], "descriptors": [1, 2, 3],
     "limits": [[7, 1024]], "nice": null, "cpus": []}

`descriptors` are the numbers at which the worker finds those that came, in order; standard ones that are not among
them are `/dev/null`. `limits` are of `setrlimit`, soft and hard alike. Only the last of `argv` is looked at.

A worker has no descriptor of the server's or of another worker's. What the imported modules have opened stays open:
they would use those numbers for what lies there later. They were kept from the numbers that workers use.

How a worker comes to be: a process that is forked twice, so that the one in between ends and the reaper has it, leads
its session, resets signals, draws its random seeds, and waits at the end of a socket pair for a request, which the
server hands on to it as it came. There is always one that waits ahead, called `mpflow-ahead` in lists of processes, so
that a single worker is there without a fork; for requests that come together, one process in between makes all that
are missing and the next one ahead. When the server dies, the socket ends and the one that waits ends with it. When one
that waits is killed, the request goes to another. What modules have registered by `os.register_at_fork` runs in the one
in between and in each that waits, whether or not there will be a request for it.
"""

import os
import sys

from . import _documents, _errors, _target

# Descriptors of workers lie below this number, those that imported modules open above it.
_RESERVED = 64

# Requests are answered together up to so many descriptors, of which this process may have 1024 only. They are some
# twenty requests.
_TOGETHER = 128


def main(here):
    """Serves until the engine is gone. Returns in each worker, ready to live a worker's life.

    What it returns is to be kept: to free it would be to write to memory that is shared with the server so far.
    """
    try:
        server = _Server(here)
        if server.prepare():
            server.serve()
        return server
    except KeyboardInterrupt:
        os._exit(130)


class _Server:
    def __init__(self, here):
        from _socket import socket

        from ._start import arrange_log, import_path, read_task, replace_main

        descriptor = int(os.environ.pop("MPFLOW_SERVER"))
        self._task = read_task()
        # Above what workers use, as everything but what keeps their places.
        self._socket = socket(fileno=_moved(descriptor))
        self._reserve()
        # The server's ends of those that wait, and of those that have a request and have not answered it yet.
        self._ahead, self._handed = [], []
        # What is asked for and handed on to nobody.
        self._requests = []
        import_path(here, self._task)
        replace_main([self._task.get("target") or "mpflow"])
        arrange_log()

    def _reserve(self):
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3, _RESERVED):
            try:
                os.fstat(number)
            except OSError:
                os.dup2(null, number, False)
        if null >= _RESERVED:
            os.close(null)

    def _say(self, document):
        try:
            self._socket.send(_documents.tell(document))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)

    # Before the first request.

    def prepare(self):
        """Imports what it is to import. False where that fails, which is told."""
        task, folder = self._task, self._task["folder"]
        started, before = [], 1
        wanted = [(name, _target.import_module) for name in task.get("preload") or ()]
        if task.get("target"):
            wanted.append((task["target"], _target.find))
        for name, import_it in wanted:
            try:
                import_it(name, folder)
            except _errors.Broken as broken:
                self._say({"broken": {"error": broken.error, "traceback": broken.traceback, "nearest": broken.nearest}})
                sys.exit(1)
            now = _threads()
            if now > before:
                started.append((name, now - before))
            before = now
        self._warm_up()
        threads = 0
        if started:
            # Some libraries end their threads at a fork and start them anew when needed.
            _reap(_try_fork())
            threads = _threads() - 1
        self._say({"ready": {"threads": threads, "modules": [name for name, _ in started] if threads else []}})
        return True

    def _warm_up(self):
        """Imports what every worker needs, and lays what there is beside what will be: fewer pages are copied."""
        import _pickle  # noqa: F401
        import _signal  # noqa: F401
        import gc
        import resource  # noqa: F401

        from . import _files, _formats, _map, _pickles, _process, _segments, _stream  # noqa: F401

        _segments.can_be_received()
        _files.remember(self._task["folder"])

        gc.collect()
        gc.freeze()

    # Requests.

    def serve(self):
        """Answers requests. Returns in a worker."""
        while True:
            self._requests = self._take()
            if self._answer():
                return
            try:
                # Each that asks for one alone is not to wait for a fork.
                if not self._ahead and self._make(1):
                    return
            except OSError:
                # Whoever asks next is told.
                pass

    def _take(self):
        """The requests that have come, at least one. Ends the server when the engine is gone."""
        from _socket import MSG_DONTWAIT

        requests, flags, held = [], 0, 0
        while held < _TOGETHER:
            try:
                request = _receive(self._socket, flags)
            except BlockingIOError:
                break
            if request is None:
                sys.exit(0)
            requests.append(request)
            held += len(request.descriptors)
            flags = MSG_DONTWAIT
        return requests

    def _answer(self):
        """Has processes that wait become what is asked for. True in one that has."""
        problem = "the process that was to become it was killed"
        # Twice: that one was killed as it waited, or before it was a worker, is nobody's concern.
        for _ in range(2):
            self._hand_on()
            if self._requests:
                try:
                    if self._make(len(self._requests) + 1):
                        return True
                except OSError as error:
                    problem = f"cannot make a process: {error.strerror}"
                self._hand_on()
            self._hear()
        for request in self._requests:
            self._say({"failed": {"id": request.number, "error": problem}})
            request.close()
        return False

    def _hand_on(self):
        """Gives requests to processes that wait, as far as there are any."""
        while self._requests and self._ahead:
            end = self._ahead.pop()
            try:
                self._requests[0].send(end)
            except OSError:
                # It was killed.
                end.close()
            else:
                self._handed.append((self._requests.pop(0), end))

    def _hear(self):
        """Tells the engine what became of those that have a request, which is kept where its process has died of it."""
        handed, self._handed = self._handed, []
        for request, end in handed:
            try:
                told = end.recv(1 << 16)
            except ConnectionResetError:
                told = b""
            end.close()
            if not told:
                self._requests.append(request)
                continue
            request.close()
            pid, problem = int.from_bytes(told[:8], "little"), told[8:].decode("utf-8", "replace")
            if problem:
                self._say({"failed": {"id": request.number, "error": problem}})
            else:
                self._say({"forked": {"id": request.number, "pid": pid}})

    def _make(self, count):
        """Makes so many processes that wait. True in one that has become a worker.

        Raises OSError where not all of them could be made.
        """
        from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pairs = []
        try:
            for _ in range(count):
                pairs.append(socketpair(AF_UNIX, SOCK_SEQPACKET))
            between = os.fork()
        except OSError:
            _close(end for pair in pairs for end in pair)
            raise
        if not between:
            return self._make_in_between(pairs)
        _close(theirs for _, theirs in pairs)
        # Of those that were not made, the ends are closed, which is seen when they are given something.
        self._ahead += [ours for ours, _ in pairs]
        problem = _reap(between)
        if problem:
            raise OSError(problem, os.strerror(problem))
        return False

    def _make_in_between(self, pairs):
        """Lives in the process that ends so that those that it makes are the reaper's. True in one of these."""
        try:
            _close([self._socket, *self._ahead, *(end for _, end in self._handed), *(ours for ours, _ in pairs)])
            _close(self._requests)
            _close(request for request, _ in self._handed)
            for at, (_, theirs) in enumerate(pairs):
                if not os.fork():
                    _close(others for _, others in pairs[at + 1 :])
                    _wait_ahead(theirs)
                    return True
                theirs.close()
        except OSError as error:
            os._exit(error.errno & 0xFF)
        except BaseException:
            os._exit(1)
        # Nothing of the interpreter's ends here: it is the server's.
        os._exit(0)


class _Request:
    """What the engine asks for: a worker, by a number, with descriptors."""

    def __init__(self, number, descriptors):
        self.number, self.descriptors = number, descriptors

    def send(self, socket):
        from _socket import SCM_RIGHTS, SOL_SOCKET

        rights = b"".join([descriptor.to_bytes(4, "little") for descriptor in self.descriptors])
        socket.sendmsg([self.number.to_bytes(8, "little")], [(SOL_SOCKET, SCM_RIGHTS, rights)])

    def close(self):
        for descriptor in self.descriptors:
            os.close(descriptor)


def _receive(socket, flags=0):
    """The next request; None when there is nobody any more who could ask.

    It has no descriptors where this process may not have all of them.
    """
    from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, MSG_CTRUNC

    try:
        data, extra, seen, _ = socket.recvmsg(64, CMSG_LEN(4 * 253), flags | MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    descriptors = []
    for _, _, rights in extra:
        descriptors += [int.from_bytes(rights[at : at + 4], "little") for at in range(0, len(rights) - 3, 4)]
    request = _Request(int.from_bytes(data, "little"), descriptors)
    if seen & MSG_CTRUNC:
        request.close()
        request.descriptors = []
    return request


def _close(ends):
    for end in ends:
        end.close()


def _read_request(descriptor):
    from ._start import read_whole

    # Another process may have to read the same.
    head, cwd, *environment = read_whole(descriptor).split(b"\0")
    document = _documents.parse(head.decode())
    document["cwd"] = cwd
    document["environment"] = [entry for entry in environment if entry]
    return document


# In the new process.


def _wait_ahead(server):
    """Waits for a request, and becomes the worker that it asks for. Ends this process where none comes or it cannot.

    Whatever does not depend on the request is done before it comes.
    """
    try:
        os.setsid()
        _reset_signals()
        _be_random()
        _call_this(b"mpflow-ahead")
        asked = _receive(server)
        if asked is None:
            os._exit(0)
        if not asked.descriptors:
            from errno import EMFILE

            raise OSError(EMFILE, os.strerror(EMFILE))
        request = _read_request(asked.descriptors[0])
        os.close(asked.descriptors[0])
        _become(request, asked.descriptors[1:], [server.fileno()])
        server.send(os.getpid().to_bytes(8, "little"))
        server.close()
    except BaseException as error:
        try:
            server.send(bytes(8) + _errors.message(error).encode("utf-8", "replace"))
        finally:
            os._exit(1)


def _become(request, descriptors, keep):
    """Makes a worker of this process: what the launcher does between fork and exec for others."""
    _place(descriptors, request["descriptors"], keep)
    environment = os.environb
    wanted = dict([entry.split(b"=", 1) for entry in request["environment"] if b"=" in entry])
    for name in [name for name in environment if name not in wanted]:
        del environment[name]
    for name, value in wanted.items():
        if environment.get(name) != value:
            environment[name] = value
    os.chdir(request["cwd"])
    if request.get("nice") is not None:
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    if request.get("cpus"):
        os.sched_setaffinity(0, request["cpus"])
    for kind, value in request.get("limits") or ():
        import resource

        resource.setrlimit(kind, (value, value))
    sys.argv = ["", *request["argv"][-1:]]
    _call_this(os.environb.get(b"MPFLOW_WORKER", b"mpflow"))


def _call_this(name):
    """What this process is called in lists of processes."""
    try:
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, name[:15])
        os.close(comm)
    except OSError:
        pass


def _reset_signals():
    """As a new interpreter has them, whatever the imported modules have done."""
    import _signal

    for number in _signal.valid_signals():
        wanted = _signal.SIG_DFL
        if number == _signal.SIGINT:
            wanted = _signal.default_int_handler
        elif number in (_signal.SIGPIPE, _signal.SIGXFSZ):
            wanted = _signal.SIG_IGN
        if _signal.getsignal(number) not in (wanted, None) and number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, wanted)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])


def _place(came, numbers, keep):
    """Puts the descriptors that came to their numbers, and closes what is the server's."""
    # Out of the way first: one may lie where another belongs.
    high = max([_RESERVED, *(number + 1 for number in numbers)])
    came = [_moved(descriptor, high) for descriptor in came]
    for descriptor, number in zip(came, numbers):
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        if number not in numbers:
            os.dup2(null, number)
    first = 3
    for number in sorted({_RESERVED, *[number for number in [*numbers, *keep] if 3 <= number < _RESERVED]}):
        if first < number:
            os.closerange(first, number)
        first = number + 1
    if null >= _RESERVED:
        os.close(null)


def _moved(descriptor, least=_RESERVED):
    """The descriptor, above what workers use."""
    if descriptor >= least:
        return descriptor
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(descriptor)
    return moved


def _be_random():
    """No two workers may draw the same numbers."""
    modules = sys.modules
    if "random" in modules:
        modules["random"].seed()
    numpy_random = modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _threads():
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        threading = sys.modules.get("threading")
        return threading.active_count() if threading else 1


def _try_fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return pid


def _reap(pid):
    """Waits for the end of a child: its exit code, 0 where a signal has ended it."""
    try:
        return os.waitpid(pid, 0)[1] >> 8
    except ChildProcessError:
        # An imported module has set SIGCHLD to be ignored.
        return 0
