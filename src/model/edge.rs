//! Connections between stages.

use std::fmt;

use super::{STDIN, STDOUT};

/// One end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    /// `mpflow`'s own standard input (as a producer) or output (as a consumer).
    Engine,
    /// A port of a stage. The standard ones are `stdin`, `stdout`, `stderr` and `failed`.
    Stage {
        /// The stage's name.
        stage: String,
        /// The port's name.
        port: String,
    },
}

/// A connection from one stage's output port to another's input port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Edge {
    /// The producer.
    pub from: Endpoint,
    /// The consumer.
    pub to: Endpoint,
    /// What it is, with its options.
    pub kind: EdgeKind,
}

/// Writes `a -> b`, `a.port -> b.port`, `stdin -> a`: standard ports are left out.
impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Endpoint::Engine => f.write_str(STDIN)?,
            Endpoint::Stage { stage, port } if port == STDOUT => f.write_str(stage)?,
            Endpoint::Stage { stage, port } => write!(f, "{stage}.{port}")?,
        }
        f.write_str(" -> ")?;
        match &self.to {
            Endpoint::Engine => f.write_str(STDOUT),
            Endpoint::Stage { stage, port } if port == STDIN => f.write_str(stage),
            Endpoint::Stage { stage, port } => write!(f, "{stage}.{port}"),
        }
    }
}

/// What an edge is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EdgeKind {
    /// Records, many-to-many, through a bounded store of the engine's.
    Queue(QueueOptions),
    /// Bytes, straight from one process to the other.
    Pipe(PipeOptions),
}

/// The options of a queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueOptions {
    /// How records are framed and coded; `None` until the graph has chosen by the ends.
    pub format: Option<Format>,
    /// Records that wait in it at most; `None`: as many as fit in `capacity_bytes`.
    pub capacity: Option<u64>,
    /// Bytes that wait in it at most, the engine's own cost per record counted.
    pub capacity_bytes: u64,
    /// A larger record, in bytes, fails the stage that made it.
    pub max_record: u64,
    /// What happens to a record that does not fit.
    pub when_full: WhenFull,
    /// Records of one key always go to the same worker.
    pub partition_by: Option<PartitionKey>,
    /// Every worker of the pool gets every record.
    pub to_each: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            format: None,
            capacity: None,
            capacity_bytes: 8 << 20,
            max_record: 64 << 20,
            when_full: WhenFull::Block,
            partition_by: None,
            to_each: false,
        }
    }
}

/// The options of a pipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PipeOptions {
    /// A connected pair of sockets instead of a one-way pipe.
    pub duplex: bool,
    /// Capacity asked of the kernel, in bytes; `None`: the kernel's own.
    pub size: Option<u64>,
}

/// What happens to a record that does not fit in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Its producer waits.
    Block,
    /// It is dropped.
    DropNewest,
    /// The record that has waited longest is dropped for it.
    DropOldest,
}

/// What part of a record chooses its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartitionKey {
    /// A JSON pointer, RFC 6901.
    Pointer(String),
    /// A field of the line, counted from 1, fields being separated by white space.
    Field(usize),
}

/// How records are framed and coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Ended by `\n`.
    Lines,
    /// One JSON document per line.
    Json,
    /// Ended by `\0`.
    Nul,
    /// 4-byte little-endian length, then the bytes.
    Frames,
    /// MessagePack, between functions.
    Msgpack,
    /// Python pickles, between Python functions.
    Pickle,
}

impl Format {
    /// The word in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Json => "json",
            Self::Nul => "nul",
            Self::Frames => "frames",
            Self::Msgpack => "msgpack",
            Self::Pickle => "pickle",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
