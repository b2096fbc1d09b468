"""Large values lie in shared memory: whose segments are made, named, freed and used again."""

import fcntl
import pickle
import struct
import termios
import unittest

from engine import DROP, FORGET, RECYCLE, Worker, chunk

# An object that pickles as NumPy's arrays do: its bytes out of band. `Array(x).view` is what came back.
ARRAY = """
import pickle
class Array:
    def __init__(self, data): self.data = data
    def __reduce_ex__(self, protocol): return (Array, (pickle.PickleBuffer(self.data),))
    @property
    def view(self): return memoryview(self.data)
"""
LARGE = 100_000


def out_of_band(size, name=b"tasks"):
    """The pickle of a list of one Array whose buffer is out of band."""

    class Stand:
        def __init__(self, data):
            self.data = data

        def __reduce_ex__(self, protocol):
            return (dict, (("Array", pickle.PickleBuffer(self.data)),))

    del Stand, name, size
    # [tasks.Array(next buffer)], read-only.
    return b"\x80\x05]\x8c\x05tasks\x8c\x05Array\x93\x97\x98\x85Ra."


class Waiting(unittest.TestCase):
    def test_one_chunk_that_names_segments_waits_in_a_pipe_and_others_have_all_of_it(self):
        code = """
            def f():
                for _ in range(5): yield bytes(1 << 20)
                yield from range(1000)
        """
        with Worker(code, source=True) as worker:
            pipe = worker.results["stdout"].descriptor
            wide = size_of(pipe)
            worker.go()
            for _ in range(3):
                self.assertEqual(worker.received(1), [bytes(1 << 20)])
                self.assertEqual(size_of(pipe), 4096)
                # One chunk is a head, a name, and no body.
                self.assertIn(unread_in(pipe), (0, 16 + 16))
            # With the last of them written, the pipe may be wide again before it is read.
            self.assertEqual(worker.received(), [bytes(1 << 20), bytes(1 << 20), *range(1000)])
            self.assertEqual(size_of(pipe), wide)


def size_of(pipe):
    return fcntl.fcntl(pipe, 1032)


def unread_in(pipe):
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), "little")


