"""A worker of the SDK, with a stand-in for the engine at the other ends of its descriptors.

It keeps to the worker protocol and checks that the worker does. Every wait has a deadline.
"""

import array
import fcntl
import json
import os
import pickle
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time

SDK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "sdk", "python")
SDK = os.path.normpath(SDK)
PATIENCE = 30.0

READY, BROKEN, LOG, ERROR, SEGMENT, FREE, DROP, FILES = 1, 2, 3, 4, 5, 6, 7, 8
GO, RECYCLE, FORGET = 65, 67, 68
DONE, PART, FAILED, ABOUT = 1, 2, 3, 4


class Ended(Exception):
    """The other end of a descriptor is closed."""


class Incoming:
    """What a worker writes to a descriptor, read with a deadline."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.data = bytearray()

    def take(self, count):
        while len(self.data) < count:
            self.read()
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def read(self, patience=PATIENCE):
        if not select.select([self.descriptor], [], [], patience)[0]:
            raise TimeoutError("the worker wrote nothing more")
        some = os.read(self.descriptor, 1 << 20)
        if not some:
            raise Ended
        self.data += some

    def is_silent(self, seconds=0.05):
        return not self.data and not select.select([self.descriptor], [], [], seconds)[0]


class Mapped:
    """A segment that the worker made."""

    def __init__(self, number, size, descriptor):
        self.number, self.size, self.descriptor = number, size, descriptor

    def read(self, size):
        return os.pread(self.descriptor, size, 0)


def chunk(values, skip=0, count=None, segments=(), flags=0, body=None):
    """A chunk of `pickle`."""
    body = pickle.dumps(values, 5) if body is None else body
    table = b"".join(struct.pack("<QQ", *segment) for segment in segments)
    count = len(values) if count is None else count
    head = struct.pack("<IIIHH", 12 + len(table) + len(body), skip, count, flags, len(segments))
    return head + table + body


def coded(values, form):
    if form == "pickle":
        return chunk(values)
    if form == "json":
        return "".join(json.dumps(value) + "\n" for value in values).encode()
    if form in ("lines", "nul"):
        end = "\n" if form == "lines" else "\0"
        return "".join(value + end for value in values).encode("utf-8", "surrogateescape")
    if form == "frames":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    raise ValueError(form)


class Worker:
    """Starts a worker as the engine does. `files` are written to the pipeline's folder."""

    def __init__(
        self,
        files,
        target="tasks:f",
        mode="map",
        form="pickle",
        source=False,
        inputs=(),
        outputs=None,
        connections=(),
        folder=None,
        environment=None,
        python=sys.executable,
        start=True,
        block=None,
        arguments=(),
        **task,
    ):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="mpflow-sdk-")
        if isinstance(files, str):
            files = {"tasks.py": files}
        for name, text in files.items():
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(textwrap.dedent(text))
        self.form, self.mode, self.source = form, mode, source
        self.python = python
        self.arguments = list(arguments)
        self.theirs, self.feeds, self.results, self.peers = [], {}, {}, {}
        self.segments = {}
        self.freed = []
        self.dropped = []
        block = block or {"records": 4096, "bytes": 262144}
        leased = mode == "map" and not source
        described_inputs = []
        if not source:
            described_inputs.append(self._input("stdin", form, leased))
        for name in inputs:
            described_inputs.append(self._input(name, form, False))
        described_outputs = []
        for name, changes in (outputs or {"stdout": {}}).items():
            port = {"name": name, "format": form, "fd": None, "max_record": 64 << 20, "block_records": 4096}
            port["wanted"] = True
            port.update(changes)
            if not leased:
                reading, writing = os.pipe()
                self.theirs.append(writing)
                self.results[name] = Incoming(reading)
                port["fd"] = writing
            described_outputs.append(port)
        answers = None
        if leased:
            reading, answers = os.pipe()
            self.theirs.append(answers)
            self.answers = Incoming(reading)
        joined = {}
        for name in connections:
            mine, its = socket.socketpair()
            self.peers[name] = mine
            self.theirs.append(its.fileno())
            joined[name] = its.detach()
        self.control, its = socket.socketpair()
        self.theirs.append(its.fileno())
        control = its.detach()
        self.unread, self.descriptors = b"", []
        self.task = {
            "protocol": 1, "pipeline": "test", "run_id": "0198", "stage": "f", "mode": mode, "source": source,
            "daemon": False, "folder": self.folder, "target": target, "initializer": None, "args": [], "kwargs": {},
            "unpack": False, "batch": None, "preload": [], "block": block, "inputs": described_inputs,
            "outputs": described_outputs, "answers": answers, "connections": joined, "shared": None,
        }  # fmt: skip
        self.task.update(task)
        self.task_descriptor = os.memfd_create("task")
        self.theirs.append(self.task_descriptor)
        os.write(self.task_descriptor, json.dumps(self.task).encode())
        self.environment = dict(os.environ)
        self.environment.update(
            MPFLOW_TASK=str(self.task_descriptor),
            MPFLOW_CONTROL=str(control),
            MPFLOW_STAGE="f",
            MPFLOW_WORKER="f/2",
            MPFLOW_RANK="2",
            MPFLOW_POOL="3",
        )
        self.environment.pop("PYTHONPATH", None)
        self.environment.update(environment or {})
        self.log = tempfile.TemporaryFile()
        self.process = None
        if start:
            self.start()

    def _input(self, name, form, leased):
        reading, writing = os.pipe()
        self.theirs.append(reading)
        self.feeds[name] = writing
        return {"name": name, "format": form, "fd": reading, "leased": leased}

    def start(self):
        self.process = subprocess.Popen(
            [self.python, *self.arguments, os.path.join(SDK, "__main__.py"), self.task["target"]],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd=self.folder,
            env=self.environment,
            pass_fds=self.theirs,
            start_new_session=True,
        )
        self.let_go()

    def let_go(self):
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and self.process is not None:
            sys.stderr.write(f"what the worker printed:\n{self.printed()}\n")
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in self.theirs:
            os.close(descriptor)
        for descriptor in self.feeds.values():
            os.close(descriptor)
        for incoming in [*self.results.values(), *([self.answers] if hasattr(self, "answers") else [])]:
            if incoming.descriptor is not None:
                os.close(incoming.descriptor)
        for segment in self.segments.values():
            os.close(segment.descriptor)
        for peer in self.peers.values():
            peer.close()
        self.control.close()
        self.log.close()
        if self.own_folder:
            shutil.rmtree(self.folder)

    # Control.

    def frame(self, patience=PATIENCE):
        """The next control frame."""
        while True:
            if len(self.unread) >= 4:
                length = int.from_bytes(self.unread[:4], "little")
                if len(self.unread) >= 4 + length:
                    kind, payload = self.unread[4], self.unread[5 : 4 + length]
                    self.unread = self.unread[4 + length :]
                    return kind, payload
            if not select.select([self.control], [], [], patience)[0]:
                raise TimeoutError("no control frame came")
            data, extra, _, _ = self.control.recvmsg(65536, socket.CMSG_SPACE(4 * 64))
            for _, _, rights in extra:
                numbers = array.array("i")
                numbers.frombytes(rights)
                self.descriptors += list(numbers)
            if not data:
                raise Ended
            self.unread += data

    def next_of(self, *kinds):
        """The next control frame of these kinds; segments and what is freed are noted on the way."""
        while True:
            kind, payload = self.frame()
            self.note(kind, payload)
            if kind in kinds:
                return kind, payload

    def note(self, kind, payload):
        if kind == SEGMENT:
            number, size = struct.unpack("<QQ", payload)
            descriptor = self.descriptors.pop(0)
            assert os.fstat(descriptor).st_size == size
            seals = fcntl.fcntl(descriptor, 1034)
            assert seals & 6 == 6, f"the segment is not sealed: {seals}"
            self.segments[number] = Mapped(number, size, descriptor)
        elif kind in (FREE, DROP):
            noted = self.freed if kind == FREE else self.dropped
            noted += struct.unpack(f"<{len(payload) // 8}Q", payload)

    def note_all(self, seconds=0.0):
        """Takes in every control frame that is there."""
        while self.unread or select.select([self.control], [], [], seconds)[0]:
            self.note(*self.frame())

    def await_freed(self, *numbers):
        deadline = time.monotonic() + PATIENCE
        while sorted(self.freed) != sorted(numbers):
            assert time.monotonic() < deadline, f"freed are {self.freed}, not {numbers}"
            self.note(*self.frame())

    def tell(self, kind, payload=b"", descriptor=None):
        data = struct.pack("<IB", 1 + len(payload), kind) + payload
        if descriptor is None:
            self.control.sendall(data)
        else:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
            self.control.sendmsg([data], rights)

    def ready(self):
        kind, payload = self.next_of(READY, BROKEN)
        if kind == BROKEN:
            raise AssertionError(f"the worker is broken: {json.loads(payload)}")
        return json.loads(payload)

    def go(self):
        self.ready()
        self.tell(GO)
        return self

    def broken(self):
        kind, payload = self.next_of(READY, BROKEN)
        assert kind == BROKEN, "the worker is ready"
        assert self.wait() == 1
        return json.loads(payload)

    def error(self):
        return json.loads(self.next_of(ERROR)[1])

    # Data.

    def lease(self, values, alone=False, attempt=1, body=None, count=None):
        """Sends one RECORDS frame."""
        body = coded(values, self.form) if body is None else body
        count = len(values) if count is None else count
        data = struct.pack("<IBBHII", 12 + len(body), 1, int(alone), 0, count, attempt) + body
        self.write("stdin", data)
        return self

    def send(self, values, port="stdin"):
        """Sends records to a port that is not leased."""
        self.write(port, coded(values, self.form))
        return self

    def write(self, port, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.feeds[port], view) :]

    def close(self, port="stdin"):
        os.close(self.feeds.pop(port))
        return self

    def answer(self):
        """The next answer: DONE and PART as (kind, records, {port: values}), the others as (kind, document)."""
        (length,) = struct.unpack("<I", self.answers.take(4))
        frame = self.answers.take(length)
        kind = frame[0]
        assert frame[1:4] == b"\0\0\0"
        if kind in (FAILED, ABOUT):
            return kind, json.loads(frame[4:])
        (records,) = struct.unpack("<I", frame[4:8])
        assert (records == 0) == (kind == PART), f"{records} records in an answer of kind {kind}"
        outputs, at = {}, 8
        while at < length:
            port, count, size = struct.unpack_from("<III", frame, at)
            values = self.decode(frame[at + 12 : at + 12 + size], self.task["outputs"][port])
            assert len(values) == count > 0
            outputs.setdefault(self.task["outputs"][port]["name"], []).extend(values)
            at += 12 + size
        assert at == length
        return kind, records, outputs

    def decode(self, data, port):
        form = port["format"]
        if form == "pickle":
            values = []
            while data:
                length, skip, count, flags, number = struct.unpack_from("<IIIHH", data)
                assert 1 <= count <= port["block_records"], f"a chunk of {count} records"
                body, data = data[16 : 4 + length], data[4 + length :]
                values += self.unpickle(body, flags, number)[skip : skip + count]
            return values
        if form == "json":
            return [json.loads(line) for line in data.decode().splitlines()]
        if form in ("lines", "nul"):
            end = "\n" if form == "lines" else "\0"
            assert data.endswith(end.encode())
            return data.decode("utf-8", "surrogateescape").split(end)[:-1]
        if form == "frames":
            values = []
            while data:
                length = int.from_bytes(data[:4], "little")
                values.append(data[4 : 4 + length])
                data = data[4 + length :]
            return values
        return data

    def unpickle(self, body, flags, number):
        named = [struct.unpack_from("<QQ", body, 16 * position) for position in range(number)]
        body = body[16 * number :]
        self.named = [segment for segment, _ in named]
        while any(segment not in self.segments for segment, _ in named):
            self.note(*self.frame())
        buffers = [self.segments[segment].read(size) for segment, size in named]
        if flags & 1:
            body = buffers.pop()
        return pickle.loads(body, buffers=buffers)

    def answered(self, count, port="stdout"):
        """The values of the next DONE frames, which answer `count` records in all."""
        values = []
        while count > 0:
            kind, *rest = self.answer()
            assert kind == DONE, f"an answer of kind {kind}: {rest}"
            count -= rest[0]
            values += rest[1].get(port, [])
        assert count == 0, "more records are answered than there are"
        return values

    def failed(self):
        kind, document = self.answer()
        assert kind == FAILED, f"an answer of kind {kind}: {document}"
        return document

    def received(self, count=None, port="stdout"):
        """Records of an output that is not leased: `count` of them, or all to its end."""
        incoming = self.results[port]
        described = next(one for one in self.task["outputs"] if one["name"] == port)
        values = []
        while count is None or len(values) < count:
            try:
                if described["format"] in ("pickle", "msgpack"):
                    head = incoming.take(4)
                    values += self.decode(head + incoming.take(int.from_bytes(head, "little")), described)
                    continue
                incoming.read()
            except Ended:
                break
            except TimeoutError:
                raise AssertionError(f"only {values} came") from None
            if count is not None and b"\n" in incoming.data:
                values += self.decode(incoming.take(incoming.data.rindex(b"\n") + 1), described)
        if incoming.data and count is None:
            values += self.decode(incoming.take(len(incoming.data)), described)
        return values

    def stop_reading(self, port="stdout"):
        os.close(self.results[port].descriptor)
        self.results[port].descriptor = None

    # The process.

    def wait(self):
        return self.process.wait(PATIENCE)

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def printed(self):
        self.log.seek(0)
        return self.log.read().decode()

    def await_printed(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self.printed():
            assert time.monotonic() < deadline, f"it printed {self.printed()!r}, not {text!r}"
            assert self.process.poll() is None or text in self.printed(), f"it ended: {self.printed()!r}"
            time.sleep(0.002)
        return self.printed()

    def make_segment(self, number, data):
        """Gives the worker a segment."""
        descriptor = os.memfd_create("segment", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, len(data))
        os.pwrite(descriptor, data, 0)
        self.tell(66, struct.pack("<QQ", number, len(data)), descriptor)
        os.close(descriptor)


class Adopted:
    """A process that is ours as an orphan; looks like one of `subprocess`."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return self.returncode

    def wait(self, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while self.poll() is None:
            assert time.monotonic() < deadline, "the worker does not end"
            time.sleep(0.001)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except ProcessLookupError:
        # Ended, and not reaped: it has no environment any more.
        return ""


class ForkServer:
    """The SDK's fork server, with this process in the launcher's place."""

    def __init__(self, files, target=None, preload=(), python=sys.executable):
        import ctypes

        # PR_SET_CHILD_SUBREAPER: orphans come to us.
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        self.folder = tempfile.mkdtemp(prefix="mpflow-sdk-")
        for name, text in files.items():
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(textwrap.dedent(text))
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        task = os.memfd_create("task")
        os.write(task, json.dumps({"folder": self.folder, "target": target, "preload": list(preload)}).encode())
        environment = dict(os.environ, MPFLOW_SERVER=str(theirs.fileno()), MPFLOW_TASK=str(task), FOLDER=self.folder)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, os.path.join(SDK, "__main__.py"), "--server"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment,
            pass_fds=[theirs.fileno(), task], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        os.close(task)
        self.last = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self.ahead():
            Adopted(pid).wait()
        if kind is not None:
            self.log.seek(0)
            sys.stderr.write(f"what the server printed:\n{self.log.read().decode()}\n")
        self.log.close()
        shutil.rmtree(self.folder)

    def hear(self):
        if not select.select([self.socket], [], [], PATIENCE)[0]:
            raise TimeoutError("the server says nothing")
        data = self.socket.recv(65536)
        if not data:
            raise Ended
        return json.loads(data)

    def ask(self, worker, **changes):
        """Has it make a worker, and returns what it says."""
        self.request(worker, **changes)
        return self.hear()

    def request(self, worker, **changes):
        """Asks for a worker, by the number `last`, and does not wait for the answer."""
        self.last += 1
        numbers = [*worker.theirs, worker.log.fileno(), worker.log.fileno()]
        document = {
            "id": self.last, "argv": ["python3", "main", worker.task["target"]],
            "descriptors": [*worker.theirs, 1, 2],
            "limits": [], "nice": None, "cpus": [],
        }  # fmt: skip
        cwd = changes.pop("cwd", worker.folder)
        document.update(changes)
        parts = [json.dumps(document).encode(), cwd.encode()]
        parts += [f"{name}={value}".encode() for name, value in worker.environment.items()]
        file = os.memfd_create("request")
        os.write(file, b"\0".join(parts) + b"\0")
        os.lseek(file, 0, os.SEEK_SET)
        numbers.insert(0, file)
        rights = struct.pack(f"<{len(numbers)}i", *numbers)
        self.socket.sendmsg([struct.pack("<Q", self.last)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(file)

    def ahead(self):
        """The processes that wait to be workers: children of ours, since they are orphans.

        Those of other servers are not among them, of which one may have been killed as it made one.
        """
        children = _read(f"/proc/self/task/{os.getpid()}/children").split()
        return [
            int(pid)
            for pid in children
            if _read(f"/proc/{pid}/comm") == "mpflow-ahead\n" and self.folder in _read(f"/proc/{pid}/environ")
        ]

    def start(self, worker, **changes):
        told = self.ask(worker, **changes)
        assert "forked" in told, told
        assert told["forked"]["id"] == self.last
        return self.adopt(worker, told)

    def adopt(self, worker, told):
        """The process that was made, from what was told of it, is this worker's."""
        worker.process = Adopted(told["forked"]["pid"])
        worker.let_go()
        return worker
