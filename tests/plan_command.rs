//! `mpflow plan` as a user meets it, and every key of the language in turn: what a change of it comes to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use mpflow::change::{Change, Step, Why};
use mpflow::language::{self, ParseOptions};
use mpflow::pipeline::{Effect, KEYS, Level, Pipeline};
use support::Value;
use tempfile::TempDir;

/// One key: what surrounds it, and two values of it. `{}` is where the key stands.
struct Case {
    level: Level,
    key: &'static str,
    /// The pipeline around it.
    within: &'static str,
    old: &'static str,
    new: &'static str,
}

const TOP: &str = "{}\nstages:\n  it: {command: [cat, '${{ vars.x | default(1) }}']}\n  other: {command: cat}\nedges:\n  - queue: it -> other\n";
const COMMAND: &str =
    "stages:\n  from: {command: seq 3}\n  it: {command: [cat], {}}\nedges:\n  - queue: from -> it\n";
const MAP: &str = "stages:\n  from: {command: seq 3}\n  it: {command: [cat], mode: map, {}}\nedges:\n  - queue: from -> it\n";
const EACH: &str = "stages:\n  from: {command: seq 3}\n  it: {command: [cat], mode: each, {}}\nedges:\n  - queue: from -> it\n";
const PYTHON: &str =
    "stages:\n  from: {command: seq 3}\n  it: {python: 'tasks:work', {}}\nedges:\n  - queue: from -> it\n";
const BODY: &str = "stages:\n  from: {command: seq 3}\n  it: {{}}\nedges:\n  - queue: from -> it\n";
const SOURCE: &str = "stages:\n  it: {command: [cat], {}}\n";
const DEPENDS: &str = "stages:\n  from: {command: seq 3}\n  it: {command: [cat], {}}\n  db: {command: cat}\nedges:\n  - queue: from -> it\n  - queue: from -> db\n";
const QUEUE: &str = "stages:\n  from: {command: seq 3}\n  it: {command: [cat], pool: 2}\nedges:\n  - {queue: from -> it, {}}\n";
const ARROW: &str = "stages:\n  from: {command: seq 3}\n  it: {command: cat}\n  that: {command: cat}\nedges:\n  - queue: from -> it\n  - queue: from -> that\n  - {}\n";
const PIPE: &str =
    "stages:\n  from: {command: seq 3}\n  it: {command: cat}\nedges:\n  - {pipe: from -> it, {}}\n";

