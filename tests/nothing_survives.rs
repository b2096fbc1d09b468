//! Processes: when one has ended, what it inherits, and who its relatives are. What is left of a run that ends badly, or
//! whose children are unpleasant, is in the fault suite: `faults/kills.rs`.

mod support;

use serde_json::json;
use support::{Scenario, Signal, children, is_alive, need_python};

#[test]
fn a_worker_has_ended_when_its_whole_group_has() {
    // The leader is gone at once; the run waits for the other member of its group, which holds nothing of it.
    let pipeline = "
        stages: {work: {command: '(while [ ! -e go ]; do sleep 0.02; done; echo > member-done) > /dev/null 2>&1 & exit 0'}}";
    let run = Scenario::new(pipeline).start();
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    run.wait_until("the end of the leader", || (!is_alive(pid)).then_some(()));
    assert!(run.events().iter().all(|event| event["event"] != "worker_ended"));
    std::fs::write(run.path("go"), "").unwrap();
    let run = run.finish().succeeded();
    assert!(run.has("member-done"));
}

#[test]
fn a_process_that_holds_an_output_is_told_and_no_longer_waited_for() {
    let pipeline = "
        stages: {work: {command: 'setsid sleep 1000 & echo done'}}";
    let run = Scenario::new(pipeline).run().succeeded().wrote("done\n");
    let held = run.events_of("output_held");
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["command"], "sleep 1000");
    let pid = held[0]["holder"].as_i64().unwrap();
    let run = run.said([&format!("process {pid} (`sleep 1000`) still holds the output of worker `work`")]);
    assert!(run.report["wall_seconds"].as_f64().unwrap() >= 0.5);
}

#[test]
fn what_lies_in_an_output_that_is_held_is_delivered() {
    let pipeline = "
        stages:
          work: {command: 'setsid sleep 1000 & seq 100000'}
          slow: {command: 'sleep 0.3; cat'}
        edges: [{queue: work -> slow -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote(support::numbers(100_000));
}

#[test]
fn a_holder_in_one_stage_keeps_no_other_from_ending() {
    let pipeline = "
        stages:
          work: {command: 'setsid sleep 1000 & echo record'}
          next: {command: cat}
        edges: [{queue: work -> next -> stdout}]";
    Scenario::new(pipeline).run().succeeded().wrote("record\n");
}

// ---- what a worker inherits

const LIST: &str = "
import os
print(' '.join(sorted(os.readlink(f'/proc/self/fd/{fd}').split(':')[0] and str(fd)
    for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}'))))
";

#[test]
fn a_worker_has_its_own_descriptors_and_no_others() {
    need_python();
    let pipeline = "
        stages:
          source: {command: [python3, list.py]}
          filter: {command: [python3, list.py], pool: 2}
          ports: {command: 'python3 list.py; : $MPFLOW_OUT_a $MPFLOW_IN_b'}
          each: {command: 'python3 list.py; : {}', mode: each}
        edges:
          - queue: stdin -> filter
          - queue: stdin -> each
          - queue: stdin -> ports.b
          - {queue: ports.a -> stdout}";
    // Descriptors that whoever starts mpflow left open, low and high.
    let scenario = Scenario::new(pipeline).file("list.py", LIST).stdin("x\n");
    let opener = "import os, sys
for fd in (3, 4, 5, 9, 200, 1000): os.dup2(os.open('/dev/null', os.O_RDWR), fd, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])";
    let run = scenario.through(["python3", "-c", opener]).run().succeeded();
    run.wrote_lines(["0 1 2", "0 1 2", "0 1 2", "0 1 2", "0 1 2 3 4"]);
}

#[test]
fn a_worker_has_default_signals_and_an_empty_mask() {
    let pipeline = "
        stages: {work: {command: [grep, -E, '^Sig(Ign|Blk)', /proc/self/status]}}";
    let run = Scenario::new(pipeline).after("trap '' PIPE INT QUIT USR1 CHLD TSTP").run().succeeded();
    run.wrote("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    let pipeline = "stages: {work: {command: [grep, SigIgn, /proc/self/status]}}";
    Scenario::new(pipeline).after("trap '' HUP").run().succeeded().wrote("SigIgn:\t0000000000000001\n");
}

#[test]
fn a_mask_that_mpflow_was_started_with_reaches_no_worker() {
    need_python();
    let pipeline = "stages: {work: {command: [grep, SigBlk, /proc/self/status]}}";
    let blocker = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.execv(sys.argv[1], sys.argv[1:])";
    let run = Scenario::new(pipeline).through(["python3", "-c", blocker]).run().succeeded();
    run.wrote("SigBlk:\t0000000000000000\n");
}

#[test]
fn a_worker_is_in_a_group_of_its_own_and_has_no_terminal() {
    let pipeline = "
        stages: {work: {command: 'set -- $(cat /proc/self/stat | sed \"s/.*) //\"); echo $3 $$ $5', pool: 2}}";
    let run = Scenario::new(pipeline).run().succeeded();
    for line in run.text().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!((fields[0], fields[2]), (fields[1], "0"), "{line}");
    }
}

#[test]
fn the_engine_reaps_every_process() {
    let pipeline = "
        stages: {work: {mode: each, pool: 4, command: 'sleep 0.001 & exit 0; : {}'}, last: {command: 'cat > /dev/null; ps -o stat= --ppid $PPID | grep -c Z || true'}}
        edges: [{queue: stdin -> work -> last}, {queue: last -> stdout}]";
    let run = Scenario::new(pipeline).stdin(support::numbers(300)).run().succeeded();
    assert_eq!(run.stage("work")["exits"], json!([[0, 300]]));
    assert_eq!(run.text(), "0\n");
}

#[test]
fn the_engine_has_one_child_which_guards_the_one_that_starts_the_workers() {
    let pipeline = "stages: {work: {command: 'echo up; sleep 1000', pool: 3}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(3);
    assert_eq!(children(run.pid()), [run.guardian_pid()]);
    assert_eq!(children(run.guardian_pid()), [run.launcher_pid()]);
    assert_eq!(children(run.launcher_pid()).len(), 3);
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}
