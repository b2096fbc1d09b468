"""`map` mode: a function is called for each record, and each record is answered."""

import os
import signal
import time
import unittest

from engine import ABOUT, DONE, FAILED, PART, Ended, Worker


class Calls(unittest.TestCase):
    def results(self, code, records, **options):
        with Worker(code, **options) as worker:
            worker.go().lease(records)
            values = worker.answered(len(records))
            worker.close()
            self.assertEqual(worker.wait(), 0, worker.printed())
            return values

    def test_a_function_is_called_once_for_each_record(self):
        self.assertEqual(self.results("def f(x): return x * 2", [1, 2, 3]), [2, 4, 6])

    def test_none_emits_nothing(self):
        self.assertEqual(self.results("def f(x): return x if x % 2 else None", list(range(10))), [1, 3, 5, 7, 9])

    def test_a_generator_emits_each_value_it_yields(self):
        code = "def f(x):\n    for i in range(x): yield (x, i)"
        self.assertEqual(self.results(code, [0, 1, 0, 2]), [(1, 0), (2, 0), (2, 1)])

    def test_a_generator_may_yield_none(self):
        self.assertEqual(self.results("def f(x):\n    yield None\n    yield x", [1]), [None, 1])

    def test_a_plain_function_may_return_a_generator_for_some_records(self):
        code = "def f(x): return (i for i in range(x)) if x % 2 else None if x == 4 else x"
        self.assertEqual(self.results(code, [2, 3, 4, 5, 6]), [2, 0, 1, 2, 0, 1, 2, 3, 4, 6])

    def test_an_iterator_is_emitted_value_by_value_and_a_list_is_one_value(self):
        self.assertEqual(self.results("def f(x): return map(str, x)", [[1, 2], [3]]), ["1", "2", "3"])
        self.assertEqual(self.results("def f(x): return [x, x]", [1, 2]), [[1, 1], [2, 2]])

    def test_fixed_arguments_follow_the_record(self):
        code = "def f(x, a, b, c=0): return (x, a, b, c)"
        self.assertEqual(self.results(code, [1, 2], args=[5, 6], kwargs={"c": 7}), [(1, 5, 6, 7), (2, 5, 6, 7)])

    def test_unpack_makes_positional_and_keyword_arguments(self):
        code = "def f(a, b, c=3, *, d=4): return (a, b, c, d)"
        records = [[1, 2], {"a": 1, "b": 2, "d": 9}, (5, 6, 7)]
        self.assertEqual(self.results(code, records, unpack=True), [(1, 2, 3, 4), (1, 2, 3, 9), (5, 6, 7, 4)])

    def test_unpack_adds_the_fixed_arguments(self):
        code = "def f(a, b, c, d): return (a, b, c, d)"
        self.assertEqual(self.results(code, [[1, 2]], unpack=True, args=[3], kwargs={"d": 4}), [(1, 2, 3, 4)])

    def test_unpack_of_a_record_that_is_neither_list_nor_map_fails_it(self):
        with Worker("def f(a): return a", unpack=True) as worker:
            worker.go().lease([5])
            self.assertIn("`unpack` needs a list or a map", worker.failed()["error"])

    def test_a_class_is_built_once_and_called_for_each_record_and_closed(self):
        code = """
            class Sum:
                def __init__(self, start, step=1):
                    print("built", flush=True)
                    self.total, self.step = start, step
                def __call__(self, x):
                    self.total += x * self.step
                    return self.total
                def close(self):
                    print("closed with", self.total)
        """
        with Worker(code, target="tasks:Sum", args=[100], kwargs={"step": 2}) as worker:
            worker.go().lease([1, 2]).lease([3])
            self.assertEqual(worker.answered(3), [102, 106, 112])
            worker.close()
            self.assertEqual(worker.wait(), 0)
            self.assertEqual(worker.printed(), "built\nclosed with 112\n")

    def test_a_class_whose_call_is_a_generator_emits_each_value(self):
        code = """
            class Twice:
                def __call__(self, x):
                    yield x
                    yield x
        """
        self.assertEqual(self.results(code, [1, 2], target="tasks:Twice"), [1, 1, 2, 2])

    def test_methods_and_partials_and_builtin_types_can_be_called(self):
        code = """
            import functools
            class Tool:
                def double(self, x): return 2 * x
                @staticmethod
                def triple(x): return 3 * x
                @classmethod
                def name(cls, x): return cls.__name__ + str(x)
            double = Tool().double
            add = functools.partial(lambda a, b: a + b, 10)
        """
        for target, expected in [("double", 10), ("Tool.triple", 15), ("Tool.name", "Tool5"), ("add", 15)]:
            self.assertEqual(self.results(code, [5], target=f"tasks:{target}"), [expected])
        self.assertEqual(self.results(code, [5.5], target="builtins:int"), [5])
        self.assertEqual(self.results(code, [9.0], target="math:sqrt"), [3.0])

    def test_the_initializer_runs_once_before_the_first_record(self):
        code = "n = 0\ndef start():\n    global n\n    n += 1\ndef f(x): return n"
        self.assertEqual(self.results(code, [1, 2], initializer="tasks:start"), [1, 1])

    def test_a_batch_is_given_as_a_list_and_what_is_returned_is_one_result(self):
        with Worker("def f(xs): return sum(xs)", batch={"size": 3}) as worker:
            worker.go().lease([1, 2, 3]).lease([4])
            self.assertEqual(worker.answer(), (DONE, 3, {"stdout": [6]}))
            self.assertEqual(worker.answer(), (DONE, 1, {"stdout": [4]}))

    def test_what_a_batch_yields_are_several_results(self):
        with Worker("def f(xs, k):\n    for x in xs: yield x * k", batch={"size": 3}, args=[10]) as worker:
            worker.go().lease([1, 2, 3])
            self.assertEqual(worker.answer(), (DONE, 3, {"stdout": [10, 20, 30]}))

    def test_an_exception_fails_the_whole_batch(self):
        with Worker("def f(xs): return 1 / min(xs)", batch={"size": 3}) as worker:
            worker.go().lease([1, 0]).lease([2])
            document = worker.failed()
            self.assertEqual((document["type"], document["record"]), ("ZeroDivisionError", [1, 0]))
            self.assertEqual(worker.answer(), (DONE, 1, {"stdout": [0.5]}))

    def test_many_records_are_answered_once_each_and_in_order(self):
        count = 50_000
        with Worker("def f(x): return x + 1") as worker:
            worker.go()
            for start in range(0, count, 2500):
                worker.lease(list(range(start, start + 2500)))
                self.assertEqual(worker.answered(2500), list(range(start + 1, start + 2501)))

    def test_no_chunk_holds_more_records_than_the_port_takes(self):
        # The harness asserts it for each chunk.
        with Worker("def f(x): return x", outputs={"stdout": {"block_records": 7}}) as worker:
            worker.go()
            for _ in range(5):
                worker.lease(list(range(500)))
                self.assertEqual(worker.answered(500), list(range(500)))

    def test_results_that_nobody_reads_are_not_sent(self):
        with Worker("def f(x): return x", outputs={"stdout": {"wanted": False}}) as worker:
            worker.go().lease([1, 2, 3])
            self.assertEqual(worker.answered(3), [])

    def test_what_is_unwanted_need_not_even_have_a_form(self):
        with Worker("def f(x): return lambda: x", outputs={"stdout": {"wanted": False}}) as worker:
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [])


