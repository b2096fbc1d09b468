//! The `mpflow` program: arguments in, exit code out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the launcher must be forked while this process has one thread.
    // It has no functions of its own.
    mpflow::init(&mpflow::Functions::new());
    cli::run(std::env::args_os())
}
