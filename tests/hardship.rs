//! A run in a hard world. The fault suite, `tests/faults`, has the rest of it.

mod support;

use support::{Scenario, Signal};

#[test]
fn a_consumer_that_is_stopped_holds_its_producer_and_nobody_dies() {
    let pipeline = "
        stages:
          numbers: {command: 'seq 500000; echo > produced'}
          sink: {command: 'echo $$ > pid; tail -n 1'}
        edges: [{queue: numbers -> sink -> stdout, capacity_bytes: 64KiB}]";
    let run = Scenario::new(pipeline).start();
    let pid: i32 = run.wait_for_event_of("worker_started", "sink")["pid"].as_i64().unwrap() as i32;
    let group = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::killpg(group, Signal::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let _ = nix::sys::signal::killpg(group, Signal::SIGCONT);
    run.finish().succeeded().wrote("500000\n");
}
