//! The command line as a user meets it: what goes to standard output, what to standard error, and the exit code.
//!
//! Runs of pipelines have tests of their own; here nothing is started.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use rstest::rstest;
use tempfile::TempDir;

/// A pipeline in which nothing is wrong.
const RIGHT: &str = "\
name: squares
vars: {count: 10}
stages:
  numbers: {command: 'seq ${{ vars.count }}'}
  square: {command: cat, pool: 4}
  log: {command: cat, daemon: true}
edges:
  - queue: numbers -> square -> stdout
  - queue: square -> log
";

/// Two keys that do not exist.
const WRONG: &str = "\
stages:
  numbers: {command: seq 10, pol: 4}
edges:
  - {queue: numbers -> stdout, capcity: 10}
";

/// A stage that does not exist.
const TANGLED: &str = "\
stages:
  numbers: {command: seq 10}
edges:
  - queue: numbrs -> stdout
";

/// `mpflow` with these arguments, in an environment that changes nothing about its output.
fn mpflow(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
    command.args(args).env("LANG", "C.UTF-8").env_remove("LC_ALL").env_remove("LC_CTYPE");
    command.env_remove("MPFLOW_LOG").env_remove("NO_COLOR");
    command
}

/// A folder with `right.yaml` and `wrong.yaml`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("right.yaml"), RIGHT).unwrap();
    fs::write(folder.path().join("wrong.yaml"), WRONG).unwrap();
    folder
}

