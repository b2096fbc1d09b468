//! Processes that end, and what that means for their stage.

use std::time::Instant;

use super::{Action, Asked, LET_GO_AFTER, Outcome, Phase, Process, Slot, Supervisor, View, Worker};
use crate::event::EventKind;
use crate::model::{Exit, Mode, OnFailure, RestartPolicy, Signal, Usage};
use crate::report::Failure;

impl Supervisor {
    pub(super) fn group_ended(&mut self, worker: Worker, now: Instant, view: &dyn View) {
        let Some(slot) = self.slot(worker) else { return };
        let asked = slot.asked();
        let Some(process) = slot.process().copied() else { return };
        *slot = Slot::Draining { process, asked, let_go_at: now + LET_GO_AFTER };
        self.end_if_drained(worker, now, view);
    }

    pub(super) fn end_if_drained(&mut self, worker: Worker, now: Instant, view: &dyn View) {
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Draining { process, asked, .. } = *slot else { return };
        if process.outputs_ended {
            self.worker_ended(worker, process, asked, now, view);
        }
    }

    /// The process, its group and its outputs are all at their end.
    pub(super) fn worker_ended(
        &mut self,
        worker: Worker,
        process: Process,
        asked: Option<Asked>,
        now: Instant,
        view: &dyn View,
    ) {
        let (exit, usage) = process.exit.unwrap_or((Exit::Signal(Signal::KILL), Usage::default()));
        let config = &self.stages[worker.stage].config;
        let was_asked = asked.is_some_and(|asked| asked != Asked::Fault);
        let by_closed_pipe = is_broken_pipe(exit) && view.has_closed_output(worker.stage);
        let is_success = asked != Some(Asked::Fault)
            && (was_asked || by_closed_pipe || config.success_exit.contains(&exit));
        let exit_report = crate::report::ExitReport::new(exit, usage);
        let id = config.id(worker);
        let (mode, policy, config_is_function) = (config.mode, config.restart.policy, config.is_function);
        let does_tasks = config.does_tasks;
        self.emit(EventKind::WorkerEnded {
            worker: id,
            exit: exit_report,
            success: is_success,
            pid: process.pid,
        });
        let is_progress_asked = does_tasks || (!was_asked && view.holds_records(worker.stage, worker.rank));
        let charged = is_progress_asked.then(|| view.answered(worker.stage));
        self.actions.push(Action::Ended { worker, exit, is_success, asked });
        let stage = &mut self.stages[worker.stage];
        stage.ended_at = Some(now);
        if mode == Mode::Each || asked == Some(Asked::Retire) {
            // An `each` process has attempts, not restarts: the loop judges its record.
            stage.slots[worker.rank] = Slot::Vacant;
            return;
        }
        if worker.rank >= stage.config.pool.max {
            // The pool has become narrower meanwhile: nobody misses it.
            stage.slots[worker.rank] = Slot::Vacant;
            return;
        }
        stage.slots[worker.rank] = Slot::Done;
        if !stage.is_active() {
            return;
        }
        if asked == Some(Asked::Replace) {
            return self.start(worker.stage, worker.rank);
        }
        if is_success && (was_asked || by_closed_pipe) {
            return;
        }
        if let Some(reason) = view.bad_end(worker.stage, worker.rank).filter(|_| is_success) {
            return self.fail_by_worker(worker, None, reason, now, view);
        }
        let name = self.stages[worker.stage].config.worker_name(worker.rank);
        let mut reason = describe_end(&name, exit);
        let work_done = self.stages[worker.stage].work_done;
        if mode == Mode::Map && !config_is_function && is_success && charged.is_some() {
            let (answered, held) = view.lease_counts(worker.stage, worker.rank);
            reason = format!(
                "worker `{name}` took {} records, answered {answered} and ended: a `map` command answers each \
                 record with exactly one; use `mode: stream` for one that does not",
                answered + held
            );
            return self.fail_by_worker(worker, Some(exit), reason, now, view);
        }
        // A `map` worker that ends before its work is done is missed, whatever its exit says; one that ends after
        // it has nothing to come back for. One that is killed then is no loss where it would have been started again
        // before; an exit of its own that is no success says that its end went wrong, which nobody else can know.
        let was_killed = matches!(exit, Exit::Signal(_)) && asked != Some(Asked::Fault);
        let had_all = view.has_had_all(worker.stage, worker.rank);
        let holds_none = || view.lease_counts(worker.stage, worker.rank).1 == 0;
        let is_over = work_done || (had_all && (is_success || was_killed) && holds_none());
        if mode == Mode::Map && is_over && was_killed && !is_success && policy != RestartPolicy::Never {
            return self.emit(EventKind::Notice { message: format!("{reason}, after its work was done") });
        }
        let is_missed = mode == Mode::Map && !is_over;
        let again = match policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !work_done && (!is_success || is_missed),
            RestartPolicy::Always => !is_over,
        };
        match (again, is_success && !is_missed) {
            (true, _) => self.restart(worker, reason, charged, now, view),
            (false, true) => {}
            (false, false) => self.fail_by_worker(worker, Some(exit), reason, now, view),
        }
    }

    pub(super) fn fail_by_worker(
        &mut self,
        worker: Worker,
        exit: Option<Exit>,
        reason: String,
        now: Instant,
        view: &dyn View,
    ) {
        let config = &self.stages[worker.stage].config;
        let failure = Failure {
            stage: Some(config.name.clone()),
            worker: Some(config.worker_name(worker.rank)),
            exit: exit.map(Exit::code),
            reason,
            stderr: view.stderr_tail(worker.stage, worker.rank),
            problem: None,
        };
        self.fail(worker.stage, failure, now);
    }

    pub(super) fn fail(&mut self, stage: usize, failure: Failure, now: Instant) {
        if matches!(self.stages[stage].phase, Phase::Ending(_) | Phase::Over(_) | Phase::Fallen)
            || self.falls(stage, &failure, now)
        {
            return;
        }
        let Failure { worker, exit, reason, stderr, .. } = failure.clone();
        let name = self.stages[stage].config.name.clone();
        self.emit(EventKind::StageFailed { stage: name, reason, worker, exit, stderr });
        self.failures.push(failure);
        self.actions.push(Action::AbandonInput { stage, has_failed: true });
        self.end_stage(stage, Outcome::Failed, now);
        if self.stages[stage].config.on_failure == OnFailure::Stop && !self.is_failing {
            self.is_failing = true;
            self.end_all(now);
        }
    }

    /// Ends a stage: its workers are asked to, and none is started any more.
    pub(super) fn end_stage(&mut self, stage: usize, outcome: Outcome, now: Instant) {
        match self.stages[stage].phase {
            Phase::Over(_) => return,
            // It was about to end by itself, and now it is made to.
            Phase::Ending(Outcome::Finished) if self.stages[stage].live() > 0 => {
                self.stages[stage].phase = Phase::Ending(outcome);
            }
            Phase::Ending(_) => {}
            Phase::Waiting
            | Phase::Running
            | Phase::Restarting
            | Phase::Preparing
            | Phase::StandingBy
            | Phase::Leaving
            | Phase::Fallen => {
                self.stages[stage].phase = Phase::Ending(outcome);
            }
        }
        for rank in 0..self.stages[stage].slots.len() {
            self.ask(stage, rank, Asked::Stop, now);
        }
    }

    pub(super) fn end_all(&mut self, now: Instant) {
        for stage in 0..self.stages.len() {
            self.end_stage(stage, Outcome::Stopped, now);
        }
    }
}

/// Killed by SIGPIPE, or a shell whose command was.
fn is_broken_pipe(exit: Exit) -> bool {
    exit == Exit::Signal(Signal::PIPE) || exit == Exit::Code(128 + Signal::PIPE.0)
}

/// What a worker's end looks like in words.
pub(crate) fn describe_end(worker: &str, exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("worker `{worker}` exited with {code}"),
        Exit::Signal(signal) => format!("worker `{worker}` was killed by {signal} ({})", -signal.0),
    }
}
