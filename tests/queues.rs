//! Queues: every record once, whole, in order within its stream, and never more of them than the capacity.

mod support;

use serde_json::json;
use support::{Scenario, numbers};

/// Counts lines, and sums three functions of them, so that no loss hides a doubling; a line that is no number is
/// counted apart.
const TALLY: &str = r#"
{ if ($0 !~ /^[0-9]+$/) torn++
  n++; a += $0; b += ($0 * 7919) % 65521; c += ($0 % 1000003) * 31 % 524287 }
END { printf "%d %d %.0f %.0f %.0f\n", n, torn, a, b, c }
"#;

#[test]
fn ten_million_lines_through_a_pool_of_four_come_out_as_the_same_multiset() {
    let pipeline = "
        stages:
          numbers: {command: [seq, '10000000']}
          copy: {command: [cat], pool: 4}
          tally: {command: [awk, -f, tally.awk]}
          straight: {command: 'seq 10000000 | awk -f tally.awk', stdout: straight.txt}
        edges: [{queue: numbers -> copy -> tally}]";
    let run = Scenario::new(pipeline).file("tally.awk", TALLY).run().succeeded();
    assert_eq!(run.text(), run.read("straight.txt"));
    assert!(run.text().starts_with("10000000 0 "), "{}", run.text());
    assert_eq!(run.edge("copy -> tally")["delivered"], 10_000_000);
}

#[test]
fn records_of_one_producer_reach_one_consumer_in_their_order() {
    let pipeline = "
        stages:
          numbers: {command: seq 200000}
          one: {command: cat}
          two: {command: cat}
        edges: [{queue: numbers -> one -> two -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote(numbers(200_000));
}

#[test]
fn standard_input_and_output_of_mpflow_are_ends_of_queues() {
    let pipeline = "
        stages: {upper: {command: 'tr a-z A-Z'}}
        edges: [{queue: stdin -> upper -> stdout}]";
    let run = Scenario::new(pipeline).stdin("one\ntwo\n").run().succeeded().wrote("ONE\nTWO\n");
    assert_eq!(run.edge("stdin -> upper")["delivered"], 2);
}

#[test]
fn an_output_without_an_edge_goes_to_standard_output_whole_records_at_a_time() {
    let pipeline = r#"
        stages:
          writer:
            pool: 4
            command: 'i=0; while [ $i -lt 300 ]; do printf "%s" "$MPFLOW_RANK-"; printf "%s-end\n" "$i"; i=$((i+1)); done'"#;
    let expected = (0..4).flat_map(|rank| (0..300).map(move |i| format!("{rank}-{i}-end")));
    Scenario::new(pipeline).run().succeeded().wrote_lines(expected);
}

#[test]
fn two_queues_from_one_port_are_two_subscriptions() {
    let pipeline = "
        stages:
          numbers: {command: seq 5000}
          left: {command: cat, stdout: left.txt}
          right: {command: cat, stdout: right.txt}
        edges:
          - queue: numbers -> left
          - queue: numbers -> right";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!(run.read("left.txt"), numbers(5000));
    assert_eq!(run.read("right.txt"), numbers(5000));
}

#[test]
fn several_queues_into_one_port_merge() {
    let pipeline = "
        stages:
          low: {command: seq 1 3000}
          high: {command: seq 3001 6000}
          sink: {command: cat}
        edges:
          - queue: low -> sink
          - queue: high -> sink
          - queue: sink -> stdout";
    let run = Scenario::new(pipeline).run().succeeded().wrote_lines(1..=6000);
    let low: Vec<u32> =
        run.text().lines().map(|line| line.parse().unwrap()).filter(|&number| number <= 3000).collect();
    assert!(low.is_sorted(), "each producer's records keep their order");
}

#[test]
fn a_file_on_standard_input_arrives_whole_and_in_order() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let text = numbers(500_000) + "no newline";
    let run = Scenario::new(pipeline).file("in", &text).stdin_from("in").run().succeeded().wrote(text);
    assert_eq!(run.edge("stdin -> copy")["delivered"], 500_001);
    let run = Scenario::new(pipeline).file("in", "").stdin_from("in").run().succeeded().wrote("");
    assert_eq!(run.edge("stdin -> copy")["in"], 0);
}

#[test]
fn a_file_without_end_on_standard_input_ends_with_its_only_reader() {
    let pipeline = "
        stages: {few: {command: 'head -c 3 | wc -c'}}
        edges: [{queue: stdin -> few, format: nul}, {queue: few -> stdout}]";
    Scenario::new(pipeline).stdin_from("/dev/zero").run().succeeded().wrote("3\n");
}

#[test]
fn what_cannot_be_read_on_standard_input_fails_the_stage_that_it_feeds() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout}]";
    // A folder can be opened, and not read.
    Scenario::new(pipeline).stdin_from("/").run().ended(1).said(["cannot read standard input"]);
}

