//! The records of the checks, texts, in every format.

use bytes::BufMut;

use super::pickles;
use crate::ipc::{Block, CHUNK_HEADER_BYTES, ChunkHeader, Framing, segments_of};
use crate::model::Format;

/// Why records could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// They are not of the format.
    Wrong(String),
    /// They may be, and this tool does not know that part of it.
    Unknown(String),
}

/// These texts as records.
pub(crate) fn encode(format: Format, records: &[Vec<u8>]) -> Block {
    let count = records.len() as u64;
    let mut data = Vec::new();
    match format {
        Format::Lines => records.iter().for_each(|record| ended(&mut data, record, b'\n')),
        Format::Nul => records.iter().for_each(|record| ended(&mut data, record, 0)),
        Format::Json => records.iter().for_each(|record| {
            let text = serde_json::Value::from(String::from_utf8_lossy(record)).to_string();
            ended(&mut data, text.as_bytes(), b'\n');
        }),
        Format::Frames => records.iter().for_each(|record| {
            data.put_u32_le(length(record));
            data.extend_from_slice(record);
        }),
        Format::Msgpack | Format::Pickle => {
            data = chunk(0, u32::try_from(count).unwrap_or(u32::MAX), &body(format, records), None);
        }
    }
    Block::new(data.into(), count)
}

fn ended(data: &mut Vec<u8>, record: &[u8], end: u8) {
    data.extend_from_slice(record);
    data.push(end);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The body of a chunk.
pub(crate) fn body(format: Format, records: &[Vec<u8>]) -> Vec<u8> {
    if format == Format::Pickle {
        return pickles::encode(records);
    }
    let mut body = vec![0xdd];
    body.put_u32(u32::try_from(records.len()).unwrap_or(u32::MAX));
    for record in records {
        body.push(0xdb);
        body.put_u32(length(record));
        body.extend_from_slice(record);
    }
    body
}

/// A chunk, whose body may lie in a segment of this id and size.
pub(crate) fn chunk(skip: u32, records: u32, body: &[u8], segment: Option<(u64, u64)>) -> Vec<u8> {
    let mut chunk = Vec::new();
    let list = if segment.is_some() { 16 } else { 0 };
    chunk.put_u32_le(u32::try_from(CHUNK_HEADER_BYTES - 4 + list + body.len()).unwrap_or(u32::MAX));
    chunk.put_u32_le(skip);
    chunk.put_u32_le(records);
    chunk.put_u16_le(u16::from(segment.is_some()));
    chunk.put_u16_le(u16::from(segment.is_some()));
    if let Some((id, size)) = segment {
        chunk.put_u64_le(id);
        chunk.put_u64_le(size);
    }
    chunk.extend_from_slice(body);
    chunk
}

/// The bytes of a segment.
pub(crate) type ReadSegment<'a> = &'a dyn Fn(u64, u64) -> Result<Vec<u8>, String>;

/// The texts of records, where they are texts.
pub(crate) fn decode(format: Format, data: &[u8], segment: ReadSegment<'_>) -> Result<Vec<Vec<u8>>, Unread> {
    let framing = Framing::of(format);
    let mut texts = Vec::new();
    for record in framing.records(data) {
        match format {
            Format::Lines | Format::Nul | Format::Frames => texts.push(framing.body(record).to_vec()),
            Format::Json => {
                let value: serde_json::Value =
                    serde_json::from_slice(record).map_err(|error| Unread::Wrong(error.to_string()))?;
                texts.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes());
            }
            Format::Msgpack | Format::Pickle => texts.extend(decode_chunk(format, record, segment)?),
        }
    }
    Ok(texts)
}

