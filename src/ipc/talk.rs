//! What the engine and function workers say to each other, as bytes: `schemas/worker-protocol.md`, sections 2 and 4.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Block, ChunkHeader, Framing};

/// The version of the protocol.
pub(crate) const PROTOCOL: u32 = 1;

/// A control frame is at most this long, its length not counted.
pub(crate) const MAX_CONTROL_BYTES: usize = 1 << 20;

/// What an answer may have on top of the largest record: results of many small records travel together.
pub(crate) const ANSWER_OVERHEAD_BYTES: u64 = 8 << 20;

/// A JSON payload is at most this long, so that what it becomes in memory is bounded too.
const MAX_JSON_BYTES: usize = 1 << 20;

/// Outputs of one answer at most. Each port needs one.
const MAX_OUTPUTS: usize = 1024;

pub(super) const LENGTH_BYTES: usize = 4;

/// What stands before leased records.
pub(super) const RECORDS_HEADER_BYTES: usize = 16;
const RECORDS: u8 = 1;
pub(super) const ALONE: u8 = 1;

/// How a worker broke the protocol, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Breach(pub(crate) String);

fn breach<T>(what: impl Into<String>) -> Result<T, Breach> {
    Err(Breach(what.into()))
}

/// Leased records in their frame: what comes before them. `alone`: a worker that held them died.
pub(crate) fn records_header(block: &Block, attempt: u32, alone: bool) -> Bytes {
    let mut header = BytesMut::with_capacity(RECORDS_HEADER_BYTES);
    let length = RECORDS_HEADER_BYTES - LENGTH_BYTES + block.data.len();
    header.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    header.put_u8(RECORDS);
    header.put_u8(if alone { ALONE } else { 0 });
    header.put_u16_le(0);
    header.put_u32_le(u32::try_from(block.records).unwrap_or(u32::MAX));
    header.put_u32_le(attempt);
    header.freeze()
}

/// Results on one output, by the position that the worker knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) port: usize,
    pub(crate) block: Block,
}

/// One answer of a `map` worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The oldest `records` records are answered. 0: these are a part of the oldest one's results, with more to come.
    Done { records: u64, outputs: Vec<Output> },
    /// The oldest record has failed.
    Failed(Failed),
    /// What the oldest record looks like.
    About(serde_json::Value),
    /// The worker answers nothing more, and works on nothing: it ends when its input does.
    Leaving,
}

/// Why a function failed.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Failed {
    pub(crate) error: String,
    pub(crate) r#type: Option<String>,
    pub(crate) traceback: Option<String>,
    pub(crate) record: Option<serde_json::Value>,
}

impl Eq for Failed {}

impl Failed {
    /// What happened, in one line: `ValueError: no number`. A value that cannot be coded says it by itself.
    pub(crate) fn reason(&self) -> String {
        match self.r#type.as_deref() {
            None | Some("" | "Uncodable" | "Undecodable") => self.error.clone(),
            Some(name) if self.error.is_empty() => name.to_owned(),
            Some(name) => format!("{name}: {}", self.error),
        }
    }
}

impl Answer {
    /// One whole frame, its length counted. `framing`: of each output, by its position.
    pub(crate) fn read(frame: &Bytes, framing: &[Framing]) -> Result<Self, Breach> {
        /// Length, kind, and three bytes of nothing.
        const HEADER_BYTES: usize = 8;
        let Some(&kind) = frame.get(LENGTH_BYTES).filter(|_| frame.len() >= HEADER_BYTES) else {
            return breach(format!("an answer of {} bytes is too short", frame.len()));
        };
        let payload = frame.slice(HEADER_BYTES..);
        match kind {
            1 | 2 => {
                let mut rest = payload;
                let Some(records) = take_u32(&mut rest) else { return breach("an answer without a count") };
                if (kind == 1) != (records > 0) {
                    return breach(format!("an answer of kind {kind} for {records} records"));
                }
                Ok(Self::Done { records: records.into(), outputs: read_outputs(rest, framing)? })
            }
            3 => json(&payload).map(Self::Failed),
            4 => json(&payload).map(Self::About),
            5 => Ok(Self::Leaving),
            other => breach(format!("an answer of an unknown kind, {other}")),
        }
    }
}

