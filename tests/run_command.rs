//! `mpflow run` as a user or a script meets it: data, messages, files, signals, exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// A source that goes on until it is told to end, and a stage that passes on what it gets.
const ENDLESS: &str = "\
name: endless
stages:
  source: {command: 'while :; do echo x; sleep 0.01; done'}
  copy: {command: cat}
edges: [{queue: source -> copy -> stdout}]
";

/// A worker that no polite signal ends.
const DEAF: &str = "\
name: deaf
stages:
  deaf: {command: \"trap '' INT TERM; echo up; while :; do sleep 0.1; done\", stop: {grace: 1h}}
";

/// A stage that fails, and says something first.
const FAILING: &str = "\
name: failing
stages:
  bad: {command: 'echo one; echo so it goes >&2; exit 3'}
";

/// One run in a folder of its own. It is killed if the test ends before it does.
struct Scenario {
    folder: TempDir,
    child: Child,
    out: BufReader<ChildStdout>,
    errors: mpsc::Receiver<String>,
}

/// What a run left.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
    folder: TempDir,
}

impl Scenario {
    fn start(pipeline: &str, args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mpflow"))
            .arg("run")
            .arg("pipeline.yaml")
            .args(args)
            .current_dir(&folder)
            .env("LANG", "C.UTF-8")
            .env_remove("MPFLOW_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let (sender, errors) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        Self { folder, child, out, errors }
    }

    /// Waits for one line of data, so that the run is known to be under way.
    fn wait_for_data(&mut self) -> &mut Self {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert_ne!(line, "", "the run ended before it wrote anything");
        self
    }

    fn send(&mut self, signal: Signal) -> &mut Self {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        // Two signals that wait at one time are one.
        thread::sleep(Duration::from_millis(200));
        self
    }

    /// The letter of its state in `/proc`, proc(5).
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < end, "{what} did not happen");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(mut self) -> Ended {
        let pid = Pid::from_raw(self.child.id() as i32);
        let (finished, watch) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if watch.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code();
        drop(finished);
        watchdog.join().unwrap();
        let err = self.errors.recv_timeout(DEADLINE).unwrap();
        Ended { code, out, err, folder: self.folder }
    }
}

impl Ended {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    #[track_caller]
    fn expect(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        for part in said {
            assert!(self.err.contains(part), "`{part}` is missing in:\n{}", self.err);
        }
        self
    }
}

#[test]
fn data_goes_to_standard_output_and_the_summary_to_standard_error() {
    let pipeline = "{name: squares, stages: {numbers: {command: seq 1 3}}}";
    let ended = Scenario::start(pipeline, &[]).end().expect(0, &["numbers", "squares: succeeded in"]);
    assert_eq!(ended.out, "1\n2\n3\n");
}

#[test]
fn a_quiet_run_that_goes_well_says_nothing() {
    let pipeline = "{stages: {numbers: {command: seq 1 3}}}";
    for args in [&["-q"][..], &["--progress", "none"]] {
        assert_eq!(Scenario::start(pipeline, args).end().expect(0, &[]).err, "");
    }
}

#[test]
fn plain_progress_ends_with_a_line_for_all_stages() {
    let pipeline = "{stages: {numbers: {command: seq 1 3}}}";
    Scenario::start(pipeline, &["--progress", "plain"]).end().expect(0, &["numbers out 3"]);
}

#[test]
fn a_failing_stage_is_named_with_its_exit_and_its_last_words() {
    let said = ["failed: stage `bad`", "3", "    bad | so it goes", "bad | so it goes\n"];
    let ended = Scenario::start(FAILING, &["--report", "report.json"]).end().expect(1, &said);
    assert_eq!(ended.out, "one\n");
    let report = ended.json("report.json");
    assert_eq!(report["outcome"]["result"], "failed");
    assert_eq!(report["outcome"]["failures"][0]["exit"], 3);
    Scenario::start(FAILING, &["-q"]).end().expect(1, &["failed: stage `bad`"]);
}

#[test]
fn a_record_that_fails_is_named_each_time() {
    let pipeline = "\
stages:
  numbers: {command: \"echo one 'two\\\"'\"}
  odd: {command: [test, '{}', '=', even], mode: each, retry: 2, on_error: skip}
edges: [{queue: numbers -> odd}]
";
    let said = [
        "record `one two\"` failed in worker `odd` (attempt 1): worker `odd` exited with 1; it is tried again",
        "record `one two\"` failed in worker `odd` (attempt 2): worker `odd` exited with 1; its attempts are used up",
    ];
    let ended = Scenario::start(pipeline, &["--events", "events.ndjson"]).end().expect(0, &said);
    let events = fs::read_to_string(ended.path("events.ndjson")).unwrap();
    let failed = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records: Vec<Value> = failed.filter(|event| event["event"] == "record_failed").collect();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|event| event["record"] == "one two\""), "{events}");
}

