//! The last lines of the log, and how the run ended.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde_json::{Value, json};

use crate::event::{Event, EventKind};
use crate::report::LogLine;

/// Bytes of lines that are kept, each counted with what it costs besides.
const KEPT_BYTES: usize = 512 << 10;

/// What a line costs besides its text.
const LINE_COST_BYTES: usize = 96;

/// What of the log is kept, and whether the run goes on.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Number of the first line that is kept, from 0.
    first: u64,
    ended: Option<Value>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    kept: Mutex<Kept>,
    changed: Condvar,
}

/// Lines that a reader has not had yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct News {
    pub(super) lines: Vec<LogLine>,
    /// Lines that came and were gone before they could be read.
    pub(super) missed: u64,
    /// The number of the line that comes next.
    pub(super) next: u64,
    pub(super) has_ended: bool,
}

impl Keeper {
    /// Which events it wants.
    pub(super) fn wants(kind: &EventKind) -> bool {
        matches!(kind, EventKind::Log { .. } | EventKind::Missed { .. } | EventKind::RunEnded { .. })
    }

    /// Keeps what comes, until the run has ended.
    pub(super) fn listen(&self, events: &Receiver<Event>) {
        for event in events {
            match event.kind {
                EventKind::Log { worker, line } => self.push(LogLine { at: event.at, worker, line }),
                EventKind::Missed { count } => {
                    let line = format!("{count} lines are missing here: they came too fast");
                    self.push(LogLine { at: event.at, worker: "mpflow".to_owned(), line });
                }
                EventKind::RunEnded { report } => {
                    return self
                        .end(json!({"outcome": report.outcome, "wall_seconds": report.wall.as_secs_f64()}));
                }
                _ => {}
            }
        }
        self.end(json!({"outcome": null}));
    }

    fn push(&self, line: LogLine) {
        let mut kept = self.lock();
        kept.bytes += cost(&line);
        kept.lines.push_back(line);
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= cost(&oldest);
            kept.first += 1;
        }
        drop(kept);
        self.changed.notify_all();
    }

    /// The run has ended so, unless that is known already.
    pub(super) fn end(&self, ended: Value) {
        self.lock().ended.get_or_insert(ended);
        self.changed.notify_all();
    }

    /// How the run ended, waited for at most so long.
    pub(super) fn ended_within(&self, patience: Duration) -> Option<Value> {
        let kept = self.lock();
        let waited = self.changed.wait_timeout_while(kept, patience, |kept| kept.ended.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.ended.clone()
    }

    /// The lines from this number on that are wanted, at most so many of the last ones.
    pub(super) fn lines(&self, from: u64, most: usize, is_wanted: impl Fn(&LogLine) -> bool) -> News {
        let kept = self.lock();
        let skip = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let wanted = kept.lines.iter().skip(skip).rev().filter(|line| is_wanted(line)).take(most);
        let mut lines: Vec<LogLine> = wanted.cloned().collect();
        lines.reverse();
        News {
            lines,
            missed: kept.first.saturating_sub(from),
            next: kept.first + kept.lines.len() as u64,
            has_ended: kept.ended.is_some(),
        }
    }

    /// Waits until there is a line of this number, or the end of the run, but not longer than this.
    pub(super) fn wait_for(&self, number: u64, patience: Duration) {
        let kept = self.lock();
        let has_come = |kept: &Kept| kept.first + kept.lines.len() as u64 > number || kept.ended.is_some();
        drop(self.changed.wait_timeout_while(kept, patience, |kept| !has_come(kept)));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(line: &LogLine) -> usize {
    line.line.len() + line.worker.len() + LINE_COST_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, worker: &str) -> LogLine {
        LogLine { at: Duration::ZERO, worker: worker.to_owned(), line: text.to_owned() }
    }

    #[test]
    fn the_last_lines_are_kept_and_what_is_gone_is_counted() {
        let keeper = Keeper::default();
        let long = "x".repeat(1000);
        let fit = KEPT_BYTES / cost(&line(&long, "w"));
        for _ in 0..fit + 7 {
            keeper.push(line(&long, "w"));
        }
        let news = keeper.lines(0, usize::MAX, |_| true);
        assert_eq!((news.lines.len(), news.missed, news.next), (fit, 7, (fit + 7) as u64));
        assert_eq!(keeper.lines(news.next, usize::MAX, |_| true).lines, []);
        keeper.push(line("new", "w"));
        assert_eq!(keeper.lines(news.next, usize::MAX, |_| true).lines[0].line, "new");
    }

    #[test]
    fn of_many_lines_the_last_that_are_wanted_are_given() {
        let keeper = Keeper::default();
        for number in 0..10 {
            keeper.push(line(&number.to_string(), if number % 2 == 0 { "even" } else { "odd" }));
        }
        let news = keeper.lines(0, 2, |line| line.worker == "even");
        assert_eq!(news.lines, [line("6", "even"), line("8", "even")]);
        assert_eq!((news.missed, news.next), (0, 10));
    }

    #[test]
    fn the_first_end_is_the_end() {
        let keeper = Keeper::default();
        assert_eq!(keeper.ended_within(Duration::ZERO), None);
        keeper.end(json!(1));
        keeper.end(json!(2));
        assert_eq!(keeper.ended_within(Duration::from_secs(60)), Some(json!(1)));
        assert!(keeper.lines(0, 1, |_| true).has_ended);
    }
}
