//! What keeps shared memory from being used again while records lie in it.

use std::sync::{Arc, Mutex, PoisonError};

/// Where pins that are let go of are noted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Released(Arc<Mutex<Vec<u64>>>);

impl Released {
    /// The segments of pins that were let go of since the last call; one that had several, several times.
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A pin of this segment, which has so many bytes.
    pub(crate) fn pin(&self, segment: u64, bytes: u64) -> Pin {
        Pin { segment, bytes, released: self.clone() }
    }
}

/// One hold on one segment, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    segment: u64,
    bytes: u64,
    released: Released,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.released.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.segment);
    }
}

/// The segments that the records of a block lie in, each held as long as any part of the block is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Vec<Arc<Pin>>);

impl Pins {
    pub(crate) fn new(pins: Vec<Pin>) -> Self {
        Self(pins.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|pin| pin.bytes).sum()
    }

    /// Holds these as well.
    pub(crate) fn join(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }
}

/// Two blocks are the same by their records; what holds their memory is no part of them.
impl PartialEq for Pins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pins {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_released_when_the_last_part_that_holds_it_is_dropped() {
        let released = Released::default();
        let whole = Pins::new(vec![released.pin(7, 100)]);
        let mut part = Pins::default();
        part.join(&whole);
        drop(whole);
        assert_eq!((released.take(), part.bytes()), (vec![], 100));
        drop(part);
        assert_eq!(released.take(), [7]);
    }
}
