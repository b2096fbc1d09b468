//! The three start methods: one suite over all of them, since they behave alike in everything but where a worker
//! comes from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::Write;

use rstest::rstest;
use serde_json::json;
use support::{Running, Scenario, Signal, children, is_alive, path_with_python};

/// A pipeline of one Python stage `work`, with its further keys, beside a module `tasks`.
fn work(method: &str, keys: &str, edges: &str, tasks: &str) -> Scenario {
    let pipeline = format!(
        "
        stages: {{work: {{python: 'tasks:work', start_method: {method}{keys}}}}}
        edges: [{edges}]"
    );
    Scenario::new(pipeline).file("tasks.py", tasks).env("PATH", &path_with_python())
}

const THROUGH: &str = "{queue: stdin -> work -> stdout}";

#[rstest]
fn records_are_worked_on_and_leave_in_order(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "def work(line): return int(line) * 2";
    let run = work(method, ", pool: 3, ordered: true", THROUGH, tasks)
        .stdin(support::numbers(1000))
        .run()
        .succeeded();
    let expected: String = (1..=1000).map(|number| format!("{}\n", number * 2)).collect();
    run.wrote(expected);
}

#[rstest]
fn a_worker_knows_its_name_and_has_its_environment(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import mpflow, os
def work():
    w = mpflow.worker
    names = ['MPFLOW_STAGE', 'MPFLOW_WORKER', 'MPFLOW_RANK', 'MPFLOW_POOL', 'COLOUR']
    yield ' '.join([w.name, str(w.rank), str(w.pool), str(w.pid == os.getpid()), *(os.environ[n] for n in names)])";
    let run = work(method, ", pool: 2, env: {COLOUR: 'red-${{ worker.rank }}'}", "", tasks).run().succeeded();
    run.wrote_lines(["work/0 0 2 True work work/0 0 2 red-0", "work/1 1 2 True work work/1 1 2 red-1"]);
}

#[rstest]
fn a_worker_has_its_own_directory_limits_and_priority(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import os, resource
def work():
    yield f'{os.path.basename(os.getcwd())} {resource.getrlimit(resource.RLIMIT_NOFILE)} {os.getpriority(os.PRIO_PROCESS, 0)} {os.sched_getaffinity(0)}'";
    let scenario = work(method, ", cwd: sub, limits: {open_files: 99, nice: 7, cpus: [0]}", "", tasks);
    std::fs::create_dir(scenario.path("sub")).unwrap();
    scenario.run().succeeded().wrote("sub (99, 99) 7 {0}\n");
}

#[rstest]
fn a_worker_leads_a_group_of_its_own_and_has_no_terminal(
    #[values("spawn", "fork", "forkserver")] method: &str,
) {
    let tasks = "
import os
def work():
    try: tty = os.open('/dev/tty', os.O_RDWR)
    except OSError: tty = None
    yield f'{os.getpgrp() == os.getpid()} {tty}'";
    work(method, "", "", tasks).run().succeeded().wrote("True None\n");
}

#[rstest]
fn a_worker_has_its_own_descriptors_and_no_others(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import os
def work(line):
    kinds = []
    for fd in os.listdir('/proc/self/fd'):
        try: where = os.readlink(f'/proc/self/fd/{fd}')
        except OSError: continue
        if not where.startswith('/proc/'): kinds.append(where.split(':')[0].split(' ')[0])
    return ' '.join(sorted(kinds))";
    // The null device, two ends of the log, the records, the answers and the control connection.
    let run = work(method, "", THROUGH, tasks).stdin("x\n").run().succeeded();
    run.wrote("/dev/null pipe pipe pipe pipe socket\n");
}

#[rstest]
fn signals_are_as_a_new_interpreter_has_them(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
def work():
    # Where the module was imported before the fork, what it set is the server's.
    fields = [line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))]
    yield fields[0]";
    work(method, "", "", tasks).run().succeeded().wrote("0000000000000000\n");
}

#[rstest]
fn exit_codes_are_as_python_has_them(#[values("spawn", "fork", "forkserver")] method: &str) {
    for (how, exit) in [("sys.exit(3)", 3), ("os._exit(4)", 4), ("os.kill(os.getpid(), 9)", -9)] {
        let run = work(method, "", "", &format!("import os, sys\ndef work(): {how}")).run().ended(1);
        assert_eq!(run.report["outcome"]["failures"][0]["exit"], json!(exit), "{how}");
        assert_eq!(run.stage("work")["exits"], json!([[exit, 1]]), "{how}");
    }
}

