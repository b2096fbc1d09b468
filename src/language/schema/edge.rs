//! Edges.

use schemars::JsonSchema;

use super::scalar::{Arrow, Count, Format, PartitionKey, Size, Truth, WhenFull};

/// Records, many-to-many, through a bounded store of the engine's.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("required" = ["queue"]))]
pub(super) struct Queue {
    /// `A -> B`, or a chain; an end is `stage`, `stage.port`, `stdin` or `stdout`.
    queue: Arrow,
    /// How records are framed and coded; chosen by the ends where it is not said.
    format: Format,
    /// Records that wait in it at most; otherwise as many as fit in `capacity_bytes`.
    capacity: Count,
    /// Bytes that wait in it at most, the engine's own cost per record counted.
    #[schemars(extend("default" = "8MiB"))]
    capacity_bytes: Size,
    /// A larger record fails the stage that made it.
    #[schemars(extend("default" = "64MiB"))]
    max_record: Size,
    /// What happens to a record that does not fit: its producer waits, it is dropped, or the oldest one is.
    #[schemars(extend("default" = "block"))]
    when_full: WhenFull,
    /// A JSON pointer or the number of a field: records of one key always go to the same worker, in order.
    partition_by: PartitionKey,
    /// Every worker of the pool gets every record.
    #[schemars(extend("default" = false))]
    to_each: Truth,
}

/// Bytes, straight from one process to the other.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("required" = ["pipe"]))]
pub(super) struct Pipe {
    /// `A -> B`, or a chain; an end is `stage` or `stage.port`.
    pipe: Arrow,
    /// A two-way pipe.
    #[schemars(extend("default" = false))]
    duplex: Truth,
    /// Capacity asked of the kernel; otherwise its own.
    size: Size,
}
