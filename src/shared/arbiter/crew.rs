//! Which workers may still come to a barrier.

use std::collections::{BTreeMap, BTreeSet};

/// The workers of the run.
#[derive(Debug)]
pub(super) struct Crew {
    /// As many as there may ever be.
    total: u64,
    /// They run, or may still be started.
    may_come: BTreeSet<String>,
    /// The last that left.
    left: Vec<String>,
}

impl Crew {
    pub(super) fn new(workers: BTreeSet<String>) -> Self {
        Self { total: workers.len() as u64, may_come: workers, left: Vec::new() }
    }

    pub(super) fn set(&mut self, workers: BTreeSet<String>) {
        let left: Vec<String> = self.may_come.difference(&workers).cloned().collect();
        if !left.is_empty() {
            self.left = left;
        }
        self.may_come = workers;
    }

    /// Why so many parties cannot come together any more, if they cannot. `clients`: the worker of each connection.
    pub(super) fn lacks<'a>(&self, parties: u64, clients: impl Iterator<Item = &'a str>) -> Option<String> {
        if self.total < parties {
            return None;
        }
        let mut comes: BTreeMap<&str, u64> = self.may_come.iter().map(|name| (name.as_str(), 0)).collect();
        for worker in clients {
            *comes.entry(worker).or_default() += 1;
        }
        let most: u64 = comes.values().map(|&connections| connections.max(1)).sum();
        if most >= parties {
            return None;
        }
        let left = match self.left.as_slice() {
            [] => String::new(),
            [one] => format!("; `{one}` has ended for good"),
            many => format!("; `{}` have ended for good", many.join("`, `")),
        };
        Some(format!("it needs {parties} parties, and only {most} may still come{left}"))
    }
}
