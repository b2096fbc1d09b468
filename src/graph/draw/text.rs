//! For the terminal: the stages from sources to sinks, each with the edges that leave it.
//!
//! ```text
//! crawl   stream
//!   ├──▶ parse
//!   ╰──▶ archive     ≤ 1000
//!
//! parse   map ×4
//!   ├──▶ stdout
//!   ╰──▶ quarantine  failed
//! ```

use super::picture::{Arc, Kind, Node, Picture, dependencies, summary};
use crate::graph::Plan;

/// The characters a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Lines and arrows.
    Unicode,
    /// Only what ASCII has.
    Ascii,
}

/// The graph for a terminal, one line for each stage and each edge, ended by a newline.
pub(crate) fn text(plan: &Plan, charset: Charset) -> String {
    let picture = Picture::new(plan);
    let mut lines = vec![format!("{}: {}", plain(&plan.name), census(plan)), String::new()];
    let column = picture.nodes.iter().map(|&node| length(&picture, node)).max().unwrap_or(0);
    for node in in_order(&picture) {
        lines.extend(paragraph(&picture, node, column));
        lines.push(String::new());
    }
    match legend(&picture) {
        Some(legend) => lines.push(legend),
        // The empty line after the last stage.
        None => lines.truncate(lines.len() - 1),
    }
    let text: String = lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect();
    match charset {
        Charset::Unicode => text,
        Charset::Ascii => to_ascii(&text),
    }
}

fn census(plan: &Plan) -> String {
    let count = |count: usize, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let queues = plan.queues.iter().filter(|queue| queue.is_declared).count();
    let parts = [count(plan.stages.len(), "stage"), count(queues, "queue"), count(plan.pipes.len(), "pipe")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A name without what would confuse a terminal.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn length(picture: &Picture<'_>, node: Node) -> usize {
    picture.name(node).chars().count()
}

/// `stdin`, then the stages from sources to sinks.
fn in_order(picture: &Picture<'_>) -> Vec<usize> {
    let position = |node| picture.nodes.iter().position(|&other| other == node);
    let nodes =
        std::iter::once(Node::Stdin).chain(picture.plan.order.iter().map(|&stage| Node::Stage(stage)));
    nodes.filter_map(position).collect()
}

fn paragraph(picture: &Picture<'_>, position: usize, column: usize) -> Vec<String> {
    let node = picture.nodes[position];
    let mut lines = vec![headline(picture, node, column)];
    let arcs: Vec<&Arc> = picture.arcs.iter().filter(|arc| arc.from == position).collect();
    for (number, arc) in arcs.iter().enumerate() {
        let branch = if number + 1 == arcs.len() { '╰' } else { '├' };
        let target = plain(picture.name(picture.nodes[arc.to]));
        let notes = arc.notes.join(" · ");
        lines.push(format!("  {branch}{} {target:<column$}  {notes}", arrow(arc.kind)));
    }
    lines
}

fn headline(picture: &Picture<'_>, node: Node, column: usize) -> String {
    let name = plain(picture.name(node));
    let Node::Stage(stage) = node else { return name };
    let plan = &picture.plan.stages[stage];
    let mut words = vec![summary(plan)];
    words.extend(dependencies(plan).map(|text| plain(&text)));
    // The words stand where the notes of the edges do.
    format!("{name:<0$}  {1}", column + 7, words.join(" · "))
}

fn arrow(kind: Kind) -> &'static str {
    match kind {
        Kind::Queue | Kind::Failed => "──▶",
        Kind::Pipe => "══▶",
        Kind::Duplex => "◀═▶",
        Kind::Implicit => "╌╌▶",
    }
}

/// What the arrows mean, where there are others than those of queues.
fn legend(picture: &Picture<'_>) -> Option<String> {
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for kind in picture.kinds() {
        let what = match kind {
            Kind::Queue | Kind::Failed => "queue",
            Kind::Pipe => "pipe",
            Kind::Duplex => "duplex pipe",
            Kind::Implicit => "standard output with no edge",
        };
        if !kinds.iter().any(|(_, known)| *known == what) {
            kinds.push((arrow(kind), what));
        }
    }
    let is_plain = matches!(kinds[..], [] | [(_, "queue")]);
    let entries: Vec<String> = kinds.iter().map(|(arrow, what)| format!("{arrow} {what}")).collect();
    (!is_plain).then(|| entries.join("   "))
}

fn to_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '├' => ascii.push('|'),
            '╰' => ascii.push('`'),
            '─' => ascii.push('-'),
            '═' => ascii.push('='),
            '╌' => ascii.push('.'),
            '▶' => ascii.push('>'),
            '◀' => ascii.push('<'),
            '→' => ascii.push_str("->"),
            '≤' => ascii.push_str("<="),
            '×' => ascii.push('x'),
            '–' => ascii.push('-'),
            '·' => ascii.push(','),
            c if c.is_ascii() => ascii.push(c),
            _ => ascii.push('?'),
        }
    }
    ascii.replace(" , ", ", ")
}