class Failures(unittest.TestCase):
    def test_an_exception_fails_its_record_and_no_other(self):
        with Worker("def f(x): return 10 // x") as worker:
            worker.go().lease([5, 0, 2, 0])
            self.assertEqual(worker.answered(1), [2])
            document = worker.failed()
            # Python 3.14 says "division by zero", those before it more.
            self.assertIn("by zero", document["error"])
            self.assertEqual((document["type"], document["record"]), ("ZeroDivisionError", 0))
            self.assertEqual(worker.answered(1), [5])
            worker.failed()
            worker.lease([1])
            self.assertEqual(worker.answered(1), [10])

    def test_the_one_failure_within_a_thousand_is_told_by_its_record(self):
        with Worker("def f(x): return 1 if x != 777 else 1 // 0") as worker:
            worker.go().lease(list(range(1000)))
            self.assertEqual(len(worker.answered(777)), 777)
            self.assertEqual(worker.failed()["record"], 777)
            self.assertEqual(len(worker.answered(222)), 222)

    def test_a_traceback_holds_the_users_frames_only_and_the_causes(self):
        code = """
            def inner(x):
                return x["missing"]
            def f(x):
                try:
                    inner(x)
                except KeyError as error:
                    raise ValueError("outer") from error
        """
        with Worker(code) as worker:
            worker.go().lease([{"a": 1}])
            text = worker.failed()["traceback"]
        self.assertIn("in inner", text)
        self.assertIn("The above exception was the direct cause", text)
        self.assertTrue(text.rstrip().endswith("ValueError: outer"), text)
        self.assertNotIn("_map.py", text)

    def test_an_error_of_the_users_own_goes_by_its_whole_name(self):
        with Worker("class Odd(Exception): pass\ndef f(x): raise Odd()") as worker:
            worker.go().lease([1])
            document = worker.failed()
            self.assertEqual((document["type"], document["error"]), ("tasks.Odd", "Odd"))

    def test_an_exception_that_cannot_be_shown_still_fails_its_record(self):
        code = """
            class Bad(Exception):
                def __str__(self): raise RuntimeError("no")
            class Rude:
                def __repr__(self): raise RuntimeError("no")
                def __reduce__(self): return (Rude, ())
            def f(x): raise Bad()
        """
        with Worker(code) as worker:
            worker.go().lease([1])
            self.assertEqual(worker.failed()["type"], "tasks.Bad")

    def test_an_exception_with_surrogates_in_it_can_be_told(self):
        with Worker("def f(x): raise ValueError('\\udc80' + x)", form="lines") as worker:
            worker.go().lease(["\udcff"])
            self.assertEqual(worker.failed()["error"], "??")

    def test_stop_iteration_fails_its_record_instead_of_ending_the_block(self):
        with Worker("def f(x): return next(iter(x))") as worker:
            worker.go().lease([[1], [], [2]])
            self.assertEqual(worker.answered(1), [1])
            self.assertEqual(worker.failed()["type"], "StopIteration")
            self.assertEqual(worker.answered(1), [2])

    def test_a_generator_that_raises_fails_its_record_with_what_it_had_yielded(self):
        with Worker("def f(x):\n    yield x\n    yield 1 // x") as worker:
            worker.go().lease([1, 0, 2])
            self.assertEqual(worker.answered(1), [1, 1])
            self.assertEqual(worker.failed()["record"], 0)
            self.assertEqual(worker.answered(1), [2, 0])

    def test_a_returned_generator_that_raises_fails_its_own_record(self):
        code = "def g(x):\n    yield 1 // x\ndef f(x): return g(x) if x < 5 else x"
        with Worker(code) as worker:
            worker.go().lease([7, 1, 0, 9, 0])
            self.assertEqual(worker.answered(2), [7, 1])
            self.assertEqual(worker.failed()["record"], 0)
            self.assertEqual(worker.answered(1), [9])
            self.assertEqual(worker.failed()["record"], 0)

    def test_a_coroutine_as_a_result_fails_its_record(self):
        with Worker("async def g(x): return x\ndef f(x): return g(x)") as worker:
            worker.go().lease([1])
            self.assertIn("not async ones", worker.failed()["error"])

    def test_a_result_that_cannot_be_coded_fails_its_record_by_its_type(self):
        with Worker("def f(x): return x if x != 3 else (lambda: x)") as worker:
            worker.go()
            worker.lease([1])
            self.assertEqual(worker.answered(1), [1])
            worker.lease([1, 2, 3, 4, 5])
            values, failed, left = [], [], 5
            while left:
                kind, *rest = worker.answer()
                if kind == FAILED:
                    failed.append(rest[0])
                    left -= 1
                else:
                    left -= rest[0]
                    values += rest[1]["stdout"]
            self.assertEqual(values, [1, 2, 4, 5])
            (document,) = failed
            self.assertEqual((document["type"], document["record"]), ("Uncodable", 3))
            self.assertIn("`function` cannot go to `stdout` as pickle", document["error"])

    def test_a_record_that_cannot_be_decoded_fails_and_the_others_do_not(self):
        with Worker("def f(x): return x", form="json") as worker:
            worker.go().lease(None, body=b'1\n{"a":\n[2]\nnope\n3 4\n', count=5)
            self.assertEqual(worker.answered(1), [1])
            document = worker.failed()
            self.assertEqual((document["type"], document["record"]), ("Undecodable", '{"a":'))
            self.assertEqual(worker.answered(1), [[2]])
            self.assertEqual(worker.failed()["record"], "nope")
            self.assertIn("extra text", worker.failed()["error"])

    def test_a_pickle_of_an_unknown_class_fails_its_records(self):
        body = b"\x80\x05\x95\x14\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x06nowher\x94\x8c\x01C\x94\x93\x94e."
        from engine import chunk

        with Worker("def f(x): return x") as worker:
            worker.go().lease(None, body=chunk(None, body=body, count=1) + chunk([5]), count=2)
            self.assertEqual(worker.failed()["type"], "ModuleNotFoundError")
            self.assertEqual(worker.answered(1), [5])

    def test_a_huge_record_is_shown_cut(self):
        with Worker("def f(x): raise ValueError") as worker:
            worker.go().lease(["x" * 1_000_000, list(range(1_000_000)), b"\xff" * 100_000])
            for _ in range(3):
                self.assertLess(len(worker.failed()["record"]), 20_000)


