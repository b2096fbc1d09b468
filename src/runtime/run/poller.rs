//! What the loop waits on: descriptors in one epoll set, edge-triggered.
//!
//! Edges cost no system call per read or write; in exchange the loop remembers what is ready. A token names an
//! entry of [`Tokens`] and its generation, so that an event of a closed descriptor is recognised.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Names what an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    fn to_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_data(data: u64) -> Self {
        let low = u32::try_from(data & u64::from(u32::MAX)).expect("masked to 32 bits");
        Self { index: low, generation: u32::try_from(data >> 32).expect("shifted to 32 bits") }
    }
}

/// What each token stands for.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T: Copy> Tokens<T> {
    pub(super) fn add(&mut self, what: T) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 descriptors")
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(what);
        Token { index, generation: entry.0 }
    }

    pub(super) fn get(&self, token: Token) -> Option<T> {
        let (generation, what) = *self.entries.get(token.index as usize)?;
        what.filter(|_| generation == token.generation)
    }

    pub(super) fn remove(&mut self, token: Token) {
        let Some(entry) = self.entries.get_mut(token.index as usize) else { return };
        if entry.0 == token.generation && entry.1.take().is_some() {
            entry.0 = entry.0.wrapping_add(1);
            self.free.push(token.index);
        }
    }
}

/// What has come for one token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: Token,
    /// The other side is gone.
    pub(super) hung_up: bool,
}

/// Events taken at once.
const EVENTS: usize = 1024;

/// The epoll set.
pub(super) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    /// Watches a descriptor until it is closed. `false`: it is of a kind that is always ready (a regular file).
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, token: Token, write: bool) -> io::Result<bool> {
        let interest = if write { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        let event = EpollEvent::new(interest | EpollFlags::EPOLLET, token.to_data());
        match self.epoll.add(fd, event) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches for something to read, and for room where that is waited for.
    pub(super) fn watch_for_room(&self, fd: BorrowedFd<'_>, token: Token, room: bool) -> io::Result<()> {
        let mut interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        interest.set(EpollFlags::EPOLLOUT, room);
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(interest, token.to_data()))?)
    }

    /// Forgets a descriptor that somebody else may hold open as well.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits for events, at most so long; `None`: until one comes.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            // Up to the next millisecond: to wake too early would only mean to wait again.
            Some(time) => {
                let millis = time.as_micros().div_ceil(1000);
                EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
            }
        };
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            // This process was stopped and goes on, perhaps long after the timeout. What has happened meanwhile comes
            // before what is due by now.
            Err(Errno::EINTR) => self.epoll.wait(&mut self.events, EpollTimeout::ZERO).unwrap_or(0),
            Err(error) => return Err(error.into()),
        };
        ready.extend(self.events[..count].iter().map(|event| {
            let flags = event.events();
            Ready {
                token: Token::from_data(event.data()),
                hung_up: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
            }
        }));
        Ok(())
    }
}
