//! Workers that do not keep to the worker protocol: each is a clear error of its own stage, and harms nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::{Finished, Scenario, numbers, path_with_python, status_field};

/// What a worker without the SDK needs: the task, the two ways to talk, a look at what it is leased.
const PRELUDE: &str = r#"#!/usr/bin/env python3
import array, fcntl, json, mmap, os, socket, struct, sys, time
task = json.loads(os.pread(int(os.environ["MPFLOW_TASK"]), 1 << 20, 0))
control = int(os.environ["MPFLOW_CONTROL"])
answers = task["answers"]
leased = next((port["fd"] for port in task["inputs"] if port["leased"]), None)

def u32(*numbers): return struct.pack("<%dI" % len(numbers), *numbers)
def write(fd, data):
    while data: data = data[os.write(fd, data):]
def tell(kind, payload=b""): write(control, u32(len(payload) + 1) + bytes([kind]) + payload)
def ids(*numbers): return struct.pack("<%dQ" % len(numbers), *numbers)
def ready(**more): tell(1, json.dumps({"protocol": 1, "language": "test", **more}).encode())
def exactly(fd, count):
    data = b""
    while len(data) < count:
        some = os.read(fd, count - len(data))
        if not some: raise SystemExit(0)
        data += some
    return data
def wait_for_go():
    while True:
        length, kind = struct.unpack("<IB", exactly(control, 5))
        exactly(control, length - 1)
        if kind == 65: return
def records():
    """One RECORDS frame: how many, and their bytes."""
    length, kind, flags, count, attempt = struct.unpack("<IBB2xII", exactly(leased, 16))
    return count, exactly(leased, length - 12)
def answer(kind, payload=b""): write(answers, u32(len(payload) + 4) + bytes([kind, 0, 0, 0]) + payload)
def output(count, data, port=0): return u32(port, count, len(data)) + data
def done(count, *outputs): answer(1 if count else 2, u32(count) + b"".join(outputs))
def begin(): ready(); wait_for_go()
def rest():
    """Does nothing more, and lives on."""
    while True: time.sleep(1000)
def memory(size, seal=2 | 4, fill=True):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if fill: os.posix_fallocate(fd, 0, size)
    if seal: fcntl.fcntl(fd, 1033, seal)
    return fd
def segment(number, size, *fds):
    data = u32(17) + bytes([5]) + ids(number, size)
    socket.socket(fileno=os.dup(control)).sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
def chunk(count, body=b"\x90" + b"\xc0" * 40, skip=0, flags=0, segments=()):
    named = b"".join(ids(*one) for one in segments)
    return struct.pack("<IIIHH", 12 + len(named) + len(body), skip, count, flags, len(segments)) + named + body
"#;

/// A stage `bad` whose workers run this after the prelude, beside a healthy one.
struct Hostile {
    keys: &'static str,
    format: &'static str,
    body: String,
}

fn hostile(body: &str) -> Hostile {
    Hostile { keys: "", format: "lines", body: body.to_owned() }
}

impl Hostile {
    /// Further keys of the stage.
    fn with(self, keys: &'static str) -> Self {
        Self { keys, ..self }
    }

    fn format(self, format: &'static str) -> Self {
        Self { format, ..self }
    }

    fn scenario(&self) -> Scenario {
        let Self { keys, format, body } = self;
        let (to, sink) = match *format {
            "msgpack" | "pickle" => (" -> sink", "sink: {python: 'tasks:sink'}"),
            _ => (" -> stdout", ""),
        };
        let from = if keys.contains("stdin: ") || keys.contains("source") { "" } else { "stdin -> " };
        let feed =
            if from.is_empty() { String::new() } else { "- {queue: stdin -> bad, format: lines}".to_owned() };
        let keys = keys.replace(", source: true", "");
        let pipeline = format!(
            "
            stages:
              bad: {{python: 'any:thing', python_executable: ./bad, on_failure: continue{keys}}}
              numbers: {{command: seq 1 3000}}
              good: {{python: 'tasks:good', pool: 2}}
              kept: {{command: cat > kept}}
              {sink}
            edges:
              {feed}
              - {{queue: bad{to}, format: {format}}}
              - {{queue: numbers -> good -> kept, format: json}}"
        );
        Scenario::new(pipeline)
            .program("bad", &format!("{PRELUDE}\n{body}\n"))
            .file("tasks.py", "def good(x): return x + 1\ndef sink(x): pass\n")
            .env("PATH", &path_with_python())
            .stdin(numbers(100))
    }

