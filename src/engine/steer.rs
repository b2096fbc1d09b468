//! A run that is changed while it runs.

use super::Run;
use crate::change::SteerError;

impl Run {
    /// Gives a stage a pool of `width` workers. Returns when those that were added are ready, and those that are too
    /// many have been told to finish what they hold; nothing that waits or is held is lost.
    ///
    /// Those with the highest ranks leave: their input ends, and they may take their time; a worker of a source gets its
    /// stop signal. A pool that grew and shrank by itself does so no more.
    ///
    /// # Errors
    ///
    /// See [`SteerError`]. With [`SteerError::NotUp`] the pool has its new width, and its restart policy has decided
    /// about the workers that ended; with any other the stage is as it was.
    pub fn scale(&self, stage: &str, width: usize) -> Result<(), SteerError> {
        self.handle.scale(stage, width)
    }

    /// Replaces all workers of a stage, or one worker (`square/2`), one after the other: the next is told to finish when
    /// the one before has a successor that is ready. So a pool is never short of more than one of its workers.
    /// Returns how many were replaced, when the last is ready; that is 0 for an `each` stage, whose processes are new for
    /// each record anyway.
    ///
    /// A worker is told by the end of its input, and answers what it holds; after its grace period it is ended by its
    /// stop signal, and what it held is done by others. A worker of a source gets its stop signal at once, and its
    /// successor begins from the beginning.
    ///
    /// # Errors
    ///
    /// See [`SteerError`]. With [`SteerError::NotUp`] the others have been replaced; with any other nothing was.
    pub fn restart(&self, what: &str) -> Result<usize, SteerError> {
        self.handle.restart(what)
    }
}
