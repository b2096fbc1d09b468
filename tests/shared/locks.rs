//! Locks and semaphores, and whose they are when somebody is killed.

use super::*;

#[test]
fn a_lock_lets_one_in_at_a_time_be_it_a_command_or_a_thread() {
    let pipeline = "
        shared: {door: {lock: true}}
        stages:
          python: {command: python3 count.py, pool: 2}
          shell:
            pool: 2
            command: 'for n in 1 2 3 4 5; do mpflow shared lock door -- sh count.sh; done'";
    let python = "
import threading
from mpflow import shared
def work():
    for _ in range(20):
        with shared.door:
            number = int(open('count').read())
            open('count', 'w').write(f'{number + 1}\\n')
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    let shell = "read -r number < count; echo $((number + 1)) > count";
    let run = scenario(pipeline).file("count.py", python).file("count.sh", shell).file("count", "0\n");
    let run = run.run().succeeded();
    assert_eq!(run.read("count"), "90\n");
    let door = object(&run, "door");
    assert_eq!((&door["acquired"], &door["abandoned"]), (&json!(90), &json!(0)));
}

#[test]
fn what_a_killed_holder_held_goes_to_the_next() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages:
          holder: {command: python3 hold.py, on_failure: continue}
          next: {command: 'until [ -e holder.txt ]; do sleep 0.01; done; mpflow shared lock screen -- echo mine'}";
    let run = scenario(pipeline).file("hold.py", HOLD).start();
    let pid = pid_in(&run, "holder.txt");
    wait_for_state(&run, "screen", |state| state["waiting"] == 1 && state["held_by"] == json!(["holder"]));
    kill_9(pid);
    let run = run.finish().ended(1).wrote("mine\n");
    let screen = object(&run, "screen");
    assert_eq!((&screen["abandoned"], &screen["held_by"]), (&json!(1), &Value::Null));
}

#[test]
fn a_killed_waiter_is_passed_over() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages:
          holder: {command: python3 hold.py, on_failure: continue}
          second: {command: 'until [ -e holder.txt ]; do sleep 0.01; done; exec mpflow shared lock screen -- echo second', on_failure: continue}
          third: {command: 'until [ -e third ]; do sleep 0.01; done; mpflow shared lock screen -- echo third'}";
    let run = scenario(pipeline).file("hold.py", HOLD).start();
    let holder = pid_in(&run, "holder.txt");
    let second = run.wait_for_event_of("worker_started", "second")["pid"].as_i64().unwrap();
    wait_for_state(&run, "screen", |state| state["waiting"] == 1);
    fs::write(run.path("third"), "").unwrap();
    wait_for_state(&run, "screen", |state| state["waiting"] == 2);
    kill_9(i32::try_from(second).unwrap());
    wait_for_state(&run, "screen", |state| state["waiting"] == 1);
    kill_9(holder);
    run.finish().ended(1).wrote("third\n");
}

#[test]
fn the_lock_command_ends_as_its_command_does_and_with_124_when_it_does_not_get_the_lock() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages: {all: {command: sh ends.sh}}";
    let script = "
mpflow shared lock screen -- sh -c 'exit 7'; echo $?
mpflow shared lock screen -- sh -c 'kill -9 $$'; echo $?
mpflow shared lock screen -- no-such-program; echo $?
mpflow shared lock screen -- mpflow shared lock screen --timeout 0 -- echo never; echo $?
mpflow shared lock screen -- mpflow shared lock screen --timeout 50ms -- echo never; echo $?
mpflow shared lock screen -- true; echo $?
";
    let run = scenario(pipeline).file("ends.sh", script).run().succeeded();
    run.wrote("7\n137\n127\n124\n124\n0\n").said(["`screen` was not to be had within 50ms"]);
}

#[test]
fn what_a_locked_command_leaves_behind_does_not_keep_the_lock() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages:
          all:
            command: |
              mpflow shared lock screen -- sh -c 'sleep 1000 > /dev/null 2>&1 & echo $! > left.txt'
              mpflow shared lock screen --timeout 30s -- echo free
              kill $(cat left.txt)";
    scenario(pipeline).run().succeeded().wrote("free\n");
}

