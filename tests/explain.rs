//! `mpflow explain` as a user meets it, and its memory sum against a real run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use support::{Scenario, Value, status_field};
use tempfile::TempDir;

/// Leased records in order, what fails on a path of its own, a queue that drops.
const LEASED: &str = "\
name: leased
stages:
  numbers: {command: seq 1 100}
  work: {command: [cat], mode: map, pool: 3, ordered: true, retry: 2}
  failed: {command: cat, stdout: failed.txt}
  watch: {command: cat, daemon: true, stdout: null}
edges:
  - queue: numbers -> work -> stdout
  - queue: work.failed -> failed
  - {queue: work -> watch, when_full: drop_oldest, capacity: 100, max_record: 1MiB}
";

/// Streams, pipes and weak promises.
const STREAMS: &str = "\
name: streams
stages:
  lines: {command: 'yes | head -n 100'}
  mix: {command: cat, pool: {min: 1, max: 40}, restart: on-failure}
  encode: {command: cat}
  send: {command: cat, stdout: sent.bin}
edges:
  - queue: stdin -> mix
  - queue: lines -> mix -> encode
  - {pipe: encode -> send, size: 256KiB}
";

fn explain(pipeline: &str, args: &[&str]) -> Assert {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
    command.arg("explain").arg("pipeline.yaml").args(args).current_dir(&folder).env("LANG", "C.UTF-8");
    command.env_remove("LC_ALL").env_remove("LC_CTYPE").env_remove("MPFLOW_LOG").env_remove("NO_COLOR");
    command.assert()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// What does not depend on the machine: all but the table of its limits.
fn promises(text: &str) -> String {
    let (before, after) = text.split_once("Needed of this machine\n").unwrap();
    let weak = after.find("\nWeak promises").map_or("", |at| &after[at..]);
    format!("{before}{weak}")
}

fn json(pipeline: &str) -> Value {
    serde_json::from_str(&stdout(&explain(pipeline, &["--format", "json"]).success())).unwrap()
}

/// Likewise.
fn json_promises(pipeline: &str) -> String {
    let mut json = json(pipeline);
    let parts = json.as_object_mut().unwrap();
    assert!(parts.remove("needs").is_some() && parts.remove("machine").is_some());
    format!("{json:#}")
}

#[test]
fn leases_order_and_failures_are_told_in_words() {
    insta::assert_snapshot!(promises(&stdout(&explain(LEASED, &[]).success())));
}

#[test]
fn streams_pipes_and_weak_promises_are_told_in_words() {
    insta::assert_snapshot!(promises(&stdout(&explain(STREAMS, &[]).success())));
}

#[test]
fn the_same_is_told_in_json() {
    insta::assert_snapshot!("leased_json", json_promises(LEASED));
    insta::assert_snapshot!("streams_json", json_promises(STREAMS));
}

#[test]
fn needs_are_told_against_the_limits_of_this_machine() {
    let told = json(STREAMS);
    let needs = told["needs"].as_array().unwrap();
    let of = |what: &str| needs.iter().find(|need| need["what"] == what).unwrap();
    // The engine, its launcher and the guardian, and 1 + 40 + 1 + 1 workers.
    assert_eq!(of("processes")["needed"], 46);
    // 32 of the engine; `lines` 2, `mix` 40 × 3, `encode` 2, `send` 1; both ends of the pipe.
    assert_eq!(of("descriptors")["needed"], 32 + 2 + 120 + 2 + 1 + 2);
    assert_eq!(of("pipe_size")["needed"], 256 << 10);
    assert_eq!(told["machine"]["open_files_hard"], of("descriptors")["limit"]);
}

#[test]
fn what_does_not_fit_is_told_and_is_no_error() {
    let mut command = std::process::Command::new("/bin/sh");
    let script = "ulimit -n 64 && exec \"$0\" explain - --pool a=500";
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("p.yaml"), "stages: {a: {command: 'true'}}").unwrap();
    let input = fs::File::open(folder.path().join("p.yaml")).unwrap();
    let output = command.args(["-c", script, env!("CARGO_BIN_EXE_mpflow")]).stdin(input).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in ["does not fit", "the run is refused", "`a`: 500 of 2 each", "ulimit -Hn 1032"] {
        assert!(
            text.split_whitespace().collect::<Vec<_>>().join(" ").contains(part),
            "`{part}` is not in\n{text}"
        );
    }
}

#[test]
fn a_wrong_pipeline_is_told_and_ends_with_2() {
    let assert = explain("stages: {a: {command: cat, mod: map}}", &[]).code(2);
    assert_eq!(stdout(&assert), "");
}

#[test]
fn memory_stays_below_the_sum_while_a_consumer_stands_still() {
    let pipeline = "\
stages:
  lines: {command: 'yes 0123456789012345678901234567890123456789', pool: 4}
  long: {command: 'head -c 40000000 /dev/zero | tr \"\\0\" x | fold -w 60000; sleep 100'}
  stuck: {command: 'sleep 100', pool: 2}
  slow: {command: [sh, -c, 'while read -r line; do sleep 0.01; echo \"$line\"; done'], mode: map, pool: 2, ordered: true}
edges:
  - queue: lines -> stuck
  - queue: lines -> slow -> stdout
  - queue: long -> stuck
";
    let sum = json(pipeline)["memory"]["short_bytes"].as_u64().unwrap();
    let run = Scenario::new(pipeline).start();
    let field =
        |name| status_field(run.pid(), name).trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10;
    // Two queues of 8 MiB do not share what they hold; an idle engine has less than 2 MiB of its own.
    run.wait_until("a full queue", || (field("RssAnon") > 14 << 20).then_some(()));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while std::time::Instant::now() < until {
        assert!(field("VmHWM") < sum, "{} is not below {sum}", field("VmHWM"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.signal(support::Signal::SIGTERM);
    run.finish();
}
