//! Bytes between processes: cut into records, moved as blocks of whole records.
//!
//! A [`Cutter`] reads what a worker writes and gives [`Block`]s; [`Framing`] knows where records end. This layer
//! knows no stage and no queue.

mod block;
mod buffer;
mod cutter;
mod framing;
mod key;

pub(crate) use block::Block;
pub(crate) use buffer::Buffers;
pub(crate) use cutter::{Cut, Cutter, Oversize};
pub(crate) use framing::Framing;
pub(crate) use key::key_of;