    /// Runs it: the healthy stage has done all its work, and the run ended as failed.
    #[track_caller]
    fn run(&self) -> Finished {
        let run = self.scenario().run().ended(1);
        assert_unharmed(&run);
        run
    }

    /// Runs it, and this was said of the worker.
    #[track_caller]
    fn breaks(&self, what: &str) {
        let run = self.run();
        let said = format!("worker `bad` broke the worker protocol: {what}");
        assert!(run.stderr.contains(&said), "`{said}` is missing\n{}", run.told());
        assert_eq!(run.failure()["stage"], json!("bad"));
    }
}

#[track_caller]
fn assert_unharmed(run: &Finished) {
    let mut kept: Vec<u64> = run.read("kept").lines().map(|line| line.parse().unwrap()).collect();
    kept.sort_unstable();
    assert!(kept == (2..=3001).collect::<Vec<_>>(), "the healthy stage lost records\n{}", run.told());
    let edge = run.edge("numbers -> good");
    assert_eq!((&edge["in"], &edge["delivered"]), (&json!(3000), &json!(3000)));
}

// ---- answers

#[test]
fn an_answer_that_is_longer_than_any_may_be_is_refused_before_it_comes() {
    hostile("begin(); write(answers, u32(0xffffffff) + bytes(100)); rest()")
        .breaks("an answer of 4294967295 bytes");
}

#[test]
fn an_answer_of_an_unknown_kind_is_refused() {
    hostile("begin(); records(); answer(9, bytes(8)); rest()").breaks("an answer of an unknown kind, 9");
}

#[test]
fn an_answer_that_is_too_short_is_refused() {
    hostile("begin(); records(); write(answers, u32(1) + b'x'); rest()")
        .breaks("an answer of 5 bytes is too short");
}

#[test]
fn garbage_is_refused() {
    hostile("begin(); records(); write(answers, b'\\x10\\0\\0\\0' + b'garbage' * 1000); rest()")
        .breaks("an answer of ");
}

#[test]
fn an_answer_to_more_than_its_frame_holds_is_refused() {
    hostile("begin(); count, _ = records(); done(count + 1); rest()").breaks("it answered");
    hostile("done(1); rest()").breaks("it answered 1 records at once of a frame that has 0 left");
    hostile("begin(); done(0xffffffff); rest()").breaks("it answered 4294967295 records");
}

#[test]
fn an_answer_over_two_frames_is_refused() {
    let body = "
begin()
first, _ = records()
done(first - 1)
second, _ = records()
done(1 + second)
rest()";
    hostile(body).with(", prefetch: 50").breaks("it answered");
}

#[test]
fn a_part_of_a_batch_is_not_answered_alone() {
    hostile("begin(); records(); done(1); rest()")
        .with(", batch: 5")
        .breaks("it answered 1 records of a batch of 5");
}

#[test]
fn results_for_an_output_that_is_not_there_are_refused() {
    hostile("begin(); records(); done(1, output(1, b'x\\n', port=7)); rest()")
        .breaks("results for output 7, of 1");
}

#[test]
fn results_that_are_not_whole_records_are_refused() {
    hostile("begin(); records(); done(1, output(2, b'x\\ny')); rest()")
        .breaks("2 records were announced in 3 bytes");
    hostile("begin(); records(); done(1, u32(0, 1, 1000) + b'x\\n'); rest()")
        .breaks("results of 1000 bytes where 2 are left");
    hostile("begin(); records(); done(1, b'xyz'); rest()").breaks("results that do not end with their frame");
}

#[test]
fn an_answer_in_more_outputs_than_anybody_needs_is_refused() {
    hostile("begin(); records(); done(1, output(1, b'x\\n') * 5000); rest()")
        .breaks("an answer with more than 1024 outputs");
}

#[test]
fn a_failure_or_a_part_of_no_record_is_refused() {
    for said in ["answer(3, b'{}')", "answer(4, b'1')", "done(0, output(1, b'x\\n'))"] {
        // Before READY, when it cannot have been given any.
        hostile(&format!("{said}; rest()")).breaks("it said something of a record, and holds none");
    }
}

#[test]
fn a_failure_that_is_no_json_is_refused() {
    hostile("begin(); records(); answer(3, b'no json'); rest()").breaks("a message that is not its JSON");
    hostile("begin(); records(); answer(4, b'[' * 2000000); rest()").breaks("a JSON text of 2000000 bytes");
}

