//! `mpflow logs`: what the workers of a run have written to their standard error.

use mpflow::control::Followed;
use mpflow::observe;
use mpflow::report::Logs;

use super::RunOption;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json_line};
use crate::cli::terminal;

/// Show the last lines that workers wrote to their standard error
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow logs
  mpflow logs square --follow
  mpflow logs square/2 --lines 20 --run squares
  mpflow logs --format json --follow | jq -r .line

A run keeps the last lines of its log, half a mebibyte of them. Only what workers write to the run's own standard error \
is there: not that of a stage with another `stderr`.")]
pub(in crate::cli) struct Args {
    /// Only those of this stage or worker
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    /// Go on with what comes, until the run ends
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', default_value_t = 100, value_name = "COUNT")]
    lines: usize,
    #[command(flatten)]
    run: RunOption,
    /// How they are written: as the run itself shows them, or a JSON document a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, _) = args.run.find()?;
    let logs = client.logs(args.stage.as_deref(), args.lines, args.follow)?;
    // What is gone of the past was not asked for.
    print(&Logs { missed: 0, ..logs }, args.format)?;
    if !args.follow {
        return Ok(End::Success);
    }
    loop {
        match client.followed()? {
            Followed::Log(logs) => print(&logs, args.format)?,
            Followed::Records { .. } => {}
            Followed::Ended => return Ok(End::Success),
        }
    }
}

fn print(logs: &Logs, format: Format) -> Result<(), CliError> {
    if logs.missed > 0 && format == Format::Text {
        output::print(&format!("mpflow: {} lines are missing here: they came too fast\n", logs.missed))?;
    }
    if logs.missed > 0 && format == Format::Json {
        print_json_line(&serde_json::json!({"missed": logs.missed}))?;
    }
    let look = terminal::stdout();
    let text: Vec<String> = match format {
        Format::Text => logs.lines.iter().map(|line| observe::log_line(line, look) + "\n").collect(),
        Format::Json => logs
            .lines
            .iter()
            .map(|line| {
                serde_json::to_string(line).expect("its keys are strings and its numbers finite") + "\n"
            })
            .collect(),
    };
    output::print(&text.concat())
}
