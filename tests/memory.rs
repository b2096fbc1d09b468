//! What a run costs: bounded memory, and nothing while it is idle.

mod support;

use std::time::Duration;

use support::{Scenario, Signal, cpu_ticks};

/// Prints the peak of the engine's memory in KiB: the engine is the parent of the guardian, and that of the
/// launcher, which is the parent of a worker.
const PEAK: &str = "
launcher=$PPID
guardian=$(sed 's/.*) //' /proc/$launcher/stat | cut -d ' ' -f 2)
engine=$(sed 's/.*) //' /proc/$guardian/stat | cut -d ' ' -f 2)
sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$engine/status
";

/// KiB.
const BOUND: u64 = 150 << 10;

#[test]
fn millions_of_short_records_before_a_map_stage_do_not_lie_in_the_engine() {
    let pipeline = "
        stages:
          source: {command: [seq, '3000000']}
          work: {command: cat, mode: map, ordered: true, pool: 2}
          last: {command: 'tail -n 1; . ./peak.sh'}
        edges:
          - {queue: source -> work, capacity_bytes: 64MiB}
          - {queue: work -> last}";
    let run = Scenario::new(pipeline).file("peak.sh", PEAK).run().succeeded();
    let lines: Vec<u64> = run.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(lines[0], 3_000_000);
    assert!(lines[1] < BOUND, "the engine took {} KiB at its peak", lines[1]);
}

#[test]
fn held_output_of_an_each_stage_lies_in_a_file_and_not_in_the_engine() {
    let pipeline = "
        stages:
          work: {mode: each, command: 'yes {} | head -c 300000000'}
          last: {command: 'head -c 1000 > /dev/null; . ./memory.sh; wc -c'}
        edges: [{queue: stdin -> work -> last -> stdout}]";
    // Pages of the file count for the kernel as resident while they are looked at; it may drop them at any time.
    let memory = PEAK.replace("VmHWM", "RssAnon");
    let record = "0123456789012345678901234567890\n";
    let run = Scenario::new(pipeline).file("memory.sh", memory).stdin(record).run().succeeded();
    let lines: Vec<u64> = run.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(lines[0] < BOUND, "the engine took {} KiB", lines[0]);
    assert!(lines[1] >= 299_000_000, "{lines:?}");
}

#[test]
fn an_idle_run_uses_no_processor_time() {
    let pipeline = "
        stages:
          idle: {command: 'echo up; sleep 1000', pool: 3}
          filter: {command: cat, pool: 2}
          map: {command: cat, mode: map, pool: {min: 1, max: 3}}
          closed: {command: 'exec > /dev/null 2>&1; sleep 1000'}
          daemon: {command: 'sleep 1000', daemon: true}
        edges:
          - queue: idle -> filter -> map
          - queue: map -> stdout
          - queue: closed -> stdout";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(3);
    let processes = [run.pid(), run.launcher_pid()];
    let used = || processes.map(cpu_ticks).iter().sum::<u64>();
    let before = used();
    // Not to wait for anything: this is the time that is measured.
    std::thread::sleep(Duration::from_secs(10));
    let ticks = used() - before;
    // A tick is a hundredth of a second: at most 0.1 % of the time.
    assert!(ticks <= 1, "{ticks} ticks of processor time in ten idle seconds");
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}

#[test]
fn a_consumer_that_stands_still_costs_no_processor_time() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          stuck: {command: 'read -r x; echo $x; sleep 1000', pool: 2}
        edges: [{queue: endless -> stuck -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(2);
    let processes = [run.pid(), run.launcher_pid()];
    let used = || processes.map(cpu_ticks).iter().sum::<u64>();
    // Everything between them fills first.
    std::thread::sleep(Duration::from_millis(700));
    let before = used();
    std::thread::sleep(Duration::from_secs(1));
    let ticks = used() - before;
    assert!(ticks <= 1, "{ticks} ticks of processor time while all stands still");
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}
