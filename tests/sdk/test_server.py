"""The fork server: workers that are forked are as independent as any other."""

import json
import os
import signal
import time
import unittest

from engine import FILES, PATIENCE, Adopted, Ended, ForkServer, Worker

TASKS = {"tasks.py": "import os\nprint('imported')\nimported = os.getpid()\ndef f(x): return (x, os.getpid(), imported)"}


def until(look):
    """Waits until `look` finds something, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def has_taken_the_request(server):
    """The server has a file in memory only between a request and its answer."""
    folder = f"/proc/{server.process.pid}/fd"
    return any("memfd:request" in os.readlink(f"{folder}/{number}") for number in os.listdir(folder))


def worker_of(server, code="", **options):
    files = {"tasks.py": code} if code else {}
    return Worker(files, folder=server.folder, start=False, **options)


class Forking(unittest.TestCase):
    def test_a_worker_of_fork_has_the_target_that_the_server_has_imported(self):
        with ForkServer(TASKS, target="tasks:f") as server:
            self.assertEqual(server.hear(), {"ready": {"threads": 0, "modules": []}})
            pids = set()
            for _ in range(3):
                with worker_of(server) as worker:
                    server.start(worker).go().lease([1])
                    self.assertEqual(worker.answered(1), [(1, worker.process.pid, server.process.pid)])
                    worker.close()
                    self.assertEqual(worker.wait(), 0)
                    self.assertEqual(worker.printed(), "")
                    pids.add(worker.process.pid)
            self.assertEqual(len(pids), 3)

    def test_a_worker_of_forkserver_imports_its_target_itself(self):
        with ForkServer({"heavy.py": "import os\npid = os.getpid()"}, preload=["heavy"]) as server:
            server.hear()
            code = "import os, heavy\nmine = os.getpid()\ndef f(x): return (heavy.pid, mine)"
            with worker_of(server, code) as worker:
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [(server.process.pid, worker.process.pid)])

    def test_a_worker_tells_the_files_that_its_server_has_loaded_and_those_that_it_loads_itself(self):
        def told(server, *code):
            server.hear()
            with worker_of(server, *code) as worker:
                server.start(worker)
                return sorted(os.path.basename(file) for file in json.loads(worker.next_of(FILES)[1]))

        with ForkServer({"tasks.py": "import beside\ndef f(x): return x", "beside.py": ""}, target="tasks:f") as server:
            self.assertEqual(told(server), ["beside.py", "tasks.py"])
        with ForkServer({"heavy.py": "", "beside.py": ""}, preload=["heavy"]) as server:
            self.assertEqual(told(server, "import beside\ndef f(x): return x"), ["beside.py", "heavy.py", "tasks.py"])

    def test_a_worker_is_nobodys_child_but_the_reapers_and_leads_a_session(self):
        code = "import os\ndef f(x): return (os.getppid(), os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid())"
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, code) as worker:
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [(os.getpid(), True, True)])

    def test_exit_codes_and_signals_are_those_of_any_worker(self):
        code = "import os, sys\ndef f(x): sys.exit(x) if x < 100 else os.kill(os.getpid(), x - 100)"
        with ForkServer({}) as server:
            server.hear()
            for record, expected in [(0, 0), (7, 7), (100 + signal.SIGTERM, -signal.SIGTERM), (102, -2)]:
                with worker_of(server, code) as worker:
                    server.start(worker).go().lease([record])
                    self.assertEqual(worker.wait(), expected)

    def test_a_broken_target_is_broken_in_the_worker(self):
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, "def g(): pass") as worker:
                server.start(worker)
                self.assertEqual(worker.broken()["nearest"], None)

    def test_atexit_and_close_run_and_other_workers_do_not_notice(self):
        code = """
            import atexit
            atexit.register(print, "exit")
            class C:
                def __call__(self, x): return x
                def close(self): print("closed")
        """
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, code, target="tasks:C") as one, worker_of(server, target="tasks:C") as other:
                server.start(one).go().close()
                server.start(other).go().lease([1])
                self.assertEqual(one.wait(), 0)
                self.assertEqual(one.printed(), "closed\nexit\n")
                self.assertEqual(other.answered(1), [1])


class Setting(unittest.TestCase):
    def test_a_worker_has_its_own_descriptors_and_no_others(self):
        code = """
            import os
            def f(x):
                return sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{n}"))
        """
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, code) as first, worker_of(server) as second:
                server.start(first).go().lease([1])
                server.start(second).go().lease([1])
                for worker in (first, second):
                    (seen,) = worker.answered(1)
                    # Input, answers, control; /dev/null, log twice; what lists them.
                    kinds = [name.split(":")[0] for name in seen]
                    self.assertEqual(kinds.count("pipe"), 2, seen)
                    self.assertEqual(kinds.count("socket"), 1, seen)
                    self.assertEqual(kinds.count("/dev/null"), 1, seen)
                    self.assertEqual([name for name in seen if "memfd" in name], [], seen)
                    self.assertLessEqual(len(seen), 7, seen)

    def test_what_an_import_has_opened_stays_open_and_is_in_nobodys_way(self):
        files = {"held.py": "import tempfile\nfile = tempfile.TemporaryFile()\nfile.write(b'held')\nfile.flush()"}
        code = "import held\ndef f(x):\n    held.file.seek(0)\n    return held.file.read()"
        with ForkServer(files, preload=["held"]) as server:
            server.hear()
            with worker_of(server, code) as worker:
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [b"held"])

    def test_the_environment_is_the_workers_alone(self):
        code = "import os, mpflow\ndef f(x): return (os.environ.get('HOME'), os.environ.get('MINE'), mpflow.worker.name)"
        with ForkServer({}, preload=["mpflow"]) as server:
            server.hear()
            with worker_of(server, code) as worker:
                worker.environment = {
                    name: value for name, value in worker.environment.items() if name.startswith("MPFLOW")
                }
                worker.environment["MINE"] = "a=b\nc"
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [(None, "a=b\nc", "f/2")])

    def test_folder_limits_priority_and_processors_are_set(self):
        code = """
            import os, resource
            def f(x):
                limits = resource.getrlimit(resource.RLIMIT_NOFILE)
                return (os.getcwd(), limits, os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)))
        """
        processor = min(os.sched_getaffinity(0))
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, code) as worker:
                server.start(worker, cwd="/", limits=[[7, 200]], nice=5, cpus=[processor]).go().lease([1])
                self.assertEqual(worker.answered(1), [("/", (200, 200), 5, [processor])])

    def test_what_cannot_be_set_up_is_told_and_leaves_nothing(self):
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, "def f(x): return x") as worker:
                told = server.ask(worker, cwd="/not/there")
                self.assertIn("/not/there", told["failed"]["error"])
                self.assertEqual(told["failed"]["id"], 1)
                # And the next one is made.
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [1])

    def test_signals_are_as_a_new_interpreter_has_them(self):
        files = {"rude.py": """
            import signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
        """}  # fmt: skip
        code = """
            import signal
            def f(x):
                return (signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
                        signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                        signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN,
                        signal.pthread_sigmask(signal.SIG_BLOCK, []))
        """
        with ForkServer(files, preload=["rude"]) as server:
            server.hear()
            with worker_of(server, code) as worker:
                server.start(worker).go().lease([1])
                self.assertEqual(worker.answered(1), [(True, True, True, set())])

    def test_no_two_workers_draw_the_same_numbers(self):
        code = "import random\ndef f(x): return random.random()"
        with ForkServer({}, preload=["random"]) as server:
            server.hear()
            drawn = set()
            for _ in range(3):
                with worker_of(server, code) as worker:
                    server.start(worker).go().lease([1])
                    drawn |= set(worker.answered(1))
            self.assertEqual(len(drawn), 3)


class Serving(unittest.TestCase):
    def test_a_preload_that_cannot_be_imported_is_broken(self):
        with ForkServer({"tools.py": ""}, preload=["tool"]) as server:
            self.assertEqual(
                server.hear(),
                {"broken": {"error": "there is no module `tool`", "traceback": None, "nearest": "tools"}},
            )
            self.assertEqual(server.process.wait(30), 1)

    def test_a_target_that_raises_is_broken_with_its_traceback(self):
        with ForkServer({"tasks.py": "1 / 0"}, target="tasks:f") as server:
            document = server.hear()["broken"]
            self.assertIn("ZeroDivisionError", document["error"])
            self.assertNotIn("_server.py", document["traceback"])

    def test_threads_that_imports_start_are_told(self):
        files = {
            "busy.py": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
            "calm.py": "",
        }
        with ForkServer(files, preload=["calm", "busy"]) as server:
            self.assertEqual(server.hear(), {"ready": {"threads": 1, "modules": ["busy"]}})

    def test_the_server_ends_with_the_engine(self):
        with ForkServer({}) as server:
            server.hear()
            server.socket.close()
            self.assertEqual(server.process.wait(30), 0)
            server.log.seek(0)
            self.assertEqual(server.log.read(), b"")

    def test_a_killed_server_leaves_its_workers_alone(self):
        with ForkServer({}) as server:
            server.hear()
            with worker_of(server, "def f(x): return x") as worker:
                server.start(worker).go()
                server.process.kill()
                server.process.wait()
                with self.assertRaises(Ended):
                    server.hear()
                worker.lease([1])
                self.assertEqual(worker.answered(1), [1])
                worker.close()
                self.assertEqual(worker.wait(), 0)

    def test_fifty_workers_leave_no_descriptor_and_no_process_behind_in_the_server(self):
        with ForkServer({}) as server:
            server.hear()
            folder = f"/proc/{server.process.pid}/fd"
            before = len(os.listdir(folder))
            for _ in range(50):
                with worker_of(server, "def f(x): return x") as worker:
                    server.start(worker)
                    worker.process.kill()
                    self.assertEqual(worker.wait(), -9)
            (ahead,) = until(server.ahead)
            # Its end of the one that waits ahead.
            until(lambda: len(os.listdir(folder)) == before + 1 and not children_of(server.process.pid))
            server.process.kill()
            self.assertEqual(Adopted(ahead).wait(), 0)


class Ahead(unittest.TestCase):
    """A process waits for the next request, so that no fork is waited for."""

    def ready(self, server):
        """The process that waits ahead, once one worker has been made."""
        server.hear()
        with worker_of(server, "def f(x): return x") as worker:
            server.start(worker).go().close()
            self.assertEqual(worker.wait(), 0)
        (ahead,) = until(server.ahead)
        return ahead

    def test_the_next_worker_is_the_process_that_waits(self):
        with ForkServer({}) as server:
            ahead = self.ready(server)
            with worker_of(server) as worker:
                server.start(worker).go()
                self.assertEqual(worker.process.pid, ahead)
                with open(f"/proc/{ahead}/comm") as comm:
                    self.assertEqual(comm.read(), "f/2\n")

    def test_it_has_nothing_of_a_workers_and_nothing_of_the_servers(self):
        with ForkServer({}) as server:
            ahead = self.ready(server)
            folder = f"/proc/{ahead}/fd"
            kinds = sorted(os.readlink(f"{folder}/{number}").split(":")[0] for number in os.listdir(folder))
            # Its end of the pair, and places that are kept.
            self.assertEqual([kind for kind in kinds if kind == "socket"], ["socket"], kinds)
            self.assertEqual([kind for kind in kinds if kind in ("pipe", "/memfd")], [], kinds)
            self.assertEqual(os.getsid(ahead), ahead)

    def test_it_ends_with_its_server(self):
        with ForkServer({}) as server:
            ahead = self.ready(server)
            server.process.kill()
            self.assertEqual(Adopted(ahead).wait(), 0)

    def test_it_ends_with_the_engine(self):
        with ForkServer({}) as server:
            ahead = self.ready(server)
            server.socket.close()
            self.assertEqual(server.process.wait(30), 0)
            self.assertEqual(Adopted(ahead).wait(), 0)

    def test_that_it_is_killed_is_no_failure(self):
        with ForkServer({}) as server:
            for _ in range(3):
                (ahead,) = until(server.ahead) if server.last else [self.ready(server)]
                os.kill(ahead, signal.SIGKILL)
                self.assertEqual(Adopted(ahead).wait(), -signal.SIGKILL)
                with worker_of(server) as worker:
                    server.start(worker).go().lease([1])
                    self.assertEqual(worker.answered(1), [1])

    def test_one_that_is_killed_with_its_request_is_no_failure(self):
        with ForkServer({}) as server:
            ahead = self.ready(server)
            # Stopped, so that the request has reached it when it is killed.
            os.kill(ahead, signal.SIGSTOP)
            with worker_of(server) as worker:
                server.request(worker)
                until(lambda: has_taken_the_request(server))
                os.kill(ahead, signal.SIGKILL)
                server.adopt(worker, server.hear()).go().lease([1])
                self.assertEqual(worker.answered(1), [1])
                Adopted(ahead).wait()

    def test_twenty_that_are_asked_for_at_once_are_made(self):
        code = "import os, random\ndef f(x): return (os.getpid(), random.random())"
        with ForkServer({}, preload=["random"]) as server:
            server.hear()
            workers = [worker_of(server, code if number == 0 else "") for number in range(20)]
            for worker in workers:
                server.request(worker)
            told = [server.hear() for _ in workers]
            told = {document["forked"]["id"]: document for document in told}
            self.assertEqual(sorted(told), list(range(1, 21)))
            answers = []
            for number, worker in enumerate(workers, 1):
                with worker:
                    server.adopt(worker, told[number]).go().lease([1])
                    ((pid, drawn),) = worker.answered(1)
                    self.assertEqual(pid, worker.process.pid)
                    answers.append(drawn)
                    worker.close()
                    self.assertEqual(worker.wait(), 0)
            self.assertEqual(len(set(answers)), 20)
            self.assertEqual(len(until(server.ahead)), 1)


if __name__ == "__main__":
    unittest.main()
