//! Many ends: all at once, and one after another.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Running, Scenario, Signal, Value, children, numbers, status_field};

/// That every process that was started has ended once, and in how many ways.
#[track_caller]
fn assert_each_ended_once(events: &[Value], stage: &str, count: usize) {
    let of_kind = |kind: &str| -> Vec<(String, u64, i64)> {
        let wanted = events.iter().filter(|event| event["event"] == kind && event["stage"] == stage);
        let name = |event: &Value| {
            let (worker, generation) =
                (event["worker"].as_str().unwrap(), event["generation"].as_u64().unwrap());
            (worker.to_owned(), generation, event["pid"].as_i64().unwrap())
        };
        wanted.map(name).collect()
    };
    let (started, ended) = (of_kind("worker_started"), of_kind("worker_ended"));
    assert_eq!((started.len(), ended.len()), (count, count), "of `{stage}`");
    let (started, ended): (BTreeSet<_>, BTreeSet<_>) =
        (started.into_iter().collect(), ended.into_iter().collect());
    assert_eq!(started.len(), count, "two starts of one generation");
    assert_eq!(started, ended, "who has started and who has ended");
}

#[test]
fn a_thousand_workers_that_end_at_once_are_each_seen_to_end_once() {
    // All of them read from one named pipe, and the one writer of it goes.
    let pipeline = "
        stages:
          held:
            command: 'exec 3< barrier; echo up; read -r line <&3; exit $((MPFLOW_RANK % 4))'
            pool: 1000
            success_exit: [0, 1, 2, 3]
          stays: {command: 'echo up; while [ ! -e go ]; do sleep 0.02; done'}";
    let scenario = Scenario::new(pipeline).args(["--quiet"]);
    nix::unistd::mkfifo(&scenario.path("barrier"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that nobody waits for a writer; a writer it is.
    let barrier = fs::File::options().read(true).write(true).open(scenario.path("barrier")).unwrap();
    let run = scenario.start();
    run.wait_for_lines(1001);
    let launcher = run.launcher_pid();
    assert_eq!(children(launcher).len(), 1001);
    drop(barrier);
    run.wait_for_event_of("stage_finished", "held");
    assert_eq!(children(launcher).len(), 1, "zombies, or others that were left");
    fs::write(run.path("go"), "").unwrap();
    let run = run.finish().succeeded();
    assert_eq!(run.stage("held")["exits"], json!([[0, 250], [1, 250], [2, 250], [3, 250]]));
    assert_each_ended_once(&run.events, "held", 1000);
}

#[test]
fn a_thousand_workers_that_are_killed_at_once_are_each_seen_to_end_once() {
    let pipeline = "
        stages: {idle: {command: 'echo up; exec sleep 1000', pool: 1000, stop: {grace: 1h}}}";
    let run = Scenario::new(pipeline).args(["--quiet"]).start();
    run.wait_for_lines(1000);
    run.interrupt("Ctrl-C again to send").signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert_eq!(run.stage("idle")["exits"], json!([[-15, 1000]]));
    assert_each_ended_once(&run.events, "idle", 1000);
}

#[test]
fn a_thousand_short_processes_are_each_seen_to_end_once() {
    let pipeline = "
        stages: {work: {mode: each, pool: 8, command: ['true', '{}']}}
        edges: [{queue: stdin -> work}]";
    let run = Scenario::new(pipeline).stdin(numbers(1000)).run().succeeded();
    assert_eq!(run.stage("work")["exits"], json!([[0, 1000]]));
    assert_each_ended_once(&run.events, "work", 1000);
}

/// What a process holds, at its least over a while: descriptors, threads, and KiB of its own memory.
#[track_caller]
fn held(pid: i32) -> (usize, usize, u64) {
    let look = || {
        let memory = status_field(pid, "RssAnon");
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        (
            descriptors,
            status_field(pid, "Threads").parse().unwrap(),
            memory.split(' ').next().unwrap().parse().unwrap(),
        )
    };
    (0..50)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            look()
        })
        .reduce(|one: (usize, usize, u64), other| {
            (one.0.min(other.0), one.1.min(other.1), one.2.min(other.2))
        })
        .unwrap()
}

/// Waits until so many processes have been started: each leaves a byte.
#[track_caller]
fn wait_for_starts(run: &Running, count: u64) {
    let path = run.path("starts");
    run.wait_until(&format!("{count} starts"), || {
        fs::metadata(&path).is_ok_and(|file| file.len() >= count).then_some(())
    });
}

