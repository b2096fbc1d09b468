//! Records from the program into the run.

use std::io;
use std::os::fd::BorrowedFd;

use super::Patience;
use super::meeting::Meeting;
use crate::ipc::{Block, Packer};
use crate::model::Format;

/// Records that wait for the run's thread at most, in bytes: little beside a queue, and enough for the time that one
/// turn of the run takes.
const MAX_BYTES: usize = 256 << 10;

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There was no room in time.
    Full,
    /// The run takes no more.
    Closed,
}

/// What the run finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Block(Block),
    Nothing,
    /// Every sender is gone, and all that they sent was taken.
    End,
}

#[derive(Debug)]
struct State {
    packer: Packer,
    /// The run knows that there is something to take.
    is_told: bool,
    senders: usize,
    waiting: usize,
    is_closed: bool,
}

/// See [the module](super).
#[derive(Debug)]
pub(crate) struct Inlet {
    meeting: Meeting<State>,
    max_records: u64,
}

impl Inlet {
    /// For records of this format, of which so many may wait; with one sender.
    pub(crate) fn new(format: Format, max_records: u64) -> io::Result<Self> {
        let state = State {
            packer: Packer::new(format, max_records),
            is_told: false,
            senders: 1,
            waiting: 0,
            is_closed: false,
        };
        Ok(Self { meeting: Meeting::new(state)?, max_records })
    }

    // ---- the program's side

    /// Adds a record by its body. One that is larger than all room goes alone.
    pub(crate) fn send(&self, body: &[u8], patience: Patience) -> Result<(), Refused> {
        let mut state = self.meeting.lock();
        loop {
            if state.is_closed {
                return Err(Refused::Closed);
            }
            let records = state.packer.records();
            if records == 0 || records < self.max_records && state.packer.len() + body.len() <= MAX_BYTES {
                break;
            }
            state.waiting += 1;
            let has_time;
            (state, has_time) = self.meeting.wait(state, patience);
            state.waiting -= 1;
            if !has_time {
                return Err(if state.is_closed { Refused::Closed } else { Refused::Full });
            }
        }
        state.packer.push(body);
        let is_told = std::mem::replace(&mut state.is_told, true);
        drop(state);
        if !is_told {
            self.meeting.tell();
        }
        Ok(())
    }

    /// One more sender.
    pub(crate) fn join(&self) {
        self.meeting.lock().senders += 1;
    }

    /// One sender less. With the last one the input is at its end.
    pub(crate) fn leave(&self) {
        let mut state = self.meeting.lock();
        state.senders -= 1;
        let is_last = state.senders == 0;
        drop(state);
        if is_last {
            self.meeting.tell();
        }
    }

    // ---- the run's side

    /// To wait on, by edges: there may be something to take.
    pub(crate) fn news(&self) -> BorrowedFd<'_> {
        self.meeting.news()
    }

    /// All that was sent since the last call.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.meeting.lock();
        state.is_told = false;
        if state.packer.records() == 0 {
            return if state.senders == 0 { Taken::End } else { Taken::Nothing };
        }
        let block = state.packer.take();
        let has_waiting = state.waiting > 0;
        drop(state);
        if has_waiting {
            self.meeting.wake_all();
        }
        Taken::Block(block)
    }

    /// Nothing is taken any more: whoever waits, or sends later, is told so.
    pub(crate) fn close(&self) {
        self.meeting.lock().is_closed = true;
        self.meeting.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ipc::bodies;

    fn taken(inlet: &Inlet) -> Option<Vec<u8>> {
        match inlet.take() {
            Taken::Block(block) => Some(bodies(Format::Lines, &block.data).flatten().copied().collect()),
            Taken::Nothing | Taken::End => None,
        }
    }

    #[test]
    fn what_is_sent_between_two_looks_is_one_block() {
        let inlet = Inlet::new(Format::Lines, u64::MAX).unwrap();
        assert_eq!(inlet.take(), Taken::Nothing);
        for body in [b"a", b"b"] {
            inlet.send(body, Patience::None).unwrap();
        }
        assert_eq!(inlet.meeting.tellings(), 1, "it was told once");
        assert_eq!(taken(&inlet).unwrap(), b"ab");
        inlet.leave();
        assert_eq!(inlet.take(), Taken::End);
    }

    #[test]
    fn a_full_inlet_refuses_waits_and_times_out() {
        let inlet = Arc::new(Inlet::new(Format::Lines, 1).unwrap());
        inlet.send(&[b'x'; MAX_BYTES * 2], Patience::None).unwrap();
        assert_eq!(inlet.send(b"y", Patience::None), Err(Refused::Full));
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(inlet.send(b"y", Patience::Until(soon)), Err(Refused::Full));
        assert!(Instant::now() >= soon);
        let sender = {
            let inlet = Arc::clone(&inlet);
            thread::spawn(move || inlet.send(b"y", Patience::Endless))
        };
        while inlet.meeting.lock().waiting == 0 {
            thread::yield_now();
        }
        assert_eq!(taken(&inlet).unwrap().len(), MAX_BYTES * 2);
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_eq!(taken(&inlet).unwrap(), b"y");
    }

    #[test]
    fn closing_wakes_whoever_waits() {
        let inlet = Arc::new(Inlet::new(Format::Lines, 1).unwrap());
        inlet.send(b"x", Patience::None).unwrap();
        let sender = {
            let inlet = Arc::clone(&inlet);
            thread::spawn(move || inlet.send(b"y", Patience::Endless))
        };
        while inlet.meeting.lock().waiting == 0 {
            thread::yield_now();
        }
        inlet.close();
        assert_eq!(sender.join().unwrap(), Err(Refused::Closed));
        assert_eq!(inlet.send(b"z", Patience::None), Err(Refused::Closed));
    }
}
