"""What kind of process a worker is: its log, its children, its descriptors, what `mpflow` tells it."""

import multiprocessing.connection
import os
import subprocess
import sys
import unittest

from engine import SDK, Worker


class Logs(unittest.TestCase):
    def test_what_is_printed_is_log_and_comes_line_by_line(self):
        with Worker("import time\ndef f(x):\n    print('line', x)\n    time.sleep(60)") as worker:
            worker.go().lease([1])
            worker.await_printed("line 1\n")

    def test_what_no_encoding_can_say_is_printed_all_the_same(self):
        with Worker("def f(x): print('\\ud800 ' + x)", environment={"PYTHONIOENCODING": "ascii"}) as worker:
            worker.go().lease(["ä"])
            worker.answered(1)
            self.assertEqual(worker.await_printed("\n"), "\\ud800 \\xe4\n")

    def test_a_worker_started_by_hand_says_what_it_is(self):
        done = subprocess.run([sys.executable, os.path.join(SDK, "__main__.py"), "a:b"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("a Python worker of mpflow", done.stderr)

    def test_the_sdks_folder_itself_can_be_started_too(self):
        with Worker("def f(x): return x", start=False) as worker:
            worker.process = subprocess.Popen(
                [worker.python, SDK, "tasks:f"], env=worker.environment, pass_fds=worker.theirs, cwd=worker.folder
            )
            worker.let_go()
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [1])


class Knowledge(unittest.TestCase):
    def test_a_worker_knows_its_name_rank_pool_stage_and_pid(self):
        code = """
            from mpflow import worker
            def f(x): return (worker.name, worker.rank, worker.pool, worker.stage, worker.pid)
        """
        with Worker(code) as worker:
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [("f/2", 2, 3, "f", worker.process.pid)])

    def test_ready_writes_a_line_where_somebody_waits_for_it(self):
        reading, writing = os.pipe()
        with Worker("import mpflow\ndef f(x): mpflow.ready()", start=False) as worker:
            worker.environment["MPFLOW_NOTIFY"] = str(writing)
            worker.theirs.append(writing)
            worker.start()
            worker.go().lease([1])
            worker.answered(1)
            self.assertEqual(os.read(reading, 100), b"ready\n")
        os.close(reading)
        with Worker("import mpflow\ndef f(x): mpflow.ready()") as worker:
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [])

    def test_a_duplex_pipe_is_a_connection_of_multiprocessing(self):
        code = """
            import mpflow
            def f(x):
                connection = mpflow.connection("other")
                assert connection is mpflow.connection("other")
                connection.send([x])
                return connection.recv()
        """
        with Worker(code, connections=["other"]) as worker:
            worker.go().lease([1])
            peer = multiprocessing.connection.Connection(os.dup(worker.peers["other"].fileno()))
            self.assertEqual(peer.recv(), [1])
            peer.send({"a": 2})
            self.assertEqual(worker.answered(1), [{"a": 2}])
            peer.close()

    def test_an_unknown_duplex_pipe_is_an_error_with_the_nearest_name(self):
        with Worker("import mpflow\ndef f(x): mpflow.connection('othr')", connections=["other"]) as worker:
            worker.go().lease([1])
            self.assertIn("did you mean `other`?", worker.failed()["error"])

    def test_outside_of_a_pipeline_the_functions_say_so(self):
        sys.path.insert(0, SDK)
        import mpflow

        for call in (lambda: mpflow.emit(1), lambda: mpflow.input("x"), lambda: mpflow.connection("x")):
            with self.assertRaisesRegex(RuntimeError, "not a worker of a pipeline"):
                call()
        mpflow.ready()
        self.assertEqual((mpflow.worker.rank, mpflow.worker.pool, mpflow.worker.pid), (0, 1, os.getpid()))
        self.assertEqual(mpflow.Ext(1, b"").code, 1)


class Children(unittest.TestCase):
    def test_no_process_that_a_worker_starts_holds_its_pipes(self):
        code = """
            import os, subprocess
            def f(x):
                own = sorted(os.listdir("/proc/self/fd"))
                child = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
                return child.stdout.split()
        """
        with Worker(code, connections=["other"]) as worker:
            worker.go().lease([1])
            (seen,) = worker.answered(1)
            # Its three standard ones and the folder that `ls` reads.
            self.assertEqual(len(seen), 4, seen)

    def test_a_child_that_is_forked_holds_no_pipes_and_cannot_emit(self):
        code = """
            import multiprocessing, mpflow
            def child(connection):
                try:
                    mpflow.emit(1)
                except RuntimeError as error:
                    connection.send(str(error))
            def f(x):
                context = multiprocessing.get_context("fork")
                mine, its = context.Pipe()
                process = context.Process(target=child, args=(its,))
                process.start()
                answer = mine.recv()
                process.join()
                return answer
        """
        with Worker(code) as worker:
            worker.go().lease([1])
            self.assertIn("forked by a worker", worker.answered(1)[0])
            worker.lease([1])
            self.assertEqual(len(worker.answered(1)), 1)

    def test_children_of_multiprocessing_are_spawned_with_the_pipelines_modules(self):
        code = """
            import multiprocessing
            import mpflow
            def double(x): return 2 * x
            def f(xs):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return pool.map(double, xs)
        """
        with Worker(code) as worker:
            worker.go().lease([[1, 2]])
            self.assertEqual(worker.answered(1), [[2, 4]])

    def test_a_daemons_workers_may_not_have_children(self):
        for early in ("import multiprocessing", "pass"):
            code = f"""
                {early}
                def g(): pass
                def f(x):
                    import multiprocessing
                    multiprocessing.Process(target=g).start()
            """
            with Worker(code, daemon=True) as worker:
                worker.go().lease([1])
                document = worker.failed()
                self.assertEqual(document["error"], "daemonic processes are not allowed to have children")
                self.assertEqual(document["type"], "AssertionError")

    def test_threads_of_the_user_may_emit_in_a_stream(self):
        code = """
            import threading, mpflow
            def work(n):
                for i in range(1000): mpflow.emit((n, i))
            def f():
                threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
        """
        with Worker(code, source=True) as worker:
            worker.go()
            values = worker.received()
            self.assertEqual(sorted(values), [(n, i) for n in range(4) for i in range(1000)])


class Imports(unittest.TestCase):
    def test_a_worker_imports_next_to_nothing_by_itself(self):
        code = "import sys\ndef f(x): return sorted(sys.modules)"
        with Worker(code, form="json", arguments=["-S"]) as worker:
            worker.go().lease([1])
            (names,) = worker.answered(1)
            for costly in ("json", "socket", "pickle", "traceback", "inspect", "threading", "typing", "re", "enum",
                           "signal", "subprocess", "multiprocessing", "difflib", "runpy", "collections"):  # fmt: skip
                self.assertNotIn(costly, names)


if __name__ == "__main__":
    unittest.main()
