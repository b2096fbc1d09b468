//! File watching: which files a pipeline runs from, and when their content has changed.
//!
//! # Theory of operation
//!
//! A [`WatchSet`] is plain data: the files of a pipeline, each with the stages that run it, and the globs of its stages. A
//! [`Watcher`] has a thread that waits for events of the *folders* of these files, since editors replace files instead of
//! writing them, and tells of changes once it has been quiet for a moment. What counts is the content: a file that was
//! saved without a change has not changed, and of many saves only the last does. An event is only a reason to look.
//!
//! Where the kernel cannot tell (too few watches, a network file system), the watcher says so and looks twice a second.
//!
//! | file | part |
//! |---|---|
//! | `set` | which files, and whose |
//! | `gather` | when it has been quiet for long enough |
//! | `guard` | stages that write what they watch |
//! | `look` | what the files hold now |
//! | `shell` | the thread and the kernel's events |

mod gather;
mod guard;
mod look;
mod set;
mod shell;

pub use set::{Known, WatchSet};
pub use shell::{Changed, Told, Watcher};
