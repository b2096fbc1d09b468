//! The examples of a course on Python's `multiprocessing`: each is run as it stands in the repository, and what it
//! prints, its exit code and those of its processes are looked at.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};
use support::{Finished, Scenario, Signal, path_with_python};

fn example(name: &str) -> Scenario {
    Scenario::of_repository(&format!("pipelines/multiprocessing/{name}.yaml"))
        .env("PATH", &path_with_python())
        // Nothing is left in the repository.
        .env("PYTHONDONTWRITEBYTECODE", "1")
}

/// Runs an example that goes well.
#[track_caller]
fn run(name: &str) -> Finished {
    example(name).run().succeeded()
}

fn squares(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|number| format!("{}\n", number * number)).collect()
}

/// How often the workers of a stage ended with which code.
fn exits(run: &Finished, stage: &str) -> Value {
    run.stage(stage)["exits"].clone()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/multiprocessing")
}

fn files(extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_example_has_no_mistakes_says_what_it_stands_for_and_is_in_the_table_of_contents() {
    let contents = fs::read_to_string(folder().join("README.md")).unwrap();
    let this = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file!())).unwrap();
    let mut modules = BTreeSet::new();
    let target = Regex::new(r#"python: "(\w+):\w+""#).unwrap();
    for name in files("yaml") {
        let path = folder().join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(first, "# yaml-language-server: $schema=../../schemas/pipeline.schema.json", "{name}");
        for part in ["# Stands for: ", "# To learn here: ", &format!("\nname: {name}\n")] {
            assert!(text.contains(part), "{name}: there is no `{part}`");
        }
        assert!(contents.contains(&format!("({name}.yaml)")), "{name} is not in the table of contents");
        assert!(this.contains(&format!("(\"{name}\")")), "{name} is not tested");
        modules.extend(target.captures_iter(&text).map(|found| found[1].to_owned()));
        let output = Command::new(env!("CARGO_BIN_EXE_mpflow")).arg("check").arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "a warning is a bad example");
    }
    assert_eq!(modules, files("py"), "every module is some example's");
}

#[test]
fn what_the_readme_says_to_work_is_tested_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let this = fs::read_to_string(root.join(file!())).unwrap();
    let (_, table) = readme.split_once("What fails there works here").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let row = Regex::new(r"(?m)^\| [^|]+ \| `(\w+)` \|$").unwrap();
    let names: Vec<&str> = row.captures_iter(table).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(names.len(), 7);
    for name in names {
        assert!(this.contains(&format!("fn {name}()")), "{name}");
    }
}

// ---- processes

#[test]
fn the_first_process_has_a_pid_and_a_parent() {
    let run = run("first-process").said(["child | hello from a process of my own"]);
    let line = Regex::new(r"^I am process (\d+), and my parent is (\d+)\n$").unwrap();
    let found = line.captures(run.text()).unwrap_or_else(|| panic!("{}", run.text()));
    assert_eq!(json!(found[1].parse::<i32>().unwrap()), run.events_of("worker_started")[0]["pid"]);
    assert_ne!(found[1], found[2]);
    assert_eq!(exits(&run, "child"), json!([[0, 1]]));
}

#[test]
fn processes_have_the_names_of_their_stages() {
    let run = run("named").wrote_lines([
        "alice says hello to bob",
        "bob says good morning to alice",
        "clerk/0 says next please to everybody",
        "clerk/1 says next please to everybody",
        "clerk/2 says next please to everybody",
    ]);
    assert_eq!(exits(&run, "clerk"), json!([[0, 3]]));
}

#[test]
fn a_background_daemon_ends_with_the_foreground_process() {
    let run = run("daemon").said(["background | still here"]);
    let expected: String = (1..=5).map(|step| format!("step {step} of 5\n")).collect();
    assert_eq!((exits(&run, "foreground"), exits(&run, "background")), (json!([[0, 1]]), json!([[-15, 1]])));
    run.wrote(expected);
}

#[test]
fn exit_codes_are_zero_positive_or_negative() {
    let run = example("exit-codes").run().ended(1).said([
        "returns | all is well",
        "raises | ValueError: this goes wrong",
        "stage `raises`: worker `raises` exited with 1",
        "stage `exits`: worker `exits` exited with 3",
    ]);
    for (stage, exit) in [("returns", 0), ("raises", 1), ("exits", 3), ("endless", -15)] {
        assert_eq!(exits(&run, stage), json!([[exit, 1]]), "{stage}");
    }
}

#[test]
fn what_does_not_end_when_it_is_terminated_is_killed() {
    let run = run("terminate").said(["worker `stubborn` was killed: it did not end within its grace period"]);
    for (stage, exit) in [("work", 0), ("polite", -15), ("stubborn", -9)] {
        assert_eq!(exits(&run, stage), json!([[exit, 1]]), "{stage}");
    }
    run.wrote("the work is done\n");
}

#[test]
fn a_class_keeps_its_state_from_record_to_record() {
    let run = run("class").said(["account | Ada has 125 in the end"]);
    assert_eq!(exits(&run, "account"), json!([[0, 1]]));
    run.wrote("+50 makes 150\n-30 makes 120\n+5 makes 125\n");
}

