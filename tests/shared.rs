//! Shared objects, by real processes: commands and Python, and what becomes of them when somebody is killed.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Finished, Running, Scenario, Signal, need_python};

/// Runs whose workers find `mpflow` and `from mpflow import shared`, and whose sockets are in their own folder.
fn scenario(pipeline: &str) -> Scenario {
    need_python();
    let program = Path::new(env!("CARGO_BIN_EXE_mpflow"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sdk/python");
    let scenario = Scenario::new(pipeline);
    let own = scenario.path("runtime");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    scenario
        .env("PATH", &path)
        .env("PYTHONPATH", sdk.to_str().unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("XDG_RUNTIME_DIR", own.to_str().unwrap())
}

/// The state of a shared object in the report.
fn object(run: &Finished, name: &str) -> Value {
    let all = run.report["shared"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|object| object["name"] == name);
    found.unwrap_or_else(|| panic!("no shared object `{name}`\n{}", run.told()))
}

/// The socket of a run that goes on.
fn socket(run: &Running) -> PathBuf {
    run.wait_until("the socket", || {
        let folder = fs::read_dir(run.path("runtime/mpflow")).ok()?.next()?.ok()?;
        Some(folder.path().join("shared")).filter(|path| path.exists())
    })
}

/// The number of a process that has written it to a file.
fn pid_in(run: &Running, file: &str) -> i32 {
    run.wait_for_file(file).trim().parse().unwrap()
}

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// A client of the test's own.
struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Client {
    fn new(path: &Path, worker: &str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Self { stream, unread: Vec::new() };
        let hello = client.ask(&json!({"op": "hello", "protocol": 1, "worker": worker, "pid": 1}));
        assert_eq!(hello["ok"]["protocol"], 1, "{hello}");
        client
    }

    fn send(&mut self, request: &Value) {
        self.stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.hear()
    }

    fn hear(&mut self) -> Value {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the run has closed the connection");
            self.unread.extend(&bytes[..count]);
        }
    }

    fn on(&mut self, name: &str, op: &str) -> Value {
        self.ask(&json!({"op": op, "name": name}))
    }
}

/// Waits until an object stands so.
#[track_caller]
fn wait_for_state(run: &Running, name: &str, is_wanted: impl Fn(&Value) -> bool) {
    let path = socket(run);
    run.wait_until(&format!("state of `{name}`"), || {
        let state = Client::new(&path, "").on(name, "state");
        is_wanted(&state["ok"]).then_some(())
    });
}

// ---- numbers in memory

#[test]
fn additions_of_commands_and_of_pythons_threads_are_all_counted() {
    let pipeline = "
        shared:
          hits: {value: i64, initial: 1000}
          grid: {array: f64, length: 5}
        stages:
          python: {command: python3 add.py, pool: 3}
          shell:
            pool: 2
            command: 'for n in 1 2 3 4 5; do mpflow shared add hits 1; mpflow shared add grid 3 0.5; done > /dev/null'";
    let add = "
import threading
from mpflow import shared
def work():
    for _ in range(500):
        shared.hits.add(1)
        shared.grid.add(3, 0.5)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    let run = scenario(pipeline).file("add.py", add).run().succeeded();
    let sum = 3 * 3 * 500 + 2 * 5;
    assert_eq!(object(&run, "hits")["value"], 1000 + sum);
    assert_eq!(object(&run, "grid")["values"], json!([0.0, 0.0, 0.0, f64::from(sum) / 2.0, 0.0]));
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_an_addition_does_not_keep_others_from_theirs() {
    let pipeline = "
        shared: {hits: {value: u64}}
        stages:
          holder: {command: python3 hold.py, on_failure: continue}
          other: {command: 'mpflow shared add hits 5 > sum.tmp; mv sum.tmp sum.txt', depends_on: {holder: ready}}";
    let pipeline = pipeline.replace("on_failure: continue", "on_failure: continue, ready: {log: held}");
    let hold = "
import os, sys, time
from mpflow import shared
with shared.hits.get_lock():
    print(os.getpid(), file=open('pid.txt', 'w'))
    print('held', file=sys.stderr, flush=True)
    time.sleep(1000)
";
    let run = scenario(&pipeline).file("hold.py", hold).start();
    let pid = pid_in(&run, "pid.txt");
    run.wait_for_event_of("worker_started", "other");
    kill_9(pid);
    assert_eq!(run.wait_for_file("sum.txt"), "5\n");
    run.finish().ended(1);
}

#[test]
fn wrong_indexes_names_and_types_are_clear_errors() {
    let pipeline = "
        shared:
          hits: {value: u64}
          on: {value: bool}
          grid: {array: i64, length: 3}
          screen: {lock: true}
        stages: {all: {command: python3 wrong.py}}";
    let wrong = r#"
import subprocess
from mpflow import shared
def says(kind, part, act):
    try:
        act()
    except kind as error:
        assert part in str(error), (part, error)
    else:
        raise SystemExit(f"nothing said for {part}")
says(AttributeError, "did you mean 'screen'?", lambda: shared.scren)
says(IndexError, "has no element 3: it has 3", lambda: shared.grid[3])
says(TypeError, "is a whole number, not '1'", lambda: shared.grid["1"])
says(TypeError, "holds i64, and 'x' is none", lambda: shared.grid.__setitem__(0, "x"))
says(TypeError, "holds bool, and 1 is none", lambda: setattr(shared.on, "value", 1))
says(OverflowError, "does not fit the u64", lambda: shared.hits.add(-1))
says(AttributeError, "are declared in the pipeline", lambda: setattr(shared, "hits", 3))
says(RuntimeError, "not held by anybody", lambda: shared.screen.release())
assert shared.hits.value == 0 and shared.on.value is False
shared.on.value = True
shared.grid[:] = [1, -2, 3]
assert list(shared.grid) == [1, -2, 3] and shared.grid[-1] == 3 and shared.grid[::2] == [1, 3]
def command(code, part, *arguments):
    done = subprocess.run(["mpflow", "shared", *arguments], stderr=subprocess.PIPE, text=True)
    assert done.returncode == code and part in done.stderr, (arguments, done)
command(2, "did you mean `screen`?", "lock", "scren", "--", "true")
command(2, "has no element 3: it has 3", "get", "grid", "3")
command(2, "which of its 3 elements?", "set", "grid", "3")
command(2, "`1.5` is no `i64`", "set", "grid", "0", "1.5")
command(2, "for which there is no `acquire`", "lock", "hits", "--", "true")
command(2, "is to be set to what?", "set", "hits")
command(2, "the sum does not fit an `u64`", "add", "hits", "-1")
"#;
    let run = scenario(pipeline).file("wrong.py", wrong).run().succeeded();
    assert_eq!(object(&run, "grid")["values"], json!([1, -2, 3]));
    assert_eq!(object(&run, "on")["value"], true);
}

#[test]
fn outside_of_a_run_both_python_and_the_command_say_so() {
    need_python();
    let program = env!("CARGO_BIN_EXE_mpflow");
    let alone =
        Command::new(program).args(["shared", "get", "x"]).env_remove("MPFLOW_SHARED").output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(said.contains("there are no shared objects here"), "{said}");
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sdk/python");
    let python = Command::new("python3")
        .args(["-c", "from mpflow import shared; shared.x"])
        .env("PYTHONPATH", sdk)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("MPFLOW_SHARED")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&python.stderr).into_owned();
    assert!(said.contains("RuntimeError: there are no shared objects here"), "{said}");
    // And a run without any says so too.
    let run =
        scenario("stages: {all: {command: 'mpflow shared get x; echo $? ${MPFLOW_SHARED-unset}'}}").run();
    run.succeeded().wrote("2 unset\n");
}

// ---- locks and semaphores

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

/// Acquires `screen`, says so, and lives on.
const HOLD: &str = "
import os, time
from mpflow import shared
shared.screen.acquire()
print(os.getpid(), file=open('holder.tmp', 'w'), flush=True)
os.rename('holder.tmp', 'holder.txt')
time.sleep(1000)
";

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

// ---- events and barriers

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

// ---- dictionaries

#[test]
fn a_dict_carries_json_everywhere_and_any_object_between_pythons() {
    let pipeline = "
        shared: {settings: {dict: {level: 3, ratio: 0.1}}}
        stages: {all: {command: python3 dict.py}}";
    let dict = r#"
import subprocess
from mpflow import shared
settings = shared.settings
def command(*arguments):
    return subprocess.run(["mpflow", "shared", *arguments], stdout=subprocess.PIPE, text=True).stdout
assert settings["level"] == 3 and settings["ratio"] == 0.1 and len(settings) == 2
for value in (None, True, -1, 2**64 - 1, 0.1, 1e300, "grün \n\u2028", [1, [2.5]], {"a": {"b": None}},
              (1, 2), {3: 4}, 2**70, b"bytes", {1, 2}, float("inf"), "\udcff", [(1,)]):
    settings["value"] = value
    found = settings["value"]
    assert found == value and type(found) is type(value), (value, found)
command("set", "settings", "level", "-5")
assert settings["level"] == -5
command("set", "settings", "text", "hello")
assert settings.get("text") == "hello" and command("get", "settings", "text") == "hello\n"
assert command("add", "settings", "level", "2") == "-3\n" and settings.add("level", 4) == 1
settings["list"] = [1, 2]
assert command("get", "settings", "list") == "1\n2\n"
assert settings.pop("list") == [1, 2] and settings.pop("list", None) is None
try: settings["list"]
except KeyError: pass
else: raise SystemExit("no KeyError")
assert settings.setdefault("new", []) == [] and "new" in settings and "old" not in settings
settings.update({"a": 1}, b=(2,))
assert settings["b"] == (2,) and sorted(settings) == settings.keys() == [key for key, _ in settings.items()]
assert settings.compare_and_set("a", 1, 2) and not settings.compare_and_set("a", 1, 3)
settings.update({f"k{n}": "x" * 100000 for n in range(8)})
settings.update({f"l{n}": "x" * 100000 for n in range(8)})
assert len(settings.items()) == len(settings) and len(settings["k3"]) == 100000
try: settings["large"] = "x" * (1 << 20)
except ValueError as error: assert "at most" in str(error)
else: raise SystemExit("too large and taken")
for key in settings.keys():
    if key[0] in "kl": del settings[key]
settings["o"] = {"tuple": (1,)}
"#;
    let run = scenario(pipeline).file("dict.py", dict).run().succeeded();
    let entries = object(&run, "settings")["entries"].clone();
    assert!(entries["o"]["pickle_bytes"].is_u64(), "{entries}");
    assert_eq!((&entries["a"], &entries["text"]), (&json!(2), &json!("hello")));
}

// ---- the run

#[test]
fn the_summary_and_the_report_have_the_last_values() {
    let pipeline = "
        shared: {hits: {value: i64}, screen: {lock: true}, round: {barrier: 2}}
        stages:
          all: {command: 'mpflow shared add hits 3; mpflow shared lock screen -- true', stdout: 'null'}
          dies: {command: \"python3 -c 'from mpflow import shared; shared.screen.acquire()'\", depends_on: {all: finished}}";
    let run = scenario(pipeline).run().succeeded();
    assert_eq!(object(&run, "hits"), json!({"name": "hits", "kind": "value", "element": "i64", "value": 3}));
    assert_eq!(object(&run, "screen")["held_by"], "dies");
    run.said(["screen  lock          `dies` ended with it; acquired 2 times", "hits    i64           3"]);
}

#[test]
fn a_run_that_is_asked_says_who_waits_for_what_and_who_holds_it() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}}
        stages:
          holder: {command: 'mpflow shared lock screen -- mpflow shared wait go'}
          next: {command: 'until [ -e now ]; do sleep 0.01; done; mpflow shared lock screen -- true'}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    fs::write(run.path("now"), "").unwrap();
    wait_for_state(&run, "screen", |state| state["waiting"] == 1);
    run.signal(Signal::SIGUSR1);
    run.wait_for_message("lock `screen` is held by worker `holder`");
    run.wait_for_message("worker `next`");
    run.wait_for_message("event `go` is not set; worker `holder`");
    Client::new(&socket(&run), "").on("go", "set");
    run.finish().succeeded();
}

