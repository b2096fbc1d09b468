//! Bytes between processes: cut into records, moved as blocks of whole records.
//!
//! A [`Cutter`] reads what a worker writes and gives [`Block`]s; [`Framing`] knows where records end. This layer
//! knows no stage and no queue.

mod block;
mod buffer;
mod chunk;
mod coding;
mod cutter;
mod endpoint;
mod framing;
mod key;
mod passing;
mod pin;
mod reply;
mod talk;

pub(crate) use block::Block;
pub(crate) use buffer::{BUFFER_BYTES, Buffers, KEPT as KEPT_BUFFERS};
pub(crate) use chunk::{CHUNK_HEADER_BYTES, ChunkHeader, rename_segments, segments_of, with_body};
pub use coding::CodeError;
pub(crate) use coding::{Bodies, Packer, bodies, decode, decode_list, encode};
pub(crate) use cutter::{Cut, Cutter, Oversize, SHORT_TAIL_BYTES, WORTH_SHARING_BYTES};
pub(crate) use endpoint::{Inlet, Next, Outlet, Patience, Refused, Taken};
pub(crate) use framing::Framing;
pub(crate) use key::key_of;
pub(crate) use passing::{Passed, giving, take as take_passed, taking};
pub(crate) use pin::{Pins, Released};
pub(crate) use reply::{AnswerKind, GO, RecordsHeader, SaidKind, answer_frame, answer_output, control_frame};
pub(crate) use talk::{
    ANSWER_OVERHEAD_BYTES, Answer, Breach, Broken, Failed, PROTOCOL, Ready, Said, Say, check_chunks,
    records_header,
};
