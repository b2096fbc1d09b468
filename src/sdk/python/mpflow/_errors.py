"""How failures are told: tracebacks with the user's frames only, and records in a form that people can read."""

import os

_SDK = os.path.dirname(os.path.abspath(__file__)) + os.sep
_BOOTSTRAP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")

# Longer texts are cut in their middle: both ends of a traceback say something.
TEXT_LIMIT = 64 << 10
RECORD_LIMIT = 4 << 10


class Broken(Exception):
    """The function cannot be called."""

    def __init__(self, error, traceback=None, nearest=None):
        super().__init__(error)
        self.error, self.traceback, self.nearest = error, traceback, nearest


class Uncodable(Exception):
    """A value that the format of its port cannot carry."""

    def __init__(self, value, reason, format_name):
        super().__init__(value, reason, format_name)
        self.value, self.reason, self.format_name = value, reason, format_name
        self.port = "stdout"

    def __str__(self):
        kind = type_name(type(self.value))
        return f"a value of type `{kind}` cannot go to `{self.port}` as {self.format_name}: {self.reason}"


class Undecodable(Exception):
    """A record that came in a form that its format does not have."""


class Failure:
    """Stands in a list of records for one that could not be decoded."""

    def __init__(self, error, shown):
        self.error, self.shown = error, shown


def type_name(kind):
    """The name that people know a type by: with its module, unless that is Python itself or the SDK."""
    module = getattr(kind, "__module__", None)
    if module in (None, "builtins", "__main__") or str(module).startswith("mpflow."):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def message(error):
    """What the exception says, or its name if it says nothing."""
    try:
        text = str(error)
    except Exception as problem:
        text = f"(its message cannot be made: {type(problem).__name__})"
    return cut(text, TEXT_LIMIT) or type(error).__name__


def _is_ours(frame):
    name = frame.filename
    return name.startswith((_SDK, "<frozen importlib", "<frozen runpy")) or name == _BOOTSTRAP


def traceback(error):
    """The traceback of `error` as text, without the SDK's frames, with the exceptions that led to it."""
    from traceback import TracebackException

    try:
        told = TracebackException(type(error), error, error.__traceback__)
        _strip(told, set())
        return cut("".join(told.format()), TEXT_LIMIT)
    except Exception as problem:
        return f"(no traceback can be made: {type(problem).__name__}: {message(problem)})\n"


def _strip(told, seen):
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if not _is_ours(frame)]
    _strip(told.__cause__, seen)
    _strip(told.__context__, seen)
    for one in getattr(told, "exceptions", None) or ():
        _strip(one, seen)


def document(error):
    """The parts of FAILED and ERROR that tell of an exception."""
    if isinstance(error, (Uncodable, Undecodable)) and error.__cause__ is None:
        # The SDK itself says it; its frames would tell nothing.
        return {"error": message(error), "type": type(error).__name__, "traceback": ""}
    return {"error": message(error), "type": type_name(type(error)), "traceback": traceback(error)}


def cut(text, limit):
    """`text`, or both its ends if it is longer than `limit`."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"


def shown(record):
    """What a record looks like: itself where JSON can say it and it is short, else a text about it."""
    from . import _documents

    try:
        if isinstance(record, str):
            text = record.encode("utf-8", "backslashreplace").decode()
            return text if len(text) <= RECORD_LIMIT else text[:RECORD_LIMIT] + "…"
        if isinstance(record, (bytes, bytearray)):
            text = bytes(record[:RECORD_LIMIT]).decode("utf-8", "backslashreplace")
            return text if len(record) <= RECORD_LIMIT else text + "…"
        if isinstance(record, (list, tuple, dict, int, float, bool, type(None))):
            try:
                if len(_documents.write(record)) <= RECORD_LIMIT:
                    return record
            except (TypeError, ValueError, RecursionError):
                pass
        # The repr of a large NumPy array is short; that of a large list is not, and is cut.
        text = repr(record).encode("utf-8", "backslashreplace").decode()
        return text if len(text) <= RECORD_LIMIT else text[:RECORD_LIMIT] + "…"
    except Exception as problem:
        return f"<{type(record).__name__}: its repr raises {type(problem).__name__}>"


def nearest(name, names):
    """The name that was probably meant, or None."""
    from difflib import get_close_matches

    names = sorted(names)
    found = get_close_matches(name, names, 1, 0.6)
    if found:
        return found[0]
    lower = {other.lower(): other for other in names}
    return lower.get(name.lower())


def unknown(what, name, names):
    """The ValueError for a name that is not there."""
    known = ", ".join(f"`{other}`" for other in names) or "none"
    close = nearest(name, names) if isinstance(name, str) else None
    hint = f"did you mean `{close}`?" if close else f"there is {known}"
    return ValueError(f"there is no {what} `{name}`: {hint}")
