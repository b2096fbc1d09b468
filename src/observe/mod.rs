//! What a run looks like to whoever watches it: lines of text, tables, JSON.
//!
//! Everything here reads [`crate::event`], [`crate::report`], [`crate::explanation`] and [`crate::change`] values and turns them into text; it never steers
//! a run, knows no terminal, and starts no thread. Whoever owns a terminal says by a [`Look`] what it can show.

mod change;
mod explanation;
mod human;
mod json;
mod look;
mod message;
mod progress;
mod sanitize;
mod shared;
mod status;
mod summary;
mod table;

pub use change::change;
pub use explanation::explanation;
pub use human::{bytes, count, duration, short_count};
pub use json::{EventLog, write_report};
pub use look::{Colour, Look};
pub use message::{Messages, Verbosity};
pub use progress::{ProgressTable, StageProgress};
pub use status::{StatusTable, log_line, runs, short_ids};
pub use summary::{failures, summary};
