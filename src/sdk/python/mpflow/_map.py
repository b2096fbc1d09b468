"""`map` mode: leased records in, answers out.

The records of a RECORDS frame are worked on in slices: `results.extend(map(function, slice))` runs at the speed of C
and leaves, when the function raises, as many results as there were good records before the bad one. A slice holds as
many records as take a few milliseconds; its results are answered together. When a slice lasts longer than was
thought, the watching thread answers what is done.

Where results may be several or none for one record (generators), each element of the results is a list instead.
"""

from _bisect import bisect_right
from _struct import Struct
from itertools import chain, islice, repeat
from sys import getsizeof
from time import monotonic

from . import _call, _documents, _errors
from ._control import gone
from ._errors import Failure, Uncodable, Undecodable
from ._ports import Buffer, Waiter, Way, write
from ._watch import Watch
from ._work import Work

# Leased records: length, kind, flags, (zero), count, attempt.
_RECORDS = Struct("<IBB2xII")
_ALONE = 1

# Answers: length, kind, (zero); with a count of records; an output within them.
_ANSWER = Struct("<IB3x")
_COUNTED = Struct("<IB3xI")
_OUTPUT = Struct("<III")
_DONE, _PART, _FAILED, _ABOUT = 1, 2, 3, 4

# A slice should last about this long: shorter ones cost more writes than they need, longer ones keep others waiting.
_QUICK, _SLOW = 0.001, 0.004
_LARGEST_SLICE = 1 << 16

# Results that are larger than this do not travel in one frame, except that of one record that are one value.
_PART_BYTES = 1 << 20


_Generator = type(_ for _ in ())


