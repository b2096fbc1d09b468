//! `mode: each`: one process per record, its output held until it exits well.

mod support;

use std::io::{BufRead, BufReader, Write};

use rstest::rstest;
use serde_json::json;
use support::{Scenario, Value, numbers};

fn each(stage: &str, format: &str) -> Scenario {
    Scenario::new(format!(
        "stages:\n  work: {{mode: each, {stage}}}\nedges: [{{queue: stdin -> work, format: {format}}}, {{queue: work -> stdout}}]\n"
    ))
}

#[test]
fn every_record_has_a_process_of_its_own() {
    let run = each("command: 'echo {} $$', pool: 3", "lines").stdin(numbers(60)).run().succeeded();
    let pids: std::collections::BTreeSet<&str> =
        run.text().lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(pids.len(), 60);
    assert_eq!(run.stage("work")["started"], 60);
    assert!(run.stage("work")["workers"].as_u64().unwrap() <= 3);
}

#[test]
fn placeholders_are_those_of_gnu_parallel() {
    let run = each("command: [echo, '{}', '{.}', '{/}', '{//}', '{/.}', '{#}', '{%}']", "lines");
    run.stdin("dir/sub/file.tar.gz\nplain\n")
        .run()
        .succeeded()
        .wrote("dir/sub/file.tar.gz dir/sub/file.tar file.tar.gz dir/sub file.tar 1 1\nplain plain plain . plain 2 1\n");
}

#[test]
fn placeholders_mean_the_same_in_a_shell_string() {
    let run = each("command: 'echo {} {.} {/} {//} {/.} {#} {%}'", "lines");
    run.stdin("dir/sub/file.tar.gz\n")
        .run()
        .succeeded()
        .wrote("dir/sub/file.tar.gz dir/sub/file.tar file.tar.gz dir/sub file.tar 1 1\n");
}

#[test]
fn the_worker_slot_is_one_of_the_pool() {
    let run = each("command: 'echo {%}', pool: 3", "lines").stdin(numbers(30)).run().succeeded();
    assert!(run.text().lines().all(|slot| ["1", "2", "3"].contains(&slot)), "{}", run.text());
}

#[test]
fn a_record_does_not_wait_behind_a_slow_one_while_another_slot_is_free() {
    // Brief processes, so that the next are made ready behind them; and now and then one that ends only when the
    // record after it is done. Far apart, since while it is not known to be slow some overtake that record.
    let command =
        "n={}; case $n in wait*) until [ -e $n ]; do sleep 0.01; done;; go*) : > wait${n#go};; esac";
    let record = |number| match number % 100 {
        30 => format!("wait{}\n", number / 100),
        31 => format!("go{}\n", number / 100),
        _ => "brief\n".to_owned(),
    };
    let records: String = (0..400).map(record).collect();
    each(&format!("command: '{command}', pool: 2"), "lines").stdin(records).run().succeeded();
}

/// A slot is taken until the whole group of its process has ended, for as long as that may be.
#[test]
fn a_record_does_not_wait_behind_what_a_process_has_left_in_the_background() {
    let leaves = "(until [ $(ls | grep -c ^ran) = 100 ]; do sleep 0.01; done > ls.out 2>&1) > all.out 2>&1 &";
    let command = format!("n={{}}; : > ran$n; if [ $n = 30 ]; then {leaves} fi");
    each(&format!("command: '{command}', pool: 2"), "lines").stdin(numbers(100)).run().succeeded();
}

#[test]
fn the_process_after_one_that_fails_is_not_started() {
    let command = "echo {} >> ran; [ {} != 40 ]";
    let stage = format!("command: '{command}', pool: 1, on_error: fail, retry: {{attempts: 1}}");
    let run = each(&stage, "lines").stdin(numbers(100)).run().ended(1);
    assert_eq!(std::fs::read_to_string(run.path("ran")).unwrap(), numbers(40));
}

const NASTY: [&str; 18] = [
    "plain",
    "two words",
    "  spaces  around  ",
    "it's",
    "\"quoted\"",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned",
    "\"; touch pwned; \"",
    "'; touch pwned; '",
    "$HOME ${PATH} $$ \\n \\",
    "-rf --help -- -",
    "* ? [a-z] ~ !",
    "new\nline\n",
    "\u{fc}ml\u{e4}ut \u{6f22}\u{5b57} \u{1f980}",
    "&& touch pwned #",
    "{} {.} {#}",
];