#[rstest]
fn a_worker_that_is_killed_is_replaced_and_no_record_is_lost(
    #[values("spawn", "fork", "forkserver")] method: &str,
) {
    let tasks = "
import os, signal
def work(line):
    if int(line) % 100 == 0 and not os.path.exists(f'killed-{line}'):
        open(f'killed-{line}', 'w').close()
        os.kill(os.getpid(), signal.SIGKILL)
    return line";
    let keys = ", pool: 2, ordered: true, restart: {max: 100, backoff: {initial: 1ms}}";
    let run = work(method, keys, THROUGH, tasks).stdin(support::numbers(500)).run().succeeded();
    run.wrote(support::numbers(500));
}

#[rstest]
fn a_worker_is_replaced_after_so_many_records(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import os
def work(line): return os.getpid()";
    let run = work(method, ", max_records_per_worker: 5", THROUGH, tasks)
        .stdin(support::numbers(20))
        .run()
        .succeeded();
    let pids: std::collections::BTreeSet<&str> = run.text().lines().collect();
    assert_eq!((run.text().lines().count(), pids.len()), (20, 4));
}

#[rstest]
fn stopping_reaches_the_worker_and_all_that_it_started(
    #[values("spawn", "fork", "forkserver")] method: &str,
) {
    let tasks = "
import subprocess, time
def work(line):
    child = subprocess.Popen(['sleep', '1000'])
    print('child', child.pid, flush=True)
    time.sleep(1000)";
    let run = work(method, "", THROUGH, tasks).stdin("1\n").start();
    run.wait_for_message("child ");
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert_eq!(run.stage("work")["exits"], json!([[-15, 1]]));
}

#[rstest]
fn nothing_is_left_when_the_engine_is_killed(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import os, time
def work(line):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    print('up', flush=True)
    time.sleep(1000)";
    let run = work(method, ", pool: 2, prefetch: 1", THROUGH, tasks).stdin("1\n2\n").start();
    run.wait_for_message("work/0 | up");
    run.wait_for_message("work/1 | up");
    run.signal(Signal::SIGKILL);
    // The census looks whether anything is left.
    drop(run.finish());
}

#[rstest]
fn a_module_that_cannot_be_imported_moves_no_record(#[values("spawn", "fork", "forkserver")] method: &str) {
    let run = work(method, ", pool: 2", THROUGH, "import nowhere_to_be_found").stdin("1\n").run().ended(2);
    run.said(["nowhere_to_be_found", "pipeline.yaml:2:"]);
}

#[rstest]
fn two_workers_draw_different_random_numbers(#[values("spawn", "fork", "forkserver")] method: &str) {
    let tasks = "
import random
def work(): yield random.random()";
    let run = work(method, ", pool: 4", "", tasks).run().succeeded();
    let drawn: std::collections::BTreeSet<&str> = run.text().lines().collect();
    assert_eq!(drawn.len(), 4);
}

// ---- where they differ

/// How often a module was imported in a run with a pool of three.
fn imports(method: &str, preload: &str) -> usize {
    let tasks = "
open('imported', 'a').write('x')
def work(): yield 1";
    let preload = if preload.is_empty() { String::new() } else { format!(", preload: [{preload}]") };
    let keys = format!(", pool: 3{preload}");
    let run = work(method, &keys, "", tasks).run().succeeded();
    run.read("imported").len()
}

#[test]
fn spawn_imports_in_each_worker_and_fork_once() {
    assert_eq!(imports("spawn", ""), 3);
    assert_eq!(imports("fork", ""), 1);
}

#[test]
fn forkserver_imports_what_it_is_told_to_once() {
    assert_eq!(imports("forkserver", ""), 3);
    assert_eq!(imports("forkserver", "tasks"), 1);
}

#[test]
fn one_forkserver_is_for_the_whole_pipeline_and_a_fork_server_for_one_stage() {
    let pipeline = |method: &str| {
        format!(
            "
            defaults: {{start_method: {method}, preload: [tasks]}}
            stages:
              a: {{python: 'tasks:work'}}
              b: {{python: 'tasks:work'}}
            edges:
              - queue: a -> b"
        )
    };
    let tasks = "
open('imported', 'a').write('x')
def work(*_): return 1";
    for (method, imports) in [("forkserver", 1), ("fork", 2)] {
        let scenario =
            Scenario::new(pipeline(method)).file("tasks.py", tasks).env("PATH", &path_with_python());
        assert_eq!(scenario.run().succeeded().read("imported").len(), imports, "{method}");
    }
}

