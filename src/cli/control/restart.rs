//! `mpflow restart`: replaces the workers of a stage, one after the other.

use serde_json::json;

use super::RunOption;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json};
use crate::cli::show;

/// Replace the workers of a stage, or one worker, without a gap
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow restart square
  mpflow restart square/2 --run squares

One worker after the other finishes what it holds and leaves when its successor is ready. Returns when the last of them \
is. Nothing is lost; but the workers of a source begin from the beginning, so that its records may come twice.")]
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
    let source = super::source(&mut client, &args.what);
    let replaced = client.restart(&args.what)?;
    let began_anew = source.filter(|_| replaced > 0);
    match args.format {
        Format::Json => print_json(&json!({
            "run": info.id,
            "what": args.what,
            "replaced": replaced,
            "began_anew": began_anew.is_some(),
        }))?,
        Format::Text => {
            let what = match replaced {
                0 => "its processes are new for each record anyway".to_owned(),
                1 => "1 worker replaced".to_owned(),
                many => format!("{many} workers replaced"),
            };
            output::print(&format!("{}: {what}\n", args.what))?;
            if let Some(stage) = began_anew {
                let name = stage.stage;
                show::notice(&format!("`{name}` is a source: it began anew, and its records may come twice"));
            }
        }
    }
    Ok(End::Success)
}
