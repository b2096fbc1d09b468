"""Finds what a stage names, `module:callable` or `path/file.py:callable`, and makes it ready to be called."""

import gc
import os
import sys

from . import _call
from ._errors import Broken


def prepare(task):
    """The function of a task, ready for its first record, and whether that is an instance of a class.

    The initializer has run and a class has been built. Raises Broken.
    """
    folder = task["folder"]
    initializer = task.get("initializer")
    function = find(task["target"], folder)
    if initializer:
        first = find(initializer, folder)
        _refuse_async(first, initializer)
        _run(first, (), {}, f"the initializer `{initializer}` failed")
    is_class = isinstance(function, type) and not _is_of_python(function)
    if is_class:
        if not hasattr(function, "__call__") or getattr(function, "__call__", None) is None or not _has_call(function):
            raise Broken(f"`{task['target']}` is a class without `__call__`: its instance is called for each record")
        _refuse_async(function.__call__, task["target"])
        function = _run(
            function, task.get("args") or (), task.get("kwargs") or {}, f"`{task['target']}` could not be built"
        )
    else:
        if not callable(function):
            raise Broken(f"`{task['target']}` is not callable: it is a `{type(function).__name__}`")
        _refuse_async(function, task["target"])
    return function, is_class


def _is_of_python(kind):
    # `builtins:int` is called for each record; a class that a Python or C module makes at run time is built once.
    return not kind.__flags__ & (1 << 9)


def _has_call(kind):
    return any("__call__" in base.__dict__ for base in kind.__mro__)


def _refuse_async(function, target):
    if _call.is_async(function):
        raise Broken(
            f"`{target}` is an async function: mpflow calls plain functions; "
            "let a plain one run it, by `asyncio.run(…)` for instance"
        )


def _run(function, args, kwargs, what):
    try:
        return function(*args, **kwargs)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        from . import _errors

        raise Broken(f"{what}: {_named(error)}", _errors.traceback(error)) from None


def find(target, folder):
    """The object that `target` names. Imports its module.

    Raises Broken.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise Broken(f"`{target}` names no function: write `module:callable` or `path/file.py:callable`")
    if place.endswith(".py") or "/" in place:
        module = _import_file(place, folder)
    else:
        module = import_module(place, folder)
    found, walked = module, place
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            from ._lookup import nearest_attribute

            raise Broken(
                f"there is no `{part}` in `{walked}`", nearest=nearest_attribute(found, part, target, place, name)
            ) from None
        walked = f"{walked}:{part}" if found is not module and walked == place else f"{walked}.{part}"
    return found


def import_module(name, folder):
    """The module of that name. Raises Broken."""
    try:
        with _SeldomCollected():
            __import__(name)
        return sys.modules[name]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Missing is this module itself, or a package that it lies in; anything else is missing in the user's code.
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(missing + ".")):
            from ._lookup import nearest_module

            raise Broken(f"there is no module `{missing}`", nearest=nearest_module(name, folder)) from None
        raise _import_failed(name, error) from None


class _SeldomCollected:
    """While modules are imported: garbage is collected seldom.

    What an import makes stays. To look through it for cycles at each 700 new objects is a twelfth of the time that
    NumPy's import takes. A module that sets a threshold of its own, or switches the collector off, has its way.
    """

    # One that nobody else would set.
    THRESHOLD = 100_003

    def __enter__(self):
        self.before = gc.get_threshold()
        # 0 switches it off.
        if 0 < self.before[0] < self.THRESHOLD:
            gc.set_threshold(self.THRESHOLD, *self.before[1:])

    def __exit__(self, *_):
        if gc.get_threshold()[0] == self.THRESHOLD:
            gc.set_threshold(*self.before)


def _import_failed(name, error):
    from . import _errors

    return Broken(f"importing `{name}` failed: {_named(error)}", _errors.traceback(error))


def _named(error):
    from ._errors import message, type_name

    text, kind = message(error), type_name(type(error))
    return kind if text == kind else f"{kind}: {text}"


def _import_file(place, folder):
    """The module of a file.

    Its name is the dotted path from the pipeline's folder, which is importable as such (its folders are packages,
    with or without `__init__.py`), so that another stage can unpickle what this one's classes made. A file outside
    of that folder goes by its stem. The file's own folder is on the import path, as for a script.
    """
    path = os.path.normpath(os.path.join(folder, place))
    if not os.path.isfile(path):
        from ._lookup import nearest_file

        raise Broken(f"there is no file `{place}` in `{folder}`", nearest=nearest_file(place, folder))
    add_to_path(os.path.dirname(path))
    stem = os.path.basename(path)
    stem = stem[:-3] if stem.endswith(".py") else stem
    inside = os.path.relpath(path, folder)
    parts = inside[:-3].split(os.sep) if inside.endswith(".py") else []
    if parts and parts[0] != os.pardir and not any("." in part for part in parts) and stem != "__init__":
        name = ".".join(parts)
        if _leads_to(name, path):
            if len(parts) > 1:
                from . import _siblings

                _siblings.alias(os.path.dirname(path), ".".join(parts[:-1]))
            return import_module(name, folder)
    name = "__mp_main__" if stem == "__main__" else stem
    module = sys.modules.get(name)
    if module is not None and _same_file(getattr(module, "__file__", None), path):
        return module
    return _execute(name, path)


def add_to_path(folder):
    """Puts a folder on the import path, behind the pipeline's own."""
    if folder not in sys.path:
        sys.path.insert(1, folder)


def _leads_to(name, path):
    """Whether importing `name` runs the file at `path`."""
    if name in sys.modules:
        return _same_file(getattr(sys.modules[name], "__file__", None), path)
    finder = sys.modules["_frozen_importlib_external"].PathFinder
    where = None
    parts = name.split(".")
    for at in range(1, len(parts) + 1):
        part = ".".join(parts[:at])
        loaded = sys.modules.get(part)
        if loaded is not None:
            where = getattr(loaded, "__path__", None)
            if where is None:
                return False
            continue
        spec = finder.find_spec(part, where)
        if spec is None:
            return False
        if at == len(parts):
            return _same_file(spec.origin, path)
        where = spec.submodule_search_locations
        if where is None:
            return False
    return False


def _same_file(one, other):
    try:
        return bool(one) and os.path.samefile(one, other)
    except OSError:
        return False


def _execute(name, path):
    external = sys.modules["_frozen_importlib_external"]
    spec = external.spec_from_file_location(name, path, loader=external.SourceFileLoader(name, path))
    module = sys.modules["_frozen_importlib"].module_from_spec(spec)
    # Before it runs, so that what it defines can be pickled and it can be imported by what it imports.
    sys.modules[name] = module
    try:
        with _SeldomCollected():
            spec.loader.exec_module(module)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise _import_failed(os.path.basename(path), error) from None
    return module
