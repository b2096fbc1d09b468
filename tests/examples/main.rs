//! The programs in `examples/` are run, and what they print is looked at.
//!
//! This program becomes an example when it is asked to: an example is started again by the engine, and so is this, which
//! then finds the same in its environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../examples/build.rs"]
mod build;
#[path = "../../examples/filter.rs"]
mod filter;
#[path = "../../examples/functions.rs"]
mod functions;
#[path = "../support/own_main.rs"]
mod own_main;
#[path = "../../examples/primitives.rs"]
mod primitives;
#[path = "../../examples/reload.rs"]
mod reload;
#[path = "../../examples/squares.rs"]
mod squares;
#[path = "../../examples/watch.rs"]
mod watch;

use std::error::Error;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

type Main = fn() -> Result<(), Box<dyn Error>>;

/// All of them. A file that is not listed here is not run, and a test below says so.
const EXAMPLES: [(&str, Main); 7] = [
    ("build", build::main),
    ("filter", filter::main),
    ("functions", functions::main),
    ("primitives", primitives::main),
    ("reload", reload::main),
    ("squares", squares::main),
    ("watch", watch::main),
];

const WHICH: &str = "TESTED_EXAMPLE";

fn run(name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env(WHICH, name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    output.recv_timeout(Duration::from_secs(60)).expect("an example ends in time")
}

fn printed(name: &str) -> String {
    let output = run(name, &[]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {err}");
    assert_eq!(err, "", "{name}: nothing is printed that it does not print itself");
    String::from_utf8(output.stdout).unwrap()
}

fn every_example_is_here() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, EXAMPLES.map(|(name, _)| name));
}

fn the_readme_shows_the_examples_as_they_are() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for name in ["squares", "primitives"] {
        let example = std::fs::read_to_string(folder.join(format!("examples/{name}.rs"))).unwrap();
        let code = &example[example.find("use std::error::Error;").unwrap()..];
        let code = code.replace("pub(crate) fn main", "fn main");
        assert!(
            readme.contains(&format!("```rust\n{code}```")),
            "the README does not show `{name}` as {code}"
        );
    }
}

fn the_readme_shows_what_the_primitives_print() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let shown = format!("$ python3 primitives.py\n{}```", printed("primitives"));
    assert!(readme.contains(&shown), "the README does not show {shown}");
}

fn squares_are_computed_in_order() {
    assert_eq!(printed("squares"), "1\n4\n9\n16\n25\n36\n49\n64\n81\n100\n10 records, 0 restarts\n");
}

fn an_order_that_cannot_be_billed_comes_out_as_failed() {
    let expected = "order 1: 1250 cents\norder 2: 700 cents\norder 3: ParseFloatError: invalid float literal\norder 4: 99 cents\n";
    assert_eq!(printed("functions"), expected);
}

fn a_pipeline_in_code_is_drawn_written_and_run() {
    let out = printed("build");
    assert!(out.contains("\nname: words\nstages:\n"), "{out}");
    assert!(
        out.contains("  - {queue: words -> measure}\n") || out.contains("queue: words -> measure"),
        "{out}"
    );
    assert!(out.ends_with("5 brown\n5 jumps\n5 quick\n"), "{out}");
}

fn a_mistake_in_code_starts_nothing_and_shows_its_call() {
    let output = run("build", &["wrong"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("examples/build.rs:"), "{err}");
    assert!(err.contains("writes to `longst`, which is not a stage of this pipeline"), "{err}");
    assert!(err.contains("help: did you mean `longest`?"), "{err}");
}

fn a_watched_run_is_scaled_and_ended() {
    let out = printed("watch");
    for line in
        ["slow is ready", "the queue was full: four workers", "stopping: terminate", "the books balance"]
    {
        assert!(out.contains(line), "{line} is not in {out}");
    }
}

fn a_run_filters_between_processes() {
    assert_eq!(printed("filter"), "      2 FIG\nSucceeded\n");
}

fn a_reloaded_run_loses_nothing_and_keeps_what_did_not_change() {
    assert_eq!(printed("reload"), "1 hello Ada\n2 good morning Grace\nSucceeded\n");
}

fn main() -> ExitCode {
    if let Some(which) = std::env::var_os(WHICH) {
        let (_, example) = EXAMPLES.iter().find(|(name, _)| which == *name).unwrap();
        return match example() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {error:?}");
                ExitCode::FAILURE
            }
        };
    }
    own_main::run(tests![
        every_example_is_here,
        the_readme_shows_the_examples_as_they_are,
        the_readme_shows_what_the_primitives_print,
        squares_are_computed_in_order,
        an_order_that_cannot_be_billed_comes_out_as_failed,
        a_pipeline_in_code_is_drawn_written_and_run,
        a_mistake_in_code_starts_nothing_and_shows_its_call,
        a_watched_run_is_scaled_and_ended,
        a_run_filters_between_processes,
        a_reloaded_run_loses_nothing_and_keeps_what_did_not_change,
    ])
}
