//! `mpflow restart`: replaces the workers of a stage, one after the other.

use serde_json::json;

use super::RunOption;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json};

/// Replace the workers of a stage, or one worker, without a gap
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow restart square
  mpflow restart square/2 --run squares

One worker after the other finishes what it holds and leaves when its successor is ready. Returns when the last of them \
is. Nothing is lost.")]
pub(in crate::cli) struct Args {
    /// The stage or worker
    #[arg(value_name = "STAGE|WORKER")]
    what: String,
    #[command(flatten)]
    run: RunOption,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, info) = args.run.find()?;
    let replaced = client.restart(&args.what)?;
    match args.format {
        Format::Json => print_json(&json!({"run": info.id, "what": args.what, "replaced": replaced}))?,
        Format::Text => {
            let what = match replaced {
                0 => "its processes are new for each record anyway".to_owned(),
                1 => "1 worker replaced".to_owned(),
                many => format!("{many} workers replaced"),
            };
            output::print(&format!("{}: {what}\n", args.what))?;
        }
    }
    Ok(End::Success)
}
