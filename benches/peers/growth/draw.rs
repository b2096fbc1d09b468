//! A figure of curves on logarithmic axes, as SVG. It carries its own ground, so that it can be read on a light and on a
//! dark page.
//!
//! Colours: Okabe and Ito, <https://jfly.uni-koeln.de/color/>, which people who confuse colours can tell apart; the marks
//! differ as well.

use std::fmt::Write as _;

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    /// In bytes, by powers of two.
    Size,
    /// In bytes, by powers of ten.
    Bytes,
    Seconds,
}

impl Kind {
    /// With its unit.
    pub(super) fn say(self, value: f64) -> String {
        let units: &[(f64, &str)] = match self {
            Self::Count if value >= 1e4 => return format!("10{}", superscript(value.log10().round() as u32)),
            Self::Count => &[(1.0, "")],
            Self::Size => &[(1048576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")],
            Self::Bytes => &[(1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1.0, " B")],
            Self::Seconds => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")],
        };
        let close = |&&(unit, _): &&(f64, &str)| value >= unit * 0.9995;
        let (unit, name) = units.iter().find(close).unwrap_or_else(|| units.last().expect("there are units"));
        let value = value / unit;
        let digits = if value >= 99.95 { 0 } else { usize::from(value < 9.995) + 1 };
        let said = format!("{value:.digits$}");
        let said = if said.contains('.') { said.trim_end_matches('0').trim_end_matches('.') } else { &said };
        format!("{said}{name}")
    }

    /// Where an axis has its marks; those of the second kind have no name.
    fn ticks(self, least: f64, most: f64) -> (Vec<f64>, Vec<f64>) {
        let within = |value: &f64| (least * 0.999..=most * 1.001).contains(value);
        if self == Self::Size {
            let all: Vec<f64> = (0..40).map(|power| f64::from(power).exp2()).filter(within).collect();
            let (named, others) = all.into_iter().partition(|value| (value.log2() as u32).is_multiple_of(6));
            return (named, others);
        }
        let decades = -12..13;
        let times = |factor: f64| decades.clone().map(move |power| factor * 10f64.powi(power));
        let ones: Vec<f64> = times(1.0).filter(within).collect();
        let others = |factors: &[f64]| -> Vec<f64> {
            factors.iter().flat_map(|&factor| times(factor)).filter(within).collect()
        };
        match ones.len() {
            0..=2 => ([ones, others(&[2.0, 5.0])].concat(), Vec::new()),
            _ => (ones, others(&[2.0, 5.0])),
        }
    }
}

fn superscript(number: u32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

/// A curve.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// One diagram; all of a figure have the same x.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) kind: Kind,
    pub(super) lines: Vec<Line>,
}

const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// Pixels of one panel's field, and around it.
const FIELD: (f64, f64) = (238.0, 190.0);
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 52.0;

const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;\
    font-size:11px;fill:#57606a}.title{font-size:15px;font-weight:600;fill:#1f2328}.panel{font-size:12px;\
    font-weight:600;fill:#1f2328}.name{font-size:12px;fill:#1f2328}.grid{stroke:#d8dee4;stroke-width:1}\
    .fine{stroke:#eef1f4;stroke-width:1}.linear{stroke:#8c959f;stroke-width:1.2;stroke-dasharray:4 4;fill:none}";

/// A logarithmic axis: what it spans, and where that is on the picture.
struct Axis {
    kind: Kind,
    span: (f64, f64),
    pixels: (f64, f64),
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let part = (value / self.span.0).ln() / (self.span.1 / self.span.0).ln();
        self.pixels.0 + part * (self.pixels.1 - self.pixels.0)
    }
}

/// The whole picture.
pub(super) fn figure(title: &str, x_name: &str, x_kind: Kind, panels: &[Panel]) -> String {
    let each = LEFT + FIELD.0 + RIGHT;
    let (width, height) = (each * panels.len() as f64 + 8.0, TOP + FIELD.1 + BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n<rect x=\"0.5\" y=\"0.5\" width=\"{}\" \
         height=\"{}\" rx=\"10\" fill=\"#fbfcfd\" stroke=\"#d0d7de\"/>\n<text class=\"title\" x=\"20\" y=\"29\">{title}</text>\n",
        width - 1.0,
        height - 1.0
    );
    legend(&mut out, panels);
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut out, each * number as f64 + LEFT, x_name, x_kind, panel);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, panels: &[Panel]) {
    let names: Vec<&str> = panels[0].lines.iter().map(|line| line.name).collect();
    let mut x = 20.0;
    for (number, name) in names.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(out, "<path d=\"M{x} 48h24\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        mark(out, number, x + 12.0, 48.0);
        let _ = writeln!(out, "<text class=\"name\" x=\"{}\" y=\"52\">{name}</text>", x + 31.0);
        x += 31.0 + 7.0 * name.chars().count() as f64 + 24.0;
    }
    let _ = writeln!(
        out,
        "<path class=\"linear\" d=\"M{x} 48h24\"/><text x=\"{}\" y=\"52\">linear</text>",
        x + 31.0
    );
}

fn draw(out: &mut String, left: f64, x_name: &str, x_kind: Kind, panel: &Panel) {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (least, most) = points().map(of).fold((f64::MAX, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
        (least, most)
    };
    let bottom = TOP + FIELD.1;
    let x = Axis { kind: x_kind, span: span(|point| point.0), pixels: (left, left + FIELD.0) };
    let y = Axis { kind: panel.kind, span: roomy(span(|point| point.1)), pixels: (bottom, TOP) };
    let _ = writeln!(out, "<text class=\"panel\" x=\"{left}\" y=\"{}\">{}</text>", TOP - 12.0, panel.title);
    grid(out, &x, &y);
    let middle = left + FIELD.0 / 2.0;
    let _ =
        writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{x_name}</text>", bottom + 36.0);
    // One is enough: of the curve that goes farthest, and of those the highest.
    let last = |line: &&Line| line.points.last().copied().unwrap_or_default();
    let farthest = panel.lines.iter().max_by(|a, b| {
        let (a, b) = (last(a), last(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    if let Some(line) = farthest {
        linear(out, &x, &y, &line.points);
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let at: Vec<_> = line.points.iter().map(|&(px, py)| (x.at(px), y.at(py))).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let path = path.join("L");
        let _ = writeln!(out, "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        at.into_iter().for_each(|(x, y)| mark(out, number, x, y));
    }
}

/// At least two decades, so that noise does not look like growth, and whole halves of decades.
fn roomy((least, most): (f64, f64)) -> (f64, f64) {
    let (mut low, mut high) =
        ((least.log10() * 2.0 - 0.2).floor() / 2.0, (most.log10() * 2.0 + 0.2).ceil() / 2.0);
    while high - low < 2.0 {
        if most.log10() - low > high - least.log10() { high += 0.5 } else { low -= 0.5 }
    }
    (10f64.powf(low), 10f64.powf(high))
}

fn grid(out: &mut String, x: &Axis, y: &Axis) {
    let (named, others) = x.kind.ticks(x.span.0, x.span.1);
    let mut vertical = |class: &str, value: f64| {
        let at = x.at(value);
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{at:.1} {}V{}\"/>", y.pixels.1, y.pixels.0);
    };
    others.iter().for_each(|&value| vertical("fine", value));
    named.iter().for_each(|&value| vertical("grid", value));
    for &value in &named {
        let (at, below) = (x.at(value), y.pixels.0 + 17.0);
        let name = x.kind.say(value);
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{name}</text>");
    }
    let (named, others) = y.kind.ticks(y.span.0, y.span.1);
    let mut horizontal = |class: &str, value: f64| {
        let at = y.at(value);
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{} {at:.1}H{}\"/>", x.pixels.0, x.pixels.1);
    };
    others.iter().for_each(|&value| horizontal("fine", value));
    named.iter().for_each(|&value| horizontal("grid", value));
    for &value in &named {
        let (left, at) = (x.pixels.0 - 7.0, y.at(value) + 4.0);
        let name = y.kind.say(value);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{at:.1}\" text-anchor=\"end\">{name}</text>");
    }
}

/// What linear growth to the last point would be, as far as that is within the field.
fn linear(out: &mut String, x: &Axis, y: &Axis, points: &[(f64, f64)]) {
    let Some(&(end, last)) = points.last() else { return };
    let from = (end * y.span.0 / last).max(points[0].0);
    if from < end {
        let (x0, y0) = (x.at(from), y.at(last * from / end));
        let (x1, y1) = (x.at(end), y.at(last));
        let _ = writeln!(out, "<path class=\"linear\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>");
    }
}

fn mark(out: &mut String, number: usize, x: f64, y: f64) {
    let colour = COLOURS[number % COLOURS.len()];
    let shape = match number % COLOURS.len() {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\""),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"6.6\" height=\"6.6\"", x - 3.3, y - 3.3),
        _ => format!("<path d=\"M{x:.1} {:.1}l4.2 7.4h-8.4z\"", y - 4.6),
    };
    let _ = writeln!(out, "{shape} fill=\"{colour}\" stroke=\"#fbfcfd\" stroke-width=\"1\"/>");
}
