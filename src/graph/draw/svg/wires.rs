//! Edges as curves: level where they leave a box, pass a column or enter a box, bent only between columns.

use std::fmt::Write;

use super::boxes::PORT_SPACE;
use super::canvas::{Canvas, PAPER, Px};
use super::{MARGIN, Rect, TITLE, boxes};
use crate::graph::draw::layout::Layout;
use crate::graph::draw::picture::{Kind, Picture};

/// The length of an arrowhead.
const HEAD: f64 = 9.0;
/// How far an end may leave its place, so that its edge gets straight; less than half of the space between two.
const LENIENCE: f64 = 5.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The way of one edge: from point to point, in turn by a curve and by a level line.
pub(super) struct Wire {
    points: Vec<Point>,
    /// How far sheets behind the producer's box hide its beginning.
    hidden: f64,
}

/// The way of each arc of the picture.
pub(super) fn wires(picture: &Picture<'_>, layout: &Layout, rects: &[Rect]) -> Vec<Wire> {
    let level = |y: f64| y + TITLE + boxes::STACK;
    let bends: Vec<Vec<Point>> = layout
        .bends
        .iter()
        .map(|bends| {
            let passed = bends.iter().map(|&(column, y)| (layout.columns[column], level(y)));
            let ends = passed.map(|((left, width), y)| [(left, y), (left + width, y)]);
            ends.flatten().map(|(x, y)| Point { x: x + MARGIN, y }).collect()
        })
        .collect();
    let toward_end = |arc: usize| bends[arc].first().map_or(rects[picture.arcs[arc].to].middle(), |p| p.y);
    let toward_start = |arc: usize| bends[arc].last().map_or(rects[picture.arcs[arc].from].middle(), |p| p.y);
    let starts = spread(rects, |arc| picture.arcs[arc].from, toward_end, picture.arcs.len());
    let ends = spread(rects, |arc| picture.arcs[arc].to, toward_start, picture.arcs.len());
    bends
        .iter()
        .enumerate()
        .map(|(number, bends)| {
            let arc = &picture.arcs[number];
            let mut points = vec![Point { x: rects[arc.from].right(), y: starts[number] }];
            points.extend(bends);
            points.push(Point { x: rects[arc.to].x, y: ends[number] });
            straighten(&mut points);
            let is_pool = matches!(picture.nodes[arc.from], crate::graph::draw::picture::Node::Stage(stage)
                if picture.plan.stages[stage].stage.pool.max > 1);
            Wire { points, hidden: if is_pool { boxes::STACK } else { 0.0 } }
        })
        .collect()
}

/// Levels what is almost level: its ends may leave their places at a box a little, which is seen less than a
/// slight bend.
fn straighten(points: &mut [Point]) {
    let is_near = |a: Point, b: Point, most: f64| (a.y - b.y).abs() <= most;
    match points {
        [start, end] if is_near(*start, *end, 2.0 * LENIENCE) => {
            start.y = f64::midpoint(start.y, end.y);
            end.y = start.y;
        }
        [start, second, .., before_last, end] => {
            if is_near(*start, *second, LENIENCE) {
                start.y = second.y;
            }
            if is_near(*end, *before_last, LENIENCE) {
                end.y = before_last.y;
            }
        }
        _ => {}
    }
}

/// The heights at which arcs meet one side of their boxes: side by side, in the order of where they go.
fn spread(
    rects: &[Rect],
    node_of: impl Fn(usize) -> usize,
    toward: impl Fn(usize) -> f64,
    arcs: usize,
) -> Vec<f64> {
    let mut heights = vec![0.0; arcs];
    for (node, rect) in rects.iter().enumerate() {
        let mut own: Vec<usize> = (0..arcs).filter(|&arc| node_of(arc) == node).collect();
        own.sort_by(|&a, &b| toward(a).total_cmp(&toward(b)).then(a.cmp(&b)));
        let middle = (own.len() as f64 - 1.0) / 2.0;
        for (place, &arc) in own.iter().enumerate() {
            heights[arc] = rect.middle() + (place as f64 - middle) * PORT_SPACE;
        }
    }
    heights
}

