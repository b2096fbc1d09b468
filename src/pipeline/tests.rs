//! What is said in code is what is said in YAML.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::language::{ParseOptions, keys};

fn options() -> ParseOptions {
    ParseOptions { cpus: 4, ..ParseOptions::default() }
}

/// The same, by what the builder writes, and by what the pipeline is written as.
#[track_caller]
fn assert_round_trip(builder: PipelineBuilder) -> Pipeline {
    let text = builder.to_yaml();
    let built = builder.dir("/work/dir").build_with(&options());
    let built = built.unwrap_or_else(|wrong| panic!("{}\n{text}", wrong.plain()));
    for text in [text, built.to_yaml()] {
        let read = Pipeline::from_yaml_with(&text, "/work/dir/read.yaml", &options());
        let read = read.unwrap_or_else(|wrong| panic!("{}\n{text}", wrong.plain()));
        assert_eq!(read.declared(), built.declared(), "{text}");
    }
    built
}

/// A pipeline that says every key, in stages that can have them.
fn everything() -> PipelineBuilder {
    let second = Duration::from_secs(1);
    let restart = Restart {
        policy: RestartPolicy::Always,
        max: 7,
        within: 90 * second,
        backoff: Backoff { initial: second / 4, factor: 1.5, max: 3 * second, jitter: 0.25 },
        scope: RestartScope::Stage,
    };
    let stop = StopPolicy { signal: Signal::INT, grace: Duration::from_millis(1500) };
    let probe = Probe {
        interval: second / 2,
        timeout: 2 * second,
        failures: 5,
        ..ProbeKind::Tcp("localhost:80".into()).into()
    };
    let batch = Batch { size: NonZeroUsize::new(10).unwrap(), bytes: Some(4096), wait: Some(second) };
    let limits = Limits {
        memory: Some(1 << 30),
        open_files: Some(64),
        cpu_time: Some(60 * second),
        nice: Some(-3),
        cpus: Some(vec![0, 1]),
    };
    Pipeline::builder("everything")
        .description("says ${{ 'all' }}")
        .var("port", 8000)
        .env("MODE", "test")
        .env_files(["/dev/null"])
        .defaults(Stage::defaults().timeout(3600 * second))
        .default_format(Format::Json)
        .stop(StopPolicy { grace: 2 * second, ..StopPolicy::default() })
        .stage(
            "source",
            Stage::command(["serve", "--port", "${{ vars.port + worker.rank }}"])
                .pool(2)
                .env("PORT", "${{ vars.port }}")
                .env("LITERAL", literal("${{ not.one }}"))
                .cwd("work/${{ worker.rank }}")
                .without_inherited_env()
                .stdin(Redirect::File("data/input".into()))
                .stderr(Redirect::Null)
                .line_buffered()
                .success_exit([Exit::Code(0), Exit::Code(3), Exit::Signal(Signal::PIPE)])
                .restart_with(restart)
                .ready(probe)
                .exclusive()
                .limits(limits)
                .watch(["src/**/*.rs"])
                .stop(stop),
        )
        .stage(
            "work",
            Stage::python("tasks.py:work")
                .mode(Mode::Map)
                .pool_between(1, 8)
                .ordered()
                .start_method(StartMethod::Forkserver)
                .preload(["json"])
                .python_executable("/usr/bin/python3")
                .initializer("tasks:prepare")
                .args((1, "two"))
                .kwargs(json!({"level": 3.5, "text": "a: b"}))
                .unpack()
                .prefetch(16)
                .batch_with(batch)
                .max_records_per_worker(1000)
                .record_timeout(5 * second)
                .retry_with(Retry { attempts: 4, delay: second, factor: 3.0, max_delay: 20 * second })
                .on_error(OnError::Skip)
                .on_failure(OnFailure::Continue)
                .depends_on_state("source", DependencyState::Ready),
        )
        .stage("log", Stage::shell("cat >&2\nsync\n").daemon().stdout(Redirect::Null))
        .stage("call", Stage::function("count"))
        .edge(
            Edge::queue("source -> work -> stdout")
                .capacity(100)
                .capacity_bytes(1 << 20)
                .max_record(1000)
                .when_full(WhenFull::Block),
        )
        .edge(Edge::queue("work.failed -> log"))
        .edge(Edge::queue("call -> stdout").format(Format::Json))
        .shared("hits", Shared::i64(-1))
        .shared("ratio", Shared::f64(0.5))
        .shared("seen", Shared::u64(1))
        .shared("on", Shared::bool(true))
        .shared("grid", Shared::f64_array(1024))
        .shared("screen", Shared::lock())
        .shared("gpu", Shared::semaphore(2))
        .shared("go", Shared::event(false))
        .shared("round", Shared::barrier(4))
        .shared("settings", Shared::dict(json!({"level": [1, {"deep": null}]})))
}

#[test]
fn all_that_a_document_can_say_can_be_said_in_code() {
    let written = everything().to_yaml();
    for key in keys::TOP.iter().filter(|&&key| key != "version") {
        assert!(written.contains(&format!("\n{key}:")) || written.starts_with(&format!("{key}:")), "{key}");
    }
    let known: Vec<&str> = keys::STAGE.iter().chain(keys::QUEUE).copied().collect();
    for key in known.iter().filter(|&&key| !["partition_by", "to_each"].contains(&key)) {
        assert!(written.contains(&format!("{key}:")), "{key} is in none of\n{written}");
    }
}

#[test]
fn the_last_to_say_a_key_counts() {
    let twice = |state| Stage::shell("true").pool(1).pool(3).depends_on("a").depends_on_state("a", state);
    let pipeline = assert_round_trip(
        Pipeline::builder("p").stage("a", Stage::shell("true")).stage("b", twice(DependencyState::Finished)),
    );
    let stage = pipeline.declared().stage("b").unwrap();
    assert_eq!(stage.pool.max, 3);
    assert_eq!(stage.depends_on.len(), 1);
    assert_eq!(stage.depends_on[0].state, DependencyState::Finished);
}

