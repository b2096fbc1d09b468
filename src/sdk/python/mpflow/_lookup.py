"""The nearest right name, for a target that does not exist."""

import os

from ._errors import nearest


def nearest_attribute(found, part, target, place, name):
    """The whole target with the attribute that was probably meant, or None."""
    names = [other for other in dir(found) if not (other.startswith("__") and other.endswith("__"))]
    close = nearest(part, names)
    if close is None:
        return None
    walked = name.split(".")
    walked[walked.index(part)] = close
    return f"{place}:{'.'.join(walked)}"


def nearest_module(name, folder):
    """The module of the pipeline's folder that was probably meant, or None."""
    return nearest(name, _modules(folder, "", 3))


def _modules(folder, prefix, depth):
    names = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:1000]
    except OSError:
        return names
    for entry in entries:
        stem, extension = os.path.splitext(entry.name)
        if extension == ".py" and stem.isidentifier() and not (stem.startswith("__")):
            names.append(prefix + stem)
        elif depth > 1 and entry.name.isidentifier() and not entry.name.startswith("__") and entry.is_dir():
            inner = _modules(entry.path, f"{prefix}{entry.name}.", depth - 1)
            if inner or os.path.exists(os.path.join(entry.path, "__init__.py")):
                names.append(prefix + entry.name)
            names += inner
    return names


def nearest_file(place, folder):
    """The file near the one that is not there that was probably meant, or None."""
    own, name = os.path.split(place)
    try:
        files = [other for other in os.listdir(os.path.join(folder, own)) if other.endswith(".py")]
    except OSError:
        return None
    close = nearest(name, files)
    return close and os.path.join(own, close)
