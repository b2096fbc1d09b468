//! The worker's side of what it and the engine say to each other, as bytes: `schemas/worker-protocol.md`, sections 2
//! and 4.

use super::Block;
use super::talk::{ALONE, LENGTH_BYTES, RECORDS_HEADER_BYTES};

/// The kind of the engine's frame GO.
pub(crate) const GO: u8 = 65;

/// What stands before leased records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordsHeader {
    /// Bytes of the whole frame.
    pub(crate) bytes: usize,
    /// Where its records begin.
    pub(crate) body: usize,
    pub(crate) records: u32,
    /// Which attempt at them this is, from 1.
    pub(crate) attempt: u32,
    /// A worker that had these records died.
    pub(crate) is_alone: bool,
}

impl RecordsHeader {
    /// The header at the front, `None` while it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<RECORDS_HEADER_BYTES>()?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some(Self {
            bytes: (LENGTH_BYTES + number(0) as usize).max(RECORDS_HEADER_BYTES),
            body: RECORDS_HEADER_BYTES,
            records: number(8),
            attempt: number(12),
            is_alone: header[5] & ALONE != 0,
        })
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// So many records are answered; outputs follow.
    Done(u32),
    /// Outputs of the oldest record, with more to come.
    Part,
    /// A JSON text follows.
    Failed,
    /// A JSON text follows.
    About,
    /// Nothing follows, not even other answers.
    Leaving,
}

/// One frame for the pipe of answers.
pub(crate) fn answer_frame(kind: AnswerKind, payload: &[u8]) -> Vec<u8> {
    let (number, count) = match kind {
        AnswerKind::Done(records) => (1, Some(records)),
        AnswerKind::Part => (2, Some(0)),
        AnswerKind::Failed => (3, None),
        AnswerKind::About => (4, None),
        AnswerKind::Leaving => (5, None),
    };
    let mut frame = vec![0, 0, 0, 0, number, 0, 0, 0];
    frame.extend(count.iter().flat_map(|count: &u32| count.to_le_bytes()));
    frame.extend_from_slice(payload);
    put_length(&mut frame);
    frame
}

/// The results on one output, behind those of others.
pub(crate) fn answer_output(outputs: &mut Vec<u8>, port: usize, block: &Block) {
    for number in [port as u64, block.records, block.len() as u64] {
        outputs.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
    outputs.extend_from_slice(&block.data);
}

/// What a frame on the control connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaidKind {
    Ready = 1,
    Broken = 2,
    Error = 4,
}

/// One frame for the control connection.
pub(crate) fn control_frame(kind: SaidKind, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, kind as u8];
    frame.extend_from_slice(payload);
    put_length(&mut frame);
    frame
}

fn put_length(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::ipc::framing::Framing;
    use crate::ipc::talk::{Answer, Said, records_header};

    #[test]
    fn the_engine_reads_answers_as_the_worker_wrote_them() {
        let lines = [Framing::EndedBy(b'\n')];
        let mut outputs = Vec::new();
        answer_output(&mut outputs, 0, &Block::new(Bytes::from_static(b"a\nb\n"), 2));
        let frame = Bytes::from(answer_frame(AnswerKind::Done(3), &outputs));
        let Ok(Answer::Done { records: 3, outputs }) = Answer::read(&frame, &lines) else {
            panic!("{frame:?}")
        };
        assert_eq!(outputs[0].block, Block::new(Bytes::from_static(b"a\nb\n"), 2));
        let failed = Bytes::from(answer_frame(AnswerKind::Failed, br#"{"error": "no"}"#));
        let Ok(Answer::Failed(failed)) = Answer::read(&failed, &lines) else { panic!() };
        assert_eq!(failed.reason(), "no");
        assert_eq!(
            Answer::read(&Bytes::from(answer_frame(AnswerKind::Leaving, &[])), &lines),
            Ok(Answer::Leaving)
        );
        let mut said = BytesMut::from(&control_frame(SaidKind::Ready, b"{\"protocol\": 1}")[..]);
        assert!(matches!(Said::take(&mut said), Ok(Some(Said::Ready(ready))) if ready.protocol == 1));
    }

    #[test]
    fn the_worker_reads_leases_as_the_engine_wrote_them() {
        let block = Block::new(Bytes::from_static(b"a\nb\n"), 2);
        let header = records_header(&block, 3, true);
        let read = RecordsHeader::read(&header).unwrap();
        assert_eq!(
            read,
            RecordsHeader {
                bytes: header.len() + 4,
                body: header.len(),
                records: 2,
                attempt: 3,
                is_alone: true
            }
        );
        assert_eq!(RecordsHeader::read(&header[..15]), None);
    }
}
