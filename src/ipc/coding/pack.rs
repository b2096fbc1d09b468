//! Bodies of records into blocks.

use bytes::Bytes;

use super::msgpack;
use crate::ipc::framing::LENGTH_BYTES;
use crate::ipc::{Block, CHUNK_HEADER_BYTES, Framing};
use crate::model::Format;

/// Gathers records to blocks.
#[derive(Debug)]
pub(crate) struct Packer {
    framing: Framing,
    bytes: Vec<u8>,
    records: u64,
    /// Of a format whose records are coded together: where the chunk begins that is being gathered, its records, and
    /// how many it may have.
    chunk: usize,
    chunk_records: u32,
    most_in_chunk: u32,
    /// And how many bytes.
    chunk_bytes: usize,
}

/// Where the first element of a chunk lies that has no segments.
const ELEMENTS_AT: usize = CHUNK_HEADER_BYTES + msgpack::ARRAY_HEADER_BYTES;

/// A chunk has at most so many records, and as many bytes as fit beside one record: a worker that is to have fewer gets
/// a copy of it all, and must pass over the others.
const MOST_IN_CHUNK: u32 = 1024;
const CHUNK_BYTES: usize = 64 << 10;

impl Packer {
    /// For queues that hold so many records.
    pub(crate) fn new(format: Format, capacity: u64) -> Self {
        Self {
            framing: Framing::of(format),
            bytes: Vec::new(),
            records: 0,
            chunk: 0,
            chunk_records: 0,
            most_in_chunk: u32::try_from(capacity).map_or(MOST_IN_CHUNK, |most| most.clamp(1, MOST_IN_CHUNK)),
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// For queues that take no longer record, which a whole chunk counts as.
    pub(crate) fn with_max_record(mut self, bytes: u64) -> Self {
        let most = usize::try_from(bytes).map_or(CHUNK_BYTES, |most| most.saturating_add(CHUNK_HEADER_BYTES));
        self.chunk_bytes = CHUNK_BYTES.min(most);
        self
    }

    /// Adds a record by its body.
    ///
    /// # Panics
    ///
    /// If a frame has 4 GiB or more; `max_record` is far below it.
    pub(crate) fn push(&mut self, body: &[u8]) {
        self.records += 1;
        match self.framing {
            Framing::EndedBy(end) => {
                self.bytes.extend_from_slice(body);
                self.bytes.push(end);
            }
            Framing::Length => {
                let length = u32::try_from(body.len()).expect("records are far below 4 GiB");
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(body);
            }
            Framing::Chunks => {
                let is_full = self.chunk_records == self.most_in_chunk
                    || self.bytes.len() - self.chunk + body.len() > self.chunk_bytes;
                if is_full {
                    self.end_chunk();
                }
                if self.chunk_records == 0 {
                    // Both headers are known at the end.
                    self.bytes.resize(self.chunk + ELEMENTS_AT, 0);
                }
                self.chunk_records += 1;
                self.bytes.extend_from_slice(body);
            }
        }
    }

    /// Bytes gathered.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records gathered.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// All that was gathered, as one block.
    pub(crate) fn take(&mut self) -> Block {
        self.end_chunk();
        self.chunk = 0;
        // The next block is likely to be as long, but after a single large record.
        let next = Vec::with_capacity(self.bytes.len().min(CHUNK_BYTES * 4));
        let bytes = std::mem::replace(&mut self.bytes, next);
        Block::new(Bytes::from(bytes), std::mem::take(&mut self.records))
    }

    fn end_chunk(&mut self) {
        let records = std::mem::take(&mut self.chunk_records);
        if records > 0 {
            let chunk = &mut self.bytes[self.chunk..];
            let counted = u32::try_from(chunk.len() - LENGTH_BYTES).expect("records are far below 4 GiB");
            chunk[..4].copy_from_slice(&counted.to_le_bytes());
            chunk[8..12].copy_from_slice(&records.to_le_bytes());
            chunk[CHUNK_HEADER_BYTES..ELEMENTS_AT].copy_from_slice(&msgpack::array_header(records));
            self.chunk = self.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{bodies, check_chunks};

    #[test]
    fn a_chunk_is_what_the_protocol_says_and_can_be_split() {
        let mut packer = Packer::new(Format::Msgpack, u64::MAX);
        for number in 0..5u8 {
            packer.push(&[number]);
        }
        let mut block = packer.take();
        assert!(check_chunks(&block.data).is_ok());
        let front = block.take_front(Framing::Chunks, usize::MAX, 2);
        let numbers =
            |block: &Block| bodies(Format::Msgpack, &block.data).map(|body| body[0]).collect::<Vec<_>>();
        assert_eq!((numbers(&front), numbers(&block)), (vec![0, 1], vec![2, 3, 4]));
        assert!(packer.take().is_empty());
    }

    #[test]
    fn a_queue_that_holds_few_records_gets_small_chunks() {
        let mut packer = Packer::new(Format::Msgpack, 2);
        (0..5u8).for_each(|number| packer.push(&[number]));
        let block = packer.take();
        assert!(check_chunks(&block.data).is_ok());
        let counts: Vec<u64> =
            Framing::Chunks.records(&block.data).map(|chunk| Framing::Chunks.count_in(chunk)).collect();
        assert_eq!((counts, block.records), (vec![2, 2, 1], 5));
        assert_eq!(
            bodies(Format::Msgpack, &block.data).flatten().copied().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
    }

    #[test]
    fn several_chunks_of_a_block_follow_one_another() {
        let mut data = Vec::new();
        for numbers in [[1u8, 2], [3, 4]] {
            let mut packer = Packer::new(Format::Msgpack, u64::MAX);
            numbers.iter().for_each(|&number| packer.push(&[number]));
            data.extend_from_slice(&packer.take().data);
        }
        let numbers: Vec<u8> = bodies(Format::Msgpack, &data).map(|body| body[0]).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }
}
