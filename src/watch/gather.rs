//! When it has been quiet for long enough to look.

use std::time::{Duration, Instant};

/// Files that are saved together are saved within this.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// One that is written all the time is looked at all the same, so often.
const AT_LEAST: Duration = Duration::from_millis(300);

/// Gathers events, so that many of them are one look.
#[derive(Debug, Default)]
pub(super) struct Gather {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Gather {
    /// Something has happened.
    pub(super) fn note(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to look.
    pub(super) fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + AT_LEAST))
    }

    /// Whether it is time; then what was gathered is forgotten.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn events_close_together_are_one_look() {
        let (mut gather, start) = (Gather::default(), Instant::now());
        assert_eq!(gather.due(), None);
        for at in [0, 30, 60] {
            gather.note(start + at * MS);
            assert!(!gather.take(start + at * MS));
        }
        assert_eq!(gather.due(), Some(start + 160 * MS));
        assert!(gather.take(start + 160 * MS));
        assert!(!gather.take(start + 500 * MS), "once");
    }

    #[test]
    fn events_without_end_do_not_put_the_look_off_for_ever() {
        let (mut gather, start) = (Gather::default(), Instant::now());
        let looks = (0..100).filter(|&at| {
            gather.note(start + at * 10 * MS);
            gather.take(start + at * 10 * MS)
        });
        assert_eq!(looks.count(), 3);
    }
}