/// The processes of this run that wait to be workers.
fn ahead(run: &Running) -> Vec<i32> {
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children(run.launcher_pid()).into_iter().filter(|&pid| name(pid) == "mpflow-ahead\n").collect()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[rstest]
fn a_process_waits_ahead_and_is_the_next_worker(#[values("fork", "forkserver")] method: &str) {
    let tasks = "
import os
def work(line):
    return os.getpid()";
    let mut run = work(method, ", max_records_per_worker: 1", THROUGH, tasks).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    writeln!(stdin, "1").unwrap();
    run.wait_for_lines(1);
    // The second worker is there already, and the third waits.
    let waits = run.wait_until("one that waits ahead", || ahead(&run).pop());
    writeln!(stdin, "2\n3").unwrap();
    drop(stdin);
    let run = run.finish().succeeded();
    assert!(run.text().lines().any(|line| line == waits.to_string()), "{waits} is in {}", run.text());
}

#[rstest]
fn that_the_one_that_waits_ahead_is_killed_is_no_failure(#[values("fork", "forkserver")] method: &str) {
    let tasks = "
import os
def work(line):
    return os.getpid()";
    let mut run = work(method, ", max_records_per_worker: 1", THROUGH, tasks).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    for number in 1..=5 {
        writeln!(stdin, "{number}").unwrap();
        run.wait_for_lines(number);
        let waits = run.wait_until("one that waits ahead", || ahead(&run).pop());
        kill(waits);
        run.wait_until("its end", || (!is_alive(waits)).then_some(()));
    }
    drop(stdin);
    let run = run.finish().succeeded();
    assert_eq!(run.text().lines().count(), 5);
    assert!(!run.told().contains("could not make"), "{}", run.told());
}

#[rstest]
fn the_one_that_waits_ahead_ends_with_its_server(#[values("fork", "forkserver")] method: &str) {
    let tasks = "def work(line): return line";
    let mut run = work(method, "", THROUGH, tasks).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    writeln!(stdin, "1").unwrap();
    run.wait_for_lines(1);
    let waits = run.wait_until("one that waits ahead", || ahead(&run).pop());
    kill(server_of(&run));
    run.wait_until("the end of the one that waits", || (!is_alive(waits)).then_some(()));
    writeln!(stdin, "2").unwrap();
    drop(stdin);
    run.finish().succeeded().wrote("1\n2\n");
}

#[rstest]
fn a_wide_pool_comes_up_at_once_and_each_worker_draws_its_own_numbers(
    #[values("fork", "forkserver")] method: &str,
) {
    let tasks = "
import random
def work(): yield random.random()";
    let run = work(method, ", pool: 20, preload: [random]", "", tasks).run().succeeded();
    let drawn: std::collections::HashSet<&str> = run.text().lines().collect();
    assert_eq!(drawn.len(), 20);
}

/// The fork server of this run.
fn server_of(run: &Running) -> i32 {
    run.wait_until("the server", || {
        children(run.launcher_pid()).into_iter().find(|&pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // What is forked from it has its command line, and a name of its own.
            String::from_utf8_lossy(&line).contains("--server") && name.starts_with("python")
        })
    })
}

#[rstest]
fn a_server_that_is_killed_is_replaced(#[values("fork", "forkserver")] method: &str) {
    let tasks = "
import os
def work(line):
    return os.getpid()";
    let mut run = work(method, ", max_records_per_worker: 1", THROUGH, tasks).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    writeln!(stdin, "1").unwrap();
    run.wait_for_lines(1);
    let server = server_of(&run);
    kill(server);
    run.wait_until("the end of the server", || (!is_alive(server)).then_some(()));
    for number in 2..=4 {
        writeln!(stdin, "{number}").unwrap();
    }
    drop(stdin);
    let run = run.finish().succeeded();
    assert_eq!(run.text().lines().count(), 4);
}

#[rstest]
fn threads_that_a_preloaded_module_has_started_are_told(#[values("fork", "forkserver")] method: &str) {
    let tasks = "
import threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
def work(): yield 1";
    let run = work(method, ", preload: [tasks]", "", tasks).run().succeeded();
    run.said(["fork server", "1 further threads", "`tasks"]);
}

#[test]
fn a_forked_command_has_what_whoever_started_the_engine_left_open() {
    let pipeline = |method: &str| {
        format!(
            "stages: {{work: {{command: 'cat <&7 2> /dev/null || echo nothing', start_method: {method}}}}}"
        )
    };
    for (method, expected) in [("spawn", "nothing\n"), ("forkserver", "nothing\n"), ("fork", "left open\n")] {
        let scenario = Scenario::new(pipeline(method)).file("open", "left open\n");
        scenario.after("exec 7< open").run().succeeded().wrote(expected);
    }
}

#[test]
fn the_ports_of_a_forked_command_come_after_what_it_inherits() {
    let pipeline = "
        stages:
          work: {command: [bash, -c, 'cat <&7; echo port >&$MPFLOW_OUT_more'], start_method: fork}
        edges: [{queue: work.more -> stdout}]";
    let scenario = Scenario::new(pipeline).file("open", "left open\n");
    scenario.after("exec 7< open").run().succeeded().wrote_lines(["left open", "port"]);
}
