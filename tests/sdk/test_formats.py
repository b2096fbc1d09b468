"""Formats: what a Python value is on a port, and what cannot be one."""

import json
import os
import struct
import sys
import unittest

from engine import FAILED, SDK, Worker

sys.path.insert(0, SDK)
from mpflow import _msgpack  # noqa: E402
from mpflow._errors import Uncodable, Undecodable  # noqa: E402


class Ports(unittest.TestCase):
    def through(self, form, records, code="def f(x): return x"):
        with Worker(code, form=form) as worker:
            worker.go().lease(records)
            return worker.answered(len(records))

    def refused(self, form, code, record="x"):
        with Worker(code, form=form) as worker:
            worker.go().lease([record])
            return worker.failed()["error"]

    def test_lines_are_text_and_bytes_that_are_not_pass_unchanged(self):
        lines = ["", "äöü – 漢字 🦀", "tab\tand\rreturn", "\udcff\udc80", "\x0b\x0c\x1c\x85\u2028 are no newlines"]
        self.assertEqual(self.through("lines", lines), lines)
        self.assertEqual(self.through("nul", ["a\nb", "", "\udcff"]), ["a\nb", "", "\udcff"])

    def test_numbers_are_written_as_lines_by_str(self):
        code = "import decimal\ndef f(x): return {'a': 1, 'b': 2.5, 'c': decimal.Decimal('1.10'), 'd': 10**30}[x]"
        self.assertEqual(self.through("lines", ["a", "b", "c", "d"], code), ["1", "2.5", "1.10", "1" + 30 * "0"])

    def test_bytes_are_written_as_the_line_that_they_are(self):
        self.assertEqual(self.through("lines", ["x"], "def f(x): return b'\\xff'"), ["\udcff"])

    def test_a_string_enum_is_written_as_its_characters(self):
        code = "import enum\nclass E(str, enum.Enum):\n    A = 'a'\ndef f(x): return E.A"
        self.assertEqual(self.through("lines", ["x"], code), ["a"])

    def test_what_is_no_line_fails_its_record(self):
        self.assertIn("it contains a newline", self.refused("lines", "def f(x): return 'a\\nb'"))
        self.assertIn("it contains a NUL", self.refused("nul", "def f(x): return 'a\\0b'"))
        self.assertIn("`dict` cannot go to `stdout` as lines", self.refused("lines", "def f(x): return {}"))
        self.assertIn("it is not text", self.refused("lines", "def f(x): return '\\ud800'"))

    def test_one_line_of_many_that_cannot_be_written_fails_alone(self):
        with Worker("def f(x): return x.replace('|', '\\n')", form="lines") as worker:
            worker.go()
            for _ in range(3):
                worker.lease(["a"] * 20)
                worker.answered(20)
            worker.lease([*"abc", "|", *"defg", "|", "h"])
            values, failed, left = [], [], 10
            while left:
                kind, *rest = worker.answer()
                if kind == FAILED:
                    failed.append(rest[0]["record"])
                    left -= 1
                else:
                    values += rest[1]["stdout"]
                    left -= rest[0]
            self.assertEqual((values, failed), (list("abcdefgh"), ["|", "|"]))

    def test_json_carries_any_json_value(self):
        values = [None, True, 1, 1.5, -2e300, "text\n äöü 🦀 \" \\", [1, [2, {}]], {"a": {"b": []}}, 10**25]
        code = "def f(x):\n    yield x"
        self.assertEqual(self.through("json", values, code), values)

    def test_json_documents_may_stand_within_white_space(self):
        with Worker("def f(x): return x", form="json") as worker:
            worker.go().lease(None, body=b' {"a": 1} \r\n\t[1,2]\n"x"\n', count=3)
            self.assertEqual(worker.answered(3), [{"a": 1}, [1, 2], "x"])

    def test_json_lines_that_would_parse_if_joined_are_refused(self):
        with Worker("def f(x): return x", form="json") as worker:
            worker.go().lease(None, body=b"1,2\n[1\n2]\n", count=3)
            for _ in range(3):
                worker.failed()

    def test_json_is_one_line_of_utf_8(self):
        with Worker("def f(): return {'text': 'ä\\n\\ud83e'}", form="json", source=True, mode="stream") as worker:
            worker.go()
            self.assertIn("`dict`", worker.error()["error"])
        with Worker("def f():\n    yield {'text': 'ä\\n'}\n    yield '\\ud83e'", form="json", source=True) as worker:
            worker.go()
            data = worker.results["stdout"]
            while data.data.count(b"\n") < 2:
                data.read()
            self.assertEqual(bytes(data.data), '{"text":"ä\\n"}\n"\\ud83e"\n'.encode())

    def test_what_json_cannot_say_fails_its_record(self):
        for value, reason in [
            ("{1, 2}", "a set has no JSON form"),
            ("float('nan')", "Out of range float"),
            ("object()", "a object has no JSON form"),
            ("{(1, 2): 3}", "keys must be"),
            ("b'x'", "a bytes has no JSON form"),
        ]:
            self.assertIn(reason, self.refused("json", f"def f(x): return {value}"))
        loop = "def f(x):\n    a = []\n    a.append(a)\n    return a"
        self.assertIn("contains itself", self.refused("json", loop))

    def test_frames_carry_bytes(self):
        values = [b"", b"\0\n", bytes(range(256)), b"x" * 100_000]
        self.assertEqual(self.through("frames", values), values)
        code = "def f(x): return [bytearray(x), memoryview(x)][len(x) % 2]"
        self.assertEqual(self.through("frames", [b"a", b"bc"], code), [b"a", b"bc"])
        self.assertIn("`str` cannot go to `stdout` as frames", self.refused("frames", "def f(x): return 'a'", b"x"))

    def test_frames_may_come_in_pieces(self):
        data = b"".join(struct.pack("<I", len(one)) + one for one in (b"ab", b"", b"cde"))
        with Worker("def f(records): return records", form="frames", mode="stream") as worker:
            worker.go()
            for at in range(len(data)):
                worker.write("stdin", data[at : at + 1])
            worker.close()
            self.assertEqual(worker.received(), [b"ab", b"", b"cde"])
        with Worker("def f(records): return records", form="frames", mode="stream") as worker:
            worker.go().write("stdin", data[:-1])
            worker.close()
            self.assertIn("the last frame is not whole", worker.error()["error"])

    def test_any_picklable_object_passes(self):
        code = """
            import datetime, collections
            class Point:
                def __init__(self, x): self.x = x
                def __eq__(self, other): return self.x == other.x
            def f(x):
                return {"p": Point(x), "t": datetime.date(2020, 1, x)} if isinstance(x, int) else x["p"].x + x["t"].day
        """
        with Worker(code) as worker:
            worker.go().lease([1])
            # The harness would need the class: give the pickle back as it came.
            length = int.from_bytes(worker.answers.take(4), "little")
            frame = worker.answers.take(length)
            worker.lease(None, body=frame[20:], count=1)
            self.assertEqual(worker.answered(1), [2])

    def test_msgpack_chunks_pass(self):
        codec = _msgpack.MessagePack(None)
        with Worker("def f(x): return x", form="msgpack") as worker:
            worker.go().lease(None, body=codec.encode([1, "a", {"k": [None, b"x"]}]), count=3)
            values = []
            while len(values) < 3:
                length = int.from_bytes(worker.answers.take(4), "little")
                frame = worker.answers.take(length)
                values += codec.decode(memoryview(frame)[20:], int.from_bytes(frame[4:8], "little"))
            self.assertEqual(values, [1, "a", {"k": [None, b"x"]}])
            worker.lease(None, body=codec.encode([1])[:16] + b"\x91", count=1)
            self.assertEqual(worker.failed()["type"], "Undecodable")


