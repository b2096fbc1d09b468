"""The functions of the conformance check (`schemas/worker-protocol.md`, section 7), for mpflow's own Python workers."""

import mpflow


def echo(record):
    return record


def twice(record):
    yield record
    yield record


def nothing(record):
    return None


def fail(record):
    raise ValueError("this function fails each record")


def batch(records):
    yield from records


def stream(records):
    yield from records


def fail_stream(records):
    for record in records:
        raise ValueError("this function fails")


def count(number=1):
    # A frame is bytes, and nothing else.
    is_bytes = mpflow._task["outputs"][0]["format"] == "frames"
    return (str(n).encode() if is_bytes else str(n) for n in range(number))
