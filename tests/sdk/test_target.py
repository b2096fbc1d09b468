"""Finding the function: what is imported, from where, under which name, and how a wrong name is told."""

import gc
import os
import tempfile
import unittest

from engine import Worker

ITEM = "class Item:\n    def __init__(self, n): self.n = n\n"


class Targets(unittest.TestCase):
    def answer_of(self, files, target, record=1, **options):
        with Worker(files, target=target, **options) as worker:
            worker.go().lease([record])
            (value,) = worker.answered(1)
            return value

    def test_a_module_of_the_pipelines_folder_comes_before_all_others(self):
        self.assertEqual(self.answer_of({"statistics.py": "def f(x): return 'mine'"}, "statistics:f"), "mine")

    def test_a_module_in_a_package(self):
        files = {"deep/er/work.py": "def f(x): return __name__", "deep/__init__.py": ""}
        self.assertEqual(self.answer_of(files, "deep.er.work:f"), "deep.er.work")

    def test_a_file_by_its_path_goes_by_its_path_as_a_module(self):
        files = {"stages/load.py": "def f(x): return __name__"}
        self.assertEqual(self.answer_of(files, "stages/load.py:f"), "stages.load")
        self.assertEqual(self.answer_of({"load.py": "def f(x): return __name__"}, "load.py:f"), "load")
        self.assertEqual(self.answer_of({"load.py": "def f(x): return __name__"}, "./load.py:f"), "load")

    def test_imports_are_collected_seldom_and_what_runs_as_often_as_always(self):
        text = "import gc\nmeanwhile = gc.get_threshold()[0]\ndef f(x): return (meanwhile, gc.get_threshold()[0])"
        for file, target in (("load.py", "load:f"), ("load 2.py", "load 2.py:f")):
            while_imported, then = self.answer_of({file: text}, target)
            self.assertGreater(while_imported, 50_000)
            self.assertEqual(then, gc.get_threshold()[0])

    def test_an_import_that_sets_how_often_is_collected_has_its_way(self):
        files = {"load.py": "import gc\ngc.set_threshold(5_000)\ndef f(x): return gc.get_threshold()[0]"}
        self.assertEqual(self.answer_of(files, "load:f"), 5_000)
        files = {"load.py": "import gc\ngc.disable()\ndef f(x): return gc.isenabled()"}
        self.assertEqual(self.answer_of(files, "load:f"), False)

    def test_a_file_imports_the_files_beside_it(self):
        files = {"stages/load.py": "import other\ndef f(x): return other.y", "stages/other.py": "y = 5"}
        self.assertEqual(self.answer_of(files, "stages/load.py:f"), 5)

    def test_a_file_whose_name_is_no_module_name(self):
        files = {"my-stages/load 2.py": "class C: pass\ndef f(x): return (__name__, C.__module__)"}
        self.assertEqual(self.answer_of(files, "my-stages/load 2.py:f"), ("my-stages.load 2",) * 2)
        files = {"v1.2/load.py": "def f(x): return __name__"}
        self.assertEqual(self.answer_of(files, "v1.2/load.py:f"), "load")

    def test_a_file_outside_of_the_folder_goes_by_its_stem(self):
        with tempfile.TemporaryDirectory() as other:
            with open(os.path.join(other, "far.py"), "w") as file:
                file.write("import near\nclass C: pass\ndef f(x): return (__name__, C.__module__, near.y)")
            with open(os.path.join(other, "near.py"), "w") as file:
                file.write("y = 7")
            self.assertEqual(self.answer_of({}, f"{other}/far.py:f"), ("far", "far", 7))

    def test_what_one_stages_file_defines_is_unpickled_in_anothers(self):
        files = {
            "one/make.py": ITEM + "def f(x): return Item(x)",
            "two/use.py": "def f(x): return (type(x).__module__, x.n)",
            "one/use.py": "import make\ndef f(x): return (isinstance(x, make.Item), x.n)",
        }
        with Worker(files, target="one/make.py:f") as worker:
            worker.go().lease([5])
            length = int.from_bytes(worker.answers.take(4), "little")
            body = worker.answers.take(length)[20:]
        for target, expected in [("two/use.py:f", ("one.make", 5)), ("one/use.py:f", (True, 5))]:
            with Worker(files, target=target) as worker:
                worker.go().lease(None, body=body, count=1)
                self.assertEqual(worker.answered(1), [expected])

    def test_what_a_file_outside_of_the_folder_defines_is_unpickled_with_its_folder_on_the_path(self):
        with tempfile.TemporaryDirectory() as other:
            with open(os.path.join(other, "far.py"), "w") as file:
                file.write(ITEM + "def f(x): return Item(x)")
            with Worker({}, target=f"{other}/far.py:f") as worker:
                worker.go().lease([5])
                length = int.from_bytes(worker.answers.take(4), "little")
                body = worker.answers.take(length)[20:]
            with Worker("def f(x): return x.n", path=[other]) as worker:
                worker.go().lease(None, body=body, count=1)
                self.assertEqual(worker.answered(1), [5])

    def test_the_sdk_shadows_nothing(self):
        code = """
            import sys, os
            def f(x):
                main = sys.modules["__main__"]
                return (sys.path[0], getattr(main, "__file__", None), sys.argv, "engine" in sys.modules)
        """
        with Worker(code) as worker:
            worker.go().lease([1])
            (value,) = worker.answered(1)
            self.assertEqual(value, (worker.folder, None, ["tasks:f"], False))

    def test_a_module_named_like_one_of_the_sdks_is_the_users(self):
        files = {"engine.py": "x = 1", "_start.py": "x = 2", "tasks.py": "import _start\ndef f(x): return _start.x"}
        self.assertEqual(self.answer_of(files, "tasks:f"), 2)

    def test_python_safe_path_changes_nothing(self):
        self.assertEqual(self.answer_of("def f(x): return x", "tasks:f", environment={"PYTHONSAFEPATH": "1"}), 1)


