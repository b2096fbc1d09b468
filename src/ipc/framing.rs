//! Where records end.

use memchr::{memchr, memchr_iter, memrchr};

use super::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::model::Format;

/// How a stream of bytes is cut into records. A record's *body* is what lies between the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each record is ended by this byte, which its body does not hold.
    EndedBy(u8),
    /// Each record is preceded by its length, 4 bytes, little-endian.
    Length,
    /// Records are coded together, in chunks that say how many they hold. What is cut, walked and measured here is a
    /// chunk; [`Block::take_front`](super::Block::take_front) splits one.
    Chunks,
}

/// Bytes of a length.
pub(crate) const LENGTH_BYTES: usize = 4;

impl Framing {
    /// How this format lies on a worker's standard streams.
    pub(crate) fn of(format: Format) -> Self {
        match format {
            Format::Lines | Format::Json => Self::EndedBy(b'\n'),
            Format::Nul => Self::EndedBy(0),
            Format::Frames => Self::Length,
            Format::Msgpack | Format::Pickle => Self::Chunks,
        }
    }

    /// The end of the last whole record in `bytes`, and how many whole records there are.
    pub(crate) fn whole(self, bytes: &[u8]) -> (usize, u64) {
        match self {
            Self::EndedBy(end) => match memrchr(end, bytes) {
                Some(last) => (last + 1, count(end, &bytes[..=last])),
                None => (0, 0),
            },
            Self::Length | Self::Chunks => self.at_most(bytes, usize::MAX, u64::MAX),
        }
    }

    /// The longest run of whole records at the front of `bytes` that has at most `max_bytes` and
    /// `max_records`, but one record where there is one: its length and its number of records.
    ///
    /// A last record without its end counts as whole: the caller knows that nothing follows.
    pub(crate) fn front(self, bytes: &[u8], max_bytes: usize, max_records: u64) -> (usize, u64) {
        if max_records == 1 && !bytes.is_empty() && self != Self::Chunks {
            // Whatever follows it need not be looked at.
            return (self.first(bytes), 1);
        }
        let (length, records) = self.at_most(bytes, max_bytes, max_records);
        if records > 0 || bytes.is_empty() {
            return (length, records);
        }
        let first = self.first(bytes);
        (first, self.count_in(&bytes[..first]))
    }

    /// Records of one record's place: one, but in a chunk.
    pub(crate) fn count_in(self, place: &[u8]) -> u64 {
        match self {
            Self::EndedBy(_) | Self::Length => 1,
            Self::Chunks => ChunkHeader::read(place).map_or(1, |header| header.records.into()),
        }
    }

    /// How many records begin before `bytes` bytes of a block: all of a chunk that does.
    pub(crate) fn begun_before(self, block: &[u8], bytes: usize) -> u64 {
        let mut at = 0;
        let begun = self.records(block).take_while(|record| {
            let start = at;
            at += record.len();
            start < bytes
        });
        begun.map(|place| self.count_in(place)).sum()
    }

    fn at_most(self, bytes: &[u8], max_bytes: usize, max_records: u64) -> (usize, u64) {
        let within = &bytes[..bytes.len().min(max_bytes)];
        match self {
            Self::EndedBy(end) => {
                let Some(nth) = max_records.checked_sub(1) else { return (0, 0) };
                match nth_end(end, within, nth) {
                    Ok(last) => (last + 1, max_records),
                    Err(records) => memrchr(end, within).map_or((0, 0), |last| (last + 1, records)),
                }
            }
            Self::Length => {
                let (mut length, mut records) = (0, 0);
                while records < max_records {
                    let Some(size) = frame_bytes(&within[length..]) else { break };
                    if size > within.len() - length {
                        break;
                    }
                    length += size;
                    records += 1;
                }
                (length, records)
            }
            Self::Chunks => {
                let (mut length, mut records) = (0, 0);
                while let Some(header) = ChunkHeader::read(&within[length..]) {
                    let holds = u64::from(header.records);
                    if header.bytes > within.len() - length || holds > max_records - records {
                        break;
                    }
                    length += header.bytes;
                    records += holds;
                }
                (length, records)
            }
        }
    }

    /// The length of the first record, its marks counted; all of `bytes` where it has no end.
    pub(crate) fn first(self, bytes: &[u8]) -> usize {
        match self {
            Self::EndedBy(end) => memchr(end, bytes).map_or(bytes.len(), |last| last + 1),
            Self::Length | Self::Chunks => {
                frame_bytes(bytes).map_or(bytes.len(), |size| size.min(bytes.len()))
            }
        }
    }

    /// A record without its marks.
    pub(crate) fn body(self, record: &[u8]) -> &[u8] {
        match self {
            Self::EndedBy(end) => record.strip_suffix(&[end]).unwrap_or(record),
            Self::Length => record.get(LENGTH_BYTES..).unwrap_or(&[]),
            Self::Chunks => record.get(CHUNK_HEADER_BYTES..).unwrap_or(&[]),
        }
    }

