//! `mpflow check`: is this a pipeline, and if not, why?

use clap::{ValueEnum, ValueHint};
use mpflow::language::Diagnostic;
use serde_json::Value;

use super::error::CliError;
use super::exit::End;
use super::load::{self, Overrides, Source};
use super::{output, show};

/// Look for mistakes in pipelines; start nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow check pipeline.yaml
  mpflow check --format json pipelines/*.yaml
  generate-pipeline | mpflow check -

The JSON is one list for all files; each entry has file, code, severity, message, help and labels, \
and each label line and column from 1.

Ends with 0 when all files are right and with 2 when one is not.")]
pub(super) struct Args {
    /// Pipelines; `-` is standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<Source>,
    #[command(flatten)]
    overrides: Overrides,
    /// How the diagnostics are written: for people on standard error, or as JSON on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let mut is_right = true;
    let mut found = Vec::new();
    for file in &args.files {
        let (verdict, diagnostics) = match load::load(file, &args.overrides)? {
            Ok(pipeline) => (true, pipeline.warnings().clone()),
            Err(diagnostics) => (false, diagnostics),
        };
        is_right &= verdict;
        match args.format {
            Format::Text => {
                show::diagnostics(&diagnostics);
                if verdict {
                    output::print(&format!("{file}: ok\n"))?;
                }
            }
            // Every entry names its file, so those of all files make one list.
            Format::Json => found.extend(diagnostics.iter().map(Diagnostic::to_json)),
        }
    }
    if args.format == Format::Json {
        output::print(&format!("{:#}\n", Value::Array(found)))?;
    }
    Ok(if is_right { End::Success } else { End::Wrong })
}