class Given(unittest.TestCase):
    CODE = ARRAY + """
kept = []
def f(x):
    if x == "drop":
        kept.clear()
        return None
    if x == "look":
        return [bytes(one.view[:3]) for one in kept]
    if x == "write":
        kept[0].view[0] = 1
    kept.append(x)
    return (len(x.view), x.view.readonly, bytes(x.view[:3]))
"""

    def lease_array(self, worker, number, size, **options):
        return worker.lease(None, body=chunk(None, segments=[(number, size)], body=out_of_band(size), count=1), count=1)

    def test_a_large_buffer_is_a_read_only_view_and_is_freed_when_it_dies(self):
        with Worker(self.CODE) as worker:
            self.assertTrue(worker.ready()["segments"])
            worker.tell(65)
            worker.make_segment(77, b"abc" * LARGE)
            self.lease_array(worker, 77, LARGE)
            self.assertEqual(worker.answered(1), [(LARGE, True, b"abc")])
            worker.lease(["look"])
            self.assertEqual(worker.answered(1), [[b"abc"]])
            worker.note_all()
            self.assertEqual(worker.freed, [])
            worker.lease(["write"])
            self.assertEqual(worker.failed()["type"], "TypeError")
            worker.lease(["drop"])
            self.assertEqual(worker.answered(1), [])
            worker.await_freed(77)

    def test_each_naming_is_freed_once(self):
        with Worker(self.CODE) as worker:
            worker.go()
            worker.make_segment(1, b"abc" * LARGE)
            for _ in range(3):
                self.lease_array(worker, 1, LARGE)
            worker.answered(3)
            worker.lease(["drop"])
            worker.answered(1)
            worker.await_freed(1, 1, 1)

    def test_a_chunk_may_come_before_its_segment(self):
        with Worker(self.CODE) as worker:
            worker.go()
            self.lease_array(worker, 5, 10)
            self.assertTrue(worker.answers.is_silent())
            worker.make_segment(5, b"xyz" * LARGE)
            self.assertEqual(worker.answered(1), [(10, True, b"xyz")])

    def test_what_is_forgotten_is_unmapped_when_nobody_looks_any_more(self):
        code = self.CODE + """
def g(x):
    if x == "maps":
        with open("/proc/self/maps") as maps: return sum("memfd:segment" in line for line in maps)
    return f(x)
"""
        with Worker(code, target="tasks:g") as worker:
            worker.go()
            worker.make_segment(5, b"xyz" * LARGE)
            self.lease_array(worker, 5, 10)
            worker.answered(1)
            worker.tell(FORGET, struct.pack("<Q", 5))
            worker.lease(["look"]).lease(["maps"])
            self.assertEqual(worker.answered(2), [[b"xyz"], 1])
            worker.lease(["drop"])
            worker.answered(1)
            worker.await_freed(5)
            worker.lease(["maps"])
            self.assertEqual(worker.answered(1), [0])

    def test_a_body_in_a_segment_is_freed_at_once(self):
        body = pickle.dumps(["x" * LARGE, 5])
        with Worker("def f(x): return x if x == 5 else len(x)") as worker:
            worker.go()
            worker.make_segment(9, body + b"more")
            data = chunk(None, segments=[(9, len(body))], flags=1, body=b"", count=2)
            worker.lease(None, body=data, count=2)
            self.assertEqual(worker.answered(2), [LARGE, 5])
            worker.await_freed(9)

    def test_what_a_slice_leaves_out_is_freed(self):
        # Two arrays, of which the slice takes the second.
        body = b"\x80\x05](\x8c\x05tasks\x8c\x05Array\x93\x97\x98\x85R\x8c\x05tasks\x8c\x05Array\x93\x97\x98\x85Re."
        with Worker(self.CODE) as worker:
            worker.go()
            worker.make_segment(1, b"one" * LARGE)
            worker.make_segment(2, b"two" * LARGE)
            data = chunk(None, skip=1, count=1, segments=[(1, 9), (2, 9)], body=body)
            worker.lease(None, body=data, count=1)
            self.assertEqual(worker.answered(1), [(9, True, b"two")])
            worker.await_freed(1)
            worker.lease(["drop"])
            worker.answered(1)
            worker.await_freed(1, 2)

    def test_a_stream_frees_what_it_has_passed(self):
        code = ARRAY + "\ndef f(records):\n    for r in records: yield bytes(r.view[:3])"
        with Worker(code, mode="stream") as worker:
            worker.go()
            for number in (1, 2, 3):
                worker.make_segment(number, b"abc" * LARGE)
                worker.write("stdin", chunk(None, segments=[(number, 9)], body=out_of_band(9), count=1))
                self.assertEqual(worker.received(1), [b"abc"])
            while len(worker.freed) < 2:
                worker.note(*worker.frame())
            self.assertEqual(worker.freed, [1, 2])

    def test_a_worker_may_be_told_of_a_hundred_segments_at_once(self):
        with Worker(self.CODE) as worker:
            worker.go()
            for number in range(100):
                worker.make_segment(number, b"abc" * 100)
            for number in range(100):
                self.lease_array(worker, number, 9)
            self.assertEqual(worker.answered(100), [(9, True, b"abc")] * 100)


