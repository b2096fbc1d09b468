//! For Mermaid, which code hosts draw inside Markdown.

use super::picture::{Arc, Kind, Node, Picture, summary};
use crate::graph::Plan;

/// The graph as a Mermaid flowchart.
pub(crate) fn mermaid(plan: &Plan) -> String {
    let picture = Picture::new(plan);
    let mut lines = vec!["flowchart LR".to_owned()];
    for (position, &node) in picture.nodes.iter().enumerate() {
        lines.push(format!("  n{position}{}", shape(&picture, node)));
    }
    lines.extend(picture.arcs.iter().map(|arc| format!("  {}", arc_line(arc))));
    lines.extend(styles(&picture));
    lines.join("\n") + "\n"
}

/// A name inside quotes. Mermaid reads Markdown and HTML there, so all that could be either is written as an
/// entity, which it introduces by `#`.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => escaped.push('\u{fffd}'),
            c if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | ',' | ':') => {
                escaped.push(c)
            }
            c if c.is_ascii() => escaped.push_str(&format!("#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

fn shape(picture: &Picture<'_>, node: Node) -> String {
    let name = escaped(picture.name(node));
    match node {
        Node::Stage(stage) => {
            let plan = &picture.plan.stages[stage];
            let label = format!("\"<b>{name}</b><br/>{}\"", summary(plan));
            // A box with double sides stands for a pool.
            if plan.stage.pool.max > 1 { format!("[[{label}]]") } else { format!("({label})") }
        }
        Node::Stdin | Node::Stdout | Node::ImplicitStdout => format!("([\"{name}\"])"),
    }
}

fn arc_line(arc: &Arc) -> String {
    let arrow = match arc.kind {
        Kind::Queue | Kind::Failed => "-->",
        Kind::Pipe => "==>",
        Kind::Duplex => "<==>",
        Kind::Implicit => "-.->",
    };
    let label = match &arc.notes[..] {
        [] => String::new(),
        notes => {
            let notes: Vec<String> = notes.iter().map(|note| escaped(note)).collect();
            format!("|\"{}\"|", notes.join("<br/>"))
        }
    };
    format!("n{} {arrow}{label} n{}", arc.from, arc.to)
}

fn styles(picture: &Picture<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let arcs = |kind| {
        let numbers = picture.arcs.iter().enumerate().filter(move |(_, arc)| arc.kind == kind);
        numbers.map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(",")
    };
    for (kind, style) in
        [(Kind::Failed, "stroke:#cf222e,color:#cf222e"), (Kind::Implicit, "stroke:#afb8c1,color:#8c959f")]
    {
        let numbers = arcs(kind);
        if !numbers.is_empty() {
            lines.push(format!("  linkStyle {numbers} {style}"));
        }
    }
    let daemons: Vec<String> = picture
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(n, &node)| match node {
            Node::Stage(stage) if picture.plan.stages[stage].stage.daemon => Some(format!("n{n}")),
            _ => None,
        })
        .collect();
    if !daemons.is_empty() {
        lines.push("  classDef daemon stroke-dasharray:5 4".to_owned());
        lines.push(format!("  class {} daemon", daemons.join(",")));
    }
    lines
}
