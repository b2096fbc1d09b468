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
"""

import os
import sys

from . import _documents, _errors, _target

# Descriptors of workers lie below this number, those that imported modules open above it.
_RESERVED = 64


def main(here):
    """Serves until the engine is gone. Returns in each worker, ready to live a worker's life."""
    try:
        server = _Server(here)
        if server.prepare():
            server.serve()
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
        from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC

        while True:
            data, extra, _, _ = self._socket.recvmsg(64, CMSG_LEN(4 * 253), MSG_CMSG_CLOEXEC)
            descriptors = []
            for _, _, rights in extra:
                descriptors += [int.from_bytes(rights[at : at + 4], "little") for at in range(0, len(rights) - 3, 4)]
            if not data:
                sys.exit(0)
            number = int.from_bytes(data, "little")
            try:
                if self._fork(number, descriptors):
                    return
            except OSError as error:
                self._say({"failed": {"id": number, "error": _errors.message(error)}})
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, number, descriptors):
        """Makes a worker. True in that."""
        request = _read_request(descriptors[0])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # The worker's pid, and then, if anything goes wrong, what did; its end says that the worker is set up.
        reading, writing = os.pipe()
        try:
            between = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if between:
            os.close(writing)
            told = _read_all(reading)
            os.close(reading)
            _reap(between)
            self._answer(number, told)
            return False
        os.close(reading)
        writing = _moved(writing)
        try:
            worker = os.fork()
        except OSError as error:
            os.write(writing, bytes(8) + f"cannot make a process: {error.strerror}".encode())
            os._exit(1)
        if worker:
            # Nothing of the interpreter's ends here: it is the server's.
            os.write(writing, worker.to_bytes(8, "little"))
            os._exit(0)
        try:
            os.close(descriptors[0])
            _become(request, descriptors[1:], [self._socket.fileno(), writing])
        except BaseException as error:
            os.write(writing, _errors.message(error).encode("utf-8", "replace"))
            os._exit(1)
        self._socket.close()
        os.close(writing)
        return True

    def _answer(self, number, told):
        pid = int.from_bytes(told[:8], "little")
        problem = told[8:].decode("utf-8", "replace")
        if pid and not problem:
            self._say({"forked": {"id": number, "pid": pid}})
        else:
            self._say({"failed": {"id": number, "error": problem or "the process that was to become it was killed"}})


def _read_request(descriptor):
    data = _read_all(descriptor)
    head, cwd, *environment = data.split(b"\0")
    document = _documents.parse(head.decode())
    document["cwd"] = cwd
    document["environment"] = [entry for entry in environment if entry]
    return document


def _read_all(descriptor):
    parts = []
    while True:
        part = os.read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


# In the new process.


def _become(request, descriptors, keep):
    """Makes a worker of this process: what the launcher does between fork and exec for others.

    It may still be the child of the one in between. Whoever adopts it is told of it when that has been reaped.
    """
    os.setsid()
    _reset_signals()
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
    _be_random()
    sys.argv = ["", *request["argv"][-1:]]
    try:
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, os.environb.get(b"MPFLOW_WORKER", b"mpflow")[:15])
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
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        # An imported module has set SIGCHLD to be ignored.
        pass
