//! `mode: map`: one record in, one record out, over a leased exchange.

mod support;

use rstest::rstest;
use serde_json::json;
use support::{Scenario, need_python, numbers};

#[test]
fn a_map_command_answers_each_record_with_one() {
    let pipeline = "
        stages: {double: {command: [sed, -u, 's/.*/& &/'], mode: map}}
        edges: [{queue: stdin -> double -> stdout}]";
    let expected: String = (1..=20_000).map(|number| format!("{number} {number}\n")).collect();
    let run = Scenario::new(pipeline).stdin(numbers(20_000)).run().succeeded().wrote(expected);
    assert_eq!(run.edge("stdin -> double")["delivered"], 20_000);
    assert_eq!(run.stage("double")["records_out"], 20_000);
}

#[test]
fn a_pool_answers_every_record_once() {
    let pipeline = "
        stages: {copy: {command: [cat], mode: map, pool: 4}}
        edges: [{queue: stdin -> copy -> stdout}]";
    Scenario::new(pipeline).stdin(numbers(100_000)).run().succeeded().wrote_lines(1..=100_000);
}

/// Answers after a time that differs from record to record.
const JITTER: &str = "
import random, sys, time
random.seed(int(sys.argv[1]))
for line in sys.stdin:
    time.sleep(random.choice([0, 0, 0, 0.001, 0.005]))
    print(line.strip() + ' ' + sys.argv[1], flush=True)
";

#[test]
fn ordered_results_leave_in_the_order_of_their_records() {
    need_python();
    let pipeline = "
        stages:
          work: {command: 'exec python3 jitter.py $MPFLOW_RANK', mode: map, pool: 3, ordered: true}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).file("jitter.py", JITTER).stdin(numbers(1500)).run().succeeded();
    let lines: Vec<(u32, u32)> = run
        .text()
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(number, rank)| (number.parse().unwrap(), rank.parse().unwrap()))
        .collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), (1..=1500).collect::<Vec<_>>());
    let ranks: std::collections::BTreeSet<u32> = lines.iter().map(|line| line.1).collect();
    assert!(ranks.len() > 1, "one worker did it all");
}

#[test]
fn prefetch_bounds_what_one_worker_holds() {
    // Each worker takes its first record and stands still: the engine may hand out `prefetch` and no more.
    let pipeline = "
        stages:
          work: {command: 'while [ ! -e go ]; do sleep 0.02; done; cat', mode: map, pool: 2, prefetch: 5}
        edges: [{queue: stdin -> work -> stdout, capacity: 1000000}]";
    let scenario = Scenario::new(pipeline).stdin(numbers(1000));
    let run = scenario.start();
    run.wait_for_event_of("stage_ready", "work");
    std::fs::write(run.path("go"), "").unwrap();
    let run = run.finish().succeeded().wrote_lines(1..=1000);
    assert!(
        run.edge("stdin -> work")["peak_records"].as_u64().unwrap() >= 900,
        "{}",
        run.edge("stdin -> work")
    );
}

#[test]
fn no_record_waits_behind_a_slow_one_while_another_worker_could_do_it() {
    // Each takes longer than any work that is given ahead; the fifth goes on when all others are done.
    let worker = "mkdir -p done
        while read -r number; do
          if [ $number = 5 ]; then
            until [ $(ls done | wc -l) = 19 ]; do sleep 0.02; done
          else
            sleep 0.1
            touch done/$number
          fi
          echo $number
        done";
    let pipeline = format!(
        "
        stages: {{work: {{command: {}, mode: map, pool: 2}}}}
        edges: [{{queue: stdin -> work -> stdout}}]",
        json!(worker)
    );
    Scenario::new(&pipeline).stdin(numbers(20)).run().succeeded().wrote_lines(1..=20);
}

