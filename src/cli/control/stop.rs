//! `mpflow stop`: ends a run.

use mpflow::Stop;
use mpflow::control::ClientError;
use serde_json::{Value, json};

use super::RunArgument;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json};

/// End a run, and wait until nothing of it is left
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow stop                    sources are stopped, what is in flight is finished
  mpflow stop squares --now      every worker gets its stop signal, and is killed after its grace period
  mpflow stop 019abcde --kill    all workers are killed at once

Ends with 0 when the run has ended, however it ended. `mpflow run` then ends with 143, as after SIGTERM, unless a stage \
had failed.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// Do not finish what is in flight
    #[arg(long, conflicts_with = "kill")]
    now: bool,
    /// Kill all workers at once
    #[arg(long)]
    kill: bool,
    /// Do not wait for the end of the run
    #[arg(long)]
    no_wait: bool,
    /// How what came of it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, info) = args.run.find()?;
    let how = match args {
        Args { kill: true, .. } => Stop::Kill,
        Args { now: true, .. } => Stop::Terminate,
        _ => Stop::Drain,
    };
    client.stop(how)?;
    let outcome = match args.no_wait {
        true => Value::Null,
        // It may be gone faster than it can be asked.
        false => match client.wait() {
            Ok(stopped) => stopped.outcome,
            Err(ClientError::Ended) => Value::Null,
            Err(error) => return Err(error.into()),
        },
    };
    match args.format {
        Format::Json => print_json(&json!({"run": info.id, "outcome": outcome}))?,
        Format::Text => {
            let what = match (args.no_wait, outcome["result"].as_str()) {
                (true, _) => "is being stopped",
                (false, Some("failed")) => "has ended; it had failed",
                (false, Some("succeeded")) => "has ended; its work was done",
                (false, _) => "has ended",
            };
            output::print(&format!("{} ({}) {what}\n", info.pipeline, info.id))?;
        }
    }
    Ok(End::Success)
}
