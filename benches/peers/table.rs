//! What came of it, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contest::{Line, Outcome, Target, Unit};
use crate::machine::About;

const HEADS: [&str; 8] = ["row", "mpflow", "peer", "its own", "ratio", "least–greatest", "target", ""];

/// A row in one line, for whoever waits for the table.
pub(crate) fn brief(outcome: &Outcome) -> String {
    let ours = outcome
        .ours
        .as_ref()
        .map_or("wrong".to_owned(), |&cost| number(outcome.unit, outcome.unit.show(cost)));
    let ratios = outcome
        .lines
        .iter()
        .filter_map(|line| Some(format!("; {} of {}", ratio(line.ratio?[0]), line.peer.as_ref()?)));
    format!("#   {ours}{}", ratios.collect::<String>())
}

/// The table, which is also one of Markdown.
pub(crate) fn text(about: &About, outcomes: &[Outcome]) -> String {
    let mut cells = vec![HEADS.map(ToOwned::to_owned)];
    for outcome in outcomes {
        let ours = match &outcome.ours {
            Ok(cost) => number(outcome.unit, outcome.unit.show(*cost)),
            Err(reason) => format!("wrong: {reason}"),
        };
        if outcome.lines.is_empty() {
            let [row, none] = [outcome.row.name, ""].map(ToOwned::to_owned);
            cells.push([
                row,
                ours,
                none.clone(),
                none.clone(),
                none.clone(),
                none.clone(),
                none.clone(),
                none,
            ]);
            continue;
        }
        for (position, line) in outcome.lines.iter().enumerate() {
            let first = |text: &str| if position == 0 { text.to_owned() } else { String::new() };
            cells.push([
                first(outcome.row.name),
                first(&ours),
                line.peer.clone().unwrap_or_default(),
                line.shown.map(|shown| number(outcome.unit, shown)).unwrap_or_default(),
                line.ratio.map(|[middle, ..]| ratio(middle)).unwrap_or_default(),
                line.ratio
                    .map(|[_, least, most]| format!("{}–{}", ratio(least), ratio(most)))
                    .unwrap_or_default(),
                line.target.map(|target| wanted(target, outcome.unit)).unwrap_or_default(),
                line.verdict.map(|verdict| verdict.as_str().to_owned()).unwrap_or_default(),
            ]);
        }
    }
    let mut out = String::new();
    let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    for (position, line) in cells.iter().enumerate() {
        let padded = line.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} |"));
        let _ = writeln!(out, "|{}", padded.collect::<String>());
        if position == 0 {
            let rules = widths.iter().map(|&width| format!("{}|", "-".repeat(width + 2)));
            let _ = writeln!(out, "|{}", rules.collect::<String>());
        }
    }
    let _ = writeln!(out, "\n{} × {}, Linux {}", about.cpus, about.cpu, about.kernel);
    let _ = writeln!(out, "load before and after: {} {}", about.load[0], about.load[1]);
    for version in &about.versions {
        let _ = writeln!(out, "{version}");
    }
    for outcome in outcomes {
        for missing in &outcome.missing {
            let _ = writeln!(out, "left out in `{}`: {missing}", outcome.row.name);
        }
    }
    out
}

/// Two digits, and more of a ratio that would be none.
fn ratio(ratio: f64) -> String {
    if ratio < 0.05 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}

fn number(unit: Unit, shown: f64) -> String {
    let digits = match shown {
        100.0.. => 0,
        10.0.. => 1,
        0.05.. => 2,
        _ => 4,
    };
    format!("{shown:.digits$} {}", unit.name())
}

fn wanted(target: Target, unit: Unit) -> String {
    match target {
        Target::Ratio(ratio) => format!("≥ {ratio}"),
        Target::AtMost(most) => format!("≤ {most} {}", unit.name()),
        Target::AtLeast(least) => format!("≥ {least} {}", unit.name()),
    }
}

/// All of it, for keeping.
pub(crate) fn json(about: &About, outcomes: &[Outcome]) -> Value {
    let rows = outcomes.iter().map(|outcome| {
        json!({
            "row": outcome.row.name,
            "unit": outcome.unit.name(),
            "mpflow": outcome.ours.as_ref().ok().map(|cost| outcome.unit.show(*cost)),
            "wrong": outcome.ours.as_ref().err(),
            "peers": outcome.lines.iter().map(peer).collect::<Vec<_>>(),
            "left_out": outcome.missing,
        })
    });
    json!({"machine": about, "rows": rows.collect::<Vec<_>>()})
}

fn peer(line: &Line) -> Value {
    let target = line.target.map(|target| match target {
        Target::Ratio(ratio) => json!({"ratio_at_least": ratio}),
        Target::AtMost(most) => json!({"at_most": most}),
        Target::AtLeast(least) => json!({"at_least": least}),
    });
    json!({
        "peer": line.peer,
        "value": line.shown,
        "ratio": line.ratio.map(|[middle, ..]| middle),
        "least": line.ratio.map(|[_, least, _]| least),
        "greatest": line.ratio.map(|[.., most]| most),
        "target": target,
        "verdict": line.verdict.map(|verdict| verdict.as_str()),
    })
}