#[test]
fn a_lock_is_held_as_long_as_its_command_lives_even_if_mpflow_itself_is_killed() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}}
        stages:
          first: {command: \"mpflow shared lock screen -- sh -c 'echo $PPID > mpflow.tmp; mv mpflow.tmp mpflow.txt; mpflow shared wait go; echo first'; true\"}
          second: {command: 'until [ -e mpflow.txt ]; do sleep 0.01; done; mpflow shared lock screen -- echo second'}";
    let run = scenario(pipeline).start();
    let mpflow = pid_in(&run, "mpflow.txt");
    wait_for_state(&run, "screen", |state| state["waiting"] == 1);
    kill_9(mpflow);
    run.wait_until("its end", || (!support::is_alive(mpflow)).then_some(()));
    let mut client = Client::new(&socket(&run), "");
    assert_eq!(client.on("screen", "state")["ok"]["held_by"], json!(["first"]));
    client.on("go", "set");
    run.finish().succeeded().wrote("first\nsecond\n");
}

#[test]
fn a_semaphore_lets_as_many_in_as_it_has_permits() {
    let pipeline = "
        shared: {gpu: {semaphore: 2}, inside: {value: i64}, most: {value: i64}}
        stages: {all: {command: python3 enter.py, pool: 5}}";
    let enter = "
from mpflow import shared
for _ in range(20):
    with shared.gpu:
        inside = shared.inside.add(1)
        assert inside <= 2, inside
        while True:
            most = shared.most.value
            if inside <= most or shared.most.compare_and_set(most, inside): break
        shared.inside.add(-1)
assert shared.gpu.acquire(timeout=60) and shared.gpu.release() is None
";
    let run = scenario(pipeline).file("enter.py", enter).run().succeeded();
    assert_eq!(object(&run, "inside")["value"], 0);
    assert_eq!(object(&run, "gpu")["acquired"], 105);
}

#[test]
fn a_lock_belongs_to_its_thread_and_is_released_when_that_ends() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages: {all: {command: python3 threads.py}}";
    let threads = "
import threading
from mpflow import shared
thread = threading.Thread(target=shared.screen.acquire)
thread.start(); thread.join()
assert shared.screen.acquire(timeout=60)
try:
    shared.screen.acquire()
except RuntimeError as error:
    assert 'it would wait for itself' in str(error), error
else:
    raise SystemExit('acquired twice')
def other():
    try: shared.screen.release()
    except RuntimeError as error: print('not mine' if 'not held by whoever' in str(error) else error)
    print(shared.screen.acquire(blocking=False), shared.screen.acquire(timeout=0.01), shared.screen.locked())
thread = threading.Thread(target=other)
thread.start(); thread.join()
";
    scenario(pipeline).file("threads.py", threads).run().succeeded().wrote("not mine\nFalse False True\n");
}

#[test]
fn the_child_of_a_fork_holds_nothing_and_has_a_connection_of_its_own() {
    let pipeline = "
        shared: {screen: {lock: true}, hits: {value: i64}, go: {event: false}}
        stages:
          forks: {command: python3 forks.py, on_failure: continue}
          next: {command: 'mpflow shared wait go; mpflow shared lock screen -- echo free'}";
    // The parent dies with the lock; the child, which inherited all its descriptors, lives on.
    let forks = "
import os, signal
from mpflow import shared
shared.screen.acquire()
shared.hits.add(1)
if os.fork() == 0:
    assert shared.screen.acquire(blocking=False) is False
    shared.hits.add(1)
    shared.go.set()
    shared.screen.acquire()
    print('child', flush=True)
    os._exit(0)
shared.go.wait()
os.kill(os.getpid(), signal.SIGKILL)
";
    let run = scenario(pipeline).file("forks.py", forks).run().ended(1);
    let mut lines: Vec<&str> = run.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["child", "free"]);
    assert_eq!(object(&run, "hits")["value"], 2);
}

#[test]
fn a_wait_that_a_signal_ends_keeps_what_is_held() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}, other: {lock: true}}
        stages: {all: {command: python3 interrupted.py}}";
    let interrupted = "
import signal
from mpflow import shared
class Enough(Exception): pass
def handler(*_): raise Enough
signal.signal(signal.SIGALRM, handler)
shared.screen.acquire()
for n in range(20):
    signal.setitimer(signal.ITIMER_REAL, 0.001 * n + 0.001)
    try:
        while True:
            shared.go.wait(timeout=0.002)
            if shared.other.acquire(timeout=0.001): shared.other.release()
    except Enough:
        pass
    # It may have come between `acquire` and what follows it.
    try: shared.other.release()
    except RuntimeError: pass
assert shared.screen.locked()
shared.screen.release()
assert not shared.screen.locked() and not shared.other.locked()
print('whole')
";
    scenario(pipeline).file("interrupted.py", interrupted).run().succeeded().wrote("whole\n");
}
