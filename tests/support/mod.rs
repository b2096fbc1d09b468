//! Real runs of `mpflow run`, for tests that read as sentences of the manual.
//!
//! Every run has a folder of its own, a report and an events file, and a watchdog: a run that hangs is killed, and the
//! test fails with all that it printed. When a run has ended, two things are checked without being asked for: that
//! the books of every edge balance, and that no process of it is left, by three independent means (`census`).

#![allow(dead_code, reason = "every test file is a crate of its own and uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unsafe_code, reason = "the warden is made between fork and exec")]

mod census;
mod warden;

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use census::Census;
use census::{MARK, Signs, stat};
use nix::errno::Errno;
pub(crate) use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
pub(crate) use serde_json::Value;
use tempfile::TempDir;
use warden::Warden;
pub(crate) use warden::children;

/// No run and no condition is waited for longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a run has started must be gone so soon after its end.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// On a machine that is so busy that this takes longer than [`GONE_WITHIN`], so many looks must have seen something left:
/// whoever ends it gets as little of the processor as whoever looks.
const LOOKS: usize = 50;

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// Output shown in a failure at most.
const SHOWN: usize = 4000;

/// A pipeline and the way it is run.
pub(crate) struct Scenario {
    folder: TempDir,
    /// The document, from the folder.
    pipeline: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    prefix: Vec<String>,
    /// What is started instead of `mpflow`: a program with its command line, and functions of its own.
    program: PathBuf,
    stdin: Input,
    holds_stdout: bool,
    /// Its pids are not those of this machine.
    counts_apart: bool,
    deadline: Duration,
}

enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
    Open,
}

