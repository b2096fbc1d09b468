//! Python functions as stages: every form of a callable, every format, every way to fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::json;
use support::{Scenario, Signal, path_with_python};

/// A pipeline beside a module `tasks`.
fn with_tasks(pipeline: &str, tasks: &str) -> Scenario {
    Scenario::new(pipeline).file("tasks.py", tasks).env("PATH", &path_with_python())
}

const SQUARES: &str = "
stages:
  numbers: {command: seq 1 10}
  square: {python: 'tasks:square', pool: 4, ordered: true}
edges: [{queue: numbers -> square -> stdout, format: json}]";

#[test]
fn a_function_is_called_with_each_record_and_what_it_returns_goes_on() {
    let run = with_tasks(SQUARES, "def square(x): return x * x").run().succeeded();
    run.wrote("1\n4\n9\n16\n25\n36\n49\n64\n81\n100\n");
}

#[test]
fn a_source_a_pool_and_a_sink_pass_python_objects() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source', args: [1000]}
          work: {python: 'tasks:work', pool: 2, ordered: true}
          sink: {python: 'tasks:Sink'}
        edges: [{queue: source -> work -> sink}]";
    let tasks = "
def source(n):
    for i in range(n):
        yield {'i': i, 'set': {i}}
def work(x):
    return (x['i'], x['set'])
class Sink:
    def __init__(self): self.seen = []
    def __call__(self, x): self.seen.append(x)
    def close(self): open('seen', 'w').write(f'{self.seen == [(i, {i}) for i in range(1000)]}\\n')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    assert_eq!(run.read("seen"), "True\n");
    assert_eq!(run.stage("work")["records_in"], json!(1000));
}

#[test]
fn none_emits_nothing_and_a_generator_emits_each_value() {
    let pipeline = "
        stages: {some: {python: 'tasks:some'}}
        edges: [{queue: stdin -> some -> stdout}]";
    let tasks = "
def some(line):
    n = int(line)
    if n == 0: return None
    return (f'{line}.{i}' for i in range(n))";
    with_tasks(pipeline, tasks).stdin("2\n0\n3\n").run().succeeded().wrote("2.0\n2.1\n3.0\n3.1\n3.2\n");
}

#[test]
fn a_class_is_made_once_for_each_worker_with_its_arguments_and_closed_at_the_end() {
    let pipeline = "
        stages: {count: {python: 'tasks:Count', args: [100], kwargs: {step: 10}}}
        edges: [{queue: stdin -> count -> stdout}]";
    let tasks = "
class Count:
    def __init__(self, start, step): self.n, self.step = start, step
    def __call__(self, line):
        self.n += self.step
        return self.n
    def close(self): print('closed at', self.n)";
    let run =
        with_tasks(pipeline, tasks).stdin("a\nb\nc\n").run().succeeded().said(["count | closed at 130"]);
    run.wrote("110\n120\n130\n");
}

#[test]
fn a_stream_function_is_given_an_iterator_and_yields() {
    let pipeline = "
        stages: {pairs: {python: 'tasks:pairs', mode: stream}}
        edges: [{queue: stdin -> pairs -> stdout}]";
    let tasks = "
def pairs(lines):
    for line in lines:
        yield line + ' ' + next(lines)";
    with_tasks(pipeline, tasks).stdin("a\nb\nc\nd\n").run().succeeded().wrote("a b\nc d\n");
}

#[test]
fn a_stream_function_that_has_enough_ends_what_feeds_it() {
    let pipeline = "
        stages:
          endless: {command: 'yes'}
          first: {python: 'tasks:first', mode: stream}
        edges: [{queue: endless -> first -> stdout}]";
    let tasks = "
from itertools import islice
def first(lines): yield from islice(lines, 3)";
    with_tasks(pipeline, tasks).run().succeeded().wrote("y\ny\ny\n");
}

#[test]
fn unpack_spreads_lists_and_maps() {
    let pipeline = "
        stages: {add: {python: 'tasks:add', unpack: true}}
        edges: [{queue: stdin -> add -> stdout, format: json}]";
    let input = "[1, 2]\n{\"b\": 3, \"a\": 4}\n";
    with_tasks(pipeline, "def add(a, b): return [a, b, a + b]")
        .stdin(input)
        .run()
        .succeeded()
        .wrote("[1,2,3]\n[4,3,7]\n");
}

