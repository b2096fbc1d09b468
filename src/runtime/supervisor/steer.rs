//! A run that is changed while it runs: wider and narrower pools, workers that are replaced one by one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Action, Asked, Phase, Slot, Supervisor, Worker};
use crate::model::{Mode, Pool};

/// A successor whose stage says nothing of being ready counts as that when it has run for so long: what cannot run at all
/// has ended by then, and would take the place of one healthy worker after the other.
pub(super) const SETTLES: Duration = Duration::from_millis(100);

/// A place in a pool, and the generation that was in it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Awaited {
    stage: usize,
    rank: usize,
    after: u64,
    /// It takes the place of a worker that was well.
    is_successor: bool,
    /// It runs, and is ready at this time if it still does.
    settles_at: Option<Instant>,
}

/// A rolling restart that was given up: the successor of this worker, by stage and rank, has ended at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) worker: (usize, usize),
    /// So many workers were left as they were.
    pub(crate) left: usize,
}

/// Something that was asked for and has not come about yet.
#[derive(Debug)]
pub(super) struct Steering {
    /// By which whoever asked knows it.
    ticket: u64,
    /// To be replaced, one after the other: so the pool is never short of more than one.
    left: VecDeque<(usize, usize)>,
    /// To be ready before the next is touched.
    awaited: Vec<Awaited>,
    /// Those that have ended for good instead.
    missing: Vec<(usize, usize)>,
}

/// What has become of one that was awaited.
enum Came {
    Up,
    NotYet,
    /// It runs, and has to go on until then.
    Settles(Instant),
    Never,
    /// It has ended, and another is tried.
    Fell,
}

impl Supervisor {
    /// Gives a stage another pool: adds workers, or lets those of the highest ranks finish what they hold.
    /// [`Action::Steered`] follows when those that were added are ready.
    pub(super) fn resize(&mut self, ticket: u64, stage: usize, pool: Pool, now: Instant) {
        let mut steering =
            Steering { ticket, left: VecDeque::new(), awaited: Vec::new(), missing: Vec::new() };
        self.stages[stage].resize(pool);
        let (phase, mode) = (self.stages[stage].phase, self.stages[stage].config.mode);
        if phase == Phase::Running && mode != Mode::Each {
            for rank in 0..self.stages[stage].slots.len() {
                if rank >= pool.max {
                    self.retire_rank(stage, rank, now);
                } else if rank < pool.min && self.stages[stage].slots[rank] == Slot::Vacant {
                    let after = self.stages[stage].generations[rank];
                    let awaited = Awaited { stage, rank, after, is_successor: false, settles_at: None };
                    steering.awaited.push(awaited);
                    self.start(stage, rank);
                }
            }
        }
        if mode == Mode::Each {
            self.actions.push(Action::Wake { stage });
        }
        self.steering.push(steering);
    }

    fn retire_rank(&mut self, stage: usize, rank: usize, now: Instant) {
        let is_source = self.stages[stage].config.is_source;
        let slot = &mut self.stages[stage].slots[rank];
        match *slot {
            Slot::BackingOff { .. } => *slot = Slot::Vacant,
            Slot::Running { process } if !is_source => {
                let worker = Worker { stage, rank, generation: process.generation };
                self.retire(worker, Asked::Retire, now);
            }
            // Nothing tells a source but its stop signal that it is to end, nor one that is on its way.
            Slot::Running { .. } | Slot::Starting { .. } => self.ask(stage, rank, Asked::Retire, now),
            Slot::Vacant
            | Slot::Finishing { .. }
            | Slot::Stopping { .. }
            | Slot::Killed { .. }
            | Slot::Draining { .. }
            | Slot::Done => {}
        }
    }

    /// Replaces these workers, one after the other, each when the one before is ready again. [`Action::Steered`]
    /// follows. Places that have no worker are passed over. A successor that ends at once ends it: the others stay.
    pub(super) fn restart_rolling(&mut self, ticket: u64, workers: Vec<(usize, usize)>) {
        self.steering.push(Steering {
            ticket,
            left: workers.into(),
            awaited: Vec::new(),
            missing: Vec::new(),
        });
    }

