//! How much one worker is given ahead.

use std::time::{Duration, Instant};

/// A pipe of one page is writable exactly when it is empty: the sign that a slow worker wants more.
pub(crate) const ONE_PAGE: usize = 4096;

/// The largest pipe that an unprivileged process may ask for, `/proc/sys/fs/pipe-max-size`.
pub(crate) const LARGEST_PIPE: usize = 1 << 20;

/// A worker that has taken what it was given within this time may be given more at once.
const FAST: Duration = Duration::from_millis(2);

/// A worker that has not within this time is given less, so that others can share.
const SLOW: Duration = Duration::from_millis(20);

/// Bytes that a `stream` worker is given ahead: little while records are slow, so that a pool shares evenly and
/// nobody idles beside a full neighbour, much when they are fast. It starts with one record.
#[derive(Debug)]
pub(super) struct StreamWindow {
    bytes: usize,
    pipe: usize,
    waits_since: Option<Instant>,
    /// Alone in its pool: there is nobody to share with.
    is_alone: bool,
    /// What it was given last lies in shared memory.
    is_large: bool,
}

impl StreamWindow {
    pub(super) fn new(is_alone: bool) -> Self {
        let bytes = if is_alone { LARGEST_PIPE } else { 1 };
        // The kernel's default; a pool's pipe is made a page by who opens it.
        let pipe = if is_alone { 16 * ONE_PAGE } else { ONE_PAGE };
        Self { bytes, pipe, waits_since: None, is_alone, is_large: false }
    }

    /// Whether there is nobody to share with has changed.
    pub(super) fn is_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Bytes of the next share at most; one record goes in any case.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it takes the most that is given at once so fast that blocks need not be split for others to have
    /// their part.
    pub(super) fn takes_whole_blocks(&self) -> bool {
        self.bytes >= LARGEST_PIPE
    }

    /// Whether a worker that has been given a share is given no more until it has taken that.
    pub(super) fn is_one_at_a_time(&self) -> bool {
        self.pipe <= ONE_PAGE
    }

    /// The worker gets records that lie in shared memory, or others. Hundreds that only name such memory would fit
    /// into any pipe but one of a page, and all of it would wait there. Returns the size that its pipe should have.
    pub(super) fn given(&mut self, is_large: bool) -> Option<usize> {
        self.is_large = is_large;
        (is_large && self.pipe > ONE_PAGE).then_some(ONE_PAGE)
    }

    /// Whether what the worker was given last lies in shared memory.
    pub(super) fn is_large(&self) -> bool {
        self.is_large
    }

    /// The worker was given all that it may have.
    pub(super) fn full(&mut self, now: Instant) {
        self.waits_since.get_or_insert(now);
    }

    /// The worker has room again. Returns the size that its pipe should have, where that changes.
    pub(super) fn room(&mut self, now: Instant) -> Option<usize> {
        let took = now.saturating_duration_since(self.waits_since.take()?);
        if took <= FAST {
            self.bytes = (self.bytes.max(64) * 4).min(LARGEST_PIPE);
        } else if took >= SLOW && !self.is_alone {
            self.bytes = (self.bytes / 2).max(1);
        }
        if self.is_large {
            return None;
        }
        let pipe = self.bytes.next_power_of_two().clamp(ONE_PAGE, LARGEST_PIPE);
        (pipe != self.pipe && (pipe > self.pipe || pipe * 4 <= self.pipe)).then_some(pipe)
    }

    /// The pipe has this size now.
    pub(super) fn resized(&mut self, pipe: usize) {
        self.pipe = pipe;
    }
}

/// Work that a `map` worker should have ahead of it: enough to bridge the way to the engine and back, which is
/// some 100 µs on a busy machine, and little enough not to hoard.
const AHEAD: Duration = Duration::from_millis(4);

/// Records ahead at most, so that what a dead worker gives back stays small.
const MOST_AHEAD: f64 = 16_384.0;

/// Records that a `map` worker is given ahead: as many as it answers in [`AHEAD`].
#[derive(Debug)]
pub(super) struct MapWindow {
    /// Set by the user.
    fixed: Option<u64>,
    /// Smoothed time per record, in seconds; `None` before the first answer.
    service: Option<f64>,
    since: Instant,
}

impl MapWindow {
    pub(super) fn new(prefetch: Option<usize>, now: Instant) -> Self {
        Self { fixed: prefetch.map(|records| records as u64), service: None, since: now }
    }

    /// An idle worker was given records.
    pub(super) fn begins(&mut self, now: Instant) {
        self.since = now;
    }

    /// Since when the worker has been at the record it works on.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The worker has answered so many records.
    pub(super) fn answered(&mut self, records: u64, now: Instant) {
        let each = now.saturating_duration_since(self.since).as_secs_f64() / records.max(1) as f64;
        self.service = Some(self.service.map_or(each, |before| before * 0.75 + each * 0.25));
        self.since = now;
    }

    /// Records that it should hold at most.
    pub(super) fn records(&self) -> u64 {
        match (self.fixed, self.service) {
            (Some(records), _) => records,
            (None, None) => 1,
            (None, Some(service)) => (AHEAD.as_secs_f64() / service.max(1e-9)).clamp(1.0, MOST_AHEAD) as u64,
        }
    }

    /// Whether one that holds so many should get more now: below half, so that several go in one write.
    pub(super) fn wants_more(&self, held: u64) -> bool {
        let target = self.records();
        if self.fixed.is_some() { held < target } else { held * 2 <= target && held < target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_worker_is_given_more_and_a_slow_one_less() {
        let (mut window, start) = (StreamWindow::new(false), Instant::now());
        assert_eq!((window.bytes(), window.is_one_at_a_time()), (1, true));
        for _ in 0..8 {
            window.full(start);
            if let Some(size) = window.room(start + Duration::from_micros(50)) {
                window.resized(size);
            }
        }
        assert_eq!((window.bytes(), window.is_one_at_a_time()), (LARGEST_PIPE, false));
        for _ in 0..20 {
            window.full(start);
            if let Some(size) = window.room(start + Duration::from_millis(50)) {
                window.resized(size);
            }
        }
        assert_eq!((window.bytes(), window.is_one_at_a_time()), (1, true));
    }

    #[test]
    fn a_worker_that_gets_shared_memory_has_a_pipe_of_one_page_until_it_gets_other_records() {
        let (mut window, start) = (StreamWindow::new(true), Instant::now());
        let mut given = |is_large| {
            let shrunk = window.given(is_large).inspect(|&size| window.resized(size));
            window.full(start);
            (shrunk, window.room(start).inspect(|&size| window.resized(size)))
        };
        assert_eq!(given(false), (None, Some(LARGEST_PIPE)));
        assert_eq!(given(true), (Some(ONE_PAGE), None));
        assert_eq!(given(true), (None, None));
        assert_eq!(given(false), (None, Some(LARGEST_PIPE)));
    }

    #[test]
    fn a_map_worker_holds_what_it_does_in_some_milliseconds() {
        let start = Instant::now();
        let mut window = MapWindow::new(None, start);
        assert_eq!(window.records(), 1);
        window.answered(1, start + Duration::from_secs(1));
        assert_eq!(window.records(), 1);
        for answer in 1..100 {
            window.answered(100, start + Duration::from_secs(1) + answer * Duration::from_micros(100));
        }
        assert!(window.records() > 1000 && !window.wants_more(window.records() - 1) && window.wants_more(0));
        assert_eq!(MapWindow::new(Some(7), start).records(), 7);
    }
}
