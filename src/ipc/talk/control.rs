//! What is said on a control connection, both ways: section 2.

use bytes::{BufMut, BytesMut};

use super::{Breach, Failed, LENGTH_BYTES, breach, json};
use crate::ipc::GO;

/// A control frame is at most this long, its length not counted.
const MAX_CONTROL_BYTES: usize = 1 << 20;

/// What a worker says on its control connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Ready(Ready),
    Broken(Broken),
    Log(String),
    Error(Failed),
    /// A new segment; its descriptor comes with it.
    Segment {
        id: u64,
        bytes: u64,
    },
    Free(Vec<u64>),
    /// Own segments that it will not name again.
    Drop(Vec<u64>),
    /// Files that it runs, by their absolute paths.
    Files(Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Ready {
    pub(crate) protocol: u32,
    pub(crate) language: Option<String>,
    pub(crate) segments: bool,
}

/// Why a function cannot be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Broken {
    pub(crate) error: String,
    pub(crate) traceback: Option<String>,
    pub(crate) nearest: Option<String>,
}

impl Said {
    /// Takes the frame at the front of what was read. `None`: it is not whole yet.
    pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Breach> {
        let Some(length) = buffer.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) else {
            return Ok(None);
        };
        if length == 0 || length > MAX_CONTROL_BYTES {
            return breach(format!("a control frame of {length} bytes"));
        }
        if buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let frame = buffer.split_to(LENGTH_BYTES + length).freeze();
        let (kind, payload) = (frame[LENGTH_BYTES], frame.slice(LENGTH_BYTES + 1..));
        Ok(Some(match kind {
            1 => Self::Ready(json(&payload)?),
            2 => Self::Broken(json(&payload)?),
            3 => Self::Log(String::from_utf8_lossy(&payload).into_owned()),
            4 => Self::Error(json(&payload)?),
            5 => match numbers(&payload)?[..] {
                [id, bytes] => Self::Segment { id, bytes },
                _ => return breach("a segment without an id or a size"),
            },
            6 => Self::Free(numbers(&payload)?),
            7 => Self::Drop(numbers(&payload)?),
            8 => Self::Files(json(&payload)?),
            other => return breach(format!("a control frame of an unknown kind, {other}")),
        }))
    }
}

fn numbers(payload: &[u8]) -> Result<Vec<u64>, Breach> {
    let numbers = payload.chunks_exact(8);
    if !numbers.remainder().is_empty() {
        return breach("a list of numbers of 8 bytes that has others");
    }
    Ok(numbers.map(|number| u64::from_le_bytes(number.try_into().expect("8 bytes"))).collect())
}

/// What the engine says on a control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Say {
    Go,
    Segment { id: u64, bytes: u64 },
    Recycle(Vec<u64>),
    Forget(Vec<u64>),
}

