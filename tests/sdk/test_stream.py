"""`stream` mode and sources: the function makes a stream of values."""

import os
import signal
import time
import unittest

from engine import Worker


class Sources(unittest.TestCase):
    def made(self, code, **options):
        with Worker(code, source=True, **options) as worker:
            worker.go()
            values = worker.received()
            self.assertEqual(worker.wait(), 0, worker.printed())
            return values

    def test_a_source_emits_all_that_it_yields(self):
        code = "def f(n):\n    for i in range(n): yield i"
        self.assertEqual(self.made(code, args=[100_000]), list(range(100_000)))

    def test_a_source_that_returns_a_value_emits_it(self):
        self.assertEqual(self.made("def f(): return [1, 2]"), [[1, 2]])
        self.assertEqual(self.made("def f(): return None"), [])
        self.assertEqual(self.made("def f(): return iter([1, 2])"), [1, 2])

    def test_a_source_in_stream_mode_emits_the_elements_of_what_it_returns(self):
        self.assertEqual(self.made("def f(): return range(3)", mode="stream"), [0, 1, 2])

    def test_a_class_is_a_source_too_and_is_closed(self):
        code = """
            class Count:
                def __init__(self, n): self.n = n
                def __call__(self):
                    try:
                        yield from range(self.n)
                    finally:
                        print("generator closed")
                def close(self): print("closed")
        """
        with Worker(code, target="tasks:Count", source=True, kwargs={"n": 5}) as worker:
            worker.go()
            self.assertEqual(worker.received(), [0, 1, 2, 3, 4])
            self.assertEqual(worker.wait(), 0)
            self.assertEqual(worker.printed(), "generator closed\nclosed\n")

    def test_what_a_class_emits_while_it_closes_is_sent(self):
        code = """
            import mpflow
            class C:
                def __call__(self): yield 1
                def close(self): mpflow.emit(2)
        """
        self.assertEqual(self.made(code, target="tasks:C"), [1, 2])

    def test_an_exception_is_an_error_after_what_was_yielded(self):
        code = "def f():\n    yield 1\n    yield 2\n    raise ValueError('no more')"
        with Worker(code, source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), [1, 2])
            document = worker.error()
            self.assertEqual((document["error"], document["type"]), ("no more", "ValueError"))
            self.assertIn("in f", document["traceback"])
            self.assertNotIn("_stream", document["traceback"])
            self.assertEqual(worker.wait(), 1)

    def test_a_value_that_cannot_be_coded_is_an_error_after_those_before_it(self):
        code = "def f():\n    yield from range(1000)\n    yield lambda: 1\n    yield 5"
        with Worker(code, source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), list(range(1000)))
            self.assertIn("`function` cannot go to `stdout` as pickle", worker.error()["error"])
            self.assertEqual(worker.wait(), 1)

    def test_a_users_broken_pipe_is_an_error_and_not_the_end_of_its_output(self):
        with Worker("def f():\n    yield 1\n    raise BrokenPipeError('mine')", source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), [1])
            self.assertEqual(worker.error()["error"], "mine")
            self.assertEqual(worker.wait(), 1)

    def test_sys_exit_sends_what_was_yielded_and_ends_with_its_code(self):
        with Worker("import sys\ndef f():\n    yield 1\n    sys.exit(4)", source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), [1])
            self.assertEqual(worker.wait(), 4)

    def test_nothing_is_called_before_go(self):
        with Worker("def f():\n    print('called')\n    yield 1", source=True) as worker:
            worker.ready()
            self.assertTrue(worker.results["stdout"].is_silent())
            self.assertEqual(worker.printed(), "")


