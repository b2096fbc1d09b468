use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{codes, mistakes, options, parse, pipeline, stage, stage_codes};
use crate::language::{Document, ParseOptions};
use crate::model::{
    Batch, Body, Command, DependencyState, Endpoint, Exit, Mode, OnError, OnFailure, PerWorker, Pool,
    ProbeKind, Redirect, RestartPolicy, RestartScope, SharedKind, Signal, Stage, StartMethod,
};

fn shell(script: &str) -> Body {
    Body::Command(PerWorker::Same(Command::Shell(script.to_owned())))
}

fn argv(words: &[&str]) -> Body {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Body::Command(PerWorker::Same(Command::Argv(words)))
}

#[test]
fn the_first_example_of_the_manual_is_a_pipeline() {
    let pipeline = pipeline(
        "name: squares\n\
         stages:\n  \
           numbers: {command: seq 1 10}\n  \
           square:  {python: \"tasks:square\", pool: 4, start_method: forkserver}\n\
         edges:\n  \
           - {queue: numbers -> square -> stdout, format: json}\n",
    );
    assert_eq!(pipeline.name, "squares");
    assert_eq!(pipeline.dir, PathBuf::from("/work/dir"));
    assert_eq!(pipeline.stages[0].body, shell("seq 1 10"));
    assert_eq!(pipeline.stages[0].mode, Mode::Stream);
    assert_eq!(pipeline.stages[1].body, Body::Python("tasks:square".to_owned()));
    assert_eq!(pipeline.stages[1].mode, Mode::Map);
    assert_eq!(pipeline.stages[1].pool, Pool { min: 4, max: 4 });
    assert_eq!(pipeline.stages[1].start_method, StartMethod::Forkserver);
    let edges: Vec<String> = pipeline.edges.iter().map(ToString::to_string).collect();
    assert_eq!(edges, ["numbers -> square", "square -> stdout"]);
    assert_eq!(pipeline.edges[1].to, Endpoint::Engine);
}

#[test]
fn a_stage_that_says_only_its_command_has_the_defaults_of_the_manual() {
    let stage = stage("command: cat");
    assert_eq!(stage.pool, Pool { min: 1, max: 1 });
    assert_eq!(stage.start_method, StartMethod::Spawn);
    assert_eq!(stage.cwd, PerWorker::Same(PathBuf::from("/work/dir")));
    assert!(stage.inherit_env && !stage.ordered && !stage.daemon && !stage.exclusive);
    assert_eq!((stage.stdin, stage.stdout), (None, None));
    assert_eq!(stage.stderr, PerWorker::Same(Redirect::Inherit));
    assert_eq!(stage.prefetch, None);
    assert_eq!(stage.retry.attempts, 1);
    assert_eq!((stage.on_error, stage.on_failure), (OnError::Fail, OnFailure::Stop));
    assert_eq!(stage.restart.policy, RestartPolicy::Never);
    assert_eq!(stage.success_exit, [Exit::SUCCESS]);
    assert_eq!((stage.stop.signal, stage.stop.grace), (Signal::TERM, Duration::from_secs(10)));
}

#[test]
fn leased_stages_restart_on_failure_and_each_takes_one_record_at_once() {
    let each = stage("command: \"gzip {}\", mode: each");
    assert_eq!(each.restart.policy, RestartPolicy::OnFailure);
    assert_eq!(each.prefetch.map(usize::from), Some(1));
    let map = stage("command: jq -c ., mode: map");
    assert_eq!(map.restart.policy, RestartPolicy::OnFailure);
    assert_eq!(map.prefetch, None);
}

#[test]
fn a_command_is_a_shell_script_or_a_list_of_arguments() {
    assert_eq!(
        stage("command: [seq, 1, 1.50, 0x10, true, -n]").body,
        argv(&["seq", "1", "1.50", "0x10", "true", "-n"])
    );
    let text = "stages:\n  a:\n    command: |\n      set -e\n      echo $HOME ${X} # it's\n";
    assert_eq!(pipeline(text).stages[0].body, shell("set -e\necho $HOME ${X} # it's\n"));
}

