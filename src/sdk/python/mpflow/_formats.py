"""Formats whose records stand one behind the other: lines, nul, json and frames.

A codec has

* `encode(values) -> bytes`: all of them, whole. Raises Uncodable; *which* value it was is certain when there is one;
* `decode(view, count) -> list`: raises whatever it raises if one cannot be decoded;
* `decode_each(view, count) -> list`: the same, with a Failure in the place of what cannot be decoded;
* `cut(data, start, end, ended) -> int`: where in `data[start:end]` the last whole record ends (`stream` inputs);
* `decode_all(data) -> list`: the records of such a part;
* `shared_bytes`: how many bytes it has put into segments in all;
* `rollback()`: what was encoded since the last `commit()` is not sent after all.
"""

from ._errors import Failure, Uncodable, Undecodable

_TEXT = {str}
_PLAIN = {str, int, float}


class Lines:
    """`lines` and `nul`: text, ended by one character that may not be in it."""

    chunked = False
    shared_bytes = 0

    def __init__(self, name):
        self.name = name
        self._end = "\n" if name == "lines" else "\0"
        self._end_byte = self._end.encode()

    def encode(self, values):
        end = self._end
        kinds = set(map(type, values))
        text = end.join(values if kinds <= _TEXT else self._texts(values, kinds))
        if text.count(end) != len(values) - 1:
            what = "a newline" if end == "\n" else "a NUL"
            raise Uncodable(values[0], f"it contains {what}", self.name)
        try:
            return (text + end).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise Uncodable(values[0], f"it is not text: {error.reason}", self.name) from None

    def _texts(self, values, kinds):
        if kinds <= _PLAIN:
            return map(str, values)
        return [self._text(value) for value in values]

    def _text(self, value):
        if isinstance(value, str):
            # A subclass, an enum for instance, may have a `str()` of its own: the characters are what counts.
            return str.__str__(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            from numbers import Number

            if isinstance(value, bytes):
                return value.decode("utf-8", "surrogateescape")
            if not isinstance(value, Number):
                raise Uncodable(value, "it is neither text nor a number", self.name)
        return str(value)

    def decode(self, view, count):
        records = str(view, "utf-8", "surrogateescape").split(self._end)
        if not records[-1]:
            del records[-1]
        if len(records) != count:
            raise Undecodable(f"{len(records)} records came where {count} were announced")
        return records

    decode_each = decode

    def cut(self, data, start, end, ended):
        return end if ended else max(start, data.rfind(self._end_byte, start, end) + 1)

    def decode_all(self, data):
        """The records of whole text of an unknown count."""
        records = str(data, "utf-8", "surrogateescape").split(self._end)
        if not records[-1]:
            del records[-1]
        return records

    def commit(self):
        pass

    rollback = commit


class Json(Lines):
    """One JSON document per line."""

    def __init__(self):
        from itertools import repeat
        from operator import itemgetter

        from . import _documents

        super().__init__("lines")
        self.name = "json"
        self._documents = _documents
        self._repeat = repeat
        self._value, self._length = itemgetter(0), itemgetter(1)

    def encode(self, values):
        documents = self._documents
        try:
            lines = map("".join, map(documents.encoder, values, self._repeat(0)))
            return ("\n".join(lines) + "\n").encode()
        except UnicodeEncodeError:
            # A lone surrogate has no UTF-8, only an escape.
            lines = map("".join, map(documents.ascii_encoder, values, self._repeat(0)))
            return ("\n".join(lines) + "\n").encode()
        except (TypeError, ValueError, RecursionError) as error:
            reason = "it is nested too deeply, or contains itself" if isinstance(error, RecursionError) else str(error)
            raise Uncodable(values[0], reason, self.name) from None

    def decode(self, view, count):
        return self._parse(super().decode(view, count))

    def decode_all(self, data):
        return self._parse(super().decode_all(data))

    def _parse(self, lines):
        documents = self._documents
        try:
            found = list(map(documents.scan, lines, self._repeat(0)))
            # Each document must fill its line: compared without a loop in Python.
            if list(map(self._length, found)) == list(map(len, lines)):
                return list(map(self._value, found))
        except (StopIteration, ValueError, RecursionError, SystemError):
            pass
        # StopIteration ends `list(map(…))` quietly, so that the lengths differ: both ways lead here.
        return [self._one(line) for line in lines]

    def _one(self, line):
        try:
            return self._documents.parse(line)
        except (ValueError, RecursionError) as error:
            raise Undecodable(f"the record is not JSON: {error}") from None

    def decode_each(self, view, count):
        records = []
        for line in super().decode_each(view, count):
            try:
                records.append(self._one(line))
            except Undecodable as error:
                records.append(Failure(error, line))
        return records


class Frames:
    """Length (4 bytes), then the bytes."""

    name = "frames"
    chunked = False
    shared_bytes = 0

    def encode(self, values):
        parts = []
        for value in values:
            if not isinstance(value, bytes):
                if not isinstance(value, (bytearray, memoryview)):
                    raise Uncodable(value, "it is not bytes", self.name)
                value = bytes(value)
            if len(value) >> 32:
                raise Uncodable(value, "it is longer than 4 GiB", self.name)
            parts.append(len(value).to_bytes(4, "little"))
            parts.append(value)
        return b"".join(parts)

    def decode(self, view, count):
        records = self.decode_all(view)
        if len(records) != count:
            raise Undecodable(f"{len(records)} records came where {count} were announced")
        return records

    decode_each = decode

    def decode_all(self, view):
        records, at, end = [], 0, len(view)
        while at < end:
            stop = at + 4 + int.from_bytes(view[at : at + 4], "little")
            if stop > end:
                raise Undecodable("the last frame is not whole")
            records.append(bytes(view[at + 4 : stop]))
            at = stop
        return records

    def cut(self, data, start, end, ended):
        at = start
        while end - at >= 4:
            stop = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if stop > end:
                break
            at = stop
        return end if ended else at

    def commit(self):
        pass

    rollback = commit