#[test]
fn a_batch_is_a_list_and_what_it_returns_is_one_result() {
    let pipeline = "
        stages: {sum: {python: 'tasks:total', batch: 4}}
        edges: [{queue: stdin -> sum -> stdout, format: json}]";
    let run = with_tasks(pipeline, "def total(xs): return [len(xs), sum(xs)]").stdin(support::numbers(10));
    run.run().succeeded().wrote("[4,10]\n[4,26]\n[2,19]\n");
}

#[test]
fn further_ports_are_emitted_to_and_read_from() {
    let pipeline = "
        stages:
          split: {python: 'tasks:split'}
          join: {python: 'tasks:join'}
        edges:
          - queue: stdin -> split -> join
          - queue: split.odd -> join.odd";
    let tasks = "
import mpflow
def split(line):
    n = int(line)
    if n % 2: mpflow.emit(n, port='odd')
    else: return n
def join(n):
    return n + sum(mpflow.input('odd')) if n == 10 else None";
    with_tasks(pipeline, tasks).stdin(support::numbers(10)).run().succeeded().wrote("35\n");
}

#[test]
fn a_worker_knows_who_it_is() {
    let pipeline = "
        stages: {who: {python: 'tasks:who', pool: 3, mode: stream}}";
    let tasks = "
import mpflow, os
def who():
    w = mpflow.worker
    yield f'{w.name} {w.rank} {w.pool} {w.stage} {w.pid == os.getpid()}'";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    run.wrote_lines(["who/0 0 3 who True", "who/1 1 3 who True", "who/2 2 3 who True"]);
}

#[test]
fn multiprocessing_knows_a_worker_by_its_name() {
    for import in ["import multiprocessing", "pass"] {
        let pipeline = "stages: {one: {python: 'tasks:who'}, two: {python: 'tasks:who', pool: 2}}";
        let tasks = format!(
            "
{import}
def who():
    from multiprocessing import current_process
    return f'{{current_process().name}} {{current_process().daemon}}'"
        );
        let run = with_tasks(pipeline, &tasks).run().succeeded();
        run.wrote_lines(["one False", "two/0 False", "two/1 False"]);
    }
}

#[test]
fn functions_that_no_queue_feeds_are_joined_by_pipes() {
    let pipeline = "
        stages: {sender: {python: 'tasks:sender'}, receiver: {python: 'tasks:receiver'}}
        edges: [{pipe: sender -> receiver}, {queue: receiver -> stdout}]";
    let tasks = "
import mpflow
def sender():
    for what in 'hello', [1, 2], None: mpflow.connection('receiver').send(what)
def receiver():
    connection = mpflow.connection('sender')
    yield f'{connection.readable} {connection.writable}'
    try:
        while True: yield str(connection.recv())
    except EOFError: yield 'the end'";
    with_tasks(pipeline, tasks).run().succeeded().wrote("True False\nhello\n[1, 2]\nNone\nthe end\n");
}

#[test]
fn a_duplex_pipe_joins_two_functions() {
    let pipeline = "
        stages: {client: {python: 'tasks:client', pool: 2}, server: {python: 'tasks:server', pool: 2}}
        edges: [{pipe: client -> server, duplex: true}, {queue: client -> stdout}]";
    let tasks = "
import mpflow
def client():
    server = mpflow.connection('server')
    server.send(mpflow.worker.rank)
    return str(server.recv())
def server():
    client = mpflow.connection('client')
    client.send((mpflow.worker.rank, client.recv()))
    try: client.recv()
    except EOFError: print('hung up')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    run.said(["server/0 | hung up", "server/1 | hung up"]).wrote_lines(["(0, 0)", "(1, 1)"]);
}

#[test]
fn a_pipe_between_a_command_and_a_function_carries_bytes() {
    let pipeline = "
        stages: {numbers: {command: seq 3}, double: {python: 'tasks:double'}, last: {command: tail -n 1}}
        edges: [{pipe: numbers -> double -> last}, {queue: last -> stdout}]";
    let tasks = "
import mpflow
def double():
    numbers = open(mpflow.connection('numbers').fileno(), closefd=False)
    with open(mpflow.connection('last').fileno(), 'w', closefd=False) as last:
        for number in numbers: print(2 * int(number), file=last)";
    with_tasks(pipeline, tasks).run().succeeded().wrote("6\n");
}