#[test]
fn every_key_of_a_stage_arrives() {
    let stage = stage(
        "python: 'lib/tasks.py:Square.run', pool: {min: 2, max: auto}, ordered: true, daemon: true, \
         start_method: fork, preload: [numpy, my.mod], python_executable: ./venv/bin/python, \
         initializer: 'tasks:init', args: [1, {a: b}], kwargs: {level: 2}, unpack: true, env: {A: x, B: 2}, \
         cwd: sub/./dir, inherit_env: false, stdin: in.txt, stdout: null, prefetch: 4, \
         batch: {size: 10, bytes: 1MiB, wait: 50ms}, max_records_per_worker: 100, record_timeout: 30s, \
         retry: {attempts: 3, delay: 1s, factor: 3, max_delay: 1m}, on_error: skip, \
         restart: {policy: always, max: 7, within: 2m, backoff: {initial: 1s, factor: 1.5, max: 5s, jitter: 0}, \
         scope: downstream}, on_failure: continue, depends_on: {b: finished}, timeout: 1h, \
         ready: {tcp: 'localhost:80', interval: 2s, timeout: 3s, failures: 5}, success_exit: [0, 3, -2, SIGTERM], \
         exclusive: true, stop: {signal: INT, grace: 0s}, stderr: log.txt, watch: ['*.csv'], \
         limits: {memory: 1GiB, open_files: 64, cpu_time: 10s, nice: -5, cpus: [0, 1]}",
    );
    assert_eq!(stage.body, Body::Python("/work/dir/lib/tasks.py:Square.run".to_owned()));
    assert_eq!(stage.pool, Pool { min: 2, max: 8 });
    assert!(stage.ordered && stage.daemon && stage.unpack && stage.exclusive && !stage.inherit_env);
    assert_eq!(stage.preload, ["numpy", "my.mod"]);
    assert_eq!(stage.python_executable.as_deref(), Some("/work/dir/venv/bin/python"));
    assert_eq!(stage.initializer.as_deref(), Some("tasks:init"));
    assert_eq!(stage.args, [json!(1), json!({"a": "b"})]);
    assert_eq!(serde_json::Value::Object(stage.kwargs.clone()), json!({"level": 2}));
    let text = |value: &str| PerWorker::Same(value.to_owned());
    assert_eq!(stage.env, [("A".to_owned(), text("x")), ("B".to_owned(), text("2"))]);
    assert_eq!(stage.cwd, PerWorker::Same(PathBuf::from("/work/dir/sub/dir")));
    assert_eq!(stage.stdin, Some(PerWorker::Same(Redirect::File(PathBuf::from("/work/dir/in.txt")))));
    assert_eq!(stage.stdout, Some(PerWorker::Same(Redirect::Null)));
    assert_eq!(stage.stderr, PerWorker::Same(Redirect::File(PathBuf::from("/work/dir/log.txt"))));
    assert_eq!(stage.watch, ["*.csv"]);
    check_records_and_policies(&stage);
}

fn check_records_and_policies(stage: &Stage) {
    assert_eq!(stage.prefetch.map(usize::from), Some(4));
    let batch =
        Batch { size: 10.try_into().unwrap(), bytes: Some(1 << 20), wait: Some(Duration::from_millis(50)) };
    assert_eq!(stage.batch, Some(batch));
    assert_eq!(stage.max_records_per_worker, Some(100));
    assert_eq!(stage.record_timeout, Some(Duration::from_secs(30)));
    assert_eq!((stage.retry.attempts, stage.retry.factor), (3, 3.0));
    assert_eq!(stage.retry.max_delay, Duration::from_secs(60));
    assert_eq!((stage.on_error, stage.on_failure), (OnError::Skip, OnFailure::Continue));
    assert_eq!((stage.restart.policy, stage.restart.max), (RestartPolicy::Always, 7));
    assert_eq!(stage.restart.scope, RestartScope::Downstream);
    assert_eq!((stage.restart.backoff.factor, stage.restart.backoff.jitter), (1.5, 0.0));
    assert_eq!(stage.depends_on[0].state, DependencyState::Finished);
    assert_eq!(stage.timeout, Some(Duration::from_secs(3600)));
    let ready = stage.ready.as_ref().unwrap();
    assert_eq!((&ready.kind, ready.failures), (&ProbeKind::Tcp("localhost:80".to_owned()), 5));
    let exits = [Exit::Code(0), Exit::Code(3), Exit::Signal(Signal(2)), Exit::Signal(Signal::TERM)];
    assert_eq!(stage.success_exit, exits);
    assert_eq!((stage.stop.signal, stage.stop.grace), (Signal::INT, Duration::ZERO));
    assert_eq!(stage.limits.memory, Some(1 << 30));
    assert_eq!(stage.limits.cpu_time, Some(Duration::from_secs(10)));
    assert_eq!((stage.limits.nice, stage.limits.cpus.clone()), (Some(-5), Some(vec![0, 1])));
}

