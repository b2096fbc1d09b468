//! For Graphviz.

use super::picture::{Arc, Kind, Node, Picture, summary};
use crate::graph::Plan;

/// The graph in the language of Graphviz: `mpflow graph --format dot FILE | dot -Tpng`.
pub(crate) fn dot(plan: &Plan) -> String {
    let picture = Picture::new(plan);
    let mut dot = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [fontname=\"Helvetica\", fontsize=12];\n  \
         edge [fontname=\"Helvetica\", fontsize=10, color=\"#57606a\"];\n",
        quoted(&plan.name)
    );
    for (position, &node) in picture.nodes.iter().enumerate() {
        dot.push_str(&node_line(&picture, position, node));
    }
    for arc in &picture.arcs {
        dot.push_str(&arc_line(arc));
    }
    dot.push_str("}\n");
    dot
}

/// A string of the language: in it only the quote is special, and what a backslash before it would do.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push('\u{fffd}'),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Lines of one label.
fn label(lines: &[String]) -> String {
    let lines: Vec<String> =
        lines.iter().map(|line| quoted(line)).map(|line| line[1..line.len() - 1].to_owned()).collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn node_line(picture: &Picture<'_>, position: usize, node: Node) -> String {
    let name = picture.name(node).to_owned();
    let attributes = match node {
        Node::Stage(stage) => {
            let plan = &picture.plan.stages[stage];
            let style = if plan.stage.daemon {
                ", style=\"rounded,filled,dashed\", fillcolor=\"#e6eaef\""
            } else {
                ", style=\"rounded,filled\", fillcolor=\"#ffffff\""
            };
            let peripheries = if plan.stage.pool.max > 1 { ", peripheries=2" } else { "" };
            format!("shape=box, label={}{style}{peripheries}", label(&[name, summary(plan)]))
        }
        Node::Stdin | Node::Stdout => format!("shape=plain, label={}", label(&[name])),
        Node::ImplicitStdout => {
            format!("shape=plain, label={}, fontcolor=\"#8c959f\"", label(&[name]))
        }
    };
    format!("  n{position} [{attributes}];\n")
}

fn arc_line(arc: &Arc) -> String {
    let mut attributes = Vec::new();
    if !arc.notes.is_empty() {
        attributes.push(format!("label={}", label(&arc.notes)));
    }
    let style = match arc.kind {
        Kind::Queue => "",
        Kind::Failed => "color=\"#cf222e\", fontcolor=\"#cf222e\"",
        Kind::Pipe => "color=\"#57606a:#57606a\"",
        Kind::Duplex => "color=\"#57606a:#57606a\", dir=both",
        Kind::Implicit => "style=dashed, color=\"#afb8c1\"",
    };
    if !style.is_empty() {
        attributes.push(style.to_owned());
    }
    let Arc { from, to, .. } = arc;
    match attributes[..] {
        [] => format!("  n{from} -> n{to};\n"),
        _ => format!("  n{from} -> n{to} [{}];\n", attributes.join(", ")),
    }
}
