//! Reads a stream of bytes and cuts it into blocks of whole records.

use std::io;
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use nix::errno::Errno;

use super::buffer::BUFFER_BYTES;
use super::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use super::framing::frame_bytes;
use super::{Block, Buffers, Framing};
use crate::sys::descriptor;

/// An unfinished record up to this long is copied to the front of the next read; a longer one grows where it is.
pub(crate) const SHORT_TAIL_BYTES: usize = 64 << 10;

/// A read that fills at least this much of a buffer is passed on as it is; less is copied, so that a few bytes
/// never hold a whole buffer, and what a queue counts is what it holds, within this factor.
pub(crate) const WORTH_SHARING_BYTES: usize = 256 << 10;

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Bytes, and the records that they completed, maybe none. `filled`: as many as were asked for, so that more
    /// may be there.
    Read { block: Block, bytes: usize },
    /// Nothing is there now.
    Nothing,
    /// The end, and the last record where it had no end of its own.
    End { block: Block },
}

/// A record is longer than allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oversize {
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
    /// Its length so far, or the length that its frame announces.
    pub(crate) bytes: u64,
}

/// Cuts one stream.
#[derive(Debug)]
pub(crate) struct Cutter {
    framing: Framing,
    max_record: u64,
    /// The beginning of a record that is not whole yet.
    tail: Vec<u8>,
}

impl Cutter {
    /// A cutter of records whose bodies have at most `max_record` bytes.
    pub(crate) fn new(framing: Framing, max_record: u64) -> Self {
        Self { framing, max_record, tail: Vec::new() }
    }