#[test]
fn a_part_that_is_not_what_its_port_carries_fails_the_stage() {
    let run = hostile("begin(); records(); done(0, output(1, b'no json\\n')); done(1); rest()")
        .format("json")
        .run();
    run.said(["stage `bad`: it wrote a record that is not one JSON document", "no json"]);
}

#[test]
fn a_result_that_is_larger_than_its_queue_takes_fails_the_stage() {
    let scenario = Scenario::new(
        "
        stages: {bad: {python: 'any:thing', python_executable: ./bad}}
        edges:
          - {queue: stdin -> bad}
          - {queue: bad -> stdout, max_record: 1KiB}",
    );
    let body = format!("{PRELUDE}\nbegin(); records(); done(1, output(1, b'x' * 2000 + b'\\n')); rest()");
    let run = scenario.program("bad", &body).stdin("1\n").run().ended(1);
    run.said(["stage `bad`: it made a record of 2000 bytes, more than the 1024 of `max_record`"]);
}

#[test]
fn a_flood_of_descriptions_costs_no_memory() {
    let body = "
begin(); records()
text = json.dumps('x' * 1000000).encode()
for _ in range(300): answer(4, text)
open('flooded', 'w').write('\\n')
rest()";
    let run = hostile(body).with(", record_timeout: 60s").scenario().start();
    run.wait_for_file("flooded");
    assert_small(run.pid());
    drop(run);
}

#[test]
fn results_without_end_are_held_in_a_file() {
    let body = "
begin(); records()
text = output(1, b'x' * 999999 + b'\\n')
for _ in range(300): done(0, text)
open('flooded', 'w').write('\\n')
rest()";
    let run = hostile(body).scenario().start();
    run.wait_for_file("flooded");
    assert_small(run.pid());
    drop(run);
}

/// The engine holds at its worst what queues may, and an answer or two.
#[track_caller]
fn assert_small(pid: i32) {
    let peak = status_field(pid, "VmHWM");
    let kib: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 160 << 10, "the engine's peak is {peak}");
}

// ---- the control connection

#[test]
fn a_control_frame_of_a_wrong_length_is_refused() {
    hostile("write(control, u32(0xffffffff)); rest()").breaks("a control frame of 4294967295 bytes");
    hostile("write(control, u32(0)); rest()").breaks("a control frame of 0 bytes");
}

#[test]
fn a_control_frame_of_an_unknown_kind_is_refused() {
    hostile("tell(77); rest()").breaks("a control frame of an unknown kind, 77");
    hostile("write(control, b'\\3\\0\\0\\0garbage'); rest()")
        .breaks("a control frame of an unknown kind, 103");
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    hostile("tell(1, b'{\"protocol\": 2}'); rest()")
        .breaks("it speaks version 2 of it, and this is version 1");
}

#[test]
fn whoever_is_ready_twice_or_broken_after_it_is_refused() {
    hostile("ready(); ready(); rest()").breaks("it said READY a second time");
    hostile("ready(); tell(2, b'{}'); rest()").breaks("it said BROKEN after READY");
}

#[test]
fn what_is_written_before_go_is_refused() {
    let body = "os.write(task['outputs'][0]['fd'], b'early\\n'); rest()";
    hostile(body).with(", mode: stream").breaks("it wrote before it was told to go");
}

#[test]
fn a_flood_on_the_control_connection_holds_nobody_up() {
    let body = "
begin()
frames = (u32(1) + bytes([6])) * 10000
while not os.path.exists('enough'): write(control, frames)
done(5000)
rest()";
    let run = hostile(body).scenario().start();
    // The healthy stage gets its turns meanwhile.
    run.wait_for_event_of("stage_finished", "kept");
    assert_small(run.pid());
    std::fs::write(run.path("enough"), "").unwrap();
    let run = run.finish().ended(1);
    assert_unharmed(&run);
}

#[test]
fn a_control_frame_without_an_end_harms_nobody() {
    let body = "
begin()
write(control, u32(1 << 20) + b'\\3' + b'z' * 500000)
records()
done(5000)
rest()";
    hostile(body).breaks("it answered 5000 records");
}

