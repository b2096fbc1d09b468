//! `mode: stream`: long-lived filters, and how an early end travels up the graph.

mod support;

use std::io::{BufRead, BufReader};

use support::{Scenario, numbers};

#[test]
fn a_consumer_that_has_had_enough_ends_an_endless_producer() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          few: {command: [head, -n, '5']}
        edges: [{queue: endless -> few -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote("y\n".repeat(5));
    assert_eq!(run.stage("endless")["exits"], serde_json::json!([[-13, 1]]));
    assert_eq!(run.stage("endless")["state"], "finished");
}

#[test]
fn a_producer_that_must_be_made_to_end_when_nobody_wants_it_is_shown_as_stopped_and_has_not_failed() {
    let pipeline = "
        stages:
          quiet: {command: 'echo y; sleep 1000', stop: {grace: 100ms}}
          few: {command: [head, -n, '1']}
        edges: [{queue: quiet -> few -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote("y\n");
    assert_eq!(run.stage("quiet")["exits"], serde_json::json!([[-15, 1]]));
    assert_eq!(run.stage("quiet")["state"], "stopped");
}

#[test]
fn an_early_end_travels_up_a_chain() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          one: {command: [cat]}
          two: {command: [cat]}
          few: {command: [head, -n, '5']}
        edges: [{queue: endless -> one -> two -> few -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote("y\n".repeat(5));
}

#[test]
fn a_pool_has_had_enough_when_all_of_its_workers_have() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          few: {command: [head, -n, '5'], pool: 4}
        edges: [{queue: endless -> few -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote("y\n".repeat(20));
}

#[test]
fn an_early_end_spares_a_producer_that_feeds_another_stage() {
    let pipeline = "
        stages:
          numbers: {command: seq 200000}
          few: {command: [head, -n, '5']}
          all: {command: [tail, -n, '1']}
        edges:
          - queue: numbers -> few
          - queue: numbers -> all
          - queue: few -> stdout
          - queue: all -> stdout";
    let run = Scenario::new(pipeline).run().succeeded().wrote_lines([1, 2, 3, 4, 5, 200_000]);
    let edge = run.edge("numbers -> few");
    assert_eq!(edge["in"], 200_000);
    assert_eq!(edge["discarded"][0]["reason"], "consumer ended");
}

#[test]
fn a_consumer_that_closes_its_input_and_lives_on_has_had_enough_too() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          few: {command: 'head -n 3; exec < /dev/null; while [ ! -e go ]; do sleep 0.02; done; echo end'}
        edges: [{queue: endless -> few -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_event_of("worker_ended", "endless");
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote("y\ny\ny\nend\n");
}

#[test]
fn what_an_ended_worker_has_not_read_goes_to_the_others() {
    // Three workers take a record each and end; the fourth has all the rest. The source goes on until they are gone:
    // what comes back when the input of the others is at its end is nobody's any more.
    let pipeline = r#"
        stages:
          numbers:
            command: >-
              seq 5000; for n in 0 1 2; do until [ -s ended$n ]; do sleep 0.01; done;
              while kill -0 $(cat ended$n) 2> /dev/null; do sleep 0.01; done; done
          work:
            command: 'if [ $MPFLOW_RANK -lt 3 ]; then read -r a; echo $a; echo $$ > ended$MPFLOW_RANK; else cat; fi'
            pool: 4
        edges: [{queue: numbers -> work -> stdout}]"#;
    let run = Scenario::new(pipeline).run().succeeded();
    let mut found: Vec<u32> = run.text().lines().map(|line| line.parse().unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), run.text().lines().count(), "a record came twice");
    let edge = run.edge("numbers -> work");
    assert_eq!(edge["in"], 5000);
    // `read` of a shell takes byte by byte: nothing else is read. So nothing may be missing.
    assert_eq!(found, (1..=5000).collect::<Vec<_>>());
}

#[test]
fn a_reader_of_mpflows_output_that_goes_away_ends_the_run_quietly() {
    let pipeline = "
        stages: {endless: {command: [yes]}, copy: {command: [cat], pool: 2}}
        edges: [{queue: endless -> copy -> stdout}]";
    let mut run = Scenario::new(pipeline).hold_stdout().start();
    let mut line = String::new();
    let mut stdout = BufReader::new(run.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    drop(stdout);
    run.finish().succeeded().never_said(["mpflow:", "failed:", "Broken pipe", "error"]);
}

#[test]
fn a_producer_that_ends_by_an_error_of_its_own_once_its_output_is_closed_has_not_failed() {
    // Not all programs let SIGPIPE end them: Python's meet an error instead, and exit with 1.
    let pipeline = "
        stages:
          endless: {command: \"trap '' PIPE; yes 2>/dev/null; exit 3\"}
          few: {command: [head, -n, '5']}
        edges: [{queue: endless -> few -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote("y\n".repeat(5));
    assert_eq!(run.stage("endless")["exits"], serde_json::json!([[3, 1]]));
}

#[test]
fn a_producer_that_fails_after_it_has_closed_its_output_and_been_read_to_the_end_has_failed() {
    // Its reader has not had enough: it has read all, and ends first.
    let pipeline = "
        stages:
          say: {command: 'echo 1; exec 1>&-; while [ ! -e read ]; do sleep 0.01; done; exit 3'}
          copy: {command: 'cat; touch read'}
        edges: [{queue: say -> copy -> stdout}]";
    let run = Scenario::new(pipeline).run().ended(1).wrote("1\n").said(["worker `say` exited with 3"]);
    assert_eq!(run.stage("copy")["state"], "finished");
}

#[test]
fn standard_input_is_not_read_further_than_needed() {
    let pipeline = "
        stages: {few: {command: [head, -n, '2']}}
        edges: [{queue: stdin -> few -> stdout}]";
    let mut run = Scenario::new(pipeline).open_stdin().start();
    // Held open: the run ends though its input does not.
    let stdin = run.stdin.take().unwrap();
    use std::io::Write;
    (&stdin).write_all(b"1\n2\n3\n").unwrap();
    run.finish().succeeded().wrote("1\n2\n");
    drop(stdin);
}

#[test]
fn a_source_runs_once_in_each_worker_with_nothing_on_its_standard_input() {
    let pipeline = "
        stages: {source: {command: 'cat; readlink /proc/self/fd/0; echo $MPFLOW_RANK', pool: 3}}";
    let run = Scenario::new(pipeline).run().succeeded();
    run.wrote_lines(["/dev/null", "/dev/null", "/dev/null", "0", "1", "2"]);
}

#[test]
fn records_pass_while_their_producer_goes_on() {
    let pipeline = "
        stages:
          slow: {command: 'echo first; while [ ! -e go ]; do sleep 0.02; done; echo second'}
          copy: {command: [cat], pool: 2}
        edges: [{queue: slow -> copy -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    assert_eq!(run.output(), b"first\n");
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote("first\nsecond\n");
}

#[test]
fn an_elastic_pool_grows_under_load() {
    let pipeline = "
        stages:
          numbers: {command: seq 3000}
          work: {command: 'while read -r line; do echo $line; sleep 0.005; done', pool: {min: 1, max: 4}}
        edges:
          - {queue: numbers -> work, capacity: 100}
          - {queue: work -> stdout}";
    let run = Scenario::new(pipeline).run().succeeded().wrote_lines(1..=3000);
    assert_eq!(run.stage("work")["workers"], 4);
}

#[test]
fn an_automatic_pool_is_as_wide_as_there_are_processors() {
    let pipeline = "
        stages: {work: {command: 'cat > /dev/null; echo $MPFLOW_POOL', pool: auto}}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(10)).run().succeeded();
    let width = std::thread::available_parallelism().unwrap().get();
    assert_eq!(run.text(), format!("{width}\n").repeat(width));
}
