//! Bodies of records into blocks, and out of them.

use bytes::Bytes;

use super::msgpack;
use crate::ipc::framing::LENGTH_BYTES;
use crate::ipc::{Block, CHUNK_HEADER_BYTES, ChunkHeader, Framing};
use crate::model::Format;

/// Gathers records to blocks.
#[derive(Debug)]
pub(crate) struct Packer {
    framing: Framing,
    bytes: Vec<u8>,
    records: u32,
}

/// Where the first element of a chunk lies that has no segments.
const ELEMENTS_AT: usize = CHUNK_HEADER_BYTES + msgpack::ARRAY_HEADER_BYTES;

impl Packer {
    pub(crate) fn new(format: Format) -> Self {
        Self { framing: Framing::of(format), bytes: Vec::new(), records: 0 }
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
                if self.bytes.is_empty() {
                    // Both headers are known at the end.
                    self.bytes.resize(ELEMENTS_AT, 0);
                }
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
        self.records.into()
    }

    /// All that was gathered, as one block: of a format whose records are coded together, one chunk.
    pub(crate) fn take(&mut self) -> Block {
        let records = std::mem::take(&mut self.records);
        let mut bytes = std::mem::take(&mut self.bytes);
        if records == 0 {
            return Block::default();
        }
        if self.framing == Framing::Chunks {
            let counted = u32::try_from(bytes.len() - LENGTH_BYTES).expect("blocks are far below 4 GiB");
            bytes[..4].copy_from_slice(&counted.to_le_bytes());
            bytes[8..12].copy_from_slice(&records.to_le_bytes());
            bytes[CHUNK_HEADER_BYTES..ELEMENTS_AT].copy_from_slice(&msgpack::array_header(records));
        }
        Block::new(Bytes::from(bytes), records.into())
    }
}

/// The bodies of the records of a block. A chunk that does not hold what it says ends them: the engine has looked at its
/// counts, and only whoever wrote it could have filled it with something else.
pub(crate) fn bodies(format: Format, block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let framing = Framing::of(format);
    framing.records(block).flat_map(move |place| {
        let plain = (framing != Framing::Chunks).then(|| framing.body(place));
        plain
            .into_iter()
            .chain((framing == Framing::Chunks).then(|| Elements::of(place)).into_iter().flatten())
    })
}

/// The records of one chunk.
struct Elements<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Elements<'a> {
    fn of(chunk: &'a [u8]) -> Self {
        Self::find(chunk).unwrap_or(Self { rest: &[], left: 0 })
    }

    fn find(chunk: &'a [u8]) -> Option<Self> {
        let header = ChunkHeader::read(chunk)?;
        let body = chunk.get(CHUNK_HEADER_BYTES..)?;
        let (start, elements) = msgpack::array(body)?;
        let mut found = Self { rest: body.get(start..)?, left: header.skip };
        // Those before its own were given to others.
        if header.skip.checked_add(header.records)? > elements
            || found.by_ref().count() != header.skip as usize
        {
            return None;
        }
        found.left = header.records;
        Some(found)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (element, rest) = self.rest.split_at_checked(msgpack::value_bytes(self.rest)?)?;
        self.rest = rest;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::check_chunks;

    #[test]
    fn a_chunk_is_what_the_protocol_says_and_can_be_split() {
        let mut packer = Packer::new(Format::Msgpack);
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
    fn several_chunks_of_a_block_follow_one_another() {
        let mut data = Vec::new();
        for numbers in [[1u8, 2], [3, 4]] {
            let mut packer = Packer::new(Format::Msgpack);
            numbers.iter().for_each(|&number| packer.push(&[number]));
            data.extend_from_slice(&packer.take().data);
        }
        let numbers: Vec<u8> = bodies(Format::Msgpack, &data).map(|body| body[0]).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }
}
