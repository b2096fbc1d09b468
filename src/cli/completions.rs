//! `mpflow completions`: what a shell needs to complete command lines.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::error::CliError;
use super::exit::End;
use super::{Cli, output};

/// Print what a shell needs to complete mpflow's command lines
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow completions bash > ~/.local/share/bash-completion/completions/mpflow
  mpflow completions zsh > ~/.zfunc/_mpflow
  mpflow completions fish > ~/.config/fish/completions/mpflow.fish")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mpflow", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(End::Success)
}