#[test]
fn a_last_line_without_a_newline_is_a_record_and_keeps_its_bytes() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let run = Scenario::new(pipeline).stdin("one\ntwo").run().succeeded().wrote("one\ntwo");
    assert_eq!(run.edge("stdin -> copy")["in"], 2);
}

#[test]
fn what_follows_a_line_without_a_newline_is_not_glued_to_it() {
    let pipeline = r#"
        stages:
          writer: {command: [printf, "alpha\nbeta"], pool: 8}
          sink: {command: cat}
        edges: [{queue: writer -> sink -> stdout}]"#;
    let run = Scenario::new(pipeline).run().succeeded();
    let mut lines: Vec<&str> = run.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [["alpha"; 8], ["beta"; 8]].concat());
}

#[test]
fn no_records_at_all_are_no_error() {
    let pipeline = "
        stages:
          nothing: {command: 'true'}
          copy: {command: cat, pool: 3}
          map: {command: cat, mode: map, pool: 2}
          each: {command: [touch, 'made-{}'], mode: each}
        edges: [{queue: nothing -> copy -> map -> each}]";
    let run = Scenario::new(pipeline).run().succeeded().wrote("");
    assert_eq!(run.stage("each")["started"], 0);
    assert!(!run.has("made-"));
}

#[test]
fn a_full_queue_blocks_its_producer() {
    // The consumer reads nothing until the producer has had time to fill whatever there is.
    let pipeline = "
        stages:
          numbers: {command: seq 1000000}
          sink: {command: 'while [ ! -e go ]; do sleep 0.02; done; tail -n 1'}
        edges: [{queue: numbers -> sink, capacity: 100}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_event_of("stage_ready", "sink");
    std::fs::write(run.path("go"), "").unwrap();
    let run = run.finish().succeeded().wrote("1000000\n");
    let edge = run.edge("numbers -> sink");
    assert!(edge["peak_records"].as_u64().unwrap() <= 100, "{edge:#}");
    assert_eq!(edge["delivered"], 1_000_000);
}

#[test]
fn a_producer_waits_until_a_full_queue_has_room() {
    let pipeline = r#"
        stages:
          numbers: {command: 'seq 3000000; echo done > producer-done'}
          sink: {command: 'read first; while [ ! -e go ]; do sleep 0.02; done; cat > /dev/null'}
        edges: [{queue: numbers -> sink, capacity_bytes: 64KiB}]"#;
    let run = Scenario::new(pipeline).start();
    run.wait_for_event_of("stage_ready", "sink");
    // The kernel's pipes hold a megabyte each at most; the producer has 20 more to write.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!run.path("producer-done").exists(), "the producer should wait");
    std::fs::write(run.path("go"), "").unwrap();
    let run = run.finish().succeeded();
    assert!(run.has("producer-done"));
}

#[test]
fn a_record_larger_than_the_capacity_still_passes_alone() {
    let pipeline = "
        stages:
          long: {command: 'for i in 1 2 3; do head -c 300000 /dev/zero | tr \"\\0\" x; echo; done'}
          sink: {command: 'wc -lc'}
        edges: [{queue: long -> sink, capacity_bytes: 4KiB}]";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!(run.text().split_whitespace().collect::<Vec<_>>(), ["3", "900003"]);
}

#[test]
fn when_full_drop_newest_keeps_what_came_first() {
    let pipeline = "
        stages:
          numbers: {command: 'seq 1000000; echo done > produced'}
          sink: {command: 'while [ ! -e produced ]; do sleep 0.02; done; cat'}
        edges:
          - {queue: numbers -> sink, capacity: 50, when_full: drop_newest}
          - {queue: sink -> stdout}";
    let run = Scenario::new(pipeline).run().succeeded();
    let edge = run.edge("numbers -> sink");
    let kept = edge["delivered"].as_u64().unwrap();
    assert!(edge["dropped"].as_u64().unwrap() > 0, "{edge:#}");
    assert_eq!(edge["in"], 1_000_000);
    assert!(edge["peak_records"].as_u64().unwrap() <= 50);
    let lines: Vec<u64> = run.text().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.len() as u64, kept);
    assert!(
        lines.is_sorted() && lines[..50] == (1..=50).collect::<Vec<_>>(),
        "the first are kept: {lines:?}"
    );
}

