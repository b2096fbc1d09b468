//! A run in a hard world: many processes, few descriptors, signals in a storm, one processor.

mod support;

use serde_json::json;
use support::{Scenario, Signal, is_alive, numbers};

#[test]
fn two_hundred_workers_have_their_own_descriptors_each() {
    let pipeline = "
        stages:
          many: {command: 'ls /proc/self/fd | wc -l; cat > /dev/null', pool: 200}
        edges: [{queue: stdin -> many -> stdout}]";
    // `ls` itself opens the folder.
    Scenario::new(pipeline).stdin(numbers(1000)).run().succeeded().wrote("4\n".repeat(200));
}

#[test]
fn a_thousand_short_processes_are_all_seen_to_end() {
    let pipeline = "
        stages: {work: {mode: each, pool: 8, command: ['true', '{}']}}
        edges: [{queue: stdin -> work}]";
    let run = Scenario::new(pipeline).stdin(numbers(1000)).run().succeeded();
    assert_eq!(run.stage("work")["exits"], json!([[0, 1000]]));
}

#[test]
fn a_storm_of_signals_changes_nothing() {
    let pipeline = "
        stages:
          numbers: {command: seq 300000}
          copy: {command: cat, pool: 2}
          map: {command: cat, mode: map, ordered: true}
        edges: [{queue: numbers -> copy -> map -> stdout}]";
    let run = Scenario::new(pipeline).start();
    let (guardian, launcher) = (run.guardian_pid(), run.launcher_pid());
    // The launcher's number is looked at again each time: the run may have ended.
    for _ in 0..300 {
        run.signal(Signal::SIGWINCH).signal(Signal::SIGCONT);
        if is_alive(guardian) && support::children(guardian).contains(&launcher) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(launcher), Signal::SIGCHLD);
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(launcher), Signal::SIGTERM);
        }
    }
    run.finish().succeeded().wrote_lines(1..=300_000);
}

#[test]
fn a_limit_of_descriptors_that_is_too_low_is_told_or_lived_with() {
    let pipeline = "
        stages: {many: {command: cat, pool: 60}}
        edges: [{queue: stdin -> many -> stdout}]";
    let run = Scenario::new(pipeline).after("ulimit -n 64").stdin(numbers(100)).run();
    match run.status.code() {
        Some(0) => drop(run.wrote_lines(1..=100)),
        _ => drop(run.said(["64"])),
    }
}

#[test]
fn a_soft_limit_of_descriptors_is_raised_to_what_is_allowed() {
    let pipeline = "
        stages: {many: {command: cat, pool: 60}}
        edges: [{queue: stdin -> many -> stdout}]";
    let run = Scenario::new(pipeline).after("ulimit -S -n 64").stdin(numbers(100)).run().succeeded();
    run.wrote_lines(1..=100);
}

#[test]
fn closed_standard_streams_of_mpflow_are_no_hindrance() {
    let pipeline = "
        stages: {work: {command: 'echo made > made; cat; echo x; echo y >&2'}}";
    let run = Scenario::new(pipeline).after("exec <&- >&- 2>&-").run();
    assert!(run.has("made"), "{}", run.told());
}

#[test]
fn a_consumer_that_is_stopped_holds_its_producer_and_nobody_dies() {
    let pipeline = "
        stages:
          numbers: {command: 'seq 500000; echo > produced'}
          sink: {command: 'echo $$ > pid; tail -n 1'}
        edges: [{queue: numbers -> sink -> stdout, capacity_bytes: 64KiB}]";
    let run = Scenario::new(pipeline).start();
    let pid: i32 = run.wait_for_event_of("worker_started", "sink")["pid"].as_i64().unwrap() as i32;
    let group = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::killpg(group, Signal::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let _ = nix::sys::signal::killpg(group, Signal::SIGCONT);
    run.finish().succeeded().wrote("500000\n");
}
