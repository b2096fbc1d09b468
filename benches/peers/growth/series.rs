//! What grows, and the pipelines that it grows in. All pass their records on to the standard output, where they are
//! counted and added up.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use super::draw::Kind;
use super::measure::{Sum, Work};
use crate::contest::Context;
use crate::engine::{Pipeline, quoted};
use crate::input;

/// One thing that grows.
pub(super) struct Series {
    pub(super) name: &'static str,
    /// In the name of its picture.
    pub(super) file: &'static str,
    /// What its x is.
    pub(super) axis: &'static str,
    pub(super) kind: Kind,
    pub(super) curves: fn(&Context) -> Vec<Curve>,
    pub(super) xs: fn(&Context, &Curve) -> Vec<u64>,
}

/// One way to work.
#[derive(Clone)]
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// The greatest x.
    most: u64,
    pub(super) work: fn(&Context, u64) -> Work,
}

/// The names of all series.
pub(crate) fn names() -> Vec<&'static str> {
    all().iter().map(|series| series.name).collect()
}

pub(super) fn all() -> Vec<Series> {
    vec![
        Series {
            name: "the records",
            file: "records",
            axis: "records",
            kind: Kind::Count,
            curves: |context| {
                vec![
                    Curve { name: "stream, 2 cat", most: context.size(100_000_000, 1_000_000), work: stream },
                    Curve { name: "map, 2 cat, ordered", most: context.size(10_000_000, 100_000), work: map },
                    Curve { name: "each, 2 echo", most: context.size(10_000, 1000), work: each },
                ]
            },
            xs: |_, curve| {
                let least = if curve.most <= 10_000 { 100 } else { 10_000 };
                powers(least, 10, curve.most)
            },
        },
        Series {
            name: "the size of records",
            file: "sizes",
            axis: "size of a record",
            kind: Kind::Size,
            curves: |context| {
                let most = context.size(64 << 20, 1 << 20);
                vec![
                    Curve { name: "stream, 2 cat", most, work: sized_stream },
                    Curve { name: "map, 2 cat, ordered", most, work: sized_map },
                ]
            },
            xs: |_, curve| powers(1, 4, curve.most),
        },
        Series {
            name: "the width of a pool",
            file: "pools",
            axis: "workers",
            kind: Kind::Count,
            curves: |context| {
                let most = context.size(256, 16);
                vec![
                    Curve { name: "stream, cat", most, work: wide_stream },
                    Curve { name: "map, cat, ordered", most, work: wide_map },
                ]
            },
            xs: |_, curve| powers(1, 4, curve.most),
        },
        Series {
            name: "the stages of a chain",
            file: "stages",
            axis: "stages",
            kind: Kind::Count,
            curves: |context| {
                let most = context.size(200, 20);
                vec![
                    Curve { name: "stream, cat", most, work: chained_stream },
                    Curve { name: "map, cat, ordered", most, work: chained_map },
                ]
            },
            xs: |_, curve| steps(&[1, 2, 5, 10, 20, 50, 100, 200], curve.most),
        },
        Series {
            name: "the edges of one stage",
            file: "edges",
            axis: "edges",
            kind: Kind::Count,
            curves: |context| {
                let most = context.size(1000, 30);
                vec![
                    Curve { name: "out of one: copies", most, work: fan_out },
                    Curve { name: "into one: merged", most, work: fan_in },
                ]
            },
            xs: |_, curve| steps(&[1, 3, 10, 30, 100, 300, 1000], curve.most),
        },
    ]
}

fn powers(least: u64, factor: u64, most: u64) -> Vec<u64> {
    std::iter::successors(Some(least), |x| x.checked_mul(factor)).take_while(|&x| x <= most).collect()
}

fn steps(xs: &[u64], most: u64) -> Vec<u64> {
    xs.iter().copied().filter(|&x| x <= most).collect()
}

/// Numbers through one stage or through many.
fn numbers(context: &Context, records: u64, name: &str, stages: u64, yaml: &str) -> Work {
    let file = input::numbers(context, 1, records);
    let output = Sum::of(File::open(&file).unwrap()).unwrap();
    let pipeline = Pipeline::new(context, name, yaml).reading(&file);
    Work { pipeline, records, passages: records * stages, output }
}

const STREAM: &str = "command: [cat]";
const MAP: &str = "command: [cat], mode: map, ordered: true";