impl Scenario {
    /// This document, as `pipeline.yaml` in a folder of its own.
    pub(crate) fn new(pipeline: impl AsRef<str>) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("pipeline.yaml"), pipeline.as_ref()).unwrap();
        Self {
            folder,
            pipeline: "pipeline.yaml".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            prefix: Vec::new(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_mpflow")),
            stdin: Input::Nothing,
            holds_stdout: false,
            counts_apart: false,
            deadline: DEADLINE,
        }
    }

    /// A pipeline of the repository, where it lies. The folder is for what the run tells.
    pub(crate) fn of_repository(path: &str) -> Self {
        let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_string_lossy().into_owned();
        Self { pipeline, ..Self::new("") }
    }

    /// One more file in the folder.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    /// A program in the folder: a script with its interpreter in the first line.
    pub(crate) fn program(self, name: &str, script: &str) -> Self {
        let this = self.file(name, script);
        fs::set_permissions(this.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    /// What is written to the standard input of `mpflow`, then its end. Without this it is `/dev/null`.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// `mpflow`'s standard input is this file.
    pub(crate) fn stdin_from(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Input::File(self.folder.path().join(file.into()));
        self
    }

    /// The test itself writes to `mpflow`'s standard input: [`Running::stdin`].
    pub(crate) fn open_stdin(mut self) -> Self {
        self.stdin = Input::Open;
        self
    }

    /// The test itself reads `mpflow`'s standard output: [`Running::stdout`].
    pub(crate) fn hold_stdout(mut self) -> Self {
        self.holds_stdout = true;
        self
    }

    /// Further arguments of `mpflow run`.
    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    /// The run, and what a test waits for in it, may take longer than others.
    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// A variable of the environment that `mpflow` is started in.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the pipeline by this program, which has the same command line.
    pub(crate) fn by(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Starts `mpflow` through a shell that does this first.
    pub(crate) fn after(mut self, script: &str) -> Self {
        self.prefix = ["/bin/sh", "-c", &format!("{script}\nexec \"$@\""), "sh"].map(str::to_owned).to_vec();
        self
    }

    /// Starts `mpflow` through this program, which gets the command line as its last arguments.
    pub(crate) fn through<const N: usize>(mut self, prefix: [&str; N]) -> Self {
        self.prefix = prefix.map(str::to_owned).to_vec();
        self
    }

    /// Starts `mpflow` as the first process of a PID namespace that has only some hundred numbers, so that each is
    /// soon another process's. `None` where this machine does not allow that.
    pub(crate) fn where_pids_are_few(mut self) -> Option<Self> {
        let namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
        let may = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
        if !may.is_ok_and(|output| output.status.success()) {
            return None;
        }
        // Before Linux 6.14 the number is the whole machine's, and stays as it is.
        let few = "echo 400 2> /dev/null > /proc/sys/kernel/pid_max\nexec \"$@\"";
        self.prefix =
            [&namespace[..], &["/bin/sh", "-c", few, "sh"]].concat().into_iter().map(str::to_owned).collect();
        self.counts_apart = true;
        Some(self)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(self) -> Running {
        let mark = format!("{:016x}{:08x}", fastrand::u64(..), std::process::id());
        let before = Census::take(&Signs { marks: vec![format!("{MARK}={mark}")], ..Signs::default() });
        assert!(
            before.is_empty(),
            "there is something of the run before it begins: {:#?}",
            before.describe()
        );
        let program = self.program.to_string_lossy();
        let own = [&program, "run", &self.pipeline].map(str::to_owned);
        let files = ["--report", "report.json", "--events", "events.ndjson"].map(str::to_owned);
        let line: Vec<String> = self.prefix.into_iter().chain(own).chain(files).chain(self.args).collect();
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .current_dir(&self.folder)
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("MPFLOW_LOG")
            .env(MARK, &mark)
            .envs(self.env)
            .stdin(match &self.stdin {
                Input::Nothing => Stdio::null(),
                Input::File(file) => Stdio::from(fs::File::open(file).unwrap()),
                Input::Bytes(_) | Input::Open => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut warden = Warden::start(&mut command).unwrap();
        let mut stdin = warden.streams().stdin.take();
        let mut writer = None;
        if let Input::Bytes(bytes) = self.stdin {
            let mut stdin = stdin.take().unwrap();
            // A run that has enough closes its input; that is for its own messages to say.
            writer = Some(thread::spawn(move || drop(stdin.write_all(&bytes))));
        }
        let mut held = warden.streams().stdout.take();
        let out = match self.holds_stdout {
            true => Collected::default(),
            false => Collected::from(held.take().unwrap()),
        };
        let err = Collected::from(warden.streams().stderr.take().unwrap());
        let deadline = Instant::now() + self.deadline;
        Running {
            folder: Some(self.folder),
            warden,
            sessions: RefCell::default(),
            mark,
            counts_apart: self.counts_apart,
            deadline,
            stdin,
            stdout: held,
            out,
            err,
            writer,
        }
    }
}

/// Bytes that a thread gathers.
#[derive(Default)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => shared.lock().unwrap().extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
        Self { bytes, thread: Some(thread) }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn is_at_end(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn take(&mut self) -> Vec<u8> {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}

/// A run that goes on. Dropped, it is killed with all that it started.
pub(crate) struct Running {
    folder: Option<TempDir>,
    warden: Warden,
    /// Of the launcher and its guardian, once they are known.
    sessions: RefCell<Vec<i32>>,
    mark: String,
    counts_apart: bool,
    deadline: Instant,
    /// Where the test writes it itself.
    pub(crate) stdin: Option<ChildStdin>,
    /// Where the test reads it itself.
    pub(crate) stdout: Option<ChildStdout>,
    out: Collected,
    err: Collected,
    writer: Option<JoinHandle<()>>,
}

impl Running {
    /// The engine's process.
    pub(crate) fn pid(&self) -> i32 {
        self.warden.engine()
    }

    /// The engine's child, which watches over the launcher.
    #[track_caller]
    pub(crate) fn guardian_pid(&self) -> i32 {
        self.wait_for_child(self.pid(), "guardian")
    }

    /// The guardian's child, which starts the workers.
    #[track_caller]
    pub(crate) fn launcher_pid(&self) -> i32 {
        self.wait_for_child(self.guardian_pid(), "launcher")
    }

    #[track_caller]
    fn wait_for_child(&self, of: i32, what: &str) -> i32 {
        let child = self.wait_until(&format!("the start of the {what}"), || children(of).into_iter().next());
        self.sessions.borrow_mut().push(child);
        child
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    /// What has come on standard output so far.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.out.so_far()
    }

    /// What has come on standard error so far.
    pub(crate) fn messages(&self) -> String {
        String::from_utf8_lossy(&self.err.so_far()).into_owned()
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        read_events(&self.path("events.ndjson"))
    }

    /// Waits until `look` finds something.
    #[track_caller]
    pub(crate) fn wait_until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < self.deadline, "{what} did not happen\n{}", self.told());
            thread::sleep(LOOK);
        }
    }

    /// Waits for an event of this kind.
    #[track_caller]
    pub(crate) fn wait_for_event(&self, kind: &str) -> Value {
        self.wait_for(kind, |_| true)
    }

    /// Waits for an event of this kind about this worker or stage.
    #[track_caller]
    pub(crate) fn wait_for_event_of(&self, kind: &str, who: &str) -> Value {
        self.wait_for(kind, |event| event["worker"] == who || event["stage"] == who)
    }

    /// Waits for an event of this kind that is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_until(&format!("event `{kind}`"), || {
            self.events().into_iter().find(|event| event["event"] == kind && is_wanted(event))
        })
    }

    /// Waits for a file in the folder that has a whole line in it, and gives its text.
    #[track_caller]
    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        let path = self.path(name);
        self.wait_until(&format!("file `{name}`"), || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    /// Waits until so many lines have come on standard output.
    #[track_caller]
    pub(crate) fn wait_for_lines(&self, count: usize) {
        self.wait_until(&format!("{count} lines of output"), || {
            let lines = self.out.bytes.lock().unwrap().iter().filter(|&&byte| byte == b'\n').count();
            (lines >= count).then_some(())
        });
    }

    /// Waits until standard error has this in it.
    #[track_caller]
    pub(crate) fn wait_for_message(&self, part: &str) {
        self.wait_until(&format!("message `{part}`"), || self.messages().contains(part).then_some(()));
    }

    /// Sends a signal to the engine alone.
    pub(crate) fn signal(&self, signal: Signal) -> &Self {
        match kill(Pid::from_raw(self.pid()), signal) {
            // It has ended by itself.
            Ok(()) | Err(Errno::ESRCH) => self,
            Err(error) => panic!("cannot send {signal}: {error}"),
        }
    }

    /// SIGINT, and waits until it is known to have been heard: two that wait at one time are one.
    #[track_caller]
    pub(crate) fn interrupt(&self, said: &str) -> &Self {
        self.signal(Signal::SIGINT).wait_for_message(said);
        self
    }

    /// Waits for the end of the run and looks whether it left anything.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.warden.status() {
                break status;
            }
            if Instant::now() >= self.deadline {
                let told = self.told();
                self.destroy();
                panic!("the run hangs\n{told}");
            }
            thread::sleep(LOOK);
        };
        self.check_census();
        // Nobody is left that could hold them, but for one whom the census has missed.
        while !(self.out.is_at_end() && self.err.is_at_end()) {
            assert!(Instant::now() < self.deadline, "somebody holds the output of the run\n{}", self.told());
            thread::sleep(LOOK);
        }
        drop(self.stdin.take());
        drop(self.stdout.take());
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap();
        }
        let report = fs::read(self.path("report.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or(Value::Null);
        let finished = Finished {
            status,
            stdout: self.out.take(),
            stderr: String::from_utf8_lossy(&self.err.take()).into_owned(),
            events: self.events(),
            report,
            folder: self.folder.take().unwrap(),
        };
        finished.assert_books_balance();
        finished
    }

    fn told(&self) -> String {
        let events: Vec<String> = self.events().iter().rev().take(20).rev().map(Value::to_string).collect();
        format!(
            "--- standard output\n{}\n--- standard error\n{}\n--- last events\n{}",
            cut(&String::from_utf8_lossy(&self.out.so_far())),
            cut(&self.messages()),
            events.join("\n")
        )
    }

    /// Processes that the run has started, or that these have, and itself.
    pub(crate) fn census(&self) -> Census {
        let events = self.events();
        let of_kind = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
        let mut marks = vec![format!("{MARK}={}", self.mark)];
        marks.extend(
            of_kind("run_started")
                .filter_map(|event| Some(format!("MPFLOW_RUN_ID={}", event["run_id"].as_str()?))),
        );
        let groups = of_kind("worker_started")
            .filter(|_| !self.counts_apart)
            .filter_map(|event| i32::try_from(event["pid"].as_i64()?).ok())
            .chain(self.sessions.borrow().iter().copied())
            .collect();
        Census::take(&Signs { warden: self.warden.pid(), groups, marks })
    }

    /// Waits until the census sees only this process, as soon as it must.
    #[track_caller]
    pub(crate) fn wait_until_all_are_gone_but(&self, one: i32) {
        let mut soon = Soon::new();
        while self.census().all() != [one].into() {
            let is_over = soon.is_over();
            assert!(!is_over, "left beside {one}: {:#?}\n{}", self.census().describe(), self.told());
        }
    }

    /// After the end of the engine, all three means must see nothing, soon.
    #[track_caller]
    fn check_census(&mut self) {
        let mut soon = Soon::new();
        loop {
            let is_alone = self.warden.is_alone();
            let left = self.census();
            if is_alone && left.is_empty() {
                return;
            }
            if soon.is_over() {
                let (told, left) = (self.told(), left.describe());
                self.destroy();
                panic!("processes of the run are left: {left:#?}\n{told}");
            }
        }
    }

    /// Kills all there is.
    fn destroy(&mut self) {
        let until = Instant::now() + GONE_WITHIN;
        while !self.warden.is_alone() && Instant::now() < until {
            for pid in self.census().all() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(LOOK);
        }
    }
}

