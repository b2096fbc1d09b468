//! Values into a run.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ipc::{CodeError, Inlet, Patience, Refused, encode};
use crate::model::Format;

/// The sending side, whatever is sent. Dropping it takes one sender away.
#[derive(Debug)]
pub(super) struct InputEnd {
    inlet: Arc<Inlet>,
    format: Format,
    max_record: u64,
}

impl InputEnd {
    /// The first sender of this inlet.
    pub(super) fn new(inlet: Arc<Inlet>, format: Format, max_record: u64) -> Self {
        Self { inlet, format, max_record }
    }
}

impl Clone for InputEnd {
    fn clone(&self) -> Self {
        self.inlet.join();
        Self { inlet: Arc::clone(&self.inlet), ..*self }
    }
}

impl Drop for InputEnd {
    fn drop(&mut self) {
        self.inlet.leave();
    }
}

/// Sends values into a run, as records of its `stdin`. See [`Run::input`](super::Run::input).
///
/// A value is coded in the format of the edges that come from `stdin` and handed over at once; while the run is
/// busy with others it is taken together with those that follow it. Clones send into the same run, from any thread. When
/// the last one is dropped, the input of the run is at its end.
///
/// Besides what the queue holds, at most 256 KiB wait between this program and the run, and no more records than the
/// `capacity` of the queue, where it has one; then [`Input::send`] waits for room.
pub struct Input<T: ?Sized> {
    end: InputEnd,
    values: PhantomData<fn(&T)>,
}

/// Why a value was not sent. Nothing of it is in the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The run takes no more: it has ended, is being stopped, or all that `stdin` fed has had enough.
    #[error("the run takes no more records")]
    Ended,
    /// There was no room in time; trying again is fine. Never from [`Input::send`].
    #[error("the run has no room for a record now")]
    Full,
    /// The value cannot be a record of the format that the edge has.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The record is larger than its queue's `max_record`.
    #[error("a record of {bytes} bytes is more than `max_record` allows, which is {max_record}")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max_record: u64,
    },
}

thread_local! {
    /// Values are coded here before they are handed over, so that a slow [`Serialize`] holds up nobody.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// More than this is not kept for the next value.
const KEPT_BYTES: usize = 1 << 20;

impl<T: ?Sized> Input<T> {
    pub(super) fn new(end: InputEnd) -> Self {
        Self { end, values: PhantomData }
    }

    /// Says that this sender sends nothing more; the same as dropping it.
    pub fn close(self) {}
}

impl<T: Serialize + ?Sized> Input<T> {
    /// Sends a value, and waits for room as long as it takes.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `Full`. After `Ended` every other call ends so too; after the others the next value may
    /// be sent.
    pub fn send(&self, value: &T) -> Result<(), SendError> {
        self.send_within(value, Patience::Endless)
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn try_send(&self, value: &T) -> Result<(), SendError> {
        self.send_within(value, Patience::None)
    }

    /// Sends a value, and waits at most so long for room.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send_timeout(&self, value: &T, timeout: Duration) -> Result<(), SendError> {
        let deadline = Instant::now().checked_add(timeout);
        self.send_within(value, deadline.map_or(Patience::Endless, Patience::Until))
    }

    fn send_within(&self, value: &T, patience: Patience) -> Result<(), SendError> {
        // Taken, not borrowed: coding a value may send another.
        let mut body = SCRATCH.take();
        body.clear();
        let sent = self.send_coded(value, &mut body, patience);
        if body.capacity() <= KEPT_BYTES {
            SCRATCH.set(body);
        }
        sent
    }

    fn send_coded(&self, value: &T, body: &mut Vec<u8>, patience: Patience) -> Result<(), SendError> {
        let InputEnd { inlet, format, max_record } = &self.end;
        encode(*format, value, body)?;
        if body.len() as u64 > *max_record {
            return Err(SendError::TooLarge { bytes: body.len(), max_record: *max_record });
        }
        inlet.send(body, patience).map_err(|refused| match refused {
            Refused::Full => SendError::Full,
            Refused::Closed => SendError::Ended,
        })
    }
}

impl<T: ?Sized> Clone for Input<T> {
    fn clone(&self) -> Self {
        Self::new(self.end.clone())
    }
}

impl<T: ?Sized> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("format", &self.end.format).finish_non_exhaustive()
    }
}