#[test]
fn short_forms_mean_the_same_as_long_ones() {
    assert_eq!(stage("command: c, pool: auto").pool, Pool { min: 8, max: 8 });
    assert_eq!(stage("command: c, pool: {max: 3}").pool, Pool { min: 1, max: 3 });
    assert_eq!(stage("command: c, mode: map, retry: 4").retry.attempts, 4);
    assert_eq!(stage("command: c, restart: on-failure").restart.policy, RestartPolicy::OnFailure);
    assert_eq!(stage("command: c, restart: {max: 2}").restart.policy, RestartPolicy::OnFailure);
    assert_eq!(stage("command: c, mode: each, batch: 9").batch.unwrap().size.get(), 9);
    assert_eq!(stage("command: c, mode: each, batch: {bytes: 1KiB}").batch.unwrap().size.get(), usize::MAX);
    let dependencies = stage("command: c, depends_on: [x, y]").depends_on;
    assert_eq!(dependencies.len(), 2);
    assert_eq!(dependencies[1].state, DependencyState::Started);
    assert_eq!(stage("command: c, stdin: null").stdin, Some(PerWorker::Same(Redirect::Null)));
    assert_eq!(stage("command: c, stderr: ").stderr, PerWorker::Same(Redirect::Null));
}

#[test]
fn a_merge_key_in_quotes_is_a_key_like_any_other() {
    let stage = stage(r#"command: ls, env: {"<<": here, '>>': there}"#);
    let names: Vec<&str> = stage.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["<<", ">>"]);
}

#[test]
fn defaults_are_used_where_they_fit_and_a_stage_does_not_say() {
    let document = parse(
        "defaults: {pool: 3, prefetch: 2, mode: each, env: {A: x}, format: json, unpack: true}\n\
         stages:\n  a: {command: c}\n  b: {python: 'm:f', pool: 1, env: {B: y}}\n  d: {command: c, mode: stream}\n\
         edges: [{queue: a -> b}, {queue: b -> d, format: lines}, {pipe: d -> a}]\n",
    );
    let document = document.unwrap();
    let [a, b, d] = document.pipeline().stages.as_slice() else { panic!() };
    assert_eq!((a.pool.max, a.mode, a.prefetch.map(usize::from)), (3, Mode::Each, Some(2)));
    assert_eq!((b.pool.max, b.mode, b.unpack), (1, Mode::Map, true));
    assert_eq!(b.env[0].0, "B");
    assert_eq!((d.mode, d.prefetch), (Mode::Stream, None));
    let formats: Vec<_> = document.pipeline().edges.iter().map(|edge| edge.kind.clone()).collect();
    insta::assert_debug_snapshot!(formats);
    assert!(document.warnings().is_empty(), "{}", document.warnings().plain());
}

#[test]
fn a_default_that_fits_no_stage_is_a_warning() {
    let document = parse("defaults: {prefetch: 2}\nstages: {a: {command: c}}").unwrap();
    assert_eq!(codes(document.warnings()), ["key_without_effect"]);
    assert!(!document.warnings().has_errors());
}

