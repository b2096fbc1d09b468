"""Chunks: many records coded together, with what is large beside them in segments."""

from _struct import Struct

from ._errors import Failure, Undecodable

HEAD = Struct("<IIIHH")
NAMED = Struct("<QQ")

BODY_IN_SEGMENT = 1

# From here on shared memory is quicker than a pipe.
LARGE = 64 << 10


class Chunks:
    """The part that `pickle` and `msgpack` share. `_code(values)` and `_decode(body, segments)` are the format's."""

    chunked = True

    def __init__(self, segments):
        self._segments = segments
        # Segments that the chunk being made names, in order.
        self._named = []
        self.shared_bytes = 0
        # Segments of chunks that are made and not sent yet.
        self._made = []

    def encode(self, values):
        try:
            body = self._code(values)
        except BaseException:
            self._segments.give_back([number for number, _ in self._named])
            self._named = []
            raise
        named = self._named
        flags = 0
        if len(body) >= LARGE * len(values):
            segment = self._segments.put(body)
            if segment is not None:
                named.append(segment)
                flags, body = BODY_IN_SEGMENT, b""
        if not named:
            return HEAD.pack(12 + len(body), 0, len(values), 0, 0) + body
        self._named = []
        self.shared_bytes += sum([size for _, size in named])
        self._made.append([number for number, _ in named])
        table = b"".join([NAMED.pack(*segment) for segment in named])
        return HEAD.pack(12 + len(table) + len(body), 0, len(values), flags, len(named)) + table + body

    def commit(self):
        """What was encoded is sent: its segments belong to the readers now."""
        if self._made:
            self._made = []

    def undo(self):
        """The last chunk is not sent."""
        if self._made:
            self._segments.give_back(self._made.pop())

    def rollback(self):
        """Nothing since the last commit is sent."""
        while self._made:
            self.undo()

    def decode(self, view, count):
        """The records of chunks that hold `count` in all."""
        records, at = self._one(view, 0)
        while at < len(view):
            more, at = self._one(view, at)
            records += more
        if len(records) != count:
            raise Undecodable(f"{len(records)} records came where {count} were announced")
        return records

    def decode_each(self, view, count):
        records, at = [], 0
        while at < len(view):
            length, _, held, _, _ = HEAD.unpack_from(view, at)
            try:
                records += self._one(view, at)[0]
            except Exception as error:
                # They were coded together: where one cannot be decoded, none can.
                records += [Failure(error, f"<one of {held} records in {length - 12} bytes>")] * held
            at += 4 + length
        return records

    def decode_chunk(self, view):
        """The records of one chunk."""
        return self._one(view, 0)[0]

    def _one(self, view, at):
        length, skip, count, flags, number = HEAD.unpack_from(view, at)
        end = at + 4 + length
        at += 16
        if not number:
            records = self._decode(view[at:end], None)
        else:
            given = []
            for _ in range(number):
                given.append(self._segments.view(*NAMED.unpack_from(view, at)))
                at += 16
            if flags & BODY_IN_SEGMENT:
                with given.pop() as body:
                    records = self._decode(body, given)
            else:
                records = self._decode(view[at:end], given)
        if skip or count != len(records):
            # Only a part is meant: what the others hold goes with them.
            records = records[skip : skip + count]
        return records, end
