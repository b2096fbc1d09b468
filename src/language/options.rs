//! What a document is read with.

use std::collections::BTreeMap;

use crate::graph::Ends;

/// What a document is read with, besides its text.
#[derive(Debug, Clone)]
pub struct ParseOptions {
    /// `--set NAME=VALUE`: values for `vars`, read as YAML scalars. Of two for one name the later wins.
    pub set: Vec<(String, String)>,
    /// `--pool STAGE=N`: widths that replace those of the document.
    pub pool: Vec<(String, usize)>,
    /// What `env.NAME` means in expressions.
    pub env: BTreeMap<String, String>,
    /// What `pool: auto` means; 0 counts as 1.
    pub cpus: usize,
    /// What the standard streams of the runs will be. A program at them may send and receive values of formats that
    /// files and terminals cannot have.
    pub ends: Ends,
}

/// Nothing set, an empty environment, one processor, and a program at the standard streams.
impl Default for ParseOptions {
    fn default() -> Self {
        Self { set: Vec::new(), pool: Vec::new(), env: BTreeMap::new(), cpus: 1, ends: Ends::Program }
    }
}

impl ParseOptions {
    /// The environment of this process, and as many processors as it may use.
    ///
    /// Variables that are not UTF-8 are left out: no expression could hold them.
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            env: std::env::vars_os().filter_map(text).collect(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            ..Self::default()
        }
    }
}
