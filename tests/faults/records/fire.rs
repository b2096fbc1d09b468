//! SIGKILL of a random worker every 50 ms, for as long as the run lasts.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::{Killer, PATIENCE};
use crate::support::{Finished, Running, Scenario, cpu_ticks, is_alive, numbers};

/// As often as it takes: what is tested is what becomes of the records.
const GENEROUS: &str =
    "retry: 1000, restart: {policy: on-failure, max: 1000000, backoff: {initial: 1ms, max: 5ms}}";

/// Answers each number by itself twice, in two writes, so that a kill may come between the halves of a result.
const TWICE: &str = r#"
while read -r line; do
    i=0; while [ $i -lt ${LONG:-15} ]; do i=$((i + 1)); done
    printf '%s ' "$line"
    printf '%s\n' "$line"
done
"#;

fn twice(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|number| format!("{number} {number}\n")).collect()
}

/// Kills until the run is over.
fn rage(run: &Running, stage: &str) -> u64 {
    let killer = Killer::of(run, stage);
    killer.rage(|| !is_alive(run.pid()))
}

/// Every record answered once, in order where that is promised, and the deaths told as what they were.
#[track_caller]
fn assert_each_once(run: Finished, expected: String, ordered: bool, records: u64, killed: u64) {
    let run = if ordered { run.wrote(expected) } else { run.wrote_lines(expected.lines()) };
    let edge = run.edge("stdin -> work");
    assert_eq!(
        (&edge["in"], &edge["delivered"], &edge["failed"]),
        (&json!(records), &json!(records), &json!(0))
    );
    assert!(killed >= 5, "only {killed} were killed");
    let exits = run.stage("work")["exits"].clone();
    let by_kill = exits.as_array().unwrap().iter().find(|exit| exit[0] == -9).map(|exit| exit[1].as_u64());
    // One that is killed as it exits has exited.
    assert!(by_kill.flatten().unwrap_or(0) <= killed, "{exits} of {killed} that were killed");
}