#[test]
fn the_folder_of_a_run_is_private_and_goes_with_it() {
    let pipeline = "
        shared: {go: {event: false}}
        stages: {all: {command: mpflow shared wait go}}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    for folder in path.ancestors().skip(1).take(2) {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700, "{}", folder.display());
    }
    Client::new(&path, "").on("go", "set");
    let run = run.finish().succeeded();
    assert!(fs::read_dir(run.path("runtime/mpflow")).unwrap().next().is_none());
}

#[test]
fn a_run_that_is_stopped_while_workers_wait_ends() {
    let pipeline = "
        shared: {screen: {lock: true}, round: {barrier: 9}}
        stages:
          holder: {command: python3 hold.py}
          waits: {command: mpflow shared lock screen -- true, pool: 2}
          barrier: {command: mpflow shared wait round}";
    let run = scenario(pipeline).file("hold.py", HOLD).start();
    pid_in(&run, "holder.txt");
    wait_for_state(&run, "round", |state| state["waiting"] == 1);
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert_eq!(object(&run, "screen")["kind"], "lock");
}

#[test]
fn an_engine_that_is_killed_leaves_only_a_folder_which_the_next_run_removes() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages: {all: {command: python3 hold.py}}";
    let first = scenario(pipeline).file("hold.py", HOLD).start();
    let holder = pid_in(&first, "holder.txt");
    let left = socket(&first).parent().unwrap().to_owned();
    let runtime = first.path("runtime").to_str().unwrap().to_owned();
    first.signal(Signal::SIGKILL);
    first.wait_until("the end of the holder", || (!support::is_alive(holder)).then_some(()));
    assert!(left.exists());
    // The next run with the same folder: it removes what the dead one left, and nothing of those that live.
    let next = scenario("{shared: {go: {event: true}}, stages: {all: {command: mpflow shared wait go}}}");
    next.env("XDG_RUNTIME_DIR", &runtime).run().succeeded();
    assert!(!left.exists());
    drop(first);
}

