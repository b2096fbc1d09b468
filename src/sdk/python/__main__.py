"""Starts a Python worker of mpflow: `python3 THIS-FOLDER TARGET`, or quicker `python3 THIS-FOLDER/__main__.py TARGET`.

Started as a folder, Python imports `runpy` first, which takes longer than all of the SDK.
"""

import sys

_here = __file__.rpartition("/")[0] or "."
if sys.path[:1] != [_here]:
    # PYTHONSAFEPATH keeps a script's own folder off the path.
    sys.path.insert(0, _here)

from mpflow import _start  # noqa: E402

_start.main(_here)