class Promptness(unittest.TestCase):
    def test_a_slow_record_does_not_hold_back_the_results_before_it(self):
        code = """
            import os
            def f(x):
                if x == "wait":
                    os.read(os.open("gate", os.O_RDONLY), 1)
                return x
        """
        with Worker(code) as worker:
            os.mkfifo(os.path.join(worker.folder, "gate"))
            worker.go()
            for _ in range(20):
                # Until slices are large.
                worker.lease(list(range(1000)))
                worker.answered(1000)
            worker.lease([*range(500), "wait", *range(500)])
            self.assertEqual(worker.answered(500), list(range(500)))
            with open(os.path.join(worker.folder, "gate"), "wb") as gate:
                gate.write(b"x")
            self.assertEqual(worker.answered(501), ["wait", *range(500)])

    def test_after_a_crash_the_guilty_record_is_the_oldest_unanswered(self):
        code = """
            import os, time
            def f(x):
                if x == "die":
                    time.sleep(0.2)
                    os.kill(os.getpid(), 9)
                return x
        """
        with Worker(code) as worker:
            worker.go()
            for _ in range(20):
                worker.lease(list(range(1000)))
                worker.answered(1000)
            worker.lease([*range(500), "die", *range(500)])
            self.assertEqual(worker.answered(500), list(range(500)))
            with self.assertRaises(Ended):
                worker.answer()
            self.assertEqual(worker.wait(), -9)

    def test_a_record_that_comes_alone_is_described_first(self):
        with Worker("import os\ndef f(x): os._exit(7) if x['n'] else None") as worker:
            worker.go().lease([{"n": 0}], alone=True, attempt=2)
            self.assertEqual(worker.answer(), (ABOUT, {"n": 0}))
            self.assertEqual(worker.answered(1), [])
            worker.lease([{"n": 1}], alone=True, attempt=2)
            self.assertEqual(worker.answer(), (ABOUT, {"n": 1}))
            self.assertEqual(worker.wait(), 7)

    def test_sys_exit_answers_what_was_done_and_ends_with_its_code(self):
        with Worker("import sys\ndef f(x): return x if x < 3 else sys.exit(5)") as worker:
            worker.go().lease([1, 2, 3, 4])
            self.assertEqual(worker.answered(2), [1, 2])
            self.assertEqual(worker.wait(), 5)
            with self.assertRaises(Ended):
                worker.answer()

    def test_a_million_values_of_one_record_come_in_parts(self):
        with Worker("def f(x):\n    for i in range(x): yield i") as worker:
            worker.go().lease([10, 1_000_000, 3])
            self.assertEqual(worker.answered(1), list(range(10)))
            values, parts = [], 0
            while True:
                kind, records, outputs = worker.answer()
                values += outputs["stdout"]
                if kind == DONE:
                    break
                parts += 1
            self.assertGreater(parts, 3)
            self.assertEqual(values[:1_000_000], list(range(1_000_000)))
            left = values[1_000_000:] or worker.answered(1)
            self.assertEqual(left, [0, 1, 2])

    def test_large_values_of_one_record_come_in_parts_so_that_memory_is_bounded(self):
        code = """
            def most():
                with open("/proc/self/status") as status:
                    return next(line.split()[1] for line in status if line.startswith("VmHWM"))
            def f(x):
                for i in range(300):
                    yield str(i) * (500_000 // len(str(i)))
                print(most())
        """
        with Worker(code, form="lines") as worker:
            worker.go().lease(["x"])
            count = 0
            while True:
                kind, _, outputs = worker.answer()
                count += len(outputs.get("stdout", []))
                if kind == DONE:
                    break
            self.assertEqual(count, 300)
            worker.close()
            worker.wait()
            self.assertLess(int(worker.printed()), 70_000)

    def test_parts_of_a_record_that_fails_are_followed_by_failed(self):
        with Worker("def f(x):\n    yield from range(500_000)\n    1 / 0") as worker:
            worker.go().lease([1])
            kinds = []
            while not kinds or kinds[-1] == PART:
                kinds.append(worker.answer()[0])
            self.assertEqual(kinds[-1], FAILED)
            self.assertGreater(len(kinds), 1)

    def test_a_worker_that_idles_uses_no_time_and_no_thread_without_need(self):
        code = "import os\ndef f(x): return len(os.listdir('/proc/self/task'))"
        with Worker(code) as worker:
            worker.go()
            for _ in range(5):
                worker.lease([1])
                self.assertEqual(worker.answered(1), [1])

    def test_the_end_of_input_ends_the_worker(self):
        with Worker("def f(x): return x") as worker:
            worker.go().close()
            self.assertEqual(worker.wait(), 0)
            self.assertEqual(worker.printed(), "")

    def test_a_frame_that_comes_in_pieces_is_one_frame(self):
        import struct

        from engine import chunk

        body = chunk(["x" * 3_000_000, "y"])
        data = struct.pack("<IBBHII", 12 + len(body), 1, 0, 0, 2, 1) + body
        with Worker("def f(x): return len(x)") as worker:
            worker.go()
            for start, stop in [(0, 3), (3, 9), (9, 20), (20, 60_000), (60_000, len(data))]:
                worker.write("stdin", data[start:stop])
            self.assertEqual(worker.answered(2), [3_000_000, 1])
            # And small ones thereafter.
            worker.lease(["abc"])
            self.assertEqual(worker.answered(1), [3])


