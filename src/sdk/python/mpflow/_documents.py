"""JSON without the `json` module, whose regular expressions take 5 ms to import: its two C halves are enough."""

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Reading:
    """What the scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__


# scan(text, position) -> (value, position after it). No white space is skipped before the value. Raises StopIteration
# where no value begins and `json.JSONDecodeError` (a ValueError) where it goes wrong later; before Python 3.12 that is a
# SystemError as long as nobody has imported `json.decoder`.
scan = make_scanner(_Reading)


def _refuse(value):
    raise TypeError(f"a {type(value).__name__} has no JSON form")


# encoder(value, 0) -> pieces of text. Text stays as it is, except in the second, which is for lone surrogates.
encoder = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
ascii_encoder = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)


def parse(text):
    """The value of one document.

    Raises ValueError, which says where it goes wrong.
    """
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at column {int(stop.value or 0) + 1}") from None
    if end != len(text):
        raise ValueError(f"extra text after the JSON value at column {end + 1}")
    return value


def _scan(text):
    try:
        return scan(text, 0)
    except SystemError:
        import json.decoder  # noqa: F401

        return scan(text, 0)


def write(value):
    """`value` as one document, in bytes.

    Raises TypeError, ValueError or RecursionError where JSON cannot say it.
    """
    try:
        return "".join(encoder(value, 0)).encode()
    except UnicodeEncodeError:
        return "".join(ascii_encoder(value, 0)).encode()


def tell(value):
    """Like `write`, for documents about records: what no UTF-8 can say becomes a question mark."""
    return "".join(encoder(value, 0)).encode("utf-8", "replace")
