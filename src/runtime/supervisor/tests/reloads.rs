//! Reloads in the pretended world: whoever runs the supervisor, as `run::reload` does, with what must hold at each step.

use std::rc::Rc;

use super::super::reload::Begins;
use super::super::*;
use super::world::World;

/// A reload that has not taken effect.
#[derive(Debug, Clone)]
pub(super) struct Coming {
    /// Old and new positions of the stages that are replaced.
    replaced: Vec<(usize, usize)>,
    /// Of these, those of which only one form may be there at a time, until the new one may come up.
    exclusive: Vec<(usize, usize)>,
    is_standing_by: bool,
}

/// What the world knows of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    coming: Option<Coming>,
    /// By the stage's place in the plan: its position in effect.
    pub(super) live: Vec<usize>,
    has_failed_to_come: bool,
    /// How many have taken effect, were given up, and brought a stage that fell.
    pub(super) counts: [u64; 3],
}

impl Reloads {
    /// All stages of the plan are in effect.
    pub(super) fn of(stages: usize) -> Self {
        Self { live: (0..stages).collect(), ..Self::default() }
    }
}

/// All of a stage that an untouched one keeps.
fn kept(stage: &Stage) -> (Phase, Vec<Slot>, Vec<u64>) {
    (stage.phase, stage.slots.clone(), stage.generations.clone())
}

impl World {
    /// Replaces those stages in effect that `is_wanted` chooses, and any that has fallen.
    pub(super) fn reload(&mut self, is_wanted: impl Fn(usize) -> bool) {
        if self.supervisor.is_ending() {
            return;
        }
        self.give_up();
        let plan = Rc::clone(&self.plan);
        let first = self.supervisor.stages_len();
        let has_ended =
            |stage: usize| matches!(self.supervisor.stage(stage).phase, Phase::Ending(_) | Phase::Over(_));
        let chosen: Vec<usize> = (0..self.reloads.live.len())
            .filter(|&of| {
                let at = self.reloads.live[of];
                !has_ended(at) && (is_wanted(of) || self.supervisor.stage(at).phase == Phase::Fallen)
            })
            .collect();
        let replaced: Vec<(usize, usize)> =
            chosen.iter().enumerate().map(|(at, &of)| (self.reloads.live[of], first + at)).collect();
        let mut live = self.reloads.live.clone();
        chosen.iter().enumerate().for_each(|(at, &of)| live[of] = first + at);
        let configs = chosen.iter().map(|&of| {
            let config = Config::new(&plan.stages[of], &plan).remapped(&live);
            let pool = self.supervisor.stage(self.reloads.live[of]).config.pool;
            (Config { pool, ..config }, plan.stages[of].stage.exclusive)
        });
        let configs: Vec<_> = configs.collect();
        for (config, _) in &configs {
            self.make_room(config.pool.max);
        }
        let is_exclusive = |&(old, _): &(usize, usize)| self.is_exclusive(old);
        let exclusive = replaced.iter().copied().filter(is_exclusive).collect();
        // Whoever stands by has nothing to wait for when it comes back.
        replaced.iter().for_each(|&(old, _)| self.forget_backoffs(old));
        self.reloads.coming = Some(Coming { replaced, exclusive, is_standing_by: false });
        let before: Vec<_> = self.supervisor.stages.iter().map(kept).collect();
        self.step(Input::Prepare(configs));
        let after: Vec<_> = self.supervisor.stages[..first].iter().map(kept).collect();
        assert_eq!(before, after, "what is prepared touches nobody");
    }

    /// Takes the reload that is on its way one step further, if it can go.
    pub(super) fn advance_reload(&mut self) {
        let Some(mut coming) = self.reloads.coming.take() else { return };
        let ended =
            |stage: usize| matches!(self.supervisor.stage(stage).phase, Phase::Ending(_) | Phase::Over(_));
        if self.supervisor.is_ending() || coming.replaced.iter().any(|&(old, _)| ended(old)) {
            self.reloads.coming = Some(coming);
            return self.give_up();
        }
        let is_up = coming.replaced.iter().all(|&(_, new)| self.supervisor.is_prepared(new));
        if coming.is_standing_by {
            let may_begin = coming.exclusive.iter().all(|&(_, new)| self.supervisor.is_alone(new));
            if may_begin {
                coming.is_standing_by = false;
                let news = std::mem::take(&mut coming.exclusive).into_iter().map(|(_, new)| new).collect();
                self.reloads.coming = Some(coming);
                return self.step(Input::BeginPrepared(news));
            }
            self.reloads.coming = Some(coming);
        } else if is_up && !coming.exclusive.is_empty() {
            coming.is_standing_by = true;
            let olds = coming.exclusive.iter().map(|&(old, _)| old).collect();
            self.reloads.coming = Some(coming);
            self.step(Input::StandBy(olds));
        } else if is_up {
            self.commit(&coming);
        } else {
            self.reloads.coming = Some(coming);
        }
    }

