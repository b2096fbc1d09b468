//! A file on standard input, read by a thread of its own.
//!
//! A regular file is always ready, whatever its flags say, so that reading it can stop the whole run for as long as its
//! disk or its server takes. And as it is never waited for, the loop would have to read, cut and count all of it itself:
//! half of the work of a run that only passes it on, where another processor has nothing to do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::ipc::{Block, Buffers, Cut, Cutter, Oversize};

/// Reads that wait to be taken at most: one, and the next is in the making.
pub(crate) const READS_AHEAD: usize = 1;

/// What one read came to.
type Read = io::Result<Result<Cut, Oversize>>;

/// The loop's end. The thread ends when this is dropped, or with the file.
#[derive(Debug)]
pub(super) struct ReadAhead {
    reads: Receiver<Read>,
    news: Arc<EventFd>,
}

impl ReadAhead {
    pub(super) fn start(fd: OwnedFd, cutter: Cutter, buffers: Buffers) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let news = Arc::new(EventFd::from_flags(flags)?);
        let tells = Arc::clone(&news);
        let (sender, reads) = bounded(READS_AHEAD);
        std::thread::Builder::new()
            .name("mpflow-stdin".to_owned())
            .spawn(move || read_all(&fd, cutter, &buffers, &sender, &tells))?;
        Ok(Self { reads, news })
    }

    /// To wait on, by edges: there may be a read to take.
    pub(super) fn news(&self) -> &EventFd {
        &self.news
    }

    /// The next read, where there is one.
    pub(super) fn take(&self) -> Read {
        match self.reads.try_recv() {
            Ok(read) => read,
            Err(TryRecvError::Empty) => Ok(Ok(Cut::Nothing)),
            // After an end or an error nobody asks; otherwise the thread has panicked.
            Err(TryRecvError::Disconnected) => Ok(Ok(Cut::End { block: Block::default() })),
        }
    }
}

fn read_all(fd: &OwnedFd, mut cutter: Cutter, buffers: &Buffers, reads: &Sender<Read>, news: &EventFd) {
    loop {
        let read = cutter.read(fd.as_fd(), buffers);
        let is_last = !matches!(read, Ok(Ok(Cut::Read { .. })));
        // Nobody takes it: standard input was closed.
        if reads.send(read).is_err() || news.write(1).is_err() || is_last {
            return;
        }
    }
}