class Promptness(unittest.TestCase):
    STALL = """
        import os
        def f():
            yield from range(100_000)
            os.read(os.open("gate", os.O_RDONLY), 1)
            yield "end"
    """

    def test_a_source_that_stalls_has_its_values_passed_on(self):
        with Worker(self.STALL, source=True) as worker:
            os.mkfifo(os.path.join(worker.folder, "gate"))
            worker.go()
            self.assertEqual(worker.received(100_000), list(range(100_000)))
            with open(os.path.join(worker.folder, "gate"), "wb") as gate:
                gate.write(b"x")
            self.assertEqual(worker.received(), ["end"])

    def test_nothing_is_lost_where_a_gathering_ends_while_its_beginning_is_being_written(self):
        code = """
            import mpflow, time
            def f():
                work, count = mpflow._work, 0
                # In the middle of a gathering that is larger than what follows.
                while len(work._out) < 64:
                    yield count
                    count += 1
                # Longer than a pipe holds, so that the thread that passes them on late stays in its write.
                yield from ("x" * 50_000, "y" * 50_000, "z" * 50_000)
                while not work.is_torn: time.sleep(0.001)
                print("writing")
                yield from range(count, 200_000)
        """
        with Worker(code, source=True) as worker:
            worker.go()
            worker.await_printed("writing")
            values = worker.received()
            self.assertEqual([value[0] for value in values if isinstance(value, str)], ["x", "y", "z"])
            self.assertEqual([value for value in values if isinstance(value, int)], list(range(200_000)))

    def test_a_slow_source_has_each_value_passed_on_at_once(self):
        code = """
            import os
            def f():
                gate = os.open("gate", os.O_RDONLY)
                while os.read(gate, 1):
                    yield "value"
        """
        with Worker(code, source=True) as worker:
            path = os.path.join(worker.folder, "gate")
            os.mkfifo(path)
            worker.go()
            with open(path, "wb", buffering=0) as gate:
                for _ in range(5):
                    gate.write(b"x")
                    self.assertEqual(worker.received(1), ["value"])
            self.assertEqual(worker.received(), [])

    def test_emitted_values_are_passed_on_without_a_yield(self):
        code = """
            import mpflow, os
            def f():
                for i in range(10_000): mpflow.emit(i)
                os.read(os.open("gate", os.O_RDONLY), 1)
        """
        with Worker(code, source=True) as worker:
            path = os.path.join(worker.folder, "gate")
            os.mkfifo(path)
            worker.go()
            self.assertEqual(worker.received(10_000), list(range(10_000)))
            with open(path, "wb") as gate:
                gate.write(b"x")
            self.assertEqual(worker.wait(), 0)

    def test_what_is_passed_on_late_is_neither_lost_nor_sent_twice(self):
        code = """
            import time
            def f():
                n = 0
                for burst in (5000, 1, 20, 3000, 2, 7000, 1, 1):
                    for i in range(burst):
                        yield n
                        n += 1
                    time.sleep(0.012)
        """
        with Worker(code, source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), list(range(5000 + 1 + 20 + 3000 + 2 + 7000 + 2)))

    def test_large_values_do_not_pile_up(self):
        code = """
            def most():
                with open("/proc/self/status") as status:
                    return next(line.split()[1] for line in status if line.startswith("VmHWM"))
            def f():
                for i in range(200): yield "x" * 500_000
                print(most())
        """
        with Worker(code, source=True, form="lines") as worker:
            worker.go()
            self.assertEqual(len(worker.received()), 200)
            worker.wait()
            self.assertLess(int(worker.printed()), 60_000)

    def test_an_idle_worker_uses_no_processor_time(self):
        code = """
            import os
            def f(records):
                for record in records:
                    if record == "time":
                        yield sum(os.times()[:2])
                    else:
                        yield record
        """
        with Worker(code, mode="stream") as worker:
            worker.go()
            for _ in range(20):
                worker.send(list(range(1000)))
                worker.received(1000)
            worker.send(["time"])
            (before,) = worker.received(1)
            deadline = time.monotonic() + 0.5
            self.assertTrue(worker.results["stdout"].is_silent(deadline - time.monotonic()))
            worker.send(["time"])
            (after,) = worker.received(1)
            self.assertLess(after - before, 0.05)


