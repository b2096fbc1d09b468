"""One module for one file, by whichever name it is imported.

The file `stages/load.py` of a target is the module `stages.load`, so that every stage of the pipeline can unpickle
what its classes made. A file beside it imports it as a script would, by `import load`. Were that a second module, its
classes would be others, and `isinstance` false for records that look right.
"""

import os
import sys


def alias(folder, package):
    """Lets the modules in `folder` be imported by their bare names as well: they are those of `package`."""
    if not any(isinstance(finder, _Siblings) and finder.folder == folder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Siblings(folder, package))


class _Siblings:
    def __init__(self, folder, package):
        self.folder, self.package = folder, package

    def find_spec(self, name, path, target=None):
        root = name.partition(".")[0]
        place = os.path.join(self.folder, root)
        if not os.path.isfile(place + ".py") and not os.path.isfile(os.path.join(place, "__init__.py")):
            return None
        whole = f"{self.package}.{name}"
        try:
            __import__(whole)
        except ModuleNotFoundError as error:
            if error.name == whole:
                return None
            raise
        module = sys.modules[whole]
        return sys.modules["_frozen_importlib"].ModuleSpec(name, _Alias(module), origin=module.__file__)


class _Alias:
    def __init__(self, module):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        # The import has put the alias's here.
        module.__spec__ = self.spec
