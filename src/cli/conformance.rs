//! `mpflow conformance`: whether a worker keeps to the worker protocol.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use mpflow::conformance::{self, Check, Mode, Options, Verdict};
use mpflow::pipeline::Format;

use super::error::CliError;
use super::exit::End;
use super::output;

/// Check whether a worker, in any language, keeps to the worker protocol
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow conformance -- ./my-worker
  mpflow conformance --mode map --records msgpack -- perl worker.pl
  mpflow conformance --format json -- ./my-worker | jq '.checks[] | select(.verdict == \"fails\")'

The protocol, and the functions that the worker is to have for this: schemas/worker-protocol.md.

Ends with 0 when every sentence that could be tested holds, with 1 when one does not, and with 2 when the worker
could not be started.")]
pub(super) struct Args {
    /// How the worker takes its records
    #[arg(long, value_enum, default_value_t = ModeChoice::All)]
    mode: ModeChoice,
    /// The format of the records
    #[arg(long, value_enum, default_value_t = Records::Lines)]
    records: Records,
    /// How long the worker is waited for, each time
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// What a target has before the name of its function
    #[arg(long, value_name = "TEXT", default_value = "conformance:")]
    target_prefix: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Written::Text)]
    format: Written,
    /// The worker: a program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeChoice {
    /// Leased records
    Map,
    /// A stream in, a stream out
    Stream,
    /// No input
    Source,
    /// All three
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Records {
    Lines,
    Json,
    Nul,
    Frames,
    Msgpack,
    Pickle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// For people
    Text,
    /// For programs
    Json,
}

impl Args {
    fn options(&self) -> Options {
        let mut options = Options::new(&self.command);
        options.modes = match self.mode {
            ModeChoice::Map => vec![Mode::Map],
            ModeChoice::Stream => vec![Mode::Stream],
            ModeChoice::Source => vec![Mode::Source],
            ModeChoice::All => Mode::ALL.to_vec(),
        };
        options.format = match self.records {
            Records::Lines => Format::Lines,
            Records::Json => Format::Json,
            Records::Nul => Format::Nul,
            Records::Frames => Format::Frames,
            Records::Msgpack => Format::Msgpack,
            Records::Pickle => Format::Pickle,
        };
        options.timeout = self.timeout;
        options.target_prefix.clone_from(&self.target_prefix);
        options
    }
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let is_text = args.format == Written::Text;
    let mut printed = Ok(());
    let checks = conformance::check(&args.options(), &mut |check| {
        if is_text && printed.is_ok() {
            printed = output::print(&line(check));
        }
    });
    printed?;
    let checks = checks.map_err(CliError::Conformance)?;
    let count = |is: fn(&Verdict) -> bool| checks.iter().filter(|check| is(&check.verdict)).count();
    let holds = count(|verdict| matches!(verdict, Verdict::Holds));
    let fails = count(|verdict| matches!(verdict, Verdict::Fails { .. }));
    let untested = checks.len() - holds - fails;
    output::print(&match args.format {
        Written::Text => format!("\n{holds} hold, {fails} do not, {untested} could not be tested\n"),
        Written::Json => {
            let json = serde_json::json!({
                "protocol": 1, "checks": checks, "holds": holds, "fails": fails, "untested": untested,
            });
            format!("{json:#}\n")
        }
    })?;
    Ok(if fails > 0 { End::Failed } else { End::Success })
}

fn line(check: &Check) -> String {
    let Check { mode, name, verdict } = check;
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = match verdict {
        Verdict::Holds => writeln!(text, "{mode:6}  holds     it {name}"),
        Verdict::Fails { expected, came } => {
            writeln!(
                text,
                "{mode:6}  FAILS     it {name}\n{:18}expected: {expected}\n{:18}came: {came}",
                "", ""
            )
        }
        Verdict::Untested { reason } => writeln!(text, "{mode:6}  untested  it {name}: {reason}"),
    };
    text
}