/// The time within which something must be gone.
struct Soon {
    until: Instant,
    looks: usize,
}

impl Soon {
    fn new() -> Self {
        Self { until: Instant::now() + GONE_WITHIN, looks: 0 }
    }

    /// Whether it is over, after one more look that has seen something left; waits for the next if not.
    fn is_over(&mut self) -> bool {
        self.looks += 1;
        thread::sleep(LOOK);
        self.looks > LOOKS && Instant::now() >= self.until
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.folder.is_some() {
            self.destroy();
        }
    }
}

/// What a run left.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// `null` where there is none, as after a kill.
    pub(crate) report: Value,
    pub(crate) events: Vec<Value>,
    folder: TempDir,
}

impl Finished {
    /// Asserts that all went well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        self.ended(0)
    }

    /// Asserts the exit code of `mpflow run`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{:?}\n{}", self.status, self.told());
        self
    }

    /// Asserts that standard error has each of these in it.
    #[track_caller]
    pub(crate) fn said<const N: usize>(self, parts: [&str; N]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing\n{}", self.told());
        }
        self
    }

    /// Asserts that standard error has none of these in it.
    #[track_caller]
    pub(crate) fn never_said<const N: usize>(self, parts: [&str; N]) -> Self {
        for part in parts {
            assert!(!self.stderr.contains(part), "`{part}` was said\n{}", self.told());
        }
        self
    }

    /// Asserts what came on standard output.
    #[track_caller]
    pub(crate) fn wrote(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(
            self.stdout == expected,
            "{} bytes were expected:\n{}\n{}",
            expected.len(),
            cut(&String::from_utf8_lossy(expected)),
            self.told()
        );
        self
    }

    /// Asserts the lines of standard output, in any order.
    #[track_caller]
    pub(crate) fn wrote_lines<T: ToString>(self, expected: impl IntoIterator<Item = T>) -> Self {
        let mut expected: Vec<String> = expected.into_iter().map(|line| line.to_string()).collect();
        let mut found: Vec<String> = self.text().lines().map(str::to_owned).collect();
        expected.sort_unstable();
        found.sort_unstable();
        let missing: Vec<&String> =
            expected.iter().filter(|line| found.binary_search(line).is_err()).take(20).collect();
        let unexpected: Vec<&String> =
            found.iter().filter(|line| expected.binary_search(line).is_err()).take(20).collect();
        assert!(
            found == expected,
            "{} lines instead of {}; missing: {missing:?}, unexpected: {unexpected:?}\n{}",
            found.len(),
            expected.len(),
            self.told()
        );
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// A path in the folder of the run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that the run left.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => text,
            Err(error) => panic!("cannot read `{name}`: {error}\n{}", self.told()),
        }
    }

    /// Whether the run left such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The books of an edge.
    #[track_caller]
    pub(crate) fn edge(&self, name: &str) -> Value {
        self.part("edges", "edge", name)
    }

    /// What became of a stage.
    #[track_caller]
    pub(crate) fn stage(&self, name: &str) -> Value {
        self.part("stages", "stage", name)
    }

    #[track_caller]
    fn part(&self, list: &str, key: &str, name: &str) -> Value {
        let parts = self.report[list].as_array().cloned().unwrap_or_default();
        match parts.into_iter().find(|part| part[key] == name) {
            Some(part) => part,
            None => panic!("no {key} `{name}` in the report: {:#}", self.report),
        }
    }

    /// The events of one kind.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// The first failure in the report.
    pub(crate) fn failure(&self) -> &Value {
        &self.report["outcome"]["failures"][0]
    }

    /// Records in = delivered + failed + dropped + discarded, for every edge.
    #[track_caller]
    pub(crate) fn assert_books_balance(&self) {
        for edge in self.report["edges"].as_array().into_iter().flatten() {
            let of = |key: &str| edge[key].as_u64().unwrap();
            let discarded: u64 = edge["discarded"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part["records"].as_u64().unwrap())
                .sum();
            let out = of("delivered") + of("failed") + of("dropped") + discarded;
            assert_eq!(of("in"), out, "the books do not balance: {edge:#}\n{}", self.told());
        }
    }

    /// All that the run printed, for a failure.
    pub(crate) fn told(&self) -> String {
        format!(
            "--- standard output\n{}\n--- standard error\n{}\n--- report\n{:#}",
            cut(&String::from_utf8_lossy(&self.stdout)),
            cut(&self.stderr),
            self.report
        )
    }
}

fn cut(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let (mut head, mut tail) = (SHOWN / 2, text.len() - SHOWN / 2);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n… {} bytes …\n{}", &text[..head], tail - head, &text[tail..])
}

/// Whole lines only: the last may be on its way.
fn read_events(path: &Path) -> Vec<Value> {
    let bytes = fs::read(path).unwrap_or_default();
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    bytes[..end]
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Whether a process is there and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// A field of `/proc/PID/status`.
#[track_caller]
pub(crate) fn status_field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Ticks of processor time that a process has used: fields 14 and 15 of `/proc/PID/stat`.
#[track_caller]
pub(crate) fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The PATH with the folder of the interpreter itself first: what stands for it there may be a slow script.
pub(crate) fn path_with_python() -> String {
    static PATH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let find = || {
        need_python();
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        let python = PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim());
        format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap())
    };
    PATH.get_or_init(find).clone()
}

/// Some tests need Python; one that is missing is no riddle.
#[track_caller]
pub(crate) fn need_python() {
    let found = Command::new("python3").arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "this test needs `python3`, which is not installed"
    );
}

/// `1..=count`, a line each.
pub(crate) fn numbers(count: u64) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}