fn in_folder(folder: &TempDir, args: &[&str]) -> Assert {
    mpflow(args).current_dir(folder).assert()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[rstest]
#[case::no_command(&[])]
#[case::unknown_command(&["rnu", "x.yaml"])]
#[case::unknown_option(&["run", "--wacth", "right.yaml"])]
#[case::no_file(&["run"])]
#[case::no_such_file(&["run", "missing.yaml"])]
#[case::a_folder(&["run", "."])]
#[case::set_without_a_value(&["run", "--set", "count", "right.yaml"])]
#[case::set_of_an_unknown_variable(&["check", "--set", "cuont=3", "right.yaml"])]
#[case::pool_of_an_unknown_stage(&["check", "--pool", "sqare=3", "right.yaml"])]
#[case::pool_that_is_no_number(&["check", "--pool", "square=many", "right.yaml"])]
#[case::unknown_progress(&["run", "--progress", "loud", "right.yaml"])]
#[case::quiet_and_progress(&["run", "-q", "--progress", "plain", "right.yaml"])]
#[case::run_of_standard_input(&["run", "-"])]
#[case::report_to_standard_output(&["run", "--report", "-", "right.yaml"])]
#[case::report_into_no_folder(&["run", "--report", "missing/report.json", "right.yaml"])]
#[case::report_onto_a_folder(&["run", "--report", ".", "right.yaml"])]
#[case::events_into_no_folder(&["run", "--events", "missing/events", "right.yaml"])]
#[case::report_and_events_in_one(&["run", "--report", "x", "--events", "x", "right.yaml"])]
#[case::report_onto_the_pipeline(&["run", "--report", "./right.yaml", "right.yaml"])]
#[case::events_onto_the_pipeline(&["run", "--events", "right.yaml", "right.yaml"])]
#[case::wrong_pipeline(&["run", "wrong.yaml"])]
#[case::graph_of_a_wrong_pipeline(&["graph", "wrong.yaml"])]
#[case::unknown_shell(&["completions", "command.com"])]
#[case::man_of_an_unknown_command(&["man", "rnu"])]
fn a_wrong_command_line_or_pipeline_is_told_and_ends_with_2(#[case] args: &[&str]) {
    let folder = folder();
    let assert = in_folder(&folder, args).code(2);
    assert_eq!(stdout(&assert), "");
    assert_ne!(stderr(&assert), "");
    assert_eq!(names(folder.path()), ["right.yaml", "wrong.yaml"], "nothing is left behind");
}

#[test]
fn help_and_version_are_an_answer_and_not_an_error() {
    for args in [&["--help"][..], &["-h"], &["--version"], &["help", "run"], &["run", "--help"]] {
        let assert = mpflow(args).assert().success();
        assert_eq!(stderr(&assert), "");
        assert!(stdout(&assert).contains("mpflow"), "{args:?}");
    }
}

#[test]
fn check_says_ok_for_each_right_file() {
    let folder = folder();
    let assert = in_folder(&folder, &["check", "right.yaml", "./right.yaml"]).success();
    assert_eq!(stdout(&assert), "right.yaml: ok\n./right.yaml: ok\n");
    assert_eq!(stderr(&assert), "");
}

#[test]
fn check_looks_at_all_files_and_shows_all_mistakes_at_their_places() {
    let folder = folder();
    let assert = in_folder(&folder, &["check", "wrong.yaml", "right.yaml"]).code(2);
    assert_eq!(stdout(&assert), "right.yaml: ok\n");
    let shown = stderr(&assert);
    for part in
        ["wrong.yaml:2:", "did you mean `pool`?", "wrong.yaml:4:", "did you mean `capacity`?", "2 errors"]
    {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn check_shows_what_is_wrong_with_the_graph_at_its_place() {
    let assert = mpflow(&["check", "-"]).write_stdin(TANGLED).assert().code(2);
    let shown = stderr(&assert);
    for part in ["mpflow::unknown_stage", "<stdin>:4:", "did you mean `numbers`?"] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
}

#[test]
fn where_the_locale_is_not_utf_8_diagnostics_are_ascii() {
    let folder = folder();
    let assert = mpflow(&["check", "wrong.yaml"]).current_dir(&folder).env("LANG", "C").assert().code(2);
    assert!(stderr(&assert).is_ascii(), "{}", stderr(&assert));
}

#[test]
fn check_answers_in_json_for_programs() {
    let folder = folder();
    let assert = in_folder(&folder, &["check", "--format", "json", "wrong.yaml", "right.yaml"]).code(2);
    assert_eq!(stderr(&assert), "");
    let found: serde_json::Value = serde_json::from_str(&stdout(&assert)).unwrap();
    let found = found.as_array().unwrap();
    let codes: Vec<&str> = found.iter().map(|entry| entry["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["mpflow::unknown_key", "mpflow::unknown_key"]);
    assert!(found.iter().all(|entry| entry["file"] == "wrong.yaml" && entry["severity"] == "error"));
    assert_eq!(found[1]["labels"][0]["line"], 4);

    let assert = in_folder(&folder, &["check", "--format", "json", "right.yaml"]).success();
    assert_eq!(stdout(&assert).trim(), "[]");
}

#[test]
fn check_and_graph_read_standard_input() {
    let assert = mpflow(&["check", "-"]).write_stdin(RIGHT).assert().success();
    assert_eq!(stdout(&assert), "<stdin>: ok\n");
    let assert = mpflow(&["graph", "-"]).write_stdin(RIGHT).assert().success();
    assert!(stdout(&assert).contains("square"));
    let assert = mpflow(&["check", "-"]).write_stdin(WRONG).assert().code(2);
    assert!(stderr(&assert).contains("<stdin>:4:"), "{}", stderr(&assert));
}

#[test]
fn set_and_pool_stand_in_the_place_of_the_document() {
    let folder = folder();
    let args = ["graph", "right.yaml", "--set", "count=77", "--pool", "square=23"];
    let assert = in_folder(&folder, &args).success();
    let drawing = stdout(&assert);
    assert!(drawing.contains("23"), "{drawing}");
}

#[rstest]
#[case::text("text", "square")]
#[case::dot("dot", "digraph")]
#[case::mermaid("mermaid", "flowchart")]
#[case::svg("svg", "<svg")]
fn graph_draws_in_every_format(#[case] format: &str, #[case] part: &str) {
    let folder = folder();
    let drawn = in_folder(&folder, &["graph", "right.yaml", "--format", format]).success();
    assert!(stdout(&drawn).contains(part), "{}", stdout(&drawn));
    assert!(stdout(&drawn).ends_with('\n'));
    let written = in_folder(&folder, &["graph", "right.yaml", "--format", format, "-o", "drawing"]).success();
    assert_eq!(stdout(&written), "");
    assert_eq!(fs::read_to_string(folder.path().join("drawing")).unwrap(), stdout(&drawn));
}

#[test]
fn the_schema_is_json_and_accepts_a_right_pipeline() {
    let assert = mpflow(&["schema"]).assert().success();
    let schema: serde_json::Value = serde_json::from_str(&stdout(&assert)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let document = |text: &str| serde_yaml::from_str::<serde_json::Value>(text).unwrap();
    assert!(validator.is_valid(&document(RIGHT)));
    assert!(!validator.is_valid(&document(WRONG)));
}

#[test]
fn init_writes_a_pipeline_that_is_right_and_never_overwrites() {
    let folder = TempDir::new().unwrap();
    let assert = in_folder(&folder, &["init"]).success();
    assert!(stdout(&assert).contains("mpflow run pipeline.yaml"));
    in_folder(&folder, &["check", "pipeline.yaml"]).success();
    in_folder(&folder, &["init", "deep/er"]).success();
    in_folder(&folder, &["check", "deep/er/pipeline.yaml"]).success();

    let path = folder.path().join("pipeline.yaml");
    fs::write(&path, "mine").unwrap();
    let assert = in_folder(&folder, &["init"]).code(2);
    assert!(stderr(&assert).contains("`pipeline.yaml` exists already"));
    assert_eq!(fs::read_to_string(path).unwrap(), "mine");
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn completions_know_the_commands(#[case] shell: &str) {
    let assert = mpflow(&["completions", shell]).assert().success();
    assert!(stdout(&assert).contains("--progress"));
}

#[test]
fn man_prints_one_page_and_writes_all() {
    let root = mpflow(&["man"]).assert().success();
    assert!(stdout(&root).contains(".TH mpflow 1"));
    let run = mpflow(&["man", "run"]).assert().success();
    assert!(stdout(&run).contains("mpflow\\-run"));
    let folder = TempDir::new().unwrap();
    in_folder(&folder, &["man", "--dir", "man1"]).success();
    assert!(names(&folder.path().join("man1")).contains(&"mpflow-run.1".to_owned()));
}

#[test]
fn a_pipeline_of_another_programs_functions_is_right_but_refused() {
    let folder = TempDir::new().unwrap();
    let text = "\
stages:
  a: {function: source}
  b: {command: cat}
edges:
  - queue: a -> b
";
    fs::write(folder.path().join("other.yaml"), text).unwrap();
    in_folder(&folder, &["check", "other.yaml"]).success();
    let assert = in_folder(&folder, &["run", "other.yaml"]).code(2);
    let shown = stderr(&assert);
    assert_eq!(shown.matches("mpflow::no_functions").count(), 1, "{shown}");
    assert!(shown.contains("other.yaml:2:"), "{shown}");
}