fn decode_chunk(format: Format, chunk: &[u8], segment: ReadSegment<'_>) -> Result<Vec<Vec<u8>>, Unread> {
    let sound = ChunkHeader::read(chunk).filter(|header| header.is_sound() && header.fits(chunk));
    let Some(header) = sound else {
        return Err(Unread::Wrong("a chunk with a wrong header".to_owned()));
    };
    let named = segments_of(chunk).map(|used| segment(used.id, used.bytes));
    let mut segments: Vec<Vec<u8>> = named.collect::<Result<_, _>>().map_err(Unread::Wrong)?;
    let body = match header.has_body_in_segment(chunk) {
        true => segments.pop().unwrap_or_default(),
        false => chunk[CHUNK_HEADER_BYTES + 16 * usize::from(header.segments)..].to_vec(),
    };
    let all = match format {
        Format::Pickle => pickles::decode(&body, segments)?,
        _ => unpack(&body)?,
    };
    let (skip, count) = (header.skip as usize, header.records as usize);
    match all.get(skip..skip + count) {
        Some(own) => Ok(own.to_vec()),
        None => Err(Unread::Wrong(format!("{count} records after {skip} others in a list of {}", all.len()))),
    }
}

/// A MessagePack array of texts.
fn unpack(body: &[u8]) -> Result<Vec<Vec<u8>>, Unread> {
    let mut rest = body;
    let count = match take(&mut rest, 1)?[0] {
        first @ 0x90..=0x9f => u64::from(first & 0x0f),
        0xdc => number(&mut rest, 2)?,
        0xdd => number(&mut rest, 4)?,
        other => return Err(Unread::Wrong(format!("a body that begins with {other:#04x} and is no array"))),
    };
    let mut texts = Vec::new();
    for _ in 0..count {
        let size = match take(&mut rest, 1)?[0] {
            first @ 0xa0..=0xbf => u64::from(first & 0x1f),
            0xd9 | 0xc4 => number(&mut rest, 1)?,
            0xda | 0xc5 => number(&mut rest, 2)?,
            0xdb | 0xc6 => number(&mut rest, 4)?,
            other => {
                return Err(Unread::Wrong(format!(
                    "an element that begins with {other:#04x} and is no text"
                )));
            }
        };
        texts.push(take(&mut rest, usize::try_from(size).unwrap_or(usize::MAX))?.to_vec());
    }
    match rest.is_empty() {
        true => Ok(texts),
        false => Err(Unread::Wrong(format!("{} bytes after the array", rest.len()))),
    }
}

pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Unread> {
    let Some((taken, left)) = rest.split_at_checked(count) else {
        return Err(Unread::Wrong("a body that ends within a value".to_owned()));
    };
    *rest = left;
    Ok(taken)
}

/// The number in so many bytes, big-endian.
fn number(rest: &mut &[u8], bytes: usize) -> Result<u64, Unread> {
    Ok(take(rest, bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_in_every_format() {
        let texts: Vec<Vec<u8>> = ["one", "", "größer", &"x".repeat(70_000)].map(|text| text.into()).to_vec();
        let none = |id: u64, _: u64| Err(format!("no segment {id}"));
        for format in
            [Format::Lines, Format::Json, Format::Nul, Format::Frames, Format::Msgpack, Format::Pickle]
        {
            let block = encode(format, &texts);
            assert_eq!(decode(format, &block.data, &none), Ok(texts.clone()), "{format:?}");
        }
    }

    #[test]
    fn a_part_of_a_chunk_and_one_in_a_segment_are_read() {
        let texts: Vec<Vec<u8>> = (0..9).map(|number| vec![b'0' + number]).collect();
        for format in [Format::Msgpack, Format::Pickle] {
            let body = body(format, &texts);
            let segment = |id: u64, _: u64| if id == 5 { Ok(body.clone()) } else { Err("no".to_owned()) };
            let part = chunk(2, 3, &body, None);
            assert_eq!(decode(format, &part, &segment), Ok(texts[2..5].to_vec()));
            let shared = chunk(0, 9, b"", Some((5, body.len() as u64)));
            assert_eq!(decode(format, &shared, &segment), Ok(texts.clone()));
            assert!(decode(format, &chunk(0, 9, b"", Some((6, 100))), &segment).is_err());
            assert!(decode(format, &chunk(8, 3, &body, None), &segment).is_err());
        }
    }
}