    /// The records of a block, marks included.
    pub(crate) fn records(self, mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            let (record, rest) = bytes.split_at(self.first(bytes).max(1));
            bytes = rest;
            Some(record)
        })
    }

    /// The byte that ends a record, where there is one.
    pub(crate) fn end(self) -> Option<u8> {
        match self {
            Self::EndedBy(end) => Some(end),
            Self::Length | Self::Chunks => None,
        }
    }

    /// Whether a stream that ends in `rest` after its last whole record may do so. Text may lack its last end;
    /// a frame that is cut off is torn.
    pub(crate) fn may_end_in(self, rest: &[u8]) -> bool {
        match self {
            Self::EndedBy(_) => true,
            Self::Length | Self::Chunks => rest.is_empty(),
        }
    }
}

/// The bytes of the frame at the front, its length counted; `None` while the length itself is not whole.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH_BYTES>()?;
    Some(LENGTH_BYTES + u32::from_le_bytes(*length) as usize)
}

fn count(end: u8, bytes: &[u8]) -> u64 {
    memchr_iter(end, bytes).count() as u64
}

/// Where the `nth` end is, from 0, or how many there are when they are fewer. Counting goes many times faster than
/// stepping from end to end where records are short, so only the part that holds it is stepped through; what lies
/// behind it is not read.
fn nth_end(end: u8, bytes: &[u8], nth: u64) -> Result<usize, u64> {
    /// Small beside a block, and large beside what one count costs to begin.
    const PART_BYTES: usize = 2048;
    let mut before = 0;
    for (position, part) in bytes.chunks(PART_BYTES).enumerate() {
        let ends = count(end, part);
        if nth < before + ends {
            let step = usize::try_from(nth - before).expect("fewer than a part has bytes");
            let within = memchr_iter(end, part).nth(step).expect("it was just counted");
            return Ok(position * PART_BYTES + within);
        }
        before += ends;
    }
    Err(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: Framing = Framing::EndedBy(b'\n');

    #[test]
    fn an_unfinished_record_is_not_whole() {
        assert_eq!(LINES.whole(b"a\nbc\nd"), (5, 2));
        assert_eq!(LINES.whole(b"abc"), (0, 0));
        assert_eq!(Framing::Length.whole(b"\x01\0\0\0a\x02\0\0\0b"), (5, 1));
        assert_eq!(Framing::Length.whole(b"\x01\0\0"), (0, 0));
    }

    #[test]
    fn the_nth_end_is_found_in_whichever_part_it_lies() {
        let bytes: Vec<u8> = (0..10_000u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let mut at = 0;
        for (nth, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            at += line.len();
            assert_eq!(nth_end(b'\n', &bytes, nth as u64), Ok(at - 1));
        }
        assert_eq!(nth_end(b'\n', &bytes, 10_000), Err(10_000));
    }

    #[test]
    fn at_least_one_record_goes_however_long_it_is() {
        assert_eq!(LINES.front(b"long line\nb\n", 3, 9), (10, 1));
        assert_eq!(LINES.front(b"a\nb\nc\n", 4, 9), (4, 2));
        assert_eq!(LINES.front(b"a\nb\nc\n", 99, 2), (4, 2));
        assert_eq!(LINES.front(b"no end", 2, 1), (6, 1));
        assert_eq!(LINES.front(b"", 2, 1), (0, 0));
    }

    #[test]
    fn a_few_records_are_found_wherever_the_pieces_end() {
        let bytes: Vec<u8> = (0..5000).flat_map(|i| format!("{:03}\n", i % 1000).into_bytes()).collect();
        for records in [1, 2, 2047, 2048, 2049, 4096, 4097] {
            let length = 4 * records as usize;
            assert_eq!(LINES.front(&bytes, usize::MAX, records), (length, records));
            assert_eq!(LINES.front(&bytes, length, u64::MAX), (length, records));
        }
    }

    proptest! {
        #[test]
        fn records_of_a_block_are_its_bytes(bytes in proptest::collection::vec(0u8..4, 0..200)) {
            let framing = Framing::EndedBy(0);
            let joined: Vec<u8> = framing.records(&bytes).flatten().copied().collect();
            prop_assert_eq!(&joined, &bytes);
            let (length, records) = framing.whole(&bytes);
            prop_assert_eq!(framing.records(&bytes[..length]).count() as u64, records);
        }

        #[test]
        fn frames_are_walked_like_lines(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..20), max in 1usize..40, most in 1u64..9) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
                bytes.extend_from_slice(body);
            }
            let framing = Framing::Length;
            prop_assert_eq!(framing.whole(&bytes), (bytes.len(), bodies.len() as u64));
            let read: Vec<&[u8]> = framing.records(&bytes).map(|record| framing.body(record)).collect();
            prop_assert_eq!(read, bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (length, records) = framing.front(&bytes, max, most);
            prop_assert_eq!(framing.records(&bytes[..length]).count() as u64, records);
            prop_assert!(records <= 1 || (length <= max && records <= most));
        }
    }
}
