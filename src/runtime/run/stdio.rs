//! `mpflow`'s own standard input and output, as a producer and a consumer of records.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::ahead::ReadAhead;
use super::feed::{Feed, Wrote};
use super::poller::Token;
use super::window::LARGEST_PIPE;
use super::{RunLoop, Target};
use crate::ipc::{Cut, Cutter, Framing};
use crate::runtime::broker::{Consumer, Reason};
use crate::runtime::supervisor::Level;
use crate::sys::descriptor::{self, Kind};

/// Standard input, where a queue comes from it.
#[derive(Debug)]
pub(super) struct Stdin {
    source: Source,
    token: Token,
    framing: Framing,
    is_readable: bool,
}

/// Where standard input is read.
#[derive(Debug)]
enum Source {
    /// Here, where it can be waited for.
    Here {
        fd: OwnedFd,
        cutter: Cutter,
        /// A read may wait, so that it is looked at before each.
        may_wait: bool,
    },
    /// By a thread: a file, which cannot.
    Ahead(ReadAhead),
}

impl Source {
    /// What to wait on.
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here { fd, .. } => fd.as_fd(),
            Self::Ahead(ahead) => ahead.news().as_fd(),
        }
    }
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Stdout {
    pub(super) feed: Feed,
}

/// Bytes handed to standard output at once.
const SHARE_BYTES: usize = 1 << 20;

impl RunLoop {
    /// Opens the ways to the standard streams that the pipeline uses. Nothing is read yet.
    pub(super) fn open_standard(&mut self) -> io::Result<()> {
        if self.broker.stdin().is_some() {
            let queue = self.plan.queues.iter().find(|queue| queue.from.is_none());
            let queue = queue.expect("the broker has a producer for it only where a queue comes from it");
            let limits = self.plan.queues.iter().filter(|queue| queue.from.is_none());
            let max_record = limits.map(|queue| queue.options.max_record).min().unwrap_or(u64::MAX);
            let framing = Framing::of(queue.format);
            let (fd, kind, is_nonblocking) = descriptor::private_standard(0, false)?;
            let token = self.tokens.add(Target::Stdin);
            let is_watched = self.poller.watch(fd.as_fd(), token, false)?;
            if kind == Kind::Pipe {
                descriptor::set_pipe_size(fd.as_fd(), LARGEST_PIPE);
            }
            let cutter = Cutter::new(framing, max_record);
            let source = if is_watched {
                Source::Here { fd, cutter, may_wait: !is_nonblocking }
            } else {
                let ahead = ReadAhead::start(fd, cutter, self.buffers.clone())?;
                self.poller.watch(ahead.news().as_fd(), token, false)?;
                Source::Ahead(ahead)
            };
            self.stdin = Some(Stdin { source, token, framing, is_readable: false });
        }
        if self.broker.has_stdout() {
            let (fd, kind, is_nonblocking) = descriptor::private_standard(1, true)?;
            let token = self.tokens.add(Target::Stdout);
            let is_watched = self.poller.watch(fd.as_fd(), token, true)?;
            let mut feed = Feed::new(fd, token);
            if kind == Kind::Socket {
                feed = feed.of_socket();
            }
            if matches!(kind, Kind::Pipe | Kind::Device) && !is_nonblocking && is_watched {
                feed = feed.that_may_wait();
            }
            if kind == Kind::Pipe {
                descriptor::set_pipe_size(feed.fd().as_fd(), LARGEST_PIPE);
            }
            feed.is_always_ready = !is_watched;
            self.stdout = Some(Stdout { feed });
        }
        Ok(())
    }

    pub(super) fn stdin_is_readable(&mut self, token: Token) {
        if let Some(stdin) = &mut self.stdin
            && !std::mem::replace(&mut stdin.is_readable, true)
        {
            self.readable.push_back(token);
        }
    }

    pub(super) fn resume_stdin(&mut self) {
        if let Some(stdin) = self.stdin.as_ref().filter(|stdin| stdin.is_readable) {
            self.readable.push_back(stdin.token);
        }
    }

    pub(super) fn read_stdin(&mut self) {
        let Some(producer) = self.broker.stdin() else { return };
        let Some(stdin) = self.stdin.as_mut() else { return };
        if self.broker.is_blocked(producer) {
            return;
        }
        let read = match &mut stdin.source {
            Source::Here { fd, may_wait: true, .. } if !descriptor::is_ready(fd.as_fd(), false) => {
                stdin.is_readable = false;
                return;
            }
            Source::Here { fd, cutter, .. } => cutter.read(fd.as_fd(), &self.buffers),
            Source::Ahead(ahead) => ahead.take(),
        };
        let cut = match read {
            Ok(Ok(cut)) => cut,
            Ok(Err(oversize)) => {
                let reason = format!(
                    "standard input holds a record of at least {} bytes, more than `max_record` allows: {}",
                    oversize.bytes,
                    super::read::shown(&oversize.head)
                );
                return self.stdin_failed(reason);
            }
            Err(error) => return self.stdin_failed(format!("cannot read standard input: {error}")),
        };
        let framing = stdin.framing;
        match cut {
            Cut::Nothing => stdin.is_readable = false,
            Cut::Read { block, .. } => {
                // Not every kind of file tells by a short read that it is empty: ask again.
                self.readable.push_back(stdin.token);
                self.publish_stdin(block, framing);
            }
            Cut::End { block } => {
                if !block.is_empty() && !framing.may_end_in(&block.data) {
                    return self.stdin_failed("standard input ended in the middle of a frame".to_owned());
                }
                self.publish_stdin(block, framing);
                self.close_stdin();
            }
        }
    }

