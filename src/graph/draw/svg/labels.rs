//! What is said of edges, put on them where it hides least.

use super::Rect;
use super::canvas::{Canvas, MUTED, PAPER, Px, Style};
use super::wires::{Point, Wire, color};
use crate::graph::draw::picture::{Arc, Kind, Picture};

/// Notes go on one line up to this width.
const LINE_WIDTH: f64 = 110.0;
const LINE_HEIGHT: f64 = 13.0;

/// The notes of one arc, in lines.
pub(super) struct Label {
    lines: Vec<String>,
    /// 0 where there is nothing to say.
    pub(super) width: f64,
}

impl Label {
    pub(super) fn new(arc: &Arc) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for note in &arc.notes {
            match lines.last_mut() {
                Some(line) if Style::Note.width(line) + Style::Note.width(note) < LINE_WIDTH => {
                    line.push_str(" · ");
                    line.push_str(note);
                }
                _ => lines.push(note.clone()),
            }
        }
        let width = lines.iter().map(|line| Style::Note.width(line)).fold(0.0, f64::max);
        Self { lines, width }
    }

    fn rect(&self, centre: Point) -> Rect {
        let width = self.width + 10.0;
        let height = LINE_HEIGHT * self.lines.len() as f64 + 4.0;
        Rect { x: centre.x - width / 2.0, y: centre.y - height / 2.0, width, height }
    }
}

/// Draws the labels of all arcs.
pub(super) fn draw(
    canvas: &mut Canvas,
    picture: &Picture<'_>,
    labels: &[Label],
    wires: &[Wire],
    boxes: &[Rect],
) {
    let samples =
        |(number, wire): (usize, &Wire)| wire.samples().into_iter().map(move |point| (number, point));
    let mut samples: Vec<(usize, Point)> = wires.iter().enumerate().flat_map(samples).collect();
    samples.sort_by(|a, b| a.1.x.total_cmp(&b.1.x));
    let mut taken: Vec<Rect> = boxes.to_vec();
    for (number, label) in labels.iter().enumerate() {
        if label.lines.is_empty() {
            continue;
        }
        // What could be hidden lies where the wire's first curve does, or half a label beside it.
        let (first, last) = (wires[number].at(0.0).x - label.width, wires[number].at(1.0).x + label.width);
        let start = samples.partition_point(|(_, point)| point.x < first);
        let end = samples.partition_point(|(_, point)| point.x <= last);
        let others = samples[start..end].iter().filter(|(other, _)| *other != number);
        let others: Vec<Point> = others.map(|(_, point)| *point).collect();
        let near: Vec<Rect> =
            taken.iter().copied().filter(|rect| rect.x <= last && rect.right() >= first).collect();
        let rect = best(label, &wires[number], &near, &others);
        taken.push(rect);
        draw_one(canvas, label, rect, picture.arcs[number].kind);
    }
}

/// The place along the first curve where the label hides least: no box or label if that can be, few other wires,
/// and near the middle.
fn best(label: &Label, wire: &Wire, taken: &[Rect], others: &[Point]) -> Rect {
    let places = [0.5, 0.42, 0.58, 0.35, 0.65, 0.28, 0.72, 0.2, 0.8];
    let candidates = places.map(|t| label.rect(wire.at(t)));
    let cost = |rect: &Rect| {
        let overlaps = taken.iter().filter(|other| rect.overlaps(**other)).count();
        let hidden = others
            .iter()
            .filter(|p| rect.overlaps(Rect { x: p.x - 2.0, y: p.y - 1.0, width: 4.0, height: 2.0 }))
            .count();
        1000 * overlaps + hidden
    };
    candidates.into_iter().min_by_key(cost).expect("there are places to choose from")
}

fn draw_one(canvas: &mut Canvas, label: &Label, rect: Rect, kind: Kind) {
    canvas.line(format_args!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{PAPER}\" fill-opacity=\"0.94\"/>",
        Px(rect.x),
        Px(rect.y),
        Px(rect.width),
        Px(rect.height)
    ));
    let ink = if kind == Kind::Failed { color(kind) } else { MUTED };
    for (line, text) in label.lines.iter().enumerate() {
        let y = rect.y + 12.0 + LINE_HEIGHT * line as f64;
        canvas.text(Style::Note, ink, rect.x + rect.width / 2.0, y, true, text);
    }
}
