"""Starts a Python worker of mpflow: `python3 THIS-FOLDER TARGET`, or quicker `python3 THIS-FOLDER/__main__.py TARGET`.

Started as a folder, Python imports `runpy` first, which takes longer than all of the SDK.
"""

import sys

_here = __file__.rpartition("/")[0] or "."
if sys.path[:1] != [_here]:
    # PYTHONSAFEPATH keeps a script's own folder off the path.
    sys.path.insert(0, _here)


def _keep_compiled():
    """Compiles the SDK once, for those who want no compiled files beside their own code: this folder is the SDK's."""
    import os

    package = f"{_here}/mpflow"
    # The last one: where it is, all are.
    last = f"{package}/__pycache__/_start.{sys.implementation.cache_tag}.pyc"
    if os.path.exists(last) or not os.access(package, os.W_OK):
        return
    from py_compile import compile

    for name in [*(name for name in os.listdir(package) if name.endswith(".py") and name != "_start.py"), "_start.py"]:
        try:
            compile(f"{package}/{name}", quiet=2)
        except OSError:
            return


if sys.dont_write_bytecode and sys.implementation.cache_tag:
    _keep_compiled()

from mpflow import _start  # noqa: E402

_start.main(_here)