const CASES: &[Case] = &[
    top("version", "version: 1", ""),
    top("name", "name: one", "name: two"),
    top("description", "description: one", "description: two"),
    top("vars", "vars: {x: 1}", "vars: {x: 2}"),
    top("env", "env: {A: one}", "env: {A: two}"),
    top("env_file", "env_file: one.env", "env_file: two.env"),
    top("defaults", "defaults: {cwd: /}", "defaults: {cwd: /tmp}"),
    Case {
        level: Level::Top,
        key: "stages",
        within: "{}",
        old: "stages: {it: {command: cat}, other: {command: cat}}",
        new: "stages: {it: {command: cat}, new: {command: cat}}",
    },
    Case {
        level: Level::Top,
        key: "edges",
        within: "stages: {it: {command: cat}, other: {command: cat}, x: {command: seq 3}}\n{}",
        old: "edges: [{queue: x -> it}, {queue: x -> other}]",
        new: "edges: [{queue: x -> it}, {queue: it -> other}]",
    },
    top("shared", "shared: {go: {event: false}}", "shared: {go: {event: true}}"),
    top("stop", "stop: {grace: 3s}", "stop: {grace: 4s}"),
    stage("command", BODY, "command: [cat]", "command: [cat, -u]"),
    stage("python", BODY, "python: 'tasks:work'", "python: 'tasks:play'"),
    stage("function", BODY, "function: work", "function: play"),
    stage("mode", COMMAND, "mode: map", "mode: each"),
    stage("pool", COMMAND, "pool: 2", "pool: 3"),
    stage("ordered", MAP, "ordered: false", "ordered: true"),
    stage("daemon", COMMAND, "daemon: false", "daemon: true"),
    stage("start_method", PYTHON, "start_method: spawn", "start_method: fork"),
    stage("preload", PYTHON, "start_method: fork, preload: [json]", "start_method: fork, preload: [csv]"),
    stage("python_executable", PYTHON, "python_executable: python3", "python_executable: /usr/bin/python3"),
    stage("initializer", PYTHON, "initializer: 'tasks:one'", "initializer: 'tasks:two'"),
    stage("args", PYTHON, "args: [1]", "args: [2]"),
    stage("kwargs", PYTHON, "kwargs: {a: 1}", "kwargs: {a: 2}"),
    stage("unpack", PYTHON, "unpack: false", "unpack: true"),
    stage("env", COMMAND, "env: {A: one}", "env: {A: two}"),
    stage("cwd", COMMAND, "cwd: /", "cwd: /tmp"),
    stage("inherit_env", COMMAND, "inherit_env: true", "inherit_env: false"),
    stage("stdin", SOURCE, "stdin: one.txt", "stdin: two.txt"),
    stage("stdout", COMMAND, "stdout: one.txt", "stdout: two.txt"),
    stage("prefetch", MAP, "prefetch: 1", "prefetch: 2"),
    stage("batch", EACH, "batch: 2", "batch: 3"),
    stage("max_records_per_worker", MAP, "max_records_per_worker: 2", "max_records_per_worker: 3"),
    stage("record_timeout", MAP, "record_timeout: 2s", "record_timeout: 3s"),
    stage("retry", MAP, "retry: 2", "retry: 3"),
    stage("on_error", MAP, "on_error: fail", "on_error: skip"),
    stage("restart", COMMAND, "restart: never", "restart: always"),
    stage("on_failure", COMMAND, "on_failure: stop", "on_failure: continue"),
    stage("depends_on", DEPENDS, "depends_on: {db: ready}", "depends_on: {db: started}"),
    stage("ready", COMMAND, "ready: {tcp: 'localhost:1'}", "ready: {tcp: 'localhost:2'}"),
    stage("timeout", COMMAND, "timeout: 2s", "timeout: 3s"),
    stage("line_buffered", COMMAND, "line_buffered: false", "line_buffered: true"),
    stage("success_exit", COMMAND, "success_exit: [0]", "success_exit: [0, 1]"),
    stage("exclusive", COMMAND, "exclusive: false", "exclusive: true"),
    stage("stop", COMMAND, "stop: {grace: 2s}", "stop: {grace: 3s}"),
    stage("limits", COMMAND, "limits: {nice: 1}", "limits: {nice: 2}"),
    stage("stderr", COMMAND, "stderr: inherit", "stderr: 'null'"),
    stage("watch", COMMAND, "watch: ['*.txt']", "watch: ['*.csv']"),
    Case {
        level: Level::Queue,
        key: "queue",
        within: ARROW,
        old: "queue: it -> stdout",
        new: "queue: it -> that",
    },
    queue("format", "format: lines", "format: nul"),
    queue("capacity", "capacity: 10", "capacity: 20"),
    queue("capacity_bytes", "capacity_bytes: 1MiB", "capacity_bytes: 2MiB"),
    queue("max_record", "max_record: 1MiB", "max_record: 2MiB"),
    queue("when_full", "when_full: block", "when_full: drop_oldest"),
    queue("partition_by", "partition_by: 1", "partition_by: 2"),
    queue("to_each", "to_each: false", "to_each: true"),
    Case {
        level: Level::Pipe,
        key: "pipe",
        within: ARROW,
        old: "pipe: it.x -> that.x",
        new: "pipe: it.y -> that.x",
    },
    Case { level: Level::Pipe, key: "duplex", within: PIPE, old: "duplex: false", new: "duplex: true" },
    Case { level: Level::Pipe, key: "size", within: PIPE, old: "size: 64KiB", new: "size: 128KiB" },
];

const fn top(key: &'static str, old: &'static str, new: &'static str) -> Case {
    Case { level: Level::Top, key, within: TOP, old, new }
}

