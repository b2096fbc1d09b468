//! The table at the bottom of a terminal that shows how far a run is.
//!
//! It is drawn here and not by indicatif, whose bars leave the cursor at the right edge of their last line: the
//! `^C` that a terminal echoes there wraps, and the next picture leaves a line of the last one behind. Here the
//! cursor waits at the start of the line below, and what is written above the table comes in the same call.

use std::fmt::Write as _;
use std::time::Duration;

use mpflow::observe::{Colour, StageProgress, duration};

use crate::cli::terminal;

/// Rows that are left to what workers write, the title and the heads of the columns among them.
const ROWS_KEPT: usize = 6;

/// Long lines are cut at the edge between these, so that a line of the table is one row in every case; DECAWM.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// The table, as it was drawn last.
#[derive(Debug)]
pub(super) struct Bars {
    pipeline: String,
    lines: Vec<String>,
    /// Rows of it that are on the screen now.
    shown: usize,
}

impl Bars {
    pub(super) fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.to_owned(), lines: Vec::new(), shown: 0 }
    }

    /// Takes the stages as they are now, for the width that the terminal has now.
    pub(super) fn update(&mut self, at: Duration, stages: &[StageProgress]) {
        let look = terminal::stderr();
        let room = terminal::stderr_rows().saturating_sub(ROWS_KEPT).max(1);
        let hidden = stages.len().saturating_sub(room);
        self.lines = vec![format!("{} {}", look.paint(Colour::Bold, &self.pipeline), elapsed(at))];
        self.lines.extend(StageProgress::table(&stages[..stages.len() - hidden], look));
        if hidden > 0 {
            self.lines.push(look.paint(Colour::Dim, &format!("and {hidden} more stages")));
        }
    }

    /// What is to be written so that `text`, whole lines or nothing, stands above the table.
    pub(super) fn draw(&mut self, text: &str) -> String {
        let mut out = self.clear();
        out.push_str(text);
        if !self.lines.is_empty() {
            out.push_str(NO_WRAP);
            for line in &self.lines {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "{line}");
            }
            out.push_str(WRAP);
        }
        self.shown = self.lines.len();
        out
    }

    /// What is to be written to take the table away; it is drawn again at the next [`Bars::draw`] after an update.
    pub(super) fn remove(&mut self) -> String {
        self.lines.clear();
        self.clear()
    }

    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.shown) {
            0 => String::new(),
            rows => format!("\r\x1b[{rows}A\x1b[J"),
        }
    }
}

/// Tenths of a second: hundredths would only flicker.
fn elapsed(at: Duration) -> String {
    match at.as_secs() {
        0..60 => format!("{:.1} s", at.as_secs_f64()),
        seconds => duration(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_replaces_the_one_before_and_text_stays_above_it() {
        let mut bars = Bars::new("squares");
        assert_eq!(bars.draw("a line\n"), "a line\n");
        bars.lines = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(bars.draw(""), "\x1b[?7lone\ntwo\n\x1b[?7h");
        assert_eq!(bars.draw("b\n"), "\r\x1b[2A\x1b[Jb\n\x1b[?7lone\ntwo\n\x1b[?7h");
        assert_eq!(bars.remove(), "\r\x1b[2A\x1b[J");
        assert_eq!(bars.remove(), "");
    }
}