#[test]
fn hostile_clients_harm_nobody() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}, hits: {value: i64}, settings: {dict: {}}}
        stages:
          all: {command: 'mpflow shared wait go; mpflow shared lock screen -- mpflow shared add hits 1'}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    let connect = || UnixStream::connect(&path).unwrap();
    // What is no request is answered, and changes nothing.
    let mut garbage = connect();
    garbage.write_all(b"\n\x00\xff\n{\"op\": \"set\", \"name\": \"go\"}\n[]\n").unwrap();
    // Half a request, and then nothing.
    let mut half = connect();
    half.write_all(b"{\"op\": \"hel").unwrap();
    // A line without end: the connection is closed, at the latest when the buffers are full.
    let mut endless = connect();
    while endless.write_all(&[b'x'; 4096]).is_ok() {}
    // Requests without reading the replies: after some of them the run stops to read.
    let mut deaf = Client::new(&path, "deaf");
    let large = json!({"op": "put", "name": "settings", "key": "k", "value": {"json": "x".repeat(500_000)}});
    assert_eq!(deaf.ask(&large), json!({"ok": null}));
    deaf.stream.set_nonblocking(true).unwrap();
    let get = format!("{}\n", json!({"op": "get", "name": "settings", "key": "k"}));
    while deaf.stream.write_all(get.as_bytes()).is_ok() {}
    // Many that only come, and many that come and go.
    let _idle: Vec<UnixStream> = (0..50).map(|_| connect()).collect();
    for _ in 0..200 {
        drop(connect());
    }
    // One that has said all and does not wait for the answer.
    let mut brief = Client::new(&path, "brief");
    brief.send(&json!({"op": "acquire", "name": "screen"}));
    drop(brief);
    // The engine's memory has not grown by what they sent.
    let memory = support::status_field(run.pid(), "VmRSS");
    let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 64 << 10, "{memory}");
    Client::new(&path, "").on("go", "set");
    let run = run.finish().succeeded().wrote("1\n");
    assert_eq!(object(&run, "hits")["value"], 1);
    drop((garbage, half, deaf));
}

