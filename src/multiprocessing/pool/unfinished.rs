//! A result that may still be on its way.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::reply::TaskError;

/// The result of a task, or of several, that may still be on its way. Python's `AsyncResult`.
#[derive(Debug)]
pub struct Unfinished<T> {
    pub(super) receiver: Receiver<Result<T, TaskError>>,
}

impl<T> Unfinished<T> {
    /// Whether [`Self::get`] would not wait.
    pub fn is_ready(&self) -> bool {
        !self.receiver.is_empty()
    }

    /// Waits for it, at most so long; `None` for ever. It is given once.
    ///
    /// # Errors
    ///
    /// [`TaskError::TimedOut`]: asking again is fine. Else what became of the task.
    pub fn get(&self, timeout: Option<Duration>) -> Result<T, TaskError> {
        let gone = || Err(TaskError::Ended("its result was taken, or it was terminated".to_owned()));
        match timeout {
            None => self.receiver.recv().unwrap_or_else(|_| gone()),
            Some(timeout) => match self.receiver.recv_timeout(timeout) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => Err(TaskError::TimedOut),
                Err(RecvTimeoutError::Disconnected) => gone(),
            },
        }
    }
}