class Ports(unittest.TestCase):
    PORTS = {"stdout": {}, "links": {}, "nobody": {"wanted": False}}

    def test_what_is_emitted_belongs_to_the_results_of_its_record(self):
        code = """
            import mpflow
            def f(x):
                mpflow.emit(x * 10, port="links")
                mpflow.emit(x * 100, "links")
                mpflow.emit("dropped", port="nobody")
                return x
        """
        with Worker(code, outputs=self.PORTS) as worker:
            worker.go().lease([1])
            self.assertEqual(worker.answer(), (DONE, 1, {"stdout": [1], "links": [10, 100]}))
            worker.lease([2, 3])
            links = []
            for _ in range(2):
                kind, count, outputs = worker.answer()
                links += outputs["links"]
                if count == 2:
                    break
            self.assertEqual(links, [20, 200, 30, 300])

    def test_what_a_failed_record_has_emitted_is_dropped(self):
        code = """
            import mpflow
            def f(x):
                mpflow.emit(x, port="links")
                return 1 // x
        """
        with Worker(code, outputs=self.PORTS) as worker:
            worker.go().lease([1, 0, 2, 0, 3])
            links, failed, left = [], 0, 5
            while left:
                kind, *rest = worker.answer()
                if kind == FAILED:
                    failed += 1
                    left -= 1
                else:
                    left -= rest[0]
                    links += rest[1].get("links", [])
            self.assertEqual((links, failed), ([1, 2, 3], 2))

    def test_values_emitted_to_stdout_go_before_what_is_returned(self):
        code = """
            import mpflow
            def f(x):
                if x % 2: mpflow.emit(-x)
                return x if x != 3 else None
        """
        with Worker(code) as worker:
            worker.go()
            expected = [-1, 1, 2, -3, 4, -5, 5, 6, -7, 7]
            for _ in range(10):
                worker.lease([1, 2, 3, 4, 5, 6, 7])
                self.assertEqual(worker.answered(7), expected)

    def test_emitting_works_between_generators_of_a_plain_function(self):
        code = """
            import mpflow
            def g(x):
                mpflow.emit(("g", x), port="links")
                yield x
            def f(x):
                mpflow.emit(("f", x), port="links")
                return g(x) if x > 2 else x
        """
        with Worker(code, outputs=self.PORTS) as worker:
            worker.go()
            worker.lease([1])
            worker.answered(1)
            worker.lease([1, 2])
            worker.answered(2)
            worker.lease([1, 2, 3, 4, 5])
            links, values, left = [], [], 5
            while left:
                _, count, outputs = worker.answer()
                left -= count
                links += outputs["links"]
                values += outputs["stdout"]
            self.assertEqual(values, [1, 2, 3, 4, 5])
            want = [("f", 1), ("f", 2), ("f", 3), ("g", 3), ("f", 4), ("g", 4), ("f", 5), ("g", 5)]
            self.assertEqual(links, want)

    def test_an_unknown_port_is_an_error_with_the_nearest_name(self):
        with Worker("import mpflow\ndef f(x): mpflow.emit(x, port='link')", outputs=self.PORTS) as worker:
            worker.go().lease([1])
            document = worker.failed()
            self.assertEqual(document["error"], "there is no output port `link`: did you mean `links`?")
            self.assertNotIn("mpflow/__init__", document["traceback"])

    def test_a_million_emitted_values_come_in_parts(self):
        code = """
            import mpflow
            def f(x):
                for i in range(x): mpflow.emit(i, port="links")
        """
        with Worker(code, outputs=self.PORTS) as worker:
            worker.go().lease([200_000])
            links, parts = [], 0
            while True:
                kind, _, outputs = worker.answer()
                links += outputs.get("links", [])
                if kind == DONE:
                    break
                parts += 1
            self.assertEqual(links, list(range(200_000)))
            self.assertGreater(parts, 1)

    def test_a_further_input_is_read_by_name(self):
        code = """
            import mpflow
            table = {}
            def f(x):
                for key, value in mpflow.input("table"):
                    table[key] = value
                return table[x]
        """
        with Worker(code, inputs=["table"]) as worker:
            worker.go().lease(["a", "b"])
            worker.send([("a", 1)], "table").send([("b", 2)], "table")
            worker.close("table")
            self.assertEqual(worker.answered(2), [1, 2])

    def test_results_do_not_wait_for_a_further_input(self):
        code = "import mpflow\ndef f(x): return x if x else next(mpflow.input('more'))"
        with Worker(code, inputs=["more"]) as worker:
            worker.go()
            for _ in range(10):
                worker.lease([1] * 100)
                worker.answered(100)
            worker.lease([1, 2, 0, 3])
            self.assertEqual(worker.answered(2), [1, 2])
            worker.send([10], "more")
            self.assertEqual(worker.answered(2), [10, 3])

    def test_the_leased_input_and_unknown_ones_are_errors(self):
        with Worker("import mpflow\ndef f(x): return mpflow.input(x)", inputs=["table"]) as worker:
            worker.go().lease(["stdin", "tabel", "zzz"])
            self.assertIn("come as calls", worker.failed()["error"])
            self.assertIn("did you mean `table`?", worker.failed()["error"])
            self.assertIn("there is `stdin`, `table`", worker.failed()["error"])


