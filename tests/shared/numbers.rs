//! Values and arrays in shared memory.

use super::*;

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
