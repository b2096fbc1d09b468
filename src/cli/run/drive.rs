//! One run from its start to its report: events to whoever watches, signals to the engine.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use mpflow::Run;
use mpflow::control::ReloadRequest;
use mpflow::event::{Event, EventKind};
use mpflow::report::Report;
use mpflow::watch::Told;

use super::console::{Console, Progress};
use super::events::EventsThread;
use super::presses::Presses;
use super::reloader::Reloader;
use super::signals::{self, Request};

/// Between two looks at the run for a table that is drawn again and again.
const LIVE: Duration = Duration::from_millis(125);

/// Between two lines of progress.
const LINES: Duration = Duration::from_secs(5);

/// What has come of a run.
pub(super) struct Driven {
    pub(super) report: Report,
    /// The signals that wanted it to end.
    pub(super) presses: Presses,
    /// Somebody has wanted it to end, also by the control socket.
    pub(super) was_stopped: bool,
}

/// Steers one run. Nothing here waits for a file or a terminal, so that a signal is always heard.
pub(super) struct Driver<'a, 'b> {
    pub(super) requests: &'a Receiver<Request>,
    pub(super) console: &'a mut Console,
    pub(super) events: Option<&'a mut EventsThread>,
    pub(super) progress: Progress,
    pub(super) reloader: &'a mut Reloader<'b>,
    /// Whoever wants a reload from outside.
    pub(super) reloads: &'a Receiver<ReloadRequest>,
    pub(super) presses: Presses,
    /// See [`Driven::was_stopped`].
    pub(super) was_stopped: bool,
}

impl Driver<'_, '_> {
    /// Sees the run to its end.
    pub(super) fn drive(mut self, run: Run) -> Driven {
        let events = run.events();
        let looks = looks(self.progress);
        let (told, mut reloads) = (self.reloader.told(), self.reloads.clone());
        let mut has_ended = false;
        while !has_ended {
            let answers = self.reloader.answers();
            select! {
                recv(events) -> event => match event {
                    Ok(event) => {
                        self.note_files(&event.kind, &run);
                        has_ended = self.pass_on(event);
                    }
                    Err(_) => break,
                },
                recv(told) -> told => match told {
                    Ok(told) => self.hear(told, &run),
                    Err(_) => break,
                },
                recv(answers) -> answer => self.reloader.answered(answer.ok(), self.console),
                recv(reloads) -> request => match request {
                    Ok(request) => {
                        self.reloader.wants(request);
                        self.reloader.begin(&run, self.console);
                    }
                    // There is no control socket.
                    Err(_) => reloads = never(),
                },
                recv(self.requests) -> request => match request {
                    Ok(request) => self.obey(request, &run),
                    Err(_) => break,
                },
                recv(looks) -> _ => match run.snapshot() {
                    Some(snapshot) => self.console.snapshot(snapshot),
                    // It has ended, and the event that says so comes, or was lost among many.
                    None => break,
                },
            }
        }
        let report = run.wait();
        for event in events.try_iter() {
            has_ended |= self.pass_on(event);
        }
        if !has_ended {
            let kind = EventKind::RunEnded { report: Box::new(report.clone()) };
            self.pass_on(Event { at: report.wall, kind });
        }
        Driven { report, presses: self.presses, was_stopped: self.was_stopped }
    }

    /// A stage runs files that were not watched before.
    fn note_files(&mut self, event: &EventKind, run: &Run) {
        if let EventKind::StageFiles { stage, files } = event
            && self.reloader.found(stage, files)
        {
            self.reloader.begin(run, self.console);
        }
    }

    /// Files have changed.
    fn hear(&mut self, told: Told, run: &Run) {
        match told {
            Told::Changed(changed) => {
                self.reloader.changed(changed);
                self.reloader.begin(run, self.console);
            }
            other => self.console.say(said(&other)),
        }
    }

    /// Hands an event to all who watch. Returns whether it is the last.
    fn pass_on(&mut self, event: Event) -> bool {
        let is_last = matches!(event.kind, EventKind::RunEnded { .. });
        if let EventKind::Stopping { level } = &event.kind {
            self.was_stopped = true;
            if let Some(message) = self.presses.asked_otherwise(level) {
                self.console.say(message);
            }
        }
        self.console.event(&event);
        if let Some(message) = self.events.as_mut().and_then(|events| events.write(event)) {
            self.console.say(message);
        }
        is_last
    }

    fn obey(&mut self, request: Request, run: &Run) {
        match request {
            Request::End(interrupt) => {
                let press = self.presses.press(interrupt);
                self.console.say(press.message);
                if let Some(stop) = press.stop {
                    run.stop(stop);
                }
            }
            Request::Reload => self.reloader.begin(run, self.console),
            Request::Explain => run.explain(),
            Request::Suspend => self.suspend(run),
            // Whoever stopped us by SIGSTOP alone has not stopped the workers; for them this changes nothing.
            Request::Continue => run.pause(false),
        }
    }

    /// Stops the workers and then this process, and continues both.
    fn suspend(&mut self, run: &Run) {
        run.pause(true);
        self.console.say("suspended, and all workers with it; `fg` or SIGCONT continues them");
        self.console.pause();
        // A SIGCONT that has come meanwhile has done its work already: to stop now would be for ever.
        let is_continued = self.requests.try_iter().any(|request| request == Request::Continue);
        if !is_continued && let Err(error) = signals::stop_ourselves() {
            self.console.say(format!("cannot suspend: {error}"));
        }
        run.pause(false);
    }
}

/// What the watcher tells beside changes, in words.
pub(super) fn said(told: &Told) -> String {
    match told {
        Told::Changed(changed) => format!("changed: {}", changed.files.join(", ")),
        Told::Cut { stage, file } => format!(
            "stage `{stage}` writes `{file}`, which it watches: changes of that file are ignored for it from now on. \
             Leave it out of its `watch`"
        ),
        Told::Polls { why } => format!("files are looked at twice a second, since {why}"),
    }
}

fn looks(progress: Progress) -> Receiver<Instant> {
    match progress {
        Progress::Live => crossbeam_channel::tick(LIVE),
        Progress::Lines => crossbeam_channel::tick(LINES),
        // An idle run wakes nobody.
        Progress::Summary | Progress::Failures => never(),
    }
}
