//! A kill in the middle of a large result, and other outputs that do not end as they should.

use rstest::rstest;
use serde_json::json;

use super::{Killer, PATIENCE};
use crate::support::{Finished, Scenario, Value};

/// Writes half of a result that is 40 MB long and waits to be killed; the second time, all of another.
const HALF_THEN_WHOLE: &str = r#"
half() { head -c 20000000 /dev/zero | tr '\0' "$1"; }
answer() {
    if mkdir begun 2>/dev/null; then
        half a; echo $$ > half.tmp; mv half.tmp half
        while :; do sleep 0.02; done
    fi
    half b; half b; echo
}
"#;

/// Kills the worker that has written half of its result.
fn kill_at_half(scenario: Scenario) -> Finished {
    let run = scenario.start();
    let pid = run.wait_for_file("half").trim().parse().unwrap();
    assert!(Killer::of(&run, "work").kill(pid), "the worker has ended already\n{}", run.messages());
    run.finish()
}

#[rstest]
#[case::map("mode: map, command: '. ./half.sh; while read -r line; do answer; done'")]
#[case::map_ordered_in_a_pool(
    "mode: map, ordered: true, pool: 3, command: '. ./half.sh; while read -r line; do answer; done'"
)]
#[case::each("mode: each, command: '. ./half.sh; answer; : {}'")]
#[case::each_with_its_record_on_stdin("mode: each, command: '. ./half.sh; answer'")]
fn nothing_appears_of_a_large_result_whose_worker_is_killed_half_way(#[case] stage: &str) {
    let pipeline = format!(
        "
        stages: {{work: {{{stage}}}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let scenario = Scenario::new(pipeline).file("half.sh", HALF_THEN_WHOLE).stdin("the record\n");
    // What is too large for memory lies in this folder, without a name.
    let folder = scenario.path("held");
    std::fs::create_dir(&folder).unwrap();
    let run = kill_at_half(scenario.env("TMPDIR", folder.to_str().unwrap())).succeeded();
    let run = run.wrote([&"b".repeat(40_000_000), "\n"].concat());
    let edge = run.edge("stdin -> work");
    assert_eq!((&edge["delivered"], &run.stage("work")["retried"]), (&json!(1), &json!(1)));
    assert_eq!(std::fs::read_dir(run.path("held")).unwrap().count(), 0, "something was left");
    let failed = run.events_of("record_failed");
    assert_eq!((&failed[0]["record"], &failed[0]["retried"]), (&json!("the record"), &json!(true)));
}

#[test]
fn nothing_appears_of_the_many_results_of_a_process_that_is_killed_half_way() {
    let pipeline = "
        stages:
          work:
            mode: each
            command: |
              if mkdir begun 2>/dev/null; then
                  yes dropped | head -n 1000000; echo $$ > half.tmp; mv half.tmp half
                  while :; do sleep 0.02; done
              fi
              yes kept | head -n 500000
              : {}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = kill_at_half(Scenario::new(pipeline).stdin("x\n")).succeeded().wrote("kept\n".repeat(500_000));
    assert_eq!(run.stage("work")["records_out"], 500_000);
}

// ---- stream: what has left has left, and what is torn is no record

#[test]
fn of_a_stream_worker_that_is_killed_half_way_the_whole_records_have_left_and_no_other() {
    let pipeline = "
        stages:
          work:
            restart: on-failure
            command: |
              if mkdir begun 2>/dev/null; then
                  echo whole; printf to; echo $$ > half.tmp; mv half.tmp half
                  while :; do sleep 0.02; done
              fi
              echo again
        edges: [{queue: work -> stdout}]";
    let run = kill_at_half(Scenario::new(pipeline)).succeeded().wrote("whole\nagain\n");
    assert_eq!(run.edge("work -> stdout")["in"], 2);
}

/// Three bytes in a frame, and the beginning of one of nine.
const TORN_FRAME: &str = r"printf '\003\000\000\000abc\011\000\000\000part'";

#[test]
fn a_frame_that_a_killed_worker_has_torn_is_dropped_and_the_next_ones_are_read_aright() {
    let pipeline = format!(
        r"
        stages:
          work:
            restart: on-failure
            command: |
              if mkdir begun 2>/dev/null; then
                  {TORN_FRAME}; echo $$ > half.tmp; mv half.tmp half
                  while :; do sleep 0.02; done
              fi
              printf '\002\000\000\000de\001\000\000\000f'
        edges: [{{queue: work -> stdout, format: frames}}]"
    );
    let run = kill_at_half(Scenario::new(pipeline)).succeeded();
    run.wrote(b"\x03\0\0\0abc\x02\0\0\0de\x01\0\0\0f");
}

#[rstest]
#[case::killed("kill -9 $$", "was killed by SIGKILL")]
#[case::ended_well("exit 0", "ended in the middle of a frame, after 8 of its bytes")]
fn a_torn_frame_fails_a_worker_that_is_not_started_again_by_the_cause(
    #[case] then: &str,
    #[case] said: &str,
) {
    let pipeline = format!(
        r#"
        stages: {{work: {{command: "{}; {then}", on_failure: continue}}}}
        edges: [{{queue: work -> stdout, format: frames}}]"#,
        TORN_FRAME.replace('\\', "\\\\")
    );
    let run = Scenario::new(pipeline).run().ended(1).said([said]).wrote(b"\x03\0\0\0abc");
    assert_eq!(run.report["outcome"]["failures"].as_array().unwrap().len(), 1, "{}", run.told());
}

#[rstest]
#[case::of_a_stream_worker("command: 'printf \"{\\\"a\\\": 1}\\\\n{\\\"b\\\": \"'")]
#[case::of_a_map_worker("mode: map, command: 'read -r line; echo 1; read -r line; printf \"{\\\"b\\\": \"'")]
#[case::of_an_each_process("mode: each, command: 'echo 1; printf \"{\\\"b\\\": \"; : {}'")]
fn a_torn_last_document_of_a_worker_that_ends_well_is_told_and_not_dropped_in_silence(#[case] stage: &str) {
    let pipeline = format!(
        "
        stages: {{work: {{{stage}}}}}
        edges:
          - {{queue: stdin -> work, format: lines}}
          - {{queue: work -> stdout, format: json}}"
    );
    let run = Scenario::new(pipeline).stdin("x\ny\n").run().ended(1);
    assert_eq!(run.said(["stage `work`", "not one JSON document"]).failure()["stage"], "work");
}

// ---- outputs that somebody else holds

/// A process of its own session that outlives its parent and has its parent's output, for good.
const HOLD: &str = "setsid sleep 1000 &";

#[test]
fn the_result_of_a_process_whose_output_somebody_holds_leaves_whole_and_what_follows_ends() {
    let pipeline = format!(
        "
        stages:
          work: {{mode: each, pool: 2, ordered: true, command: '{HOLD} echo {{}}; echo {{}}-end'}}
          next: {{command: 'cat; echo end'}}
        edges: [{{queue: stdin -> work -> next -> stdout}}]"
    );
    let run = Scenario::new(pipeline).stdin("1\n2\n3\n").run().succeeded();
    let run = run.wrote("1\n1-end\n2\n2-end\n3\n3-end\nend\n");
    assert_eq!((run.events_of("output_held").len(), &run.stage("work")["retried"]), (3, &json!(0)));
}

#[test]
fn the_record_of_a_killed_process_whose_output_somebody_holds_is_tried_again() {
    let pipeline = format!(
        "
        stages:
          work: {{mode: each, command: 'if mkdir begun 2>/dev/null; then {HOLD} echo torn; kill -9 $$; fi; echo {{}}'}}
          next: {{command: 'cat; echo end'}}
        edges: [{{queue: stdin -> work -> next -> stdout}}]"
    );
    let run = Scenario::new(pipeline).stdin("1\n2\n").run().succeeded().wrote("1\n2\nend\n");
    assert_eq!((run.events_of("output_held").len(), &run.stage("work")["retried"]), (1, &json!(1)));
}

#[test]
fn a_map_worker_whose_output_somebody_holds_is_started_again_and_every_answer_comes_once() {
    let pipeline = format!(
        "
        stages:
          work:
            mode: map
            ordered: true
            command: |
              if mkdir begun 2>/dev/null; then
                  {HOLD}
                  read -r line; echo $line; read -r line; printf torn; kill -9 $$
              fi
              while read -r line; do echo $line; done
          next: {{command: 'cat; echo end'}}
        edges: [{{queue: stdin -> work -> next -> stdout}}]"
    );
    let run = Scenario::new(pipeline).stdin("1\n2\n3\n4\n").run().succeeded().wrote("1\n2\n3\n4\nend\n");
    assert_eq!((run.events_of("output_held").len(), &run.stage("work")["restarts"]), (1, &json!(1)));
}

// ---- much at once

/// Prints the peak of the engine's memory in KiB: the engine is the parent of a worker's parent.
const PEAK: &str = "
launcher=$PPID
engine=$(sed 's/.*) //' /proc/$launcher/stat | cut -d ' ' -f 2)
sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$engine/status
";

#[test]
fn a_gibibyte_of_a_process_that_exits_at_once_is_delivered_to_the_last_byte_and_does_not_lie_in_the_engine() {
    // The consumer begins when everything between it and the producer is full.
    let pipeline = "
        stages:
          source: {command: 'yes 0123456789012345678901234567890 | head -c 1073741824'}
          copy: {command: cat, pool: 2}
          slow: {command: 'sleep 0.5; wc -c; . ./peak.sh'}
        edges: [{queue: source -> copy -> slow -> stdout}]";
    let run = Scenario::new(pipeline).file("peak.sh", PEAK).within(PATIENCE).run().succeeded();
    let lines: Vec<u64> = run.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(lines[0], 1 << 30);
    assert!(lines[1] < 150 << 10, "the engine took {} KiB at its peak", lines[1]);
    let delivered = json!((1u64 << 30) / 32);
    assert_eq!(
        (&run.edge("source -> copy")["delivered"], &run.edge("copy -> slow")["delivered"]),
        (&delivered, &delivered)
    );
}

/// Ten million bytes without a newline, among them NUL and such as are no UTF-8.
const ENDLESS: &str = "yes | head -n 5000000 | tr 'y\\n' '\\000\\377'";

#[rstest]
#[case::stream("command: cat")]
#[case::map("mode: map, command: 'read -r line; head -c 10000000 endless; echo'")]
#[case::each("mode: each, command: 'head -c 10000000 endless; : {}'")]
fn ten_million_bytes_without_a_newline_pass_as_they_are(#[case] stage: &str) {
    let pipeline = format!(
        "
        stages:
          make: {{command: \"{} > endless; echo x\", stdout: trigger}}
          work: {{{stage}, depends_on: {{make: finished}}}}
        edges: [{{queue: stdin -> work -> stdout}}]",
        ENDLESS.replace('\\', "\\\\")
    );
    let expected = b"\0\xff".repeat(5_000_000);
    let sent = if stage == "command: cat" { expected.clone() } else { b"x\n".to_vec() };
    let run = Scenario::new(pipeline).stdin(sent).run().succeeded();
    let body = run.stdout.strip_suffix(b"\n").unwrap_or(&run.stdout);
    assert!(body == expected, "{} bytes came", run.stdout.len());
}

#[test]
fn ten_million_bytes_of_messages_without_a_newline_are_cut_and_do_not_lie_in_the_engine() {
    let loud = "
        yes | head -n 500000 | tr 'y\\n' '\\000\\377' >&2
        head -c 9000000 /dev/zero | tr '\\000' x >&2
        . ./peak.sh; exit 3";
    let pipeline = "stages: {loud: {command: [sh, loud.sh]}}";
    let run = Scenario::new(pipeline).file("loud.sh", loud).file("peak.sh", PEAK).run().ended(1);
    let peak: u64 = run.text().trim().parse().unwrap();
    assert!(peak < 60 << 10, "the engine took {peak} KiB at its peak");
    let kept: usize =
        run.failure()["stderr"].as_array().unwrap().iter().filter_map(Value::as_str).map(str::len).sum();
    assert!((1..=8 << 10).contains(&kept), "{kept} bytes of its messages are kept");
}