class Ends(unittest.TestCase):
    def test_an_interrupt_closes_and_ends_as_killed_by_it_without_a_traceback(self):
        code = """
            import time
            class C:
                def __call__(self, x):
                    print("working")
                    time.sleep(60)
                def close(self):
                    print("closed")
        """
        with Worker(code, target="tasks:C") as worker:
            worker.go().lease([1])
            worker.await_printed("working")
            worker.signal(signal.SIGINT)
            self.assertEqual(worker.wait(), -2)
            self.assertEqual(worker.printed(), "working\nclosed\n")

    def test_an_interrupt_while_idle_ends_it_as_well(self):
        with Worker("class C:\n    def __call__(self, x): return x\n    def close(self): print('closed')",
                    target="tasks:C") as worker:  # fmt: skip
            worker.go().lease([1])
            worker.answered(1)
            worker.signal(signal.SIGINT)
            self.assertEqual(worker.wait(), -2)
            self.assertEqual(worker.printed(), "closed\n")

    def test_a_second_interrupt_prints_no_traceback_either(self):
        code = """
            import time
            class C:
                def __call__(self, x): time.sleep(60)
                def close(self):
                    print("closing")
                    time.sleep(60)
        """
        with Worker(code, target="tasks:C") as worker:
            worker.go().lease([1])
            while worker.process.poll() is None and "closing" not in worker.printed():
                worker.signal(signal.SIGINT)
                time.sleep(0.02)
            worker.signal(signal.SIGINT)
            self.assertEqual(worker.wait(), -2)
            self.assertNotIn("Traceback", worker.printed())

    def test_the_engines_end_is_the_workers(self):
        with Worker("def f(x): return x") as worker:
            worker.go().lease([1])
            worker.answered(1)
            worker.control.close()
            self.assertEqual(worker.wait(), 1)
            self.assertEqual(worker.printed(), "")

    def test_a_close_that_raises_is_told_and_ends_with_1(self):
        with Worker("class C:\n    def __call__(self, x): return x\n    def close(self): 1 / 0",
                    target="tasks:C") as worker:  # fmt: skip
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [1])
            worker.close()
            self.assertEqual(worker.wait(), 1)
            self.assertIn("ZeroDivisionError", worker.printed())

    def test_emitting_while_closing_is_an_error_since_no_record_is_there(self):
        code = """
            import mpflow
            class C:
                def __call__(self, x): return x
                def close(self): mpflow.emit(1)
        """
        with Worker(code, target="tasks:C") as worker:
            worker.go().close()
            self.assertEqual(worker.wait(), 1)
            self.assertIn("a value belongs to a record", worker.printed())


if __name__ == "__main__":
    unittest.main()
