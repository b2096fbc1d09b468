//! Processes of an `each` stage that take the place of others at once.
//!
//! From the end of a process to the start of the next lie the launcher's news to the engine and the engine's request to
//! the launcher: several wake-ups of threads on other processors, in which the slot is empty. Where processes are brief,
//! that is a good part of the whole time. So while one is at work, records are set aside for its *successors*, and the
//! launcher is given all that it needs to start each in the moment in which the one before it has ended well. The briefer
//! they are, the longer is their line, and the more of them the launcher speaks of at once.
//!
//! The launcher says what becomes of each: that it starts it, which is an ordinary start as soon as the slot is free; or
//! that it does not, after which its record is anybody's again: when the one before fails, or is not brief, so that no
//! record waits behind a slow one while another slot is free. Then the whole line goes. The supervisor
//! knows only that one may come ([`Input::SuccessorAsked`]), so that no stage is over before that is known. Until it is
//! taken in, nothing of it is watched.

use std::time::Duration;

use super::held::Held;
use super::worker::{Exchange, NEARLY_FULL_BYTES, WorkerIo};
use super::{Owner, RunLoop};
use crate::graph::Plan;
use crate::model::{Body, Exit, FAILED, Format, Mode};
use crate::process::{BRIEF, Notification};
use crate::runtime::supervisor::{Input, Phase, Worker};

/// Successors that wait in the launcher at most, since each holds descriptors there.
pub(crate) const MOST_SUCCESSORS: usize = 32;

/// Those of one worker at most: with eight, engine and launcher wake each other for every fourth process. More would wait
/// for longer than [`BRIEF`] behind the briefest of programs, which take 0.6 ms.
pub(crate) const MOST_IN_LINE: usize = 8;

/// There is one more in the line where the records of those before it are smaller than this together.
pub(crate) const LINE_BYTES: u64 = 64 << 10;

