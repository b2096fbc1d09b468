//! What became of every record of one queue.

use std::collections::BTreeMap;

use crate::report::{Discarded, EdgeReport};

/// Why records were discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Every worker of the consumer had enough and ended.
    ConsumerEnded,
    /// The consuming stage failed.
    ConsumerFailed,
    /// The edge was removed by a reload, and what waited in it was not taken in time.
    EdgeRemoved,
    /// The run was stopped.
    Stopped,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::ConsumerEnded => "consumer ended",
            Self::ConsumerFailed => "consumer failed",
            Self::EdgeRemoved => "edge removed",
            Self::Stopped => "stopped",
        }
    }
}

/// The counts of one queue. What is in and in none of the others waits, or is leased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) records_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) peak_records: u64,
    discarded: BTreeMap<Reason, u64>,
}

impl Books {
    pub(crate) fn discard(&mut self, reason: Reason, records: u64) {
        if records > 0 {
            *self.discarded.entry(reason).or_default() += records;
        }
    }

    /// Records that were discarded for this reason.
    pub(crate) fn discarded(&self, reason: Reason) -> u64 {
        self.discarded.get(&reason).copied().unwrap_or(0)
    }

    /// Records that went in and of which nothing has become yet.
    pub(crate) fn open(&self) -> u64 {
        let discarded: u64 = self.discarded.values().sum();
        self.records_in - self.delivered - self.failed - self.dropped - discarded
    }

    pub(crate) fn report(&self, edge: &str) -> EdgeReport {
        EdgeReport {
            edge: edge.to_owned(),
            records_in: self.records_in,
            delivered: self.delivered,
            failed: self.failed,
            dropped: self.dropped,
            discarded: self
                .discarded
                .iter()
                .map(|(reason, &records)| Discarded { reason: reason.as_str().to_owned(), records })
                .collect(),
            unconfirmed: self.unconfirmed,
            bytes: self.bytes_in,
            peak_records: self.peak_records,
        }
    }
}
