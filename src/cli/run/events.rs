//! The thread that writes the events file.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use mpflow::event::{Event, EventKind};

use super::files::EventsFile;
use crate::cli::error::CliError;

/// So many events wait for a slow disk; then they are only counted.
const MOST_WAITING: usize = 16_384;

/// The same with those that do not come in floods.
const MOST_WAITING_IN_ALL: usize = 4 * MOST_WAITING;

/// The sending side: what the run's own thread holds.
#[derive(Debug)]
pub(super) struct EventsThread {
    path: PathBuf,
    sender: Sender<Event>,
    errors: Receiver<io::Error>,
    is_failed: bool,
    missed: u64,
}

impl EventsThread {
    /// Starts the thread. The second value is disconnected when all has been written.
    pub(super) fn start(path: &Path, file: EventsFile) -> Result<(Self, Receiver<()>), CliError> {
        let (sender, events) = crossbeam_channel::unbounded();
        let (failed, errors) = crossbeam_channel::bounded(1);
        let (done, finished) = crossbeam_channel::bounded(1);
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(file, &events) {
                    let _ = failed.send(error);
                }
                let _ = done.send(());
            })
            .map_err(CliError::Thread)?;
        let path = path.to_owned();
        Ok((Self { path, sender, errors, is_failed: false, missed: 0 }, finished))
    }

    /// Has an event written. Returns what is to be said to the user, once, when the file cannot be written.
    pub(super) fn write(&mut self, event: Event) -> Option<String> {
        // The last one holds the report, and is worth a little more room than the others.
        let is_last = matches!(event.kind, EventKind::RunEnded { .. });
        let most = if event.kind.may_flood() { MOST_WAITING } else { MOST_WAITING_IN_ALL };
        if self.sender.len() >= most && !is_last {
            // The news of some that were missed before stands for as many.
            self.missed += event.kind.count();
        } else {
            if self.missed > 0 {
                let kind = EventKind::Missed { count: std::mem::take(&mut self.missed) };
                self.send(Event { at: event.at, kind });
            }
            self.send(event);
        }
        self.failure()
    }

    fn send(&self, event: Event) {
        // The thread ends early only when it cannot write, which `failure` tells.
        let _ = self.sender.send(event);
    }

    /// Says that nothing more comes, so that the thread ends.
    pub(super) fn close(&mut self) {
        // Replaces the only sender by one that leads nowhere.
        self.sender = crossbeam_channel::bounded(0).0;
    }

    /// What is to be said to the user, once, when the file cannot be written.
    pub(super) fn failure(&mut self) -> Option<String> {
        let error = self.errors.try_recv().ok()?;
        self.is_failed = true;
        Some(format!("cannot write events to `{}`: {error}; no more of them are kept", self.path.display()))
    }

    /// Whether the file lacks anything for an error.
    pub(super) fn is_failed(&self) -> bool {
        self.is_failed
    }
}

/// Writes events as they come; whatever has come together is flushed together.
fn write_all(mut file: EventsFile, events: &Receiver<Event>) -> io::Result<()> {
    while let Ok(first) = events.recv() {
        file.write(&first)?;
        for event in events.try_iter() {
            file.write(&event)?;
        }
        file.flush()?;
    }
    Ok(())
}
