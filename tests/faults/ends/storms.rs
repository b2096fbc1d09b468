//! Signals that ask for nothing, by the thousand, and an engine that stands still for a while.

use std::time::{Duration, Instant};

use crate::support::{Finished, Scenario, Signal, Value, is_alive, numbers, status_field};

const STORMY: &str = "
    stages:
      numbers: {command: seq 30000}
      copy: {command: cat, pool: 2}
      map: {command: cat, mode: map, pool: 2}
      each: {mode: each, pool: 4, ordered: true, command: 'cat; sleep 0.2', batch: 1000}
      count: {command: 'sort -n | cksum'}
    edges:
      - queue: numbers -> copy -> map -> each -> count -> stdout";

/// What came of a run, without its times.
fn outcome(run: &Finished) -> (String, Value, Vec<Value>) {
    let kept = |part: &Value, keys: &[&str]| -> Value {
        keys.iter().map(|&key| (key.to_owned(), part[key].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let stages = run.report["stages"].as_array().unwrap().iter();
    let edges = run.report["edges"].as_array().unwrap().iter();
    let stages = stages.map(|stage| kept(stage, &["stage", "state", "failed", "restarts", "retried"]));
    let edges =
        edges.map(|edge| kept(edge, &["edge", "in", "delivered", "failed", "discarded", "unconfirmed"]));
    (run.text().to_owned(), run.report["outcome"].clone(), stages.chain(edges).collect())
}

/// The parent of a process: field 4 of `/proc/PID/stat`.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_storm_of_signals_through_a_run_changes_nothing() {
    let calm = Scenario::new(STORMY).run().succeeded();
    let run = Scenario::new(STORMY).start();
    run.wait_for_event("run_started");
    let (engine, guardian, launcher) = (run.pid(), run.guardian_pid(), run.launcher_pid());
    let to_engine =
        [Signal::SIGUSR1, Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGWINCH, Signal::SIGHUP, Signal::SIGURG];
    let to_launcher = [
        Signal::SIGUSR1,
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGWINCH,
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGALRM,
    ];
    let mut sent = 0;
    // Their numbers are looked at again each time.
    while is_alive(engine) {
        let send = |pid, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        run.signal(to_engine[sent % to_engine.len()]);
        if parent(launcher) == Some(guardian) && parent(guardian) == Some(engine) {
            let _ = send(guardian, to_launcher[sent % to_launcher.len()]);
            let _ = send(launcher, to_launcher[sent % to_launcher.len()]);
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    eprintln!("{sent} signals to each");
    assert!(sent >= 500, "only {sent} signals: the run is too short");
    let stormy = run.finish().succeeded();
    assert_eq!(outcome(&stormy), outcome(&calm));
}

#[test]
fn a_machine_that_slept_finds_everybody_well() {
    // The engine alone stands still, as its workers do not: whatever they did meanwhile is not late.
    let pipeline = "
        stages:
          server: {command: 'exec sleep 1000', daemon: true, ready: {command: 'true', interval: 100ms, timeout: 500ms, failures: 1}}
          map: {mode: map, record_timeout: 3s, command: 'while read -r line; do sleep 0.02; echo $line; done'}
          each: {mode: each, pool: 2, record_timeout: 3s, command: 'sleep 0.3; cat'}
          tail: {command: cat, depends_on: {server: ready}}
        edges:
          - queue: stdin -> map -> tail -> stdout
          - queue: map -> each -> tail";
    let run = Scenario::new(pipeline).stdin(numbers(40)).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let engine = run.pid();
    run.wait_until("the stop", || status_field(engine, "State").starts_with('T').then_some(()));
    // Not to wait for anything: this is the sleep.
    std::thread::sleep(Duration::from_millis(4000).saturating_sub(stopped.elapsed()));
    run.signal(Signal::SIGCONT);
    let run = run.finish().succeeded().never_said(["not ready any more", "record_timeout", "started again"]);
    for stage in ["server", "map", "each", "tail"] {
        let stage = run.stage(stage);
        assert_eq!(
            (&stage["restarts"], &stage["failed"], &stage["retried"]),
            (&0.into(), &0.into(), &0.into()),
            "{stage:#}"
        );
    }
    run.wrote_lines((1..=40).chain(1..=40));
}

#[test]
fn a_worker_that_closes_its_output_and_runs_on_costs_nothing() {
    let pipeline = "
        stages:
          closed: {command: 'exec > /dev/null 2>&1 < /dev/null; echo > closed; exec sleep 1000'}
          filter: {command: cat}
        edges: [{queue: closed -> filter -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_file("closed");
    run.wait_for_event_of("stage_finished", "filter");
    let processes = [run.pid(), run.launcher_pid()];
    let used = || processes.map(crate::support::cpu_ticks).iter().sum::<u64>();
    let before = used();
    // Not to wait for anything: this is the time that is measured.
    std::thread::sleep(Duration::from_secs(2));
    let ticks = used() - before;
    assert!(ticks <= 1, "{ticks} ticks of processor time in two idle seconds");
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}
