"""Tells the engine which files of the pipeline's folder this worker runs: `mpflow run --watch` looks at them.

What has been imported is told before the engine is told anything else. What is imported later is told when it is looked
for: a finder that is asked first and finds nothing sees every import, and costs one that happens only once.
"""

import os
import sys

from ._control import FILES

# So many files at once: a frame is at most 1 MiB.
MOST = 1000


class Files:
    def __init__(self, control, folder):
        self._control = control
        self._prefix = os.path.join(folder, "")
        self._told = set()

    def tell_loaded(self):
        """Tells of the modules that are there already."""
        last, files = _remembered
        self._tell(files + [_file_of(module) for module in _modules_after(last)])

    def tell_blamed(self, traceback):
        """Tells of the files in a traceback: those of modules that could not be imported are not there."""
        parts = (traceback or "").split('File "')[1:]
        self._tell([part.split('"')[0] for part in parts])

    def follow(self):
        """Tells of those that come from now on."""
        sys.meta_path.insert(0, self)
        # A process that this one forks has no engine to tell.
        os.register_at_fork(after_in_child=self._stop)

    def find_spec(self, name, path=None, target=None):
        """Finds nothing, and tells what the others will find."""
        try:
            from importlib.machinery import PathFinder

            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.has_location:
                self._tell([spec.origin])
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception:
            # Whatever is wrong with the module is for the import itself to say.
            pass
        return None

    def _stop(self):
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _tell(self, files):
        new = [file for file in files if file and file.startswith(self._prefix) and file not in self._told]
        self._told.update(new)
        for at in range(0, len(new), MOST):
            self._control.send_json(FILES, new[at : at + MOST])


# What a fork server has loaded, for those that are forked from it: its last module, and the files of all.
_remembered = None, []


def remember(folder):
    """Finds out what `tell_loaded` tells for workers that are forked from this process.

    To look at a module is to write to its memory, by the count of who uses it, and a page that is written to is the
    worker's own from then on. To look at all of NumPy would cost each a megabyte.
    """
    global _remembered
    prefix = os.path.join(folder, "")
    files = [_file_of(module) for module in list(sys.modules.values())]
    _remembered = next(reversed(sys.modules)), [file for file in files if file and file.startswith(prefix)]


def _modules_after(last):
    """The modules that have been imported since `last` was, or all of them if that is there no more."""
    modules = []
    try:
        for name in reversed(sys.modules):
            if name == last:
                break
            modules.append(sys.modules[name])
    except (KeyError, RuntimeError):
        # Another thread imports something.
        return list(sys.modules.values())
    return modules


def _file_of(module):
    # What stands in `sys.modules` need not be a module, and asking one that loads itself lazily would load it.
    file = getattr(module, "__dict__", {}).get("__file__") if type(module) is type(sys) else None
    return file if type(file) is str else None
