//! The command line: one file for each subcommand, over the public API of the library alone.

mod check;
mod completions;
mod conformance;
mod control;
mod error;
mod exit;
mod explain;
mod graph;
mod init;
mod load;
mod man;
mod output;
mod plan;
mod run;
mod schema;
mod shared;
mod show;
mod terminal;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;
use exit::End;

/// Run pipelines of programs: stages joined by queues and pipes, declared in one YAML file
#[derive(Debug, Parser)]
#[command(name = "mpflow", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(
    long_about = "Run pipelines of programs: stages joined by queues and pipes, declared in one YAML file.

A stage is a command run by a pool of identical workers. Records (lines, JSON documents, frames) move from stage \
to stage through bounded queues; workers that die are replaced, and what they held is done again."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mpflow init                          write a first pipeline to start from
  mpflow run pipeline.yaml             run it
  mpflow check pipelines/*.yaml        look for mistakes, start nothing
  mpflow explain pipeline.yaml         what it promises and needs
  mpflow graph pipeline.yaml           draw it
  mpflow plan old.yaml new.yaml        what a reload from one to the other would do
  mpflow status                        how the run is that goes on

Exit codes: 0 all went well, 1 a stage failed, 2 the command line or the pipeline is wrong,
130 interrupted (SIGINT), 143 terminated (SIGTERM).";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Explain(explain::Args),
    Graph(graph::Args),
    Plan(plan::Args),
    Ps(control::ps::Args),
    Status(control::status::Args),
    Top(control::top::Args),
    Logs(control::logs::Args),
    Tap(control::tap::Args),
    Stop(control::stop::Args),
    Scale(control::scale::Args),
    Restart(control::restart::Args),
    Reload(control::reload::Args),
    Conformance(conformance::Args),
    Schema(schema::Args),
    Init(init::Args),
    Shared(shared::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Does what the command line says and returns what the shell is to see.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let end = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command).unwrap_or_else(|error| {
            show::error(&error);
            error.end()
        }),
        Err(error) => {
            // Nobody is left to be told when this cannot be written.
            let _ = error.print();
            if error.use_stderr() { End::Wrong } else { End::Success }
        }
    };
    end.exit_code()
}

fn dispatch(command: Command) -> Result<End, CliError> {
    init_logging();
    match command {
        Command::Run(args) => run::execute(args),
        Command::Check(args) => check::execute(&args),
        Command::Explain(args) => explain::execute(&args),
        Command::Graph(args) => graph::execute(&args),
        Command::Plan(args) => plan::execute(&args),
        Command::Ps(args) => control::ps::execute(&args),
        Command::Status(args) => control::status::execute(&args),
        Command::Top(args) => control::top::execute(&args),
        Command::Logs(args) => control::logs::execute(&args),
        Command::Tap(args) => control::tap::execute(&args),
        Command::Stop(args) => control::stop::execute(&args),
        Command::Scale(args) => control::scale::execute(&args),
        Command::Restart(args) => control::restart::execute(&args),
        Command::Reload(args) => control::reload::execute(&args),
        Command::Conformance(args) => conformance::execute(&args),
        Command::Schema(args) => schema::execute(&args),
        Command::Init(args) => init::execute(&args),
        Command::Shared(args) => shared::execute(args),
        Command::Completions(args) => completions::execute(&args),
        Command::Man(args) => man::execute(&args),
    }
}

/// The engine's own diary, for whoever looks for a fault in it: `MPFLOW_LOG=debug mpflow run …`.
fn init_logging() {
    if !is_logging() {
        return;
    }
    let filter = tracing_subscriber::EnvFilter::from_env(LOG_VARIABLE);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

const LOG_VARIABLE: &str = "MPFLOW_LOG";

/// Whether the diary is written to standard error.
fn is_logging() -> bool {
    std::env::var_os(LOG_VARIABLE).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
