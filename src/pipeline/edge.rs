//! An edge said in code.

use super::part::{Part, number};
use super::{Format, WhenFull};
use crate::language::write::{self, Yaml};

/// A connection, or a chain of them: `"crawl -> parse -> store"`, whose ends are stages, `stage.port`, `stdin` first
/// and `stdout` last.
///
/// What only the other kind of edge can have is refused when the pipeline is built, as in a document.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an edge is added by `PipelineBuilder::edge`"]
pub struct Edge(Part);

impl Edge {
    #[track_caller]
    fn new(kind: &str, link: &str) -> Self {
        let mut part = Part::default();
        part.set(kind, Yaml::text(link));
        Self(part)
    }

    #[track_caller]
    fn set(mut self, key: &str, value: Yaml) -> Self {
        self.0.set(key, value);
        self
    }

    pub(super) fn into_yaml(self) -> Yaml {
        self.0.into_yaml()
    }

    /// Records, many-to-many, through a bounded store.
    #[track_caller]
    pub fn queue(link: &str) -> Self {
        Self::new("queue", link)
    }

    /// Bytes, straight from one process to the other.
    #[track_caller]
    pub fn pipe(link: &str) -> Self {
        Self::new("pipe", link)
    }

    /// Queue: how records are framed and coded. Without it, by what the ends are.
    #[track_caller]
    pub fn format(self, format: Format) -> Self {
        self.set("format", Yaml::text(format.as_str()))
    }

    /// Queue: records that wait in it at most. Without it, as many as fit in its bytes.
    #[track_caller]
    pub fn capacity(self, records: u64) -> Self {
        self.set("capacity", number(records))
    }

    /// Queue: bytes that wait in it at most, the engine's own cost counted. 8 MiB without it.
    #[track_caller]
    pub fn capacity_bytes(self, bytes: u64) -> Self {
        self.set("capacity_bytes", write::size(bytes))
    }

    /// Queue: bytes of its largest record; a larger one fails the stage that made it. 64 MiB without it.
    #[track_caller]
    pub fn max_record(self, bytes: u64) -> Self {
        self.set("max_record", write::size(bytes))
    }

    /// Queue: what happens to a record that does not fit. Without it, its producer waits.
    #[track_caller]
    pub fn when_full(self, when_full: WhenFull) -> Self {
        self.set("when_full", write::when_full(when_full))
    }

    /// Queue of JSON: records with the same value at this JSON pointer (RFC 6901, `"/user/id"`) go to the same worker.
    #[track_caller]
    pub fn partition_by_pointer(self, pointer: &str) -> Self {
        self.set("partition_by", Yaml::text(pointer))
    }

    /// Queue of lines: records with the same field, counted from 1, go to the same worker.
    #[track_caller]
    pub fn partition_by_field(self, field: usize) -> Self {
        self.set("partition_by", number(field))
    }

    /// Queue: every worker of the pool gets every record.
    #[track_caller]
    pub fn to_each(self) -> Self {
        self.set("to_each", Yaml::Bool(true))
    }

    /// Pipe: two ways, as a connected pair of sockets.
    #[track_caller]
    pub fn duplex(self) -> Self {
        self.set("duplex", Yaml::Bool(true))
    }

    /// Pipe: capacity asked of the kernel, in bytes.
    #[track_caller]
    pub fn size(self, bytes: u64) -> Self {
        self.set("size", write::size(bytes))
    }
}