#[test]
fn descriptors_that_belong_to_nothing_are_not_kept() {
    let body = "
begin()
with socket.socket(fileno=os.dup(control)) as line:
    line.sendmsg([u32(2) + b'\\3x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 200))])
rest()";
    hostile(body).breaks("descriptors that belong to no segment");
}

#[test]
fn a_control_connection_that_is_closed_early_is_a_breach() {
    hostile("os.close(control); rest()").breaks("it closed its control connection and lives on");
    hostile("begin(); os.close(control); rest()").breaks("it closed its control connection and lives on");
}

#[test]
fn a_pipe_for_answers_that_is_closed_early_is_a_breach() {
    hostile("begin(); records(); os.close(answers); rest()")
        .breaks("it closed its pipe for answers and lives on");
}

// ---- segments

#[test]
fn a_segment_that_is_none_is_refused() {
    for (sent, said) in [
        ("segment(1, 4096)", "segment 1 without its descriptor"),
        ("segment(1, 4096, os.pipe()[0])", "segment 1, which is no memory file of a sealed size"),
        ("segment(1, 4096, memory(4096, seal=0))", "segment 1, which is no memory file of a sealed size"),
        ("segment(1, 4096, memory(4096, fill=False))", "segment 1, which is no memory file of a sealed size"),
        ("segment(1, 1 << 40, memory(4096))", "segment 1 of 1099511627776 bytes, which are 4096"),
        ("fd = memory(4096); segment(1, 4096, fd); segment(1, 4096, fd)", "a second segment 1"),
    ] {
        hostile(&format!("begin(); {sent}; rest()")).breaks(said);
    }
}

#[test]
fn thousands_of_segments_are_refused() {
    hostile("begin()\nfor n in range(5000): segment(n, 4096, memory(4096))\nrest()")
        .breaks("more than 256 segments");
}

#[test]
fn a_segment_is_freed_and_dropped_by_whom_it_was_given_to_and_once() {
    hostile("begin(); tell(6, ids(5)); rest()").breaks("it is done with segment 5, which it was not given");
    hostile("begin(); tell(7, ids(5)); rest()").breaks("it drops segment 5, which it has not sent");
    hostile("begin(); segment(1, 4096, memory(4096)); tell(7, ids(1, 1)); rest()")
        .breaks("it drops segment 1, which it has not sent");
    hostile("begin(); tell(6, b'abc'); rest()").breaks("a list of numbers of 8 bytes that has others");
}

#[test]
fn a_record_in_a_segment_that_was_not_sent_is_refused() {
    let body = "begin(); records(); done(1, output(1, chunk(1, b'', flags=1, segments=[(9, 100)]))); rest()";
    hostile(body).format("msgpack").breaks("a record in segment 9, which it has not sent");
    let body = "
begin(); records(); segment(1, 4096, memory(4096))
done(1, output(1, chunk(1, b'', flags=1, segments=[(1, 5000)])))
rest()";
    hostile(body).format("msgpack").breaks("a record of 5000 bytes in segment 1, which has 4096");
}

// ---- chunks

#[test]
fn a_chunk_with_no_records_or_absurdly_many_is_refused() {
    let wrong = "a chunk without records, or with more than its bytes can hold";
    hostile("begin(); records(); done(1, output(0, chunk(0))); rest()").format("msgpack").breaks(wrong);
    hostile("begin(); records(); done(1, output(0xffffffff, chunk(0xffffffff))); rest()")
        .format("msgpack")
        .breaks(wrong);
    hostile("begin(); records(); done(1, output(1, chunk(1, skip=0xffffffff))); rest()")
        .format("msgpack")
        .breaks(wrong);
    for made in ["chunk(0)", "chunk(0xffffffff)", "chunk(1, skip=0xfffffff0)", "u32(3) + bytes(12)"] {
        let body = format!("begin(); os.write(task['outputs'][0]['fd'], {made}); rest()");
        hostile(&body).format("msgpack").with(", mode: stream").breaks(wrong);
    }
}

#[test]
fn a_chunk_that_says_it_is_endless_is_refused_before_it_comes() {
    let body = "
begin()
write(task['outputs'][0]['fd'], u32(0xffffffff, 0, 0xffffffff, 0) + bytes(100))
rest()";
    let run = hostile(body).format("msgpack").with(", mode: stream").run();
    run.said(["stage `bad`: it wrote a record of at least 4294967283 bytes"]);
}

// ---- silence, and ends

#[test]
fn a_worker_that_never_says_ready_fails_by_the_timeout_of_its_stage() {
    let run = hostile("rest()").with(", timeout: 1s").run();
    run.said(["stage `bad`", "timeout"]);
}

#[test]
fn what_a_silent_worker_is_waited_for_is_said_when_asked() {
    let run =
        hostile("open('lives', 'w').write('\\n'); rest()").scenario().args(["--progress", "plain"]).start();
    run.wait_for_file("lives");
    run.signal(support::Signal::SIGUSR1);
    run.wait_for_message("has not said yet that its function can be called");
    run.signal(support::Signal::SIGTERM);
    run.finish().ended(143);
}

#[test]
fn a_worker_that_never_reads_is_killed_by_its_timeout() {
    let run = hostile("begin(); rest()").with(", record_timeout: 200ms, restart: never").run();
    run.said(["record_timeout"]);
}

#[test]
fn a_worker_that_ends_well_with_records_that_it_has_not_answered_is_charged_with_one() {
    let run = hostile("begin(); records(); sys.exit(0)").with(", restart: {max: 100}").run();
    run.said(["stage `bad`: ", "worker `bad` exited with 0", "3 times, for the record `1`"]);
}

/// Lives that see their first record, and end without having read of it.
const DIES_UNREAD: &str = "
begin()
size = array.array('i', [0])
while not size[0]: fcntl.ioctl(leased, 0x541b, size); time.sleep(0.001)   # FIONREAD
with open('lives', 'a') as lives: lives.write('\\n')
if len(open('lives').read()) <= 4: os.kill(os.getpid(), 9)
while True:
    count, data = records()
    done(count, output(count, data))
";

#[test]
fn records_whose_workers_die_before_they_read_them_were_not_tried() {
    let run = hostile(DIES_UNREAD).scenario().run().succeeded();
    assert_unharmed(&run);
    let bad = run.stage("bad");
    assert_eq!((&bad["records_in"], &bad["retried"]), (&json!(100), &json!(0)), "{}", run.told());
    let batch = hostile(DIES_UNREAD).with(", batch: 7").scenario().run().succeeded();
    assert_eq!(batch.stage("bad")["retried"], json!(0), "{}", batch.told());
}

#[test]
fn a_record_that_no_worker_lived_to_tell_of_is_read_by_the_engine() {
    // Each dies when it has read the record, and says nothing about it.
    let pipeline = "
        stages:
          some: {python: 'some:some'}
          bad: {python: 'any:thing', python_executable: ./bad, prefetch: 1, restart: {max: 100}}
          sink: {python: 'some:sink'}
          kept: {command: cat > kept}
        edges:
          - {queue: some -> bad -> sink, format: msgpack}
          - queue: bad.failed -> kept";
    let run = Scenario::new(pipeline)
        .program("bad", &format!("{PRELUDE}\nbegin(); records(); os.kill(os.getpid(), 9)\n"))
        .file("some.py", "def some():\n    yield {'name': 'one'}\n    yield [2, 'two']\ndef sink(x): pass\n")
        .env("PATH", &path_with_python())
        .run()
        .succeeded();
    let documents: Vec<Value> =
        run.read("kept").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: Vec<_> =
        documents.iter().map(|document| (&document["record"], &document["attempts"])).collect();
    assert_eq!(
        known,
        [(&json!({"name": "one"}), &json!(3)), (&json!([2, "two"]), &json!(3))],
        "{}",
        run.told()
    );
}

#[test]
fn a_child_that_holds_the_pipes_of_a_worker_and_floods_them_holds_nobody_up() {
    let body = "
begin()
count, data = records()
if os.fork() == 0:
    os.setsid()
    try:
        while True: answer(4, b'1')
    except BrokenPipeError: os._exit(0)
sys.exit(3)";
    hostile(body).with(", restart: never").run().said(["stage `bad`"]);
}

#[test]
fn what_a_worker_that_has_ended_left_in_its_pipe_is_judged_too() {
    let body = "begin(); os.write(task['outputs'][0]['fd'], chunk(1) + chunk(0)); sys.exit(0)";
    hostile(body)
        .format("msgpack")
        .with(", mode: stream")
        .breaks("a chunk without records, or with more than its bytes can hold");
    hostile("begin(); records(); done(5000); sys.exit(0)").breaks("it answered 5000 records");
}

#[test]
fn another_worker_of_the_stage_does_what_a_killed_one_was_given() {
    // The stage fails all the same: a program that is wrong will be wrong again.
    let run = hostile("begin(); records(); answer(9); rest()").with(", pool: 3").run();
    let run = run.said(["broke the worker protocol: an answer of an unknown kind, 9"]);
    let edge = run.edge("stdin -> bad");
    assert_eq!(edge["delivered"], json!(0));
}
