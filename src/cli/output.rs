//! Standard output, for the commands whose answer goes there.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::error::CliError;

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