// ---- queues and pipes

#[test]
fn a_producer_and_two_consumers_use_every_item_once() {
    let run = run("producer-consumer");
    let line = Regex::new(r"^consumer/[01] used item (\d+)$").unwrap();
    let items: Vec<u32> =
        run.text().lines().map(|text| line.captures(text).expect(text)[1].parse().unwrap()).collect();
    assert_eq!(items.len(), 10);
    assert_eq!(BTreeSet::from_iter(items), BTreeSet::from_iter(1..=10));
    assert_eq!((exits(&run, "producer"), exits(&run, "consumer")), (json!([[0, 1]]), json!([[0, 2]])));
}

#[test]
fn an_endless_reader_ends_when_the_writer_is_done() {
    let run = run("endless-reader");
    assert_eq!((exits(&run, "writer"), exits(&run, "reader")), (json!([[0, 1]]), json!([[0, 1]])));
    let read: String = ["a", "b", "c", "d", "e"].map(|letter| format!("read message {letter}\n")).concat();
    run.wrote(format!("{read}the writer is done after 5 messages\n"));
}

#[test]
fn a_one_way_pipe_carries_objects() {
    let run = run("pipe-one-way");
    assert_eq!((exits(&run, "sender"), exits(&run, "receiver")), (json!([[0, 1]]), json!([[0, 1]])));
    run.wrote("received hello\nreceived [1, 2, 3]\nreceived {'a': 1}\nthe sender has ended\n");
}

#[test]
fn a_duplex_pipe_carries_questions_and_answers() {
    let run = run("pipe-duplex").said(["server | the client has hung up"]);
    assert_eq!((exits(&run, "client"), exits(&run, "server")), (json!([[0, 1]]), json!([[0, 1]])));
    let expected: String = (1..=5).map(|n| format!("{n} squared is {}\n", n * n)).collect();
    run.wrote(expected);
}

// ---- pools

#[test]
fn a_pool_maps_in_order() {
    let ran = run("pool-map");
    assert_eq!(exits(&ran, "square"), json!([[0, 4]]));
    ran.wrote(squares(1..=10));
    let ran = example("pool-map").args(["--set", "first=0", "--set", "last=99"]).run().succeeded();
    ran.wrote(squares(0..=99));
}

#[test]
fn a_pool_hands_its_results_on_in_order() {
    let run = run("pool-imap");
    let squares: Vec<String> = (0..100).map(|number: u64| (number * number).to_string()).collect();
    let expected: String = squares.chunks(10).map(|line| line.join(" ") + "\n").collect();
    run.wrote(expected);
}

#[test]
fn a_pool_hands_its_results_on_as_they_come() {
    let run = run("pool-imap-unordered");
    assert_eq!(run.stage("square")["records_in"], json!(100));
    run.wrote("100 squares, whose sum is 328350\n");
}

#[test]
fn a_pool_calls_a_function_with_several_arguments() {
    run("pool-starmap").wrote(
        "2 to the power of 8 modulo 1000 is 256\n\
         2 to the power of 9 modulo 1000 is 512\n\
         2 to the power of 10 modulo 1000 is 24\n\
         2 to the power of 11 modulo 1000 is 48\n\
         2 to the power of 12 modulo 1000 is 96\n\
         3 to the power of 7 modulo 1000 is 187\n",
    );
}

