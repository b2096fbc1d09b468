//! A terminal: Ctrl-Z at any moment, the background, and workers that look for it.

use crate::support::{Finished, Scenario, need_python};

/// A shell with job control, on a terminal of its own: the command's standard input and error are the terminal, its
/// standard output is left as it is. What comes on the terminal is passed on to standard error.
const SHELL: &str = r#"
import os, signal, sys, threading, time

how, command = sys.argv[1], sys.argv[2:]
master, slave = os.openpty()

def pass_on():
    try:
        while True:
            os.write(2, os.read(master, 65536))
    except OSError:
        pass

def job(foreground):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        if foreground:
            os.tcsetpgrp(slave, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.dup2(slave, 0)
        os.dup2(slave, 2)
        os.execv(command[0], command)
    return pid

def stopped(pid, flags=os.WUNTRACED):
    """Waits until it stops; ends with it if it ends."""
    found, status = os.waitpid(pid, flags)
    if found and not os.WIFSTOPPED(status):
        time.sleep(0.05)
        os._exit(os.waitstatus_to_exitcode(status) % 256)
    return found and os.WSTOPSIG(status)

def to_foreground(pid):
    os.tcsetpgrp(slave, pid)
    os.kill(-pid, signal.SIGCONT)

shell = os.fork()
if shell:
    os.close(slave)
    threading.Thread(target=pass_on, daemon=True).start()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(shell, 0)[1]) % 256)

os.setsid()
# The first terminal that the leader of a session opens becomes that of the session.
slave = os.open(os.ttyname(slave), os.O_RDWR)
# A shell may give the terminal away from where it does not have it.
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
if how == 'presses':
    pid = job(True)
    for _ in range(10):
        time.sleep(os.urandom(1)[0] / 256 * 0.02)
        os.write(master, b'\x1a')
        pressed = time.monotonic()
        while not stopped(pid, os.WUNTRACED | os.WNOHANG):
            time.sleep(0.001)
            # One that meets the continuation after the one before may be taken back by it.
            if time.monotonic() > pressed + 0.5:
                os.write(master, b'\x1a')
                pressed = time.monotonic()
        to_foreground(pid)
elif how == 'background':
    pid = job(False)
elif how == 'typed':
    pid = job(False)
    os.write(master, b'one\ntwo\n')
    os.write(2, f'stopped by {signal.Signals(stopped(pid)).name}\n'.encode())
    to_foreground(pid)
    os.write(master, b'three\n\x04')
stopped(pid)
os._exit(99)
"#;

fn run(scenario: Scenario, how: &str) -> Finished {
    need_python();
    let shell = scenario.path("shell.py").to_string_lossy().into_owned();
    scenario.file("shell.py", SHELL).through(["python3", &shell, how]).run()
}

#[test]
fn a_run_that_is_suspended_again_and_again_while_it_starts_goes_on_each_time() {
    let pipeline = "
        stages:
          source: {command: [seq, '2000']}
          stream: {command: cat, pool: 20}
          map: {command: cat, mode: map, pool: 5}
          each: {mode: each, command: 'cat', batch: 100, pool: 2}
        edges: [{queue: source -> stream -> map -> each -> stdout}]";
    for _ in 0..4 {
        run(Scenario::new(pipeline), "presses").succeeded().wrote_lines(1..=2000);
    }
}

#[test]
fn a_run_in_the_background_is_stopped_by_nothing_that_it_does() {
    let pipeline = "
        stages:
          source: {command: 'echo said >&2; seq 1000'}
          copy: {command: cat, pool: 2}
        edges: [{queue: source -> copy}, {queue: copy -> stdout}]";
    run(Scenario::new(pipeline), "background").succeeded().wrote_lines(1..=1000);
}

#[test]
fn a_run_in_the_background_that_reads_the_terminal_waits_for_the_foreground_as_any_job() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout}]";
    run(Scenario::new(pipeline), "typed").succeeded().wrote("one\ntwo\nthree\n").said(["stopped by SIGTTIN"]);
}

#[test]
fn a_worker_finds_no_terminal_that_could_stop_it() {
    let pipeline = "
        stages:
          work: {command: 'if (exec < /dev/tty) 2> /dev/null; then echo terminal; else echo none; fi', pool: 2}
          each: {mode: each, command: 'if (stty -echo < /dev/tty) 2> /dev/null; then echo terminal; else echo {}; fi'}
        edges: [{queue: work -> each -> stdout}]";
    for how in ["background", "presses"] {
        run(Scenario::new(pipeline), how).succeeded().wrote("none\nnone\n");
    }
}

/// A terminal that is closed as soon as there is something in a file: what ran in it is the leader of its session.
const CLOSED: &str = r#"
import os, sys, time

file, command = sys.argv[1], sys.argv[2:]
master, slave = os.openpty()
pid = os.fork()
if pid == 0:
    name = os.ttyname(slave)
    os.close(master)
    os.close(slave)
    os.setsid()
    os.dup2(os.open(name, os.O_RDWR), 0)
    os.execv(command[0], command)
os.close(slave)
while not os.path.exists(file) or not os.path.getsize(file):
    time.sleep(0.01)
os.close(master)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
"#;

fn run_until_its_terminal_is_closed(scenario: Scenario, file: &str) -> Finished {
    need_python();
    let (shell, file) = (scenario.path("shell.py"), scenario.path(file));
    let words = [shell.to_string_lossy().into_owned(), file.to_string_lossy().into_owned()];
    scenario.file("shell.py", CLOSED).through(["python3", &words[0], &words[1]]).run()
}

#[test]
fn a_run_whose_terminal_is_closed_ends() {
    // The same signal from anybody else has the pipeline read again.
    let pipeline = "stages: {goes: {command: 'echo > going; exec sleep 1000'}}";
    let run = run_until_its_terminal_is_closed(Scenario::new(pipeline), "going");
    run.ended(129).said(["the terminal is gone"]).never_said(["nothing has changed"]);
}

#[test]
fn a_finished_run_that_watches_does_not_run_again_when_its_terminal_is_closed() {
    let pipeline = "stages: {once: {command: 'echo ran >> ran.txt'}}";
    let run = run_until_its_terminal_is_closed(Scenario::new(pipeline).args(["--watch"]), "report.json");
    assert_eq!(run.ended(129).read("ran.txt"), "ran\n");
}
