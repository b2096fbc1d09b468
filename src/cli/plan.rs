//! `mpflow plan`: what a reload from one pipeline to another would do.

use std::collections::BTreeMap;

use clap::ValueHint;
use mpflow::observe;

use super::error::CliError;
use super::exit::End;
use super::load::{self, Overrides, Source};
use super::output::{self, Format};
use super::{show, terminal};

/// Say what a reload from one pipeline to another would do: same, resize, rewire, replace, add, remove
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow plan running.yaml edited.yaml
  git show HEAD:pipeline.yaml | mpflow plan - pipeline.yaml
  mpflow plan old.yaml new.yaml --format json | jq -r '.stages[] | select(.step == \"replace\").stage'

Stages and edges are compared by their names, and by what they come to: `vars`, `env` and `defaults` count where \
they are used, and relative paths of both are taken to start from NEW's folder. What is in the files that stages run is not \
compared. Nothing is started.

Ends with 0 whatever differs, and with 2 when one of the pipelines is wrong.")]
pub(super) struct Args {
    /// The pipeline as it runs; `-` is standard input
    #[arg(value_name = "OLD", value_hint = ValueHint::FilePath)]
    old: Source,
    /// The pipeline as it is to be; `-` is standard input
    #[arg(value_name = "NEW", value_hint = ValueHint::FilePath)]
    new: Source,
    #[command(flatten)]
    overrides: Overrides,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    // Both are read, so that what is wrong with either is shown at once.
    let old = show::right(load::load(&args.old, &args.overrides)?);
    let new = show::loaded(load::load(&args.new, &args.overrides)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(End::Wrong) };
    // The other text of a file lies somewhere else, or nowhere. It is meant to be where the file is.
    let (old, new) = match (&args.old, &args.new) {
        (_, Source::File(place)) => (show::right(load::at(place, old.text(), &args.overrides)), Some(new)),
        (Source::File(place), _) => (Some(old), show::right(load::at(place, new.text(), &args.overrides))),
        (Source::Stdin, Source::Stdin) => (Some(old), Some(new)),
    };
    let (Some(old), Some(new)) = (old, new) else { return Ok(End::Wrong) };
    let change = old.compare(&new, &BTreeMap::new());
    match args.format {
        Format::Text => output::print(&observe::change(&change, terminal::stdout()))?,
        Format::Json => output::print_json(&change)?,
    }
    Ok(End::Success)
}