#[test]
fn a_pool_of_four_begins_with_four_of_five_slow_tasks() {
    let run = run("pool-slow");
    let line = Regex::new(r"^task (\d) was done by (work/\d)$").unwrap();
    let mut done: Vec<(u32, String)> = run
        .text()
        .lines()
        .map(|text| line.captures(text).expect(text))
        .map(|found| (found[1].parse().unwrap(), found[2].to_owned()))
        .collect();
    done.sort_unstable();
    assert_eq!(done.iter().map(|(task, _)| *task).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let first: BTreeSet<&String> = done[..4].iter().map(|(_, worker)| worker).collect();
    assert_eq!(first.len(), 4, "each of the first four tasks has a process of its own: {done:?}");
    assert_eq!(exits(&run, "work"), json!([[0, 4]]));
}

#[test]
fn start_methods_differ_in_who_imports_the_module() {
    run("start-methods").wrote(
        "spawn: 3 processes, the module imported by 3\n\
         fork: 3 processes, the module imported by 1\n\
         forkserver: 3 processes, the module imported by 1\n",
    );
}

// ---- shared objects

#[test]
fn lines_that_are_printed_under_a_lock_stand_together() {
    let run = run("lock");
    let verses: Vec<&str> =
        run.stderr.lines().filter_map(|line| line.strip_prefix("poet/")).collect::<Vec<_>>();
    assert_eq!(verses.len(), 12, "{}", run.stderr);
    for verse in verses.chunks(3) {
        let who = &verse[0][..1];
        let expected = [
            format!("{who} | a line is written"),
            format!("{who} | the next is written by me"),
            format!("{who} | now it's somebody else's turn, says poet/{who}"),
        ];
        assert_eq!(verse, expected, "{}", run.stderr);
    }
    assert_eq!(exits(&run, "poet"), json!([[0, 4]]));
}

#[test]
fn values_and_arrays_are_shared() {
    let run = run("value-array");
    assert_eq!(exits(&run, "work"), json!([[0, 4]]));
    run.wrote("hits: 4000\nrows: [0.0, 0.5, 1.0, 1.5]\n");
}

// ---- message passing

#[test]
fn what_is_scattered_is_gathered_and_reduced() {
    run("scatter-gather")
        .wrote_lines(["gathered: [(0, 1225), (1, 1250), (2, 1275), (3, 1300)]", "reduced: 5050"]);
    let wide = example("scatter-gather").args(["--pool", "rank=7"]).run().succeeded();
    assert!(wide.text().contains("reduced: 5050\n"), "{}", wide.text());
}

// ---- what fails there works here

/// A pipeline beside a module `tasks`.
fn pipeline(text: &str, tasks: &str) -> Scenario {
    Scenario::new(text).file("tasks.py", tasks).env("PATH", &path_with_python())
}

#[test]
fn a_pool_does_not_hang_when_a_worker_is_killed() {
    let text = "
        stages: {work: {python: 'tasks:work', pool: 2, ordered: true}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tasks = "
import os, signal
def work(line):
    if line == '50' and not os.path.exists('killed'):
        open('killed', 'w').close()
        os.kill(os.getpid(), signal.SIGKILL)
    return line";
    let run = pipeline(text, tasks).stdin(support::numbers(100)).run().succeeded();
    assert_eq!(run.stage("work")["restarts"], json!(1));
    run.wrote(support::numbers(100));
}

#[test]
fn a_lock_is_released_when_its_holder_is_killed() {
    let text = "
        shared: {screen: {lock: true}}
        stages:
          killed: {python: 'tasks:killed', success_exit: [SIGKILL]}
          next: {python: 'tasks:next', depends_on: {killed: finished}}";
    let tasks = "
import os, signal
from mpflow import shared
def killed():
    shared.screen.acquire()
    os.kill(os.getpid(), signal.SIGKILL)
def next():
    with shared.screen: return 'I have it'";
    pipeline(text, tasks).run().succeeded().wrote("I have it\n");
}

#[test]
fn no_process_is_left_when_the_parent_is_killed() {
    let text = "stages: {work: {python: 'tasks:work', pool: 2}}";
    let tasks = "
import os, time
def work():
    if os.fork() == 0:
        os.setsid()
    print('up')
    time.sleep(1000)";
    let run = pipeline(text, tasks).start();
    run.wait_until("four processes", || (run.messages().matches("| up").count() == 4).then_some(()));
    run.signal(Signal::SIGKILL);
    // The census looks whether anything is left.
    drop(run.finish());
}

#[test]
fn a_process_ends_though_nobody_has_read_yet_what_it_put() {
    // More than a pipe holds, and read only by whoever waits for the end of the process.
    let text = "
        stages:
          producer: {python: 'tasks:producer'}
          consumer: {python: 'tasks:consumer', depends_on: {producer: finished}, mode: stream}
        edges: [{queue: producer -> consumer -> stdout}]";
    let tasks = "
def producer():
    for i in range(100): yield i, b'x' * 20_000
def consumer(records): yield sum(len(data) for _, data in records)";
    pipeline(text, tasks).run().succeeded().wrote("2000000\n");
}

#[test]
fn an_initializer_that_raises_ends_the_run_with_its_traceback() {
    let text = "
        stages: {work: {python: 'tasks:work', pool: 2, initializer: 'tasks:set_up'}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tasks = "
def set_up(): raise RuntimeError('no licence')
def work(line): return line";
    pipeline(text, tasks).stdin("1\n").run().ended(2).said(["RuntimeError: no licence"]);
}

#[test]
fn a_result_that_cannot_be_pickled_fails_its_record() {
    let text = "
        stages:
          work: {python: 'tasks:work', on_error: skip}
          show: {python: 'tasks:show'}
        edges: [{queue: stdin -> work -> show -> stdout}]";
    let tasks = "
def work(line): return (lambda: line) if line == '2' else line
def show(line): return line";
    let run = pipeline(text, tasks).stdin("1\n2\n3\n").run().succeeded();
    assert_eq!(run.stage("work")["failed"], json!(1));
    run.wrote("1\n3\n");
}

#[test]
fn an_exception_that_cannot_be_unpickled_fails_its_record() {
    let text = "
        stages: {work: {python: 'tasks:work', pool: 2, on_error: skip}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tasks = "
class Wrong(Exception):
    def __init__(self, line, reason): super().__init__(f'{line}: {reason}')
def work(line): raise Wrong(line, 'of no use')";
    let run = pipeline(text, tasks).stdin("1\n2\n").run().succeeded().said(["Wrong: 1: of no use"]);
    assert_eq!(run.stage("work")["failed"], json!(2));
}
