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

/// Work that a worker has ahead of it at most, however seldom the loop comes by.
const LONGEST_AHEAD: Duration = Duration::from_millis(64);

/// Rounds of the loop that a worker's work is to last for: it is given more when half of it is left, and what it
/// answers comes as late as what it is given.
const ROUNDS_AHEAD: u32 = 4;

/// Records ahead at most, so that what a dead worker gives back stays small.
const MOST_AHEAD: f64 = 16_384.0;

/// How long the loop's rounds take, smoothed.
///
/// Between two looks at a worker the loop serves all others. Where these are hundreds that is longer than [`AHEAD`]:
/// a worker with that much work would wait for the next look, what it did would seem to have taken all that time, it
/// would be given less, and at last one record a round.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    seconds: f64,
}

impl Rounds {
    /// A round has taken so long, from hearing of events until listening again.
    pub(super) fn took(&mut self, round: Duration) {
        // The machine may have stood still, which says nothing of the next round.
        let round = round.min(LONGEST_AHEAD).as_secs_f64();
        self.seconds = self.seconds * 0.875 + round * 0.125;
    }

    /// Work that each `map` worker should have ahead of it.
    pub(super) fn ahead(&self) -> Duration {
        Duration::from_secs_f64(self.seconds).saturating_mul(ROUNDS_AHEAD).clamp(AHEAD, LONGEST_AHEAD)
    }
}

/// Records that a `map` worker is given ahead: as many as it answers in the time that [`Rounds::ahead`] says.
#[derive(Debug)]
pub(super) struct MapWindow {
    /// Set by the user.
    fixed: Option<u64>,
    pace: Option<Pace>,
    since: Instant,
}

/// How fast a worker answers: time and records, of which each answer makes those before it weigh less. Their ratio
/// follows a worker that answers more at once much faster than the average of ratios would.
#[derive(Debug, Clone, Copy)]
struct Pace {
    seconds: f64,
    records: f64,
    /// Nothing else is known yet: the start of its program is in it, which says nothing of a record.
    is_first: bool,
}

impl Pace {
    /// Part of what was known that still counts at the next answer.
    const KEPT: f64 = 0.75;

    fn after(before: Option<Self>, seconds: f64, records: f64) -> Self {
        match before {
            None => Self { seconds, records, is_first: true },
            Some(Self { is_first: true, .. }) => Self { seconds, records, is_first: false },
            Some(before) => Self {
                seconds: before.seconds * Self::KEPT + seconds,
                records: before.records * Self::KEPT + records,
                is_first: false,
            },
        }
    }

    fn records_in(self, time: Duration) -> u64 {
        let records = time.as_secs_f64() * self.records / self.seconds.max(1e-9);
        records.clamp(1.0, MOST_AHEAD) as u64
    }
}

impl MapWindow {
    pub(super) fn new(prefetch: Option<usize>, now: Instant) -> Self {
        Self { fixed: prefetch.map(|records| records as u64), pace: None, since: now }
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
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.pace = Some(Pace::after(self.pace, seconds, records.max(1) as f64));
        self.since = now;
    }

    /// Records that it should hold at most, to have so much work ahead of it.
    pub(super) fn records(&self, ahead: Duration) -> u64 {
        match (self.fixed, self.pace) {
            (Some(records), _) => records,
            (None, None) => 1,
            (None, Some(pace)) => pace.records_in(ahead),
        }
    }

    /// Whether one that holds so many should get more now: below half, so that several go in one write.
    pub(super) fn wants_more(&self, held: u64, ahead: Duration) -> bool {
        let target = self.records(ahead);
        if self.fixed.is_some() { held < target } else { held * 2 <= target && held < target }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(window.records(AHEAD), 1);
        window.answered(1, start + Duration::from_secs(1));
        assert_eq!(window.records(AHEAD), 1);
        for answer in 1..100 {
            window.answered(100, start + Duration::from_secs(1) + answer * Duration::from_micros(100));
        }
        let most = window.records(AHEAD);
        assert!(most > 1000 && !window.wants_more(most - 1, AHEAD) && window.wants_more(0, AHEAD));
        assert_eq!(MapWindow::new(Some(7), start).records(AHEAD), 7);
    }

    #[test]
    fn the_start_of_a_map_worker_counts_until_it_has_answered_twice() {
        let start = Instant::now();
        let mut window = MapWindow::new(None, start);
        window.answered(1, start + Duration::from_secs(3600));
        assert_eq!(window.records(AHEAD), 1);
        window.answered(1, start + Duration::from_secs(3600) + Duration::from_micros(40));
        assert_eq!(window.records(AHEAD), 100);
    }

    #[test]
    fn one_long_round_of_the_loop_is_forgotten() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.ahead(), AHEAD);
        rounds.took(Duration::from_secs(3600));
        for _ in 0..32 {
            rounds.took(Duration::from_micros(100));
        }
        assert_eq!(rounds.ahead(), AHEAD);
    }

    /// A loop that looks at each of so many workers once in a round, which takes it `look` for each of them, and workers
    /// of their own that do a record in `work`. What one of them holds at the end of many rounds, and how long a round is.
    fn held_in_the_end(workers: u32, look: Duration, work: Duration) -> (u64, Duration) {
        let (mut window, mut rounds, mut now) =
            (MapWindow::new(None, Instant::now()), Rounds::default(), Instant::now());
        let round = workers * look;
        let (mut held, mut busy_until) = (0u64, now);
        for _ in 0..1000 {
            now += round;
            rounds.took(round);
            let left =
                (busy_until.saturating_duration_since(now).as_nanos()).div_ceil(work.as_nanos()) as u64;
            if left < held {
                window.answered(held - left, now);
                held = left;
            }
            if window.wants_more(held, rounds.ahead()) {
                let more = window.records(rounds.ahead()) - held;
                if held == 0 {
                    window.begins(now);
                }
                busy_until = busy_until.max(now) + work * u32::try_from(more).unwrap();
                held += more;
            }
        }
        (held, round)
    }

    proptest! {
        #[test]
        fn map_workers_that_the_loop_seldom_sees_always_have_something_to_do_and_never_hoard(
            workers in 1u32..400,
            look_micros in 1u64..40,
            work_micros in 1u64..2_000_000,
        ) {
            let (look, work) = (Duration::from_micros(look_micros), Duration::from_micros(work_micros));
            let (held, round) = held_in_the_end(workers, look, work);
            let held_work = work * u32::try_from(held).unwrap();
            // Half of it lasts for a round.
            prop_assert!(held_work * 2 >= round.min(work * (MOST_AHEAD as u32)), "{held} {round:?}");
            // Nothing that takes longer than the longest way waits behind another.
            prop_assert!(held <= 1 || held_work <= LONGEST_AHEAD.max(round), "{held} {round:?}");
            if round * ROUNDS_AHEAD <= AHEAD {
                prop_assert!(held <= 1 || held_work <= AHEAD, "{held} {round:?}");
            }
        }
    }
}
