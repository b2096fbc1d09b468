//! Runs that are changed while they run, through the library: wider, narrower, restarted, reloaded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod live;
#[path = "../support/own_main.rs"]
mod own_main;
mod random;
mod reloads;
mod steer;

use std::process::ExitCode;

fn main() -> ExitCode {
    mpflow::init(&mpflow::Functions::new());
    own_main::run(&[steer::TESTS, reloads::TESTS, random::TESTS].concat())
}
