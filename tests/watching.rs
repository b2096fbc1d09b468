//! `mpflow run --watch`, `mpflow reload` and SIGHUP: a run follows its files (section 8 of the language).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use support::{Running, Scenario, Signal, Value};

/// A source that never ends, and a stage whose script is a file.
const LIVE: &str = "
stages:
  numbers: {command: 'while echo x; do sleep 0.005; done'}
  mark: {command: [sh, mark.sh]}
edges:
  - queue: numbers -> mark -> stdout
";

/// A script that writes this for each record.
fn marks(with: &str) -> String {
    format!("while read x; do echo {with}; done\n")
}

fn watched(pipeline: &str) -> Scenario {
    Scenario::new(pipeline).args(["--watch"]).env("PATH", &support::path_with_python())
}

/// As an editor does: another file in the place of the old one.
fn save(run: &Running, name: &str, text: &str) {
    fs::write(run.path("saved.tmp"), text).unwrap();
    fs::rename(run.path("saved.tmp"), run.path(name)).unwrap();
}

/// Waits until this is the newest line of the output.
#[track_caller]
fn wait_for_last(run: &Running, line: &str) {
    run.wait_until(&format!("`{line}` at the end of the output"), || {
        let output = String::from_utf8(run.output()).unwrap();
        (output.lines().last() == Some(line)).then_some(())
    });
}

fn pid_of(run: &Running, worker: &str) -> i64 {
    // Events come a moment after what they tell of.
    let started = run.wait_until("the worker is told of", || {
        let is_its_start =
            |event: &serde_json::Value| event["event"] == "worker_started" && event["worker"] == worker;
        run.events().into_iter().rfind(is_its_start)
    });
    started["pid"].as_i64().unwrap()
}

#[test]
fn a_stage_follows_its_script_and_the_others_keep_their_workers() {
    let run = watched(LIVE).file("mark.sh", marks("one")).start();
    wait_for_last(&run, "one");
    let source = pid_of(&run, "numbers");
    save(&run, "mark.sh", &marks("two"));
    wait_for_last(&run, "two");
    run.wait_for_message("reloaded in");
    assert!(run.messages().contains("replaced `mark`; 1 stage as it was"), "{}", run.messages());
    assert_eq!(pid_of(&run, "numbers"), source);
    run.signal(Signal::SIGINT);
    let run = run.finish().ended(130);
    assert_eq!(run.events_of("reloaded").len(), 1);
}