class MessagePack(unittest.TestCase):
    codec = _msgpack.MessagePack(type("None_", (), {"put": lambda *_: None, "give_back": lambda *_: None})())

    def both_ways(self, value):
        (back,) = self.codec.decode(memoryview(self.codec.encode([value])), 1)
        self.assertEqual(back, value)
        self.assertIs(type(back), type(value))

    def test_every_kind_of_value_at_every_border_of_its_sizes(self):
        for number in (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1):
            self.both_ways(number)
        for number in (-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)):
            self.both_ways(number)
        for value in (None, True, False, 0.1, float("inf"), "", [], {}, b""):
            self.both_ways(value)
        for size in (15, 16, 31, 32, 255, 256, 65535, 65536):
            self.both_ways("x" * size)
            self.both_ways(b"x" * size)
            self.both_ways(list(range(size)))
            self.both_ways({number: None for number in range(size)})
            self.both_ways(_msgpack.Ext(-128, b"x" * size))
        for size in (1, 2, 4, 8, 16, 0, 3):
            self.both_ways(_msgpack.Ext(127, b"x" * size))

    def test_the_bytes_are_those_of_the_specification(self):
        for value, expected in [
            ({"compact": True, "schema": 0}, b"\x82\xa7compact\xc3\xa6schema\x00"),
            ([1.5, -1, 300], b"\x93\xcb\x3f\xf8\0\0\0\0\0\0\xff\xcd\x01\x2c"),
            (_msgpack.Ext(5, b"ab"), b"\xd5\x05ab"),
        ]:
            self.assertEqual(self.codec.encode([value])[16:], b"\x91" + expected)

    def test_floats_of_32_bits_are_read(self):
        body = b"\x91\xca\x3f\xc0\0\0"
        chunk = struct.pack("<IIIHH", 12 + len(body), 0, 1, 0, 0) + body
        self.assertEqual(self.codec.decode(memoryview(chunk), 1), [1.5])

    def test_what_has_no_form_is_refused_by_its_type(self):
        loop = []
        loop.append(loop)
        for value in (2**64, -(2**63) - 1, {1}, object(), loop, _msgpack.Ext(200, b""), {"a": {"b": {1}}}):
            with self.assertRaises(Uncodable):
                self.codec.encode([value])

    def test_hostile_bytes_are_refused_and_take_no_memory(self):
        for body in (b"", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x91\xdb\xff\xff\xff\xff", b"\x91" * 5000, b"\x01", b"\x90\x90",
                     b"\xdc\x00", b"\x91\x81\x80\x01", b"\x91\xc7\x05\x01a"):  # fmt: skip
            chunk = struct.pack("<IIIHH", 12 + len(body), 0, 1, 0, 0) + body
            with self.assertRaises(Undecodable):
                self.codec.decode(memoryview(chunk), 1)

    def test_random_bytes_are_decoded_or_refused(self):
        for _ in range(2000):
            body = b"\x9f" + os.urandom(20)
            chunk = struct.pack("<IIIHH", 12 + len(body), 0, 1, 0, 0) + body
            try:
                self.codec.decode(memoryview(chunk), 15)
            except Undecodable:
                pass


class Limits(unittest.TestCase):
    def test_a_record_over_the_limit_travels_alone_so_that_the_engine_can_see_it(self):
        code = "def f():\n    for size in (10, 10, 5000, 10): yield 'x' * size"
        with Worker(code, source=True, outputs={"stdout": {"max_record": 1000}}) as worker:
            worker.go()
            counts = []
            while sum(counts) < 4:
                head = worker.results["stdout"].take(16)
                length, _, count, _, _ = struct.unpack("<IIIHH", head)
                worker.results["stdout"].take(length - 12)
                counts.append(count)
                self.assertTrue(length < 1000 or count == 1)

    def test_the_task_may_hold_keys_that_mean_nothing_yet(self):
        with Worker("def f(x): return x", form="json", future={"a": [1]}) as worker:
            worker.go().lease([1])
            self.assertEqual(worker.answered(1), [1])
            json.dumps(worker.task)


if __name__ == "__main__":
    unittest.main()