const fn stage(key: &'static str, within: &'static str, old: &'static str, new: &'static str) -> Case {
    Case { level: Level::Stage, key, within, old, new }
}

const fn queue(key: &'static str, old: &'static str, new: &'static str) -> Case {
    Case { level: Level::Queue, key, within: QUEUE, old, new }
}

/// A folder with what the pipelines name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("one.env", "A=one\n"), ("two.env", "A=two\n"), ("one.txt", ""), ("two.txt", "")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn pipeline(text: &str, folder: &Path) -> Pipeline {
    Pipeline::from_yaml_with(text, folder.join("pipeline.yaml"), &ParseOptions::of_this_process())
        .unwrap_or_else(|diagnostics| panic!("{text}\n{diagnostics:?}"))
}

fn change(case: &Case) -> Change {
    let folder = folder();
    let text = |value: &str| {
        // A key that is left out leaves no comma behind.
        case.within.replacen("{}", value, 1).replace(", }", "}")
    };
    compare(&text(case.old), &text(case.new), folder.path())
}

fn compare(old: &str, new: &str, folder: &Path) -> Change {
    pipeline(old, folder).compare(&pipeline(new, folder), &BTreeMap::new())
}

fn is_because_of(why: &[Why], key: &str) -> bool {
    why.iter().any(|why| matches!(why, Why::Key { key: of, .. } if *of == key))
}

