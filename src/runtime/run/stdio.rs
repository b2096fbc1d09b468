//! The run's own standard input and output, as a producer and a consumer of records: descriptors, or ends that lie in
//! the program that started it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::ahead::ReadAhead;
use super::feed::{Feed, Wrote};
use super::poller::Token;
use super::window::LARGEST_PIPE;
use super::{RunLoop, Target};
use crate::ipc::{Block, Cut, Cutter, Framing, Inlet, Outlet, Taken};
use crate::runtime::broker::{Consumer, Reason};
use crate::runtime::supervisor::Level;
use crate::sys::descriptor::{self, Kind};

/// Where the standard streams of a run lie. One that the pipeline does not use is left alone.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: InEnd,
    pub(crate) stdout: OutEnd,
}

/// Where records come from.
#[derive(Debug)]
pub(crate) enum InEnd {
    Descriptor(OwnedFd),
    Inside(Arc<Inlet>),
}

/// Where records go.
#[derive(Debug)]
pub(crate) enum OutEnd {
    Descriptor(OwnedFd),
    Inside(Arc<Outlet>),
}

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
    /// In the program.
    Inside(InsideSource),
}

impl Source {
    /// What to wait on.
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here { fd, .. } => fd.as_fd(),
            Self::Ahead(ahead) => ahead.news().as_fd(),
            Self::Inside(inside) => inside.0.news(),
        }
    }
}

/// However the run ends, whoever sends learns it.
#[derive(Debug)]
struct InsideSource(Arc<Inlet>);

impl InsideSource {
    fn take(&self) -> Cut {
        match self.0.take() {
            Taken::Block(block) => Cut::Read { bytes: block.len(), block },
            Taken::Nothing => Cut::Nothing,
            Taken::End => Cut::End { block: Block::default() },
        }
    }
}

impl Drop for InsideSource {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Standard output.
#[derive(Debug)]
pub(super) enum Stdout {
    /// A descriptor.
    Feed(Feed),
    /// In the program.
    Inside { sink: InsideSink, token: Token },
}

/// However the run ends, whoever receives learns it.
#[derive(Debug)]
pub(super) struct InsideSink(Arc<Outlet>);

impl Drop for InsideSink {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Bytes handed to standard output at once.
const SHARE_BYTES: usize = 1 << 20;

impl Stdout {
    /// Whether it lies in the program.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self, Self::Inside { .. })
    }
}

impl RunLoop {
    /// Opens the ways to the standard streams that the pipeline uses. Nothing is read yet.
    pub(super) fn open_standard(&mut self, ends: Ends) -> io::Result<()> {
        if self.broker.stdin().is_some() {
            let token = self.tokens.add(Target::Stdin);
            let queue = self.plan.queues.iter().find(|queue| queue.from.is_none());
            let queue = queue.expect("the broker has a producer for it only where a queue comes from it");
            let framing = Framing::of(queue.format);
            let source = match ends.stdin {
                InEnd::Descriptor(fd) => self.open_source(&fd, framing, token)?,
                InEnd::Inside(inlet) => {
                    self.poller.watch(inlet.news(), token, false)?;
                    Source::Inside(InsideSource(inlet))
                }
            };
            self.stdin = Some(Stdin { source, token, framing, is_readable: false });
        }
        match self.broker.has_stdout() {
            true => self.open_stdout(ends.stdout)?,
            false => self.unused_stdout = Some(ends.stdout),
        }
        Ok(())
    }

    fn open_stdout(&mut self, end: OutEnd) -> io::Result<()> {
        let token = self.tokens.add(Target::Stdout);
        self.stdout = Some(match end {
            OutEnd::Descriptor(fd) => self.open_feed(&fd, token)?,
            OutEnd::Inside(outlet) => {
                self.poller.watch(outlet.news(), token, false)?;
                Stdout::Inside { sink: InsideSink(outlet), token }
            }
        });
        Ok(())
    }

    /// A reload may lead the first records to standard output, or lead some there when nobody reads it any more.
    pub(super) fn open_late_stdout(&mut self) {
        if self.stdout.is_some() || !self.broker.has_stdout() {
            return;
        }
        let opened = self.unused_stdout.take().map(|end| self.open_stdout(end));
        if let Some(Err(error)) = opened {
            self.notice(format!("cannot write standard output: {error}"));
        }
        if self.stdout.is_none() {
            self.broker.close_consumer(Consumer::Stdout, Reason::ConsumerEnded);
        }
    }

    fn open_source(&mut self, fd: &OwnedFd, framing: Framing, token: Token) -> io::Result<Source> {
        let limits = self.plan.queues.iter().filter(|queue| queue.from.is_none());
        let max_record = limits.map(|queue| queue.options.max_record).min().unwrap_or(u64::MAX);
        let cutter = Cutter::new(framing, max_record);
        let (fd, kind, is_nonblocking) = descriptor::private(fd.as_fd(), false)?;
        let is_watched = self.poller.watch(fd.as_fd(), token, false)?;
        if kind == Kind::Pipe {
            descriptor::set_pipe_size(fd.as_fd(), LARGEST_PIPE);
        }
        if is_watched {
            return Ok(Source::Here { fd, cutter, may_wait: !is_nonblocking });
        }
        let ahead = ReadAhead::start(fd, cutter, self.buffers.clone())?;
        self.poller.watch(ahead.news().as_fd(), token, false)?;
        Ok(Source::Ahead(ahead))
    }