    /// Goes on with what was asked for, as far as it can.
    pub(super) fn advance_steering(&mut self, now: Instant) {
        let mut all = std::mem::take(&mut self.steering);
        if self.has_ended {
            // The launcher was lost. Whoever waits learns that the run has ended.
            return;
        }
        all.retain_mut(|steering| !self.advance_one(steering, now));
        debug_assert!(self.steering.is_empty(), "nothing is asked for by what is done");
        self.steering = all;
    }

    /// Whether it has come about.
    fn advance_one(&mut self, steering: &mut Steering, now: Instant) -> bool {
        loop {
            let missing = &mut steering.missing;
            let mut fell = None;
            steering.awaited.retain_mut(|awaited| match self.came(*awaited, now) {
                Came::NotYet => {
                    awaited.settles_at = None;
                    true
                }
                Came::Settles(at) => {
                    awaited.settles_at = Some(at);
                    true
                }
                Came::Up => false,
                Came::Never => {
                    missing.push((awaited.stage, awaited.rank));
                    false
                }
                Came::Fell => {
                    fell = Some((awaited.stage, awaited.rank));
                    false
                }
            });
            if let Some(worker) = fell {
                let given_up = Some(GivenUp { worker, left: steering.left.len() });
                self.actions.push(Action::Steered { ticket: steering.ticket, missing: Vec::new(), given_up });
                return true;
            }
            if !steering.awaited.is_empty() {
                return false;
            }
            let Some((stage, rank)) = steering.left.pop_front() else { break };
            steering.awaited.extend(self.replace_worker(stage, rank, now));
        }
        let missing = std::mem::take(&mut steering.missing);
        self.actions.push(Action::Steered { ticket: steering.ticket, missing, given_up: None });
        true
    }

    /// Has the process in a slot end, and another come. `None` where none is there that stays.
    fn replace_worker(&mut self, stage: usize, rank: usize, now: Instant) -> Option<Awaited> {
        let state = &self.stages[stage];
        let Slot::Running { process } = state.slots[rank] else { return None };
        if state.phase != Phase::Running {
            return None;
        }
        let after = process.generation;
        match state.config.is_source {
            true => self.ask(stage, rank, Asked::Replace, now),
            false => self.retire(Worker { stage, rank, generation: after }, Asked::Replace, now),
        }
        Some(Awaited { stage, rank, after, is_successor: true, settles_at: None })
    }

    /// When the next of those that have to run for a while has.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.steering
            .iter()
            .flat_map(|steering| &steering.awaited)
            .filter_map(|awaited| awaited.settles_at)
            .min()
    }

    fn came(&self, awaited: Awaited, now: Instant) -> Came {
        let state = &self.stages[awaited.stage];
        let generation = state.slots[awaited.rank].generation().unwrap_or(awaited.after);
        let waits_for_another =
            matches!(state.slots[awaited.rank], Slot::BackingOff { .. }) && state.shortage_until.is_none();
        if awaited.is_successor && (generation > awaited.after + 1 || waits_for_another) {
            return Came::Fell;
        }
        let says_so = state.config.has_probe || state.config.is_function;
        match state.slots[awaited.rank] {
            Slot::Running { process } if process.generation > awaited.after && state.ready[awaited.rank] => {
                match awaited.settles_at {
                    _ if says_so || !awaited.is_successor => Came::Up,
                    Some(at) if at <= now => Came::Up,
                    settles_at => Came::Settles(settles_at.unwrap_or(now + SETTLES)),
                }
            }
            // One of its own will, or has, for which nobody is to blame.
            Slot::Vacant | Slot::Done => Came::Never,
            _ if !matches!(state.phase, Phase::Running | Phase::Restarting) => Came::Never,
            _ => Came::NotYet,
        }
    }
}
