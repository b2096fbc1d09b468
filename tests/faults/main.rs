//! The fault suite: what breaks pipelines elsewhere, done to real runs. `README.md` beside this file says what each
//! part injects, what must hold, and how the suite is run twenty times and on one processor.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod kills;
mod limits;
mod records;
mod terminal;