    fn open_feed(&mut self, fd: &OwnedFd, token: Token) -> io::Result<Stdout> {
        let (fd, kind, is_nonblocking) = descriptor::private(fd.as_fd(), true)?;
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
        Ok(Stdout::Feed(feed))
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
        if self.broker.is_blocked(producer) || self.broker.leads_nowhere(producer) {
            return;
        }
        let read = match &mut stdin.source {
            Source::Here { fd, may_wait: true, .. } if !descriptor::is_ready(fd.as_fd(), false) => {
                stdin.is_readable = false;
                return;
            }
            Source::Here { fd, cutter, .. } => cutter.read(fd.as_fd(), &self.buffers),
            Source::Ahead(ahead) => ahead.take(),
            Source::Inside(inside) => Ok(Ok(inside.take())),
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

    fn publish_stdin(&mut self, block: Block, framing: Framing) {
        let Some(producer) = self.broker.stdin() else { return };
        // What the program sends has just been coded.
        let is_inside = matches!(&self.stdin, Some(Stdin { source: Source::Inside(_), .. }));
        let is_json = !is_inside
            && self
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
        let Some(producer) = self.broker.stdin() else { return };
        if let Source::Inside(inside) = &stdin.source {
            inside.0.close();
            // It was sent, so that it is in flight.
            if let Cut::Read { block, .. } = inside.take() {
                self.broker.publish(producer, block);
            }
        }
        self.broker.end_producer(producer);
    }

    // ---- standard output

    pub(super) fn stdout_has_room(&mut self) {
        match &mut self.stdout {
            Some(Stdout::Feed(feed)) => feed.is_writable = true,
            Some(Stdout::Inside { sink, .. }) => {
                if let Some(unread) = sink.0.unread() {
                    return self.nobody_reads(unread);
                }
            }
            None => {}
        }
        self.pump_stdout();
    }

    /// The program has let go of its end, with these records in it.
    fn nobody_reads(&mut self, unread: Vec<(usize, u64)>) {
        for (queue, records) in unread {
            self.broker.undeliver(None, queue, records);
            self.broker.discard(queue, records, Reason::ConsumerEnded);
        }
        self.close_stdout();
    }

    pub(super) fn pump_stdout(&mut self) {
        match &self.stdout {
            Some(Stdout::Feed(_)) => self.pump_descriptor(),
            Some(Stdout::Inside { sink, .. }) => {
                let outlet = Arc::clone(&sink.0);
                self.pump_inside(&outlet);
            }
            None => {}
        }
    }

    fn pump_inside(&mut self, outlet: &Outlet) {
        while let Some((bytes, records)) = outlet.room() {
            let Some((queue, block)) = self.broker.take(Consumer::Stdout, 0, bytes, records) else { break };
            self.broker.deliver(None, queue, block.records);
            match self.without_segments(block) {
                Ok(block) => outlet.put(queue, block),
                Err(error) => return self.stdout_failed(&error),
            }
            self.has_moved = true;
        }
        if self.broker.is_ended(Consumer::Stdout, 0) {
            outlet.end();
        }
    }

    fn pump_descriptor(&mut self) {
        while let Some(Stdout::Feed(feed)) = self.stdout.as_mut() {
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
        let Some(Stdout::Feed(feed)) = self.stdout.as_mut() else { return };
        let mut wrote = Vec::new();
        let broker = &self.broker;
        let result = feed.write(|queue| broker.framing(queue), |queue, records| wrote.push((queue, records)));
        for (queue, records) in wrote {
            self.broker.deliver(None, queue, records);
        }
        self.has_moved = true;
        match result {
            Ok(Wrote::All | Wrote::Part) => {}
            Ok(Wrote::Closed) => self.close_stdout(),
            Err(error) => self.stdout_failed(&error),
        }
    }

    /// The stages that feed standard output cannot go on.
    fn stdout_failed(&mut self, error: &io::Error) {
        let fed = self.plan.queues.iter().filter(|queue| queue.to.is_none());
        let stages: Vec<usize> = fed.filter_map(|queue| Some(queue.from?.stage)).collect();
        for stage in stages {
            self.fail_stage(stage, None, format!("cannot write standard output: {error}"));
        }
        self.close_stdout();
    }

    /// Nobody reads standard output any more: what feeds it learns that, as in a shell pipe.
    fn close_stdout(&mut self) {
        match self.stdout.take() {
            Some(Stdout::Feed(feed)) => {
                for (queue, records) in feed.unwritten() {
                    self.broker.discard(queue, records, Reason::ConsumerEnded);
                }
                self.poller.forget(feed.fd().as_fd());
                self.tokens.remove(feed.token);
            }
            Some(Stdout::Inside { sink, token }) => {
                self.poller.forget(sink.0.news());
                self.tokens.remove(token);
            }
            None => {}
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
        self.stdout.is_some() && self.broker.waiting(Consumer::Stdout, 0) > 0 || self.writes_stdout()
    }

    /// Whether something is on its way to standard output that it does not take.
    pub(super) fn writes_stdout(&self) -> bool {
        match &self.stdout {
            Some(Stdout::Feed(feed)) => !feed.is_idle(),
            Some(Stdout::Inside { .. }) => self.broker.waiting(Consumer::Stdout, 0) > 0,
            None => false,
        }
    }
}