    fn publish_stdin(&mut self, block: crate::ipc::Block, framing: Framing) {
        let Some(producer) = self.broker.stdin() else { return };
        let is_json = self
            .plan
            .queues
            .iter()
            .any(|queue| queue.from.is_none() && queue.format == crate::model::Format::Json);
        if is_json && let Some(reason) = super::read::first_invalid(framing, &block) {
            return self.stdin_failed(reason.replacen("it wrote", "standard input holds", 1));
        }
        self.broker.publish(producer, block);
    }

    /// The stage that standard input feeds cannot go on.
    fn stdin_failed(&mut self, reason: String) {
        let fed = self.plan.queues.iter().find(|queue| queue.from.is_none()).and_then(|queue| queue.to);
        if let Some(port) = fed {
            self.fail_stage(port.stage, None, reason);
        }
        self.close_stdin();
    }

    /// Nothing more is read.
    pub(super) fn close_stdin(&mut self) {
        let Some(stdin) = self.stdin.take() else { return };
        self.poller.forget(stdin.source.fd());
        self.tokens.remove(stdin.token);
        if let Some(producer) = self.broker.stdin() {
            self.broker.end_producer(producer);
        }
    }

    // ---- standard output

    pub(super) fn stdout_has_room(&mut self) {
        if let Some(stdout) = &mut self.stdout {
            stdout.feed.is_writable = true;
        }
        self.pump_stdout();
    }

    pub(super) fn pump_stdout(&mut self) {
        while let Some(Stdout { feed }) = self.stdout.as_mut() {
            if !feed.is_writable {
                return;
            }
            let mut bytes = SHARE_BYTES;
            while feed.is_idle() || bytes > 0 {
                let Some((queue, block)) = self.broker.take(Consumer::Stdout, 0, bytes, u64::MAX) else {
                    break;
                };
                bytes = bytes.saturating_sub(block.len());
                feed.push(queue, block);
            }
            if feed.is_idle() {
                return;
            }
            self.write_stdout();
        }
    }

    fn write_stdout(&mut self) {
        let Some(Stdout { feed }) = self.stdout.as_mut() else { return };
        let mut wrote = Vec::new();
        let broker = &self.broker;
        let result = feed.write(|queue| broker.framing(queue), |queue, records| wrote.push((queue, records)));
        for (queue, records) in wrote {
            self.broker.deliver(queue, records);
        }
        self.has_moved = true;
        match result {
            Ok(Wrote::All | Wrote::Part) => {}
            Ok(Wrote::Closed) => self.close_stdout(),
            Err(error) => {
                let stages: Vec<usize> = self
                    .plan
                    .queues
                    .iter()
                    .filter(|queue| queue.to.is_none())
                    .filter_map(|queue| Some(queue.from?.stage))
                    .collect();
                for stage in stages {
                    self.fail_stage(stage, None, format!("cannot write standard output: {error}"));
                }
                self.close_stdout();
            }
        }
    }

    /// Nobody reads standard output any more: what feeds it learns that, as in a shell pipe.
    fn close_stdout(&mut self) {
        if let Some(stdout) = self.stdout.take() {
            for (queue, records) in stdout.feed.unwritten() {
                self.broker.discard(queue, records, Reason::ConsumerEnded);
            }
            self.poller.forget(stdout.feed.fd().as_fd());
            self.tokens.remove(stdout.feed.token);
        }
        self.broker.close_consumer(Consumer::Stdout, Reason::ConsumerEnded);
    }

    /// Whether all that is left is standard output, and it is still waited for: as long as it takes, but once the run is
    /// terminated no longer than the grace period, and not at all when it is killed.
    pub(super) fn waits_for_stdout(&self) -> bool {
        let is_given_up = match self.asked_to_end {
            None | Some((Level::Drain, _)) => false,
            Some((Level::Terminate, at)) => self.clock.now() >= at + self.plan.stop.grace,
            Some((Level::Kill, _)) => true,
        };
        !is_given_up && self.has_unwritten_output()
    }

    fn has_unwritten_output(&self) -> bool {
        self.stdout.as_ref().is_some_and(|stdout| !stdout.feed.is_idle())
            || self.stdout.is_some() && self.broker.waiting(Consumer::Stdout, 0) > 0
    }
}
