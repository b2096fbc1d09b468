//! `mpflow ps`: which runs go on.

use mpflow::{control, observe};
use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json, print_lines};
use crate::cli::terminal;

/// List the runs of this user that go on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow ps
  mpflow ps --format json | jq -r '.runs[].id'

Runs are found in $XDG_RUNTIME_DIR/mpflow, and in mpflow-UID under $TMPDIR and /tmp.")]
pub(in crate::cli) struct Args {
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let runs = control::runs();
    match args.format {
        Format::Json => print_json(&json!({"runs": runs.answering, "silent": runs.silent}))?,
        Format::Text => {
            if runs.answering.is_empty() && runs.silent.is_empty() {
                output::print("no run goes on\n")?;
            }
            if !runs.answering.is_empty() {
                print_lines(&observe::runs(&runs.answering, terminal::stdout()))?;
            }
            for run in &runs.silent {
                output::print(&format!("{run} does not answer: it may be suspended\n"))?;
            }
        }
    }
    Ok(End::Success)
}