fn read_outputs(mut rest: Bytes, framings: &[Framing]) -> Result<Vec<Output>, Breach> {
    let mut outputs = Vec::new();
    while !rest.is_empty() {
        let header = (take_u32(&mut rest), take_u32(&mut rest), take_u32(&mut rest));
        let (Some(port), Some(records), Some(length)) = header else {
            return breach("results that do not end with their frame");
        };
        let (port, length) = (port as usize, length as usize);
        if length > rest.len() {
            return breach(format!("results of {length} bytes where {} are left", rest.len()));
        }
        let data = rest.split_to(length);
        let Some(&framing) = framings.get(port) else {
            return breach(format!("results for output {port}, of {}", framings.len()));
        };
        check_records(framing, &data, records.into())?;
        if data.is_empty() {
            continue;
        }
        if outputs.len() == MAX_OUTPUTS {
            return breach(format!("an answer with more than {MAX_OUTPUTS} outputs"));
        }
        outputs.push(Output { port, block: Block::new(data, records.into()) });
    }
    Ok(outputs)
}

/// Whether these are so many whole records.
fn check_records(framing: Framing, data: &[u8], records: u64) -> Result<(), Breach> {
    if framing == Framing::Chunks {
        check_chunks(data)?;
    }
    match framing.whole(data) {
        (length, found) if length == data.len() && found == records => Ok(()),
        (length, found) => breach(format!(
            "{records} records were announced in {} bytes, which are {found} and end after {length}",
            data.len()
        )),
    }
}

/// Whether all chunks of a block are what the engine can count and split.
pub(crate) fn check_chunks(data: &[u8]) -> Result<(), Breach> {
    for chunk in Framing::Chunks.records(data) {
        if !ChunkHeader::read(chunk).is_some_and(|header| header.is_sound() && header.fits(chunk)) {
            return breach("a chunk without records, or with more than its bytes can hold");
        }
    }
    Ok(())
}

fn take_u32(bytes: &mut Bytes) -> Option<u32> {
    let number = u32::from_le_bytes(*bytes.first_chunk()?);
    drop(bytes.split_to(4));
    Some(number)
}

