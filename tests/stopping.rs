//! Stopping: what each signal does to a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use rstest::rstest;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Finished, Running, Scenario, Signal, status_field};

/// A source that counts until it is stopped, and says what it got to.
const COUNT: &str = "
trap 'exit 0' TERM
n=0
while :; do n=$((n + 1)); echo $n; done
";

#[test]
fn one_sigint_stops_the_sources_and_delivers_all_that_they_made() {
    let pipeline = "
        stages:
          source: {command: [sh, count.sh]}
          slow: {command: cat, mode: map, pool: 2}
          each: {command: cat}
        edges: [{queue: source -> slow -> each -> stdout}]";
    let run = Scenario::new(pipeline).file("count.sh", COUNT).start();
    run.wait_for_lines(1000);
    run.signal(Signal::SIGINT);
    let run = run.finish().ended(130).said(["interrupted", "stopped"]);
    assert_eq!(run.report["outcome"], json!({"result": "stopped", "level": "drain"}));
    for name in ["source -> slow", "slow -> each", "each -> stdout"] {
        let edge = run.edge(name);
        assert_eq!((&edge["in"], &edge["discarded"]), (&edge["delivered"], &json!([])), "{edge:#}");
    }
    let mut numbers: Vec<u64> = run.text().lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn one_sigint_ends_the_reading_of_standard_input() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").unwrap();
    run.wait_for_lines(2);
    run.signal(Signal::SIGINT);
    run.finish().ended(130).wrote("one\ntwo\n");
}

