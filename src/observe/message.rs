//! The lines that a person gets to read while a run goes on.

use std::collections::HashMap;

use super::sanitize::{block, for_terminal, one_line};
use super::{Colour, Look, duration};
use crate::event::{Event, EventKind, WorkerId};

/// How much is said while a run goes on. What workers write, and notices, are always shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing of what the report says again at the end.
    Quiet,
    /// What went wrong, as it happens.
    Normal,
}

/// Names longer than this do not widen the column of names.
const WIDEST_NAME: usize = 24;

/// So many failures of records are shown for each stage; a file full of bad records would bury all else.
const SHOWN_RECORDS: u64 = 10;

/// Turns events into lines. It remembers how wide names are, so that a terminal shows what workers write as a column.
#[derive(Debug)]
pub struct Messages {
    look: Look,
    verbosity: Verbosity,
    name_width: usize,
    failed_records: HashMap<String, u64>,
}

impl Messages {
    /// For a place of this look.
    pub fn new(look: Look, verbosity: Verbosity) -> Self {
        Self { look, verbosity, name_width: 0, failed_records: HashMap::new() }
    }

    /// Whether no event of this kind ever has a line: nobody need be woken for it, and these are the many.
    pub fn is_silent(kind: &EventKind) -> bool {
        matches!(kind, EventKind::WorkerStarted { .. } | EventKind::WorkerEnded { .. })
    }

    /// The line for an event, without its end, or nothing for one that needs no line.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match &event.kind {
            EventKind::Log { worker, line } => Some(self.log(worker, line)),
            EventKind::Notice { message } => Some(self.notice(message)),
            EventKind::OutputHeld { worker, holder, command } => {
                Some(self.notice(&output_held(worker, *holder, command.as_deref())))
            }
            EventKind::Missed { count } => Some(self.notice(&format!(
                "{count} lines and events are missing here: they came faster than they could be shown"
            ))),
            // No report says it again.
            EventKind::ReloadFailed { .. } | EventKind::StageFell { .. } => self.trouble(&event.kind),
            kind if self.verbosity >= Verbosity::Normal => self.trouble(kind),
            _ => None,
        }
    }

    /// A line of the engine's own.
    pub fn notice(&self, message: &str) -> String {
        format!("{} {}", self.look.paint(Colour::Bold, "mpflow:"), block(message))
    }

    /// `name | line`.
    fn log(&mut self, worker: &str, line: &str) -> String {
        if !self.look.is_terminal {
            // For whoever searches it: no padding, and the worker's bytes as they came.
            return format!("{worker} | {line}");
        }
        self.name_width = self.name_width.max(worker.len().min(WIDEST_NAME));
        let prefix = format!("{worker:<width$} |", width = self.name_width);
        format!("{} {}", self.look.paint(Look::name_colour(worker), &prefix), for_terminal(line))
    }

    fn trouble(&mut self, kind: &EventKind) -> Option<String> {
        let (colour, text) = match kind {
            EventKind::WorkerStartFailed { worker, error } => {
                (Colour::Red, format!("worker `{}` could not be started: {error}", worker.worker))
            }
            EventKind::WorkerKilled { worker, reason } => {
                (Colour::Yellow, format!("worker `{}` was killed: {reason}", worker.worker))
            }
            EventKind::WorkerRestarting { worker, backoff, reason } => {
                let wait = match backoff.is_zero() {
                    true => "now".to_owned(),
                    false => format!("in {}", duration(*backoff)),
                };
                (Colour::Yellow, format!("worker `{}` is started again {wait}: {reason}", worker.worker))
            }
            EventKind::RecordFailed { worker, record, error, attempts, retried } => {
                let number = self.failed_records.entry(worker.stage.clone()).or_default();
                *number += 1;
                if *number > SHOWN_RECORDS {
                    return None;
                }
                let last = if *number == SHOWN_RECORDS {
                    "; further ones of this stage are only counted"
                } else {
                    ""
                };
                let next = if *retried { "it is tried again" } else { "its attempts are used up" };
                let text = format!(
                    "record `{}` failed in worker `{}` (attempt {attempts}): {error}; {next}{last}",
                    one_line(record),
                    worker.worker
                );
                (if *retried { Colour::Yellow } else { Colour::Red }, text)
            }
            EventKind::StageFailed { stage, reason, .. } => {
                (Colour::Red, format!("stage `{stage}` failed: {reason}"))
            }
            EventKind::StageResized { stage, from, to } => {
                (Colour::Green, format!("stage `{stage}` has a pool of {to} now, and had {from}"))
            }
            EventKind::Reloading { change } => (Colour::Dim, format!("reloading: {}", change.ahead())),
            EventKind::ReloadFailed { failure, was_in_effect } => {
                let stage = failure.stage.as_deref().unwrap_or("the pipeline");
                let what = match was_in_effect {
                    true => "the reload is taken back, since the new",
                    false => "nothing was reloaded, since the new",
                };
                (Colour::Red, format!("{what} `{stage}` failed: {}", failure.reason))
            }
            EventKind::StageFell { failure } => {
                let stage = failure.stage.as_deref().unwrap_or("the pipeline");
                let text = format!(
                    "the new `{stage}` failed: {}; what comes for it waits until the next reload",
                    failure.reason
                );
                (Colour::Red, text)
            }
            EventKind::LauncherLost { reason } => (Colour::Red, reason.clone()),
            // A worker's end needs no line of its own: a bad one is followed by what comes of it ([`Self::is_silent`]).
            _ => return None,
        };
        let prefix = self.look.paint(Colour::Bold, "mpflow:");
        Some(format!("{prefix} {}", self.look.paint(colour, &block(&text))))
    }
}

