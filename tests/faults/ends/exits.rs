//! How a process ended: exactly, in events, in the report and on the screen.

use std::process::Command;

use rstest::rstest;
use serde_json::json;

use crate::support::{Scenario, Value, need_python};

#[test]
fn every_exit_code_is_told_as_it_is() {
    let pipeline = "
        stages: {work: {command: 'exit {}', mode: each, on_error: skip}}
        edges: [{queue: stdin -> work}]";
    let codes: String = (0..=255).map(|code| format!("{code}\n")).collect();
    let run = Scenario::new(pipeline).stdin(codes).run().succeeded();
    let expected: Vec<(i32, i32)> = (0..=255).map(|code| (code, 1)).collect();
    assert_eq!(run.stage("work")["exits"], json!(expected));
    let exits: Vec<&Value> = run.events_of("worker_ended").iter().map(|event| &event["exit"]).collect();
    assert_eq!(exits, (0..=255).map(|code| json!(code)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

/// Signals that end a process that does nothing about them, signal(7).
fn deadly() -> Vec<i32> {
    (1..=64).filter(|number| ![17, 18, 19, 20, 21, 22, 23, 28].contains(number)).collect()
}

#[test]
fn every_signal_that_kills_is_told_as_it_is() {
    // A death by itself allows three attempts.
    let pipeline = "
        stages:
          work: {command: 'kill -{} $$', mode: each, pool: 2, on_error: skip}
        edges: [{queue: stdin -> work}]";
    let signals: String = deadly().iter().map(|number| format!("{number}\n")).collect();
    let run = Scenario::new(pipeline).after("ulimit -c 0").stdin(signals).run().succeeded();
    let expected: Vec<(i32, i32)> = deadly().iter().rev().map(|number| (-number, 3)).collect();
    assert_eq!(run.stage("work")["exits"], json!(expected), "{}", run.told());
    assert!(run.events_of("worker_ended").iter().all(|event| event["core_dumped"].is_null()));
    let errors: Vec<&str> =
        run.events_of("record_failed").iter().map(|event| event["error"].as_str().unwrap()).collect();
    for name in ["SIGSEGV (-11)", "SIGSYS (-31)", "signal 32 (-32)", "signal 64 (-64)"] {
        assert!(errors.iter().any(|error| error.ends_with(name)), "`{name}` is not in {errors:?}");
    }
}

#[rstest]
#[case::with_leave("ulimit -c unlimited")]
#[case::without("ulimit -c 0")]
fn a_core_dump_is_told_where_there_is_one(#[case] leave: &str) {
    need_python();
    let scenario =
        Scenario::new("stages: {bad: {command: 'kill -SEGV $$'}}").after(&format!("{leave} 2> /dev/null"));
    // Whether this machine writes any is its own affair: ask it by another way.
    let look = "import os, subprocess, sys
child = os.fork()
if child == 0: os.execvp('sh', ['sh', '-c', 'kill -SEGV $$'])
print(os.WCOREDUMP(os.waitpid(child, 0)[1]))";
    let script = format!("{leave} 2> /dev/null; exec python3 -c \"$1\"");
    let mut asked = Command::new("sh");
    let asked = asked.args(["-c", &script, "sh", look]).current_dir(scenario.path("")).output().unwrap();
    let has_core = String::from_utf8_lossy(&asked.stdout).trim() == "True";
    let run = scenario.run().ended(1).said(["SIGSEGV (-11)"]);
    let ended = run.events_of("worker_ended")[0];
    assert_eq!(ended["exit"], -11);
    assert_eq!(ended["core_dumped"], if has_core { json!(true) } else { Value::Null }, "{asked:?}");
}
