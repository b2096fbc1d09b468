//! What the launcher and other threads say.

use super::{Control, Owner, RunLoop};
use crate::model::Signal;
use crate::process::Notification;
use crate::runtime::supervisor::Input;

impl RunLoop {
    /// Sends the launcher what waits for it.
    pub(super) fn ask_launcher(&mut self) {
        if let Err(error) = self.launcher.flush() {
            tracing::error!(%error, "cannot reach the launcher");
        }
        self.start_some();
    }

    pub(super) fn hear_launcher(&mut self) {
        let (mut told, mut started) = (Vec::new(), Vec::new());
        self.ask_launcher();
        self.launcher.receive(&mut told);
        self.moved();
        for notification in told {
            let notification =
                match self.hear_of_probe(notification).and_then(|told| self.hear_of_server(told)) {
                    Some(notification) => notification,
                    None => continue,
                };
            let worker = |id| match self.ids.get(&id) {
                Some(&Owner::Worker(worker)) => Some(worker),
                Some(Owner::Probe(_) | Owner::Server(_)) | None => None,
            };
            let input = match notification {
                Notification::Started { id, pid } => worker(id).map(|worker| Input::Started { worker, pid }),
                Notification::StartFailed { id, failure } => worker(id).map(|worker| Input::StartFailed {
                    worker,
                    error: failure.to_string(),
                    is_passing: failure.is_passing(),
                }),
                Notification::Exited { id, exit, usage } => {
                    worker(id).map(|worker| Input::Exited { worker, exit, usage })
                }
                Notification::GroupEnded { id } => worker(id).map(|worker| Input::GroupEnded { worker }),
                Notification::Lost => {
                    self.launcher_is_lost();
                    return;
                }
            };
            match input {
                Some(Input::Started { worker, pid }) => {
                    self.inputs.push_back(Input::Started { worker, pid });
                    self.settle();
                    self.worker_runs(worker);
                    started.push(worker);
                }
                Some(Input::StartFailed { worker, error, is_passing }) => {
                    self.start_failed(worker, &error, is_passing);
                    self.inputs.push_back(Input::StartFailed { worker, error, is_passing });
                }
                Some(Input::GroupEnded { worker }) => {
                    self.inputs.push_back(Input::GroupEnded { worker });
                    self.read_unwatched(worker);
                }
                Some(input) => self.inputs.push_back(input),
                None => {}
            }
        }
        // They run, and nothing was said of their end: so they are not brief.
        for worker in started {
            self.watch_outputs(worker);
        }
    }

    pub(super) fn hear_control(&mut self) {
        let _ = self.wake.read();
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Stop(level) => {
                    if self.asked_to_end.is_none_or(|(before, _)| before < level) {
                        self.asked_to_end = Some((level, self.clock.now()));
                    }
                    // Nobody can end who stands still, and no grace period either.
                    if self.clock.is_suspended() {
                        self.pause(false);
                    }
                    self.inputs.push_back(Input::Stop(level));
                }
                Control::Pause(paused, done) => {
                    self.pause(paused);
                    let _ = done.send(());
                }
                Control::Snapshot(answer) => {
                    let _ = answer.send(self.snapshot());
                }
                Control::Explain => self.explain("the run's state"),
                // What a look sees while all stands still, or for how long it waits, says nothing of the worker.
                Control::Probed { began_at, .. } if self.clock.stood_still_since(began_at) => {}
                Control::Probed { worker, seen, .. } => self.probed(worker, seen),
            }
        }
    }

    /// Suspends the run, or continues it: all processes, and the clock.
    fn pause(&mut self, paused: bool) {
        let signal = if paused { Signal::TSTP } else { Signal::CONT };
        let ids: Vec<u64> = self.ids.keys().copied().collect();
        for id in ids {
            let _ = self.launcher.request_signal(id, signal);
        }
        if paused {
            self.clock.suspend();
        } else {
            self.clock.resume();
            self.start_some();
        }
    }

    /// The launcher is gone, and the workers are. What they had started its guardian has killed, or it is ours to kill:
    /// now, and not at the end of the run, which may have to wait for whoever reads its output.
    fn launcher_is_lost(&mut self) {
        self.end_launcher();
        self.inputs.push_back(Input::LauncherLost);
    }

    /// Nothing that the launcher has started is left when this returns.
    pub(super) fn end_launcher(&mut self) {
        if !self.launcher.end() {
            crate::process::kill_leftovers(&self.names.run_id);
        }
    }
}
