//! Standard output, for the commands whose answer goes there.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use super::error::CliError;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Writes the whole answer to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Stdout)
}

/// Writes the whole answer to this file, or to standard output where there is none.
pub(super) fn write(what: &'static str, text: &str, file: Option<&Path>) -> Result<(), CliError> {
    match file {
        None => print(text),
        Some(path) => {
            fs::write(path, text).map_err(|source| CliError::Create { what, path: path.to_owned(), source })
        }
    }
}

/// A value as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let value = serde_json::to_value(value).expect("its keys are strings and its numbers finite");
    print(&format!("{value:#}\n"))
}

/// A value as JSON on one line.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<(), CliError> {
    let value = serde_json::to_value(value).expect("its keys are strings and its numbers finite");
    print(&format!("{value}\n"))
}

pub(super) fn print_lines(lines: &[String]) -> Result<(), CliError> {
    let mut text = lines.join("\n");
    text.push('\n');
    print(&text)
}