/// A process that was asked for before its slot is free.
#[derive(Debug)]
pub(super) struct Successor {
    io: WorkerIo,
    /// Its record's size.
    bytes: u64,
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
        !self.successors[stage][rank].is_empty()
    }

    /// Has the launcher ready to start the next processes of this stage.
    pub(super) fn ask_for_successors(&mut self, stage: usize) {
        // Nobody would stop one that is started while the run is suspended.
        if self.clock.is_suspended() || !may_have_successors(&self.plan, stage) {
            return;
        }
        // Each worker's first, then each worker's second: few records are shared out evenly.
        for place in 0..MOST_IN_LINE {
            for rank in 0..self.workers[stage].len() {
                // Whoever waits for the launcher itself comes first.
                let is_full = self.launcher.is_busy() || self.successor_count >= MOST_SUCCESSORS;
                // An attempt may show that it had better be none.
                if is_full || place >= self.ahead[stage] {
                    return;
                }
                if self.successors[stage][rank].len() == place
                    && let Some(before) = self.may_be_followed(stage, rank)
                    && self.broker.reserve(stage, rank)
                {
                    self.ask_for_successor(stage, rank, before);
                }
            }
        }
    }

    /// The process that one more successor would take the place of, where there may be one.
    fn may_be_followed(&self, stage: usize, rank: usize) -> Option<u64> {
        // Behind one that is known to last, a record would be set aside only to come back, and others overtake it.
        let worker = self.workers[stage][rank].as_ref().filter(|io| io.is_unwatched)?;
        let line = &self.successors[stage][rank];
        let bytes: u64 = line.iter().map(|successor| successor.bytes).sum();
        let is_wanted = self.supervisor.stage(stage).is_at_work(rank)
            && bytes < LINE_BYTES
            && line.iter().all(|successor| !successor.is_revoked);
        let last = line.back().map_or(worker, |successor| &successor.io);
        is_wanted.then_some(last.id)
    }

    fn ask_for_successor(&mut self, stage: usize, rank: usize, before: u64) {
        // Its generation is known when it is taken in.
        let worker = Worker { stage, rank, generation: 0 };
        let bytes = self.broker.last_reserved(stage, rank).map_or(0, |lease| lease.block.len() as u64);
        let place = self.successors[stage][rank].len();
        match self.open_worker(worker, Some(before)) {
            Ok(io) => {
                self.ids.insert(io.id, Owner::Successor { stage, rank });
                let heard = Vec::new();
                let successor =
                    Successor { io, bytes, is_coming: false, heard, is_revoked: false, is_told: false };
                self.successors[stage][rank].push_back(successor);
                self.successor_count += 1;
                self.inputs.push_back(Input::SuccessorAsked { stage, rank });
            }
            // Once more in its turn, and then it is told why not.
            Err(_) => {
                self.ahead[stage] = 0;
                self.broker.give_back_reserved(stage, rank, place);
            }
        }
    }

    /// The launcher has said something of a successor that is not taken in yet.
    pub(super) fn hear_of_successor(&mut self, stage: usize, rank: usize, notification: Notification) {
        let line = &mut self.successors[stage][rank];
        match notification {
            // Not always the last of its line: one that was added since is on its way to be revoked, too.
            Notification::Revoked { id } | Notification::StartFailed { id, .. } => {
                let place = line.iter().position(|successor| successor.io.id == id);
                if let Some((place, successor)) = place.and_then(|place| Some((place, line.remove(place)?))) {
                    let was_last = line.is_empty();
                    self.successor_count -= 1;
                    self.ids.remove(&id);
                    self.drop_io(successor.io);
                    self.broker.give_back_reserved(stage, rank, place);
                    if was_last {
                        self.inputs.push_back(Input::SuccessorRevoked { stage, rank });
                    }
                }
            }
            Notification::Succeeds { id } => {
                if let Some(successor) = line.iter_mut().find(|successor| successor.io.id == id) {
                    successor.is_coming = true;
                }
            }
            Notification::Started { id, .. }
            | Notification::Exited { id, .. }
            | Notification::GroupEnded { id } => {
                if let Some(successor) = line.iter_mut().find(|successor| successor.io.id == id) {
                    successor.heard.push(notification);
                }
            }
            Notification::Lost => {}
        }
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
                let Some(first) = self.successors[stage][rank].front_mut() else { continue };
                if first.is_coming
                    && self.supervisor.stage(stage).is_slot_at_rest(rank)
                    && !std::mem::replace(&mut first.is_told, true)
                {
                    self.inputs.push_back(Input::SuccessorRuns { stage, rank });
                }
                if !is_wanted || rank >= width {
                    self.revoke(stage, rank);
                }
            }
        }
    }

    /// None is to be started by itself from now on, until others are asked for.
    pub(super) fn revoke_successors(&mut self) {
        (0..self.successors.len()).for_each(|stage| self.revoke_successors_of(stage));
    }

    fn revoke_successors_of(&mut self, stage: usize) {
        (0..self.successors[stage].len()).for_each(|rank| self.revoke(stage, rank));
    }

    /// A process of this stage lasts: others may, too. What waited behind it comes before what waits elsewhere.
    pub(super) fn lasts(&mut self, stage: usize) {
        self.ahead[stage] = 0;
        self.revoke_successors_of(stage);
    }

    /// The last first, so that none is started in the place of one that was revoked.
    fn revoke(&mut self, stage: usize, rank: usize) {
        for successor in self.successors[stage][rank].iter_mut().rev() {
            if !successor.is_coming
                && !std::mem::replace(&mut successor.is_revoked, true)
                && let Err(error) = self.launcher.request_revoke(successor.io.id)
            {
                tracing::error!(%error, "cannot ask the launcher to revoke a start");
            }
        }
    }

    /// The supervisor wants a process in a slot whose successor runs: it is an ordinary worker from now on.
    pub(super) fn take_in_successor(&mut self, worker: Worker) -> bool {
        let Worker { stage, rank, .. } = worker;
        let Some(Successor { mut io, heard, .. }) = self.successors[stage][rank].pop_front() else {
            return false;
        };
        self.successor_count -= 1;
        // The supervisor has forgotten that another may come.
        if !self.successors[stage][rank].is_empty() {
            self.inputs.push_back(Input::SuccessorAsked { stage, rank });
        }
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
    /// behind than a pipe holds. As many may wait in a line as end within the time for which a record may wait.
    pub(super) fn ran(&mut self, stage: usize, time: Option<Duration>, results: &[(usize, Held)]) {
        let is_small = results.iter().all(|(_, held)| held.bytes() < NEARLY_FULL_BYTES);
        let most = time.filter(|_| is_small).map_or(0, |time| BRIEF.as_micros() / time.as_micros().max(1));
        self.ahead[stage] = usize::try_from(most).unwrap_or(MOST_IN_LINE).min(MOST_IN_LINE);
    }
}
