//! The crate, used by a program: runs whose standard streams lie in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/own_main.rs"]
mod own_main;

mod bytes;
mod crowd;
mod runs;
mod values;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mpflow::report::Report;
use mpflow::{Engine, Pipeline, Run, Stdio};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(60);

fn pipeline(yaml: &str) -> Pipeline {
    Pipeline::from_yaml(yaml).unwrap_or_else(|wrong| panic!("{}", wrong.plain()))
}

/// A run that sends and receives values.
fn values(yaml: &str) -> Run {
    Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&pipeline(yaml)).unwrap()
}

/// Runs it on a thread, and fails where that takes too long.
fn within_deadline<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || done.send(act()));
    is_done.recv_timeout(DEADLINE).expect("it ends in time and does not panic")
}

fn end(run: Run) -> Report {
    let report = within_deadline(move || run.wait());
    assert_balanced(&report);
    report
}

fn assert_balanced(report: &Report) {
    for edge in &report.edges {
        let discarded: u64 = edge.discarded.iter().map(|part| part.records).sum();
        let out = edge.delivered + edge.failed + edge.dropped + discarded;
        assert_eq!(edge.records_in, out, "{edge:?}");
    }
}

fn main() -> ExitCode {
    mpflow::init(&mpflow::Functions::new());
    let tests = [values::TESTS, bytes::TESTS, runs::TESTS, crowd::TESTS].concat();
    own_main::run(&tests)
}
