//! The `mpflow` program: arguments in, exit code out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the launcher must be forked while this process has one thread.
    mpflow::init();
    cli::run(std::env::args_os())
}
