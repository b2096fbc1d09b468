//! Values out of a run.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::ipc::{Block, Bodies, CodeError, Next, Outlet, Patience, decode};
use crate::model::Format;

/// The receiving side, whatever is received. Dropping it tells the run that nobody reads.
#[derive(Debug)]
pub(super) struct OutputEnd {
    outlet: Arc<Outlet>,
    /// By queue.
    formats: Vec<Format>,
    current: Option<Current>,
}

/// The block that records are taken from now.
#[derive(Debug)]
struct Current {
    queue: usize,
    block: Block,
    bodies: Bodies,
    left: u64,
}

impl OutputEnd {
    pub(super) fn new(outlet: Arc<Outlet>, formats: Vec<Format>) -> Self {
        Self { outlet, formats, current: None }
    }

    fn next<T: DeserializeOwned>(&mut self, patience: Patience) -> Result<T, RecvError> {
        loop {
            if let Some(current) = &mut self.current {
                let format = self.formats[current.queue];
                if let Some(body) = current.bodies.next(&current.block.data) {
                    current.left = current.left.saturating_sub(1);
                    return Ok(decode(format, body)?);
                }
                let left = std::mem::take(&mut current.left);
                self.current = None;
                if left > 0 {
                    return Err(CodeError::torn(format, left).into());
                }
            }
            self.current = match self.outlet.next(patience) {
                Next::Block(queue, block) => {
                    let bodies = Bodies::new(self.formats[queue]);
                    Some(Current { queue, left: block.records, block, bodies })
                }
                Next::Nothing if patience == Patience::None => return Err(RecvError::Empty),
                Next::Nothing => return Err(RecvError::Timeout),
                Next::End => return Err(RecvError::Ended),
            };
        }
    }
}

impl Drop for OutputEnd {
    fn drop(&mut self) {
        let unused = self.current.take().map(|current| (current.queue, current.left));
        self.outlet.leave(unused.filter(|&(_, records)| records > 0));
    }
}

/// Receives values from a run: the records of its `stdout`. See [`Run::output`](super::Run::output).
///
/// Each record is decoded by the format of the edge that it came by. As an iterator it waits for each value and ends
/// when nothing more can come. Dropping it tells the run that nobody reads: what feeds `stdout` ends as it does when the
/// reader of a pipe has had enough.
///
/// At most 1 MiB wait between the run and this program, and no more records than the `capacity` of the queue, where
/// it has one; then the run waits.
pub struct Output<T> {
    end: OutputEnd,
    values: PhantomData<fn() -> T>,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing more will come.
    #[error("the run has no more records")]
    Ended,
    /// Nothing is there now. Only from [`Output::try_recv`].
    #[error("no record is there now")]
    Empty,
    /// Nothing came in time. Only from [`Output::recv_timeout`].
    #[error("no record came in time")]
    Timeout,
    /// The next record is not such a value. It is passed over: the next call looks at the one after it.
    #[error(transparent)]
    Code(#[from] CodeError),
}

impl<T> Output<T> {
    pub(super) fn new(end: OutputEnd) -> Self {
        Self { end, values: PhantomData }
    }
}

impl<T: DeserializeOwned> Output<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    ///
    /// `Ended` or `Code`: see [`RecvError`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.end.next(Patience::Endless)
    }

    /// The next value, if there is one now.
    ///
    /// # Errors
    ///
    /// `Empty`, `Ended` or `Code`: see [`RecvError`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.end.next(Patience::None)
    }

    /// Waits for the next value, at most so long.
    ///
    /// # Errors
    ///
    /// `Timeout`, `Ended` or `Code`: see [`RecvError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        let deadline = Instant::now().checked_add(timeout);
        self.end.next(deadline.map_or(Patience::Endless, Patience::Until))
    }
}

impl<T: DeserializeOwned> Iterator for Output<T> {
    type Item = Result<T, CodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.recv() {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Code(error)) => Some(Err(error)),
            Err(RecvError::Ended | RecvError::Empty | RecvError::Timeout) => None,
        }
    }
}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}