impl Say {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, numbers): (u8, &[u64]) = match self {
            Self::Go => (GO, &[]),
            Self::Segment { id, bytes } => (66, &[*id, *bytes]),
            Self::Recycle(ids) => (67, ids),
            Self::Forget(ids) => (68, ids),
        };
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + 1 + 8 * numbers.len());
        bytes.put_u32_le(u32::try_from(1 + 8 * numbers.len()).unwrap_or(u32::MAX));
        bytes.push(kind);
        numbers.iter().for_each(|&number| bytes.put_u64_le(number));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_frames_are_taken_when_they_are_whole() {
        let frame = [&[19u8, 0, 0, 0, 1][..], br#"{"protocol": 1}   "#].concat();
        let mut buffer = BytesMut::from(&frame[..10]);
        assert_eq!(Said::take(&mut buffer), Ok(None));
        buffer.put_slice(&frame[10..]);
        let ready = Ready { protocol: 1, ..Ready::default() };
        assert_eq!(Said::take(&mut buffer), Ok(Some(Said::Ready(ready))));
        assert!(buffer.is_empty());
        let mut long = BytesMut::from(&[0, 0, 0, 1, 1][..]);
        assert!(Said::take(&mut long).is_err());
    }

    fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.put_u32_le(payload.len() as u32 + 1);
        frame.push(kind);
        frame.put_slice(payload);
        frame
    }

    /// What a worker may say, and its bytes.
    fn said() -> impl Strategy<Value = (Said, Vec<u8>)> {
        let bytes = |ids: &[u64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let ids = || proptest::collection::vec(any::<u64>(), 0..5);
        prop_oneof![
            any::<bool>().prop_map(|segments| {
                let text = format!("{{\"protocol\": 1, \"segments\": {segments}, \"unknown\": []}}");
                (Said::Ready(Ready { protocol: 1, language: None, segments }), control(1, text.as_bytes()))
            }),
            "[a-z ]{0,40}".prop_map(|line| {
                let frame = control(3, line.as_bytes());
                (Said::Log(line), frame)
            }),
            "[a-z ]{0,40}".prop_map(|error| {
                let frame = control(4, format!("{{\"error\": \"{error}\"}}").as_bytes());
                (Said::Error(Failed { error, ..Failed::default() }), frame)
            }),
            (any::<u64>(), any::<u64>()).prop_map(move |(id, size)| (
                Said::Segment { id, bytes: size },
                control(5, &bytes(&[id, size]))
            )),
            ids().prop_map(move |ids| (Said::Free(ids.clone()), control(6, &bytes(&ids)))),
            ids().prop_map(move |ids| (Said::Drop(ids.clone()), control(7, &bytes(&ids)))),
        ]
    }

    /// Bytes in pieces of these lengths, over and over.
    fn pieces<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        for &length in lengths.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at(length.min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    proptest! {
        #[test]
        fn a_conversation_is_heard_as_it_was_said_however_it_is_split(
            said in proptest::collection::vec(said(), 0..12),
            lengths in proptest::collection::vec(1usize..30, 1..6),
        ) {
            let bytes: Vec<u8> = said.iter().flat_map(|(_, frame)| frame.clone()).collect();
            let (mut buffer, mut heard) = (BytesMut::new(), Vec::new());
            for piece in pieces(&bytes, &lengths) {
                buffer.extend_from_slice(piece);
                while let Some(one) = Said::take(&mut buffer).unwrap() {
                    heard.push(one);
                }
            }
            prop_assert!(buffer.is_empty());
            let expected: Vec<Said> = said.into_iter().map(|(said, _)| said).collect();
            prop_assert_eq!(heard, expected);
        }

        #[test]
        fn a_mutated_conversation_is_heard_up_to_a_breach_the_same_however_it_is_split(
            said in proptest::collection::vec(said(), 1..8),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
            lengths in proptest::collection::vec(1usize..30, 1..6),
        ) {
            let mut bytes: Vec<u8> = said.iter().flat_map(|(_, frame)| frame.clone()).collect();
            for (at, to) in changes {
                let at = at % bytes.len();
                bytes[at] = to;
            }
            let hear = |pieces: Vec<&[u8]>| {
                let (mut buffer, mut heard) = (BytesMut::new(), Vec::new());
                for piece in pieces {
                    buffer.extend_from_slice(piece);
                    loop {
                        match Said::take(&mut buffer) {
                            Ok(Some(one)) => heard.push(one),
                            Ok(None) => break,
                            Err(breach) => return (heard, Some(breach)),
                        }
                    }
                    assert!(buffer.len() <= MAX_CONTROL_BYTES + LENGTH_BYTES, "it gathers more than a frame");
                }
                (heard, None)
            };
            prop_assert_eq!(hear(vec![&bytes]), hear(pieces(&bytes, &lengths)));
        }

        #[test]
        fn no_bytes_make_the_decoder_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Said::take(&mut buffer) {}
        }
    }
}
