//! `mpflow status`: one look at a run.

use std::thread;
use std::time::Duration;

use mpflow::observe::StatusTable;

use super::RunArgument;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{Format, print_json, print_lines};
use crate::cli::terminal;

/// Between the two looks that rates are taken from.
const BETWEEN: Duration = Duration::from_millis(300);

/// Show how a run is: its stages, workers and queues
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow status
  mpflow status squares
  mpflow status 019abcde --format json | jq '.stages[] | {stage, rate, queued}'

Rates and the use of processors are those of a third of a second. Memory is what is resident, of a worker and of all \
that it has started; what processes share is counted for each of them.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, _) = args.run.find()?;
    let mut table = StatusTable::default();
    table.update(client.status()?);
    thread::sleep(BETWEEN);
    table.update(client.status()?);
    match args.format {
        Format::Json => print_json(&table.json())?,
        Format::Text => print_lines(&table.lines(terminal::stdout()))?,
    }
    Ok(End::Success)
}
