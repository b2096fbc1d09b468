//! The loop's side of one worker: its descriptors and what is in them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::feed::Feed;
use super::held::Held;
use super::poller::Token;
use super::ready::Probing;
use super::window::{MapWindow, StreamWindow};
use crate::ipc::{Block, Cutter};
use crate::runtime::broker::ProducerId;
use crate::runtime::supervisor::Worker;

/// A reading end.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) fd: OwnedFd,
    pub(super) token: Token,
    pub(super) cutter: Cutter,
    /// Where its records go; with `None` nobody wants them.
    pub(super) producer: Option<ProducerId>,
    /// There may be something to read.
    pub(super) is_readable: bool,
    pub(super) has_hung_up: bool,
    /// Its pipe was made large.
    pub(super) is_large: bool,
    pub(super) is_json: bool,
}

/// Standard error, line by line.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) fd: OwnedFd,
    pub(super) token: Token,
    /// The beginning of a line.
    pub(super) line: Vec<u8>,
}

/// What only a worker of one mode has.
#[derive(Debug)]
pub(super) enum Exchange {
    Stream {
        window: StreamWindow,
        /// Records that it was given, by queue: unconfirmed, should it die.
        fed: Vec<(usize, u64)>,
        /// By output port: a last record without its end. Whole only if its worker ends well.
        last: Vec<(usize, Block)>,
    },
    Map {
        window: MapWindow,
        answered: u64,
        /// Its first lease, for the report of one that stands still.
        first_lease: Option<Instant>,
        said_stuck: bool,
        /// A last answer that lacked its end.
        last: Option<Block>,
    },
    Each {
        results: Vec<(usize, Held)>,
        since: Instant,
    },
}

impl Exchange {
    /// Whether a last record of this port waits for the end of its worker.
    pub(super) fn has_last_of(&self, port: usize) -> bool {
        matches!(self, Self::Stream { last, .. } if last.iter().any(|&(of, _)| of == port))
    }
}

/// Whether a worker of an elastic pool has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idleness {
    /// It is being given something, or holds records.
    Busy,
    /// All that it was given is written, and lay in its pipe when that was looked at last.
    Reads { looked_at: Instant },
    /// It has read everything, so long ago.
    Since(Instant),
}

/// One process and its ends.
#[derive(Debug)]
pub(super) struct WorkerIo {
    pub(super) worker: Worker,
    /// The launcher's number for it.
    pub(super) id: u64,
    /// By the position of the input port.
    pub(super) feeds: Vec<Option<Feed>>,
    /// Of a `stream` worker, feeds that were closed at their end: what it did not read of them can be taken back.
    pub(super) closed_feeds: Vec<Feed>,
    /// By the position of the output port.
    pub(super) taps: Vec<Option<Tap>>,
    pub(super) log: Option<Log>,
    /// Its ends of pipe edges, by edge and whether it is the writing one, until it is known to run.
    pub(super) pipe_ends: Vec<(usize, bool, OwnedFd)>,
    pub(super) exchange: Exchange,
    /// The supervisor has been told that all outputs are at their end.
    pub(super) told_outputs_ended: bool,
    /// Its input was brought to its end on purpose.
    pub(super) input_closed: bool,
    /// A `map` worker to whose records nothing is added any more: their input, and it alone, is at its end.
    pub(super) has_had_all: bool,
    pub(super) is_started: bool,
    /// Whether an elastic pool could do without it.
    pub(super) idleness: Idleness,
    /// How it is known to be ready, where its stage has a probe.
    pub(super) probe: Option<Probing>,
    /// Records that it was given in all.
    pub(super) given: u64,
}

impl WorkerIo {
    pub(super) fn has_open_outputs(&self) -> bool {
        self.log.is_some() || self.taps.iter().any(Option::is_some)
    }
}

/// The last lines of standard error of one slot, across its processes.
#[derive(Debug, Default)]
pub(super) struct StderrTail {
    lines: VecDeque<String>,
    bytes: usize,
}

/// Kept of standard error, for reports of failures.
pub(crate) const TAIL_BYTES: usize = 8 << 10;

impl StderrTail {
    pub(super) fn push(&mut self, line: &str) {
        // Of a line that is longer than all that is kept, its end.
        let surplus = line.len().saturating_sub(TAIL_BYTES);
        let line = (surplus..).find_map(|start| line.get(start..)).unwrap_or_default();
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > TAIL_BYTES && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }
}
