//! Pictures of a few pipelines, kept as snapshots: look at them when one changes.

use super::{Charset, dot, mermaid, svg, text};
use crate::graph::Plan;
use crate::graph::testing::{Build, pool, python};
use crate::model::{
    Dependency, DependencyState, Format, Mode, PartitionKey, Pool, Redirect, Stage, StartMethod, WhenFull,
};

/// The example of the language's first page.
fn squares() -> Plan {
    Build::new()
        .named("squares")
        .stage("numbers")
        .with("square", |square| {
            square.body = python();
            square.mode = Mode::Map;
            square.pool = pool(4);
            square.start_method = StartMethod::Forkserver;
        })
        .queue_with("numbers -> square", |queue| queue.format = Some(Format::Json))
        .queue_with("square -> stdout", |queue| queue.format = Some(Format::Json))
        .accepted()
}

/// Fan-out and fan-in.
fn logs() -> Plan {
    let wide = |mode, width| move |stage: &mut Stage| (stage.mode, stage.pool) = (mode, pool(width));
    Build::new()
        .named("logs")
        .stage("split")
        .with("parse", wide(Mode::Map, 4))
        .with("geo", wide(Mode::Map, 2))
        .with("agents", wide(Mode::Stream, 2))
        .stage("errors")
        .with("join", wide(Mode::Stream, 2))
        .with("archive", |archive| archive.stdout = Some(Redirect::Null.into()))
        .stage("report")
        .queue_with("stdin -> split", |queue| queue.capacity = Some(1000))
        .queue("split -> parse")
        .queue_with("parse -> geo", |queue| queue.format = Some(Format::Json))
        .queue_with("parse -> agents", |queue| queue.format = Some(Format::Json))
        .queue_with("parse -> errors", |queue| queue.when_full = WhenFull::DropOldest)
        .queue_with("geo -> join", by_user)
        .queue_with("agents -> join", by_user)
        .queue("join -> report")
        .queue("errors -> report")
        .queue("split -> archive")
        .accepted()
}

fn by_user(queue: &mut crate::model::QueueOptions) {
    queue.format = Some(Format::Json);
    queue.partition_by = Some(PartitionKey::Pointer("/user".into()));
}

/// Something of everything else.
fn crawl() -> Plan {
    let after = |stage: &str, state| Dependency { stage: stage.to_owned(), state };
    Build::new()
        .named("crawl <&> store")
        .with("database", |database| {
            database.daemon = true;
            database.stdout = Some(Redirect::Null.into());
        })
        .stage("urls")
        .with("fetch", |fetch| {
            fetch.mode = Mode::Each;
            fetch.pool = Pool { min: 1, max: 8 };
            fetch.depends_on.push(after("database", DependencyState::Ready));
        })
        .with("parse", |parse| (parse.mode, parse.pool, parse.ordered) = (Mode::Map, pool(2), true))
        .stage("store")
        .stage("quarantine")
        .with("settings", |settings| settings.depends_on.push(after("database", DependencyState::Started)))
        .stage("encode")
        .stage("mux")
        .queue("urls -> fetch")
        .queue("fetch -> parse")
        .queue("fetch.failed -> quarantine")
        .queue("parse.failed -> quarantine")
        .queue_with("settings -> parse.settings", |queue| queue.to_each = true)
        .queue("parse -> store")
        .queue("parse.media -> encode")
        .duplex("store -> database")
        .pipe("encode -> mux")
        .queue_with("mux -> stdout", |queue| queue.format = Some(Format::Frames))
        .queue("store.stderr -> quarantine.log")
        .accepted()
}

