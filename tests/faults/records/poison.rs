//! Records that kill whoever takes them, and the order of what follows a death.

use rstest::rstest;
use serde_json::json;

use super::Killer;
use crate::support::{Finished, Scenario, Value, numbers};

#[track_caller]
fn documents(run: &Finished) -> Vec<Value> {
    run.read("failed.txt").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `what`: how a worker that was given a record ending in `00` dies of it.
fn poison(stage: &str, records: u64) -> Finished {
    let pipeline = format!(
        "
        stages:
          work: {{pool: 3, {stage}}}
          failed: {{command: cat, stdout: failed.txt}}
        edges:
          - queue: stdin -> work -> stdout
          - queue: work.failed -> failed"
    );
    let last_words = "printf '%s' \"dying of $1: \" >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2; kill -9 $$\n";
    Scenario::new(pipeline).file("die.sh", last_words).stdin(numbers(records)).run().succeeded()
}

#[rstest]
#[case::map(
    "mode: map, command: 'while read -r line; do case $line in *00) set -- $line; . ./die.sh;; esac; echo $line; done'",
    2000
)]
#[case::each("mode: each, command: 'case {} in *00) set -- {}; . ./die.sh;; esac; echo {}'", 400)]
fn a_record_that_kills_every_worker_fails_after_three_attempts_and_the_pool_lives(
    #[case] stage: &str,
    #[case] records: u64,
) {
    let run = poison(stage, records);
    let mut poisonous: Vec<u64> = Vec::new();
    for document in documents(&run) {
        let worker = document["worker"].as_str().unwrap().to_owned();
        assert!(["work/0", "work/1", "work/2"].contains(&worker.as_str()), "{document}");
        let error = format!("worker `{worker}` was killed by SIGKILL (-9)");
        let stderr = document["stderr"].as_str().unwrap();
        // Of a hundred thousand bytes the last, and not of another attempt or worker.
        assert!(stderr.len() <= 8 << 10 && stderr.len() > 4 << 10, "{} bytes are kept", stderr.len());
        assert!(stderr.ends_with("xxxend"), "{}", &stderr[stderr.len() - 20..]);
        let record = document["record"].as_str().unwrap();
        poisonous.push(record.parse().unwrap());
        let expected = json!({
            "record": record, "error": error, "attempts": 3, "stage": "work", "worker": worker, "exit": -9,
            "stderr": stderr,
        });
        assert_eq!(document, expected);
    }
    poisonous.sort_unstable();
    assert_eq!(poisonous, (1..=records).filter(|number| number % 100 == 0).collect::<Vec<_>>());
    let work = run.stage("work");
    let counts = ["records_in", "records_out", "failed", "retried"].map(|key| work[key].as_u64().unwrap());
    let failed = records / 100;
    assert_eq!(counts, [records, records - failed, failed, 2 * failed]);
    let edge = run.edge("stdin -> work");
    assert_eq!((&edge["delivered"], &edge["failed"]), (&json!(records - failed), &json!(failed)));
    assert_eq!(run.edge("work.failed -> failed")["delivered"], failed);
    run.wrote_lines((1..=records).filter(|number| number % 100 != 0));
}

#[test]
fn each_record_of_a_batch_that_kills_its_process_fails_with_it_and_the_other_batches_live() {
    let run = poison(
        "mode: each, batch: 10, command: 'while read -r line; do case $line in *00) kill -9 $$;; esac; echo $line; done'",
        200,
    );
    let mut failed: Vec<u64> = documents(&run)
        .iter()
        .map(|document| document["record"].as_str().unwrap().parse().unwrap())
        .collect();
    failed.sort_unstable();
    let in_poisoned = |number: u64| (number - 1) % 100 >= 90;
    assert_eq!(failed, (1..=200).filter(|&number| in_poisoned(number)).collect::<Vec<_>>());
    assert!(documents(&run).iter().all(|document| document["attempts"] == 3 && document["exit"] == -9));
    run.wrote_lines((1..=200).filter(|&number| !in_poisoned(number)));
}

// ---- what follows a death, and that no timer is in between

/// A restart or an attempt that waited for the backoff would not come in the time that a test has.
const NEVER_WAITED_FOR: &str = "restart: {policy: on-failure, backoff: {initial: 1h, max: 1h}}";

#[rstest]
#[case::the_only_map_worker("mode: map, command: 'while read -r line; do hold; echo $line; done'", 1, true)]
#[case::a_map_worker_of_a_pool(
    "mode: map, pool: 3, command: 'while read -r line; do hold; echo $line; done'",
    3,
    true
)]
#[case::an_each_process("mode: each, command: 'read -r line; hold; echo $line'", 1, false)]
fn the_record_of_a_killed_worker_is_given_out_again_at_once(
    #[case] stage: &str,
    #[case] width: usize,
    #[case] restarts: bool,
) {
    // The first that is given the record holds it until it is killed.
    let hold = "if mkdir begun 2>/dev/null; then echo $$ > held.tmp; mv held.tmp held; while :; do sleep 0.02; done; fi";
    let pipeline = format!(
        "
        stages: {{work: {{{}, {NEVER_WAITED_FOR}}}}}
        edges: [{{queue: stdin -> work -> stdout}}]",
        stage.replace("hold", hold)
    );
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"the record\n").unwrap();
    let pid: i32 = run.wait_for_file("held").trim().parse().unwrap();
    assert!(Killer::of(&run, "work").kill(pid));
    run.wait_for_lines(1);
    drop(stdin);
    let run = run.finish().succeeded().wrote("the record\n");
    // What was told, from the death on.
    let death =
        run.events.iter().position(|event| event["event"] == "worker_ended" && event["pid"] == pid).unwrap();
    let told: Vec<&str> = run.events[death..]
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .filter(|event| {
            ["worker_ended", "record_failed", "worker_restarting", "worker_started"].contains(event)
        })
        .take(if restarts { 4 } else { 3 })
        .collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    match restarts {
        true => assert_eq!(sorted, ["record_failed", "worker_ended", "worker_restarting", "worker_started"]),
        false => assert_eq!(told, ["worker_ended", "record_failed", "worker_started"]),
    }
    assert_eq!((told[0], *told.last().unwrap()), ("worker_ended", "worker_started"));
    let failed = run.events_of("record_failed")[0];
    assert_eq!((&failed["attempts"], &failed["retried"]), (&json!(1), &json!(true)));
    let waits: Vec<&Value> =
        run.events_of("worker_restarting").iter().map(|event| &event["backoff"]).collect();
    assert_eq!(waits, vec![&json!(0.0); usize::from(restarts)]);
    assert_eq!(run.stage("work")["started"].as_u64().unwrap() as usize, width + 1);
}