#[rstest]
#[case::unordered(false)]
#[case::ordered(true)]
fn each_of_a_hundred_thousand_records_of_a_map_stage_is_answered_once(#[case] ordered: bool) {
    let pipeline = format!(
        "
        stages: {{work: {{mode: map, pool: 4, ordered: {ordered}, command: [sh, twice.sh], {GENEROUS}}}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run =
        Scenario::new(pipeline).file("twice.sh", TWICE).stdin(numbers(100_000)).within(PATIENCE).start();
    let killed = rage(&run, "work");
    let run = run.finish().succeeded();
    assert!(run.stage("work")["restarts"].as_u64().unwrap() > 0, "{}", run.told());
    assert_each_once(run, twice(1..=100_000), ordered, 100_000, killed);
}

#[rstest]
#[case::unordered(false)]
#[case::ordered(true)]
fn each_of_a_hundred_thousand_records_of_an_each_stage_leaves_once_in_batches(#[case] ordered: bool) {
    let pipeline = format!(
        "
        stages:
          work: {{mode: each, batch: 250, pool: 4, ordered: {ordered}, command: [sh, twice.sh], {GENEROUS}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run =
        Scenario::new(pipeline).file("twice.sh", TWICE).stdin(numbers(100_000)).within(PATIENCE).start();
    let killed = rage(&run, "work");
    assert_each_once(run.finish().succeeded(), twice(1..=100_000), ordered, 100_000, killed);
}

#[rstest]
#[case::unordered(false)]
#[case::ordered(true)]
fn each_record_of_an_each_stage_leaves_once_with_a_process_of_its_own(#[case] ordered: bool) {
    let pipeline = format!(
        "
        stages:
          work: {{mode: each, pool: 4, ordered: {ordered}, env: {{LONG: '1000'}}, command: [sh, twice.sh], {GENEROUS}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run = Scenario::new(pipeline).file("twice.sh", TWICE).stdin(numbers(3000)).within(PATIENCE).start();
    let killed = rage(&run, "work");
    assert_each_once(run.finish().succeeded(), twice(1..=3000), ordered, 3000, killed);
}

#[rstest]
#[case::unordered(false)]
#[case::ordered(true)]
fn a_record_of_which_two_processes_die_is_done_by_the_third(#[case] ordered: bool) {
    let pipeline = format!(
        "
        stages:
          work:
            mode: each
            pool: 3
            ordered: {ordered}
            command: 'echo {{}}; n={{}}; if [ $((n % 5)) = 0 ] && [ $MPFLOW_ATTEMPT -le 2 ]; then kill -9 $$; fi; echo {{}}-end'
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run = Scenario::new(pipeline).stdin(numbers(200)).run().succeeded();
    let expected: String = (1..=200).map(|number| format!("{number}\n{number}-end\n")).collect();
    let run = if ordered { run.wrote(expected) } else { run.wrote_lines(expected.lines()) };
    assert_eq!(run.stage("work")["retried"], 80);
}

#[test]
fn no_record_of_a_stream_stage_comes_twice_and_what_is_missing_is_unconfirmed() {
    let pipeline = format!(
        "
        stages: {{work: {{pool: 4, command: [sh, twice.sh], {}}}}}
        edges: [{{queue: stdin -> work -> stdout}}]",
        GENEROUS.trim_start_matches("retry: 1000, ")
    );
    let run = Scenario::new(pipeline).file("twice.sh", TWICE).stdin(numbers(50_000)).within(PATIENCE).start();
    let killed = rage(&run, "work");
    let run = run.finish().succeeded();
    let lines: Vec<&str> = run.text().lines().collect();
    let whole =
        |line: &str| line.split_once(' ').is_some_and(|(one, two)| one == two && one.parse::<u64>().is_ok());
    assert!(lines.iter().copied().all(whole), "a result is torn\n{}", run.told());
    assert_eq!(
        lines.iter().collect::<BTreeSet<_>>().len(),
        lines.len(),
        "a record came twice\n{}",
        run.told()
    );
    let edge = run.edge("stdin -> work");
    assert_eq!((&edge["in"], &edge["delivered"]), (&json!(50_000), &json!(50_000)));
    let missing = 50_000 - lines.len() as u64;
    // `read` of a shell takes byte by byte: a death costs the one record that was in the worker's hands.
    assert!(missing <= killed, "{missing} are missing after {killed} deaths\n{}", run.told());
    assert!(missing <= edge["unconfirmed"].as_u64().unwrap(), "{edge:#}");
}

#[test]
fn an_elastic_pool_under_fire_grows_and_shrinks_and_answers_each_record_once() {
    let pipeline = format!(
        "
        stages:
          work: {{mode: map, pool: {{min: 1, max: 6}}, ordered: true, prefetch: 20, command: [sh, twice.sh], {GENEROUS}}}
        edges:
          - {{queue: stdin -> work, capacity: 100}}
          - {{queue: work -> stdout}}"
    );
    let mut run = Scenario::new(pipeline).file("twice.sh", TWICE).open_stdin().within(PATIENCE).start();
    let mut stdin = run.stdin.take().unwrap();
    let killer = Killer::of(&run, "work");
    for load in 1..=2u64 {
        let (first, last) = ((load - 1) * 30_000 + 1, load * 30_000);
        let writer = std::thread::spawn(move || {
            let text: String = (first..=last).map(|number| format!("{number}\n")).collect();
            stdin.write_all(text.as_bytes()).unwrap();
            stdin
        });
        run.wait_until("a pool at its full width", || (killer.workers().len() == 6).then_some(()));
        let lines = || run.output().iter().filter(|&&byte| byte == b'\n').count() as u64;
        killer.rage(|| lines() == last);
        stdin = writer.join().unwrap();
        // Nothing comes: all but one are not needed. One that was killed last may be on its way back.
        run.wait_until("a pool at its least width", || (killer.workers().len() == 1).then_some(()));
    }
    drop(stdin);
    let run = run.finish().succeeded().wrote(twice(1..=60_000));
    assert_eq!((&run.stage("work")["workers"], &run.stage("work")["failed"]), (&json!(6), &json!(0)));
}

#[test]
fn an_elastic_pool_that_idles_keeps_its_least_width_and_goes_on() {
    // Its queue is bounded by bytes, which no whole number of records fills to the last.
    let pipeline = "
        stages:
          work: {command: 'while read -r line; do echo $line; done', pool: {min: 2, max: 5}}
        edges:
          - {queue: stdin -> work, capacity_bytes: 5KiB}
          - {queue: work -> stdout}";
    let mut run = Scenario::new(pipeline).open_stdin().within(PATIENCE).start();
    let mut stdin = run.stdin.take().unwrap();
    let killer = Killer::of(&run, "work");
    stdin.write_all(numbers(100_000).as_bytes()).unwrap();
    run.wait_for_lines(100_000);
    run.wait_until("a pool at its least width", || (killer.workers().len() == 2).then_some(()));
    // And costs nothing, however long.
    let used = || cpu_ticks(run.pid());
    let before = used();
    std::thread::sleep(Duration::from_secs(1));
    assert!(used() - before <= 1, "{} ticks of processor time in an idle second", used() - before);
    stdin.write_all(b"one more\n").unwrap();
    run.wait_for_lines(100_001);
    assert_eq!(killer.workers().len(), 2);
    drop(stdin);
    let run = run.finish().succeeded();
    assert_eq!(run.stage("work")["workers"], 5);
}
