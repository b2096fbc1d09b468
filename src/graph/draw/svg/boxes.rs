//! Stages, and `mpflow`'s own streams.

use super::canvas::{Canvas, Escaped, INK, MUTED, Px, Style};
use super::{MARGIN, Rect, TITLE};
use crate::graph::draw::layout::Layout;
use crate::graph::draw::picture::{Node, Picture, dependencies, traits, width};
use crate::model::{Mode, STDIN, STDOUT};

/// How far the sheets of a pool stand out behind its box.
pub(super) const STACK: f64 = 7.0;
/// The longest name that is shown whole; the tooltip always is.
const LONGEST_NAME: usize = 32;
/// The distance between two edges at the side of a box.
pub(super) const PORT_SPACE: f64 = 15.0;

/// What stands at a node.
pub(super) enum Shape {
    Stage {
        name: String,
        /// The name in full.
        tooltip: String,
        details: Vec<String>,
        width: Option<String>,
        accent: &'static str,
        is_daemon: bool,
        /// Edges at the fuller side.
        ports: usize,
    },
    Terminal {
        name: &'static str,
        is_faint: bool,
        ports: usize,
    },
}

impl Shape {
    pub(super) fn new(picture: &Picture<'_>, node: usize) -> Self {
        let count = |is_end: fn(&crate::graph::draw::picture::Arc) -> usize| {
            picture.arcs.iter().filter(|arc| is_end(arc) == node).count()
        };
        let ports = count(|arc| arc.from).max(count(|arc| arc.to));
        let stage = match picture.nodes[node] {
            Node::Stdin => return Self::Terminal { name: STDIN, is_faint: false, ports },
            Node::Stdout => return Self::Terminal { name: STDOUT, is_faint: false, ports },
            Node::ImplicitStdout => return Self::Terminal { name: STDOUT, is_faint: true, ports },
            Node::Stage(stage) => &picture.plan.stages[stage],
        };
        let mut details = vec![traits(stage).join(" · ")];
        details.extend(dependencies(stage).map(|text| shortened(&text, 44)));
        Self::Stage {
            name: shortened(&stage.stage.name, LONGEST_NAME),
            tooltip: stage.stage.name.clone(),
            details,
            width: width(stage.stage.pool),
            accent: match stage.stage.mode {
                Mode::Stream => "#0969da",
                Mode::Map => "#1a7f37",
                Mode::Each => "#bf8700",
            },
            is_daemon: stage.stage.daemon,
            ports,
        }
    }

    /// Its width and height.
    pub(super) fn size(&self) -> (f64, f64) {
        match self {
            Self::Stage { name, details, ports, .. } => {
                let details_width = details.iter().map(|line| Style::Detail.width(line)).fold(0.0, f64::max);
                let width = Style::Name.width(name).max(details_width) + 34.0;
                (width.max(88.0).ceil(), (32.0 + 15.0 * details.len() as f64).max(room(*ports)))
            }
            Self::Terminal { name, ports, .. } => {
                ((Style::Name.width(name) + 22.0).ceil(), 26f64.max(room(*ports)))
            }
        }
    }

    /// Where it stands. Boxes are as wide as their column, so that their sides make lines; `stdin` keeps to the
    /// right of its column and `stdout` to the left, where their edges are.
    pub(super) fn rect(&self, layout: &Layout, node: usize) -> Rect {
        let (left, column_width) = layout.columns[layout.column_of[node]];
        let (own_width, height) = self.size();
        let (x, width) = match self {
            Self::Stage { .. } => (left, column_width),
            Self::Terminal { name: STDIN, .. } => (left + column_width - own_width, own_width),
            Self::Terminal { .. } => (left, own_width),
        };
        Rect { x: x + MARGIN, y: layout.middles[node] - height / 2.0 + TITLE + STACK, width, height }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, rect: Rect) {
        match self {
            Self::Stage { .. } => self.draw_stage(canvas, rect),
            Self::Terminal { name, is_faint, .. } => draw_terminal(canvas, rect, name, *is_faint),
        }
    }

    fn draw_stage(&self, canvas: &mut Canvas, rect: Rect) {
        let Self::Stage { name, tooltip, details, width, accent, is_daemon, .. } = self else { return };
        canvas.line(format_args!("<g><title>{}</title>", Escaped(tooltip)));
        let (fill, stroke) =
            if *is_daemon { ("#e9edf2", "#6e7781\" stroke-dasharray=\"5 4") } else { ("#ffffff", "#8c959f") };
        let sheets: &[f64] = if width.is_some() { &[STACK, STACK / 2.0, 0.0] } else { &[0.0] };
        for shift in sheets {
            canvas.line(format_args!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"{fill}\" stroke=\"{stroke}\" \
                 stroke-width=\"1.2\"/>",
                Px(rect.x + shift),
                Px(rect.y - shift),
                Px(rect.width),
                Px(rect.height)
            ));
        }
        canvas.line(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"3\" height=\"{}\" rx=\"1.5\" fill=\"{accent}\"/>",
            Px(rect.x + 7.0),
            Px(rect.y + 10.0),
            Px(rect.height - 20.0)
        ));
        let x = rect.x + 18.0;
        let top = rect.middle() - (15.0 * details.len() as f64) / 2.0;
        canvas.text(Style::Name, INK, x, top + 4.5, false, name);
        for (line, detail) in details.iter().enumerate() {
            canvas.text(Style::Detail, MUTED, x, top + 20.0 + 15.0 * line as f64, false, detail);
        }
        if let Some(width) = width {
            draw_badge(canvas, rect, width);
        }
        canvas.line(format_args!("</g>"));
    }
}

/// A badge at the upper right corner, over the sheets.
fn draw_badge(canvas: &mut Canvas, rect: Rect, text: &str) {
    let width = Style::Badge.width(text) + 12.0;
    let x = rect.right() + STACK - width + 6.0;
    let y = rect.y - STACK - 9.0;
    canvas.line(format_args!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"17\" rx=\"8.5\" fill=\"#0550ae\"/>",
        Px(x),
        Px(y),
        Px(width)
    ));
    canvas.text(Style::Badge, "#ffffff", x + width / 2.0, y + 12.3, true, text);
}

fn draw_terminal(canvas: &mut Canvas, rect: Rect, name: &str, is_faint: bool) {
    let (fill, ink) = if is_faint { ("#e6eaef", MUTED) } else { ("#24292f", "#ffffff") };
    canvas.line(format_args!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\"/>",
        Px(rect.x),
        Px(rect.y),
        Px(rect.width),
        Px(rect.height)
    ));
    canvas.text(Style::Name, ink, rect.x + rect.width / 2.0, rect.middle() + 4.5, true, name);
}

/// The height that so many edges at one side need.
fn room(ports: usize) -> f64 {
    PORT_SPACE * ports as f64 + 6.0
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let kept: String = text.chars().take(longest - 1).collect();
    kept + "…"
}
