//! A disk that is full: under the files of workers, under held results, under the report and the events.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::{Scenario, numbers};

/// Runs this script in a mount namespace of its own, in which the folder `full` is a disk of 64 KiB; `"$@"` in it is
/// `mpflow` with its arguments. `None`, with a word about it, where this process cannot mount.
fn on_a_small_disk(scenario: Scenario, options: &str, script: &str) -> Option<Scenario> {
    let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let probe =
        Command::new("unshare").args([namespace, "mount", "-t", "tmpfs", "mpflow-test", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare {namespace}` and `mount -t tmpfs` are not allowed here");
        return None;
    }
    fs::create_dir(scenario.path("full")).unwrap();
    let script = format!("mount -t tmpfs -o size=64k{options} mpflow-test full || exit 99\n{script}");
    Some(scenario.through(["unshare", namespace, "sh", "-c", &script, "sh"]))
}

/// Takes all that is left of the disk.
const FILL: &str = "dd if=/dev/zero of=full/filler bs=4096 2> /dev/null";

#[test]
fn a_full_disk_under_stderr_files_takes_their_end_and_nothing_else() {
    let pipeline = "
        stages:
          loud:
            command: 'head -c 200000 /dev/zero >&2; echo \"head: $?\"; cat'
            pool: 2
            stderr: full/log.txt
        edges: [{queue: stdin -> loud -> stdout}]";
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), "", "exec \"$@\"") else { return };
    let run = scenario.stdin(numbers(1000)).run().succeeded();
    let words = ["head: 1"; 2].map(str::to_owned).into_iter();
    run.wrote_lines((1..=1000).map(|number| number.to_string()).chain(words));
}

#[test]
fn a_worker_whose_own_output_file_is_full_fails_by_its_policy() {
    let pipeline = "
        stages:
          work: {command: 'cat || exit 3', stdout: full/out.txt, on_failure: continue}
          other: {command: 'cat; echo other'}
        edges:
          - queue: stdin -> work
          - queue: stdin -> other -> stdout";
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), "", "exec \"$@\"") else { return };
    let run = scenario
        .stdin(numbers(100_000))
        .run()
        .ended(1)
        .said(["worker `work` exited with 3", "No space left"]);
    let expected = format!("{}other\n", numbers(100_000));
    run.wrote(expected);
}

#[test]
fn a_stderr_file_that_no_room_is_left_for_is_named() {
    let pipeline = "
        stages: {work: {command: 'echo work', stderr: full/log.txt}}";
    // One inode: that of the folder itself.
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), ",nr_inodes=1", "exec \"$@\"") else {
        return;
    };
    let run = scenario.run().ended(1).said([
        "cannot start worker `work`: cannot open",
        "full/log.txt",
        "No space left",
    ]);
    assert_eq!(run.stage("work")["started"], 0);
}

#[test]
fn a_full_disk_under_held_results_fails_the_stage_once_and_crashes_nothing() {
    let pipeline = "
        stages:
          work: {mode: each, pool: 2, command: 'yes {} | head -c 3000000', on_failure: continue}
          other: {command: 'cat; echo other'}
        edges:
          - queue: stdin -> work -> stdout
          - queue: stdin -> other -> stdout";
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), "", "exec \"$@\"") else { return };
    let run = scenario.env("TMPDIR", "full").stdin("1\n2\n3\n4\n").run().ended(1);
    let run = run.said(["cannot hold its output back: No space left on device"]);
    assert_eq!(run.events_of("stage_failed").len(), 1);
    run.wrote("1\n2\n3\n4\nother\n");
}

#[test]
fn a_report_that_the_disk_has_no_room_for_is_told_and_the_old_one_stands() {
    let pipeline = "stages: {work: {command: 'echo done'}}";
    let script = format!(
        "echo old > full/report.json; {FILL}
        ln -sf full/report.json report.json
        \"$@\"; code=$?; ls -A full; cat full/report.json; exit $code"
    );
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), "", &script) else { return };
    let run = scenario.run().ended(1);
    let run = run.said(["cannot write the report to `report.json`: No space left on device", "succeeded in"]);
    run.wrote("done\nfiller\nreport.json\nold\n");
}

#[test]
fn events_that_the_disk_has_no_room_for_are_told_once_and_the_run_goes_on() {
    let pipeline = "
        stages: {work: {mode: each, pool: 4, command: 'echo {}'}}
        edges: [{queue: stdin -> work -> stdout}]";
    let script = "ln -s full/events.ndjson events.ndjson
        \"$@\"; code=$?; wc -l < full/events.ndjson >&2; exit $code";
    let Some(scenario) = on_a_small_disk(Scenario::new(pipeline), "", script) else { return };
    let run = scenario.stdin(numbers(1000)).run().ended(1);
    let said = "cannot write events to `events.ndjson`: No space left on device";
    assert_eq!(run.stderr.matches(said).count(), 1, "{}", run.told());
    assert_eq!(run.report["outcome"], json!({"result": "succeeded"}));
    let kept: u64 = run.stderr.lines().last().unwrap().trim().parse().unwrap();
    assert!(kept > 100, "the events before are there: {kept}");
    run.wrote_lines(1..=1000);
}

#[test]
fn devices_without_room_may_stand_for_every_file_of_a_run() {
    let pipeline = "
        stages: {work: {command: 'echo lost >&2; echo \"wrote $?\"; seq 3', stderr: /dev/full}}";
    let run = Scenario::new(pipeline).run().succeeded();
    run.wrote_lines(["1", "2", "3"].map(str::to_owned).into_iter().chain(["wrote 1".to_owned()]));
}

#[test]
fn an_output_of_mpflow_without_room_fails_the_run_once() {
    let pipeline = "
        stages: {work: {command: 'seq 100000'}}";
    let run = Scenario::new(pipeline).after("exec > /dev/full").run().ended(1);
    let reason = run.failure()["reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot write standard output: No space left on device"), "{reason}");
    assert_eq!(run.events_of("stage_failed").len(), 1);
}
