//! The thread that owns standard error while a run goes on.
//!
//! All that a person is to read goes through it, so that no line is torn by another or by what moves. Whoever
//! sends it something never waits: where standard error is blocked (a terminal at Ctrl-S, a pipe that nobody
//! reads), events are counted instead of kept, and the run goes on.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use mpflow::event::{Event, EventKind};
use mpflow::observe::{self, Messages, ProgressTable, StageProgress, Verbosity};
use mpflow::report::{Report, Snapshot};
use nix::sys::signal::{SigSet, Signal};

use super::bars::Bars;
use crate::cli::error::CliError;
use crate::cli::terminal;

/// So many events wait for a slow standard error; then they are only counted.
const MOST_WAITING: usize = 4096;

/// So many things are taken together and written in one call.
const MOST_TOGETHER: usize = 256;

/// So long the bars are waited for before this process stops itself; a blocked terminal must not prevent it.
const PATIENCE: Duration = Duration::from_millis(200);

/// So long the line about a stage that has failed waits: if the run ends by it, the summary says the same.
const HOLD_BACK: Duration = Duration::from_millis(500);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// A table that stays at the bottom of the terminal.
    Live,
    /// A line now and then.
    Lines,
    /// None, but a summary at the end.
    Summary,
    /// None, and at the end only what failed.
    Failures,
}

/// The sending side: what the run's own thread holds.
#[derive(Debug)]
pub(super) struct Console {
    sender: Sender<Item>,
    missed: u64,
}

enum Item {
    Event(Event),
    Snapshot(Snapshot),
    Say(String),
    /// Take the bars away and say so here.
    Pause(Sender<()>),
    End(Box<Report>),
}

impl Console {
    /// Starts the thread. The second value comes when all has been written.
    pub(super) fn start(pipeline: &str, progress: Progress) -> Result<(Self, Receiver<()>), CliError> {
        // Unbounded for what must not be lost; events look at its length first.
        let (sender, items) = crossbeam_channel::unbounded();
        let (done, finished) = crossbeam_channel::bounded(1);
        let pipeline = pipeline.to_owned();
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                // Writing to the terminal from the background must not stop the engine, tcsetattr(3) `TOSTOP`: a
                // thread that blocks the signal may write.
                let mut background = SigSet::empty();
                background.add(Signal::SIGTTOU);
                let _ = background.thread_block();
                Writer::new(&pipeline, progress).write_all(&items);
                let _ = done.send(());
            })
            .map_err(CliError::Thread)?;
        Ok((Self { sender, missed: 0 }, finished))
    }

    /// Shows an event, or counts it as missed where too many wait already.
    pub(super) fn event(&mut self, event: &Event) {
        if Messages::is_silent(&event.kind) {
            return;
        }
        if self.sender.len() >= MOST_WAITING {
            self.missed += event.kind.count();
            return;
        }
        self.own_up(event.at);
        self.send(Item::Event(event.clone()));
    }

    /// Says how many events are missing, if any are.
    fn own_up(&mut self, at: Duration) {
        if self.missed > 0 {
            let kind = EventKind::Missed { count: std::mem::take(&mut self.missed) };
            self.send(Item::Event(Event { at, kind }));
        }
    }

    /// Shows how far the run is, unless older things wait still.
    pub(super) fn snapshot(&self, snapshot: Snapshot) {
        if self.sender.len() < MOST_TOGETHER {
            self.send(Item::Snapshot(snapshot));
        }
    }

    /// Says something of the command's own.
    pub(super) fn say(&self, message: impl Into<String>) {
        self.send(Item::Say(message.into()));
    }

    /// Takes away what moves, since somebody else gets the terminal; the next snapshot brings it back.
    pub(super) fn pause(&self) {
        let (done, paused) = crossbeam_channel::bounded(1);
        self.send(Item::Pause(done));
        let _ = paused.recv_timeout(PATIENCE);
    }

    /// Shows what came of it, and ends.
    pub(super) fn end(mut self, report: Report) {
        self.own_up(report.wall);
        self.send(Item::End(Box::new(report)));
    }

    fn send(&self, item: Item) {
        // The thread ends only after `Item::End`, which takes this sender with it.
        let _ = self.sender.send(item);
    }
}