    /// How records are cut.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Reads once and cuts what came.
    pub(crate) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        buffers: &Buffers,
    ) -> io::Result<Result<Cut, Oversize>> {
        if self.tail.len() > SHORT_TAIL_BYTES {
            return self.read_on(fd);
        }
        let mut buffer = buffers.take();
        let start = self.tail.len();
        let read = match read_some(fd, &mut buffer[start..]) {
            Ok(Some(read)) => read,
            other => {
                buffers.put(buffer);
                return other.map(|_| Ok(Cut::Nothing));
            }
        };
        if read == 0 {
            buffers.put(buffer);
            return Ok(Ok(self.end()));
        }
        buffer[..start].copy_from_slice(&self.tail);
        let filled = start + read;
        // Lines: the tail holds no end, so only what is new is searched.
        let (end, records) = self.whole(&buffer[..filled], start);
        let rest = &buffer[end..filled];
        self.tail.clear();
        self.tail.extend_from_slice(rest);
        let data = if end >= WORTH_SHARING_BYTES {
            buffers.share(buffer).slice(..end)
        } else {
            let copy = Bytes::copy_from_slice(&buffer[..end]);
            buffers.put(buffer);
            copy
        };
        Ok(self.check(Block::new(data, records), read))
    }

    /// Reads on in the middle of a long record, without copying what is there already.
    fn read_on(&mut self, fd: BorrowedFd<'_>) -> io::Result<Result<Cut, Oversize>> {
        let start = self.tail.len();
        if self.tail.capacity() - start < BUFFER_BYTES {
            self.tail.reserve_exact(self.room_to_read_on());
        }
        // Not more than a buffer at once: what follows the record has to be copied.
        let read = match read_with(|| descriptor::read_more(fd, &mut self.tail, BUFFER_BYTES))? {
            None => return Ok(Ok(Cut::Nothing)),
            Some(0) => return Ok(Ok(self.end())),
            Some(read) => read,
        };
        let (end, records) = self.whole(&self.tail, start);
        let mut block = Block::default();
        if end > 0 {
            let rest = self.tail.split_off(end);
            let mut whole = std::mem::replace(&mut self.tail, rest);
            if whole.len() * BUFFER_BYTES / WORTH_SHARING_BYTES < whole.capacity() {
                // The room for the read is not what a queue is to hold for a record that has just outgrown a copy.
                whole.shrink_to_fit();
            }
            block = Block::new(Bytes::from(whole), records);
        }
        Ok(self.check(block, read))
    }

    /// Room that a long record is given to grow: all that it needs, where its frame says how long it is, which was found
    /// to be no more than is allowed; otherwise as much as it has, so that it is moved few times.
    fn room_to_read_on(&self) -> usize {
        let announced = match self.framing {
            Framing::Length => frame_bytes(&self.tail),
            Framing::Chunks => ChunkHeader::read(&self.tail).map(|header| header.bytes),
            Framing::EndedBy(_) => None,
        };
        let missing = announced.map(|bytes| bytes.saturating_sub(self.tail.len()));
        missing.unwrap_or(self.tail.len()).max(BUFFER_BYTES)
    }

    /// Where the whole records end, when the first `known` bytes are known to hold no end of a line.
    fn whole(&self, bytes: &[u8], known: usize) -> (usize, u64) {
        match self.framing {
            Framing::EndedBy(_) => match self.framing.whole(&bytes[known..]) {
                (0, _) => (0, 0),
                (end, records) => (known + end, records),
            },
            Framing::Length | Framing::Chunks => self.framing.whole(bytes),
        }
    }

    fn check(&self, block: Block, bytes: usize) -> Result<Cut, Oversize> {
        let announced = match self.framing {
            Framing::Length => {
                frame_bytes(&self.tail).unwrap_or(0).saturating_sub(super::framing::LENGTH_BYTES)
            }
            // Of a chunk as a whole: how its records share its bytes nobody can tell, and what it says of their number
            // is no reason to gather gigabytes.
            Framing::Chunks => ChunkHeader::read(&self.tail)
                .map_or(0, |header| header.bytes.saturating_sub(CHUNK_HEADER_BYTES)),
            Framing::EndedBy(_) => self.tail.len(),
        };
        let too_long =
            |bytes: u64, record: &[u8]| Oversize { head: record[..record.len().min(200)].to_vec(), bytes };
        if announced as u64 > self.max_record {
            return Err(too_long(announced as u64, &self.tail));
        }
        // Only a block that is longer than the limit as a whole can hold a record that is.
        if block.len() as u64 > self.max_record {
            for record in self.framing.records(&block.data) {
                let body = self.framing.body(record);
                if body.len() as u64 > self.max_record {
                    return Err(too_long(body.len() as u64, body));
                }
            }
        }
        Ok(Cut::Read { block, bytes })
    }

    fn end(&mut self) -> Cut {
        let tail = std::mem::take(&mut self.tail);
        let block = match tail.is_empty() {
            true => Block::default(),
            false => Block { is_open: true, ..Block::new(Bytes::from(tail), 1) },
        };
        Cut::End { block }
    }
}

/// `None`: nothing is there now.
fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    read_with(|| nix::unistd::read(fd, &mut *buffer))
}

