//! The events file and the report, as programs read them.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{Scenario, numbers};

#[test]
fn every_process_that_starts_is_seen_to_end_once() {
    let pipeline = "
        stages:
          copy: {command: cat, pool: 3}
          work: {command: cat, mode: map, pool: 2, max_records_per_worker: 2}
          each: {command: 'test {} -ne 3', mode: each, pool: 2, on_error: skip}
        edges:
          - queue: stdin -> copy -> work
          - queue: stdin -> each";
    let run = Scenario::new(pipeline).stdin(numbers(12)).run().succeeded();
    let mut open: BTreeMap<(String, u64), i64> = BTreeMap::new();
    for event in &run.events {
        let key = || (event["worker"].as_str().unwrap().to_owned(), event["generation"].as_u64().unwrap());
        match event["event"].as_str().unwrap() {
            "worker_started" => {
                assert!(open.insert(key(), event["pid"].as_i64().unwrap()).is_none(), "{event}");
            }
            "worker_ended" => assert_eq!(open.remove(&key()), event["pid"].as_i64(), "{event}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let started = |stage| run.stage(stage)["started"].as_u64().unwrap();
    let told = run.events_of("worker_started").len() as u64;
    assert_eq!(started("copy") + started("work") + started("each"), told);
    assert!(started("work") >= 6, "{}", run.stage("work"));
}

#[test]
fn a_run_is_told_from_its_start_to_its_end() {
    let pipeline = "
        name: told
        stages: {work: {command: 'echo words >&2; echo data', pool: 2}}";
    let run = Scenario::new(pipeline).run().succeeded();
    let kinds: Vec<&str> = run.events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run_started", "run_ended"));
    assert_eq!(run.events[0]["pipeline"], "told");
    assert_eq!(run.events[0]["run_id"], run.report["run_id"]);
    let times: Vec<f64> = run.events.iter().map(|event| event["t"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    for (kind, count) in
        [("worker_started", 2), ("worker_ended", 2), ("stage_ready", 1), ("stage_finished", 1), ("log", 2)]
    {
        assert_eq!(run.events_of(kind).len(), count, "{kind}");
    }
    let log = run.events_of("log")[0];
    assert_eq!(log["line"], "words");
    assert!(log["worker"].as_str().unwrap().starts_with("work/"));
    assert_eq!(run.events.last().unwrap()["report"], run.report);
}

#[test]
fn a_worker_is_ready_before_it_ends_and_ended_before_its_stage_is_finished() {
    let pipeline = "
        stages: {one: {command: 'exit 0'}, two: {command: cat, pool: 2}}
        edges: [{queue: one -> two}]";
    let run = Scenario::new(pipeline).run().succeeded();
    for stage in ["one", "two"] {
        let place = |kind: &str| {
            let is_it = |event: &&Value| event["event"] == kind && event["stage"] == stage;
            let places = run.events.iter().enumerate().filter(|(_, event)| is_it(event));
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let (started, ready) = (place("worker_started"), place("stage_ready"));
        let (ended, finished) = (place("worker_ended"), place("stage_finished"));
        assert!(
            started.last() < ready.last() && ready.last() < ended.first() && ended.last() < finished.last()
        );
    }
}

#[test]
fn a_failure_is_told_with_all_that_is_known_of_it() {
    let pipeline = "stages: {bad: {command: 'echo why >&2; exit 3'}}";
    let run = Scenario::new(pipeline).run().ended(1);
    let failed = run.events_of("stage_failed")[0];
    let shown = (&failed["stage"], &failed["worker"], &failed["exit"], &failed["stderr"]);
    assert_eq!(shown, (&json!("bad"), &json!("bad"), &json!(3), &json!(["why"])));
    let ended = run.events_of("worker_ended")[0];
    assert_eq!((&ended["exit"], &ended["success"]), (&json!(3), &json!(false)));
    assert_eq!(run.report["outcome"]["result"], "failed");
    assert_eq!(run.failure()["reason"], failed["reason"]);
}

#[test]
fn a_stage_that_never_started_is_told_so() {
    let pipeline = "
        stages:
          bad: {command: 'exit 1'}
          later: {command: 'true', depends_on: {bad: finished}}";
    let run = Scenario::new(pipeline).run().ended(1);
    let later = run.stage("later");
    assert_eq!((&later["started"], &later["exits"]), (&json!(0), &json!([])));
}

#[test]
fn processor_time_and_memory_of_workers_are_told() {
    let pipeline = "stages: {busy: {command: [awk, 'BEGIN { for (i = 0; i < 3000000; i++) s += i }']}}";
    let run = Scenario::new(pipeline).run().succeeded();
    let busy = run.stage("busy");
    assert!(busy["cpu_seconds"].as_f64().unwrap() > 0.01, "{busy:#}");
    assert!(busy["wall_seconds"].as_f64().unwrap() > 0.01 && busy["peak_memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_worker_that_shouts_loses_no_data_and_hides_no_event() {
    // A hundred thousand lines of standard error beside the data: whatever an observer misses is counted.
    let pipeline = "
        stages: {loud: {command: 'seq 100000 >&2 & seq 100000; wait'}}
        edges: [{queue: loud -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote(numbers(100_000));
    let missed: u64 = run.events_of("missed").iter().map(|event| event["count"].as_u64().unwrap()).sum();
    let lines = run.events_of("log").len() as u64;
    assert_eq!(lines + missed, 100_000, "{lines} lines, {missed} missed");
    for kind in ["worker_started", "worker_ended", "stage_finished", "run_ended"] {
        assert_eq!(run.events_of(kind).len(), 1, "{kind}");
    }
}