    fn commit(&mut self, coming: &Coming) {
        let plan = Rc::clone(&self.plan);
        for at in &mut self.reloads.live {
            if let Some((_, new)) = coming.replaced.iter().find(|(old, _)| old == at) {
                *at = *new;
            }
        }
        let live = self.reloads.live.clone();
        let configs = live
            .iter()
            .enumerate()
            .map(|(of, &at)| (at, Config::new(&plan.stages[of], &plan).remapped(&live)));
        let commit = Commit {
            configs: configs.collect(),
            added: coming.replaced.iter().map(|&(_, new)| new).collect(),
            leaving: coming.replaced.iter().map(|&(old, _)| old).collect(),
            stop: plan.stop,
        };
        let others: Vec<usize> = live.iter().copied().filter(|at| !commit.added.contains(at)).collect();
        // One that waits may begin by it.
        let there =
            |slots: &[Slot]| slots.iter().filter(|slot| !slot.is_at_rest()).copied().collect::<Vec<_>>();
        let before: Vec<_> =
            others.iter().map(|&at| (at, there(&self.supervisor.stages[at].slots))).collect();
        self.step(Input::Commit(Box::new(commit)));
        for (at, before) in before {
            let after = there(&self.supervisor.stages[at].slots);
            // The new form may depend on what has failed, and fail the run.
            let is_kept = self.supervisor.is_ending() || before.iter().all(|slot| after.contains(slot));
            assert!(is_kept, "who is not replaced keeps its workers");
        }
        for &(old, new) in &coming.replaced {
            let phase = |stage: usize| self.supervisor.stage(stage).phase;
            assert!(
                matches!(phase(old), Phase::Leaving | Phase::Ending(_) | Phase::Over(_)),
                "the old form leaves: {:?}",
                phase(old)
            );
            assert!(phase(new) != Phase::Preparing, "the new form is in effect");
        }
        self.reloads.counts[0] += 1;
    }

    /// The reload that is on its way is not to be.
    pub(super) fn give_up(&mut self) {
        let Some(coming) = self.reloads.coming.take() else { return };
        self.reloads.counts[1] += 1;
        self.step(Input::Withdraw(coming.replaced.iter().map(|&(_, new)| new).collect()));
        if self.has_ended {
            return;
        }
        for (old, new) in coming.replaced {
            let phase = |stage: usize| self.supervisor.stage(stage).phase;
            assert!(phase(old) != Phase::StandingBy, "whoever stood by comes back");
            assert!(matches!(phase(new), Phase::Ending(_) | Phase::Over(_)), "nobody needs it");
        }
    }

    /// Some stage has failed that a reload has brought.
    pub(super) fn not_up(&mut self, stage: usize) {
        let comes = |coming: &Coming| coming.replaced.iter().any(|&(_, new)| new == stage);
        if self.reloads.coming.as_ref().is_some_and(comes) {
            self.reloads.has_failed_to_come = true;
        } else if self.supervisor.stage(stage).phase == Phase::Fallen {
            self.reloads.counts[2] += 1;
            assert!(self.reloads.live.contains(&stage), "only what is in effect falls");
        }
    }

    /// What `run::reload` does between two steps: it may not give up within one.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.reloads.has_failed_to_come) {
            self.give_up();
        }
    }

    /// Asserts that a form of which there may be only one is the only one, when a process of it starts.
    pub(super) fn expect_alone(&self, stage: usize) {
        if !self.is_exclusive(stage) {
            return;
        }
        let name = &self.supervisor.stages[stage].config.name;
        for other in (0..self.slots.len()).filter(|&other| other != stage) {
            if self.supervisor.stages[other].config.name == *name {
                let is_there = self.slots[other].iter().any(Option::is_some);
                assert!(!is_there, "two forms of `{name}` are there, which wants to be alone");
            }
        }
    }

    fn is_exclusive(&self, stage: usize) -> bool {
        let name = &self.supervisor.stages[stage].config.name;
        self.plan.stages.iter().any(|planned| planned.stage.name == *name && planned.stage.exclusive)
    }

    /// Whether what a stage depends on was looked at when it was prepared.
    pub(super) fn was_looked_at(&self, stage: usize) -> bool {
        stage >= self.plan.stages.len() && self.supervisor.stages[stage].begins != Begins::InEffect
    }

    /// Only what is in effect fails.
    pub(super) fn expect_failures_in_effect(&self) {
        for name in self.supervisor.failures().iter().filter_map(|failure| failure.stage.as_ref()) {
            let of = self.plan.stages.iter().position(|planned| planned.stage.name == *name);
            let phase =
                self.supervisor.stages[self.reloads.live[of.expect("it is a stage of the plan")]].phase;
            assert!(
                matches!(phase, Phase::Ending(_) | Phase::Over(_)),
                "`{name}` has failed, and is {phase:?}"
            );
        }
    }
}
