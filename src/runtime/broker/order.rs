//! Results that leave in the order in which their records came.

use std::collections::BTreeMap;

use super::ProducerId;
use crate::ipc::Block;

/// The results of some records: for each output port, by its position, a block.
pub(crate) type Results = Vec<(usize, Block)>;

/// The same on their way: who publishes them.
type Leaving = Vec<(ProducerId, Block)>;

/// Holds results back until those before them have left.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: u64,
    /// By the place of the first record: how many records, and their results.
    waiting: BTreeMap<u64, (u64, Leaving)>,
    bytes: u64,
}

/// Results held back at most, in bytes, before no more records are leased but the one that all wait for.
pub(crate) const MAX_HELD_BACK_BYTES: u64 = 8 << 20;

/// Records that may be ahead of the one that all wait for at most; bounds what empty results cost.
pub(crate) const MAX_AHEAD: u64 = 1 << 16;

impl Order {
    /// Takes the results of `records` records from the place `sequence` on, and gives all that may leave now.
    pub(crate) fn put(&mut self, sequence: u64, records: u64, results: Leaving) -> Vec<Leaving> {
        self.bytes += bytes_of(&results);
        self.waiting.insert(sequence, (records, results));
        let mut leaving = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() == self.next) {
            let (records, results) = first.remove();
            self.next += records;
            self.bytes -= bytes_of(&results);
            leaving.push(results);
        }
        leaving
    }

    /// Everything that waits, in order.
    pub(crate) fn clear(&mut self) -> Vec<Leaving> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting).into_values().map(|(_, results)| results).collect()
    }

    /// Whether a record of this place may be leased: the one that all wait for always, others as long as little
    /// is held back.
    pub(crate) fn may_lease(&self, sequence: u64) -> bool {
        sequence <= self.next || (self.bytes < MAX_HELD_BACK_BYTES && sequence - self.next < MAX_AHEAD)
    }
}

fn bytes_of(results: &Leaving) -> u64 {
    results.iter().map(|(_, block)| block.cost()).sum()
}