#[test]
fn a_pool_far_wider_than_the_machine_answers_every_record_once() {
    let pipeline = "
        stages: {copy: {command: [cat], mode: map, pool: 100, ordered: true}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    Scenario::new(pipeline).stdin(numbers(100_000)).run().succeeded().wrote(expected);
}

#[test]
fn a_map_command_that_answers_too_many_is_an_error_with_the_counts() {
    let pipeline = "
        stages: {twice: {command: [sed, -u, p], mode: map}}
        edges: [{queue: stdin -> twice -> stdout}]";
    let run = Scenario::new(pipeline).stdin("one\n").run().ended(1);
    let run = run.said(["stage `twice`", "answered 2 records where it had taken 1", "mode: stream"]);
    assert_eq!(run.failure()["stage"], "twice");
}

#[test]
fn a_map_command_that_answers_too_few_is_an_error_with_the_counts() {
    let pipeline = "
        stages: {odd: {command: [sed, -u, -n, 'p;n'], mode: map, prefetch: 10}}
        edges: [{queue: stdin -> odd -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(5)).run().ended(1);
    let run = run.said(["stage `odd`", "took 5 records, answered 3 and ended", "mode: stream"]);
    assert_eq!(run.failure()["worker"], "odd");
}

#[test]
fn a_map_command_that_answers_nothing_is_reported_with_the_likely_cause() {
    // It answers when it has said so: the message is waited for, five seconds.
    let pipeline = "
        stages: {silent: {command: 'read -r line; while [ ! -e go ]; do sleep 0.05; done; echo $line; cat', mode: map}}
        edges: [{queue: stdin -> silent -> stdout}]";
    let run = Scenario::new(pipeline).stdin("a\nb\n").start();
    run.wait_for_message("line_buffered: true");
    assert!(run.messages().contains("worker `silent` has taken 1 records and answered none for 5s"));
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote("a\nb\n");
}

#[test]
fn line_buffered_makes_a_filter_answer_at_once() {
    let pipeline = "
        stages: {filter: {command: [sed, s/a/b/], mode: map, line_buffered: true}}
        edges: [{queue: stdin -> filter -> stdout}]";
    Scenario::new(pipeline).stdin("a\n".repeat(300)).run().succeeded().wrote("b\n".repeat(300));
}

#[test]
fn a_last_record_without_its_newline_is_answered() {
    let pipeline = "
        stages: {copy: {command: [cat], mode: map, pool: 2, ordered: true}}
        edges: [{queue: stdin -> copy -> stdout}]";
    Scenario::new(pipeline).stdin("one\ntwo\nthree").run().succeeded().wrote_lines(["one", "two", "three"]);
}

#[test]
fn nul_records_are_answered_one_by_one() {
    let pipeline = "
        stages: {copy: {command: [sed, -u, -z, 's/^/>/'], mode: map, pool: 2, ordered: true}}
        edges: [{queue: stdin -> copy -> stdout, format: nul}]";
    Scenario::new(pipeline).stdin("a\nb\0\0c\0").run().succeeded().wrote(">a\nb\0>\0>c\0");
}

#[test]
fn large_records_are_answered_whole() {
    let pipeline = "
        stages: {copy: {command: [cat], mode: map, pool: 3, ordered: true}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let lines: String = (0..40usize)
        .map(|i| format!("{}\n", ((b'a' + (i % 26) as u8) as char).to_string().repeat(i * 9001)))
        .collect();
    Scenario::new(pipeline).stdin(lines.clone()).run().succeeded().wrote(lines);
}

#[test]
fn a_worker_that_fails_by_itself_is_restarted_and_its_record_tried_again() {
    let pipeline = "
        stages:
          work:
            mode: map
            command: |
              while read -r line; do
                if [ $line = 50 ] && mkdir died 2>/dev/null; then exit 7; fi
                echo $line
              done
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(100)).run().succeeded().wrote(numbers(100));
    let run = run.said(["record `50` failed in worker `work` (attempt 1): worker `work` exited with 7"]);
    let run = run.never_said(["killed"]);
    assert_eq!((&run.stage("work")["restarts"], &run.stage("work")["retried"]), (&json!(1), &json!(1)));
}

/// Waits until there is something to read, and reads nothing: only bash can.
const SEES_A_RECORD: &str = "until read -t 0; do sleep 0.01; done; echo >> lives";

#[rstest]
#[case::with_more_to_come(1000)]
#[case::with_the_last_record(1)]
fn a_worker_that_dies_before_it_reads_a_record_costs_that_no_attempt(#[case] records: u64) {
    let script = format!("{SEES_A_RECORD}; [ $(wc -l < lives) -gt 4 ] || kill -9 $$; exec sed -u s/^/did:/");
    let run = Scenario::new(format!(
        "
        stages: {{work: {{command: [bash, -c, '{script}'], mode: map}}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    ))
    .stdin(numbers(records))
    .run()
    .succeeded();
    assert_eq!(run.read("lives").lines().count(), 5);
    assert_eq!(run.text().lines().count() as u64, records);
    assert_eq!(run.stage("work")["retried"], json!(0), "none of the deaths is an attempt\n{}", run.told());
}

#[test]
fn a_worker_that_never_reads_a_record_fails_its_stage_and_no_record() {
    let run = Scenario::new(format!(
        "
        stages:
          work:
            command: [bash, -c, '{SEES_A_RECORD}; exit 3']
            mode: map
            restart: {{max: 4, backoff: {{initial: 1ms}}}}
          kept: {{command: cat > kept}}
        edges: [{{queue: stdin -> work -> stdout}}, {{queue: work.failed -> kept}}]"
    ))
    .stdin(numbers(3))
    .run()
    .ended(1);
    let run = run.said(["stage `work`: ", "worker `work` exited with 3, after 4 restarts within 1m"]);
    assert_eq!((run.read("lives").lines().count(), run.read("kept").as_str()), (5, ""), "{}", run.told());
}

#[test]
fn a_record_that_each_of_its_workers_has_read_and_died_of_is_failed() {
    let run = Scenario::new(
        "
        stages:
          work:
            command: 'while read -r line; do echo $line >> seen; [ $line != 2 ] || kill -9 $$; echo did:$line; done'
            mode: map
          kept: {command: cat > kept}
        edges: [{queue: stdin -> work -> stdout}, {queue: work.failed -> kept}]",
    )
    .stdin(numbers(3))
    .run()
    .succeeded();
    assert_eq!(run.text(), "did:1\ndid:3\n");
    assert_eq!(run.read("seen").lines().filter(|line| *line == "2").count(), 3);
    assert!(run.read("kept").contains(r#""attempts":3"#), "{}", run.read("kept"));
}

#[test]
fn max_records_per_worker_replaces_a_worker() {
    let pipeline = "
        stages:
          work:
            mode: map
            max_records_per_worker: 10
            command: 'while read -r line; do echo \"$line $$\"; done'
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(95)).run().succeeded();
    let mut per_worker: std::collections::BTreeMap<&str, usize> = Default::default();
    for line in run.text().lines() {
        *per_worker.entry(line.split_once(' ').unwrap().1).or_default() += 1;
    }
    assert_eq!(per_worker.values().sum::<usize>(), 95);
    assert!(per_worker.len() >= 10 && per_worker.values().all(|&records| records <= 10), "{per_worker:?}");
    assert_eq!(run.stage("work")["failed"], 0);
}

#[test]
fn a_record_that_takes_longer_than_its_timeout_is_failed_and_the_pool_goes_on() {
    let pipeline = "
        stages:
          work:
            mode: map
            pool: 2
            record_timeout: 300ms
            on_error: skip
            command: 'while read -r line; do if [ $line = 7 ]; then sleep 1000; fi; echo $line; done'
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(50)).run().succeeded();
    let run = run.wrote_lines((1..=50).filter(|&number| number != 7));
    assert_eq!(run.stage("work")["failed"], 1);
    let failed = run.events_of("record_failed");
    assert!(failed[0]["error"].as_str().unwrap().contains("record_timeout"), "{failed:?}");
}
