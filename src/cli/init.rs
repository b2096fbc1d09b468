//! `mpflow init`: a first pipeline to start from.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::ValueHint;

use super::error::CliError;
use super::exit::End;
use super::output;

/// Write a commented first pipeline, `pipeline.yaml`, that runs as it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow init && mpflow run pipeline.yaml
  mpflow init numbers && mpflow graph numbers/pipeline.yaml

A file that exists already is left as it is.")]
pub(super) struct Args {
    /// The folder to write it into; made where it is missing
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

/// Runs on any machine that has a shell and GNU coreutils or BusyBox.
const FIRST: &str = include_str!("first_pipeline.yaml");

const FILE_NAME: &str = "pipeline.yaml";

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    // `./pipeline.yaml` is right too, but nobody writes it.
    let path = if args.dir.as_os_str() == "." { FILE_NAME.into() } else { args.dir.join(FILE_NAME) };
    let failed = |source| CliError::Create { what: "the pipeline", path: path.clone(), source };
    fs::create_dir_all(&args.dir).map_err(failed)?;
    // `create_new` looks and makes in one step: a file that appears meanwhile is not overwritten either.
    let mut file = File::create_new(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Exists(path.clone()),
        _ => failed(error),
    })?;
    file.write_all(FIRST.as_bytes()).map_err(failed)?;
    let path = path.display();
    output::print(&format!("wrote {path}\nrun it:  mpflow run {path}\ndraw it: mpflow graph {path}\n"))?;
    Ok(End::Success)
}