/// Every record reaches the command as it is, and nothing of it is ever executed.
#[rstest]
#[case::unquoted("command: \"printf '%s\\\\0' {}\"")]
#[case::in_double_quotes("command: 'printf \"%s\\0\" \"{}\"'")]
#[case::in_single_quotes("command: \"printf '%s\\\\0' '{}'\"")]
#[case::within_a_word("command: \"x={}; printf '%s\\\\0' \\\"$x\\\"\"")]
#[case::as_an_argument("command: [printf, '%s\\0', '{}']")]
#[case::nested_shell("command: [sh, -c, 'printf \"%s\\0\" \"$1\"', sh, '{}']")]
fn a_nasty_record_is_only_ever_data(#[case] stage: &str) {
    let pipeline = format!(
        "stages:\n  work: {{mode: each, ordered: true, pool: 2, {stage}}}\nedges: [{{queue: stdin -> work -> stdout, format: nul}}]\n"
    );
    let sent: String = NASTY.iter().map(|record| format!("{record}\0")).collect();
    let run = Scenario::new(pipeline).stdin(sent.clone()).run().succeeded().wrote(sent);
    assert!(!run.has("pwned"), "a record was executed");
}

#[test]
fn a_record_may_begin_with_dashes_and_be_a_file_name() {
    let run = each("command: 'cat -- {}'", "lines").file("-n", "dash\n").file("a b", "blank\n");
    run.stdin("-n\na b\n").run().succeeded().wrote_lines(["dash", "blank"]);
}

#[test]
fn bytes_that_are_no_utf8_reach_an_argument_unchanged() {
    let run = each("command: [printf, '%s\\n', '{}']", "lines");
    run.stdin(&b"\xff\xfe\x80\n"[..]).run().succeeded().wrote(b"\xff\xfe\x80\n");
}

#[test]
fn without_a_placeholder_the_record_is_standard_input() {
    let run = each("command: [wc, -c]", "lines").stdin("12345\n\nabc\n").run().succeeded();
    let mut counts: Vec<&str> = run.text().split_whitespace().collect();
    counts.sort_unstable();
    assert_eq!(counts, ["1", "4", "6"]);
}

#[test]
fn a_process_with_its_record_as_an_argument_has_nothing_on_standard_input() {
    each("command: 'wc -c; : {}'", "lines").stdin("x\n").run().succeeded().wrote("0\n");
}

#[test]
fn environment_tells_the_sequence_number_and_the_attempt() {
    let stage =
        "command: 'echo {} $MPFLOW_SEQ $MPFLOW_ATTEMPT; test $MPFLOW_ATTEMPT = 2', retry: 2, ordered: true";
    each(stage, "lines").stdin("a\nb\n").run().succeeded().wrote("a 1 2\nb 2 2\n");
}

#[test]
fn a_batch_is_at_most_so_many_records() {
    let run = each("command: 'wc -l', batch: 10", "lines").stdin(numbers(95)).run().succeeded();
    let counts: Vec<u32> = run.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u32>(), 95);
    assert_eq!(counts.len(), 10, "{counts:?}");
    assert!(counts.iter().all(|&count| count <= 10));
}

#[test]
fn a_batch_is_at_most_so_many_bytes() {
    let stage = "command: 'wc -c', batch: {size: 1000, bytes: 100B}";
    let run = each(stage, "lines").stdin("123456789\n".repeat(50)).run().succeeded();
    let counts: Vec<u32> = run.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts, [100; 5]);
}

#[test]
fn a_batch_goes_when_its_bytes_are_there_though_more_records_may_come() {
    let pipeline = "
        stages: {work: {mode: each, command: 'cat', batch: {size: 1000, bytes: 100B}}}
        edges: [{queue: stdin -> work -> stdout}]";
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, "123456789\n".repeat(25).as_bytes()).unwrap();
    run.wait_for_lines(20);
    drop(stdin);
    let run = run.finish().succeeded();
    assert_eq!(run.stage("work")["started"], 3);
}