/// The keys of one part of the language, by its schema.
fn keys_of_schema(level: Level) -> BTreeSet<String> {
    let schema = language::schema();
    let part = match level {
        Level::Top => &schema,
        Level::Stage => &schema["definitions"]["Stage"],
        Level::Queue => &schema["definitions"]["Queue"],
        Level::Pipe => &schema["definitions"]["Pipe"],
    };
    part["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_key_of_the_language_is_in_the_table_once_and_is_changed_by_a_test() {
    for level in [Level::Top, Level::Stage, Level::Queue, Level::Pipe] {
        let schema = keys_of_schema(level);
        let table: Vec<String> =
            KEYS.iter().filter(|key| key.level == level).map(|key| key.name.to_owned()).collect();
        let cases: Vec<String> =
            CASES.iter().filter(|case| case.level == level).map(|case| case.key.to_owned()).collect();
        for (what, keys) in [("the table", table), ("the cases", cases)] {
            let count = keys.len();
            let keys: BTreeSet<String> = keys.into_iter().collect();
            assert_eq!(keys, schema, "{level:?} in {what}");
            assert_eq!(count, keys.len(), "{level:?} in {what}: one of them twice");
        }
    }
}

#[test]
fn each_key_comes_to_what_the_table_says_of_it() {
    for case in CASES {
        let change = change(case);
        let key = KEYS.iter().find(|key| key.level == case.level && key.name == case.key).unwrap();
        let what = format!("{:?} `{}`: {change:#?}", case.level, case.key);
        let it = change.stage("it").unwrap_or_else(|| panic!("{what}"));
        let from = change.stage("from").map_or(Step::Same, |from| from.step);
        let edge = change.edge("from -> it");
        match key.effect {
            Effect::Adopt => {
                assert!(change.adopted.contains(&case.key), "{what}");
                // A top level `stop` is the stages' as well, where they have none.
                assert!(it.step == Step::Same || case.key == "stop", "{what}");
            }
            Effect::Resize if case.level == Level::Stage => {
                assert_eq!((it.step, from), (Step::Resize, Step::Same), "{what}");
                assert!(is_because_of(&it.why, case.key), "{what}");
            }
            Effect::Replace if case.level == Level::Stage => {
                assert_eq!((it.step, from), (Step::Replace, Step::Same), "{what}");
                assert!(is_because_of(&it.why, case.key), "{what}");
                assert!(edge.is_none_or(|edge| edge.step == Step::Same), "{what}");
            }
            Effect::Resize => {
                assert_eq!(edge.unwrap().step, Step::Resize, "{what}");
                assert_eq!((it.step, from), (Step::Same, Step::Same), "{what}");
                assert!(is_because_of(&edge.unwrap().why, case.key), "{what}");
            }
            Effect::Replace if case.key == "duplex" => {
                // The ends of a duplex pipe have other names: it is another edge.
                assert_eq!((it.step, from), (Step::Replace, Step::Replace), "{what}");
            }
            Effect::Replace => {
                assert_eq!(edge.unwrap().step, Step::Replace, "{what}");
                assert_eq!((it.step, from), (Step::Replace, Step::Replace), "{what}");
            }
            Effect::ReplaceProducer => {
                assert_eq!(edge.unwrap().step, Step::Resize, "{what}");
                assert_eq!((it.step, from), (Step::Same, Step::Replace), "{what}");
            }
            Effect::ReplaceConsumer => {
                assert_eq!(edge.unwrap().step, Step::Rewire, "{what}");
                assert_eq!((it.step, from), (Step::Replace, Step::Same), "{what}");
            }
            Effect::BeginAnew => {
                assert_eq!(edge.unwrap().step, Step::Replace, "{what}");
                assert_eq!((it.step, from), (Step::Replace, Step::Rewire), "{what}");
            }
            Effect::Rewire => {
                assert!(change.edges.iter().any(|edge| edge.step == Step::Add), "{what}");
                assert!(change.edges.iter().any(|edge| edge.step == Step::Remove), "{what}");
            }
            Effect::NewRun => assert!(!change.new_run.is_empty(), "{what}"),
            Effect::Resolved => match case.key {
                "version" | "description" => assert!(change.is_nothing(), "{what}"),
                "vars" | "env" | "env_file" | "defaults" => assert_eq!(it.step, Step::Replace, "{what}"),
                "stages" => {
                    assert_eq!(change.stage("other").unwrap().step, Step::Remove, "{what}");
                    assert_eq!(change.stage("new").unwrap().step, Step::Add, "{what}");
                }
                "edges" => {
                    assert_eq!(change.edge("x -> other").unwrap().step, Step::Remove, "{what}");
                    assert_eq!(change.edge("it -> other").unwrap().step, Step::Add, "{what}");
                }
                other => panic!("say what `{other}` comes to"),
            },
        }
    }
}

/// Keys within keys of a stage: two values that differ in nothing else.
const NESTED: &[(&str, &str, &str, &str, &str)] = &[
    ("batch", "bytes", EACH, "batch: {bytes: 1KiB}", "batch: {bytes: 2KiB}"),
    ("batch", "size", EACH, "batch: {size: 2}", "batch: {size: 3}"),
    ("batch", "wait", EACH, "batch: {size: 2, wait: 1s}", "batch: {size: 2, wait: 2s}"),
    ("limits", "cpu_time", COMMAND, "limits: {cpu_time: 1m}", "limits: {cpu_time: 2m}"),
    ("limits", "cpus", COMMAND, "limits: {cpus: [0]}", "limits: {cpus: [1]}"),
    ("limits", "memory", COMMAND, "limits: {memory: 1GiB}", "limits: {memory: 2GiB}"),
    ("limits", "nice", COMMAND, "limits: {nice: 1}", "limits: {nice: 2}"),
    ("limits", "open_files", COMMAND, "limits: {open_files: 100}", "limits: {open_files: 200}"),
    ("pool", "max", COMMAND, "pool: {min: 1, max: 2}", "pool: {min: 1, max: 3}"),
    ("pool", "min", COMMAND, "pool: {min: 1, max: 3}", "pool: {min: 2, max: 3}"),
    ("ready", "command", COMMAND, "ready: {command: [a]}", "ready: {command: [b]}"),
    ("ready", "failures", COMMAND, "ready: {tcp: 'a:1', failures: 1}", "ready: {tcp: 'a:1', failures: 2}"),
    ("ready", "http", COMMAND, "ready: {http: 'http://a'}", "ready: {http: 'http://b'}"),
    ("ready", "interval", COMMAND, "ready: {tcp: 'a:1', interval: 1s}", "ready: {tcp: 'a:1', interval: 2s}"),
    ("ready", "log", COMMAND, "ready: {log: a}", "ready: {log: b}"),
    ("ready", "notify", COMMAND, "ready: {log: a}", "ready: {notify: true}"),
    ("ready", "tcp", COMMAND, "ready: {tcp: 'a:1'}", "ready: {tcp: 'a:2'}"),
    ("ready", "timeout", COMMAND, "ready: {tcp: 'a:1', timeout: 1s}", "ready: {tcp: 'a:1', timeout: 2s}"),
    ("restart", "backoff", COMMAND, "restart: {backoff: {initial: 1s}}", "restart: {backoff: {initial: 2s}}"),
    ("restart", "max", COMMAND, "restart: {max: 1}", "restart: {max: 2}"),
    ("restart", "policy", COMMAND, "restart: {policy: never}", "restart: {policy: always}"),
    ("restart", "scope", COMMAND, "restart: {scope: worker}", "restart: {scope: stage}"),
    ("restart", "within", COMMAND, "restart: {within: 1s}", "restart: {within: 2s}"),
    ("retry", "attempts", MAP, "retry: {attempts: 2}", "retry: {attempts: 3}"),
    ("retry", "delay", MAP, "retry: {delay: 1s}", "retry: {delay: 2s}"),
    ("retry", "factor", MAP, "retry: {factor: 2}", "retry: {factor: 3}"),
    ("retry", "max_delay", MAP, "retry: {max_delay: 1m}", "retry: {max_delay: 2m}"),
    ("stop", "grace", COMMAND, "stop: {grace: 1s}", "stop: {grace: 2s}"),
    ("stop", "signal", COMMAND, "stop: {signal: SIGINT}", "stop: {signal: SIGHUP}"),
];

/// The keys that a part of the schema may have.
fn keys_within(schema: &Value, part: &Value, keys: &mut BTreeSet<String>) {
    if let Some(name) = part["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        keys_within(schema, &schema["definitions"][name], keys);
    }
    keys.extend(part["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    for kind in ["anyOf", "oneOf", "allOf"] {
        part[kind].as_array().into_iter().flatten().for_each(|part| keys_within(schema, part, keys));
    }
}

#[test]
fn each_key_within_a_key_of_a_stage_comes_to_what_that_one_does() {
    let schema = language::schema();
    let mut there_are = BTreeSet::new();
    for (outer, part) in schema["definitions"]["Stage"]["properties"].as_object().unwrap() {
        let mut keys = BTreeSet::new();
        keys_within(&schema, part, &mut keys);
        there_are.extend(keys.into_iter().map(|inner| (outer.clone(), inner)));
    }
    let changed: BTreeSet<_> =
        NESTED.iter().map(|(outer, inner, ..)| ((*outer).to_owned(), (*inner).to_owned())).collect();
    assert_eq!(changed, there_are, "each is changed below");
    for &(outer, inner, within, old, new) in NESTED {
        let change = change(&Case { level: Level::Stage, key: outer, within, old, new });
        let it = change.stage("it").unwrap();
        let step = if outer == "pool" { Step::Resize } else { Step::Replace };
        assert_eq!(it.step, step, "`{outer}.{inner}`: {change:#?}");
        assert!(is_because_of(&it.why, outer), "`{outer}.{inner}`: {change:#?}");
    }
}

#[test]
fn a_value_that_names_the_rank_does_not_replace_a_pool_that_is_resized() {
    let text = |width: u32| {
        format!(
            "stages:\n  it: {{command: 'echo ${{{{ worker.rank }}}}', pool: {width}, env: {{R: '${{{{ worker.rank }}}}'}}}}\n"
        )
    };
    let folder = folder();
    let change = compare(&text(2), &text(4), folder.path());
    assert_eq!(change.stage("it").unwrap().step, Step::Resize);
    let other = text(4).replace("echo", "printf");
    let change = compare(&text(2), &other, folder.path());
    assert_eq!(change.stage("it").unwrap().step, Step::Replace);
}

// ---- the command

const OLD: &str = "\
stages:
  numbers: {command: seq 1 1000}
  square: {command: [cat], pool: 2}
  store: {command: cat}
  gone: {command: cat, stdout: 'null'}
edges:
  - queue: numbers -> square -> store
  - queue: numbers -> gone
";

const NEW: &str = "\
stages:
  numbers: {command: seq 1 1000}
  square: {command: [cat], pool: 4}
  store: {command: cat, env: {TOKEN: hunter2}}
  added: {command: cat}
stop: {grace: 10s}
edges:
  - {queue: numbers -> square, capacity: 10}
  - queue: square -> store
  - queue: square -> added
";

fn mpflow_plan(old: &str, new: &str, args: &[&str]) -> Assert {
    let folder = TempDir::new().unwrap();
    let before = folder.path().join("before");
    fs::create_dir(&before).unwrap();
    fs::write(before.join("old.yaml"), old).unwrap();
    fs::write(folder.path().join("new.yaml"), new).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
    command.args(["plan", "before/old.yaml", "new.yaml"]).args(args).current_dir(&folder);
    command.env("LANG", "C.UTF-8").env_remove("LC_ALL").env_remove("MPFLOW_LOG").env_remove("NO_COLOR");
    command.assert()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn a_plan_says_for_each_stage_and_edge_what_is_done_and_why_and_shows_no_secret() {
    let text = stdout(&mpflow_plan(OLD, NEW, &[]).success());
    assert!(!text.contains("hunter2"));
    assert_eq!(
        text,
        "\
Stages
  numbers            rewire   edge `numbers -> gone`
  square             resize   `pool` 2 -> 4
  store              replace  `env`
  added              add
  gone               remove
Edges
  numbers -> square  resize   `capacity` none -> 10
  square -> store    same
  square -> added    add
  store -> stdout    same
  added -> stdout    add
  numbers -> gone    remove

2 of 5 stages keep their workers.
"
    );
}

#[test]
fn a_plan_for_programs_has_the_same_in_json() {
    let json: Value =
        serde_json::from_str(&stdout(&mpflow_plan(OLD, NEW, &["--format", "json"]).success())).unwrap();
    assert_eq!(json["stages"][1]["stage"], "square");
    assert_eq!(json["stages"][1]["step"], "resize");
    assert_eq!(json["stages"][1]["why"][0]["because"], "key");
    assert_eq!(json["stages"][1]["why"][0]["values"], "2 -> 4");
    assert_eq!(json["edges"][0]["edge"], "numbers -> square");
    assert_eq!(json["new_run"].as_array().unwrap().len(), 0);
}

#[test]
fn names_in_json_have_no_backticks() {
    let new = format!("shared: {{go: {{lock: true}}}}\n{OLD}");
    let text = stdout(&mpflow_plan(OLD, &new, &[]).success());
    assert!(text.ends_with("end it and run it again, for `shared`\n"), "{text}");
    let json: Value =
        serde_json::from_str(&stdout(&mpflow_plan(OLD, &new, &["--format", "json"]).success())).unwrap();
    assert_eq!(json["new_run"], serde_json::json!(["shared"]));
}

#[test]
fn both_pipelines_are_taken_to_lie_in_the_same_folder() {
    let text = stdout(&mpflow_plan(OLD, OLD, &[]).success());
    assert!(text.ends_with("Nothing differs: a reload would change nothing.\n"), "{text}");
}

#[test]
fn the_mistakes_of_either_pipeline_are_shown_and_nothing_is_compared() {
    let wrong = OLD.replace("command: cat", "comand: cat");
    for (old, new) in [(OLD, wrong.as_str()), (wrong.as_str(), OLD)] {
        let assert = mpflow_plan(old, new, &[]).code(2);
        assert_eq!(stdout(&assert), "");
        let shown = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(shown.contains("did you mean `command`"), "{shown}");
    }
}

#[test]
fn what_a_running_pipeline_cannot_take_over_is_said() {
    let with = |value: &str| format!("{OLD}shared: {{go: {{event: {value}}}}}\n");
    let text = stdout(&mpflow_plan(&with("true"), &with("false"), &[]).success());
    assert!(text.contains("end it and run it again, for `shared`"), "{text}");
}