#[test]
fn what_a_function_prints_is_log_and_never_data() {
    let run = with_tasks(SQUARES, "def square(x):\n    print('squaring', x)\n    return x").run().succeeded();
    run.said(["square/", "| squaring 7"]).wrote("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
}

#[test]
fn a_line_that_is_printed_is_whole_though_processes_share_the_output() {
    let tasks = "
import os
def work():
    for _ in range(4):
        if os.fork() == 0: break
    for number in range(200): print('line', number)";
    let run = with_tasks("stages: {work: {python: 'tasks:work'}}", tasks).env("PYTHONUNBUFFERED", "1");
    let run = run.run().succeeded();
    let line = regex::Regex::new(r"^work \| line \d+$").unwrap();
    assert_eq!(run.stderr.lines().filter(|text| line.is_match(text)).count(), 1000, "{}", run.stderr);
}

// ---- failures

#[test]
fn an_exception_fails_its_record_with_its_traceback() {
    let pipeline = "
        stages:
          half: {python: 'tasks:half', retry: 2}
        edges:
          - queue: stdin -> half -> stdout
          - queue: half.failed -> stdout";
    let tasks = "
def half(line):
    n = int(line)
    if n % 2: raise ValueError(f'{n} is odd')
    return n // 2";
    let run = with_tasks(pipeline, tasks).stdin("4\n5\n6\n").run().succeeded();
    let mut lines: Vec<&str> = std::str::from_utf8(&run.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines[..2], ["2", "3"]);
    let failed: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(failed["record"], "5");
    assert_eq!(failed["error"], "ValueError: 5 is odd");
    assert_eq!(
        (&failed["attempts"], &failed["worker"], &failed["exit"]),
        (&json!(2), &json!("half"), &json!(null))
    );
    let traceback = failed["traceback"].as_str().unwrap();
    assert!(traceback.contains("line 4, in half") && !traceback.contains("mpflow"), "{traceback}");
}

#[test]
fn an_exception_whose_record_has_no_way_out_fails_the_stage_and_shows_the_traceback() {
    let run = with_tasks(SQUARES, "def square(x): return 1 / (x - 5)").run().ended(1);
    run.said(["stage `square`: ZeroDivisionError: ", "for the record `5`", "in square"]);
}

#[test]
fn on_error_skip_counts_the_record_and_goes_on() {
    let pipeline = SQUARES.replace("ordered: true", "ordered: true, on_error: skip");
    let run = with_tasks(&pipeline, "def square(x): return 10 // (x - 5)").run().succeeded();
    assert_eq!(run.stage("square")["failed"], json!(1));
    run.wrote("-3\n-4\n-5\n-10\n10\n5\n3\n2\n2\n");
}

#[test]
fn the_failed_port_has_a_python_object_as_json_or_as_python_writes_it() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work'}
        edges:
          - queue: source -> work
          - queue: work.failed -> stdout";
    let tasks = "
def source():
    yield {'a': [1, None]}
    yield {1, 2}
def work(x): raise KeyError('no')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    let records: Vec<serde_json::Value> = std::str::from_utf8(&run.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["record"].clone())
        .collect();
    assert_eq!(records, [json!({"a": [1, null]}), json!("{1, 2}")]);
}

#[test]
fn a_value_that_its_format_cannot_carry_fails_its_record_by_name_and_type() {
    let pipeline = "
        stages: {work: {python: 'tasks:work'}}
        edges: [{queue: stdin -> work -> stdout, format: json}]";
    let run = with_tasks(pipeline, "def work(x): return {x}").stdin("1\n").run().ended(1);
    run.said(["set", "json", "for the record `1`"]);
}

