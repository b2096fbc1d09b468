//! The pipelines to learn from: each is run as it stands in the repository, and its output is looked at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// No run takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// All of them. A file that is not listed here is not tested, and a test below says so.
const PIPELINES: [&str; 13] = [
    "access-log",
    "archive",
    "batch-sort",
    "daemon",
    "duplex",
    "merge",
    "ordered-map",
    "partitioned-count",
    "ports",
    "retry",
    "shared-counter",
    "thumbnails",
    "word-count",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a run that went well wrote.
struct Ran {
    out: String,
    err: String,
    /// The folder that was `TMPDIR`.
    tmp: TempDir,
}

impl Ran {
    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// Runs one from the repository's top folder, as the README says. The `mpflow` that is run need not be on the `PATH`, also
/// where workers call it.
#[track_caller]
fn run(name: &str, args: &[&str]) -> Ran {
    let tmp = TempDir::new().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_mpflow"))
        .args(["run", &format!("pipelines/{name}.yaml")])
        .args(args)
        .current_dir(repository())
        .env("PWD", repository())
        .env("TMPDIR", tmp.path())
        .env("LANG", "C.UTF-8")
        .env_remove("MPFLOW_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = wait(child);
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    assert!(err.contains(&format!("{name}: succeeded in")), "{err}");
    Ran { out, err, tmp }
}

/// Waits for the end of a run and for all that it writes. One that hangs is ended, and its test fails.
fn wait(child: Child) -> Output {
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (ended, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGTERM);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    output
}

/// The words of a text as `word-count.yaml` counts them, the most frequent first.
fn most_frequent(text: &[u8], most: usize) -> Vec<String> {
    let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for word in text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| word.len() > 1) {
        *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(one, n), (other, m)| m.cmp(n).then(one.cmp(other)));
    let line = |(word, count)| format!("{count} {}", String::from_utf8(word).unwrap());
    counts.into_iter().take(most).map(line).collect()
}

/// The bytes of all files in a folder, and of those in its folders.
fn read_all(path: &Path, bytes: &mut Vec<u8>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read_all(&entry.unwrap().path(), bytes);
        }
    } else {
        bytes.extend(fs::read(path).unwrap());
        bytes.push(b'\n');
    }
}

#[test]
fn every_pipeline_of_the_repository_is_tested_here_and_has_no_mistakes() {
    let files = fs::read_dir(repository().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    let stems: Vec<&str> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(stems, PIPELINES);
    let output = Command::new(env!("CARGO_BIN_EXE_mpflow")).arg("check").args(&files).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "a warning is a bad example");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (first, _) = text.split_once('\n').unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../schemas/pipeline.schema.json",
            "{}",
            file.display()
        );
        assert!(text.contains("To learn here:"), "{} does not say what it teaches", file.display());
    }
}

#[test]
fn word_count_counts_the_words_of_the_repository() {
    let mut text = Vec::new();
    for part in ["README.md", "docs", "src"] {
        read_all(&repository().join(part), &mut text);
    }
    for args in [&[][..], &["--pool", "count=1"], &["--pool", "count=5"]] {
        assert_eq!(run("word-count", args).lines(), most_frequent(&text, 20));
    }
}

#[test]
fn word_count_counts_other_files_named_as_a_shell_names_them() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("one.txt"), "The dog. The CAT, a dog!\nno end of line").unwrap();
    fs::write(folder.path().join("two.txt"), "the-end").unwrap();
    let files = format!("files={}/*.txt", folder.path().display());
    let ran = run("word-count", &["--set", &files, "--set", "top=3"]);
    assert_eq!(ran.lines(), ["3 the", "2 dog", "2 end"]);
    // Relative to where the user is, and not to where the pipeline lies.
    let ran = run("word-count", &["--set", "files=LICENSE-A*", "--set", "top=7"]);
    assert_eq!(ran.lines(), most_frequent(&fs::read(repository().join("LICENSE-APACHE")).unwrap(), 7));
}