class Filters(unittest.TestCase):
    def test_a_function_is_given_an_iterator_of_records(self):
        with Worker("def f(records, k):\n    for r in records: yield r * k", mode="stream", args=[3]) as worker:
            worker.go().send([1, 2]).send([3])
            self.assertEqual(worker.received(3), [3, 6, 9])
            worker.close()
            self.assertEqual(worker.received(), [])
            self.assertEqual(worker.wait(), 0)

    def test_values_do_not_wait_for_more_input(self):
        with Worker("def f(records):\n    for r in records: yield r", mode="stream") as worker:
            worker.go()
            for count in (1, 1, 10, 500, 4096, 3, 1):
                worker.send(list(range(count)))
                self.assertEqual(worker.received(count), list(range(count)))

    def test_a_function_that_only_reads_is_a_sink(self):
        code = "def f(records):\n    print(sum(records))"
        with Worker(code, mode="stream", outputs={"stdout": {"wanted": False}}) as worker:
            worker.go().send([1, 2, 3]).send([4]).close()
            self.assertEqual(worker.wait(), 0)
            self.assertEqual(worker.printed(), "10\n")

    def test_a_map_over_the_records_is_a_stream_too(self):
        with Worker("def f(records): return map(str, records)", mode="stream") as worker:
            worker.go().send([1, 2]).close()
            self.assertEqual(worker.received(), ["1", "2"])

    def test_a_class_is_given_the_iterator(self):
        code = """
            class Total:
                def __init__(self): self.total = 0
                def __call__(self, records):
                    for r in records:
                        self.total += r
                        yield self.total
                def close(self): print("closed", self.total)
        """
        with Worker(code, target="tasks:Total", mode="stream") as worker:
            worker.go().send([1, 2, 3]).close()
            self.assertEqual(worker.received(), [1, 3, 6])
            self.assertEqual(worker.wait(), 0)
            self.assertEqual(worker.printed(), "closed 6\n")

    def test_one_that_has_had_enough_ends_with_0(self):
        code = "import itertools\ndef f(records): return itertools.islice(records, 2)"
        with Worker(code, mode="stream") as worker:
            worker.go().send([1, 2, 3, 4])
            self.assertEqual(worker.received(), [1, 2])
            self.assertEqual(worker.wait(), 0)

    def test_a_result_that_is_no_stream_is_an_error(self):
        for result in ("5", "'text'", "{}"):
            with Worker(f"def f(records): return {result}", mode="stream") as worker:
                worker.go()
                self.assertIn("a function yields its values or returns an iterable", worker.error()["error"])
                self.assertEqual(worker.wait(), 1)

    def test_a_slice_of_a_chunk_holds_its_own_records_only(self):
        from engine import chunk

        with Worker("def f(records): return records", mode="stream") as worker:
            worker.go().write("stdin", chunk(list(range(10)), skip=3, count=4) + chunk(["x"]))
            self.assertEqual(worker.received(5), [3, 4, 5, 6, "x"])

    def test_an_undecodable_record_is_an_error(self):
        with Worker("def f(records):\n    for r in records: yield r", mode="stream", form="json") as worker:
            worker.go().write("stdin", b'1\n{"a"\n')
            self.assertIn("the record is not JSON", worker.error()["error"])
            self.assertEqual(worker.wait(), 1)

    def test_records_that_come_in_pieces_are_whole(self):
        text = "".join(f"zeile {number} äöü\n" for number in range(300)).encode()
        with Worker("def f(records): return records", mode="stream", form="lines") as worker:
            worker.go()
            for at in range(0, len(text), 7):
                worker.write("stdin", text[at : at + 7])
            worker.close()
            self.assertEqual("\n".join(worker.received()).encode() + b"\n", text)

    def test_a_last_line_without_a_newline_counts(self):
        with Worker("def f(records): return records", mode="stream", form="lines") as worker:
            worker.go().write("stdin", b"a\n\nb")
            worker.close()
            self.assertEqual(worker.received(), ["a", "", "b"])

    def test_a_line_of_ten_megabytes_passes(self):
        with Worker("def f(records):\n    for r in records: yield str(len(r))", mode="stream", form="lines") as worker:
            worker.go().write("stdin", b"x" * 10_000_000 + b"\nshort\n")
            self.assertEqual(worker.received(2), ["10000000", "5"])

    def test_a_further_input_and_further_outputs_are_pipes_of_their_own(self):
        code = """
            import mpflow
            def f(records):
                factors = list(mpflow.input("factors"))
                for r in records:
                    mpflow.emit(r, port="seen")
                    mpflow.emit(r, port="nobody")
                    for k in factors: yield r * k
        """
        ports = {"stdout": {}, "seen": {}, "nobody": {"wanted": False}}
        with Worker(code, mode="stream", inputs=["factors"], outputs=ports) as worker:
            worker.go().send([1, 2])
            worker.send([10, 100], "factors").close("factors").close()
            self.assertEqual(worker.received(), [10, 100, 20, 200])
            self.assertEqual(worker.received(port="seen"), [1, 2])


class ClosedOutputs(unittest.TestCase):
    def test_a_closed_output_ends_it_quietly_as_sigpipe_does(self):
        code = """
            class Endless:
                def __call__(self):
                    try:
                        while True: yield "x" * 100
                    finally:
                        print("generator closed")
                def close(self): print("closed")
        """
        with Worker(code, target="tasks:Endless", source=True) as worker:
            worker.go()
            worker.received(100)
            worker.stop_reading()
            self.assertEqual(worker.wait(), -signal.SIGPIPE)
            self.assertEqual(worker.printed(), "generator closed\nclosed\n")

    def test_no_except_clause_keeps_an_emitter_alive(self):
        code = """
            import mpflow
            def f():
                while True:
                    try:
                        mpflow.emit("x" * 100)
                    except Exception as error:
                        print(error)
        """
        with Worker(code, source=True) as worker:
            worker.go()
            worker.received(100)
            worker.stop_reading()
            self.assertEqual(worker.wait(), -signal.SIGPIPE)
            self.assertEqual(worker.printed(), "")

    def test_an_output_that_is_still_read_keeps_it_alive(self):
        code = """
            import mpflow
            def f(records):
                for r in records:
                    mpflow.emit(r, port="links")
                    yield r
        """
        with Worker(code, mode="stream", outputs={"stdout": {}, "links": {}}) as worker:
            worker.go().send([1])
            self.assertEqual((worker.received(1), worker.received(1, "links")), ([1], [1]))
            worker.stop_reading("links")
            worker.send([2])
            worker.received(1)
            worker.send([3])
            self.assertEqual(worker.received(1), [3])
            worker.stop_reading()
            worker.send([4])
            self.assertEqual(worker.wait(), -signal.SIGPIPE)

    def test_an_interrupt_closes_the_generator_and_the_class(self):
        code = """
            import time
            class C:
                def __call__(self):
                    try:
                        while True:
                            yield 1
                            time.sleep(0.001)
                    finally:
                        print("generator closed")
                def close(self): print("closed")
        """
        with Worker(code, target="tasks:C", source=True) as worker:
            worker.go()
            worker.received(3)
            worker.signal(signal.SIGINT)
            self.assertEqual(worker.wait(), -2)
            self.assertEqual(worker.printed(), "generator closed\nclosed\n")


if __name__ == "__main__":
    unittest.main()