/// The receiving side: what the thread holds.
struct Writer {
    progress: Progress,
    messages: Messages,
    table: ProgressTable,
    bars: Bars,
    /// Lines that have not been written yet.
    pending: String,
    /// The line about a stage that has just failed, and when it is to be written if the run goes on.
    held: Option<(Instant, String)>,
    has_written: bool,
}

impl Writer {
    fn new(pipeline: &str, progress: Progress) -> Self {
        let verbosity = match progress {
            Progress::Failures => Verbosity::Quiet,
            Progress::Live | Progress::Lines | Progress::Summary => Verbosity::Normal,
        };
        Self {
            progress,
            messages: Messages::new(terminal::stderr(), verbosity),
            table: ProgressTable::default(),
            bars: Bars::new(pipeline),
            pending: String::new(),
            held: None,
            has_written: false,
        }
    }

    fn write_all(mut self, items: &Receiver<Item>) {
        loop {
            let first = match &self.held {
                None => items.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => items.recv_deadline(*at),
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.release();
                    self.flush();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Only the last of several snapshots is worth a look.
            let mut snapshot = None;
            for item in std::iter::once(first).chain(items.try_iter().take(MOST_TOGETHER)) {
                match item {
                    Item::Event(event) => {
                        let line = self.messages.line(&event);
                        match (&event.kind, line) {
                            (EventKind::StageFailed { .. }, Some(line)) => {
                                self.release();
                                self.held = Some((Instant::now() + HOLD_BACK, line));
                            }
                            (_, line) => self.push(line),
                        }
                    }
                    Item::Say(message) => {
                        let line = self.messages.notice(&message);
                        self.push(Some(line));
                    }
                    Item::Snapshot(newest) => snapshot = Some(newest),
                    Item::Pause(done) => {
                        self.remove_bars();
                        snapshot = None;
                        // Nobody waits any more when this took too long.
                        let _ = done.send(());
                    }
                    Item::End(report) => return self.end(&report),
                }
            }
            if let Some(snapshot) = snapshot {
                self.show(snapshot);
            } else if !self.pending.is_empty() {
                self.flush();
            }
        }
    }

    /// What was held back comes before whatever comes after it.
    fn release(&mut self) {
        if let Some((_, line)) = self.held.take() {
            self.push(Some(line));
        }
    }

    fn push(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.release();
            self.pending.push_str(&line);
            self.pending.push('\n');
        }
    }

    fn show(&mut self, snapshot: Snapshot) {
        let at = snapshot.at;
        let stages = self.table.update(snapshot);
        match self.progress {
            Progress::Live => self.bars.update(at, &stages),
            Progress::Lines => {
                let line = self.messages.notice(&StageProgress::line(at, &stages));
                self.push(Some(line));
            }
            Progress::Summary | Progress::Failures => {}
        }
        self.flush();
    }

    /// Writes the pending lines, above the bars and in one call with them.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.pending);
        self.has_written |= !text.is_empty();
        write(&self.bars.draw(&text));
    }

    fn remove_bars(&mut self) {
        let mut text = self.bars.remove();
        text.push_str(&std::mem::take(&mut self.pending));
        self.has_written |= !text.is_empty();
        write(&text);
    }

    fn end(mut self, report: &Report) {
        self.held = None;
        if self.progress == Progress::Lines {
            let stages: Vec<StageProgress> = report.stages.iter().map(StageProgress::of_report).collect();
            let line = self.messages.notice(&StageProgress::line(report.wall, &stages));
            self.push(Some(line));
        }
        self.remove_bars();
        let look = terminal::stderr();
        let text = match self.progress {
            // Nothing has moved: the pipeline is wrong, and its diagnostics come next.
            _ if report.outcome.problems().next().is_some() => String::new(),
            Progress::Failures => observe::failures(report, look),
            Progress::Live | Progress::Lines | Progress::Summary => observe::summary(report, look),
        };
        let space = if self.has_written && !text.is_empty() { "\n" } else { "" };
        write(&format!("{space}{text}"));
    }
}

/// One call for the whole text. What cannot be written is lost: there is no other place to say so.
fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
