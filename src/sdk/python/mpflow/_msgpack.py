"""The format `msgpack`: MessagePack, complete, in plain Python.

nil, bool, integers of 64 bits, floats, str, bin, arrays (lists; tuples are written as such), maps, and ext, which is
an `Ext(code, data)`; a timestamp is one like any other, of code -1. Text that is not UTF-8 is read with
`surrogateescape`, and written back as it was. Keys of maps may be anything that Python can hash.
"""

from _struct import Struct, error as StructError
from collections import namedtuple

from ._chunks import Chunks
from ._errors import Uncodable, Undecodable

# Nested deeper, a document would exhaust Python's stack.
_DEEPEST = 200

Ext = namedtuple("Ext", ["code", "data"])
Ext.__doc__ = "An extension value: its type from -128 to 127, and its bytes."

_U16, _U32, _U64 = Struct(">H"), Struct(">I"), Struct(">Q")
_I8, _I16, _I32, _I64 = Struct(">b"), Struct(">h"), Struct(">i"), Struct(">q")
_F32, _F64 = Struct(">f"), Struct(">d")
_B_U8, _B_U16, _B_U32, _B_U64 = Struct(">BB"), Struct(">BH"), Struct(">BI"), Struct(">BQ")
_B_I8, _B_I16, _B_I32, _B_I64, _B_F64 = Struct(">Bb"), Struct(">Bh"), Struct(">Bi"), Struct(">Bq"), Struct(">Bd")


class MessagePack(Chunks):
    """Any MessagePack value."""

    name = "msgpack"

    def _code(self, values):
        parts = []
        try:
            _pack(values, parts.append, 0)
        except _Refused as refused:
            value, reason = refused.args
            raise Uncodable(values[0] if value is None else value, reason, self.name) from None
        return b"".join(parts)

    def _decode(self, body, segments):
        text = bytes(body)
        try:
            value, end = _unpack(text, 0, 0)
        except (StructError, IndexError, TypeError, RecursionError) as error:
            raise Undecodable(f"the chunk is not MessagePack: {error}") from None
        if end != len(text) or not isinstance(value, list):
            raise Undecodable("the chunk is not one MessagePack array")
        return value


class _Refused(Exception):
    """(value, reason)"""


def _pack(value, put, depth):
    kind = type(value)
    if kind is str:
        _pack_str(value, put)
    elif kind is int:
        _pack_int(value, put)
    elif kind is float:
        put(_B_F64.pack(0xCB, value))
    elif value is None:
        put(b"\xc0")
    elif kind is bool:
        put(b"\xc3" if value else b"\xc2")
    elif kind is dict:
        _pack_map(value, put, depth)
    elif kind is list or kind is tuple:
        _pack_array(value, put, depth)
    elif kind is bytes:
        _pack_bin(value, put)
    else:
        _pack_other(value, put, depth)


def _pack_other(value, put, depth):
    if isinstance(value, Ext):
        _pack_ext(value, put)
    elif isinstance(value, str):
        _pack_str(str.__str__(value), put)
    elif isinstance(value, int):
        _pack_int(int(value), put)
    elif isinstance(value, float):
        put(_B_F64.pack(0xCB, value))
    elif isinstance(value, dict):
        _pack_map(value, put, depth)
    elif isinstance(value, (list, tuple)):
        _pack_array(value, put, depth)
    elif isinstance(value, (bytearray, memoryview)):
        _pack_bin(bytes(value), put)
    else:
        raise _Refused(value, "MessagePack has no such type")


def _pack_str(value, put):
    try:
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _Refused(value, f"it is not text: {error.reason}") from None
    size = len(data)
    if size < 32:
        put(bytes((0xA0 | size,)))
    elif size < 1 << 8:
        put(_B_U8.pack(0xD9, size))
    elif size < 1 << 16:
        put(_B_U16.pack(0xDA, size))
    else:
        put(_B_U32.pack(0xDB, _fitting(value, size)))
    put(data)


def _pack_bin(value, put):
    size = len(value)
    if size < 1 << 8:
        put(_B_U8.pack(0xC4, size))
    elif size < 1 << 16:
        put(_B_U16.pack(0xC5, size))
    else:
        put(_B_U32.pack(0xC6, _fitting(value, size)))
    put(value)


def _pack_int(value, put):
    if value >= 0:
        if value < 1 << 7:
            put(bytes((value,)))
        elif value < 1 << 8:
            put(_B_U8.pack(0xCC, value))
        elif value < 1 << 16:
            put(_B_U16.pack(0xCD, value))
        elif value < 1 << 32:
            put(_B_U32.pack(0xCE, value))
        elif value < 1 << 64:
            put(_B_U64.pack(0xCF, value))
        else:
            raise _Refused(value, "it does not fit in 64 bits")
    elif value >= -32:
        put(bytes((value & 0xFF,)))
    elif value >= -1 << 7:
        put(_B_I8.pack(0xD0, value))
    elif value >= -1 << 15:
        put(_B_I16.pack(0xD1, value))
    elif value >= -1 << 31:
        put(_B_I32.pack(0xD2, value))
    elif value >= -1 << 63:
        put(_B_I64.pack(0xD3, value))
    else:
        raise _Refused(value, "it does not fit in 64 bits")


