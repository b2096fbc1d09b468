//! Bodies of records out of blocks.

use super::msgpack;
use crate::ipc::{CHUNK_HEADER_BYTES, ChunkHeader, Framing};
use crate::model::Format;

/// Goes through the records of one block, whatever holds it. A chunk that does not hold what it says ends them: the
/// engine has looked at its counts, and only whoever wrote it could have filled it with something else.
#[derive(Debug)]
pub(crate) struct Bodies {
    framing: Framing,
    at: usize,
    /// Records of the chunk that `at` lies in that are still to come, and where it ends.
    left: u32,
    chunk_end: usize,
}

impl Bodies {
    pub(crate) fn new(format: Format) -> Self {
        Self { framing: Framing::of(format), at: 0, left: 0, chunk_end: 0 }
    }

    /// The body of the next record of this block, which is the same at every call.
    pub(crate) fn next<'a>(&mut self, block: &'a [u8]) -> Option<&'a [u8]> {
        if self.framing == Framing::Chunks {
            return self.next_element(block);
        }
        let rest = block.get(self.at..).filter(|rest| !rest.is_empty())?;
        let record = &rest[..self.framing.first(rest).max(1)];
        self.at += record.len();
        Some(self.framing.body(record))
    }

    fn next_element<'a>(&mut self, block: &'a [u8]) -> Option<&'a [u8]> {
        if self.left == 0 {
            self.enter_chunk(block)?;
        }
        self.left -= 1;
        let element = self.element(block)?;
        if self.left == 0 {
            self.at = self.chunk_end;
        }
        Some(element)
    }

    fn element<'a>(&mut self, block: &'a [u8]) -> Option<&'a [u8]> {
        let rest = block.get(self.at..self.chunk_end)?;
        let element = &rest[..msgpack::value_bytes(rest)?];
        self.at += element.len();
        Some(element)
    }

    fn enter_chunk(&mut self, block: &[u8]) -> Option<()> {
        let chunk = block.get(self.at..)?;
        let header = ChunkHeader::read(chunk).filter(|header| header.bytes <= chunk.len())?;
        let (start, elements) = msgpack::array(chunk.get(CHUNK_HEADER_BYTES..header.bytes)?)?;
        if header.records == 0 || header.skip.checked_add(header.records)? > elements {
            return None;
        }
        self.chunk_end = self.at + header.bytes;
        self.at += CHUNK_HEADER_BYTES + start;
        // Those before its own were given to others.
        for _ in 0..header.skip {
            self.element(block)?;
        }
        self.left = header.records;
        Some(())
    }
}

/// The bodies of the records of a block.
pub(crate) fn bodies(format: Format, block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut bodies = Bodies::new(format);
    std::iter::from_fn(move || bodies.next(block))
}
