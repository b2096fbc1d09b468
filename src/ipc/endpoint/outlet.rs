//! Records from the run to the program.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::Patience;
use super::meeting::Meeting;
use crate::ipc::Block;

/// Records that wait for the program at most, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the program finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Records of this queue.
    Block(usize, Block),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    End,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<(usize, Block)>,
    bytes: u64,
    records: u64,
    is_awaited: bool,
    has_ended: bool,
    /// The run wants to be told when there is room again.
    run_waits: bool,
    /// The program has let go of its end: what it did not read, by queue.
    unread: Option<Vec<(usize, u64)>>,
}

/// See [the module](super).
#[derive(Debug)]
pub(crate) struct Outlet {
    meeting: Meeting<State>,
    max_records: u64,
}

impl Outlet {
    /// Where so many records may wait.
    pub(crate) fn new(max_records: u64) -> io::Result<Self> {
        Ok(Self { meeting: Meeting::new(State::default())?, max_records })
    }

    // ---- the run's side

    /// To wait on, by edges: there may be room, or nobody reads any more.
    pub(crate) fn news(&self) -> BorrowedFd<'_> {
        self.meeting.news()
    }

    /// Room in bytes and records; none: it is told when there is.
    pub(crate) fn room(&self) -> Option<(usize, u64)> {
        let mut state = self.meeting.lock();
        let bytes = MAX_BYTES.saturating_sub(state.bytes);
        let records = self.max_records.saturating_sub(state.records);
        if state.blocks.is_empty() {
            return Some((usize::try_from(bytes).unwrap_or(usize::MAX), records));
        }
        if bytes == 0 || records == 0 {
            state.run_waits = true;
            return None;
        }
        Some((usize::try_from(bytes).unwrap_or(usize::MAX), records))
    }

    /// Hands records of a queue over.
    pub(crate) fn put(&self, queue: usize, block: Block) {
        let mut state = self.meeting.lock();
        state.bytes += block.cost();
        state.records += block.records;
        state.blocks.push_back((queue, block));
        let is_awaited = state.is_awaited;
        drop(state);
        if is_awaited {
            self.meeting.wake_one();
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.meeting.lock().has_ended = true;
        self.meeting.wake_one();
    }

    /// Once nobody reads any more, what was not read, by queue.
    pub(crate) fn unread(&self) -> Option<Vec<(usize, u64)>> {
        self.meeting.lock().unread.clone()
    }

    // ---- the program's side

    /// The next records, in the order in which they came.
    pub(crate) fn next(&self, patience: Patience) -> Next {
        let mut state = self.meeting.lock();
        loop {
            if let Some((queue, block)) = state.blocks.pop_front() {
                state.bytes -= block.cost();
                state.records -= block.records;
                // Half of it, so that not every block read wakes the run for the next.
                let has_room = state.bytes <= MAX_BYTES / 2 && state.records <= self.max_records / 2;
                let is_told = has_room && std::mem::take(&mut state.run_waits);
                drop(state);
                if is_told {
                    self.meeting.tell();
                }
                return Next::Block(queue, block);
            }
            if state.has_ended {
                return Next::End;
            }
            state.is_awaited = true;
            let has_time;
            (state, has_time) = self.meeting.wait(state, patience);
            state.is_awaited = false;
            if !has_time && state.blocks.is_empty() && !state.has_ended {
                return Next::Nothing;
            }
        }
    }

    /// The program reads no more; of what it took last it did not use so many records.
    pub(crate) fn leave(&self, unused: Option<(usize, u64)>) {
        let mut state = self.meeting.lock();
        let waiting = std::mem::take(&mut state.blocks);
        let waiting = waiting.into_iter().map(|(queue, block)| (queue, block.records));
        state.unread = Some(unused.into_iter().chain(waiting).collect());
        drop(state);
        self.meeting.tell();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ipc::Framing;

    fn block(text: &'static str) -> Block {
        Block::whole(text.as_bytes().into(), Framing::EndedBy(b'\n'))
    }

    #[test]
    fn a_reader_is_woken_by_records_and_by_the_end() {
        let outlet = Arc::new(Outlet::new(u64::MAX).unwrap());
        let reader = {
            let outlet = Arc::clone(&outlet);
            thread::spawn(move || [outlet.next(Patience::Endless), outlet.next(Patience::Endless)])
        };
        while !outlet.meeting.lock().is_awaited {
            thread::yield_now();
        }
        outlet.put(3, block("a\n"));
        outlet.end();
        assert_eq!(reader.join().unwrap(), [Next::Block(3, block("a\n")), Next::End]);
    }

    #[test]
    fn nothing_in_time_is_said_as_that() {
        let outlet = Outlet::new(u64::MAX).unwrap();
        assert_eq!(outlet.next(Patience::None), Next::Nothing);
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(outlet.next(Patience::Until(soon)), Next::Nothing);
        assert!(Instant::now() >= soon);
    }

    #[test]
    fn the_run_is_told_of_room_once_half_of_it_is_free() {
        let outlet = Outlet::new(2).unwrap();
        outlet.put(0, block("a\n"));
        assert_eq!(outlet.room().unwrap().1, 1);
        outlet.put(0, block("b\n"));
        assert_eq!(outlet.room(), None);
        assert_eq!(outlet.meeting.tellings(), 0);
        assert_eq!(outlet.next(Patience::None), Next::Block(0, block("a\n")));
        assert_eq!(outlet.meeting.tellings(), 1);
    }

    #[test]
    fn what_was_not_read_is_known_by_queue() {
        let outlet = Outlet::new(u64::MAX).unwrap();
        outlet.put(0, block("a\nb\n"));
        outlet.put(1, block("c\n"));
        assert_eq!(outlet.unread(), None);
        outlet.leave(Some((0, 5)));
        assert_eq!(outlet.unread().unwrap(), [(0, 5), (0, 2), (1, 1)]);
    }
}
