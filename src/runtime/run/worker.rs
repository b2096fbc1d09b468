//! The loop's side of one worker: its descriptors and what is in them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::control::ControlLine;
use super::feed::Feed;
use super::held::Held;
use super::poller::Token;
use super::ready::Probing;
use super::window::{LARGEST_PIPE, MapWindow, StreamWindow};
use crate::ipc::{Block, Cutter};
use crate::model::Format;
use crate::runtime::broker::ProducerId;
use crate::runtime::supervisor::Worker;
use crate::sys::descriptor;

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

/// A read of this much means that the pipe was full, or nearly: its writer is faster than its size allows.
pub(super) const NEARLY_FULL_BYTES: usize = 48 << 10;

impl Tap {
    pub(super) fn new(
        fd: OwnedFd,
        token: Token,
        cutter: Cutter,
        producer: Option<ProducerId>,
        format: Format,
    ) -> Self {
        Self {
            fd,
            token,
            cutter,
            producer,
            is_readable: false,
            has_hung_up: false,
            is_large: false,
            is_json: format == Format::Json,
        }
    }

    /// So much was read at once. Whether there may be more to read.
    pub(super) fn read_so_much(&mut self, bytes: usize) -> bool {
        if bytes >= NEARLY_FULL_BYTES && !self.is_large {
            self.is_large = true;
            descriptor::set_pipe_size(self.fd.as_fd(), LARGEST_PIPE);
        }
        // A short read has emptied the pipe, and what comes next is a new event; the end of one that was
        // hung up before is none.
        self.is_readable = bytes >= NEARLY_FULL_BYTES || self.has_hung_up;
        self.is_readable
    }
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
        /// Of a function: results of the record that it works on, by output port.
        parts: Vec<(usize, Held)>,
        /// Of a function: what the record that it works on looks like.
        about: Option<serde_json::Value>,
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
    /// Of a `map` worker, the feed of its leases when it was closed: what it read of them can still be told.
    pub(super) closed_leases: Option<Feed>,
    /// By the position of the output port.
    pub(super) taps: Vec<Option<Tap>>,
    pub(super) log: Option<Log>,
    /// Its outputs are looked at when it has ended, or when it turns out not to be brief.
    pub(super) is_unwatched: bool,
    /// From its start to its end, as the launcher saw it.
    pub(super) ran: Option<Duration>,
    /// It speaks the worker protocol.
    pub(super) is_function: bool,
    /// Of a function worker: it was told that records may flow.
    pub(super) went: bool,
    /// Of a function worker: it maps segments, and else gets what lies in them.
    pub(super) maps_segments: bool,
    /// It has broken the protocol, and is being killed for it.
    pub(super) has_breached: bool,
    /// Of a function worker, until it closes it.
    pub(super) control: Option<ControlLine>,
    /// Of a function worker whose records are leased.
    pub(super) answers: Option<Tap>,
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
    /// Records that it was leased in all.
    pub(super) given: u64,
    /// What it has written by its output ports while its stage is not in effect.
    pub(super) kept: Vec<(usize, Block)>,
}

impl WorkerIo {
    /// Records that it was given in all.
    pub(super) fn given_in_all(&self) -> u64 {
        match &self.exchange {
            Exchange::Stream { fed, .. } => fed.iter().map(|(_, records)| records).sum(),
            Exchange::Map { .. } | Exchange::Each { .. } => self.given,
        }
    }

    /// Of a `map` worker: how many bytes it has read of what its leases were handed over in.
    pub(super) fn read_of_leases(&self) -> u64 {
        let feed = self.feeds.first().and_then(Option::as_ref).or(self.closed_leases.as_ref());
        feed.map_or(u64::MAX, Feed::read)
    }

    pub(super) fn has_open_outputs(&self) -> bool {
        self.log.is_some()
            || self.control.is_some()
            || self.answers.is_some()
            || self.taps.iter().any(Option::is_some)
    }

    /// Whether it may be given records: it runs, and a function was found and may be called.
    pub(super) fn takes_records(&self) -> bool {
        // One that has closed its control connection is at its end, or about to be killed.
        self.is_started && self.may_work() && self.is_function == self.control.is_some()
    }

    /// Its pool has only it now, or others too: it is given blocks accordingly.
    pub(super) fn is_alone(&mut self, is_alone: bool) {
        if let Exchange::Stream { window, .. } = &mut self.exchange {
            window.is_alone(is_alone);
        }
    }

    /// Whether it was told that records may flow, where it has to be.
    pub(super) fn may_work(&self) -> bool {
        !self.is_function || self.went
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