#[test]
fn the_stop_policy_of_the_document_is_that_of_its_stages() {
    let pipeline = pipeline(
        "stop: {signal: SIGINT, grace: 3s}\nstages: {a: {command: c}, b: {command: c, stop: {grace: 1s}}}",
    );
    assert_eq!(pipeline.stop.grace, Duration::from_secs(3));
    assert_eq!(pipeline.stages[0].stop, pipeline.stop);
    assert_eq!(pipeline.stages[1].stop.grace, Duration::from_secs(1));
    assert_eq!(pipeline.stages[1].stop.signal, Signal::INT);
}

#[test]
fn env_files_come_first_and_the_stage_last() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.env"), "# comment\nA=1\nexport B=\"two words\"\nC=3\n").unwrap();
    std::fs::write(folder.path().join("b.env"), "C=4\n").unwrap();
    let text = "env_file: [a.env, b.env]\nenv: {B: 5, D: 6}\nstages: {a: {command: c, env: {D: 7}}}";
    let document = Document::parse(text, &folder.path().join("x.yaml"), &options()).unwrap();
    let env: Vec<_> = document.pipeline().stages[0]
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.get(0)))
        .collect();
    assert_eq!(env, ["A=1", "B=5", "C=4", "D=7"]);
    assert_eq!(document.env_files().len(), 2);
}