fn output_held(worker: &WorkerId, holder: Option<i32>, command: Option<&str>) -> String {
    let who = match (holder, command) {
        (Some(pid), Some(command)) => format!("process {pid} (`{command}`)"),
        (Some(pid), None) => format!("process {pid}"),
        (None, _) => "another process".to_owned(),
    };
    format!(
        "{who} still holds the output of worker `{}`, which has ended; it is not waited for",
        worker.worker
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { at: Duration::ZERO, kind }
    }

    fn worker() -> WorkerId {
        WorkerId { stage: "square".into(), worker: "square/2".into(), rank: 2, generation: 1 }
    }

    fn log(worker: &str, line: &str) -> Event {
        event(EventKind::Log { worker: worker.into(), line: line.into() })
    }

    fn bad_record() -> Event {
        event(EventKind::RecordFailed {
            worker: worker(),
            record: "7".into(),
            error: "exited with 1".into(),
            attempts: 2,
            retried: false,
        })
    }

    #[test]
    fn a_file_gets_what_workers_write_as_it_came() {
        let mut messages = Messages::new(Look::PLAIN, Verbosity::Normal);
        assert_eq!(messages.line(&log("square/2", "a\rb")).unwrap(), "square/2 | a\rb");
        assert_eq!(messages.line(&log("x", "")).unwrap(), "x | ");
    }

    #[test]
    fn a_terminal_gets_it_as_a_column_and_in_colour() {
        let look = Look { is_terminal: true, ..Look::PLAIN };
        let mut messages = Messages::new(look, Verbosity::Normal);
        assert_eq!(messages.line(&log("square/2", "one")).unwrap(), "square/2 | one");
        assert_eq!(messages.line(&log("x", "10%\r20%")).unwrap(), "x        | 20%");
        let mut messages = Messages::new(Look { colours: true, ..look }, Verbosity::Normal);
        assert_eq!(messages.line(&log("square/2", "one")).unwrap(), "\x1b[34msquare/2 |\x1b[0m one");
    }

    #[test]
    fn trouble_is_told_unless_the_user_wants_quiet() {
        let restart = event(EventKind::WorkerRestarting {
            worker: worker(),
            backoff: Duration::from_millis(100),
            reason: "exited with -9 (SIGKILL)".into(),
        });
        let held = event(EventKind::OutputHeld {
            worker: worker(),
            holder: Some(42),
            command: Some("sleep 100".into()),
        });
        let mut messages = Messages::new(Look::PLAIN, Verbosity::Normal);
        let lines: Vec<String> =
            [&restart, &held, &bad_record()].into_iter().filter_map(|event| messages.line(event)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        mpflow: worker `square/2` is started again in 100 ms: exited with -9 (SIGKILL)
        mpflow: process 42 (`sleep 100`) still holds the output of worker `square/2`, which has ended; it is not waited for
        mpflow: record `7` failed in worker `square/2` (attempt 2): exited with 1; its attempts are used up
        ");
        let mut quiet = Messages::new(Look::PLAIN, Verbosity::Quiet);
        assert_eq!(quiet.line(&restart), None);
        assert_eq!(quiet.line(&held), Some(lines[1].clone()));
    }

    #[test]
    fn what_is_silent_has_no_line() {
        let pid = 42;
        let exit =
            crate::report::ExitReport::new(crate::model::Exit::from_code(1), crate::model::Usage::default());
        let silent = [
            EventKind::WorkerStarted { worker: worker(), pid },
            EventKind::WorkerEnded { worker: worker(), pid, exit, success: false },
        ];
        for kind in silent {
            assert!(Messages::is_silent(&kind));
            assert_eq!(Messages::new(Look::PLAIN, Verbosity::Normal).line(&event(kind)), None);
        }
        assert!(!Messages::is_silent(&bad_record().kind));
    }

    #[test]
    fn many_bad_records_do_not_bury_the_rest() {
        let mut messages = Messages::new(Look::PLAIN, Verbosity::Normal);
        let lines: Vec<String> = (0..100).filter_map(|_| messages.line(&bad_record())).collect();
        assert_eq!(lines.len(), 10);
        assert!(lines[9].ends_with("further ones of this stage are only counted"));
    }
}
