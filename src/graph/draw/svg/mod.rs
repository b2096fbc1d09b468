//! A picture that stands by itself: no script, no font from elsewhere, and a background of its own, so that it can
//! be read on a light page and on a dark one.

mod boxes;
mod canvas;
mod labels;
mod legend;
mod wires;

use self::boxes::Shape;
use self::canvas::Canvas;
use self::wires::Wire;
use super::layout::{Input, layout};
use super::picture::{Kind, Picture};
use crate::graph::Plan;

/// Around everything.
const MARGIN: f64 = 28.0;
/// For the pipeline's name.
const TITLE: f64 = 44.0;

/// A rectangle: left, top, width, height.
#[derive(Debug, Clone, Copy)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Rect {
    fn right(self) -> f64 {
        self.x + self.width
    }

    fn middle(self) -> f64 {
        self.y + self.height / 2.0
    }

    fn overlaps(self, other: Self) -> bool {
        self.x < other.right()
            && other.x < self.right()
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// The graph as an SVG document.
pub(crate) fn svg(plan: &Plan) -> String {
    let picture = Picture::new(plan);
    let arcs: Vec<(usize, usize)> = picture.arcs.iter().map(|arc| (arc.from, arc.to)).collect();
    let labels: Vec<labels::Label> = picture.arcs.iter().map(labels::Label::new).collect();
    let shapes: Vec<Shape> = (0..picture.nodes.len()).map(|node| Shape::new(&picture, node)).collect();
    let sizes: Vec<(f64, f64)> = shapes.iter().map(Shape::size).collect();
    let widths: Vec<f64> = labels.iter().map(|label| label.width).collect();
    let layout = layout(&Input { sizes: &sizes, arcs: &arcs, labels: &widths });

    let rects: Vec<Rect> = shapes.iter().enumerate().map(|(node, shape)| shape.rect(&layout, node)).collect();
    let wires = wires::wires(&picture, &layout, &rects);
    let legend = legend::entries(&picture);
    let title_width = canvas::text_width(&plan.name, 15.0);
    let width = layout.width.max(title_width).max(legend::least_width(&legend)) + 2.0 * MARGIN;
    let legend_top = TITLE + layout.height + MARGIN + boxes::STACK;
    let height = legend_top + legend::height(&legend, width - 2.0 * MARGIN) + MARGIN;

    let mut canvas = Canvas::new(&plan.name, width, height);
    canvas.title(&plan.name);
    draw_wires(&mut canvas, &picture, &wires);
    for (shape, rect) in shapes.iter().zip(&rects) {
        shape.draw(&mut canvas, *rect);
    }
    labels::draw(&mut canvas, &picture, &labels, &wires, &rects);
    legend::draw(&mut canvas, &legend, legend_top, width - 2.0 * MARGIN);
    canvas.finish()
}

/// The faint ones lie below the others.
fn draw_wires(canvas: &mut Canvas, picture: &Picture<'_>, wires: &[Wire]) {
    for is_implicit in [true, false] {
        for (arc, wire) in picture.arcs.iter().zip(wires) {
            if (arc.kind == Kind::Implicit) == is_implicit {
                wire.draw(canvas, arc.kind);
            }
        }
    }
}
