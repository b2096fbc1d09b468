#!/usr/bin/env python3
"""A worker of mpflow in plain Python, without its SDK: what schemas/worker-protocol.md says, and nothing more.

It knows the formats `lines`, `json`, `nul` and `frames`, and the functions of the conformance check:

    mpflow conformance -- python3 worker.py
"""

import json
import os
import struct
import sys

READY, BROKEN, ERROR, GO = 1, 2, 4, 65
DONE, FAILED, ABOUT = 1, 3, 4
FUNCTIONS = {
    "echo": lambda record: [record],
    "twice": lambda record: [record, record],
    "nothing": lambda record: [],
    "fail": lambda record: 1 // 0,
    "batch": lambda record: [record],
    "stream": lambda record: [record],
    "fail_stream": lambda record: 1 // 0,
    "count": None,
}

task = json.loads(os.pread(int(os.environ["MPFLOW_TASK"]), 1 << 24, 0))
control = int(os.environ["MPFLOW_CONTROL"])


def write(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def tell(kind, value):
    """One control frame."""
    payload = json.dumps(value).encode()
    write(control, struct.pack("<IB", len(payload) + 1, kind) + payload)


def exactly(descriptor, count):
    """So many bytes, or None at the end."""
    data = b""
    while len(data) < count:
        some = os.read(descriptor, count - len(data))
        if not some:
            return None
        data += some
    return data


def wait_for(*descriptors):
    """Waits until one of these can be read. The end of the control connection is the end of the engine."""
    import select

    while True:
        ready = select.select([control, *descriptors], [], [])[0]
        if control in ready and not os.read(control, 65536):
            os._exit(1)
        if any(descriptor in ready for descriptor in descriptors):
            return


class Port:
    """Records of one format, as bytes."""

    def __init__(self, port):
        self.end = {"lines": b"\n", "json": b"\n", "nul": b"\0", "frames": None}[port["format"]]

    def split(self, data):
        """The whole records at the front of `data`, and the rest."""
        if self.end:
            *records, rest = data.split(self.end)
            return records, rest
        records, at = [], 0
        while len(data) - at >= 4:
            stop = at + 4 + struct.unpack_from("<I", data, at)[0]
            if stop > len(data):
                break
            records.append(data[at + 4 : stop])
            at = stop
        return records, data[at:]

    def join(self, records):
        return b"".join(r + self.end if self.end else struct.pack("<I", len(r)) + r for r in records)


def why(error):
    return {"error": str(error), "type": type(error).__name__, "traceback": ""}


def answer(kind, payload):
    write(task["answers"], struct.pack("<IB3x", len(payload) + 4, kind) + payload)


def work_on_leases(function, source, port):
    out = Port(task["outputs"][0])
    while True:
        wait_for(source)
        head = exactly(source, 16)
        if head is None:
            return 0
        length, kind, flags, count, attempt = struct.unpack("<IBB2xII", head)
        records, _ = port.split(exactly(source, length - 12))
        groups = [records] if task["batch"] else [[record] for record in records]
        for group in groups:
            if flags & 1:
                answer(ABOUT, json.dumps(group[0].decode("utf-8", "replace")).encode())
            try:
                results = [result for record in group for result in function(record)]
            except Exception as error:
                answer(FAILED, json.dumps(why(error)).encode())
                continue
            data = out.join(results)
            outputs = struct.pack("<III", 0, len(results), len(data)) + data if results else b""
            answer(DONE, struct.pack("<I", len(group)) + outputs)


def work_on_stream(function, source, port):
    out, sink, data = Port(task["outputs"][0]), task["outputs"][0]["fd"], b""
    while True:
        wait_for(source)
        some = os.read(source, 1 << 16)
        records, data = port.split(data + some)
        if not some and data:
            records = [data]
        try:
            write(sink, out.join([result for record in records for result in function(record)]))
        except ArithmeticError as error:
            tell(ERROR, why(error))
            return 1
        if not some:
            return 0


def main():
    name = task["target"].rpartition(":")[2]
    if name not in FUNCTIONS:
        tell(BROKEN, {"error": f"there is no function `{name}`", "traceback": None, "nearest": None})
        return 1
    tell(READY, {"protocol": 1, "language": "python, by hand", "segments": False})
    # One frame exactly: nothing else comes before GO, and nobody here needs what comes after it.
    frame = exactly(control, 5)
    if frame is None:
        return 1
    if task["source"]:
        port, sink = Port(task["outputs"][0]), task["outputs"][0]["fd"] or task["answers"]
        write(sink, port.join([str(number).encode() for number in range((task["args"] or [1])[0])]))
        return 0
    first = task["inputs"][0]
    work = work_on_leases if first["leased"] else work_on_stream
    return work(FUNCTIONS[name], first["fd"], Port(first))


sys.exit(main())