#[test]
fn a_stream_function_that_fails_fails_its_stage_with_its_traceback() {
    let pipeline = "
        stages: {work: {python: 'tasks:work', mode: stream}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tasks = "
def work(lines):
    for line in lines:
        yield int(line)";
    let run = with_tasks(pipeline, tasks).stdin("1\nx\n").run().ended(1);
    run.said(["stage `work`: worker `work` exited with 1", "ValueError: invalid literal"]).wrote("1\n");
}

#[test]
fn what_cannot_be_called_is_a_mistake_in_the_pipeline_and_moves_no_record() {
    for (target, tasks, said) in [
        ("tasks:sqare", "def square(x): return x", vec!["did you mean", "square"]),
        ("task:square", "def square(x): return x", vec!["task", "did you mean"]),
        ("tasks:square", "square = 3", vec!["not callable"]),
        (
            "tasks:square",
            "import nowhere_to_be_found\ndef square(x): return x",
            vec!["nowhere_to_be_found", "line 1"],
        ),
        ("tasks:square", "def square(x: return x", vec!["SyntaxError"]),
    ] {
        let pipeline = format!(
            "
            stages:
              numbers: {{command: 'touch began; seq 1 10'}}
              square: {{python: '{target}', pool: 2}}
            edges: [{{queue: numbers -> square -> stdout, format: json}}]"
        );
        let run = with_tasks(&pipeline, tasks).run().ended(2);
        assert!(!run.has("began"), "{target}: the source began");
        assert!(run.stderr.contains("pipeline.yaml:4:"), "{}", run.stderr);
        for part in said {
            assert!(run.stderr.contains(part), "{target}: `{part}` is missing in\n{}", run.stderr);
        }
    }
}

#[test]
fn an_initializer_that_raises_is_told_and_no_worker_is_started_for_ever() {
    let pipeline = SQUARES.replace("ordered: true", "ordered: true, initializer: 'tasks:set_up'");
    let tasks = "
def set_up(): raise RuntimeError('no licence')
def square(x): return x";
    let run = with_tasks(&pipeline, tasks).run().ended(2);
    run.said(["RuntimeError: no licence"]);
}

#[test]
fn a_worker_that_ends_in_a_record_is_replaced_and_exactly_that_record_fails() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work', pool: 2, restart: {max: 100}}
          sink: {python: 'tasks:Sink'}
        edges:
          - queue: source -> work -> sink
          - queue: work.failed -> stdout";
    let tasks = "
import os, signal
def source(): yield from range(20000)
def work(x):
    if x == 7777: os.kill(os.getpid(), signal.SIGKILL)
    return x
class Sink:
    def __init__(self): self.seen = []
    def __call__(self, x): self.seen.append(x)
    def close(self): open('seen', 'w').write(f'{sorted(self.seen) == [x for x in range(20000) if x != 7777]}\\n')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    assert_eq!(run.read("seen"), "True\n");
    let failed: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (&failed["record"], &failed["exit"], &failed["attempts"]),
        (&json!(7777), &json!(-9), &json!(3))
    );
}

#[test]
fn a_passing_kill_costs_no_record() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work', pool: 2, ordered: true, restart: {max: 100}}
        edges: [{queue: source -> work -> stdout}]";
    let tasks = "
import os, time
def source(): yield from range(5000)
def work(x):
    if x in (1000, 3000) and not os.path.exists(f'killed-{x}'):
        open(f'killed-{x}', 'w').close()
        os.abort()
    return x";
    let expected: String = (0..5000).map(|number| format!("{number}\n")).collect();
    with_tasks(pipeline, tasks).run().succeeded().wrote(expected);
}

#[test]
fn an_interrupt_prints_no_traceback() {
    let pipeline = "
        stages: {work: {python: 'tasks:work', stop: {signal: SIGINT}}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tasks = "
import time
def work(line):
    open('began', 'w').write('\\n')
    while True: time.sleep(0.01)";
    let run = with_tasks(pipeline, tasks).stdin("1\n").start();
    run.wait_for_file("began");
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert!(!run.stderr.contains("Traceback"), "{}", run.stderr);
    assert_eq!(run.stage("work")["exits"], json!([[-2, 1]]));
}

#[test]
fn exit_codes_are_as_python_has_them() {
    for (how, exit) in [("sys.exit(3)", 3), ("os._exit(4)", 4), ("os.kill(os.getpid(), 15)", -15)] {
        let pipeline = "stages: {work: {python: 'tasks:work'}}";
        let run = with_tasks(pipeline, &format!("import os, sys\ndef work(): {how}")).run().ended(1);
        assert_eq!(run.report["outcome"]["failures"][0]["exit"], json!(exit), "{how}");
    }
}

// ---- large records

#[test]
fn large_records_come_through_shared_memory_as_they_were() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work', pool: 2}
          sink: {python: 'tasks:Sink'}
        edges: [{queue: source -> work -> sink}]";
    let tasks = "
import hashlib, pickle
def source():
    for i in range(100):
        yield i, pickle.PickleBuffer(bytearray([i]) * (200_000 + i))
def work(x):
    i, data = x
    data = bytes(data)
    assert data == bytes([i]) * (200_000 + i), i
    return i, data
class Sink:
    def __init__(self): self.seen = set()
    def __call__(self, x):
        i, data = x
        assert data == bytes([i]) * (200_000 + i)
        self.seen.add(i)
    def close(self): open('seen', 'w').write(f'{self.seen == set(range(100))}\\n')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    assert_eq!(run.read("seen"), "True\n");
}

