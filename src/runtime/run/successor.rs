//! Processes of an `each` stage that take the place of others at once.
//!
//! From the end of a process to the start of the next lie the launcher's news to the engine and the engine's request to
//! the launcher: several wake-ups of threads on other processors, in which the slot is empty. Where processes are brief,
//! that is a good part of the whole time. So while one is at work, a record is set aside for its *successor*, and the
//! launcher is given all that it needs to start it in the moment in which the first has ended well.
//!
//! The launcher says what becomes of each: that it starts it, which is an ordinary start as soon as the slot is free; or
//! that it does not, after which its record is anybody's again: when the first fails, or is not brief, so that no record
//! waits behind a slow one while another slot is free. The supervisor knows only that one may come
//! ([`Input::SuccessorAsked`]), so that no stage is over before that is known. Until it is taken in, nothing of it is
//! watched.

use std::time::Duration;

use super::held::Held;
use super::worker::{Exchange, NEARLY_FULL_BYTES, WorkerIo};
use super::{Owner, RunLoop};
use crate::graph::Plan;
use crate::model::{Body, Exit, FAILED, Format, Mode};
use crate::process::{BRIEF, Notification};
use crate::runtime::supervisor::{Input, Phase, Worker};

/// Successors that wait in the launcher at most, since each holds descriptors there. More than that many processes do
/// not end within one turn.
pub(crate) const MOST_SUCCESSORS: usize = 32;

/// A process that was asked for before its slot is free.
#[derive(Debug)]
pub(super) struct Successor {
    io: WorkerIo,
    /// The launcher starts it.
    is_coming: bool,
    /// What the launcher has said of it since then.
    heard: Vec<Notification>,
    /// The launcher has been asked not to start it.
    is_revoked: bool,
    /// The supervisor was told that it comes.
    is_told: bool,
}

/// Whether processes of this stage may be started before it is known what came of those before them: not where more than
/// their exit can say that they failed, and not where a start depends on another.
pub(crate) fn may_have_successors(plan: &Plan, stage: usize) -> bool {
    let planned = &plan.stages[stage];
    let declared = &planned.stage;
    declared.mode == Mode::Each
        && matches!(declared.body, Body::Command(_))
        && declared.batch.is_none()
        && declared.ready.is_none()
        && declared.success_exit.contains(&Exit::SUCCESS)
        && planned.outputs.iter().all(|port| port.format != Format::Json || port.name == FAILED)
        && plan.pipes.iter().all(|pipe| pipe.from != stage && pipe.to != stage)
}

impl RunLoop {
    /// Whether one may come to this slot, which the supervisor may not have heard yet.
    pub(super) fn has_successor(&self, stage: usize, rank: usize) -> bool {
        self.successors[stage][rank].is_some()
    }

    /// Has the launcher ready to start the next processes of this stage.
    pub(super) fn ask_for_successors(&mut self, stage: usize) {
        // Nobody would stop one that is started while the run is suspended.
        if !self.is_brief[stage] || self.clock.is_suspended() || !may_have_successors(&self.plan, stage) {
            return;
        }
        for rank in 0..self.workers[stage].len() {
            // Whoever waits for the launcher itself comes first.
            if self.launcher.is_busy() || self.successor_count >= MOST_SUCCESSORS {
                return;
            }
            let Some(before) = self.workers[stage][rank].as_ref().map(|io| io.id) else { continue };
            if self.successors[stage][rank].is_none()
                && self.supervisor.stage(stage).is_at_work(rank)
                && self.broker.reserve(stage, rank)
            {
                self.ask_for_successor(stage, rank, before);
            }
        }
    }

    fn ask_for_successor(&mut self, stage: usize, rank: usize, before: u64) {
        // Its generation is known when it is taken in.
        let worker = Worker { stage, rank, generation: 0 };
        match self.open_worker(worker, Some(before)) {
            Ok(io) => {
                self.ids.insert(io.id, Owner::Successor { stage, rank });
                let successor =
                    Successor { io, is_coming: false, heard: Vec::new(), is_revoked: false, is_told: false };
                self.successors[stage][rank] = Some(successor);
                self.successor_count += 1;
                self.inputs.push_back(Input::SuccessorAsked { stage, rank });
            }
            // Once more in its turn, and then it is told why not.
            Err(_) => {
                self.is_brief[stage] = false;
                self.broker.give_back_reserved(stage, rank);
            }
        }
    }

