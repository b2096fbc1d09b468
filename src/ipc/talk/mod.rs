//! What the engine and function workers say to each other, as bytes: `schemas/worker-protocol.md`, sections 2 and 4.
//!
//! Here is what the engine says on a leased input and what both have in common; `answer` and `control` are the two ways back.

mod answer;
mod control;

use bytes::{BufMut, Bytes, BytesMut};

use super::Block;

pub(crate) use answer::{Answer, Failed, check_chunks};
pub(crate) use control::{Broken, Ready, Said, Say};

/// The version of the protocol.
pub(crate) const PROTOCOL: u32 = 1;

/// What an answer may have on top of the largest record: results of many small records travel together.
pub(crate) const ANSWER_OVERHEAD_BYTES: u64 = 8 << 20;

/// A JSON payload is at most this long, so that what it becomes in memory is bounded too.
const MAX_JSON_BYTES: usize = 1 << 20;

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

fn json<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Breach> {
    if payload.len() > MAX_JSON_BYTES {
        return breach(format!("a JSON text of {} bytes", payload.len()));
    }
    serde_json::from_slice(payload)
        .or_else(|error| breach(format!("a message that is not its JSON: {error}")))
}
