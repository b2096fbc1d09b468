//! Events and barriers.

use super::*;

#[test]
fn an_event_lets_all_go_who_wait() {
    let pipeline = "
        shared: {go: {event: false}}
        stages:
          waits: {command: 'mpflow shared wait go && echo gone', pool: 2}
          python: {command: \"python3 -c 'from mpflow import shared; print(shared.go.wait(timeout=60))'\"}
          late: {command: 'mpflow shared wait go --timeout 20ms; echo $?; mpflow shared is-set go; echo $?; mpflow shared set go', depends_on: [waits, python]}";
    let run = scenario(pipeline).run().succeeded().said(["`go` was not set within 20ms"]);
    let mut lines: Vec<&str> = run.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "124", "True", "false", "gone", "gone"]);
    assert_eq!(object(&run, "go")["is_set"], true);
}

#[test]
fn a_barrier_lets_commands_and_python_go_together() {
    let pipeline = "
        shared: {round: {barrier: 3}, arrived: {value: i64}}
        stages:
          shell: {command: 'for n in 1 2 3; do mpflow shared add arrived 1; mpflow shared wait round; done', stdout: 'null'}
          python: {command: python3 rounds.py, pool: 2}";
    let rounds = "
from mpflow import shared
for number in range(1, 4):
    shared.arrived.add(1)
    assert shared.round.wait() in (0, 1, 2)
    assert shared.arrived.value >= 3 * number, (shared.arrived.value, number)
";
    let run = scenario(pipeline).file("rounds.py", rounds).run().succeeded();
    assert_eq!(object(&run, "round")["rounds"], 3);
}

/// Waits at `round`, and says how that ends.
const AT_BARRIER: &str = "
import os
from mpflow import shared
print(os.getpid(), file=open(os.environ['MPFLOW_WORKER'].replace('/', '-') + '.pid', 'w'), flush=True)
try:
    print(shared.round.wait(timeout=60))
except shared.BrokenBarrierError as error:
    print(error, flush=True)
";

#[test]
fn a_barrier_breaks_for_all_when_one_that_waits_at_it_is_killed() {
    let pipeline = "
        shared: {round: {barrier: 4}}
        stages:
          killed: {command: exec python3 wait.py, on_failure: continue}
          others: {command: exec python3 wait.py, pool: 2}
          fourth: {command: sleep 1000, daemon: true}";
    let run = scenario(pipeline).file("wait.py", AT_BARRIER).start();
    wait_for_state(&run, "round", |state| state["waiting"] == 3);
    let pid = pid_in(&run, "killed.pid");
    kill_9(pid);
    let run = run.finish().ended(1);
    let told =
        format!("barrier `round` is broken: worker `killed` (pid {pid}) was waiting at it and is gone");
    assert_eq!(run.text().matches(&told).count(), 2, "{}", run.told());
    assert!(object(&run, "round")["broken"].as_str().unwrap().contains("`killed`"));
}

#[test]
fn a_barrier_breaks_when_too_few_workers_are_left_for_it() {
    let pipeline = "
        shared: {round: {barrier: 3}}
        stages:
          leaves: {command: 'until [ -e others-0.pid -a -e others-1.pid ]; do sleep 0.01; done'}
          others: {command: python3 wait.py, pool: 2}";
    let run = scenario(pipeline).file("wait.py", AT_BARRIER).run().succeeded();
    let told = "it needs 3 parties, and only 2 may still come; `leaves` has ended for good";
    assert_eq!(run.text().matches(told).count(), 2, "{}", run.told());
}

#[test]
fn a_barrier_of_one_workers_threads_is_complete_when_they_have_come() {
    let pipeline = "
        shared: {round: {barrier: 4}}
        stages:
          ends: {command: 'true'}
          threads: {command: python3 threads.py}";
    let threads = "
import threading, time
from mpflow import shared
indexes = []
def come(): indexes.append(shared.round.wait())
threads = [threading.Thread(target=come) for _ in range(4)]
for thread in threads: thread.start(); time.sleep(0.02)
for thread in threads: thread.join()
print(sorted(indexes))
";
    scenario(pipeline).file("threads.py", threads).run().succeeded().wrote("[0, 1, 2, 3]\n");
}
