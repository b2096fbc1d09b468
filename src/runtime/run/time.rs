//! The clock of a run: it stands still while the run is suspended.
//!
//! Grace periods, waits before a restart or another attempt, timeouts of records, stages and probes: all deadlines of a
//! run are moments of this clock, and nothing else in the runtime reads another for them. So a worker that was
//! stopped with the run has after it the time left that it had before.

use std::time::{Duration, Instant};

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct RunClock {
    /// How long the run has been suspended in all, until the last time that it was continued.
    suspended: Duration,
    /// Since when it is suspended, in real time.
    since: Option<Instant>,
    /// When it was last continued, in real time.
    continued_at: Option<Instant>,
}

impl RunClock {
    /// Now, in the time of the run: behind the real one by all the time that it was suspended.
    pub(super) fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    /// Now, in real time and in that of the run.
    pub(super) fn both(&self) -> (Instant, Instant) {
        let real = Instant::now();
        (real, self.at(real))
    }

    fn at(&self, real: Instant) -> Instant {
        let shown = self.since.unwrap_or(real);
        // An instant so near to the machine's start that it cannot be moved back is only possible without a suspension.
        shown.checked_sub(self.suspended).unwrap_or(shown)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.since.is_some()
    }

    /// Stops it; `false` where it stands still already.
    pub(super) fn suspend(&mut self) -> bool {
        self.suspend_at(Instant::now())
    }

    fn suspend_at(&mut self, real: Instant) -> bool {
        let was_running = self.since.is_none();
        self.since.get_or_insert(real);
        was_running
    }

    /// Lets it go on; `false` where it goes already.
    pub(super) fn resume(&mut self) -> bool {
        self.resume_at(Instant::now())
    }

    fn resume_at(&mut self, real: Instant) -> bool {
        let Some(since) = self.since.take() else { return false };
        self.suspended += real.saturating_duration_since(since);
        self.continued_at = Some(real);
        true
    }

    /// Whether the run was suspended at some time since this moment of the real clock.
    pub(super) fn stood_still_since(&self, real: Instant) -> bool {
        self.is_suspended() || self.continued_at.is_some_and(|continued| continued >= real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deadline_is_as_far_away_after_a_suspension_as_it_was_before() {
        let (mut clock, start) = (RunClock::default(), Instant::now());
        let deadline = clock.at(start) + 10 * SECOND;
        let left = |clock: &RunClock, real: Instant| deadline.saturating_duration_since(clock.at(real));
        assert_eq!(left(&clock, start + 3 * SECOND), 7 * SECOND);
        assert!(clock.suspend_at(start + 4 * SECOND));
        assert_eq!(left(&clock, start + 4 * SECOND), 6 * SECOND);
        assert_eq!(left(&clock, start + 1000 * SECOND), 6 * SECOND, "it stands still");
        assert!(clock.resume_at(start + 1004 * SECOND));
        assert_eq!(left(&clock, start + 1004 * SECOND), 6 * SECOND);
        assert_eq!(left(&clock, start + 1010 * SECOND), Duration::ZERO);
    }

    #[test]
    fn to_suspend_or_to_continue_twice_changes_nothing() {
        let (mut clock, start) = (RunClock::default(), Instant::now());
        assert!(!clock.resume_at(start), "it goes already");
        assert!(clock.suspend_at(start) && !clock.suspend_at(start + SECOND));
        assert!(clock.resume_at(start + 5 * SECOND) && !clock.resume_at(start + 9 * SECOND));
        assert!(clock.suspend_at(start + 10 * SECOND) && clock.resume_at(start + 11 * SECOND));
        assert_eq!(clock.at(start + 20 * SECOND), start + 14 * SECOND, "5 s and 1 s are left out");
    }

    #[test]
    fn what_began_before_the_end_of_a_suspension_is_known() {
        let (mut clock, start) = (RunClock::default(), Instant::now());
        assert!(!clock.stood_still_since(start));
        let _ = clock.suspend_at(start + SECOND);
        assert!(clock.stood_still_since(start));
        let _ = clock.resume_at(start + 2 * SECOND);
        assert!(clock.stood_still_since(start));
        assert!(!clock.stood_still_since(start + 3 * SECOND));
    }
}