    /// The launcher has said something of a successor that is not taken in yet.
    pub(super) fn hear_of_successor(&mut self, stage: usize, rank: usize, notification: Notification) {
        match notification {
            Notification::Revoked { .. } | Notification::StartFailed { .. } => {
                if let Some(successor) = self.take_successor(stage, rank) {
                    self.ids.remove(&successor.io.id);
                    self.drop_io(successor.io);
                    self.broker.give_back_reserved(stage, rank);
                    self.inputs.push_back(Input::SuccessorRevoked { stage, rank });
                }
            }
            Notification::Succeeds { .. } => {
                if let Some(successor) = &mut self.successors[stage][rank] {
                    successor.is_coming = true;
                }
            }
            Notification::Started { .. } | Notification::Exited { .. } | Notification::GroupEnded { .. } => {
                if let Some(successor) = &mut self.successors[stage][rank] {
                    successor.heard.push(notification);
                }
            }
            Notification::Lost => {}
        }
    }

    fn take_successor(&mut self, stage: usize, rank: usize) -> Option<Successor> {
        let successor = self.successors[stage][rank].take()?;
        self.successor_count -= 1;
        Some(successor)
    }

    /// Tells the supervisor of successors whose slot is free, and revokes those that nobody wants any more.
    pub(super) fn look_at_successors(&mut self) {
        if self.successor_count == 0 {
            return;
        }
        for stage in 0..self.successors.len() {
            let state = self.supervisor.stage(stage);
            let is_wanted = state.phase == Phase::Running && !self.abandoned[stage];
            let width = state.config.pool.max;
            for rank in 0..self.successors[stage].len() {
                let Some(successor) = &mut self.successors[stage][rank] else { continue };
                if successor.is_coming {
                    let is_free = self.supervisor.stage(stage).is_slot_at_rest(rank);
                    if is_free && !std::mem::replace(&mut successor.is_told, true) {
                        self.inputs.push_back(Input::SuccessorRuns { stage, rank });
                    }
                } else if !is_wanted || rank >= width {
                    self.revoke(stage, rank);
                }
            }
        }
    }

    /// None is to be started by itself from now on, until others are asked for.
    pub(super) fn revoke_successors(&mut self) {
        for stage in 0..self.successors.len() {
            for rank in 0..self.successors[stage].len() {
                self.revoke(stage, rank);
            }
        }
    }

    fn revoke(&mut self, stage: usize, rank: usize) {
        let Some(successor) = &mut self.successors[stage][rank] else { return };
        if !successor.is_coming
            && !std::mem::replace(&mut successor.is_revoked, true)
            && let Err(error) = self.launcher.request_revoke(successor.io.id)
        {
            tracing::error!(%error, "cannot ask the launcher to revoke a start");
        }
    }

    /// The supervisor wants a process in a slot whose successor runs: it is an ordinary worker from now on.
    pub(super) fn take_in_successor(&mut self, worker: Worker) -> bool {
        let Worker { stage, rank, .. } = worker;
        let Some(Successor { mut io, heard, .. }) = self.take_successor(stage, rank) else { return false };
        io.worker = worker;
        if let Exchange::Each { since, .. } = &mut io.exchange {
            *since = self.clock.now();
        }
        self.broker.succeed(stage, rank);
        self.ids.insert(io.id, Owner::Worker(worker));
        let watched = self.watch_inputs(&io);
        self.installed(worker, io);
        if let Err(refusal) = watched {
            self.inputs.push_back(Input::Fault { worker, reason: refusal.error });
        }
        self.overheard.extend(heard);
        true
    }

    /// A process of an `each` stage has ended: whether those after it are likely to end as soon, and to leave no more
    /// behind than a pipe holds.
    pub(super) fn took(&mut self, stage: usize, time: Duration, results: &[(usize, Held)]) {
        let is_small = results.iter().all(|(_, held)| held.bytes() < NEARLY_FULL_BYTES);
        self.is_brief[stage] = is_small && time < BRIEF;
    }
}
