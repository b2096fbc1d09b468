//! Bytes in and out, by pipes.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::thread;

use mpflow::report::Outcome;
use mpflow::{Engine, Stdio};

use super::{end, pipeline, within_deadline};
use crate::own_main::Test;

pub(super) const TESTS: &[Test] = crate::tests![
    bytes_that_are_written_are_read_as_they_came,
    the_pipes_may_be_given_to_other_processes,
    a_pipe_whose_reader_is_gone_ends_the_run,
];

const SORT: &str = "
stages: {sort: {command: sort -n}}
edges: [{queue: stdin -> sort -> stdout}]
";

fn bytes_that_are_written_are_read_as_they_came() {
    let run = Engine::new().stdin(Stdio::Bytes).stdout(Stdio::Bytes).start(&pipeline(SORT)).unwrap();
    let mut stdin = run.take_stdin().unwrap();
    assert!(run.take_stdin().is_none());
    let writer = thread::spawn(move || (0..50_000).rev().for_each(|n| writeln!(stdin, "{n}").unwrap()));
    let mut stdout = run.take_stdout().unwrap();
    let text = within_deadline(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap()
    });
    writer.join().unwrap();
    assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..50_000));
    assert_eq!(end(run).outcome, Outcome::Succeeded);
}

fn the_pipes_may_be_given_to_other_processes() {
    let run = Engine::new().stdin(Stdio::Bytes).stdout(Stdio::Bytes).start(&pipeline(SORT)).unwrap();
    let mut seq =
        Command::new("seq").args(["100", "-1", "1"]).stdout(run.take_stdin().unwrap()).spawn().unwrap();
    let head = Command::new("head").arg("-n2").stdin(run.take_stdout().unwrap()).output().unwrap();
    assert_eq!(head.stdout, b"1\n2\n");
    seq.wait().unwrap();
    end(run);
}

fn a_pipe_whose_reader_is_gone_ends_the_run() {
    let endless = "stages: {endless: {command: 'yes'}}\nedges: [{queue: endless -> stdout}]";
    let run = Engine::new().stdout(Stdio::Bytes).start(&pipeline(endless)).unwrap();
    let mut few = [0; 4];
    let mut stdout = run.take_stdout().unwrap();
    stdout.read_exact(&mut few).unwrap();
    assert_eq!(&few, b"y\ny\n");
    drop(stdout);
    assert_eq!(end(run).outcome, Outcome::Succeeded);
}