#[test]
fn when_full_drop_oldest_keeps_what_came_last() {
    let pipeline = "
        stages:
          numbers: {command: 'seq 1000000; echo done > produced'}
          sink: {command: 'while [ ! -e produced ]; do sleep 0.02; done; cat'}
        edges:
          - {queue: numbers -> sink, capacity: 50, when_full: drop_oldest}
          - {queue: sink -> stdout}";
    let run = Scenario::new(pipeline).run().succeeded();
    let edge = run.edge("numbers -> sink");
    assert!(edge["dropped"].as_u64().unwrap() > 0, "{edge:#}");
    let lines: Vec<u64> = run.text().lines().map(|line| line.parse().unwrap()).collect();
    assert!(lines.is_sorted() && lines.ends_with(&(999_951..=1_000_000).collect::<Vec<_>>()));
}

#[test]
fn partition_by_a_field_brings_records_of_one_key_to_one_worker_in_order() {
    let pipeline = r#"
        stages:
          source: {command: "seq 3000 | awk '{print $1 % 37, $1}'"}
          sink: {command: 'while read -r line; do echo "$line $MPFLOW_RANK"; done', pool: 4}
        edges: [{queue: source -> sink, partition_by: 1}]"#;
    let run = Scenario::new(pipeline).run().succeeded();
    assert_partitioned(run.text().lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[0].to_owned(), fields[1].parse().unwrap(), fields[2].to_owned())
    }));
}

#[test]
fn partition_by_a_json_pointer_brings_records_of_one_key_to_one_worker_in_order() {
    let pipeline = r#"
        stages:
          source: {command: "seq 3000 | awk '{printf \"{\\\"n\\\": %d, \\\"user\\\": {\\\"id\\\": \\\"u%d\\\"}}\\n\", $1, $1 % 37}'"}
          sink: {command: "sed -u \"s/}$/, \\\"rank\\\": $MPFLOW_RANK}/\"", pool: 3}
        edges:
          - {queue: source -> sink, format: json, partition_by: /user/id}
          - {queue: sink -> stdout, format: json}"#;
    let run = Scenario::new(pipeline).run().succeeded();
    assert_partitioned(run.text().lines().map(|line| {
        let document: support::Value = serde_json::from_str(line).unwrap();
        let user = document["user"]["id"].as_str().unwrap().to_owned();
        (user, document["n"].as_u64().unwrap(), document["rank"].to_string())
    }));
}

/// Key, number, worker: 3000 records of 37 keys.
fn assert_partitioned(records: impl Iterator<Item = (String, u64, String)>) {
    let mut last: std::collections::BTreeMap<String, (u64, String)> = Default::default();
    let mut count = 0;
    for (key, number, worker) in records {
        if let Some((before, its_worker)) = last.get(&key) {
            assert!(*before < number, "{key}: {number} came after {before}");
            assert_eq!(*its_worker, worker, "{key} went to two workers");
        }
        last.insert(key, (number, worker));
        count += 1;
    }
    assert_eq!((count, last.len()), (3000, 37));
    let workers: std::collections::BTreeSet<&String> = last.values().map(|(_, worker)| worker).collect();
    assert!(workers.len() > 1, "all keys went to one worker");
}

