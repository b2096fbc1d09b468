//! How often a stage's workers were started again, and how long the next waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::{Backoff, Restart};

/// The restarts of one stage within its window.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    recent: VecDeque<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Instant,
    /// Of a death that counts only while no record is answered: what the stage had answered by then.
    charged_at: Option<u64>,
    has_waited: bool,
}

/// More restarts than the policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedUp;

impl Restarts {
    /// One more is wanted: how long it is to wait. `charged_at`: the worker held records, or is a pool's, and the stage
    /// has answered so many. Such a death counts only while no record is answered in between, and in a pool of this
    /// width that many count as one: each worker may have met a poisonous record of its own, and with each of them
    /// the next, before one of these records has used up its attempts.
    pub(crate) fn allow(
        &mut self,
        policy: &Restart,
        width: usize,
        now: Instant,
        charged_at: Option<u64>,
        answered: u64,
        random: f64,
    ) -> Result<Duration, UsedUp> {
        self.recent.retain(|entry| {
            now.saturating_duration_since(entry.at) < policy.within
                && entry.charged_at.is_none_or(|charged_at| charged_at == answered)
        });
        let count = |is_counted: fn(&Entry) -> bool| {
            let charged = |entry: &&Entry| is_counted(entry) && entry.charged_at.is_some();
            let uncharged = |entry: &&Entry| is_counted(entry) && entry.charged_at.is_none();
            let recent = &self.recent;
            recent.iter().filter(uncharged).count() + recent.iter().filter(charged).count() / width.max(1)
        };
        if count(|_| true) as u64 >= u64::from(policy.max) {
            return Err(UsedUp);
        }
        // A worker that did its work until a record killed it has nothing to wait for.
        let waits = charged_at.is_none() || !self.recent.is_empty();
        let before = count(|entry| entry.has_waited);
        self.recent.push_back(Entry { at: now, charged_at, has_waited: waits });
        Ok(if waits { wait(&policy.backoff, before, random) } else { Duration::ZERO })
    }
}

/// The wait before restart number `before + 1`; `random` from 0 to 1 chooses the place within the jitter.
fn wait(backoff: &Backoff, before: usize, random: f64) -> Duration {
    let exponent = i32::try_from(before).unwrap_or(i32::MAX);
    let seconds = backoff.initial.as_secs_f64() * backoff.factor.powi(exponent);
    let seconds = seconds.min(backoff.max.as_secs_f64());
    let spread = 1.0 + backoff.jitter * (2.0 * random - 1.0);
    Duration::try_from_secs_f64(seconds * spread).unwrap_or(backoff.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Restart {
        Restart { max: 3, within: Duration::from_secs(10), ..Restart::default() }
    }

    #[test]
    fn waits_grow_up_to_the_ceiling() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let waits: Vec<u128> = (0..9).map(|before| wait(&backoff, before, 0.5).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let backoff = Backoff { jitter: 0.1, ..backoff };
        assert_eq!(wait(&backoff, 0, 0.0).as_millis(), 90);
        assert_eq!(wait(&backoff, 0, 1.0).as_millis(), 110);
    }

    #[test]
    fn more_restarts_than_allowed_within_the_window_are_refused() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for _ in 0..3 {
            assert!(restarts.allow(&policy(), 1, start, None, 0, 0.5).is_ok());
        }
        assert_eq!(restarts.allow(&policy(), 1, start, None, 0, 0.5), Err(UsedUp));
        assert!(restarts.allow(&policy(), 1, start + Duration::from_secs(11), None, 0, 0.5).is_ok());
    }

    #[test]
    fn who_crashes_once_an_hour_is_restarted_for_ever_and_waits_for_the_first_time_each_time() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for hour in 0..10_000 {
            let now = start + Duration::from_secs(3600 * hour);
            assert_eq!(restarts.allow(&policy(), 1, now, None, 0, 0.5), Ok(Duration::from_millis(100)));
        }
    }

    /// Waits and the refusal of one that crashes again and again after having run so long.
    fn crashes_after(ran: Duration) -> Vec<Result<u128, UsedUp>> {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let crash = |_| {
            now += ran;
            let wait = restarts.allow(&policy(), 1, now, None, 0, 0.5);
            now += wait.unwrap_or_default();
            wait.map(|wait| wait.as_millis())
        };
        (0..5).map(crash).collect()
    }

    #[test]
    fn the_window_is_of_the_time_between_crashes() {
        let used_up = [Ok(100), Ok(200), Ok(400), Err(UsedUp), Err(UsedUp)];
        assert_eq!(crashes_after(Duration::ZERO), used_up);
        assert_eq!(crashes_after(Duration::from_millis(1)), used_up);
        // Just within the window one restart before is remembered, and just outside none.
        assert_eq!(crashes_after(Duration::from_secs(9)), [Ok(100), Ok(200), Ok(200), Ok(200), Ok(200)]);
        assert_eq!(crashes_after(Duration::from_secs(11)), [Ok(100); 5]);
    }

    #[test]
    fn deaths_charged_to_records_count_only_while_nothing_is_answered() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for answered in 0..100 {
            assert!(restarts.allow(&policy(), 1, start, Some(answered), answered, 0.5).is_ok());
        }
        assert!(restarts.allow(&policy(), 1, start, Some(99), 99, 0.5).is_ok());
        assert!(restarts.allow(&policy(), 1, start, Some(99), 99, 0.5).is_ok());
        assert_eq!(restarts.allow(&policy(), 1, start, Some(99), 99, 0.5), Err(UsedUp));
    }

    #[test]
    fn a_poisonous_record_for_each_worker_of_a_pool_does_not_use_it_up() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        // All of a pool of four die of their first and their second attempts before a third is the last.
        for death in 0..9 {
            assert!(restarts.allow(&policy(), 4, start, Some(50), 50, 0.5).is_ok(), "death {death}");
        }
        let more = (0..9).filter(|_| restarts.allow(&policy(), 4, start, Some(50), 50, 0.5).is_ok());
        assert_eq!(more.count(), 3, "but they do not die for ever");
    }

    #[test]
    fn the_first_restart_after_a_record_was_answered_waits_for_nothing_and_the_next_as_any_first() {
        let policy = Restart { backoff: Backoff { jitter: 0.0, ..Backoff::default() }, ..policy() };
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let mut wait = |charged, answered| {
            restarts.allow(&policy, 1, start, charged, answered, 0.5).unwrap().as_millis()
        };
        assert_eq!([wait(Some(7), 7), wait(Some(7), 7), wait(Some(7), 7)], [0, 100, 200]);
        assert_eq!(wait(Some(8), 8), 0, "a record was answered in between");
        assert_eq!(
            [wait(None, 9), wait(None, 9)],
            [100, 200],
            "deaths of workers that held nothing wait from the first"
        );
    }
}
