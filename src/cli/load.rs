//! A pipeline from its file, or all that is wrong with it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mpflow::Pipeline;
use mpflow::language::{self, Diagnostics, ParseOptions};
use mpflow::pipeline::Ends;

use super::error::CliError;

/// Of standard input no more is read: more than any document may have.
const MOST_BYTES: u64 = 2 << 20;

/// Where a pipeline is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl From<OsString> for Source {
    fn from(text: OsString) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(text.into()) }
    }
}

impl Source {
    /// The file, where it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdin => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("<stdin>"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What the command line says in the place of the document.
#[derive(Debug, clap::Args)]
pub(super) struct Overrides {
    /// Give a variable of the pipeline's `vars` another value; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// Give a stage another pool, a number or `auto`; repeatable
    #[arg(long, value_name = "STAGE=N", value_parser = pool)]
    pool: Vec<(String, usize)>,
}

/// `name=value`; the value may be empty and may hold further signs.
fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = assignment(text)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `stage=4` or `stage=auto`.
pub(super) fn pool(text: &str) -> Result<(String, usize), String> {
    let (stage, width) = assignment(text)?;
    let width = match width {
        "auto" => ParseOptions::of_this_process().cpus,
        width => match width.parse() {
            Ok(width) if width >= 1 => width,
            _ => return Err(format!("`{width}` is neither a number from 1 on nor `auto`")),
        },
    };
    Ok((stage.to_owned(), width))
}

fn assignment(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        Some(_) => Err("there is no name before the `=`".to_owned()),
        None => Err("there is no `=` between a name and a value".to_owned()),
    }
}

impl Overrides {
    fn options(&self) -> ParseOptions {
        ParseOptions {
            set: self.set.clone(),
            pool: self.pool.clone(),
            ends: Ends::Bytes,
            ..ParseOptions::of_this_process()
        }
    }
}

/// Reads and checks a pipeline. The inner error is all that is wrong with it, warnings among it.
///
/// # Errors
///
/// [`CliError::Stdin`] if standard input was to be read and cannot be.
pub(super) fn load(
    source: &Source,
    overrides: &Overrides,
) -> Result<Result<Pipeline, Diagnostics>, CliError> {
    Ok(match source {
        Source::File(path) => Pipeline::from_path_with(path, &overrides.options()),
        Source::Stdin => at(Path::new(&source.to_string()), &stdin()?, overrides),
    })
}

/// A pipeline of this text as if it lay at this path.
pub(super) fn at(path: &Path, text: &str, overrides: &Overrides) -> Result<Pipeline, Diagnostics> {
    Pipeline::from_yaml_with(text, path, &overrides.options())
}

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin().lock().take(MOST_BYTES).read_to_string(&mut text).map_err(CliError::Stdin)?;
    Ok(text)
}

/// The language's JSON Schema as text.
pub(super) fn schema() -> String {
    format!("{:#}\n", language::schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_split_at_its_first_sign() {
        assert_eq!(variable("files=a=b"), Ok(("files".to_owned(), "a=b".to_owned())));
        assert_eq!(variable("files="), Ok(("files".to_owned(), String::new())));
        assert!(variable("files").is_err());
        assert!(variable("=x").is_err());
    }

    #[test]
    fn a_pool_is_a_number_from_1_or_auto() {
        assert_eq!(pool("square=4"), Ok(("square".to_owned(), 4)));
        assert!(pool("square=auto").is_ok_and(|(_, width)| width >= 1));
        for wrong in ["square=0", "square=-1", "square=", "square=many", "square"] {
            assert!(pool(wrong).is_err(), "{wrong}");
        }
    }
}
