//! What a `map` worker answers: section 4.

use bytes::Bytes;

use super::{Breach, LENGTH_BYTES, breach, json};
use crate::ipc::{Block, ChunkHeader, Framing};

/// Outputs of one answer at most. Each port needs one.
const MAX_OUTPUTS: usize = 1024;

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

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
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

    proptest! {
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
