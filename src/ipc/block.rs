//! The unit that moves: whole records, together.

use bytes::Bytes;

use super::Framing;
use super::cutter::WORTH_SHARING_BYTES;

/// Whole records of one producer, in its order. Bytes are shared, never copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Block {
    /// The records with their ends.
    pub(crate) data: Bytes,
    /// How many; 0 only where there are no bytes.
    pub(crate) records: u64,
    /// The last record lacks its end. Whoever writes something after it writes the end first.
    pub(crate) is_open: bool,
}

impl Block {
    /// All of `data` as a block.
    pub(crate) fn whole(data: Bytes, framing: Framing) -> Self {
        let (length, records) = framing.whole(&data);
        let is_open = length < data.len();
        Self { records: records + u64::from(is_open), is_open, data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Takes records off the front: at most so many bytes and records, but one record in any case.
    pub(crate) fn take_front(&mut self, framing: Framing, max_bytes: usize, max_records: u64) -> Self {
        if self.data.len() <= max_bytes && self.records <= max_records {
            return std::mem::take(self);
        }
        let (length, records) = framing.front(&self.data, max_bytes, max_records);
        if length == self.data.len() {
            return std::mem::take(self);
        }
        self.records -= records;
        Self { data: self.data.split_to(length), records, is_open: false }
    }

    /// The same for whoever keeps it longer than the read that it is a part of: a small part is copied, so that a few
    /// bytes never hold a large buffer.
    pub(crate) fn kept(mut self) -> Self {
        if self.data.len() < WORTH_SHARING_BYTES {
            self.data = Bytes::copy_from_slice(&self.data);
        }
        self
    }

    /// Takes so many records off the front.
    pub(crate) fn take_records(&mut self, framing: Framing, records: u64) -> Self {
        self.take_front(framing, usize::MAX, records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_split_between_records() {
        let framing = Framing::EndedBy(b'\n');
        let mut block = Block::whole(Bytes::from_static(b"one\ntwo\nthree"), framing);
        assert_eq!((block.records, block.is_open), (3, true));
        let front = block.take_front(framing, 8, 99);
        assert_eq!((&front.data[..], front.records, front.is_open), (&b"one\ntwo\n"[..], 2, false));
        assert_eq!((&block.data[..], block.records, block.is_open), (&b"three"[..], 1, true));
        let rest = block.take_records(framing, 5);
        assert!(rest.is_open && block.is_empty());
    }
}