#[test]
fn a_client_that_comes_when_the_run_takes_no_more_is_told_so() {
    let pipeline = "
        shared: {go: {event: false}}
        stages: {all: {command: mpflow shared wait go}}";
    let run = scenario(pipeline).through(["prlimit", "--nofile=100:100"]).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    let mut all: Vec<Client> = Vec::new();
    let refused = loop {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(b"{\"op\": \"hello\", \"protocol\": 1}\n");
        let mut client = Client { stream, unread: Vec::new() };
        let said = client.hear();
        if said.get("error").is_some() {
            break said;
        }
        all.push(client);
        assert!(all.len() < 100);
    };
    assert_eq!(refused["error"]["code"], "too_many");
    assert!(all.len() >= 16, "{}", all.len());
    all[0].on("go", "set");
    run.finish().succeeded();
}

#[test]
fn arrays_that_no_memory_holds_are_refused_before_anything_starts() {
    let pipeline = "
        shared: {grid: {array: f64, length: 1000000000000}}
        stages: {all: {command: 'true'}}";
    let run = scenario(pipeline).run().ended(2);
    run.said(["mpflow::too_much_shared_memory", "7.3 TiB"]);
}

#[test]
fn a_worker_that_is_restarted_finds_what_it_held_released() {
    let pipeline = "
        shared: {screen: {lock: true}, tries: {value: i64}}
        stages: {all: {command: python3 again.py, restart: on-failure}}";
    let again = "
import os, signal
from mpflow import shared
assert shared.screen.acquire(timeout=60)
if shared.tries.add(1) < 4: os.kill(os.getpid(), signal.SIGKILL)
print('done')
";
    let run = scenario(pipeline).file("again.py", again).run().succeeded().wrote("done\n");
    let screen = object(&run, "screen");
    assert_eq!((&screen["acquired"], &screen["abandoned"]), (&json!(4), &json!(4)));
    assert_eq!(object(&run, "tries")["value"], 4);
}
