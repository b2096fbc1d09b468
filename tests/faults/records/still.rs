//! Somebody stands still: a consumer, the reader of the run's output, both ends of a pipe.

use std::io::Read;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use super::PATIENCE;
use crate::support::{Scenario, Value, need_python, status_field};

/// KiB.
fn peak_memory(pid: i32) -> u64 {
    status_field(pid, "VmHWM").trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn a_consumer_that_is_stopped_for_half_a_minute_holds_its_producers_and_nobody_dies() {
    // 100 MB against 8 MiB of queues and what kernel pipes hold.
    let pipeline = "
        stages:
          numbers: {command: 'seq 12000000; echo > produced'}
          copy: {command: cat, pool: 2}
          map: {command: cat, mode: map, ordered: true, pool: 2}
          sink: {command: 'read -r first; wc -l'}
        edges:
          - {queue: numbers -> copy -> map -> sink, capacity_bytes: 2MiB}
          - {queue: sink -> stdout}";
    let run = Scenario::new(pipeline).within(PATIENCE).start();
    let sink = run.wait_for_event_of("worker_started", "sink")["pid"].as_i64().unwrap();
    killpg(Pid::from_raw(sink.try_into().unwrap()), Signal::SIGSTOP).unwrap();
    // It is told when nothing has moved for 30 s, and then it goes on.
    run.wait_for_message("nothing has moved for 30s");
    run.wait_for_message("edge `map -> sink` is full");
    let said = run.messages();
    assert!(
        said.contains(&format!("worker `sink` (pid {sink}, ")) && said.contains("`sink` does not take them"),
        "{said}"
    );
    // Nobody else is blamed: the others wait for it.
    let idlers: Vec<&str> = said.lines().filter(|line| line.contains("does not read the input")).collect();
    assert!(idlers.len() == 1 && idlers[0].contains("stage `sink`"), "{said}");
    assert_eq!(said.matches("waits until there is room for what it makes").count(), 5, "{said}");
    assert!(!run.path("produced").exists(), "the producer should wait");
    let peak = peak_memory(run.pid());
    assert!(peak < 40 << 10, "the engine took {peak} KiB for three queues of 2 MiB");
    killpg(Pid::from_raw(sink.try_into().unwrap()), Signal::SIGCONT).unwrap();
    let run = run.finish().succeeded();
    assert_eq!(run.text().trim(), "11999999");
    assert_eq!(run.edge("map -> sink")["delivered"], 12_000_000);
    for stage in ["numbers", "copy", "map", "sink"] {
        let stage = run.stage(stage);
        assert_eq!((&stage["restarts"], &stage["started"]), (&json!(0), &stage["workers"]), "{stage:#}");
    }
    assert!(run.report["wall_seconds"].as_f64().unwrap() >= 30.0);
}

#[test]
fn what_dying_workers_leave_behind_does_not_add_up_before_a_reader_that_stands_still() {
    // Each leaves nearly a pipe full and dies, again and again; nobody takes it.
    let pipeline = "
        stages:
          leave:
            pool: 8
            command: 'test -e enough && exit 0; yes | head -c 60000; exit 1'
            restart: {policy: on-failure, max: 1000000, backoff: {initial: 1ms, max: 1ms}}
        edges: [{queue: leave -> stdout, capacity_bytes: 4KiB}]";
    let mut run = Scenario::new(pipeline).hold_stdout().start();
    let starts = || run.events().iter().filter(|event| event["event"] == "worker_started").count();
    let mut before = 0;
    // First the pipe of standard output is filled, and every place before it.
    loop {
        // Three times as long as outputs are waited for that nobody closes.
        std::thread::sleep(Duration::from_millis(1500));
        let now = starts();
        assert!(now < 150, "they are started without end");
        if now >= 8 && std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    std::fs::write(run.path("enough"), "").unwrap();
    let mut bytes = Vec::new();
    run.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    let run = run.finish().succeeded();
    let exits = run.stage("leave")["exits"].clone();
    assert_eq!(exits[0], json!([0, 8]), "{exits}");
    assert_eq!(bytes.len() as u64, 60_000 * exits[1][1].as_u64().unwrap(), "something is lost");
}

/// Sends far more than fits, and only then receives.
const SEND_FIRST: &str = "
import os, socket
other, = [name for name in os.environ if name.startswith('MPFLOW_PIPE_')]
s = socket.socket(fileno=int(os.environ[other]))
print('up', flush=True)
s.sendall(b'x' * 20_000_000)
";

#[test]
fn two_ends_of_a_pipe_that_wait_for_each_other_are_told_and_can_be_stopped() {
    need_python();
    let pipeline = "
        stages:
          a: {command: [python3, send.py]}
          b: {command: [python3, send.py]}
        edges: [{pipe: a -> b, duplex: true}]";
    let run = Scenario::new(pipeline).file("send.py", SEND_FIRST).start();
    run.wait_for_lines(2);
    run.signal(Signal::SIGUSR1);
    run.wait_for_message("the run's state");
    let said = run.messages();
    assert!(
        said.contains("stage `a` runs: worker `a`") && said.contains("stage `b` runs: worker `b`"),
        "{said}"
    );
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    let exits: Vec<Value> = ["a", "b"].map(|stage| run.stage(stage)["exits"].clone()).to_vec();
    assert_eq!(exits, [json!([[-15, 1]]), json!([[-15, 1]])]);
}
