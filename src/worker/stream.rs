//! `stream` mode and sources: the function is called once, and reads and emits by itself.

use super::context::Worker;
use super::failure::{Failure, caught};
use super::functions::Run;

pub(super) fn run(worker: &'static Worker, function: &Run) -> Result<(), Failure> {
    // What was emitted before a failure has been emitted.
    let result = caught(|| function(worker));
    worker.post().flush();
    result
}