/// Twenty stages with long names.
fn warehouse() -> Plan {
    let mut build = Build::new().named("warehouse-nightly-refresh");
    let sources = ["orders", "customers", "clickstream_events", "inventory_snapshots", "currency_rates"];
    for source in sources {
        build = build
            .stage(&format!("extract_{source}"))
            .with(&format!("normalise_{source}"), |stage| (stage.mode, stage.pool) = (Mode::Map, pool(4)))
            .queue(&format!("extract_{source} -> normalise_{source}"));
    }
    for stage in ["enrich_orders_with_customers", "sessionise_clickstream", "reconcile_stock_levels"] {
        build = build.with(stage, |s| s.pool = Pool { min: 2, max: 16 });
    }
    for stage in ["load_fact_orders", "load_fact_sessions_with_attribution_model_v2", "load_fact_stock"] {
        build = build.with(stage, |s| s.stdout = Some(Redirect::Null.into()));
    }
    build = build.stage("dead_letters").with("metrics_exporter", |s| s.daemon = true);
    build = build.stage("quality_checks").stage("mail_report");
    for edge in [
        "normalise_orders -> enrich_orders_with_customers",
        "normalise_customers -> enrich_orders_with_customers",
        "normalise_currency_rates -> enrich_orders_with_customers",
        "normalise_clickstream_events -> sessionise_clickstream",
        "normalise_customers -> sessionise_clickstream",
        "normalise_inventory_snapshots -> reconcile_stock_levels",
        "enrich_orders_with_customers -> load_fact_orders",
        "enrich_orders_with_customers -> reconcile_stock_levels",
        "sessionise_clickstream -> load_fact_sessions_with_attribution_model_v2",
        "reconcile_stock_levels -> load_fact_stock",
        "normalise_orders.failed -> dead_letters",
        "normalise_clickstream_events.failed -> dead_letters",
        "normalise_inventory_snapshots.failed -> dead_letters",
        "load_fact_orders.stderr -> quality_checks",
        "load_fact_stock.stderr -> quality_checks",
        "quality_checks -> mail_report",
        "sessionise_clickstream.metrics -> metrics_exporter",
        "extract_orders.metrics -> metrics_exporter",
    ] {
        build = build.queue(edge);
    }
    build.accepted()
}

#[test]
fn drawings_for_the_terminal() {
    insta::assert_snapshot!("squares_text", text(&squares(), Charset::Unicode));
    insta::assert_snapshot!("logs_text", text(&logs(), Charset::Unicode));
    insta::assert_snapshot!("crawl_text", text(&crawl(), Charset::Unicode));
    insta::assert_snapshot!("crawl_ascii", text(&crawl(), Charset::Ascii));
    assert!(text(&crawl(), Charset::Ascii).is_ascii());
}

#[test]
fn drawings_for_other_programs() {
    insta::assert_snapshot!("crawl_dot", dot(&crawl()));
    insta::assert_snapshot!("crawl_mermaid", mermaid(&crawl()));
}

#[test]
fn pictures() {
    for (name, plan) in [
        ("squares.svg", squares()),
        ("logs.svg", logs()),
        ("crawl.svg", crawl()),
        ("warehouse.svg", warehouse()),
    ] {
        insta::assert_binary_snapshot!(name, svg(&plan).into_bytes());
    }
}

#[test]
fn names_are_only_names_in_every_drawing() {
    let build = Build::new().named("a\"b\\<c>&\u{1b}[31m").stage("x\"y\\<z>&|#`;\n").stage("end");
    let plan = build.accepted();
    let picture = svg(&plan);
    assert!(picture.contains("x&quot;y\\&lt;z&gt;&amp;|#`;\u{fffd}"));
    assert!(!picture.contains("<z>") && !picture.contains('\u{1b}'));
    assert!(dot(&plan).contains(r#"label="x\"y\\<z>&|#`;"#));
    assert!(mermaid(&plan).contains("x#34;y#92;#60;z#62;#38;#124;#35;#96;#59;"));
    assert!(!text(&plan, Charset::Unicode).contains('\u{1b}'));
}

#[test]
fn no_drawing_shows_an_environment_or_a_command() {
    let plan = crawl();
    for drawing in [text(&plan, Charset::Unicode), dot(&plan), mermaid(&plan), svg(&plan)] {
        assert!(!drawing.contains("hunter2") && !drawing.contains("TOKEN"));
        assert!(!drawing.contains("true"), "the command of every stage");
    }
}
