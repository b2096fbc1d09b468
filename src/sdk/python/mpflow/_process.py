"""This process as `multiprocessing` knows it: its name, and whether it is a daemon."""

import os
import sys

_MODULE = "multiprocessing.process"


def introduce(is_daemon):
    """Gives `multiprocessing.current_process()` the worker's name as soon as that module is imported.

    A daemon's workers may not start children by `multiprocessing`, as Python has it for its own daemons.
    """
    if _MODULE in sys.modules:
        _mark(sys.modules[_MODULE], is_daemon)
    else:
        # Importing it for nothing would cost as much as the whole start.
        sys.meta_path.insert(0, _WhenImported(is_daemon))


def _mark(module, is_daemon):
    process = module.current_process()
    process.name = os.environ.get("MPFLOW_WORKER") or process.name
    process._config["daemon"] = is_daemon


class _WhenImported:
    """Waits for the import of one module."""

    def __init__(self, is_daemon):
        self.is_daemon = is_daemon

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
                _mark(module, self.is_daemon)

            loader.exec_module = exec_module
        return spec