#[test]
fn large_records_survive_the_death_of_the_worker_that_made_them_and_of_one_that_read_them() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work', pool: 2, restart: {max: 1000}, max_records_per_worker: 5}
          sink: {python: 'tasks:Sink'}
        edges: [{queue: source -> work -> sink}]";
    let tasks = "
import os, signal
def source():
    for i in range(60):
        yield i, bytes([i]) * 300_000
def work(x):
    i, data = x
    if i % 7 == 3 and not os.path.exists(f'killed-{i}'):
        open(f'killed-{i}', 'w').close()
        os.kill(os.getpid(), signal.SIGKILL)
    return i, data * 2
class Sink:
    def __init__(self): self.seen = []
    def __call__(self, x):
        i, data = x
        assert data == bytes([i]) * 600_000
        self.seen.append(i)
    def close(self): open('seen', 'w').write(f'{sorted(self.seen) == list(range(60))}\\n')";
    let run = with_tasks(pipeline, tasks).run().succeeded();
    assert_eq!(run.read("seen"), "True\n");
}

#[test]
fn more_large_records_wait_in_a_queue_than_a_worker_may_have_segments() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source'}
          work: {python: 'tasks:work'}
        edges:
          - {queue: source -> work, capacity_bytes: 64MiB}
          - {queue: work -> stdout, format: json}";
    let tasks = "
import os, time
def source():
    for i in range(400): yield i, bytes(70_000)
    open('made', 'w').close()
def work(x):
    while not os.path.exists('made'): time.sleep(0.01)
    return x[0]";
    with_tasks(pipeline, tasks).run().succeeded().wrote_lines(0..400);
}

#[test]
fn the_memory_of_large_records_is_used_again_however_many_come() {
    let pipeline = "
        stages:
          source: {python: 'tasks:source', args: [600]}
          STAGE
          sink: {python: 'tasks:sink', mode: stream}
        edges: [{queue: source -> QUEUE sink}, {queue: sink -> stdout, format: json}]";
    // How many segments a worker has made is told by nothing that a user sees, but by their memory.
    let tasks = "
import mpflow
def source(n):
    for i in range(n): yield bytes([i % 256]) * 1_000_000
    yield mpflow._work.segments._last
def copy(record):
    return bytearray(record) if isinstance(record, bytes) else max(record, mpflow._work.segments._last)
def sink(records):
    count = 0
    for record in records:
        if isinstance(record, int):
            made = record
        else:
            assert record[0] == record[-1] == count % 256
            count += 1
    # The queues hold 8 MiB each, and each pipe one record; on a busy machine the news of what is free comes late.
    yield [count, made < 400 or made]";
    for (stage, queue) in [("", ""), ("copy: {python: 'tasks:copy', ordered: true}", "copy ->")] {
        let pipeline = pipeline.replace("STAGE", stage).replace("QUEUE", queue);
        with_tasks(&pipeline, tasks).run().succeeded().wrote("[600,true]\n");
    }
}

#[test]
fn many_small_results_are_answered_together_where_no_record_may_be_large() {
    let pipeline = "
        stages: {work: {python: 'tasks:work'}}
        edges:
          - {queue: stdin -> work}
          - {queue: work -> stdout, max_record: 1KiB}";
    let tasks = "
def work(line):
    for i in range(30_000): yield 'x' * 100";
    let run = with_tasks(pipeline, tasks).stdin("a\nb\n").run().succeeded();
    assert_eq!(run.stdout.len(), 2 * 30_000 * 101);
}