#[test]
fn access_log_answers_three_questions_in_one_pass() {
    let ran = run("access-log", &[]);
    let lines = ran.lines();
    assert_eq!(lines.len(), 15, "{}", ran.out);
    assert_eq!(lines[0], "bytes 5754631 10.0.0.1");
    assert_eq!(lines[5], "errors 210 /");
    assert_eq!(lines[10], "hits 6788 /");
}

#[test]
fn access_log_reads_a_log_of_the_users_own() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("access.log");
    let line = |client: &str, page: &str, bytes: u32| {
        format!("{client} - - [20/Nov/2026:00:00:00 +0000] \"GET {page} HTTP/1.1\" 200 {bytes}\n")
    };
    fs::write(&log, [line("a", "/x", 5), line("b", "/y", 7), line("a", "/y", 10)].concat()).unwrap();
    let ran = run("access-log", &["--set", &format!("log={}", log.display())]);
    // No errors: `grep` ends with 1, and that is no failure.
    assert_eq!(ran.lines(), ["bytes 15 a", "bytes 7 b", "hits 2 /y", "hits 1 /x"]);
}

#[test]
fn thumbnails_are_made_and_what_is_no_picture_goes_to_quarantine() {
    let ran = run("thumbnails", &[]);
    let expected = [
        "checkers.pgm -> checkers.pgm (8 6)",
        "full moon.pgm -> full moon.pgm (8 8)",
        "gradient.pgm -> gradient.pgm (8 8)",
    ];
    assert_eq!(ran.lines(), expected);
    let folder = ran.tmp.path().join("mpflow-thumbnails");
    let checkers = fs::read_to_string(folder.join("checkers.pgm")).unwrap();
    assert!(checkers.starts_with("P2\n8 6\n15\n0 15 0 15"), "{checkers}");
    assert!(!folder.join("torn.pgm").exists(), "nothing is left of a failed attempt");
    let given_up: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("quarantine.json")).unwrap()).unwrap();
    assert!(given_up["record"].as_str().unwrap().ends_with("torn.pgm"));
    assert_eq!((&given_up["attempts"], &given_up["exit"]), (&2.into(), &1.into()));
}

#[test]
fn thumbnails_have_the_size_that_was_asked_for() {
    let out = TempDir::new().unwrap();
    let set = format!("out={}", out.path().display());
    let ran = run("thumbnails", &["--set", &set, "--set", "factor=4", "--pool", "thumbnail=1"]);
    assert!(ran.out.contains("gradient.pgm -> gradient.pgm (4 4)"), "{}", ran.out);
    assert!(out.path().join("gradient.pgm").exists());
}

#[test]
fn ordered_map_answers_in_the_order_of_the_questions() {
    let expected: Vec<String> = (1..=20).map(|n| format!("{n} {}", n * n)).collect();
    assert_eq!(run("ordered-map", &[]).lines(), expected);
    assert_eq!(run("ordered-map", &["--pool", "slow_square=8"]).lines(), expected);
}

#[test]
fn retry_does_again_what_failed_and_keeps_what_fails_for_good() {
    let ran = run("retry", &[]);
    let (given_up, came): (Vec<&str>, Vec<&str>) =
        ran.out.lines().partition(|line| line.starts_with("given up: "));
    assert_eq!(given_up.len(), 1);
    let document: Value = serde_json::from_str(given_up[0].strip_prefix("given up: ").unwrap()).unwrap();
    assert_eq!(document["record"], "7");
    assert_eq!(document["attempts"], 3);
    assert_eq!(document["exit"], 5);
    assert_eq!(document["stderr"], "no route to number 7");
    let mut expected: Vec<String> = (1..=12)
        .filter(|n| *n != 7)
        .map(|n| format!("number {n} came in attempt {}", if n % 3 == 0 { 2 } else { 1 }))
        .collect();
    expected.sort();
    assert_eq!(came, expected, "each once, and nothing of the attempts that failed");
}