#[test]
fn a_batch_goes_as_it_is_when_its_queue_holds_no_more() {
    // Neither the records nor the bytes of a batch ever fit into the queue before it.
    let pipeline = "
        stages:
          numbers: {command: seq 100000}
          work: {mode: each, command: 'cat', batch: {size: 1000000, bytes: 100MB}}
        edges:
          - {queue: numbers -> work, capacity_bytes: 100001B}
          - {queue: work -> stdout}";
    Scenario::new(pipeline).run().succeeded().wrote(numbers(100_000));
}

#[test]
fn a_batch_waits_for_its_time_and_goes_as_it_is() {
    let stage = "command: 'tr \"\\n\" +; echo', batch: {size: 1000, wait: 50ms}";
    let pipeline =
        format!("stages:\n  work: {{mode: each, {stage}}}\nedges: [{{queue: stdin -> work -> stdout}}]\n");
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    use std::io::Write;
    stdin.write_all(b"a\nb\n").unwrap();
    run.wait_for_lines(1);
    stdin.write_all(b"c\n").unwrap();
    run.wait_for_lines(2);
    drop(stdin);
    let run = run.finish().succeeded();
    assert_eq!(run.text().replace('\n', ""), "a+b+c+");
}

#[test]
fn any_filter_can_be_leased_a_batch() {
    let run = each("command: [sort, -n], batch: 100, pool: 2, ordered: true", "lines");
    let records: String = (1..=300).rev().map(|number| format!("{number}\n")).collect();
    let expected: String =
        [201..=300, 101..=200, 1..=100].into_iter().flatten().map(|number| format!("{number}\n")).collect();
    run.stdin(records).run().succeeded().wrote(expected);
}

#[test]
fn ordered_results_leave_in_the_order_of_their_records() {
    let stage = "command: 'case {} in *[05]) sleep 0.1;; esac; echo {}', pool: 5, ordered: true";
    each(stage, "lines").stdin(numbers(40)).run().succeeded().wrote(numbers(40));
}

#[test]
fn the_output_of_a_process_that_fails_is_dropped() {
    let stage = "command: 'echo {}; test {} -ne 3', on_error: skip";
    let run = each(stage, "lines").stdin(numbers(5)).run().succeeded().wrote_lines([1, 2, 4, 5]);
    assert_eq!(run.edge("stdin -> work")["failed"], 1);
    assert_eq!(run.stage("work")["failed"], 1);
}

#[test]
fn a_large_output_is_held_and_leaves_whole() {
    let stage =
        "command: 'yes {}-0123456789 | head -n 400000; test {} != b', pool: 2, on_error: skip, ordered: true";
    let run = each(stage, "lines").stdin("a\nb\nc\n").run().succeeded();
    let expected = ["a", "c"].map(|name| format!("{name}-0123456789\n").repeat(400_000)).concat();
    run.wrote(expected);
}

#[test]
fn a_failing_record_is_tried_as_often_as_retry_says() {
    let stage = "command: 'echo {} >> tried; test $(grep -c {} tried) -ge 3 && echo {}', retry: 3";
    let run = each(stage, "lines").stdin("a\nb\n").run().succeeded().wrote_lines(["a", "b"]);
    assert_eq!(run.read("tried").lines().count(), 6);
    assert_eq!(run.stage("work")["retried"], 4);
}

#[test]
fn a_record_whose_attempts_are_used_up_leaves_by_the_failed_port() {
    let pipeline = "
        stages:
          work: {mode: each, command: 'echo oh no >&2; exit 4; : {}', retry: 2}
          sink: {command: cat}
        edges:
          - queue: stdin -> work
          - queue: work -> stdout
          - queue: work.failed -> sink
          - queue: sink -> stdout";
    let run = Scenario::new(pipeline).stdin("the record\n").run().succeeded();
    let document: Value = serde_json::from_str(run.text()).unwrap();
    assert_eq!(document["record"], "the record");
    assert_eq!(document["attempts"], 2);
    assert_eq!(document["stage"], "work");
    assert_eq!(document["worker"], "work");
    assert_eq!(document["exit"], 4);
    assert!(document["error"].as_str().unwrap().contains("exited with 4"), "{document:#}");
    assert_eq!(run.edge("stdin -> work")["failed"], 1);
    assert_eq!(run.edge("work.failed -> sink")["delivered"], 1);
}

