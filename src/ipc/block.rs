//! The unit that moves: whole records, together.

use bytes::Bytes;

use super::cutter::WORTH_SHARING_BYTES;
use super::{Framing, Pins, chunk};

/// Whole records of one producer, in its order. Bytes are shared, never copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Block {
    /// The records with their ends.
    pub(crate) data: Bytes,
    /// How many; 0 only where there are no bytes.
    pub(crate) records: u64,
    /// The last record lacks its end. Whoever writes something after it writes the end first.
    pub(crate) is_open: bool,
    /// Shared memory that its records lie in.
    pub(crate) pins: Pins,
}

impl Block {
    /// These records, all with their ends.
    pub(crate) fn new(data: Bytes, records: u64) -> Self {
        Self { data, records, is_open: false, pins: Pins::default() }
    }

    /// All of `data` as a block.
    pub(crate) fn whole(data: Bytes, framing: Framing) -> Self {
        let (length, records) = framing.whole(&data);
        let is_open = length < data.len();
        Self { records: records + u64::from(is_open), is_open, ..Self::new(data, 0) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Bytes that it holds, those of shared memory counted: what bounds are about.
    pub(crate) fn cost(&self) -> u64 {
        self.pins.bytes().saturating_add(self.data.len() as u64)
    }

    /// Takes records off the front: at most so many bytes and records, but one record in any case.
    pub(crate) fn take_front(&mut self, framing: Framing, max_bytes: usize, max_records: u64) -> Self {
        if self.data.len() <= max_bytes && self.records <= max_records {
            return std::mem::take(self);
        }
        if framing == Framing::Chunks {
            return self.take_chunks(max_bytes, max_records);
        }
        let (length, records) = framing.front(&self.data, max_bytes, max_records);
        if length == self.data.len() {
            return std::mem::take(self);
        }
        self.records -= records;
        Self::new(self.data.split_to(length), records)
    }

    /// Whole chunks as far as they fit, and where not even the first does, a part of it. That is a copy of the whole
    /// chunk, so it is only split when a worker is to get few records.
    fn take_chunks(&mut self, max_bytes: usize, max_records: u64) -> Self {
        let framing = Framing::Chunks;
        let first = framing.first(&self.data);
        let (length, records) = framing.front(&self.data, max_bytes.max(first), max_records);
        if records <= max_records && length > 0 {
            if length == self.data.len() {
                return std::mem::take(self);
            }
            self.records -= records;
            return Self { pins: self.pins.clone(), ..Self::new(self.data.split_to(length), records) };
        }
        let part = u32::try_from(max_records.max(1)).unwrap_or(u32::MAX);
        let Some((front, rest)) = chunk::split(&self.data[..first], part) else {
            return std::mem::take(self);
        };
        self.records -= u64::from(part);
        self.data = match first == self.data.len() {
            true => rest,
            false => [&rest, &self.data[first..]].concat().into(),
        };
        Self { pins: self.pins.clone(), ..Self::new(front, part.into()) }
    }

    /// The same for whoever keeps it longer than the read that it is a part of: a small part is copied, so that a few
    /// bytes never hold a large buffer.
    pub(crate) fn kept(mut self) -> Self {
        if self.data.len() < WORTH_SHARING_BYTES {
            self.data = Bytes::copy_from_slice(&self.data);
        }
        self
    }

    /// Takes so many records off the front, at least one; all where there are not so many.
    pub(crate) fn take_records(&mut self, framing: Framing, records: u64) -> Self {
        let mut front = self.take_front(framing, usize::MAX, records);
        // Of chunks those were whole ones, and the last record may lie in the middle of the next.
        while front.records < records && !self.is_empty() {
            let next = self.take_front(framing, usize::MAX, records - front.records);
            front.data = [front.data, next.data].concat().into();
            front.records += next.records;
        }
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks whose records are their own numbers, each one byte of the body, with elements around them that are not
    /// theirs.
    fn chunks(shapes: &[(u8, u8, u8)]) -> (Block, Vec<u8>) {
        let (mut data, mut numbers) = (Vec::new(), Vec::new());
        for &(before, own, after) in shapes {
            let first = numbers.len() as u8;
            let body: Vec<u8> = std::iter::repeat_n(255, before.into())
                .chain(first..first + own)
                .chain(std::iter::repeat_n(255, after.into()))
                .collect();
            data.extend_from_slice(&(12 + body.len() as u32).to_le_bytes());
            data.extend_from_slice(&u32::from(before).to_le_bytes());
            data.extend_from_slice(&u32::from(own).to_le_bytes());
            data.extend_from_slice(&[0; 4]);
            data.extend_from_slice(&body);
            numbers.extend(first..first + own);
        }
        (Block::new(data.into(), numbers.len() as u64), numbers)
    }

    fn numbers_in(block: &Block) -> Vec<u8> {
        let own = |chunk: &[u8]| {
            let header = crate::ipc::ChunkHeader::read(chunk).unwrap();
            assert!(header.is_sound() && header.fits(chunk) && header.bytes == chunk.len());
            let first = crate::ipc::CHUNK_HEADER_BYTES + header.skip as usize;
            chunk[first..first + header.records as usize].to_vec()
        };
        let numbers: Vec<u8> = Framing::Chunks.records(&block.data).flat_map(own).collect();
        assert_eq!(numbers.len() as u64, block.records);
        numbers
    }

    proptest::proptest! {
        #[test]
        fn however_chunks_are_split_each_record_is_there_once_and_in_order(
            shapes in proptest::collection::vec((0u8..4, 1u8..9, 0u8..4), 1..8),
            cuts in proptest::collection::vec((0usize..200, 1u64..12, proptest::bool::ANY), 0..40),
        ) {
            let (block, expected) = chunks(&shapes);
            // Parts in order, of which the one that is cut next is any of them.
            let mut parts = vec![block];
            for (bytes, records, is_last) in cuts {
                let at = if is_last { parts.len() - 1 } else { bytes % parts.len() };
                let held = parts[at].records;
                let front = parts[at].take_front(Framing::Chunks, bytes, records);
                proptest::prop_assert!(front.records > 0 && front.records <= records.max(1) || front.records == held);
                parts.insert(at, front);
                parts.retain(|part| !part.is_empty());
            }
            let found: Vec<u8> = parts.iter().flat_map(numbers_in).collect();
            proptest::prop_assert_eq!(found, expected);
        }

        #[test]
        fn as_many_records_are_taken_as_were_asked_for_whatever_chunks_they_lie_in(
            shapes in proptest::collection::vec((0u8..4, 1u8..9, 0u8..4), 1..8),
            records in 1u64..60,
        ) {
            let (mut block, numbers) = chunks(&shapes);
            let front = block.take_records(Framing::Chunks, records);
            let (taken, left) = numbers.split_at(numbers.len().min(records as usize));
            proptest::prop_assert_eq!(numbers_in(&front), taken);
            proptest::prop_assert_eq!(numbers_in(&block), left);
        }
    }

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
