//! What the signs of a picture mean: those that occur in it, and only if it has any that need a word.

use super::MARGIN;
use super::canvas::{Canvas, MUTED, Px, Style};
use super::wires::sample;
use crate::graph::draw::picture::{Kind, Picture};

/// The length of a wire in the legend.
const SAMPLE: f64 = 34.0;
const ROW: f64 = 20.0;

/// One sign.
pub(super) enum Entry {
    Wire(Kind, &'static str),
    Pool,
    Daemon,
}

impl Entry {
    fn text(&self) -> &'static str {
        match self {
            Self::Wire(_, text) => text,
            Self::Pool => "pool of workers",
            Self::Daemon => "daemon",
        }
    }

    fn width(&self) -> f64 {
        SAMPLE + 8.0 + Style::Detail.width(self.text()) + 22.0
    }
}

/// The signs that occur.
pub(super) fn entries(picture: &Picture<'_>) -> Vec<Entry> {
    let wire = |kind| {
        let text = match kind {
            Kind::Queue => "queue",
            Kind::Failed => "failed records",
            Kind::Pipe => "pipe",
            Kind::Duplex => "duplex pipe",
            Kind::Implicit => "output with no edge",
        };
        Entry::Wire(kind, text)
    };
    let mut entries: Vec<Entry> = picture.kinds().into_iter().map(wire).collect();
    let stages = || picture.plan.stages.iter().map(|plan| &plan.stage);
    if stages().any(|stage| stage.pool.max > 1) {
        entries.push(Entry::Pool);
    }
    if stages().any(|stage| stage.daemon) {
        entries.push(Entry::Daemon);
    }
    entries
}

/// The width below which not even the widest entry fits.
pub(super) fn least_width(entries: &[Entry]) -> f64 {
    entries.iter().map(Entry::width).fold(0.0, f64::max)
}

/// The height of the legend where it may be that wide.
pub(super) fn height(entries: &[Entry], width: f64) -> f64 {
    places(entries, width).last().map_or(0.0, |(_, y)| y + ROW)
}

/// The left end and the top of each entry.
fn places(entries: &[Entry], width: f64) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (0.0, 0.0);
    let mut places = Vec::new();
    for entry in entries {
        if x > 0.0 && x + entry.width() > width {
            (x, y) = (0.0, y + ROW);
        }
        places.push((x, y));
        x += entry.width();
    }
    places
}

pub(super) fn draw(canvas: &mut Canvas, entries: &[Entry], top: f64, width: f64) {
    for (entry, (x, y)) in entries.iter().zip(places(entries, width)) {
        let (x, middle) = (x + MARGIN, top + y + ROW / 2.0);
        match entry {
            Entry::Wire(kind, _) => sample(x, middle, SAMPLE).draw(canvas, *kind),
            Entry::Pool => {
                for shift in [6.0, 3.0, 0.0] {
                    draw_sheet(canvas, x + 6.0 + shift, middle - 5.0 - shift + 3.0, "#ffffff", "#8c959f");
                }
            }
            Entry::Daemon => {
                draw_sheet(canvas, x + 6.0, middle - 5.0, "#e9edf2", "#6e7781\" stroke-dasharray=\"3 2");
            }
        }
        canvas.text(Style::Detail, MUTED, x + SAMPLE + 8.0, middle + 4.0, false, entry.text());
    }
}

fn draw_sheet(canvas: &mut Canvas, x: f64, y: f64, fill: &str, stroke: &str) {
    canvas.line(format_args!(
        "<rect x=\"{}\" y=\"{}\" width=\"20\" height=\"11\" rx=\"3\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
        Px(x),
        Px(y)
    ));
}