class Map(Work):
    """A worker whose function is called for each record."""

    def __init__(self, task, control, segments):
        super().__init__(task, control, segments)
        self._answers = Way(task["answers"])
        self._leased = next(port for port in task["inputs"] if port["leased"])
        self._is_batch = task.get("batch") is not None
        self._watch = Watch(self._flush_late)
        self._stdout = self._by_name.get("stdout")
        if self._stdout is not None and not self._stdout.wanted:
            self._stdout = None
        self._calls = None
        # The records being worked on, of which the slice begins at `_base`.
        self._records = ()
        self._base = 0
        # One element for each record of the slice that the function is done with, and how many are answered.
        self._out = ()
        self._answered = 0
        # Whether the elements of `_out` are lists of results.
        self._is_flat = False
        # Types of results that were seen to be one value each.
        self._plain = set()
        # How many records one element of `_out` stands for: with `batch` a whole frame's.
        self._weight = 1
        self._size = 1
        # How many values of a result that stands for several are taken before it is looked at how large they are.
        self._at_first = 16
        self._is_working = False
        self._emitted_bytes = 0
        self._error = None
        self._resume = False

    def run(self, function, is_built):
        """Works until the input has ended."""
        if self._is_batch:
            args, kwargs = self.arguments(is_built)
            self._calls = _call.over(function, args, kwargs, False)
        else:
            self._calls = self.calls(function, is_built)
        if self._is_batch or _call.makes_generators(function):
            self._be_flat()
        codec = self._codec(self._leased["format"])
        for alone, count, body in self._frames():
            try:
                records = codec.decode(body, count)
            except Exception:
                records = codec.decode_each(body, count)
                if len(records) != count:
                    raise Undecodable(f"{len(records)} records came where {count} were announced") from None
                self._block_with_failures(records, alone)
            else:
                self._block(records, alone)
            # Nothing may hold them, so that their segments are free before the next wait.
            del body, records
            self._records = self._out = ()

    def _frames(self):
        buffer = Buffer(self._leased["fd"])
        waiter = Waiter(self._leased["fd"], self.control, self.segments)
        head = _RECORDS.size
        while True:
            start = buffer.start
            held = buffer.end - start
            need = head
            if held >= head:
                length, kind, flags, count, _ = _RECORDS.unpack_from(buffer.data, start)
                need = 4 + length
                if held >= need:
                    buffer.start = start + need
                    if kind == 1:
                        yield flags & _ALONE, count, buffer.view[start + head : start + need]
                        self.segments.send_freed()
                    continue
            self.segments.send_freed()
            waiter.wait()
            if not buffer.read(need):
                if held:
                    # Half a frame is all that is left of an engine that was killed.
                    gone()
                return

    # Working on records.

    def _block_with_failures(self, records, alone):
        """Records of which some could not be decoded: those fail, in their places."""
        failures = [position for position, record in enumerate(records) if isinstance(record, Failure)]
        if self._is_batch and failures:
            # One frame, one call: without all of its records there is none.
            with self.lock:
                self._fail(records[failures[0]])
            return
        start = 0
        for position in failures:
            self._block(records[start:position], alone)
            with self.lock:
                self._fail(records[position])
            start = position + 1
        self._block(records[start:], alone)

    def _block(self, records, alone):
        if self._is_batch:
            self._weight = len(records)
            records = [records]
        self._work_through(records, records, self._calls, alone, 0, len(records))

    def _work_through(self, records, arguments, calls, alone, base, total):
        """Answers `records[base:total]`: `calls` makes results of `arguments`, mostly the records themselves."""
        rest = iter(arguments)
        watch = self._watch
        while base < total:
            size = 1 if alone else min(self._size, total - base)
            self._records, self._base = records, base
            self._out = out = []
            self._answered = 0
            self.waited = 0.0
            if alone:
                with self.lock:
                    self._send(_ABOUT, _documents.tell(_errors.shown(records[base])))
            elif size > 1:
                watch.begin()
            failure = None
            self._is_working = True
            began = monotonic()
            try:
                out.extend(calls(islice(rest, size)))
            except (KeyboardInterrupt, SystemExit):
                # What was done before is done, and is the oldest that is not answered.
                watch.end()
                if not self.is_torn:
                    with self.lock:
                        self._answer()
                raise
            except BaseException as error:
                failure = error
            took = monotonic() - began - self.waited
            watch.end()
            self._is_working = False
            if self._error is not None:
                raise self._error
            with self.lock:
                answered = self._answer()
            if not answered:
                # Some results stand for several. From now on that is expected; these are taken apart first.
                start = self._answered
                self._be_flat()
                calls = self._calls
                self._work_through(records, out[start:], self._take_apart, False, base + start, base + len(out))
            if failure is None and len(out) < size:
                failure = StopIteration("the function raised StopIteration, as `next()` does at the end of an iterator")
            base += len(out)
            if failure is not None:
                with self.lock:
                    self._drop_emitted(base)
                    self._fail(Failure(failure, _errors.shown(records[base])))
                base += 1
                # It holds the frames that it went through, and with them the record.
                failure = None
            self._adapt(size, took)

    def _adapt(self, size, took):
        if took > _SLOW:
            self._size = max(1, int(size * _SLOW / 2 / took))
        elif took < _QUICK and size == self._size:
            self._size = min(2 * size, _LARGEST_SLICE)
        if self._stdout is not None and self._stdout.average:
            average = self._stdout.average
            self._size = max(1, min(self._size, _PART_BYTES // average))
            self._at_first = max(1, min(256, (_PART_BYTES >> 2) // average))

    # Results that stand for several.

    def _be_flat(self):
        if not self._is_flat:
            self._is_flat = True
            calls = self._calls
            self._calls = lambda records: map(self._collect, calls(records))

    def _take_apart(self, results):
        return map(self._collect, results)

    def _collect(self, result):
        """The values of one result, in a list."""
        if result is None:
            return ()
        if type(result) is not _Generator and not _call.is_many(type(result)):
            _call.is_plain(type(result))
            return (result,)
        size = self._at_first
        values = list(islice(result, size))
        if len(values) == size:
            values = self._collect_many(result, values)
        return values

    def _collect_many(self, result, values):
        """A long result: what is more than a frame should hold is sent as a PART of it."""
        looked_at, held = 0, 0
        while True:
            held += sum(map(getsizeof, islice(values, looked_at, None)))
            looked_at = len(values)
            if held >= _PART_BYTES or len(values) >= _LARGEST_SLICE:
                if self._spill(values):
                    values, looked_at, held = [], 0, 0
            if values:
                size = max(1, min(len(values), _PART_BYTES * len(values) // (held + 1)))
            elif self._stdout is not None:
                size = max(1, min(_LARGEST_SLICE, _PART_BYTES // (self._stdout.average + 1)))
            values += islice(result, size)
            if len(values) - looked_at < size:
                return values

    def _spill(self, values):
        """Sends `values`, and what was emitted, as a PART of the record that is being worked on."""
        with self.lock:
            if not self._answer():
                return False
            position = self._base + len(self._out)
            pieces = self._encoded(values, position, position + 1)
            if pieces:
                self._send_counted(_PART, 0, pieces)
            self._sent(position + 1)
        return True

    # Emitting, further inputs.

    def emit(self, value, port):
        output = self.output(port)
        if not self._is_working:
            raise RuntimeError("mpflow.emit: in `map` mode a value belongs to a record, and none is being worked on")
        if not output.wanted:
            return
        with self.lock:
            owner, owners = self._base + len(self._out), output.owners
            # In order of the records, also when results are taken apart that were made one after the other.
            at = len(owners) if not owners or owners[-1] <= owner else bisect_right(owners, owner)
            output.values.insert(at, value)
            owners.insert(at, owner)
            self._emitted_bytes += getsizeof(value, 64)
            if self._emitted_bytes >= _PART_BYTES:
                self._emitted_bytes = 0
                self._spill(())

    def before_wait(self):
        with self.lock:
            self._answer()
        self.segments.send_freed()
        self._resume = self._watch.is_on
        self._watch.end()

    def after_wait(self):
        if self._resume:
            self._watch.begin()

    # Answers. The lock is held in all of these.

    def _flush_late(self):
        """What the watching thread does."""
        with self.lock:
            if self.is_torn or self._error is not None or not self._watch.is_on:
                return False
            before = self._answered
            try:
                self._answer(True)
            except BaseException as error:
                self._error = error
            return self._answered > before

    def _answer(self, is_late=False):
        """Answers all that is done. False if some of it is not one value each, which is the main thread's business.

        `is_late`: the watching thread asks, and the main one may be adding to what is done.
        """
        out, start = self._out, self._answered
        ready = len(out)
        if ready == start:
            return True
        # While it is being worked on the list may grow: a copy then.
        results = out[start:ready] if start or is_late or self._is_working else out
        nothing = False
        if not self._is_flat:
            kinds = set(map(type, results))
            if not kinds <= self._plain:
                nothing = type(None) in kinds
                kinds.discard(type(None))
                if any(map(_call.is_special, kinds)):
                    return False
                self._plain |= kinds
                if len(self._plain) > 1000:
                    self._plain = set()
        self._answered = ready
        self._settle(results, self._base + start, nothing)
        if self._is_working:
            # A long slice goes on: let go of what it need not keep.
            out[start:ready] = repeat(None, ready - start)
        return True

    def _settle(self, results, first, nothing):
        """Answers the oldest records, which begin at the place `first` of their block, with `results`.

        `nothing` says whether there are None among them, which stand for no value.
        """
        count = len(results)
        stop = first + count
        stdout = self._stdout
        if stdout is None:
            values = ()
        elif stdout.owners and stdout.owners[0] < stop:
            if count > 1:
                self._halve(results, first, nothing)
                return
            own = results[0] if self._is_flat else () if results[0] is None else (results[0],)
            emitted = bisect_right(stdout.owners, first)
            values = [*stdout.values[:emitted], *own]
        elif self._is_flat:
            values = list(chain.from_iterable(results))
        elif nothing:
            values = [value for value in results if value is not None]
        else:
            values = results
        try:
            pieces = self._encoded(values, first, stop)
        except Uncodable as error:
            if count > 1:
                self._halve(results, first, nothing)
            else:
                self._drop_emitted(first)
                self._fail(Failure(error, _errors.shown(self._records[first])))
            return
        if count > 1 and sum(map(len, pieces)) > 2 * _PART_BYTES:
            self._rollback()
            self._halve(results, first, nothing)
            return
        self._send_counted(_DONE, count * self._weight, pieces)
        self._sent(stop)

    def _halve(self, results, first, nothing):
        half = len(results) // 2
        self._settle(results[:half], first, nothing)
        self._settle(results[half:], first + half, nothing)

    def _encoded(self, values, first, stop):
        """The outputs of an answer: `values`, and what the records from `first` to `stop` have emitted."""
        pieces = []
        try:
            for output in self.outputs:
                if output is self._stdout:
                    those = values
                elif output.owners:
                    those = output.values[: bisect_right(output.owners, stop - 1)]
                else:
                    continue
                if those:
                    data = output.encode(those)
                    pieces += (_OUTPUT.pack(output.position, len(those), len(data)), data)
        except BaseException:
            self._rollback()
            raise
        return pieces

    def _rollback(self):
        for output in self.outputs:
            output.codec.rollback()

    def _sent(self, stop):
        """The answers of all records before `stop` are sent."""
        for output in self.outputs:
            output.codec.commit()
        self._drop_emitted(stop - 1)

    def _drop_emitted(self, last):
        """Forgets what the records up to `last` have emitted."""
        for output in self.outputs:
            if output.owners:
                count = bisect_right(output.owners, last)
                del output.owners[:count], output.values[:count]

    def _fail(self, failure):
        document = _errors.document(failure.error)
        document["record"] = failure.shown
        self._send(_FAILED, _documents.tell(document))

    def _send_counted(self, kind, count, pieces):
        is_large = False
        if pieces:
            for output in self.outputs:
                is_large |= output.is_large
                output.is_large = False
        self._answers.before(is_large)
        self._write([_COUNTED.pack(8 + sum(map(len, pieces)), kind, count), *pieces])

    def _send(self, kind, payload):
        self._write([_ANSWER.pack(4 + len(payload), kind), payload])

    def _write(self, pieces):
        self.is_torn = True
        try:
            write(self._answers.descriptor, pieces)
        except BrokenPipeError:
            # Only the engine reads answers.
            gone()
        self.is_torn = False

    def finish(self):
        """Nothing is left: every record is answered."""