#[test]
fn the_failed_port_keeps_a_json_record_as_json() {
    let pipeline = "
        stages: {work: {mode: each, command: 'false {}'}}
        edges:
          - {queue: stdin -> work, format: json}
          - queue: work.failed -> stdout";
    let run = Scenario::new(pipeline).stdin("{\"a\": [1, 2]}\n").run().succeeded();
    let document: Value = serde_json::from_str(run.text()).unwrap();
    assert_eq!(document["record"], json!({"a": [1, 2]}));
}

#[test]
fn on_error_fail_ends_the_run_and_names_the_record() {
    let run = each("command: 'test {} -ne 3 || { echo reason >&2; exit 9; }'", "lines");
    let run = run.stdin(numbers(5)).run().ended(1).said(["stage `work`", "exited with 9", "`3`", "reason"]);
    assert_eq!(run.failure()["exit"], 9);
}

#[test]
fn success_exit_says_what_counts_as_success() {
    let stage = "command: [grep, -o, a, '{}'], success_exit: [0, 1]";
    let run = each(stage, "lines").file("yes", "a\n").file("no", "b\n");
    run.stdin("yes\nno\n").run().succeeded().wrote("a\n");
}

#[test]
fn a_record_timeout_kills_the_process_and_counts_one_failed_attempt() {
    let stage =
        "command: 'if [ {} = 2 ]; then sleep 1000; fi; echo {}', record_timeout: 300ms, on_error: skip";
    let run = each(stage, "lines").stdin(numbers(4)).run().succeeded().wrote_lines([1, 3, 4]);
    assert_eq!(run.edge("stdin -> work")["failed"], 1);
    assert_eq!(run.stage("work")["exits"], json!([[-9, 1], [0, 3]]));
}

#[test]
fn a_process_that_cannot_have_its_record_as_an_argument_fails_that_record_alone() {
    // The kernel takes no argument of more than 128 KiB.
    let stage = "command: [printf, '%.3s\\n', '{}'], on_error: skip";
    let run = each(stage, "lines").stdin(format!("one\n{}\nthree\n", "x".repeat(300_000)));
    let run = run.run().succeeded().wrote_lines(["one", "thr"]);
    assert_eq!(run.edge("stdin -> work")["failed"], 1);
}

#[test]
fn records_that_came_before_the_stage_may_begin_are_done_when_it_does() {
    // The gate opens when the numbers are all there, so nothing comes after it.
    for batch in ["", ", batch: 7"] {
        let pipeline = format!(
            "\
stages:
  numbers: {{command: seq 1 20}}
  gate: {{command: 'true', depends_on: {{numbers: finished}}}}
  work: {{command: cat, mode: each, depends_on: {{gate: finished}}{batch}}}
edges: [{{queue: numbers -> work -> stdout}}]
"
        );
        let run = Scenario::new(pipeline).run().succeeded();
        assert_eq!(run.text(), numbers(20));
    }
}

#[test]
fn records_of_one_key_do_not_wait_for_those_of_another() {
    // Whoever comes first in the pool may have none at all.
    for work in ["", ", batch: 40", ", batch: {size: 1000, wait: 20ms}"] {
        let pipeline = format!(
            "
            stages:
              work: {{command: [cat], mode: each, pool: 3{work}}}
            edges:
              - {{queue: stdin -> work, partition_by: 1}}
              - queue: work -> stdout"
        );
        for keys in [1, 2, 50] {
            let lines: String = (0..300).map(|number| format!("k{} {number}\n", number % keys)).collect();
            let run = Scenario::new(&pipeline).stdin(lines).run().succeeded();
            let mut came: Vec<u32> =
                run.text().lines().map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect();
            came.sort_unstable();
            assert!(came.into_iter().eq(0..300), "{work:?} with {keys} keys");
        }
    }
}

#[test]
fn a_batch_by_key_waits_as_long_as_it_may_and_no_longer() {
    let pipeline = "
        stages:
          work: {command: [cat], mode: each, pool: 3, batch: {size: 1000, wait: 20ms}}
        edges:
          - {queue: stdin -> work, partition_by: 1}
          - queue: work -> stdout";
    let mut run = Scenario::new(pipeline).open_stdin().hold_stdout().start();
    let mut stdin = run.stdin.take().unwrap();
    let mut stdout = BufReader::new(run.stdout.take().unwrap());
    for key in ["one", "two", "three", "four", "five"] {
        writeln!(stdin, "{key}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), key, "while the input is open");
    }
    drop(stdin);
    run.finish().succeeded();
}