def _pack_array(value, put, depth):
    size = len(value)
    if size < 16:
        put(bytes((0x90 | size,)))
    elif size < 1 << 16:
        put(_B_U16.pack(0xDC, size))
    else:
        put(_B_U32.pack(0xDD, _fitting(value, size)))
    depth = _deeper(value, depth)
    for element in value:
        _pack(element, put, depth)


def _pack_map(value, put, depth):
    size = len(value)
    if size < 16:
        put(bytes((0x80 | size,)))
    elif size < 1 << 16:
        put(_B_U16.pack(0xDE, size))
    else:
        put(_B_U32.pack(0xDF, _fitting(value, size)))
    depth = _deeper(value, depth)
    for key, element in value.items():
        _pack(key, put, depth)
        _pack(element, put, depth)


def _pack_ext(value, put):
    code, data = value
    if not isinstance(code, int) or not -128 <= code <= 127:
        raise _Refused(value, "the type of an extension value is from -128 to 127")
    size = len(data)
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(size)
    if fixed is not None:
        put(bytes((fixed,)))
    elif size < 1 << 8:
        put(_B_U8.pack(0xC7, size))
    elif size < 1 << 16:
        put(_B_U16.pack(0xC8, size))
    else:
        put(_B_U32.pack(0xC9, _fitting(value, size)))
    put(_I8.pack(code))
    put(bytes(data))


def _fitting(value, size):
    if size >> 32:
        raise _Refused(value, "it is longer than 32 bits can say")
    return size


def _deeper(value, depth):
    if depth >= _DEEPEST:
        raise _Refused(None, "it is nested too deeply, or contains itself")
    return depth + 1


def _unpack(data, at, depth):
    first = data[at]
    at += 1
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 0x100, at
    if first < 0x90:
        return _unpack_map(data, at, first & 0x0F, depth)
    if first < 0xA0:
        return _unpack_array(data, at, first & 0x0F, depth)
    if first < 0xC0:
        return _unpack_str(data, at, first & 0x1F)
    return _UNPACK[first - 0xC0](data, at, depth)


def _piece(data, at, size):
    end = at + size
    if end > len(data):
        raise IndexError("it ends within a value")
    return data[at:end], end


def _unpack_str(data, at, size):
    piece, at = _piece(data, at, size)
    return str(piece, "utf-8", "surrogateescape"), at


def _unpack_array(data, at, size, depth):
    if depth >= _DEEPEST:
        raise IndexError("it is nested too deeply")
    if size > len(data) - at:
        raise IndexError("it ends within an array")
    values = []
    put = values.append
    for _ in range(size):
        value, at = _unpack(data, at, depth + 1)
        put(value)
    return values, at


def _unpack_map(data, at, size, depth):
    if depth >= _DEEPEST:
        raise IndexError("it is nested too deeply")
    values = {}
    for _ in range(size):
        key, at = _unpack(data, at, depth + 1)
        if isinstance(key, list):
            key = _frozen(key)
        values[key], at = _unpack(data, at, depth + 1)
    return values, at


def _frozen(key):
    return tuple([_frozen(element) if isinstance(element, list) else element for element in key])


def _unpack_ext(data, at, size):
    (code,) = _I8.unpack_from(data, at)
    piece, at = _piece(data, at + 1, size)
    return Ext(code, piece), at


def _constant(value):
    return lambda data, at, depth: (value, at)


def _number(form):
    size, unpack = form.size, form.unpack_from
    return lambda data, at, depth: (unpack(data, at)[0], at + size)


def _sized(form, unpack):
    """A value whose size stands before it."""
    if form is None:
        return lambda data, at, depth: unpack(data, at + 1, data[at], depth)
    size, read = form.size, form.unpack_from
    return lambda data, at, depth: unpack(data, at + size, read(data, at)[0], depth)


def _text(data, at, size, depth):
    return _unpack_str(data, at, size)


def _bin(data, at, size, depth):
    return _piece(data, at, size)


def _ext(data, at, size, depth):
    return _unpack_ext(data, at, size)


def _fixed_ext(size):
    return lambda data, at, depth: _unpack_ext(data, at, size)


def _never(data, at, depth):
    raise IndexError("the byte 0xc1 means nothing")


def _byte(data, at, depth):
    return data[at], at + 1


_UNPACK = [
    _constant(None), _never, _constant(False), _constant(True),
    _sized(None, _bin), _sized(_U16, _bin), _sized(_U32, _bin),
    _sized(None, _ext), _sized(_U16, _ext), _sized(_U32, _ext),
    _number(_F32), _number(_F64),
    _byte, _number(_U16), _number(_U32), _number(_U64),
    _number(_I8), _number(_I16), _number(_I32), _number(_I64),
    _fixed_ext(1), _fixed_ext(2), _fixed_ext(4), _fixed_ext(8), _fixed_ext(16),
    _sized(None, _text), _sized(_U16, _text), _sized(_U32, _text),
    _sized(_U16, _unpack_array), _sized(_U32, _unpack_array),
    _sized(_U16, _unpack_map), _sized(_U32, _unpack_map),
]  # fmt: skip
