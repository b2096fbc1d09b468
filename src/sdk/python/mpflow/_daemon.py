"""A daemon's workers may not start children by `multiprocessing`, as Python has it for its own daemons."""

import sys

_MODULE = "multiprocessing.process"


def forbid_children():
    """Marks this process as a daemon of `multiprocessing`, as soon as that is imported."""
    if _MODULE in sys.modules:
        _mark(sys.modules[_MODULE])
    else:
        # Importing it for nothing would cost as much as the whole start.
        sys.meta_path.insert(0, _WhenImported())


def _mark(module):
    module.current_process()._config["daemon"] = True


class _WhenImported:
    """Waits for the import of one module."""

    def find_spec(self, name, path, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = sys.modules["_frozen_importlib_external"].PathFinder.find_spec(name, path, target)
        if spec is not None:
            loader = spec.loader
            run = loader.exec_module

            def exec_module(module):
                run(module)
                _mark(module)

            loader.exec_module = exec_module
        return spec