#[test]
fn the_events_file_tells_the_whole_run_a_document_a_line() {
    let ended = Scenario::start(FAILING, &["--events", "events.ndjson"]).end().expect(1, &[]);
    let text = fs::read_to_string(ended.path("events.ndjson")).unwrap();
    let kinds: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.first().unwrap(), "run_started");
    assert_eq!(kinds.last().unwrap(), "run_ended");
    for kind in ["worker_started", "log", "worker_ended", "stage_failed"] {
        assert!(kinds.iter().any(|known| known == kind), "`{kind}` is missing in:\n{text}");
    }
}

#[test]
fn a_report_replaces_the_old_one_whole_and_leaves_nothing_beside_it() {
    let pipeline = "{stages: {numbers: {command: 'cat report.json'}}}";
    let run = |args: &[&str], folder: &TempDir| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
        command.args(["run", "pipeline.yaml"]).args(args).current_dir(folder).output().unwrap()
    };
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    fs::write(folder.path().join("report.json"), "old\n").unwrap();
    let output = run(&["--report", "report.json"], &folder);
    assert_eq!(output.stdout, b"old\n", "the old report stands until the new one is complete");
    let report = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&report).is_ok());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn a_file_that_was_asked_for_and_cannot_be_written_fails_a_run_that_went_well() {
    let pipeline = "{stages: {numbers: {command: seq 1 3}}}";
    for option in ["--report", "--events"] {
        let ended = Scenario::start(pipeline, &[option, "/dev/full"]).end();
        assert_eq!(ended.expect(1, &["/dev/full", "succeeded in"]).out, "1\n2\n3\n");
    }
}

#[test]
fn one_sigint_finishes_what_is_in_flight_and_ends_with_130() {
    let mut run = Scenario::start(ENDLESS, &["--report", "report.json"]);
    run.wait_for_data().send(Signal::SIGINT);
    let ended =
        run.end().expect(130, &["Ctrl-C again to send every worker its stop signal", "endless: stopped"]);
    assert_eq!(ended.json("report.json")["outcome"]["level"], "drain");
}

#[test]
fn a_third_sigint_kills_what_nothing_else_ends() {
    let mut run = Scenario::start(DEAF, &[]);
    run.wait_for_data().send(Signal::SIGINT).send(Signal::SIGINT).send(Signal::SIGINT);
    run.end().expect(130, &["Ctrl-C again to kill all", "interrupted a third time"]);
}

#[test]
fn a_further_sigterm_changes_nothing_and_the_run_ends_with_143() {
    let pipeline = DEAF.replace("1h", "1500ms");
    let begin = Instant::now();
    let mut run = Scenario::start(&pipeline, &[]);
    run.wait_for_data().send(Signal::SIGTERM).send(Signal::SIGTERM).send(Signal::SIGTERM);
    run.end().expect(143, &["a further SIGTERM changes nothing"]);
    assert!(begin.elapsed() >= Duration::from_millis(1500), "the grace period was kept");
}

#[test]
fn sighup_reads_the_pipeline_again_and_ends_nothing() {
    let mut run = Scenario::start(ENDLESS, &[]);
    run.wait_for_data().send(Signal::SIGHUP).wait_for_data().send(Signal::SIGINT);
    run.end().expect(130, &["read again: nothing has changed"]);
}

#[test]
fn sigtstp_suspends_the_run_and_sigcont_continues_it() {
    let mut run = Scenario::start(ENDLESS, &[]);
    run.wait_for_data().send(Signal::SIGTSTP);
    run.wait_until("the stop", |run| run.state() == 'T');
    run.send(Signal::SIGCONT).wait_for_data().send(Signal::SIGINT);
    run.end().expect(130, &["suspended"]);
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nothing() {
    let pipeline = "{stages: {loud: {command: 'seq 1 2000000 >&2; echo done'}}}";
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mpflow"))
        .args(["run", "pipeline.yaml", "--report", "report.json"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + DEADLINE;
    while !folder.path().join("report.json").exists() {
        assert!(Instant::now() < end, "the run waits for its standard error");
        thread::sleep(Duration::from_millis(10));
    }
    // The run is over; what is left to say is not worth a process that cannot be ended.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
