//! `mpflow reload`: has a run's pipeline read again.

use mpflow::change::Change;
use mpflow::control::{ClientError, Refusal, RefusalData};
use mpflow::observe;
use serde_json::json;

use super::RunArgument;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json};

/// Have a run read its pipeline again, and become what it says now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow plan old.yaml new.yaml    what would be done
  mpflow reload
  mpflow reload squares --format json | jq -r .change.summary

Returns when it has taken effect, and says what has changed; what has not keeps its workers and records. When the pipeline \
is wrong, or new workers do not come up, the run goes on as it was and this ends with 2. What is wrong comes as from \
`mpflow check`, as JSON on standard output where that is asked for.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// How what has changed is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, info) = args.run.find()?;
    let reload = match client.reload() {
        Err(ClientError::Refused(Refusal { data: RefusalData { diagnostics: Some(wrong), .. }, .. }))
            if args.format == Format::Json =>
        {
            print_json(&wrong)?;
            return Ok(End::Wrong);
        }
        answer => answer?,
    };
    match args.format {
        Format::Json => {
            let took = reload.took.as_secs_f64();
            print_json(&json!({"run": info.id, "took_seconds": took, "change": reload.change}))?;
        }
        Format::Text => {
            let summary = reload.change["summary"].as_str().unwrap_or_default();
            // What was not done took no time.
            let took = match summary == Change::default().to_string() {
                true => String::new(),
                false => format!(" (in {})", observe::duration(reload.took)),
            };
            output::print(&format!("{summary}{took}\n"))?;
        }
    }
    Ok(End::Success)
}
