//! `mpflow conformance`: workers that keep to the worker protocol pass, and what others do wrong is said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

mod support;

use rstest::rstest;
use serde_json::Value;
use support::path_with_python;

struct Checked {
    code: Option<i32>,
    text: String,
    answer: Value,
}

/// The example workers' folder.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/workers")
}

fn conformance(folder: &Path, args: &[&str]) -> Checked {
    let output = Command::new(env!("CARGO_BIN_EXE_mpflow"))
        .args(["conformance", "--timeout", "60s", "--format", "json"])
        .args(args)
        .env("PATH", path_with_python())
        .current_dir(folder)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Checked { code: output.status.code(), text, answer }
}

impl Checked {
    #[track_caller]
    fn passes(self) {
        assert_eq!(self.code, Some(0), "{}", self.text);
        assert!(self.answer["holds"].as_u64().unwrap() > 0, "{}", self.text);
    }

    /// This sentence does not hold, since this came.
    #[track_caller]
    fn fails(self, name: &str, part: &str) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        let checks = self.answer["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no check `{name}`\n{}", self.text));
        assert_eq!(check["verdict"], "fails", "{}", self.text);
        let said = format!("{} {}", check["expected"], check["came"]);
        assert!(said.contains(part), "`{part}` is missing\n{}", self.text);
    }
}

/// This program's Python package, as it is started for a Python stage.
fn python_package() -> String {
    format!("{}/src/sdk/python/__main__.py", env!("CARGO_MANIFEST_DIR"))
}

#[rstest]
#[case("lines")]
#[case("json")]
#[case("nul")]
#[case("frames")]
#[case("msgpack")]
#[case("pickle")]
fn mpflows_own_python_workers_keep_to_the_protocol_in_every_format(#[case] records: &str) {
    conformance(&examples(), &["--records", records, "--", "python3", &python_package()]).passes();
}

#[rstest]
#[case("lines")]
#[case("json")]
#[case("nul")]
#[case("frames")]
fn a_worker_that_was_written_from_the_document_alone_keeps_to_it(#[case] records: &str) {
    conformance(&examples(), &["--records", records, "--", "python3", "worker.py"]).passes();
}

#[test]
fn a_worker_in_another_language_keeps_to_it() {
    if Command::new("perl")
        .args(["-MJSON::PP", "-e", "1"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        conformance(&examples(), &["--mode", "map", "--", "perl", "worker.pl"]).passes();
    }
}

/// The worker by hand with one line of it replaced.
fn broken(from: &str, to: &str) -> (tempfile::TempDir, &'static str) {
    let text = std::fs::read_to_string(examples().join("worker.py")).unwrap();
    assert!(text.contains(from), "`{from}` is not in worker.py");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("worker.py"), text.replace(from, to)).unwrap();
    (folder, "worker.py")
}

#[test]
fn what_a_worker_does_wrong_is_said_with_what_was_expected() {
    let done = "answer(DONE, struct.pack(\"<I\", len(group)) + outputs)";
    for (from, to, name, part) in [
        (done, "answer(9, b'')", "answers each record once, in order", "unknown kind, 9"),
        (
            done,
            "answer(DONE, struct.pack(\"<I\", 2) + outputs)",
            "answers what it has without waiting for more",
            "answers to 2",
        ),
        ("\"protocol\": 1", "\"protocol\": 3", "says READY", "protocol: 3"),
        (
            "frame = exactly(control, 5)",
            "frame = b''",
            "reads nothing and writes nothing before GO",
            "before GO",
        ),
        ("if flags & 1:", "if False:", "says what a record is that was leased alone", "ABOUT"),
        (
            "            return 0\n        length",
            "            return 7\n        length",
            "answers what it has at the end of its input, and exits with 0",
            "7",
        ),
        (
            "answer(FAILED, json.dumps(why(error)).encode())",
            "raise",
            "says FAILED of each record that fails, and why",
            "FAILED",
        ),
    ] {
        let (folder, worker) = broken(from, to);
        let args = ["--mode", "map", "--timeout", "2s", "--", "python3", worker];
        let output = Command::new(env!("CARGO_BIN_EXE_mpflow"))
            .args(["conformance", "--format", "json"])
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Checked { code: output.status.code(), text, answer }.fails(name, part);
    }
}

#[test]
fn a_program_that_is_no_worker_fails_by_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    conformance(folder.path(), &["--mode", "source", "--", "true"]).fails("says READY", "it ended with 0");
}

#[test]
fn a_program_that_is_not_there_is_a_wrong_command_line() {
    let checked = conformance(&examples(), &["--", "./no-such-worker"]);
    assert_eq!(checked.code, Some(2));
    assert!(checked.text.contains("there is no program `./no-such-worker`"), "{}", checked.text);
}
