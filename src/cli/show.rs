//! Errors and diagnostics on standard error.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};
use mpflow::Pipeline;
use mpflow::language::Diagnostics;
use mpflow::observe::{Colour, Look};

use super::error::CliError;
use super::terminal;

/// Narrower than this the frames of a diagnostic leave no room for its text.
const LEAST_WIDTH: usize = 40;

/// Wider than this nobody likes to read text.
const MOST_WIDTH: usize = 110;

/// Shows what is to be said about a pipeline that was read, and gives it back if it is right.
pub(super) fn loaded(read: Result<Pipeline, Diagnostics>) -> Option<Pipeline> {
    let loaded = right(read)?;
    diagnostics(loaded.warnings());
    Some(loaded)
}

/// Shows what is wrong with a pipeline that was read; if nothing is, gives it back with its warnings unsaid.
pub(super) fn right(read: Result<Pipeline, Diagnostics>) -> Option<Pipeline> {
    read.inspect_err(diagnostics).ok()
}

/// Shows all that is to be said about a pipeline, each thing at its place in the file, and counts them at the end.
pub(super) fn diagnostics(diagnostics: &Diagnostics) {
    raw(&text(diagnostics, terminal::stderr()));
}

/// Says something where no run has standard error for itself.
pub(super) fn notice(message: &str) {
    let prefix = terminal::stderr().paint(Colour::Bold, "mpflow:");
    raw(&format!("{prefix} {message}\n"));
}

/// Writes this to standard error as it is.
pub(super) fn raw(text: &str) {
    // Nobody is left to be told when this cannot be written.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The same for wherever this is the look of.
pub(super) fn text(diagnostics: &Diagnostics, look: Look) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let mut parts: Vec<String> = diagnostics.iter().map(|diagnostic| render(diagnostic, look)).collect();
    parts.extend(counts(diagnostics.errors(), diagnostics.len() - diagnostics.errors(), look));
    parts.join("\n")
}

/// `2 errors, 1 warning`, where there is more than the one that is seen anyway.
fn counts(errors: usize, warnings: usize, look: Look) -> Option<String> {
    if errors + warnings < 2 {
        return None;
    }
    let plural = |number: usize, word: &str, colour| {
        let end = if number == 1 { "" } else { "s" };
        (number > 0).then(|| look.paint(colour, &format!("{number} {word}{end}")))
    };
    let parts = [plural(errors, "error", Colour::Red), plural(warnings, "warning", Colour::Yellow)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(format!("{}\n", parts.join(", ")))
}

/// Shows an error, its causes and what to do.
pub(super) fn error(error: &CliError) {
    if error.is_silent() {
        return;
    }
    let look = terminal::stderr();
    let mut text = format!("{} {error}", look.paint(Colour::Red, "error:"));
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.push('\n');
    if let Some(help) = error.help() {
        let _ = writeln!(text, " {} {help}", look.paint(Colour::Bold, "help:"));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn render(diagnostic: &dyn Diagnostic, look: Look) -> String {
    let theme = GraphicalTheme {
        characters: if look.unicode { ThemeCharacters::unicode() } else { ThemeCharacters::ascii() },
        styles: if look.colours { ThemeStyles::ansi() } else { ThemeStyles::none() },
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.width.clamp(LEAST_WIDTH, MOST_WIDTH))
        .with_links(false)
        .with_context_lines(1);
    let mut text = String::new();
    match handler.render_report(&mut text, diagnostic) {
        Ok(()) => text,
        // A label that does not fit its text must not hide what is wrong.
        Err(_) => format!("{diagnostic}\n"),
    }
}
