"""How the function is called for each record: fixed arguments, `unpack`, classes."""

from itertools import repeat


def over(function, args, kwargs, unpack):
    """A function from an iterator of records to an iterator of results, in C as far as possible."""
    if unpack:
        unpacked = unpacking(function, args, kwargs)
        return lambda records: map(unpacked, records)
    if kwargs:
        from _functools import partial

        function = partial(function, **kwargs)
    if args:
        fixed = [repeat(argument) for argument in args]
        return lambda records: map(function, records, *fixed)
    return lambda records: map(function, records)


def unpacking(function, args, kwargs):
    """Calls with a list's elements as positional arguments, with a map's as keyword arguments."""

    def call(record):
        if isinstance(record, (list, tuple)):
            return function(*record, *args, **kwargs)
        if isinstance(record, dict):
            return function(*args, **record, **kwargs)
        raise TypeError(f"`unpack` needs a list or a map, and this record is of type `{type(record).__name__}`")

    return call


def is_many(kind):
    """Whether a result of this type stands for several: a generator, or another iterator."""
    return hasattr(kind, "__next__")


def is_special(kind):
    """Whether a result of this type is not simply one value."""
    return hasattr(kind, "__next__") or hasattr(kind, "__await__") or hasattr(kind, "__anext__")


def is_plain(kind):
    """Whether a result of this type is one value. Raises TypeError for what an async function gives."""
    if hasattr(kind, "__await__") or hasattr(kind, "__anext__"):
        raise TypeError(f"the function gave a `{kind.__name__}`: mpflow calls plain functions, not async ones")
    return not hasattr(kind, "__next__")


_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def makes_generators(function):
    """Whether it is known beforehand that its results are generators."""
    return bool(_flags(function) & _GENERATOR)


def is_async(function):
    """Whether calling it gives something that only an event loop can run."""
    return bool(_flags(function) & (_COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR))


def _flags(function):
    for _ in range(10):
        code = getattr(function, "__code__", None)
        if code is not None:
            return getattr(code, "co_flags", 0)
        # A method, a partial, an instance with `__call__`.
        inner = getattr(function, "__func__", None) or getattr(function, "func", None)
        if inner is None and not isinstance(function, type):
            inner = getattr(type(function), "__call__", None)
        if inner is None or inner is function:
            return 0
        function = inner
    return 0
