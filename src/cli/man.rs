//! `mpflow man`: manual pages.

use std::path::PathBuf;

use clap::{Command, CommandFactory as _, ValueHint};
use clap_mangen::Man;

use super::error::CliError;
use super::exit::End;
use super::{Cli, output};

/// Print the manual page of mpflow, or of one of its commands
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow man | man -l -
  mpflow man run | man -l -
  mpflow man --dir ~/.local/share/man/man1")]
pub(super) struct Args {
    /// The command whose page is wanted
    command: Option<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let mut root = Cli::command();
    if let Some(dir) = &args.dir {
        let failed = |source| CliError::Create { what: "manual pages", path: dir.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(root, dir).map_err(failed)?;
        return Ok(End::Success);
    }
    // Gives the subcommands their full names.
    root.build();
    let command = match &args.command {
        None => root,
        Some(name) => root.find_subcommand(name).cloned().ok_or_else(|| CliError::NoCommand(name.clone()))?,
    };
    output::print(&page(command)?)?;
    Ok(End::Success)
}

fn page(command: Command) -> Result<String, CliError> {
    let mut roff = Vec::new();
    let source = concat!("mpflow ", env!("CARGO_PKG_VERSION"));
    Man::new(command).source(source).manual("mpflow manual").render(&mut roff).map_err(CliError::Stdout)?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}
