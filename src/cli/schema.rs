//! `mpflow schema`: the language's JSON Schema.

use super::error::CliError;
use super::exit::End;
use super::output;

/// Print the JSON Schema of pipeline files, for editors
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow schema > pipeline.schema.json

With this as the first line of a pipeline, editors that know the YAML language server complete and check it:
  # yaml-language-server: $schema=pipeline.schema.json")]
pub(super) struct Args {}

pub(super) fn execute(_args: &Args) -> Result<End, CliError> {
    output::print(&super::load::schema())?;
    Ok(End::Success)
}