#[test]
fn a_second_sigint_sends_all_workers_their_stop_signal() {
    let pipeline = "
        stages:
          source: {command: 'echo x; sleep 1000'}
          work: {command: \"trap 'echo asked; exit 0' TERM; read -r x; echo up; while :; do sleep 0.02; done\"}
        edges: [{queue: source -> work -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.interrupt("Ctrl-C again to send").interrupt("Ctrl-C again to kill");
    let run = run.finish().ended(130).wrote("up\nasked\n");
    assert_eq!(run.report["outcome"]["level"], "terminate");
}

#[test]
fn a_third_sigint_kills_all_at_once() {
    let pipeline = "
        stages: {deaf: {command: \"trap '' TERM; echo up; while :; do sleep 0.02; done\", stop: {grace: 1h}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.interrupt("Ctrl-C again to send").interrupt("Ctrl-C again to kill").signal(Signal::SIGINT);
    let run = run.finish().ended(130).said(["all workers are killed"]);
    assert_eq!(run.stage("deaf")["exits"], json!([[-9, 1]]));
}

#[test]
fn sigterm_stops_all_and_a_second_changes_nothing() {
    let pipeline = "
        stages: {deaf: {command: \"trap '' TERM; echo up; while :; do sleep 0.02; done\", stop: {grace: 700ms}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let before = Instant::now();
    run.signal(Signal::SIGTERM).wait_for_message("terminated");
    run.signal(Signal::SIGTERM).wait_for_message("the run is ending already");
    let run = run.finish().ended(143);
    assert_eq!(run.events_of("worker_killed").len(), 1);
    assert!(before.elapsed() >= Duration::from_millis(700), "killed after {:?}", before.elapsed());
}

#[test]
fn each_press_says_which_worker_is_waited_for() {
    let pipeline = "
        stages: {deaf: {command: \"trap '' TERM; echo up; while :; do sleep 0.02; done\", stop: {grace: 300ms}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap();
    run.signal(Signal::SIGINT);
    run.finish().ended(130).said([&format!("waiting for `deaf` (pid {pid})")]);
}

#[test]
fn a_stop_signal_of_ones_own_is_sent_instead() {
    let pipeline = "
        stages: {work: {command: \"trap 'echo usr1; exit 0' USR1; echo up; while :; do sleep 0.02; done\", stop: {signal: SIGUSR1}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGTERM);
    run.finish().ended(143).wrote("up\nusr1\n");
}

/// Says that it is up, and ends when a file is there, or with a word when it is asked to. It starts no process: a shell
/// that is stopped between `vfork` and `exec` of its child does not count as stopped.
const PATIENT: &str = "
import os, signal, sys, time
def handle(signal, frame):
    print('handled', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, handle)
print('up', flush=True)
while not os.path.exists('go'):
    time.sleep(0.02)
print('end')
";

#[test]
fn a_stopped_worker_still_runs_its_handler() {
    support::need_python();
    let pipeline = "stages: {work: {command: [python3, patient.py]}}";
    let run = Scenario::new(pipeline).file("patient.py", PATIENT).start();
    run.wait_for_lines(1);
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    run.wait_until("the stop", || status_field(pid, "State").starts_with('T').then_some(()));
    run.signal(Signal::SIGTERM);
    run.finish().ended(143).wrote("up\nhandled\n");
}

#[test]
fn what_a_worker_writes_while_it_is_stopped_is_delivered() {
    let pipeline = "
        stages:
          source: {command: \"trap 'seq 2 200000; exit 0' TERM; echo 1; while :; do sleep 0.02; done\"}
          copy: {command: cat}
        edges: [{queue: source -> copy -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGINT);
    run.finish().ended(130).wrote(support::numbers(200_000));
}

#[test]
fn suspended_workers_stand_still_and_go_on() {
    support::need_python();
    let pipeline = "stages: {work: {command: [python3, patient.py]}}";
    let run = Scenario::new(pipeline).file("patient.py", PATIENT).start();
    run.wait_for_lines(1);
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    run.signal(Signal::SIGTSTP);
    let engine = run.pid();
    run.wait_until("the suspension", || {
        let is_stopped = |pid| status_field(pid, "State").starts_with('T');
        (is_stopped(engine) && is_stopped(pid)).then_some(())
    });
    run.signal(Signal::SIGCONT);
    run.wait_until("the continuation", || (!status_field(pid, "State").starts_with('T')).then_some(()));
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote("up\nend\n");
}

/// How long a run is suspended here. The deadlines in it are long enough for a busy machine to come so far.
const SUSPENDED: std::time::Duration = std::time::Duration::from_millis(800);

/// Suspends a run, as Ctrl-Z does, and continues it after [`SUSPENDED`].
fn suspend(run: &Running) {
    run.signal(Signal::SIGTSTP);
    let engine = run.pid();
    run.wait_until("the suspension", || status_field(engine, "State").starts_with('T').then_some(()));
    // Not to wait for anything: this is the time that is not to count.
    std::thread::sleep(SUSPENDED);
    run.signal(Signal::SIGCONT);
}

/// Seconds from the first event of one kind to the first of another.
fn between(run: &Finished, from: &str, to: &str) -> f64 {
    let at = |kind: &str| run.events_of(kind)[0]["t"].as_f64().unwrap();
    at(to) - at(from)
}

#[test]
fn a_grace_period_does_not_pass_while_the_run_is_suspended() {
    let pipeline = "
        stages: {deaf: {command: \"trap '' TERM; echo up; while :; do sleep 0.02; done\", stop: {grace: 1s}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGTERM).wait_for_event("worker_stopping");
    suspend(&run);
    let run = run.finish().ended(143);
    let grace = between(&run, "worker_stopping", "worker_killed");
    assert!(grace >= 1.0 + SUSPENDED.as_secs_f64(), "killed after {grace} s");
}

#[test]
fn a_backoff_does_not_pass_while_the_run_is_suspended() {
    let backoff = "{initial: 1s, jitter: 0}";
    let pipeline = format!(
        "stages: {{bad: {{command: 'exit 3', restart: {{policy: on-failure, max: 1, backoff: {backoff}}}}}}}"
    );
    let run = Scenario::new(pipeline).start();
    run.wait_for_event("worker_restarting");
    suspend(&run);
    let run = run.finish().ended(1);
    let wait = between(&run, "worker_restarting", "stage_failed");
    assert!(wait >= 1.0 + SUSPENDED.as_secs_f64(), "started again after {wait} s");
}

#[rstest]
#[case::record("mode: map, record_timeout: 2s, on_error: skip", "worker_killed", 0)]
#[case::stage("timeout: 2s", "stage_failed", 1)]
fn a_timeout_does_not_pass_while_the_run_is_suspended(
    #[case] limit: &str,
    #[case] ends: &str,
    #[case] code: i32,
) {
    let pipeline = format!(
        "stages: {{work: {{command: 'read -r x || exit 0; echo up > up; sleep 1000 & wait', {limit}}}}}
edges: [{{queue: stdin -> work}}]"
    );
    let run = Scenario::new(pipeline).stdin("x\n").start();
    run.wait_for_file("up");
    suspend(&run);
    let run = run.finish().ended(code);
    let taken = between(&run, "run_started", ends);
    assert!(taken >= 2.0 + SUSPENDED.as_secs_f64(), "ended after {taken} s");
}

#[test]
fn nothing_of_a_suspended_run_moves() {
    let pipeline = "
        stages:
          source: {command: [yes]}
          work: {mode: each, pool: 4, command: 'sleep 0.001; echo {}'}
        edges: [{queue: source -> work -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(20);
    let (engine, launcher) = (run.pid(), run.launcher_pid());
    run.signal(Signal::SIGTSTP);
    run.wait_until("the suspension", || status_field(engine, "State").starts_with('T').then_some(()));
    // Each of these processes lives for some milliseconds, or is stopped.
    let pause = || std::thread::sleep(std::time::Duration::from_millis(100));
    let workers = run.wait_until("the standstill of all workers", || {
        let before = support::children(launcher);
        pause();
        (!before.is_empty() && support::children(launcher) == before).then_some(before)
    });
    pause();
    assert_eq!(support::children(launcher), workers);
    let lines = run.output().len() / 2;
    run.signal(Signal::SIGCONT).wait_for_lines(lines + 20);
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}

#[test]
fn sighup_does_not_end_a_run() {
    let pipeline = "
        stages: {work: {command: 'echo up; while [ ! -e go ]; do sleep 0.02; done; echo end'}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGHUP).wait_for_message("read again: nothing has changed");
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote("up\nend\n");
}
