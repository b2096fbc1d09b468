//! Daemons: beside the others while these go on, and ended after them.

mod support;

use serde_json::json;
use support::Scenario;

#[test]
fn a_daemon_beside_a_finite_job_is_stopped_at_its_end() {
    let pipeline = "
        stages:
          daemon: {command: \"trap 'echo bye; exit 0' TERM; echo up > up; while :; do sleep 0.02; done\", daemon: true}
          job: {command: 'while [ ! -e up ]; do sleep 0.02; done; echo done'}";
    let run = Scenario::new(pipeline).run().succeeded().wrote("done\nbye\n");
    assert_eq!(
        (&run.stage("daemon")["state"], &run.stage("daemon")["daemon"]),
        (&json!("finished"), &json!(true))
    );
}

#[test]
fn a_daemon_with_input_has_its_grace_to_finish_its_records() {
    let pipeline = "
        stages:
          job: {command: seq 50}
          log: {command: 'while read -r line; do sleep 0.01; echo $line; done > log.txt; echo end >> log.txt', daemon: true}
        edges: [{queue: job -> log}]";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!(run.read("log.txt"), format!("{}end\n", support::numbers(50)));
    assert_eq!(run.stage("log")["exits"], json!([[0, 1]]));
}

#[test]
fn a_daemon_whose_output_is_wanted_delivers_it_in_its_grace() {
    let pipeline = "
        stages:
          job: {command: seq 500}
          copy: {command: cat, daemon: true, mode: map, pool: 2}
        edges: [{queue: job -> copy -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote_lines(1..=500);
}

#[test]
fn a_daemon_that_does_not_end_by_itself_is_stopped_after_its_grace() {
    let pipeline = "
        stages:
          job: {command: seq 3}
          log: {command: 'cat; while :; do sleep 0.02; done', daemon: true, stop: {grace: 300ms}}
        edges: [{queue: job -> log -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote("1\n2\n3\n");
    assert!(run.report["wall_seconds"].as_f64().unwrap() >= 0.3);
    assert_eq!(run.stage("log")["exits"], json!([[-15, 1]]));
}

#[test]
fn a_daemon_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let pipeline = "
        stages:
          deaf: {command: \"trap '' TERM; echo up > up; while :; do sleep 0.02; done\", daemon: true, stop: {grace: 300ms}}
          job: {command: 'while [ ! -e up ]; do sleep 0.02; done'}";
    let run = Scenario::new(pipeline).run().succeeded();
    assert!(run.report["wall_seconds"].as_f64().unwrap() >= 0.3);
    assert_eq!(run.stage("deaf")["exits"], json!([[-9, 1]]));
    let killed = run.events_of("worker_killed");
    assert!(killed[0]["reason"].as_str().unwrap().contains("grace period of 300ms"), "{killed:?}");
}

#[test]
fn a_daemon_that_fails_fails_the_run() {
    let pipeline = "
        stages:
          daemon: {command: 'exit 3', daemon: true}
          job: {command: 'sleep 1000'}";
    Scenario::new(pipeline).run().ended(1).said(["stage `daemon`", "exited with 3"]);
}

#[test]
fn a_daemon_may_be_restarted_for_as_long_as_the_job_goes_on() {
    let pipeline = "
        stages:
          daemon:
            command: 'echo x >> starts; test $(wc -l < starts) -lt 3 && exit 1; echo up > up; while :; do sleep 0.02; done'
            daemon: true
            restart: {policy: on-failure, backoff: {initial: 5ms}}
          job: {command: 'while [ ! -e up ]; do sleep 0.02; done; echo done'}";
    let run = Scenario::new(pipeline).run().succeeded().wrote("done\n");
    assert_eq!(run.stage("daemon")["restarts"], 2);
}

#[test]
fn a_pipeline_of_daemons_alone_has_nothing_to_wait_for() {
    let pipeline = "stages: {daemon: {command: 'sleep 1000', daemon: true}}";
    let run = Scenario::new(pipeline).run();
    assert!([Some(0), Some(2)].contains(&run.status.code()), "{}", run.told());
}