class BrokenTargets(unittest.TestCase):
    def broken(self, files, target, **options):
        with Worker(files, target=target, **options) as worker:
            return worker.broken()

    def test_a_missing_module_is_told_with_the_nearest_one(self):
        document = self.broken({"taks.py": ""}, "tasks:f")
        self.assertEqual(document, {"error": "there is no module `tasks`", "traceback": None, "nearest": "taks"})
        document = self.broken({"pkg/tools.py": ""}, "pkg.tool:f")
        self.assertEqual((document["error"], document["nearest"]), ("there is no module `pkg.tool`", "pkg.tools"))

    def test_a_missing_name_is_told_with_the_nearest_one(self):
        document = self.broken("def square(x): pass", "tasks:sqare")
        self.assertEqual(document["error"], "there is no `sqare` in `tasks`")
        self.assertEqual((document["traceback"], document["nearest"]), (None, "tasks:square"))
        document = self.broken("class Tool:\n    def go(self): pass", "tasks:Tool.goo")
        self.assertEqual((document["error"], document["nearest"]), ("there is no `goo` in `tasks:Tool`", "tasks:Tool.go"))
        self.assertIsNone(self.broken("x = 1", "tasks:quite_other")["nearest"])

    def test_a_missing_file_is_told_with_the_nearest_one(self):
        document = self.broken({"stages/load.py": ""}, "stages/laod.py:f")
        self.assertIn("there is no file `stages/laod.py`", document["error"])
        self.assertEqual(document["nearest"], "stages/load.py")

    def test_what_is_not_callable_is_told_by_its_type(self):
        document = self.broken("f = 5", "tasks:f")
        self.assertEqual(document["error"], "`tasks:f` is not callable: it is a `int`")

    def test_an_import_that_raises_is_told_with_the_users_frames(self):
        files = {"tasks.py": "import helper\n", "helper.py": "def g():\n    return 1 / 0\ng()\n"}
        for target in ("tasks:f", "tasks.py:f"):
            document = self.broken(files, target)
            self.assertIn("importing `tasks` failed: ZeroDivisionError: division by zero", document["error"])
            self.assertIn("helper.py", document["traceback"])
            self.assertIn("in g", document["traceback"])
            self.assertNotIn("importlib", document["traceback"])
            self.assertNotIn("_target.py", document["traceback"])

    def test_a_module_that_is_missing_in_the_users_code_is_an_import_that_raises(self):
        document = self.broken("import not_there_at_all", "tasks:f")
        self.assertIn("No module named 'not_there_at_all'", document["error"])
        self.assertIn('tasks.py", line 1', document["traceback"])

    def test_a_syntax_error_is_shown_in_its_line(self):
        document = self.broken("def f(:\n", "tasks:f")
        self.assertIn("SyntaxError", document["error"])
        self.assertIn("def f(:", document["traceback"])

    def test_async_functions_are_refused_in_words(self):
        for code, target in [
            ("async def f(x): return x", "tasks:f"),
            ("async def f(x):\n    yield x", "tasks:f"),
            ("class C:\n    async def __call__(self, x): return x", "tasks:C"),
            ("import functools\nasync def g(x, y): return x\nf = functools.partial(g, 1)", "tasks:f"),
        ]:
            self.assertIn("is an async function", self.broken(code, target)["error"])

    def test_a_class_without_call_is_refused(self):
        self.assertIn("a class without `__call__`", self.broken("class C: pass", "tasks:C")["error"])

    def test_a_class_that_cannot_be_built_is_broken_with_its_traceback(self):
        code = "class C:\n    def __init__(self): raise OSError('no model')\n    def __call__(self, x): pass"
        document = self.broken(code, "tasks:C")
        self.assertEqual(document["error"], "`tasks:C` could not be built: OSError: no model")
        self.assertIn("in __init__", document["traceback"])

    def test_an_initializer_that_raises_is_broken(self):
        document = self.broken("def f(x): pass\ndef g(): 1 / 0", "tasks:f", initializer="tasks:g")
        self.assertIn("the initializer `tasks:g` failed: ZeroDivisionError", document["error"])
        document = self.broken("def f(x): pass", "tasks:f", initializer="tasks:ff")
        self.assertEqual(document["nearest"], "tasks:f")

    def test_a_target_without_a_name_is_refused(self):
        self.assertIn("write `module:callable`", self.broken("", "tasks")["error"])

    def test_sys_exit_while_importing_ends_the_worker_with_its_code(self):
        with Worker("import sys\nsys.exit(9)") as worker:
            self.assertEqual(worker.wait(), 9)


if __name__ == "__main__":
    unittest.main()