#[test]
fn of_a_hundred_saves_at_random_gaps_the_last_is_in_effect() {
    let run = watched(LIVE).file("mark.sh", marks("first")).start();
    wait_for_last(&run, "first");
    for number in 0..100 {
        save(&run, "mark.sh", &marks(&format!("save-{number}")));
        // Some within one gathering, some during a reload, some after it.
        thread::sleep(Duration::from_millis(fastrand::u64(0..150)));
    }
    wait_for_last(&run, "save-99");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn a_wrong_document_is_shown_and_the_run_goes_on_until_it_is_right() {
    let run = watched(LIVE).file("mark.sh", marks("one")).file("other.sh", marks("other")).start();
    wait_for_last(&run, "one");
    save(&run, "pipeline.yaml", &LIVE.replace("command: [sh", "comand: [sh"));
    run.wait_for_message("not reloaded, and the run goes on as it was");
    assert!(run.messages().contains("did you mean `command`?"), "{}", run.messages());
    let lines = run.output().len();
    run.wait_until("more output", || (run.output().len() > lines + 100).then_some(()));
    save(&run, "pipeline.yaml", &LIVE.replace("mark.sh", "other.sh"));
    wait_for_last(&run, "other");
    // The file that is watched now is the one that is run now.
    save(&run, "other.sh", &marks("another"));
    wait_for_last(&run, "another");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn a_save_with_a_mistake_in_it_costs_no_run_and_the_next_one_mends_it() {
    let run = watched(
        "
stages:
  numbers: {command: 'i=0; while true; do i=$((i + 1)); echo $i; sleep 0.005; done'}
  mark: {python: 'tasks:mark', pool: 2}
edges:
  - queue: numbers -> mark -> stdout
",
    )
    .file("tasks.py", "def mark(x):\n    return 'a'\n")
    .start();
    wait_for_last(&run, "a");
    save(&run, "tasks.py", "def mark(x):\n    return wrod\n");
    run.wait_for_message("the new `mark` failed");
    assert!(run.messages().contains("waits until the next reload"), "{}", run.messages());
    save(&run, "tasks.py", "def mark(x):\n    return 'b'\n");
    wait_for_last(&run, "b");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

/// Where the kernel gives this user no more of this, watching goes on all the same.
fn follows_without(limit: &str, setting: &str) {
    let namespace = ["unshare", "--user", "--map-root-user", "sh", "-c"];
    let script = format!("echo 0 > /proc/sys/user/{limit} || exit 99\nexec \"$@\"");
    let probe = Command::new(namespace[0]).args(&namespace[1..]).args([&script, "sh", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: user namespaces and their limits of inotify are not allowed here");
        return;
    }
    let [unshare, user, root, sh, c] = namespace;
    let run = watched(LIVE)
        .file("mark.sh", marks("one"))
        .through([unshare, user, root, sh, c, &script, "sh"])
        .start();
    run.wait_for_message("files are looked at twice a second, since the kernel");
    assert!(run.messages().contains(setting), "{}", run.messages());
    wait_for_last(&run, "one");
    save(&run, "mark.sh", &marks("two"));
    wait_for_last(&run, "two");
    run.wait_for_message("replaced `mark`; 1 stage as it was");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn without_inotify_instances_files_are_looked_at_and_the_setting_is_named() {
    follows_without("max_inotify_instances", "raise `fs.inotify.max_user_instances`");
}

#[test]
fn without_inotify_watches_files_are_looked_at_and_the_setting_is_named() {
    follows_without("max_inotify_watches", "raise `fs.inotify.max_user_watches`");
}

#[test]
fn whoever_asks_for_it_has_files_looked_at_twice_a_second() {
    let run = Scenario::new(LIVE).args(["--watch", "--poll"]).file("mark.sh", marks("one")).start();
    run.wait_for_message("files are looked at twice a second, since that was asked for");
    wait_for_last(&run, "one");
    save(&run, "mark.sh", &marks("two"));
    wait_for_last(&run, "two");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn a_python_stage_follows_whatever_its_workers_import() {
    let run = watched(
        "
stages:
  numbers: {command: 'while echo x; do sleep 0.005; done'}
  mark: {python: 'tasks:mark', pool: 2}
  plain: {python: 'plain:same'}
edges:
  - queue: numbers -> mark -> plain -> stdout
",
    )
    .file(
        "tasks.py",
        "import helper\ndef mark(x):\n    import late\n    return f'{helper.WORD} {late.WORD}'\n",
    )
    .file("helper.py", "WORD = 'a'\n")
    .file("late.py", "WORD = '1'\n")
    .file("plain.py", "def same(x):\n    return x\n")
    .start();
    wait_for_last(&run, "a 1");
    run.wait_for("stage_files", |event| event["files"].to_string().contains("late.py"));
    let plain = pid_of(&run, "plain");
    save(&run, "helper.py", "WORD = 'b'\n");
    wait_for_last(&run, "b 1");
    save(&run, "late.py", "WORD = '2'\n");
    wait_for_last(&run, "b 2");
    // What cannot be imported is not in effect, and is known all the same.
    save(&run, "helper.py", "WORD = \n");
    run.wait_for_message("nothing was reloaded, since the new");
    save(&run, "helper.py", "WORD = 'c'\n");
    wait_for_last(&run, "c 2");
    assert_eq!(pid_of(&run, "plain"), plain);
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn a_pipeline_that_has_finished_runs_again_when_a_file_changes() {
    let run = watched("stages: {say: {command: cat text.txt}}").file("text.txt", "one\n").start();
    run.wait_for_message("waiting for a change of the files");
    assert_eq!(run.output(), b"one\n");
    save(&run, "text.txt", "two\n");
    run.wait_until("the second run", || (run.output() == b"one\ntwo\n").then_some(()));
    run.wait_until("its end", || (run.messages().matches("waiting for").count() == 2).then_some(()));
    save(&run, "pipeline.yaml", "stages: {say: {command: [cat}}");
    run.wait_for_message("the pipeline is wrong; waiting for a change of its files");
    save(&run, "pipeline.yaml", "stages: {say: {command: echo three}}");
    run.wait_until("the third run", || (run.output() == b"one\ntwo\nthree\n").then_some(()));
    // Whether it still runs or waits again: this ends it.
    run.signal(Signal::SIGINT);
    let run = run.finish();
    assert!(matches!(run.status.code(), Some(0 | 130)), "{:?}\n{}", run.status, run.told());
}

#[test]
fn a_stage_that_writes_into_its_own_watched_tree_is_named_and_the_others_are_not_affected() {
    let run = watched(
        "
stages:
  numbers: {command: 'while echo x; do sleep 0.005; done'}
  mark: {command: [sh, mark.sh]}
  writer: {command: 'date +%s%N > state/now.txt; cat > /dev/null', watch: ['state/*']}
edges:
  - queue: numbers -> mark -> stdout
  - queue: numbers -> writer
",
    )
    .file("mark.sh", marks("one"));
    fs::create_dir(run.path("state")).unwrap();
    let run = run.start();
    run.wait_for_message("stage `writer` writes `state/now.txt`, which it watches");
    let source = pid_of(&run, "numbers");
    save(&run, "mark.sh", &marks("two"));
    wait_for_last(&run, "two");
    assert_eq!(pid_of(&run, "numbers"), source);
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

/// `mpflow` asks this run something.
fn ask(run: &Running, words: &[&str]) -> Output {
    let id = run.wait_for_event("run_started")["run_id"].as_str().unwrap().to_owned();
    run.wait_until("an answer", || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
        let output = command.args([&words[..1], &[&id], &words[1..]].concat()).output().unwrap();
        // Its socket comes a moment after its first event.
        let is_early = String::from_utf8_lossy(&output.stderr).contains("no run");
        (!is_early).then_some(output)
    })
}

fn reload(run: &Running) -> (Option<i32>, Value, String) {
    let output = reload_as(run, "json");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
}

fn reload_as(run: &Running, format: &str) -> Output {
    ask(run, &["reload", "--format", format])
}

#[test]
fn a_reload_sees_which_files_have_changed_though_nobody_watches_them() {
    let pipeline = "
stages:
  numbers: {command: 'while echo x; do sleep 0.005; done'}
  mark: {python: 'tasks:mark'}
  again: {command: [sh, again.sh]}
edges:
  - queue: numbers -> mark -> again -> stdout
";
    let run = Scenario::new(pipeline)
        .env("PATH", &support::path_with_python())
        .file("tasks.py", "from words import word\n\ndef mark(_):\n    return word\n")
        .file("words.py", "word = 'one'\n")
        .file("again.sh", "while read x; do echo $x; done\n")
        .start();
    wait_for_last(&run, "one");
    let (code, answer, _) = reload(&run);
    assert_eq!(code, Some(0));
    assert!(
        answer["change"]["stages"].as_array().unwrap().iter().all(|stage| stage["step"] == "same"),
        "{answer}"
    );
    save(&run, "words.py", "word = 'two'\n");
    let again = pid_of(&run, "again");
    let (code, answer, _) = reload(&run);
    assert_eq!(code, Some(0));
    let stages = &answer["change"]["stages"];
    assert_eq!(stages[1]["step"], "replace", "{stages}");
    assert_eq!(stages[1]["why"][0]["reason"], "words.py has changed", "{stages}");
    wait_for_last(&run, "two");
    assert_eq!(pid_of(&run, "again"), again, "who runs other files is not touched");
    // A wrong document takes none of it back.
    save(&run, "words.py", "word = 'three'\n");
    save(&run, "pipeline.yaml", "stages: {}");
    assert_eq!(reload(&run).0, Some(2));
    save(&run, "pipeline.yaml", pipeline);
    run.signal(Signal::SIGHUP);
    wait_for_last(&run, "three");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}

#[test]
fn a_run_that_watches_and_has_failed_ends_when_it_is_stopped() {
    let run = watched(LIVE).file("mark.sh", marks("one")).start();
    wait_for_last(&run, "one");
    save(&run, "mark.sh", "exit 3\n");
    run.wait_for_event("stage_fell");
    ask(&run, &["stop"]);
    run.finish().ended(1).never_said(["waiting for a change"]);
}

#[test]
fn a_reload_from_outside_returns_when_it_has_taken_effect_with_what_has_changed() {
    let run = Scenario::new(LIVE).file("mark.sh", marks("one")).file("other.sh", marks("other")).start();
    wait_for_last(&run, "one");
    assert_eq!(reload(&run).1["change"]["summary"], "nothing has changed");
    assert_eq!(String::from_utf8(reload_as(&run, "text").stdout).unwrap(), "nothing has changed\n");
    save(&run, "pipeline.yaml", &LIVE.replace("mark.sh", "other.sh"));
    let (code, answer, _) = reload(&run);
    assert_eq!((code, &answer["change"]["summary"]), (Some(0), &"replaced `mark`; 1 stage as it was".into()));
    wait_for_last(&run, "other");
    save(&run, "pipeline.yaml", "stages: 5");
    let error = String::from_utf8(reload_as(&run, "text").stderr).unwrap();
    assert!(error.contains("the run goes on as it was: the pipeline is wrong"), "{error}");
    assert!(
        error.contains("mpflow::") && error.contains("pipeline.yaml:"),
        "what is wrong, and where: {error}"
    );
    let (code, wrong, error) = reload(&run);
    assert_eq!((code, error.as_str()), (Some(2), ""));
    let mut check = Command::new(env!("CARGO_BIN_EXE_mpflow"));
    let checked = check.args(["check", "--format", "json"]).arg(run.path("pipeline.yaml")).output().unwrap();
    let mut checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    // Each names the file as it was named to it.
    assert!(wrong[0]["file"].as_str().unwrap().ends_with("pipeline.yaml"));
    checked[0]["file"] = wrong[0]["file"].clone();
    assert_eq!(wrong, checked);
    save(&run, "pipeline.yaml", LIVE);
    run.signal(Signal::SIGHUP);
    wait_for_last(&run, "one");
    run.signal(Signal::SIGINT);
    run.finish().ended(130);
}