/// The same for any call that reads.
fn read_with(mut read: impl FnMut() -> Result<usize, Errno>) -> io::Result<Option<usize>> {
    loop {
        match read() {
            Ok(read) => return Ok(Some(read)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            // A terminal or a pseudo-terminal whose other side is gone.
            Err(Errno::EIO) => return Ok(Some(0)),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    /// Writes the chunks one by one, reading after each, and gives the blocks.
    fn cut(framing: Framing, max_record: u64, chunks: &[Vec<u8>]) -> Result<Vec<Block>, Oversize> {
        let (reading, writing) = crate::sys::descriptor::pipe().unwrap();
        crate::sys::descriptor::set_nonblocking(reading.as_fd()).unwrap();
        crate::sys::descriptor::set_pipe_size(writing.as_fd(), 1 << 20).unwrap();
        let mut writing = Some(std::fs::File::from(writing));
        let (buffers, mut cutter, mut blocks) =
            (Buffers::default(), Cutter::new(framing, max_record), Vec::new());
        for chunk in chunks.iter().map(Some).chain([None]) {
            match chunk {
                Some(chunk) => writing.as_mut().unwrap().write_all(chunk).unwrap(),
                None => writing = None,
            }
            loop {
                match cutter.read(reading.as_fd(), &buffers).unwrap()? {
                    Cut::Nothing => break,
                    Cut::Read { block, .. } => blocks.push(block),
                    Cut::End { block } => {
                        blocks.push(block);
                        break;
                    }
                }
            }
        }
        blocks.retain(|block| !block.is_empty());
        Ok(blocks)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_reads_the_records_are_the_same(
            lines in proptest::collection::vec(proptest::collection::vec(1u8..5, 0..6), 0..30),
            cuts in proptest::collection::vec(1usize..40, 0..20),
            is_open: bool,
        ) {
            let mut bytes: Vec<u8> = lines.iter().flat_map(|line| line.iter().copied().chain([0])).collect();
            if is_open { bytes.extend_from_slice(b"tail"); }
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk.to_vec());
                rest = after;
            }
            chunks.push(rest.to_vec());
            let blocks = cut(Framing::EndedBy(0), 1 << 20, &chunks).unwrap();
            let joined: Vec<u8> = blocks.iter().flat_map(|block| block.data.to_vec()).collect();
            prop_assert_eq!(joined, bytes);
            prop_assert_eq!(blocks.iter().map(|block| block.records).sum::<u64>(), (lines.len() + usize::from(is_open)) as u64);
        }
    }

    #[test]
    fn a_record_far_longer_than_a_buffer_comes_whole() {
        let mut line = vec![b'x'; 5 << 20];
        line.push(b'\n');
        let chunks: Vec<Vec<u8>> =
            line.chunks(700_000).map(<[u8]>::to_vec).chain([b"y\n".to_vec()]).collect();
        let blocks = cut(Framing::EndedBy(b'\n'), 64 << 20, &chunks).unwrap();
        assert_eq!(blocks.iter().map(|block| block.records).sum::<u64>(), 2);
        assert_eq!(blocks[0].data, line);
    }

    #[test]
    fn a_record_that_came_slowly_holds_little_more_than_itself() {
        let record = [vec![b'x'; 70_000], b"\n".to_vec()].concat();
        let chunks = [record[..69_000].to_vec(), record[69_000..].to_vec()];
        let block = cut(Framing::EndedBy(b'\n'), 64 << 20, &chunks).unwrap().remove(0);
        assert!(block.data == record);
        let held = block.data.try_into_mut().map_err(drop).expect("nobody else has it").capacity();
        assert!(held <= 4 * record.len(), "{held}");
    }

    #[test]
    fn a_frame_is_given_the_room_that_it_says_it_needs() {
        let length = 3 << 20;
        let frame = [&u32::try_from(length).unwrap().to_le_bytes()[..], &vec![b'x'; length]].concat();
        let chunks: Vec<Vec<u8>> = frame.chunks(1 << 19).map(<[u8]>::to_vec).collect();
        let block = cut(Framing::Length, 64 << 20, &chunks).unwrap().remove(0);
        assert!(block.data == frame);
        let held = block.data.try_into_mut().map_err(drop).expect("nobody else has it").capacity();
        assert!(held < frame.len() + BUFFER_BYTES, "{held}");
    }

    #[test]
    fn a_record_over_the_limit_is_an_error_before_it_is_held() {
        let error =
            cut(Framing::EndedBy(b'\n'), 10, &[b"short\n".to_vec(), b"much too long".to_vec()]).unwrap_err();
        assert_eq!(error.head, b"much too long");
        let announced = cut(Framing::Length, 10, &[b"\xff\xff\xff\xff".to_vec()]).unwrap_err();
        assert_eq!(announced.bytes, u64::from(u32::MAX));
        let within_a_block =
            cut(Framing::EndedBy(b'\n'), 10, &[b"a\nmuch too long\nb\n".to_vec()]).unwrap_err();
        assert_eq!(within_a_block.head, b"much too long");
    }
}
