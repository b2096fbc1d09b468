//! What a reload does, in words.

use super::{Colour, Look};
use crate::change::{Change, Step, Why};

/// Names are not padded beyond this.
const MOST_NAME: usize = 40;

/// What becomes of each stage and edge, and why, line by line; at the end a summary.
pub fn change(change: &Change, look: Look) -> String {
    let mut text = String::new();
    let stages: Vec<_> = change.stages.iter().map(|stage| (&stage.stage, stage.step, &stage.why)).collect();
    let edges: Vec<_> = change.edges.iter().map(|edge| (&edge.edge, edge.step, &edge.why)).collect();
    let names = stages.iter().chain(&edges).map(|(name, ..)| name.chars().count());
    let width = names.max().unwrap_or(0).min(MOST_NAME);
    for (title, rows) in [("Stages", stages), ("Edges", edges)] {
        if rows.is_empty() {
            continue;
        }
        text.push_str(&look.paint(Colour::Bold, title));
        text.push('\n');
        for (name, step, why) in rows {
            text.push_str(&row(name, step, why, width, look));
        }
    }
    if !change.adopted.is_empty() {
        text.push_str(&look.paint(Colour::Bold, "Adopted"));
        text.push_str(&format!("\n  {}: from now on, without touching a worker\n", keys(&change.adopted)));
    }
    text.push('\n');
    if !change.new_run.is_empty() {
        let what = change.new_run.join(", ");
        let words = "a running pipeline cannot take this over: end it and run it again, for";
        text.push_str(&format!("{} {what}\n", look.paint(Colour::Red, words)));
    } else {
        text.push_str(&sentence(change));
    }
    text
}

fn row(name: &str, step: Step, why: &[Why], width: usize, look: Look) -> String {
    let name = format!("{name:<width$}");
    let colour = match step {
        Step::Same => Colour::Dim,
        Step::Resize | Step::Rewire | Step::Add => Colour::Green,
        Step::Replace => Colour::Yellow,
        Step::Remove => Colour::Red,
    };
    let step = look.paint(colour, &format!("{:<8}", step.as_str()));
    format!("  {name}  {step} {}", Why::all(why)).trim_end().to_owned() + "\n"
}

fn keys(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}

/// The change in one sentence, as a reload tells it.
fn sentence(change: &Change) -> String {
    if change.is_nothing() {
        return "Nothing differs: a reload would change nothing.\n".to_owned();
    }
    let kept: Vec<&str> = [Step::Same, Step::Resize, Step::Rewire]
        .into_iter()
        .flat_map(|step| change.stages_to(step))
        .collect();
    let workers = match kept.len() {
        0 => "no stage keeps its workers".to_owned(),
        1 => format!("`{}` keeps its workers", kept[0]),
        count if count == change.stages.len() => "all stages keep their workers".to_owned(),
        count => format!("{count} of {} stages keep their workers", change.stages.len()),
    };
    format!("{}.\n", capitalised(&workers))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