fn json<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Breach> {
    if payload.len() > MAX_JSON_BYTES {
        return breach(format!("a JSON text of {} bytes", payload.len()));
    }
    serde_json::from_slice(payload)
        .or_else(|error| breach(format!("a message that is not its JSON: {error}")))
}

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
            Self::Go => (super::GO, &[]),
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

    const LINES: Framing = Framing::EndedBy(b'\n');

    fn answer(kind: u8, payload: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_u32_le(payload.len() as u32 + 4);
        frame.put_slice(&[kind, 0, 0, 0]);
        frame.put_slice(payload);
        frame.freeze()
    }

    fn done(records: u32, outputs: &[(u32, u32, &[u8])]) -> Bytes {
        let mut payload = Vec::new();
        payload.put_u32_le(records);
        for (port, records, data) in outputs {
            payload.put_u32_le(*port);
            payload.put_u32_le(*records);
            payload.put_u32_le(data.len() as u32);
            payload.put_slice(data);
        }
        answer(if records > 0 { 1 } else { 2 }, &payload)
    }

    #[test]
    fn an_answer_has_results_for_each_output() {
        let read = Answer::read(&done(3, &[(0, 2, b"a\nb\n"), (1, 1, b"c\n")]), &[LINES, LINES]).unwrap();
        let Answer::Done { records: 3, outputs } = read else { panic!("{read:?}") };
        assert_eq!((outputs[0].port, &outputs[0].block.data[..]), (0, &b"a\nb\n"[..]));
        assert_eq!((outputs[1].port, outputs[1].block.records), (1, 1));
    }

    #[test]
    fn a_wrong_answer_is_a_breach_that_says_what_is_wrong() {
        for (frame, said) in [
            (done(1, &[(7, 1, b"a\n")]), "output 7, of 1"),
            (done(1, &[(0, 2, b"a\n")]), "2 records were announced in 2 bytes, which are 1"),
            (done(1, &[(0, 1, b"a")]), "1 records were announced"),
            (answer(1, b"\x01\0"), "without a count"),
            (answer(1, b"\0\0\0\0"), "kind 1 for 0 records"),
            (answer(9, b"\0\0\0\0"), "unknown kind, 9"),
            (answer(3, b"no json"), "not its JSON"),
            (answer(1, b"\x01\0\0\0\0\0\0\0\x01\0\0\0\xff\0\0\0"), "255 bytes where 0 are left"),
            (Bytes::from_static(b"\x01\0\0\0\x01"), "too short"),
        ] {
            let breach = Answer::read(&frame, &[LINES]).unwrap_err();
            assert!(breach.0.contains(said), "{breach}");
        }
    }

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
        fn a_mutated_answer_never_gives_what_its_port_cannot_hold(
            outputs in proptest::collection::vec((0u32..3, proptest::collection::vec("[a-z]{0,6}", 1..5)), 0..5),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        ) {
            let coded: Vec<(u32, u32, Vec<u8>)> = outputs
                .iter()
                .map(|(port, records)| {
                    let data = match port {
                        0 => records.iter().flat_map(|record| format!("{record}\n").into_bytes()).collect(),
                        1 => records
                            .iter()
                            .flat_map(|record| [&(record.len() as u32).to_le_bytes(), record.as_bytes()].concat())
                            .collect(),
                        _ => {
                            let mut chunk = Vec::new();
                            chunk.put_u32_le(12 + 9);
                            chunk.put_u32_le(0);
                            chunk.put_u32_le(records.len() as u32);
                            chunk.put_u32_le(0);
                            chunk.put_slice(&[0xc0; 9]);
                            chunk
                        }
                    };
                    (*port, records.len() as u32, data)
                })
                .collect();
            let borrowed: Vec<(u32, u32, &[u8])> =
                coded.iter().map(|(port, records, data)| (*port, *records, &data[..])).collect();
            let framings = [LINES, Framing::Length, Framing::Chunks];
            let mut frame = BytesMut::from(&done(3, &borrowed)[..]);
            prop_assert!(Answer::read(&frame.clone().freeze(), &framings).is_ok());
            for (at, to) in changes {
                let at = 4 + at % (frame.len() - 4);
                frame[at] = to;
            }
            if let Ok(Answer::Done { outputs, .. }) = Answer::read(&frame.freeze(), &framings) {
                for output in outputs {
                    let framing = framings[output.port];
                    prop_assert_eq!(framing.whole(&output.block.data), (output.block.len(), output.block.records));
                    prop_assert!(framing != Framing::Chunks || check_chunks(&output.block.data).is_ok());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::read(&Bytes::from(bytes.clone()), &[LINES, Framing::Length, Framing::Chunks]);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Said::take(&mut buffer) {}
            let _ = check_chunks(&bytes);
        }

        #[test]
        fn a_mutated_answer_is_read_or_refused(
            records in 1u32..5, data in proptest::collection::vec(0u8..20, 0..40), at in 0usize..40, to in any::<u8>()
        ) {
            let mut frame = BytesMut::from(&done(records, &[(0, 1, &data), (1, 1, &data)])[..]);
            let place = 4 + at % (frame.len() - 4);
            frame[place] = to;
            if let Ok(Answer::Done { outputs, .. }) = Answer::read(&frame.freeze(), &[LINES, Framing::Chunks]) {
                for output in outputs {
                    prop_assert!(output.block.records > 0 || output.block.data.is_empty());
                }
            }
        }
    }
}
