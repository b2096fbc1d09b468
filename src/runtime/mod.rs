//! The run: one loop on one thread owns it.
//!
//! Two pure cores decide: the [`supervisor`] about processes, the [`broker`] about records. The loop tells them
//! what happened and does what they say.

pub(crate) mod broker;
pub(crate) mod run;
pub(crate) mod supervisor;