fn one_stage(stage: &str, pool: u64) -> String {
    format!("stages: {{work: {{{stage}, pool: {pool}}}}}\nedges: [{{queue: stdin -> work -> stdout}}]\n")
}

fn stream(context: &Context, records: u64) -> Work {
    numbers(context, records, "records", 1, &one_stage(STREAM, 2))
}

fn map(context: &Context, records: u64) -> Work {
    numbers(context, records, "records", 1, &one_stage(MAP, 2))
}

fn each(context: &Context, records: u64) -> Work {
    numbers(context, records, "records", 1, &one_stage("command: [/bin/echo, '{}'], mode: each", 2))
}

fn wide_stream(context: &Context, pool: u64) -> Work {
    numbers(context, context.size(10_000_000, 100_000), "pools", 1, &one_stage(STREAM, pool))
}

fn wide_map(context: &Context, pool: u64) -> Work {
    numbers(context, context.size(1_000_000, 100_000), "pools", 1, &one_stage(MAP, pool))
}

/// Of all input of one size, together; at most a million records of it.
const SIZED_BYTES: u64 = 512 << 20;

fn sized(context: &Context, bytes: u64, stage: &str) -> Work {
    let records = (SIZED_BYTES / bytes).min(context.size(1_000_000, 20_000));
    let file = lines_of(context, bytes, records);
    let output = Sum::of(File::open(&file).unwrap()).unwrap();
    let pipeline = Pipeline::new(context, "sizes", &one_stage(stage, 2)).reading(&file);
    Work { pipeline, records, passages: records, output }
}

/// Lines of so many bytes, with their ends.
fn lines_of(context: &Context, bytes: u64, records: u64) -> PathBuf {
    let path = context.folder().join("sized");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let mut line = vec![b'.'; usize::try_from(bytes).unwrap()];
    for number in 0..records {
        let digits = number.to_string();
        let room = line.len() - 1;
        let shown = digits.len().min(room);
        line[..shown].copy_from_slice(&digits.as_bytes()[..shown]);
        line[room] = b'\n';
        out.write_all(&line).unwrap();
    }
    out.flush().unwrap();
    path
}

fn sized_stream(context: &Context, bytes: u64) -> Work {
    sized(context, bytes, STREAM)
}

fn sized_map(context: &Context, bytes: u64) -> Work {
    sized(context, bytes, MAP)
}

fn chain(context: &Context, stages: u64, stage: &str) -> Work {
    let names: Vec<String> = (1..=stages).map(|number| format!("s{number}")).collect();
    let defined: String = names.iter().map(|name| format!("  {name}: {{{stage}}}\n")).collect();
    let yaml = format!("stages:\n{defined}edges: [{{queue: stdin -> {} -> stdout}}]\n", names.join(" -> "));
    numbers(context, context.size(100_000, 10_000), "stages", stages, &yaml)
}

fn chained_stream(context: &Context, stages: u64) -> Work {
    chain(context, stages, STREAM)
}

fn chained_map(context: &Context, stages: u64) -> Work {
    chain(context, stages, MAP)
}

/// Each of so many stages reads all numbers.
fn fan_out(context: &Context, edges: u64) -> Work {
    let stages: String = (1..=edges).map(|number| format!("  s{number}: {{command: [cat]}}\n")).collect();
    let queues: String = (1..=edges).map(|number| format!("  - queue: stdin -> s{number}\n")).collect();
    let yaml = format!("stages:\n{stages}edges:\n{queues}");
    let mut work = numbers(context, context.size(10_000, 1000), "edges", edges, &yaml);
    work.output = work.output.times(edges);
    work
}

/// Each of so many stages writes all numbers, and one reads them.
fn fan_in(context: &Context, edges: u64) -> Work {
    let records = context.size(10_000, 1000);
    let file = input::numbers(context, 1, records);
    let source = |number| format!("  s{number}: {{command: [cat, {}]}}\n", quoted(&file));
    let stages: String = (1..=edges).map(source).collect();
    let queues: String = (1..=edges).map(|number| format!("  - queue: s{number} -> all\n")).collect();
    let yaml = format!("stages:\n{stages}  all: {{command: [cat]}}\nedges:\n{queues}");
    let output = Sum::of(File::open(&file).unwrap()).unwrap().times(edges);
    Work { pipeline: Pipeline::new(context, "edges", &yaml), records, passages: records * edges, output }
}
