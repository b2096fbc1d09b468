//! `mpflow scale`: gives a stage of a run another pool.

use serde_json::json;

use super::RunOption;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::load;
use crate::cli::output::{self, Format, print_json};
use crate::cli::show;

/// Give a stage of a run more workers, or fewer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow scale square=8
  mpflow scale square=auto --run squares

Returns when the new workers are ready, and those that are too many have been told to finish what they hold. Nothing is \
lost; but workers that are added to a source begin from the beginning, so that its records may come twice. The \
pipeline's file stays as it is.")]
pub(in crate::cli) struct Args {
    /// The stage and its number of workers, or `auto`
    #[arg(value_name = "STAGE=N", value_parser = load::pool)]
    pool: (String, usize),
    #[command(flatten)]
    run: RunOption,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, info) = args.run.find()?;
    let (stage, workers) = &args.pool;
    let source = super::source(&mut client, stage);
    client.scale(stage, *workers)?;
    let began_anew = source.is_some_and(|source| source.pool < *workers);
    match args.format {
        Format::Json => print_json(&json!({
            "run": info.id,
            "stage": stage,
            "workers": workers,
            "began_anew": began_anew,
        }))?,
        Format::Text => {
            let plural = if *workers == 1 { "" } else { "s" };
            output::print(&format!("{stage} has {workers} worker{plural} now\n"))?;
            if began_anew {
                show::notice(&format!(
                    "`{stage}` is a source: its new workers began anew, and its records may come twice"
                ));
            }
        }
    }
    Ok(End::Success)
}
