//! What the standard streams can show.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use mpflow::observe::Look;

/// Columns where there is no terminal to ask: a file has room for every column of a table.
const FILE_WIDTH: usize = 200;

/// The look of standard error at this moment; a terminal may be resized.
pub(super) fn stderr() -> Look {
    look(&io::stderr())
}

/// The look of standard output at this moment.
pub(super) fn stdout() -> Look {
    look(&io::stdout())
}

fn look(stream: &(impl IsTerminal + AsFd)) -> Look {
    let is_terminal = stream.is_terminal();
    let width = match is_terminal {
        true => terminal_size::terminal_size_of(stream).map_or(FILE_WIDTH, |(width, _)| width.0.into()),
        false => FILE_WIDTH,
    };
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    Look {
        width,
        colours: is_terminal && !is_dumb && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        unicode: is_utf8(),
        is_terminal,
    }
}

/// Rows of the terminal that standard error is.
pub(super) fn stderr_rows() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(24, |(_, height)| height.0.into())
}

/// Rows of the terminal that standard output is.
pub(super) fn stdout_rows() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(24, |(_, height)| height.0.into())
}

/// Whether the locale is one of UTF-8, as setlocale(3) has it.
pub(super) fn is_utf8() -> bool {
    is_utf8_by(|name| env::var(name).ok())
}

/// The first of the variables that is set decides.
fn is_utf8_by(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty())
        .is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_of_the_locale_that_is_set_decides() {
        let with = |set: &'static [(&str, &str)]| {
            is_utf8_by(move |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
        assert!(!with(&[]));
    }
}