#[test]
fn merge_keeps_the_order_of_each_producer() {
    let ran = run("merge", &[]);
    assert_eq!(ran.lines(), ["lima: 5 lines", "oslo: 5 lines", "paris: 5 lines"]);
    assert!(ran.err.contains("oslo | oslo has written line 5\n"), "{}", ran.err);
}

#[test]
fn batch_sort_sorts_all_numbers_and_leaves_no_files() {
    for args in [&[][..], &["--set", "run=7", "--set", "numbers=100"]] {
        let ran = run("batch-sort", args);
        let numbers: Vec<u64> = ran.out.lines().map(|line| line.parse().unwrap()).collect();
        let mut expected: Vec<u64> = std::iter::successors(Some(2026), |n| Some(n * 16807 % 2_147_483_647))
            .skip(1)
            .take(if args.is_empty() { 10_000 } else { 100 })
            .collect();
        expected.sort_unstable();
        assert_eq!(numbers, expected);
        assert_eq!(fs::read_dir(&ran.tmp).unwrap().count(), 0);
    }
}

#[test]
fn archive_finds_in_the_archive_what_is_in_the_folder() {
    assert!(run("archive", &[]).lines().contains(&"./archive.yaml"));
    let folder = TempDir::new().unwrap();
    // More than all pipes together hold.
    fs::write(folder.path().join("large"), vec![b'x'; 4 << 20]).unwrap();
    fs::create_dir(folder.path().join("empty folder")).unwrap();
    let ran = run("archive", &["--set", &format!("folder={}", folder.path().display())]);
    assert_eq!(ran.lines(), ["./", "./empty folder/", "./large"]);
}

#[test]
fn duplex_lets_each_pair_talk() {
    let expected: Vec<String> = (1..=5).map(|n| format!("{n} squared is {}", n * n)).collect();
    assert_eq!(run("duplex", &[]).lines(), expected);
    let ran = run("duplex", &["--pool", "client=3", "--pool", "server=3"]);
    let mut lines = ran.lines();
    lines.sort_unstable();
    let thrice: Vec<&String> = expected.iter().flat_map(|line| [line; 3]).collect();
    assert_eq!(lines, thrice);
}

#[test]
fn a_daemon_ends_with_the_work_and_may_say_its_last_words() {
    let ran = run("daemon", &[]);
    let mut lines = ran.lines();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2, "{}", ran.out);
    assert_eq!(lines[0], "1");
    assert!(lines[1].starts_with("the least memory available was "), "{}", ran.out);
}

#[test]
fn partitioned_count_sees_every_event_of_a_user_in_one_place() {
    for args in [&[][..], &["--pool", "count=8"], &["--set", "events=20000", "--pool", "count=3"]] {
        let ran = run("partitioned-count", args);
        assert_eq!(ran.lines().len(), 8, "{}", ran.out);
        assert!(ran.lines().iter().all(|line| line.ends_with("events, none missing")), "{}", ran.out);
    }
    assert_eq!(run("partitioned-count", &[]).lines()[0], "ada: 242 events, none missing");
}

#[test]
fn ports_sort_records_out() {
    let expected = ["by five: 6", "by three: 10", "neither: 16", "said: all read"];
    assert_eq!(run("ports", &[]).lines(), expected);
}

#[test]
fn shared_counter_loses_no_dart_and_says_each_round_once() {
    let ran = run("shared-counter", &[]);
    let lines = ran.lines();
    assert_eq!(lines.len(), 3, "{}", ran.out);
    for (round, line) in (1..).zip(&lines) {
        assert!(line.starts_with(&format!("round {round}: pi is about 3.1")), "{line}");
        assert!(line.ends_with(&format!("by {} darts", round * 80_000)), "{line}");
    }
    assert_eq!(ran.err.matches("times in round").count(), 12, "{}", ran.err);
}
