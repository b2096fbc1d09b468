//! A reader that has enough: `mpflow run … | head -1`.

use std::io::Write;
use std::os::fd::AsFd;

use super::with_processes;
use crate::support::{Finished, Running, Scenario, Signal, numbers};

/// Runs it before `head -n 1`, which reads one line and goes. What the shell prints after it: how both ended.
#[track_caller]
fn before_head(pipeline: &str, options: &str) -> Finished {
    let script = format!("\"$@\" {options} | head -n 1; echo \"${{PIPESTATUS[*]}}\"");
    Scenario::new(pipeline).through(["bash", "-c", &script, "bash"]).run().succeeded()
}

#[test]
fn a_pipeline_whose_reader_has_enough_ends_as_a_whole_and_well() {
    let pipelines = [
        "stages: {endless: {command: [yes]}}",
        "{stages: {endless: {command: [yes]}, copy: {command: cat, pool: 2}}, edges: [queue: endless -> copy -> stdout]}",
        "{stages: {endless: {command: [yes]}, map: {command: cat, mode: map, pool: 2}}, edges: [queue: endless -> map -> stdout]}",
        "{stages: {endless: {command: [yes]}, map: {command: cat, mode: map, ordered: true}, last: {command: cat}}, \
         edges: [queue: endless -> map -> last -> stdout]}",
        "{stages: {endless: {command: [yes]}, each: {command: 'echo {}', mode: each, pool: 2}}, \
         edges: [queue: endless -> each -> stdout]}",
        "{stages: {one: {command: [yes]}, two: {command: [yes]}}}",
        "{stages: {endless: {command: [yes]}, copy: {command: cat}}, edges: [pipe: endless -> copy]}",
    ];
    for pipeline in pipelines {
        let run = before_head(pipeline, "--quiet");
        assert_eq!(run.stderr, "", "noise of {pipeline}");
        assert_eq!(run.report["outcome"]["result"], "succeeded", "{pipeline}\n{}", run.told());
        let lines: Vec<&str> = run.text().lines().collect();
        assert_eq!(lines[1..], ["0 0"], "{pipeline}");
    }
}

#[test]
fn the_summary_of_a_run_whose_reader_had_enough_speaks_of_no_failure() {
    let run = before_head("stages: {endless: {command: [yes]}}", "");
    let run = run.said(["succeeded in"]).never_said(["failed:", "Broken pipe", "SIGPIPE (", "error"]);
    run.wrote("y\n0 0\n");
}

#[test]
fn who_made_all_its_records_before_the_reader_went_has_finished() {
    let pipeline =
        "stages: {few: {command: 'seq 3; while [ ! -e gone ]; do sleep 0.02; done; echo 4; sleep 0.1'}}";
    let script = "\"$@\" --quiet | { head -n 1; echo > gone; }; echo \"${PIPESTATUS[*]}\"";
    let run = Scenario::new(pipeline).through(["bash", "-c", script, "bash"]).run().succeeded();
    assert_eq!(run.stderr, "");
    run.wrote("1\n0 0\n");
}

#[test]
fn a_reader_that_has_gone_before_the_start_ends_the_run_too() {
    let pipeline = "{stages: {endless: {command: [yes]}, copy: {command: cat}}, edges: [queue: endless -> copy -> stdout]}";
    let script = "{ while [ ! -e gone ]; do sleep 0.02; done; \"$@\" --quiet; echo $? > code; } | : ; echo > gone; wait";
    // The writer waits until its reader is certainly gone.
    let script = script.replace(
        "| : ; echo > gone; wait",
        "> >(exec <&-; echo > gone); while [ ! -e code ]; do sleep 0.02; done",
    );
    let run = Scenario::new(pipeline).through(["bash", "-c", &script, "bash"]).run().succeeded();
    assert_eq!((run.stderr.as_str(), run.read("code").as_str()), ("", "0\n"));
}

// ---- streams that cannot be opened anew

/// Two lines come one after the other, though nothing follows the first for a while, and a signal is heard meanwhile.
#[track_caller]
fn hears_while_its_input_is_open(mut run: Running, mut input: impl Write) {
    input.write_all(b"one\n").unwrap();
    run.wait_for_lines(1);
    input.write_all(b"two\n").unwrap();
    run.wait_for_lines(2);
    run.signal(Signal::SIGINT);
    run.stdin = None;
    let run = run.finish().ended(130).wrote("one\ntwo\n");
    drop((run, input));
}

const COPY: &str = "{stages: {copy: {command: cat}}, edges: [queue: stdin -> copy -> stdout]}";

#[test]
fn an_input_of_another_user_that_nothing_comes_from_holds_up_nothing() {
    // As by `sudo -u`: this user may read and write its standard streams, and not open them anew.
    let Some(scenario) = with_processes(Scenario::new(COPY).open_stdin(), 200) else { return };
    let mut run = scenario.start();
    let input = run.stdin.take().unwrap();
    hears_while_its_input_is_open(run, input);
}

#[test]
fn a_socket_as_input_that_nothing_comes_from_holds_up_nothing() {
    let scenario = Scenario::new(COPY).open_stdin();
    let through = "import os, socket, sys, threading
ours, theirs = socket.socketpair()
if os.fork() == 0:
    os.dup2(theirs.fileno(), 0)
    ours.close()
    os.execv(sys.argv[1], sys.argv[1:])
theirs.close()
def copy():
    while data := os.read(0, 4096): ours.sendall(data)
threading.Thread(target=copy, daemon=True).start()
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))";
    let mut run = scenario.through(["python3", "-c", through]).start();
    let mut input = run.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    run.wait_for_lines(1);
    input.write_all(b"two\n").unwrap();
    run.wait_for_lines(2);
    drop(input);
    // The script holds the socket open: only a signal ends this run.
    let engine = run.wait_until("the engine", || crate::support::children(run.pid()).into_iter().next());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine), Signal::SIGINT).unwrap();
    run.finish().ended(130).wrote("one\ntwo\n");
}

/// Whether the worker cannot get rid of what it makes: it waits in `write`.
fn is_waited_for(run: &Running) -> bool {
    let started = run.events().into_iter().find(|event| event["event"] == "worker_started");
    let state = |pid: i64| crate::support::status_field(pid as i32, "State");
    let mut looks = (0..20).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        started.as_ref().is_some_and(|event| state(event["pid"].as_i64().unwrap()).starts_with('S'))
    });
    looks.all(|sleeps| sleeps)
}

#[test]
fn an_output_of_another_user_that_nobody_reads_holds_up_nothing() {
    let pipeline = "stages: {work: {command: [seq, '10000000'], stop: {grace: 100ms}}}";
    let Some(scenario) = with_processes(Scenario::new(pipeline).hold_stdout(), 200) else { return };
    let run = scenario.start();
    let output = run.stdout.as_ref().unwrap();
    run.wait_until("an output that is full", || {
        let mut unread = [nix::poll::PollFd::new(output.as_fd(), nix::poll::PollFlags::POLLIN)];
        (nix::poll::poll(&mut unread, 0_u8).unwrap() == 1 && is_waited_for(&run)).then_some(())
    });
    run.signal(Signal::SIGINT).wait_for_message("interrupted");
    run.signal(Signal::SIGTERM).wait_for_message("terminated");
    run.finish().ended(143);
}

#[test]
fn an_output_of_another_user_gets_all_that_there_is() {
    let Some(scenario) = with_processes(Scenario::new(COPY), 200) else { return };
    scenario.stdin(numbers(300_000)).run().succeeded().wrote(numbers(300_000));
}