#[test]
fn a_pipeline_that_says_everything_is_the_same_as_a_document() {
    let pipeline = assert_round_trip(everything());
    let model = pipeline.declared();
    let source = model.stage("source").unwrap();
    assert_eq!(source.cwd.get(1), &PathBuf::from("/work/dir/work/1"));
    assert_eq!(source.env.last().unwrap().1.get(0), "${{ not.one }}");
    assert_eq!(model.description, "says all");
    let names: BTreeSet<&str> = pipeline.stages().collect();
    assert_eq!(names, BTreeSet::from(["call", "log", "source", "work"]));
}

#[test]
fn edges_of_every_kind_can_be_said() {
    let cat = || Stage::shell("cat");
    assert_round_trip(
        Pipeline::builder("edges")
            .stage("a", cat())
            .stage("b", cat().pool(2))
            .stage("c", cat().pool(2))
            .stage("d", cat())
            .stage("e", cat())
            .edge(Edge::queue("stdin -> a -> b").format(Format::Lines).partition_by_field(2))
            .edge(Edge::queue("a -> c").to_each().when_full(WhenFull::DropOldest))
            .edge(Edge::pipe("d -> e").size(1 << 20)),
    );
    assert_round_trip(
        Pipeline::builder("edges").stage("a", cat()).stage("b", cat()).edge(Edge::pipe("a -> b").duplex()),
    );
    assert_round_trip(
        Pipeline::builder("edges")
            .stage("a", cat().pool_auto())
            .edge(Edge::queue("stdin -> a").format(Format::Json).partition_by_pointer("/user/id")),
    );
}

fn stage() -> impl Strategy<Value = Stage> {
    let text = || "[ -~é\n]{1,20}".prop_filter("not blank", |text: &String| !text.trim().is_empty());
    let body = prop_oneof![
        text().prop_map(|script| Stage::shell(literal(&script))),
        proptest::collection::vec(text(), 1..4)
            .prop_map(|argv| Stage::command(argv.iter().map(|word| literal(word)))),
    ];
    (
        body,
        1usize..9,
        proptest::option::of(0u64..10_000_000),
        proptest::collection::hash_map("[A-Z]{1,4}", "[ -~]{0,12}", 0..4),
        any::<bool>(),
        proptest::option::of(text()),
    )
        .prop_map(|(mut stage, pool, timeout, env, daemon, cwd)| {
            stage = stage.pool(pool);
            if let Some(millis) = timeout {
                stage = stage.timeout(Duration::from_micros(millis + 1));
            }
            for (name, value) in env {
                stage = stage.env(&name, literal(&value));
            }
            if daemon {
                stage = stage.daemon();
            }
            match cwd.filter(|cwd| !cwd.trim().starts_with('~')) {
                Some(cwd) => stage.cwd(literal(&cwd)),
                None => stage,
            }
        })
}

proptest! {
    #[test]
    fn whatever_is_built_is_the_same_when_it_is_written_and_read(
        stages in proptest::collection::vec(stage(), 1..5),
        grace in 0u64..100_000,
    ) {
        let mut builder = Pipeline::builder("random");
        for (number, stage) in stages.into_iter().enumerate() {
            builder = builder.stage(format!("s{number}"), stage);
        }
        builder = builder.stop(StopPolicy { signal: Signal::TERM, grace: Duration::from_millis(grace) });
        // Placeholders of `each` and the like are refused in code as they are in a document.
        if builder.clone().dir("/work/dir").build_with(&options()).is_ok() {
            assert_round_trip(builder);
        }
    }
}

#[test]
fn a_mistake_in_code_is_told_with_the_call_that_made_it() {
    let builder = Pipeline::builder("wrong");
    let built = builder
        .stage("numbers", Stage::shell("seq 1 10").pool(0)) // the width: line 1
        .edge(Edge::queue("numbers -> squre -> stdout")) // no such stage: line 2
        .stage("square", Stage::shell("cat").unpack()); // no Python: line 3
    let line = line!() - 3;
    let found = built.build_with(&options()).unwrap_err();
    let plain = found.plain().to_string();
    let place = |code: &str| {
        let diagnostic =
            found.iter().find(|one| one.code() == code).unwrap_or_else(|| panic!("{code}: {plain}"));
        assert!(diagnostic.file().ends_with("src/pipeline/tests.rs"), "{}", diagnostic.file());
        diagnostic.position(&diagnostic.labels()[0]).0
    };
    assert_eq!(place("mpflow::out_of_range"), line as usize);
    assert_eq!(place("mpflow::unknown_stage"), line as usize + 1);
    assert_eq!(place("mpflow::key_without_effect"), line as usize + 2);
    assert!(plain.contains("queue: numbers -> squre -> stdout"), "{plain}");
    assert!(plain.contains("^^^^^ no stage has this name"), "{plain}");
    assert!(plain.contains("help: did you mean `square`?"), "{plain}");
    assert!(plain.contains(&format!("src/pipeline/tests.rs:{}:", line + 1)), "{plain}");
    let json = found.to_json();
    assert_eq!(json[0]["labels"][0]["line"], line, "{json:#}");
}

#[test]
fn a_pipeline_without_stages_is_told_with_the_call_that_began_it() {
    let found = Pipeline::builder("empty").build().unwrap_err();
    let line = line!() - 1;
    let plain = found.plain().to_string();
    assert!(plain.contains("`stages` is empty"), "{plain}");
    assert!(plain.contains(&format!("src/pipeline/tests.rs:{line}:17")), "{plain}");
}
