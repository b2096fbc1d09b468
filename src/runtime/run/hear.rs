//! What the launcher and other threads say.

use super::steer::Asker;
use super::{Control, Owner, RunLoop};
use crate::model::Signal;
use crate::process::Notification;
use crate::runtime::supervisor::{Input, Worker};

impl RunLoop {
    /// Sends the launcher what waits for it.
    pub(super) fn ask_launcher(&mut self) {
        if let Err(error) = self.launcher.flush() {
            tracing::error!(%error, "cannot reach the launcher");
        }
        self.start_some();
    }

    pub(super) fn hear_launcher(&mut self) {
        let mut told = Vec::new();
        self.ask_launcher();
        self.launcher.receive(&mut told);
        self.moved();
        for notification in told {
            self.hear(notification);
        }
    }

    /// The launcher has said this.
    pub(super) fn hear(&mut self, notification: Notification) {
        let Some(id) = notification.id() else { return self.launcher_is_lost() };
        match self.ids.get(&id) {
            Some(&Owner::Worker(worker)) => self.hear_of_worker(worker, notification),
            Some(&Owner::Successor { stage, rank }) => self.hear_of_successor(stage, rank, notification),
            Some(&Owner::Probe(worker)) => self.hear_of_probe(id, worker, notification),
            Some(&Owner::Server(number)) => self.hear_of_server(id, number, notification),
            None => {}
        }
    }

    fn hear_of_worker(&mut self, worker: Worker, notification: Notification) {
        match notification {
            Notification::Started { pid, .. } => {
                self.inputs.push_back(Input::Started { worker, pid });
                self.started.push(worker);
            }
            Notification::StartFailed { failure, .. } => {
                let (error, is_passing) = (failure.to_string(), failure.is_passing());
                self.start_failed(worker, &error, is_passing);
                self.inputs.push_back(Input::StartFailed { worker, error, is_passing });
            }
            Notification::Exited { exit, usage, ran, .. } => {
                if let Some(io) = self.io(worker) {
                    io.ran = Some(ran);
                }
                self.inputs.push_back(Input::Exited { worker, exit, usage });
            }
            Notification::GroupEnded { .. } => {
                self.inputs.push_back(Input::GroupEnded { worker });
                self.read_unwatched(worker);
            }
            // Only successors do, and are.
            Notification::Succeeds { .. } | Notification::Revoked { .. } | Notification::Lost => {}
        }
    }

    /// Workers run, and all that was said with it is known. What was not said to have ended lasts.
    pub(super) fn watch_started(&mut self) {
        for worker in std::mem::take(&mut self.started) {
            if self.io(worker).is_some_and(|io| io.is_unwatched) {
                self.lasts(worker.stage);
                self.watch_outputs(worker);
            }
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
                Control::Scale { stage, width, answer } => self.scale(&stage, width, answer),
                Control::Restart { what, answer } => self.restart(&what, answer),
                Control::Reload { plan, touched, answer } => {
                    self.reload(*plan, touched, Asker::Reload(answer))
                }
                Control::Listen(sender, wants) => self.events.add(sender, wants),
                Control::Tap { edge, samples, answer } => {
                    let _ = answer.send(self.tap(&edge, samples));
                }
                Control::Explanation(answer) => {
                    let _ = answer.send(self.explanation());
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
        if paused {
            // One that takes the place of a process that has just ended would be met by no signal.
            self.revoke_successors();
        }
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
