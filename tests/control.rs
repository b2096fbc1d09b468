//! The control socket and the commands that use it (section 9 of the language, `schemas/control.md`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

#[path = "control/commands.rs"]
mod commands;
#[path = "control/hostile.rs"]
mod hostile;
#[path = "control/protocol.rs"]
mod protocol;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::{Running, Scenario, Value};

/// What comes in goes out, until the input ends: a run that goes on as long as a test wants it to.
const ECHO: &str = "
stages:
  echo: {command: cat}
edges:
  - queue: stdin -> echo -> stdout
";

/// A client that gets no answer within this fails its test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose folder lies where only this test looks.
fn scenario(pipeline: &str) -> Scenario {
    let scenario = Scenario::new(pipeline).open_stdin();
    let folder = scenario.path("").to_string_lossy().into_owned();
    // One that others may enter is not used.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    scenario.env("XDG_RUNTIME_DIR", &folder)
}

fn id(run: &Running) -> String {
    run.wait_for_event("run_started")["run_id"].as_str().unwrap().to_owned()
}

fn socket(run: &Running) -> PathBuf {
    let path = run.path("mpflow").join(id(run)).join("control");
    run.wait_until("the control socket", || path.exists().then_some(()));
    path
}

/// `mpflow` with these arguments, as whoever sits at another terminal of the same user.
fn command(run: &Running, args: &[&str]) -> Command {
    socket(run);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
    command.args(args).env("XDG_RUNTIME_DIR", run.path("")).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

#[track_caller]
fn mpflow(run: &Running, args: &[&str]) -> Output {
    command(run, args).output().unwrap()
}

/// What a command that goes well prints.
#[track_caller]
fn says(run: &Running, args: &[&str]) -> String {
    let output = mpflow(run, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(run: &Running, args: &[&str]) -> Value {
    serde_json::from_str(&says(run, &[args, &["--format", "json"]].concat())).unwrap()
}

/// A connection of its own.
struct Peer {
    stream: BufReader<UnixStream>,
}

impl Peer {
    fn connect(run: &Running) -> Self {
        let stream = UnixStream::connect(socket(run)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Whether the run has taken all of it.
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// The next line; `None` where the run has closed the connection.
    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the run does not answer"),
            Err(_) => None,
        }
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: &str) -> Value {
        let sent = self
            .send(format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"{method}\",\"params\":{params}}}\n"));
        assert!(sent, "the connection is closed");
        self.read().expect("an answer")
    }
}

/// The run does its work to its end, and all of it.
#[track_caller]
fn finishes_its_work(mut run: Running) {
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(support::numbers(1000).as_bytes()).unwrap();
    drop(stdin);
    run.finish().succeeded().wrote(support::numbers(1000));
}

#[test]
fn nobody_else_can_enter_the_folder_of_the_socket() {
    let run = scenario(ECHO).start();
    let socket = socket(&run);
    for folder in [socket.parent().unwrap(), socket.parent().unwrap().parent().unwrap()] {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let path = socket.clone();
    finishes_its_work(run);
    assert!(!path.exists());
}