impl Wire {
    pub(super) fn draw(&self, canvas: &mut Canvas, kind: Kind) {
        let path = self.path(kind == Kind::Duplex);
        let color = color(kind);
        let line = |canvas: &mut Canvas, color: &str, width: &str, dash: &str| {
            canvas.line(format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"{dash}/>"
            ));
        };
        match kind {
            Kind::Queue | Kind::Failed => line(canvas, color, "1.6", ""),
            Kind::Implicit => line(canvas, color, "1.4", " stroke-dasharray=\"3 4\""),
            // A tube: a thick line with a thinner one of the background's colour in it.
            Kind::Pipe | Kind::Duplex => {
                line(canvas, color, "5.2", "");
                line(canvas, PAPER, "2.2", "");
            }
        }
        let [first, .., last] = self.points[..] else { return };
        let half = if matches!(kind, Kind::Pipe | Kind::Duplex) { 6.0 } else { 4.2 };
        draw_head(canvas, last, -HEAD, half, color);
        if kind == Kind::Duplex {
            draw_head(canvas, Point { x: first.x + self.hidden, ..first }, HEAD, half, color);
        }
    }

    /// Its points without what the arrowheads cover, so that no line shows at their tips.
    fn visible(&self, has_two_heads: bool) -> Vec<Point> {
        let mut points = self.points.clone();
        if let [first, .., last] = &mut points[..] {
            last.x -= HEAD - 1.0;
            if has_two_heads {
                first.x += self.hidden + HEAD - 1.0;
            }
        }
        points
    }

    fn path(&self, has_two_heads: bool) -> String {
        let points = self.visible(has_two_heads);
        let mut path = format!("M{} {}", Px(points[0].x), Px(points[0].y));
        for (number, pair) in points.windows(2).enumerate() {
            let [a, b] = [pair[0], pair[1]];
            // Curves lie between columns; every other segment passes one.
            let result = if number % 2 == 0 && a.y != b.y {
                let middle = Px(f64::midpoint(a.x, b.x));
                write!(path, "C{middle} {} {middle} {} {} {}", Px(a.y), Px(b.y), Px(b.x), Px(b.y))
            } else {
                write!(path, "L{} {}", Px(b.x), Px(b.y))
            };
            result.expect("writing to a string cannot fail");
        }
        path
    }

    /// A point of its first curve; `t` runs from 0 to 1.
    pub(super) fn at(&self, t: f64) -> Point {
        curve(self.points[0], self.points[1], t)
    }

    /// Points along the whole way, close enough to see what it runs through.
    pub(super) fn samples(&self) -> Vec<Point> {
        let curves = self.points.windows(2);
        curves
            .flat_map(|pair| (0..=16).map(move |step| curve(pair[0], pair[1], f64::from(step) / 16.0)))
            .collect()
    }
}

fn curve(a: Point, b: Point, t: f64) -> Point {
    let s = 1.0 - t;
    let (near_a, near_b) = (3.0 * s * s * t, 3.0 * s * t * t);
    let middle = f64::midpoint(a.x, b.x);
    Point {
        x: s * s * s * a.x + (near_a + near_b) * middle + t * t * t * b.x,
        y: (s * s * s + near_a) * a.y + (t * t * t + near_b) * b.y,
    }
}

/// A head with its tip at a point; its length is negative where it points to the right.
fn draw_head(canvas: &mut Canvas, tip: Point, length: f64, half: f64, color: &str) {
    let back = Px(tip.x + length);
    canvas.line(format_args!(
        "<path d=\"M{} {}L{back} {}L{back} {}Z\" fill=\"{color}\"/>",
        Px(tip.x),
        Px(tip.y),
        Px(tip.y - half),
        Px(tip.y + half)
    ));
}

/// The colour of the edges of a kind.
pub(super) fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Queue => "#57606a",
        Kind::Failed => "#cf222e",
        Kind::Pipe | Kind::Duplex => "#6639ba",
        Kind::Implicit => "#afb8c1",
    }
}

/// A level wire that shows in the legend what a kind looks like.
pub(super) fn sample(x: f64, y: f64, length: f64) -> Wire {
    Wire { points: vec![Point { x, y }, Point { x: x + length, y }], hidden: 0.0 }
}