#[test]
fn ten_thousand_restarts_leave_nothing_behind_and_no_two_are_ever_in_one_place() {
    // Each holds the lock of its place while it lives, and some are killed in the middle of it.
    let pipeline = "
        stages:
          again:
            command: >-
              exec 9>> lock$MPFLOW_RANK; flock -n 9 || printf x >> contended; printf x >> starts;
              case $$ in *[05]) kill -KILL $$;; esac
            pool: 2
            restart: {policy: always, max: 1000000, within: 1s, backoff: {initial: 0ms, max: 0ms}}";
    // Ten thousand processes are some seconds of a processor, which others may want as well.
    let run = Scenario::new(pipeline).args(["--quiet"]).within(Duration::from_secs(240)).start();
    let (engine, launcher) = (run.pid(), run.launcher_pid());
    wait_for_starts(&run, 1000);
    let early = (held(engine), held(launcher));
    wait_for_starts(&run, 10_000);
    let late = (held(engine), held(launcher));
    eprintln!("descriptors, threads, KiB: at 1000 {early:?}, at 10,000 {late:?}");
    // So many numbers of processes have been used that others have got some of them again: the census must not take
    // those for members of this run's groups.
    fs::rename(run.path("events.ndjson"), run.path("events.moved")).unwrap();
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert!(run.stage("again")["restarts"].as_u64().unwrap() >= 9_998);
    assert!(!run.path("contended").exists(), "two processes were in one place of the pool");
    // The last two may have been stopped before they could say so.
    let (said, started) = (fs::metadata(run.path("starts")).unwrap().len(), &run.stage("again")["started"]);
    assert!((said..=said + 2).contains(&started.as_u64().unwrap()), "{started} started, {said} said so");
    for (early, late) in [(early.0, late.0), (early.1, late.1)] {
        // Those of two workers come and go.
        assert!(late.0 <= early.0 + 8, "descriptors: {early:?}, then {late:?}");
        assert!(late.1 <= early.1, "threads: {early:?}, then {late:?}");
        assert!(late.2 <= early.2 + 512, "memory: {early:?}, then {late:?}");
    }
}

#[test]
fn restarts_wait_as_their_backoff_says() {
    let pipeline = "
        stages:
          bad:
            command: 'exit 1'
            restart: {policy: on-failure, max: 5, backoff: {initial: 20ms, factor: 2, max: 200ms, jitter: 0.5}}";
    let before = Instant::now();
    let run = Scenario::new(pipeline).run().ended(1);
    let told = run.events_of("worker_restarting");
    let waits: Vec<f64> = told.iter().map(|event| event["backoff"].as_f64().unwrap()).collect();
    for (restarts, wait) in waits.iter().enumerate() {
        let curve = f64::min(0.02 * f64::powi(2.0, restarts as i32), 0.2);
        assert!((curve * 0.5 - 1e-6..=curve * 1.5 + 1e-6).contains(wait), "{wait} s, not about {curve} s");
    }
    // When something is told of is a little later than when it is done; the sum of all waits is safe from that.
    let (all, lasted) = (waits.iter().sum::<f64>(), before.elapsed().as_secs_f64());
    assert!(lasted >= all, "{lasted} s for waits of {all} s");
    assert_eq!(waits.len(), 5);
}

#[test]
fn an_idle_pool_keeps_as_many_as_it_must_have_however_slowly_the_others_leave() {
    let pipeline = "
        stages:
          work:
            pool: {min: 1, max: 3}
            command: 'while read -r line; do sleep 0.02; echo $line; done; while [ ! -e go ]; do sleep 0.02; done'
            mode: map
        edges: [{queue: stdin -> work -> stdout, capacity: 4}]";
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(numbers(100).as_bytes()).unwrap();
    run.wait_for_lines(100);
    // Two lose their input after five idle seconds, which nothing tells of before they end: this is that time.
    std::thread::sleep(Duration::from_millis(6500));
    stdin.write_all(b"101\n").unwrap();
    run.wait_for_lines(101);
    assert!(run.events().iter().all(|event| event["event"] != "worker_ended"));
    fs::write(run.path("go"), "").unwrap();
    drop(stdin);
    run.finish().succeeded().wrote_lines(1..=101);
}
