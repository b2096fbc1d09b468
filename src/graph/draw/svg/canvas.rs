//! The text of an SVG document.

use std::fmt::{self, Write};

use super::MARGIN;

/// An SVG document in the making.
pub(super) struct Canvas {
    svg: String,
}

/// Text on the background.
pub(super) const INK: &str = "#1f2328";
/// Text of less weight.
pub(super) const MUTED: &str = "#59636e";
/// The background.
pub(super) const PAPER: &str = "#fbfcfd";
const SANS: &str = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif";
const MONO: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace";

/// Styles of text, and the size of each in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// The name of a stage.
    Name,
    /// What is said of it.
    Detail,
    /// What is said of an edge.
    Note,
    /// The width of a pool.
    Badge,
}

impl Style {
    pub(super) fn width(self, text: &str) -> f64 {
        match self {
            // Monospaced fonts are 0.6 wide, some a little more.
            Self::Name => text.chars().count() as f64 * 13.0 * 0.61,
            Self::Detail => text_width(text, 11.0),
            Self::Note => text_width(text, 10.5),
            Self::Badge => text_width(text, 10.5) + 2.0,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Detail => "detail",
            Self::Note => "note",
            Self::Badge => "badge",
        }
    }
}

/// About how wide a text is in a proportional font, rather too wide than too narrow: no font can be asked.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | '\'' | '|' => 0.32,
        ' ' | 'f' | 't' | 'r' | '·' | '/' | '-' | '(' | ')' => 0.42,
        'm' | 'w' | 'M' | 'W' | '→' | '×' | '≤' => 0.92,
        'A'..='Z' => 0.72,
        c if c.is_ascii() => 0.62,
        _ => 1.0,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// A number with at most one decimal.
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round() as i64;
        if tenths % 10 == 0 { write!(f, "{}", tenths / 10) } else { write!(f, "{:.1}", tenths as f64 / 10.0) }
    }
}

/// A text in which nothing is markup. Control characters may not stand in XML at all.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Canvas {
    pub(super) fn new(title: &str, width: f64, height: f64) -> Self {
        let (w, h) = (Px(width), Px(height));
        let mut canvas = Self { svg: String::new() };
        canvas.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" aria-label=\"Pipeline {}\">",
            Escaped(title)
        ));
        canvas.line(format_args!(
            "<style>text{{font-family:{SANS}}}.title{{font-size:15px;font-weight:600;fill:{INK}}}\
             .name{{font-family:{MONO};font-size:13px;font-weight:600}}.detail{{font-size:11px}}\
             .note{{font-size:10.5px}}.badge{{font-size:10.5px;font-weight:600}}</style>"
        ));
        canvas.line(format_args!(
            "<rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\" fill=\"{PAPER}\" stroke=\"#d0d7de\"/>",
            Px(width - 1.0),
            Px(height - 1.0)
        ));
        canvas
    }

    pub(super) fn title(&mut self, name: &str) {
        self.line(format_args!(
            "<text class=\"title\" x=\"{}\" y=\"30\">{}</text>",
            Px(MARGIN - 8.0),
            Escaped(name)
        ));
    }

    /// One element, or a part of one, on a line of its own.
    pub(super) fn line(&mut self, element: fmt::Arguments<'_>) {
        writeln!(self.svg, "{element}").expect("writing to a string cannot fail");
    }

    /// A text whose middle, or whose beginning, is at `x`.
    pub(super) fn text(&mut self, style: Style, color: &str, x: f64, y: f64, is_centred: bool, text: &str) {
        let anchor = if is_centred { " text-anchor=\"middle\"" } else { "" };
        self.line(format_args!(
            "<text class=\"{}\" x=\"{}\" y=\"{}\"{anchor} fill=\"{color}\">{}</text>",
            style.class(),
            Px(x),
            Px(y),
            Escaped(text)
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}
