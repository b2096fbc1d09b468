//! Chunks: records coded together, that the engine counts and splits but never decodes. See
//! `schemas/worker-protocol.md`, section 3.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the list of segments, the length counted.
pub(crate) const CHUNK_HEADER_BYTES: usize = 16;

/// Bytes of one entry of the list of segments.
const SEGMENT_BYTES: usize = 16;

/// Where the length ends and what it counts begins.
const COUNTED_FROM: usize = 4;

/// What stands before the body of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// Bytes of the whole chunk, its length counted.
    pub(crate) bytes: usize,
    /// Coded records at its front that are not its own.
    pub(crate) skip: u32,
    /// Its records.
    pub(crate) records: u32,
    /// Entries in the list of segments.
    pub(crate) segments: u16,
}

/// One entry in the list of segments of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
}

impl ChunkHeader {
    /// The header at the front, `None` while it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<CHUNK_HEADER_BYTES>()?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some(Self {
            bytes: COUNTED_FROM + number(0) as usize,
            skip: number(4),
            records: number(8),
            segments: u16::from_le_bytes([header[14], header[15]]),
        })
    }

    /// Whether it can be the header of a chunk: it has records, and room for itself and its list.
    pub(crate) fn is_sound(&self) -> bool {
        self.records > 0
            && self.skip.checked_add(self.records).is_some()
            && self.bytes >= CHUNK_HEADER_BYTES + usize::from(self.segments) * SEGMENT_BYTES
    }

    /// Whether the body of this chunk lies in the last of its segments.
    pub(crate) fn has_body_in_segment(&self, chunk: &[u8]) -> bool {
        self.segments > 0 && chunk.get(12).is_some_and(|flags| flags & BODY_IN_SEGMENT != 0)
    }

    /// Whether the body of this chunk has a byte for each element that it should have at least: a count that is out of
    /// all proportion would keep whoever reads it busy for ever.
    pub(crate) fn fits(&self, chunk: &[u8]) -> bool {
        let list = CHUNK_HEADER_BYTES + usize::from(self.segments) * SEGMENT_BYTES;
        let body = match self.has_body_in_segment(chunk) {
            true => segments_of(chunk).last().map_or(0, |segment| segment.bytes),
            false => self.bytes.saturating_sub(list) as u64,
        };
        u64::from(self.skip) + u64::from(self.records) <= body
    }
}

/// Flag of a chunk whose body lies in the last segment that it names.
const BODY_IN_SEGMENT: u8 = 1;

/// The segments that the chunk at the front of `bytes` names.
pub(crate) fn segments_of(bytes: &[u8]) -> impl Iterator<Item = SegmentUse> + '_ {
    let count = ChunkHeader::read(bytes).map_or(0, |header| usize::from(header.segments));
    let list = bytes.get(CHUNK_HEADER_BYTES..).unwrap_or_default();
    list.chunks_exact(SEGMENT_BYTES).take(count).map(|entry| {
        let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes of 16"));
        SegmentUse { id: number(0), bytes: number(8) }
    })
}

/// The chunk at the front of `bytes` with other names for its segments.
pub(crate) fn rename_segments(chunk: &[u8], mut name: impl FnMut(u64) -> u64) -> Bytes {
    let mut renamed = BytesMut::from(chunk);
    for (position, segment) in segments_of(chunk).enumerate() {
        let at = CHUNK_HEADER_BYTES + position * SEGMENT_BYTES;
        renamed[at..at + 8].copy_from_slice(&name(segment.id).to_le_bytes());
    }
    renamed.freeze()
}

/// A chunk whose body lay in a segment, with that body in itself.
pub(crate) fn with_body(chunk: &[u8], body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(CHUNK_HEADER_BYTES + body.len());
    let counted = CHUNK_HEADER_BYTES - COUNTED_FROM + body.len();
    whole.put_u32_le(u32::try_from(counted).unwrap_or(u32::MAX));
    whole.put_slice(&chunk[COUNTED_FROM..CHUNK_HEADER_BYTES - 4]);
    // No flags, no segments.
    whole.put_u32_le(0);
    whole.put_slice(body);
    whole
}

/// The first `records` records of a chunk, as one of its own, and the rest as another. Both have all of the body:
/// only whoever decodes it knows where a record lies.
pub(crate) fn split(chunk: &[u8], records: u32) -> Option<(Bytes, Bytes)> {
    let header = ChunkHeader::read(chunk)?;
    let rest = header.records.checked_sub(records).filter(|&rest| rest > 0 && records > 0)?;
    let front = with_part(chunk, header.skip, records);
    Some((front, with_part(chunk, header.skip + records, rest)))
}

fn with_part(chunk: &[u8], skip: u32, records: u32) -> Bytes {
    let mut part = BytesMut::with_capacity(chunk.len());
    part.put_slice(&chunk[..COUNTED_FROM]);
    part.put_u32_le(skip);
    part.put_u32_le(records);
    part.put_slice(&chunk[COUNTED_FROM + 8..]);
    part.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn chunk(skip: u32, records: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32_le((CHUNK_HEADER_BYTES - COUNTED_FROM + body.len()) as u32);
        bytes.put_u32_le(skip);
        bytes.put_u32_le(records);
        bytes.put_u32_le(0);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_chunk_is_split_without_looking_into_its_body() {
        let whole = chunk(2, 10, b"body");
        let (front, rest) = split(&whole, 3).unwrap();
        assert_eq!(front, chunk(2, 3, b"body"));
        assert_eq!(rest, chunk(5, 7, b"body"));
        assert!(split(&whole, 10).is_none() && split(&whole, 0).is_none());
    }

    #[test]
    fn a_body_is_brought_home_from_its_segment() {
        let mut away = chunk(2, 3, b"");
        (away[12], away[14]) = (BODY_IN_SEGMENT, 1);
        away.put_u64_le(7);
        away.put_u64_le(4);
        assert!(ChunkHeader::read(&away).unwrap().has_body_in_segment(&away));
        assert_eq!(with_body(&away, b"body"), chunk(2, 3, b"body"));
    }

    #[test]
    fn segments_are_listed_and_renamed() {
        let mut bytes = chunk(0, 1, b"");
        bytes[14] = 2;
        for number in [7u64, 100, 8, 200] {
            bytes.put_u64_le(number);
        }
        let length = (bytes.len() - COUNTED_FROM) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let used: Vec<_> = segments_of(&bytes).map(|segment| (segment.id, segment.bytes)).collect();
        assert_eq!(used, [(7, 100), (8, 200)]);
        let renamed = rename_segments(&bytes, |id| id * 10);
        let ids: Vec<_> = segments_of(&renamed).map(|segment| segment.id).collect();
        assert_eq!(ids, [70, 80]);
        assert!(ChunkHeader::read(&bytes).unwrap().is_sound());
    }

    #[test]
    fn a_header_without_records_or_room_is_not_sound() {
        assert!(!ChunkHeader::read(&chunk(0, 0, b"body")).unwrap().is_sound());
        let mut short = chunk(0, 1, b"");
        short[0] = 3;
        assert!(!ChunkHeader::read(&short).unwrap().is_sound());
        assert_eq!(ChunkHeader::read(&short[..15]), None);
    }
}