#[test]
fn to_each_gives_every_worker_every_record() {
    let pipeline = r#"
        stages:
          numbers: {command: seq 2000}
          sink: {command: 'cat > got-$MPFLOW_RANK', pool: 3}
        edges: [{queue: numbers -> sink, to_each: true}]"#;
    let run = Scenario::new(pipeline).run().succeeded();
    for rank in 0..3 {
        assert_eq!(run.read(&format!("got-{rank}")), numbers(2000));
    }
    assert_eq!(run.edge("numbers -> sink")["in"], 6000);
    assert_eq!(run.edge("numbers -> sink")["delivered"], 6000);
}

#[test]
fn a_record_over_max_record_fails_the_stage_that_made_it() {
    let pipeline = "
        stages:
          long: {command: 'echo short; head -c 5000 /dev/zero | tr \"\\0\" x; echo'}
          sink: {command: cat}
        edges: [{queue: long -> sink, max_record: 1KiB}]";
    let run = Scenario::new(pipeline).run().ended(1).said(["stage `long`", "max_record", "1024", "xxxx"]);
    assert_eq!(run.failure()["stage"], "long");
}

#[test]
fn a_pool_shares_a_queue_by_demand() {
    // The worker that stands still gets little; the others do the work.
    let pipeline = r#"
        stages:
          numbers: {command: seq 20000}
          work:
            pool: 3
            command: 'if [ $MPFLOW_RANK = 0 ]; then read -r line; echo "0 $line"; while [ ! -e done ]; do sleep 0.02; done; fi; sed -u "s/^/$MPFLOW_RANK /"'
          watch: {command: "awk '{ print; if (++n == 15000) { print \"\" > \"done\"; close(\"done\") } }'"}
        edges: [{queue: numbers -> work -> watch -> stdout}]"#;
    let run = Scenario::new(pipeline).run().succeeded();
    let lines = run.text().lines().map(|line| line.split(' ').nth(1).unwrap().to_owned());
    let mut numbers: Vec<u32> = lines.map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
}

#[test]
fn a_long_chain_passes_everything_on() {
    let stages: String = (0..20).map(|i| format!("  s{i}: {{command: cat}}\n")).collect();
    let chain: Vec<String> = (0..20).map(|i| format!("s{i}")).collect();
    let pipeline =
        format!("stages:\n{stages}edges: [{{queue: stdin -> {} -> stdout}}]\n", chain.join(" -> "));
    Scenario::new(pipeline).stdin(numbers(20_000)).run().succeeded().wrote(numbers(20_000));
}

#[test]
fn the_report_tells_what_became_of_every_record() {
    let pipeline = "
        name: told
        stages:
          numbers: {command: seq 10}
          copy: {command: cat, pool: 2}
        edges: [{queue: numbers -> copy -> stdout}]";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!(run.report["pipeline"], "told");
    assert_eq!(run.report["outcome"], json!({"result": "succeeded"}));
    let copy = run.stage("copy");
    assert_eq!((&copy["records_in"], &copy["records_out"]), (&json!(10), &json!(10)));
    assert_eq!((&copy["workers"], &copy["started"], &copy["restarts"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!(copy["exits"], json!([[0, 2]]));
    assert_eq!(copy["state"], "finished");
    assert!(copy["peak_memory_bytes"].as_u64().unwrap() > 0);
    let edge = run.edge("numbers -> copy");
    let shown = (&edge["in"], &edge["delivered"], &edge["bytes"], &edge["discarded"]);
    assert_eq!(shown, (&json!(10), &json!(10), &json!(21), &json!([])));
    assert_eq!(run.edge("copy -> stdout")["delivered"], 10);
}
