//! How time, memory and processor time grow with the work: with the records, with their size, with the width of a pool,
//! with the stages of a chain and with the edges of one stage.
//!
//! ```text
//! cargo bench -- growth                        all of it, about ten minutes
//! cargo bench -- growth --quick stages         smaller, only the series whose names hold `stages`
//! cargo bench -- growth --plots docs           also draws docs/growth-*.svg
//! ```
//!
//! Nothing is compared with anybody: what counts is that a curve stays flat or grows linearly. So each curve also says
//! the power of the last stretch, at least a decade of x where there is one: 0 is flat, 1 linear.

mod draw;
mod measure;
mod series;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contest::Context;
use crate::machine::{self, About};
use crate::options::Options;
use draw::{Kind, Line, Panel};
use measure::Measured;
pub(crate) use series::names;
use series::{Curve, Series};

/// A point of a curve: `x`, and what the runs there cost.
type Point = (f64, Measured);

/// A curve that was measured.
struct Grown {
    curve: Curve,
    points: Vec<Point>,
}

/// The three measures: name, kind of number, and what to take of a point.
type Measure = (&'static str, Kind, fn(&Measured) -> f64);
const MEASURES: [Measure; 3] = [
    ("time for a record", Kind::Seconds, |point| point.seconds),
    ("CPU of the engine for a record and stage", Kind::Seconds, |point| point.processor_seconds),
    ("memory of the engine at its peak", Kind::Bytes, |point| point.memory_bytes),
];

/// Runs all that is wanted, prints it and draws it; false where a run was wrong.
pub(crate) fn run(options: &Options) -> bool {
    let context = Context::new(options);
    let before = machine::load();
    let mut is_right = true;
    let mut all = Vec::new();
    for series in series::all().into_iter().filter(|series| options.wants(series.name)) {
        eprintln!("# growth with {}", series.name);
        let mut grown = Vec::new();
        for curve in (series.curves)(&context) {
            match points(&context, &series, &curve, options.growth_rounds()) {
                Ok(points) => grown.push(Grown { curve, points }),
                Err(reason) => {
                    eprintln!("#   wrong: {}: {reason}", curve.name);
                    is_right = false;
                }
            }
        }
        if let (Some(folder), false) = (&options.plots, grown.is_empty()) {
            let path = folder.join(format!("growth-{}.svg", series.file));
            if let Err(error) = std::fs::write(&path, picture(&series, &grown)) {
                eprintln!("#   cannot write {}: {error}", path.display());
                is_right = false;
            }
        }
        all.push((series, grown));
    }
    let about = About::new(before);
    match options.json {
        true => println!("{}", json(&about, &all)),
        false => println!("{}", text(&about, &all)),
    }
    is_right
}

fn points(context: &Context, series: &Series, curve: &Curve, rounds: usize) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for x in (series.xs)(context, curve) {
        let work = (curve.work)(context, x);
        let runs = (0..rounds).map(|_| measure::measure(&work)).collect::<Result<Vec<_>, String>>();
        let middle = Measured::middle(runs.map_err(|reason| format!("at {x}: {reason}"))?);
        let point = middle.for_records(work.records as f64, work.passages as f64);
        eprintln!(
            "#   {:<22} {:>12}  {:>9} {:>9} {:>9}",
            curve.name,
            x,
            Kind::Seconds.say(point.seconds),
            Kind::Seconds.say(point.processor_seconds),
            Kind::Bytes.say(point.memory_bytes)
        );
        points.push((x as f64, point));
    }
    Ok(points)
}

/// The power with which `y` grows between the last point and the last one that is a decade before it.
fn power(points: &[(f64, f64)]) -> Option<f64> {
    let &(end, last) = points.last()?;
    let before = points.iter().rev().skip(1).find(|(x, _)| *x <= end / 9.9).or_else(|| points.first())?;
    (before.0 < end).then(|| (last / before.1).log10() / (end / before.0).log10())
}

fn line(grown: &Grown, of: fn(&Measured) -> f64) -> Vec<(f64, f64)> {
    grown.points.iter().map(|(x, point)| (*x, of(point))).collect()
}

fn picture(series: &Series, grown: &[Grown]) -> String {
    let panels = MEASURES.map(|(title, kind, of)| Panel {
        title,
        kind,
        lines: grown.iter().map(|one| Line { name: one.curve.name, points: line(one, of) }).collect(),
    });
    draw::figure(&format!("Growth with {}", series.name), series.axis, series.kind, &panels)
}

/// Tables of Markdown.
fn text(about: &About, all: &[(Series, Vec<Grown>)]) -> String {
    let mut out = String::new();
    for (series, grown) in all {
        let _ = writeln!(out, "| {} | what | least x … greatest x | power at the end |", series.name);
        let _ = writeln!(out, "|---|---|---|---|");
        for one in grown {
            for (name, kind, of) in MEASURES {
                let line = line(one, of);
                let said: Vec<String> = line.iter().map(|(_, y)| kind.say(*y)).collect();
                let power = power(&line).map_or("–".to_owned(), |power| format!("{power:.2}"));
                let _ = writeln!(out, "| {} | {name} | {} | {power} |", one.curve.name, said.join(", "));
            }
        }
        out.push('\n');
    }
    let _ = writeln!(out, "{} × {}, Linux {}", about.cpus, about.cpu, about.kernel);
    let _ = writeln!(out, "load before and after: {} {}", about.load[0], about.load[1]);
    out
}

fn json(about: &About, all: &[(Series, Vec<Grown>)]) -> Value {
    let curve = |one: &Grown| {
        let points = one.points.iter().map(|(x, point)| {
            json!({
                "x": x,
                "seconds_for_a_record": point.seconds,
                "engine_processor_seconds_for_a_record_and_stage": point.processor_seconds,
                "engine_memory_bytes": point.memory_bytes,
            })
        });
        json!({"curve": one.curve.name, "points": points.collect::<Vec<_>>()})
    };
    let series = all.iter().map(
        |(series, grown)| json!({"growth": series.name, "curves": grown.iter().map(curve).collect::<Vec<_>>()}),
    );
    json!({"machine": about, "series": series.collect::<Vec<_>>()})
}
