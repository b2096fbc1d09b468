//! From the tree to the pipeline.
//!
//! Every reader takes a node, reports what is wrong with it and answers `None`; its caller goes on with the next
//! one. So all mistakes of a document are found in one pass. A pipeline is handed out only where there was none.

mod body;
mod depends;
mod edge;
mod endpoint;
mod environment;
mod fields;
mod fit;
pub(crate) mod keys;
mod limits;
mod names;
mod path;
mod per_worker;
mod placeholders;
mod policy;
mod pool;
mod reader;
mod ready;
mod resolve;
mod shared;
mod stage;
mod top;
mod units;
mod value;
mod vars;
pub(super) mod words;

pub(super) use stage::default_mode;
pub(super) use top::{decode, unset_restart};
