//! Shared objects, by real processes: commands and Python, and what becomes of them when somebody is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod dicts;
mod locks;
mod numbers;
mod together;
mod whole;

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
pub(crate) fn scenario(pipeline: &str) -> Scenario {
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
pub(crate) fn object(run: &Finished, name: &str) -> Value {
    let all = run.report["shared"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|object| object["name"] == name);
    found.unwrap_or_else(|| panic!("no shared object `{name}`\n{}", run.told()))
}

/// The socket of a run that goes on. Its file is there a moment before anybody listens.
pub(crate) fn socket(run: &Running) -> PathBuf {
    run.wait_until("the socket", || {
        let folder = fs::read_dir(run.path("runtime/mpflow")).ok()?.next()?.ok()?;
        Some(folder.path().join("shared")).filter(|path| UnixStream::connect(path).is_ok())
    })
}

/// The number of a process that has written it to a file.
pub(crate) fn pid_in(run: &Running, file: &str) -> i32 {
    run.wait_for_file(file).trim().parse().unwrap()
}

pub(crate) fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// A client of the test's own.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) unread: Vec<u8>,
}

impl Client {
    pub(crate) fn new(path: &Path, worker: &str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Self { stream, unread: Vec::new() };
        let hello = client.ask(&json!({"op": "hello", "protocol": 1, "worker": worker, "pid": 1}));
        assert_eq!(hello["ok"]["protocol"], 1, "{hello}");
        client
    }

    pub(crate) fn send(&mut self, request: &Value) {
        self.stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> Value {
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

    pub(crate) fn on(&mut self, name: &str, op: &str) -> Value {
        self.ask(&json!({"op": op, "name": name}))
    }
}

/// Waits until an object stands so.
#[track_caller]
pub(crate) fn wait_for_state(run: &Running, name: &str, is_wanted: impl Fn(&Value) -> bool) {
    let path = socket(run);
    run.wait_until(&format!("state of `{name}`"), || {
        let state = Client::new(&path, "").on(name, "state");
        is_wanted(&state["ok"]).then_some(())
    });
}

/// Acquires `screen`, says so, and lives on.
pub(crate) const HOLD: &str = "
import os, time
from mpflow import shared
shared.screen.acquire()
print(os.getpid(), file=open('holder.tmp', 'w'), flush=True)
os.rename('holder.tmp', 'holder.txt')
time.sleep(1000)
";