class Own(unittest.TestCase):
    CODE = ARRAY + "\ndef f(x): return Array(bytes([x % 256]) * (100_000 if x < 1000 else 1_000_000))"

    def result(self, worker):
        """The segments that the next answer names, and their contents."""
        length = int.from_bytes(worker.answers.take(4), "little")
        frame = worker.answers.take(length)
        size, _, count, flags, number = struct.unpack_from("<IIIHH", frame, 20)
        self.assertLess(len(frame), 2000)
        named = [struct.unpack_from("<QQ", frame, 36 + 16 * at) for at in range(number)]
        while any(segment not in worker.segments for segment, _ in named):
            worker.note(*worker.frame())
        return [(segment, size, worker.segments[segment].read(size)) for segment, size in named]

    def test_a_large_buffer_goes_into_a_sealed_segment(self):
        with Worker(self.CODE) as worker:
            worker.go().lease([7])
            ((number, size, data),) = self.result(worker)
            self.assertEqual((number, size, data), (1, LARGE, b"\x07" * LARGE))

    def test_a_segment_is_written_again_only_after_it_is_recycled(self):
        with Worker(self.CODE) as worker:
            worker.go()
            numbers = []
            for value in (1, 2):
                worker.lease([value])
                numbers += [number for number, _, _ in self.result(worker)]
            self.assertEqual(numbers, [1, 2])
            worker.tell(RECYCLE, struct.pack("<Q", 1))
            worker.lease([3])
            ((number, _, data),) = self.result(worker)
            self.assertEqual((number, data[:1]), (1, b"\x03"))
            self.assertEqual(worker.segments[2].read(1), b"\x02")

    def test_a_large_body_goes_into_a_segment_as_well(self):
        with Worker("def f(x): return 'x' * x") as worker:
            worker.go().lease([LARGE])
            self.assertEqual(worker.answered(1), ["x" * LARGE])
            self.assertEqual(worker.named, [1])
            worker.lease([1000])
            self.assertEqual(worker.answered(1), ["x" * 1000])
            self.assertEqual(worker.named, [])

    def test_a_source_makes_segments_too(self):
        with Worker("def f():\n    for i in range(20): yield str(i % 10) * 100_000", source=True) as worker:
            worker.go()
            self.assertEqual(worker.received(), [str(i % 10) * LARGE for i in range(20)])
            self.assertGreater(len(worker.segments), 0)

    def test_where_no_segment_can_be_made_values_travel_in_band(self):
        code = "import os\ndef no(*_): raise OSError(24, 'no')\nos.memfd_create = no\n" + self.CODE
        with Worker(code) as worker:
            worker.go().lease([7])
            length = int.from_bytes(worker.answers.take(4), "little")
            frame = worker.answers.take(length)
            self.assertGreater(length, LARGE)
            self.assertEqual(struct.unpack_from("<H", frame, 34), (0,))

    def test_a_chunk_that_is_not_sent_leaves_its_segment_free(self):
        code = ARRAY + "\ndef f(x): return [Array(b'x' * 100_000), (lambda: 1) if x else 0]"
        with Worker(code) as worker:
            worker.go().lease([1, 1, 0])
            worker.failed()
            worker.failed()
            ((number, _, _),) = self.result(worker)
            self.assertEqual(number, 1)

    def test_free_segments_are_given_back_where_they_are_too_many(self):
        code = ARRAY + "\ndef f(x): return Array(b'x' * (40 << 20))"
        with Worker(code) as worker:
            worker.go()
            for _ in range(5):
                worker.lease([1])
                self.result(worker)
            worker.tell(RECYCLE, struct.pack("<5Q", 1, 2, 3, 4, 5))
            worker.lease([1])
            self.result(worker)
            while len(worker.dropped) < 2:
                worker.next_of(DROP)
            self.assertEqual(worker.dropped, [1, 2])

    def test_there_are_never_more_segments_than_a_worker_may_have(self):
        code = ARRAY + "\ndef f(x): return Array(b'x' * 70_000)"
        with Worker(code) as worker:
            worker.go()
            for _ in range(10):
                worker.lease([1] * 50)
                count = 50
                while count:
                    length = int.from_bytes(worker.answers.take(4), "little")
                    frame = worker.answers.take(length)
                    count -= int.from_bytes(frame[4:8], "little")
                worker.note_all()
            self.assertEqual(len(worker.segments), 256)


if __name__ == "__main__":
    unittest.main()
