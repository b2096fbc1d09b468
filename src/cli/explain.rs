//! `mpflow explain`: what a pipeline promises and needs.

use clap::{ValueEnum, ValueHint};
use mpflow::explanation::Machine;
use mpflow::observe;

use super::error::CliError;
use super::exit::End;
use super::load::{self, Overrides, Source};
use super::{output, show, terminal};

/// Say what a pipeline promises and needs: delivery, order, memory, descriptors, processes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow explain pipeline.yaml
  mpflow explain pipeline.yaml --pool resize=64
  mpflow explain pipeline.yaml --format json | jq '.needs[] | select(.fits | not)'

Nothing is started. The sums are upper bounds for the engine; workers have memory of their own.

Ends with 0 also where something does not fit this machine, and with 2 when the pipeline is wrong.")]
pub(super) struct Args {
    /// The pipeline; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Source,
    #[command(flatten)]
    overrides: Overrides,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: all parts of all sums
    Json,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let Some(pipeline) = show::loaded(load::load(&args.file, &args.overrides)?) else {
        return Ok(End::Wrong);
    };
    let explanation = pipeline.explain(&Machine::of_this_process());
    match args.format {
        Format::Text => output::print(&observe::explanation(&explanation, terminal::stdout()))?,
        Format::Json => output::print_json(&explanation)?,
    }
    Ok(End::Success)
}
