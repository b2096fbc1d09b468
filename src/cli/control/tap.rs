//! `mpflow tap`: some of the records that pass through a queue.

use mpflow::control::Followed;
use mpflow::observe;
use serde_json::{Value, json};

use super::RunOption;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json_line};

/// Look at some of the records that pass through a queue
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow tap 'numbers -> square'
  mpflow tap 'numbers -> square' --count 5
  mpflow tap 'crawl -> parse' --format json | jq .value.url

Nothing is slowed down: up to 20 records are shown ten times a second, and how many others passed is said. Of long \
records only the beginning is shown, and of Python's and MessagePack's, which the engine does not decode, only how \
many there are and how large.")]
pub(in crate::cli) struct Args {
    /// The edge, as `mpflow status` writes it: 'A -> B'
    #[arg(value_name = "EDGE")]
    edge: String,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    run: RunOption,
    /// How they are written: for people, or a JSON document a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, _) = args.run.find()?;
    client.tap(&args.edge)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let (records, mut not_shown) = match client.followed()? {
            Followed::Records { records, not_shown } => (records, not_shown),
            Followed::Log(_) => continue,
            Followed::Ended => break,
        };
        for record in &records {
            if left == 0 {
                break;
            }
            left -= 1;
            match args.format {
                Format::Json => print_json_line(record)?,
                Format::Text => output::print(&(shown(record) + "\n"))?,
            }
        }
        if left == 0 {
            not_shown = 0;
        }
        if not_shown > 0 {
            match args.format {
                Format::Json => print_json_line(&json!({"not_shown": not_shown}))?,
                Format::Text => output::print(&format!("… {} more\n", observe::count(not_shown)))?,
            }
        }
    }
    Ok(End::Success)
}

/// A record as one line for people.
fn shown(record: &Value) -> String {
    let size = || observe::bytes(record["bytes"].as_u64().unwrap_or(0));
    let cut = if record["is_cut"] == true { format!("… ({} in all)", size()) } else { String::new() };
    if let Some(text) = record["text"].as_str() {
        let escaped = |char: char| match char.is_control() {
            true => char.escape_debug().to_string(),
            false => char.to_string(),
        };
        return text.chars().map(escaped).collect::<String>() + &cut;
    }
    if let Some(hex) = record["hex"].as_str() {
        return format!("0x{hex}{cut}");
    }
    match (record.get("value"), record["records"].as_u64()) {
        (Some(value), _) => value.to_string(),
        (None, Some(records)) => format!("<{} records in {}>", observe::count(records), size()),
        (None, None) => record.to_string(),
    }
}