#[test]
fn a_bad_env_file_is_reported_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.env"), "A=1\nhunter2 secret\n").unwrap();
    let text = "env_file: [a.env, none.env]\nstages: {a: {command: c}}";
    let found = Document::parse(text, &folder.path().join("x.yaml"), &options()).unwrap_err();
    assert_eq!(codes(&found), ["env_file", "env_file"]);
    let shown = format!("{} {}", found.plain(), found.to_json());
    assert!(shown.contains("line 2") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn shared_objects_of_every_kind_arrive() {
    let objects = pipeline(
        "stages: {a: {command: c}}\n\
         shared:\n  hits: {value: i64, initial: 0}\n  on: {value: bool}\n  grid: {array: f64, length: 1024}\n  \
         screen: {lock: true}\n  gpu: {semaphore: 2}\n  go: {event: false}\n  round: {barrier: 4}\n  \
         settings: {dict: {level: 3}}\n",
    )
    .shared;
    let kinds: Vec<_> = objects.into_iter().map(|object| object.kind).collect();
    assert_eq!(kinds[0], SharedKind::Value { element: "i64".to_owned(), initial: json!(0) });
    assert_eq!(kinds[1], SharedKind::Value { element: "bool".to_owned(), initial: json!(false) });
    assert_eq!(kinds[2], SharedKind::Array { element: "f64".to_owned(), length: 1024 });
    assert_eq!(
        kinds[3..7],
        [SharedKind::Lock, SharedKind::Semaphore(2), SharedKind::Event(false), SharedKind::Barrier(4)]
    );
    assert_eq!(kinds[7], SharedKind::Dict(json!({"level": 3}).as_object().unwrap().clone()));
}

#[test]
fn widths_from_the_command_line_replace_those_of_the_document() {
    let options = |pool: &[(&str, usize)]| ParseOptions {
        pool: pool.iter().map(|&(name, width)| (name.to_owned(), width)).collect(),
        ..options()
    };
    let parse = |pool: &[(&str, usize)]| {
        Document::parse("stages: {work: {command: c, pool: 2}}", Path::new("/d/x.yaml"), &options(pool))
    };
    assert_eq!(parse(&[("work", 5)]).unwrap().pipeline().stages[0].pool, Pool { min: 5, max: 5 });
    assert_eq!(codes(&parse(&[("wrok", 5)]).unwrap_err()), ["unknown_stage"]);
    assert_eq!(codes(&parse(&[("work", 0)]).unwrap_err()), ["out_of_range"]);
}

#[test]
fn keys_that_would_do_nothing_are_mistakes() {
    for keys in [
        "command: c, ordered: true",
        "command: c, prefetch: 2",
        "command: c, retry: 2",
        "command: c, record_timeout: 1s",
        "command: c, on_error: skip",
        "command: c, max_records_per_worker: 2",
        "command: c, mode: each, max_records_per_worker: 2",
        "command: c, mode: map, batch: 2",
        "command: c, batch: 2",
        "command: c, args: [1]",
        "command: c, preload: [numpy]",
        "python: 'm:f', preload: [numpy]",
        "python: 'm:f', line_buffered: true",
        "python: 'm:f', mode: stream, unpack: true",
        "command: c, mode: each, ready: {notify: true}",
        "command: c, restart: {policy: never, max: 3}",
        "function: f, initializer: 'm:f'",
    ] {
        assert_eq!(stage_codes(keys), ["key_without_effect"], "{keys}");
    }
    // What says what is so anyway does no harm.
    stage("command: c, ordered: false, unpack: false");
}

#[test]
fn a_restart_policy_of_each_is_a_warning() {
    let document = parse("stages: {a: {command: 'c {}', mode: each, restart: never}}").unwrap();
    assert_eq!(codes(document.warnings()), ["key_without_effect"]);
}

#[test]
fn placeholders_belong_to_each() {
    for command in ["echo {}", "[echo, '{}']", "[gzip, '{.}']", "cat {} > {}.x", "echo {/}; true", "echo {#}"]
    {
        assert_eq!(
            stage_codes(&format!("command: {}", quoted(command))),
            ["placeholder_outside_each"],
            "{command}"
        );
    }
    for command in [
        "find . -exec rm {} \\;",
        "xargs -I{} echo {}",
        "awk '{}'",
        "[jq, -c, '{}']",
        "echo ${X} $X \"{}\"",
        "[/usr/bin/find, ., -exec, ls, '{}', ;]",
        "f() { true; }",
    ] {
        stage(&format!("command: {}", quoted(command)));
    }
    let document = parse("stages: {a: {command: 'convert x out/{/.}.png'}}").unwrap();
    assert_eq!(codes(document.warnings()), ["placeholder_outside_each"]);
    assert_eq!(stage_codes("command: 'gzip {}', mode: each, batch: 3"), ["placeholder_in_batch"]);
    stage("command: 'sort > {#}', mode: each, batch: 3");
}

/// Lists as they are, scripts in quotes.
fn quoted(command: &str) -> String {
    if command.starts_with('[') { command.to_owned() } else { serde_json::to_string(command).unwrap() }
}

#[test]
fn values_out_of_range_are_mistakes() {
    for keys in [
        "command: c, pool: 0",
        "command: c, pool: 100000",
        "command: c, pool: {min: 3, max: 2}",
        "command: c, mode: map, prefetch: 0",
        "command: c, timeout: 0s",
        "command: c, limits: {nice: 40}",
        "command: c, limits: {cpu_time: 1500ms}",
        "command: c, success_exit: [256]",
        "command: c, restart: {backoff: {factor: 0.5}}",
        "command: c, restart: {backoff: {jitter: 2}}",
        "command: c, mode: map, retry: 5000000000",
    ] {
        assert_eq!(stage_codes(keys), ["out_of_range"], "{keys}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_mistakes() {
    for (keys, code) in [
        ("command: 3", "wrong_type"),
        ("command: []", "invalid_value"),
        ("command: ''", "invalid_value"),
        ("command: [ls, ~]", "wrong_type"),
        ("command: \"a\\0b\"", "invalid_value"),
        ("command: c, pool: many", "wrong_type"),
        ("command: c, daemon: yes", "wrong_type"),
        ("command: c, mode: maps", "invalid_value"),
        ("command: c, timeout: 30", "invalid_duration"),
        ("command: c, timeout: '30'", "invalid_duration"),
        ("command: c, limits: {memory: 64}", "invalid_size"),
        ("command: c, limits: {memory: 64K}", "invalid_size"),
        ("command: c, stop: {signal: SIGTREM}", "invalid_value"),
        ("command: c, depends_on: b", "wrong_type"),
        ("command: c, env: {A: }", "wrong_type"),
        ("command: c, env: {'A=B': x}", "invalid_name"),
        ("command: c, env: {MPFLOW_RANK: x}", "reserved_name"),
        ("command: c, cwd: ~/x", "invalid_value"),
        ("command: c, stdout: inherit", "invalid_value"),
        ("command: c, ready: {tcp: localhost}", "invalid_value"),
        ("command: c, ready: {http: 'https://x/'}", "invalid_value"),
        ("command: c, ready: {notify: true, log: x}", "conflicting_keys"),
        ("command: c, ready: {}", "conflicting_keys"),
        ("command: c, pool: {min: 1}", "missing_key"),
        ("python: tasks", "invalid_value"),
        ("python: 'tasks.py/x:f'", "invalid_value"),
        ("python: 'm:f', mode: each", "invalid_value"),
        ("python: 'm:f', batch: {wait: 1s}", "missing_key"),
        ("command: c, python: 'm:f'", "one_body"),
        ("pool: 2", "one_body"),
        ("command: c, success_exit: []", "invalid_value"),
    ] {
        assert_eq!(stage_codes(keys), [code], "{keys}");
    }
}

#[test]
fn the_top_level_is_checked() {
    for (text, code) in [
        ("", "empty_document"),
        ("# nothing", "empty_document"),
        ("- a", "wrong_type"),
        ("stages: {}", "missing_key"),
        ("stages:", "missing_key"),
        ("name: x", "missing_key"),
        ("version: 2\nstages: {a: {command: c}}", "unsupported_version"),
        ("stages: {stdin: {command: c}}", "reserved_name"),
        ("stages: {a b: {command: c}}", "invalid_name"),
        ("stages: {1: {command: c}}", "invalid_name"),
        ("stages: {a: }", "wrong_type"),
        ("vars: {a-b: 1}\nstages: {a: {command: c}}", "invalid_name"),
        ("stagse: {a: {command: c}}", "unknown_key"),
        ("stages: {a: {comand: c}}", "unknown_key"),
        ("stages: {a: {command: c}}\nedges: [{queu: a -> b}]", "unknown_key"),
        ("defaults: {command: x}\nstages: {a: {command: c}}", "unknown_key"),
        ("shared: {x: {lock: true, event: true}}\nstages: {a: {command: c}}", "conflicting_keys"),
        ("shared: {x: {array: f64}}\nstages: {a: {command: c}}", "missing_key"),
        ("shared: {x: {lock: true, length: 3}}\nstages: {a: {command: c}}", "key_without_effect"),
        ("shared: {x: {value: u64, initial: -1}}\nstages: {a: {command: c}}", "out_of_range"),
        ("shared: {x-y: {lock: true}}\nstages: {a: {command: c}}", "invalid_name"),
        ("stages: {a: {command: c}}\n---\nstages: {}", "several_documents"),
    ] {
        assert_eq!(codes(&mistakes(text)), [code], "{text}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    let load = || Document::load(&file, &options()).map(|_| ()).map_err(|found| codes(&found));
    assert_eq!(load(), Err(vec!["unreadable_file".to_owned()]));
    std::fs::write(&file, b"name: \xff").unwrap();
    assert_eq!(load(), Err(vec!["not_utf8".to_owned()]));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(load(), Err(vec!["document_too_large".to_owned()]));
    std::fs::write(&file, "stages: {a: {command: c}}").unwrap();
    assert_eq!(load(), Ok(()));
}

#[test]
fn problems_of_other_layers_are_shown_at_their_places() {
    use crate::model::{Place, Problem};
    let text = "stages:\n  a: {command: c, pool: 2}\nedges:\n  - queue: a -> b -> stdout\n";
    let document = parse(text).unwrap();
    let problem = Problem::error("mpflow::unknown_stage", "no stage `b`")
        .at(Place::EdgeTo(0), "unknown")
        .at(Place::Edge(1), "arrow")
        .at(Place::StageKey("a".to_owned(), "pool"), "pool")
        .at(Place::StageKey("a".to_owned(), "cwd"), "stage")
        .at(Place::EdgeKey(1, "format"), "no such key")
        .help("did you mean `a`?");
    let found = document.diagnose(vec![problem]);
    let spans: Vec<_> = found
        .iter()
        .flat_map(|found| found.labels())
        .map(|label| (label.span().start, label.span().of(text)))
        .collect();
    assert_eq!(spans, [(58, "b"), (60, "->"), (32, "2"), (10, "a"), (60, "->")]);
    assert_eq!(found.iter().next().unwrap().help(), Some("did you mean `a`?"));
}
