"""The control connection: READY or BROKEN, GO, and the comings and goings of segments."""

import os
from _struct import Struct
from _thread import allocate_lock

READY, BROKEN, LOG, ERROR, SEGMENT, FREE, DROP, FILES = 1, 2, 3, 4, 5, 6, 7, 8
GO, GIVEN, RECYCLE, FORGET = 65, 66, 67, 68

_HEAD = Struct("<IB")
_NAMED = Struct("<QQ")

# A frame is at most 1 MiB; what goes into one is cut so that JSON's escapes do not make it longer.
TEXT_LIMIT = 64 << 10


class OutputClosed(BaseException):
    """Nobody reads what this worker makes: it ends as SIGPIPE ends a command.

    No `except Exception` of the user's may keep it alive.
    """


class Control:
    """One end of the control connection. Every method may be called from any thread."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self._lock = allocate_lock()
        self._reading = allocate_lock()
        self._socket = None
        self._unread = b""
        self._descriptors = []

    def send(self, kind, payload=b""):
        """Sends one frame. Does not return when the engine is gone."""
        data = _HEAD.pack(len(payload) + 1, kind) + payload
        with self._lock:
            try:
                while data:
                    data = data[os.write(self.descriptor, data) :]
            except (BrokenPipeError, ConnectionResetError):
                gone()

    def send_json(self, kind, value):
        """Sends one frame with a JSON payload."""
        from . import _documents

        self.send(kind, _documents.tell(value))

    def send_segment(self, number, size, descriptor):
        """Sends a new segment of this worker's."""
        from _socket import SCM_RIGHTS, SOL_SOCKET

        data = _HEAD.pack(17, SEGMENT) + _NAMED.pack(number, size)
        rights = [(SOL_SOCKET, SCM_RIGHTS, descriptor.to_bytes(4, "little"))]
        with self._lock:
            try:
                sent = self._open().sendmsg([data], rights)
                while sent < len(data):
                    sent += os.write(self.descriptor, data[sent:])
            except (BrokenPipeError, ConnectionResetError):
                gone()

    def wait_for_go(self):
        """Waits until the function may be called.

        Reads exactly this frame: one behind it may carry a descriptor, which a plain read would lose.
        """
        while True:
            length, kind = _HEAD.unpack(self._exactly(_HEAD.size))
            self._exactly(length - 1)
            if kind == GO:
                return

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            some = os.read(self.descriptor, count - len(data))
            if not some:
                gone()
            data += some
        return data

    def receive(self, segments, wait):
        """Takes in what the engine has sent; with `wait`, waits for at least one frame.

        Returns whether anything came. Does not return when the engine is gone.
        """
        from _socket import CMSG_LEN, CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT

        room = CMSG_SPACE(4 * 32)
        came = False
        with self._reading:
            while True:
                flags = MSG_CMSG_CLOEXEC if wait and not came else MSG_CMSG_CLOEXEC | MSG_DONTWAIT
                try:
                    data, extra, message, _ = self._open().recvmsg(65536, room, flags)
                except BlockingIOError:
                    return came
                except ConnectionResetError:
                    gone()
                for _, _, rights in extra:
                    for at in range(0, len(rights) - 3, 4):
                        self._descriptors.append(int.from_bytes(rights[at : at + 4], "little"))
                if message & MSG_CTRUNC:
                    raise OSError("this worker has no descriptor left for a segment: raise limits.open_files")
                if not data:
                    gone()
                self._unread += data
                came = self._take_in(segments) or came

    def _take_in(self, segments):
        unread, at = self._unread, 0
        while len(unread) - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(unread, at)
            end = at + 4 + length
            if len(unread) < end:
                break
            payload = unread[at + _HEAD.size : end]
            at = end
            if kind == GIVEN:
                number, size = _NAMED.unpack(payload)
                segments.given(number, size, self._descriptors.pop(0))
            elif kind == RECYCLE:
                segments.recycle(_numbers(payload))
            elif kind == FORGET:
                segments.forget(_numbers(payload))
            # Anything else is of a later version and means nothing to this one.
        self._unread = unread[at:]
        return at > 0

    def _open(self):
        if self._socket is None:
            from _socket import socket

            self._socket = socket(fileno=self.descriptor)
            self._socket.setblocking(True)
        return self._socket


def _numbers(payload):
    return [int.from_bytes(payload[at : at + 8], "little") for at in range(0, len(payload), 8)]


def gone():
    """Ends this process: there is no engine any more that it could work for."""
    os._exit(1)
