//! Samples of the records that pass through a queue, for whoever looks on.
//!
//! A tap never holds anything up: the broker copies some of the records that are put into the queue and counts the
//! others, and what its observer has no room for is counted too.

use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

use super::RunLoop;
use crate::ipc::Framing;
use crate::model::Format;
use crate::runtime::broker::SampledRecord;

/// Samples that wait for a slow observer at most.
pub(super) const MOST_WAITING: usize = 16;

/// A sample is sent so often, while anything passes.
const EVERY: Duration = Duration::from_millis(100);

/// Some of the records that have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) format: Format,
    pub(crate) framing: Framing,
    pub(crate) records: Vec<SampledRecord>,
    /// Records that passed since the last sample and are not in this one.
    pub(crate) not_shown: u64,
}

/// Why an edge cannot be tapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TapError {
    /// There is no such queue; these there are.
    Unknown(Vec<String>),
    /// It is a pipe: the engine sees nothing of what passes.
    Pipe,
}

/// One observer of one queue.
#[derive(Debug)]
struct Tap {
    queue: usize,
    samples: Sender<Sample>,
    /// Of samples that found no room.
    not_shown: u64,
}

/// All observers.
#[derive(Debug, Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
    sent_at: Option<Instant>,
}

impl RunLoop {
    /// Lets somebody look at the records of a queue.
    pub(super) fn tap(&mut self, edge: &str, samples: Sender<Sample>) -> Result<(), TapError> {
        let wanted = edge.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some(queue) = self.reloads.queue(&wanted) else {
            let plan = self.reloads.plan();
            return Err(match plan.pipes.iter().any(|pipe| pipe.name == wanted) {
                true => TapError::Pipe,
                false => TapError::Unknown(plan.queues.iter().map(|queue| queue.name.clone()).collect()),
            });
        };
        self.taps.taps.push(Tap { queue, samples, not_shown: 0 });
        self.broker.watch_queue(queue);
        Ok(())
    }

    /// When what has passed is to be sent.
    pub(super) fn taps_deadline(&self) -> Option<Instant> {
        let has_any = !self.taps.taps.is_empty() && self.broker.has_samples();
        has_any.then(|| self.taps.sent_at.map_or(self.heard_at, |at| at + EVERY))
    }

    /// Sends samples, if it is time, and forgets those who do not want any more.
    pub(super) fn send_samples(&mut self) {
        if self.taps.taps.is_empty() || self.taps_deadline().is_none_or(|at| at > self.heard_at) {
            return;
        }
        self.taps.sent_at = Some(self.heard_at);
        for (queue, seen) in self.broker.take_samples() {
            let format = self.plan.queues[queue].format;
            let sample = Sample {
                format,
                framing: self.broker.framing(queue),
                records: seen.records,
                not_shown: seen.not_shown,
            };
            self.taps.taps.retain_mut(|tap| tap.queue != queue || tap.send(&sample));
            if !self.taps.taps.iter().any(|tap| tap.queue == queue) {
                self.broker.forget_queue(queue);
            }
        }
    }
}

impl Tap {
    /// Whether somebody is at its other end.
    fn send(&mut self, sample: &Sample) -> bool {
        let mut sample = sample.clone();
        sample.not_shown += self.not_shown;
        match self.samples.try_send(sample) {
            Ok(()) => self.not_shown = 0,
            Err(TrySendError::Full(sample)) => {
                self.not_shown =
                    sample.not_shown + sample.records.iter().map(|record| record.records).sum::<u64>();
            }
            Err(TrySendError::Disconnected(_)) => return false,
        }
        true
    }
}
