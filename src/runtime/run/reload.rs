//! A run that becomes another pipeline: what is new comes up, takes over, and what is old leaves.
//!
//! | step | what happens |
//! |---|---|
//! | compare | by name, with the plan in effect: a pure value ([`crate::change`]) |
//! | prepare | new stages get positions at the end of all, and their workers start; they are given nothing, and what they write is kept |
//! | stand by | of `exclusive` stages: the old workers finish, then the new ones start |
//! | commit | all at once: queues have other ends, new workers work, old ones finish what they hold |
//! | withdraw | instead, if a worker does not come up: what is new ends, what stood by starts again |
//!
//! A reload that comes while another is being prepared takes its place, and whoever asked for either gets its answer. What
//! fails in the first moment after a commit takes the whole reload back, by another. Where that would bring the same once
//! more (it was the content of a file that had changed, or what was before has fallen too) the stage rests: whoever has
//! reloaded once does so again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RunLoop;
use super::gate::Gate;
use super::steer::Asker;
use super::worker::StderrTail;
use crate::change::{Change, Reloaded, SteerError, Step as ChangeStep};
use crate::event::EventKind;
use crate::graph::{Live, Merged, Plan, compare};
use crate::ipc::Block;
use crate::model::Mode;
use crate::report::Failure;
use crate::runtime::broker::{ProducerId, Reason, Takeover};
use crate::runtime::supervisor::{Commit, Config, Input, Outcome, Phase};

/// Where a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Preparing,
    /// Old workers of `exclusive` stages finish.
    StandingBy,
}

/// A reload that has not taken effect.
#[derive(Debug)]
struct Reload {
    change: Change,
    merged: Merged,
    touched: BTreeMap<String, String>,
    /// Stages that had come to their end when it began.
    ended: BTreeSet<usize>,
    /// Old and new position of stages of which only one may be there at a time.
    exclusive: Vec<(usize, usize)>,
    step: Step,
    began_at: Instant,
    answers: Vec<Asker>,
    /// It takes another back.
    is_return: bool,
    /// A stage that falls waits for the next one, which whoever asked for this one will ask for.
    may_rest: bool,
}

/// What the loop knows of reloads.
#[derive(Debug)]
pub(super) struct Reloads {
    live: Live,
    under_way: Option<Reload>,
    /// The plan that a reload is taken back to: the last one of which no stage has fallen.
    before: Option<Plan>,
    /// Of the last reload that took effect, as [`Reload::may_rest`].
    may_rest: bool,
    /// What was written by workers that ended before their stage was in effect, by stage.
    pub(super) early: BTreeMap<usize, Vec<(ProducerId, Block)>>,
    /// Stages that are in effect no more and have not been told that nothing is left for them.
    leaving: Vec<usize>,
}

impl Reloads {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            live: Live::new(plan),
            under_way: None,
            before: None,
            may_rest: false,
            early: BTreeMap::new(),
            leaving: Vec::new(),
        }
    }

    /// Positions of the stages in effect, in the order of their plan.
    pub(super) fn stages(&self) -> &[usize] {
        &self.live.stages
    }

    pub(super) fn is_queue_live(&self, queue: usize) -> bool {
        self.live.queues.contains(&queue)
    }

    /// The position of the stage of this name that is in effect.
    pub(super) fn stage(&self, name: &str) -> Option<usize> {
        self.live.stage(name)
    }

    /// The position of the queue of this name that is in effect.
    pub(super) fn queue(&self, name: &str) -> Option<usize> {
        self.live.queue(name)
    }

    /// The plan that is to be in effect next, or is.
    pub(super) fn newest_plan(&self) -> &Plan {
        self.under_way.as_ref().map_or(&self.live.plan, |reload| &reload.merged.live.plan)
    }

    /// The plan in effect.
    pub(super) fn plan(&self) -> &Plan {
        &self.live.plan
    }

    /// A stage in effect has another pool.
    pub(super) fn resized(&mut self, stage: usize, pool: crate::model::Pool) {
        if let Some(at) = self.live.stages.iter().position(|&of| of == stage) {
            self.live.plan.stages[at].stage.pool = pool;
        }
    }
}

impl RunLoop {
    // ---- asked for

    /// `touched`: stages to be replaced though their text is the same, and why.
    pub(super) fn reload(&mut self, plan: Plan, touched: BTreeMap<String, String>, answer: Asker) {
        let (mut answers, mut touched) = (vec![answer], touched);
        if let Some(before) = self.reloads.under_way.take() {
            // What that was to replace still has to be.
            let stale = before.touched.clone();
            answers.extend(self.withdraw(before));
            for (stage, reason) in stale {
                touched.entry(stage).or_insert(reason);
            }
        }
        self.begin_reload(plan, touched, answers, false);
    }

    fn begin_reload(
        &mut self,
        plan: Plan,
        mut touched: BTreeMap<String, String>,
        answers: Vec<Asker>,
        is_return: bool,
    ) {
        let began_at = self.clock.now();
        let has_fallen = self.supervisor.fallen().next().is_some();
        let may_rest = has_fallen || answers.iter().any(|asker| matches!(asker, Asker::Reload(_)));
        for stage in self.supervisor.fallen() {
            let name = self.plan.stages[stage].stage.name.clone();
            touched.entry(name).or_insert_with(|| "it has failed".to_owned());
        }
        let change = compare(&self.reloads.live.plan, &plan, &touched);
        let ended = self.ended_stages();
        if let Err(error) = self.may_reload(&plan, &change, &ended) {
            answer_all(answers, Err(error));
            return self.settle_fallen();
        }
        let merged = self.reloads.live.merge(&self.plan, &plan, &change, &ended);
        if change.is_nothing() {
            // But perhaps the order in which it is written, by which positions are told.
            self.reloads.live = merged.live;
            return answer_all(answers, Ok(Reloaded { change, took: Duration::ZERO }));
        }
        let is_exclusive = |&(old, new): &(usize, usize)| {
            merged.prepared.stages[old].stage.exclusive || merged.prepared.stages[new].stage.exclusive
        };
        let exclusive: Vec<_> = merged.replaced.iter().copied().filter(is_exclusive).collect();
        self.plan = Arc::new(merged.prepared.clone());
        let configs = merged.added.iter().map(|&new| {
            let at = merged.live.stages.iter().position(|&stage| stage == new).unwrap_or_default();
            let config = Config::new(&plan.stages[at], &plan).remapped(&merged.live.stages);
            (config, exclusive.iter().any(|&(_, of)| of == new))
        });
        let configs = configs.collect();
        for &new in &merged.added {
            let old = merged.replaced.iter().find(|(_, of)| *of == new).map(|(old, _)| *old);
            self.add_stage(new, old);
        }
        self.renew_fork_servers();
        self.tell(EventKind::Reloading { change: change.clone() });
        self.reloads.under_way = Some(Reload {
            change,
            merged,
            touched,
            ended,
            exclusive,
            step: Step::Preparing,
            began_at,
            answers,
            is_return,
            may_rest,
        });
        // At once: whoever goes through all stages meets these, too.
        self.step(Input::Prepare(configs));
    }

    /// Stages in effect that have come to their end, or are about to.
    fn ended_stages(&self) -> BTreeSet<usize> {
        let has_ended = |&&stage: &&usize| {
            matches!(self.supervisor.stage(stage).phase, Phase::Ending(_) | Phase::Over(_))
        };
        self.reloads.live.stages.iter().filter(has_ended).copied().collect()
    }

    fn may_reload(&self, plan: &Plan, change: &Change, ended: &BTreeSet<usize>) -> Result<(), SteerError> {
        if self.is_about_to_end() {
            return Err(SteerError::RunEnded);
        }
        let mut new_run = change.new_run.clone();
        new_run.extend(self.unchangeable_streams(plan, change));
        if !new_run.is_empty() {
            return Err(SteerError::NewRun(new_run));
        }
        for &stage in ended {
            let name = &self.plan.stages[stage].stage.name;
            let Some(new) = plan.stages.iter().find(|stage| stage.stage.name == *name) else { continue };
            let old = &self.plan.stages[stage];
            let has_all = |old: &[crate::graph::PortPlan], new: &[crate::graph::PortPlan]| {
                new.iter().all(|port| old.iter().any(|old| old.name == port.name))
            };
            if !has_all(&old.inputs, &new.inputs) || !has_all(&old.outputs, &new.outputs) {
                return Err(SteerError::StageEnded(name.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn is_about_to_end(&self) -> bool {
        self.has_ended || self.asked_to_end.is_some() || self.supervisor.is_ending()
    }

    /// Room for one more stage, at the end of all.
    fn add_stage(&mut self, stage: usize, old: Option<usize>) {
        let plan = Arc::clone(&self.plan);
        let declared = &plan.stages[stage].stage;
        let width = declared.pool.max;
        debug_assert_eq!(stage, self.workers.len(), "stages come one after the other");
        self.workers.push((0..width).map(|_| None).collect());
        self.successors.push((0..width).map(|_| VecDeque::new()).collect());
        self.recipes.push(vec![None; width]);
        self.tails.push((0..width).map(|_| StderrTail::default()).collect());
        self.turns.push(0);
        self.abandoned.push(false);
        self.work_done.push(false);
        self.ahead.push(usize::from(declared.mode == Mode::Each));
        self.gates.push(Gate::Closed);
        self.broker.add_stage(&plan, stage, old);
    }

    // ---- on its way

    /// Goes on with a reload that is under way, as far as it can. Whether anything was done.
    pub(super) fn advance_reload(&mut self) -> bool {
        self.look_at_leaving();
        if self.reloads.under_way.is_none() || !self.inputs.is_empty() {
            return !self.inputs.is_empty();
        }
        let ended = self.ended_stages();
        let is_over = self.is_about_to_end() || self.reloads.live.stages.iter().all(|at| ended.contains(at));
        let Some(mut reload) = self.reloads.under_way.take() else { return false };
        if is_over {
            let answers = self.withdraw(reload);
            answer_all(answers, Err(SteerError::RunEnded));
            return true;
        }
        if ended != reload.ended {
            // What has come to its end meanwhile is not replaced any more.
            self.begin_again(reload);
            return true;
        }
        let is_up = reload.merged.added.iter().all(|&stage| self.supervisor.is_prepared(stage));
        match reload.step {
            Step::Preparing if is_up && reload.exclusive.is_empty() => {
                self.commit(reload);
                true
            }
            Step::Preparing if is_up => {
                let olds = reload.exclusive.iter().map(|&(old, _)| old).collect();
                self.inputs.push_back(Input::StandBy(olds));
                reload.step = Step::StandingBy;
                self.reloads.under_way = Some(reload);
                true
            }
            Step::StandingBy => {
                let are_free = reload.exclusive.iter().all(|&(_, new)| self.supervisor.is_alone(new));
                if are_free {
                    let news = std::mem::take(&mut reload.exclusive).into_iter().map(|(_, new)| new);
                    self.inputs.push_back(Input::BeginPrepared(news.collect()));
                    reload.step = Step::Preparing;
                }
                self.reloads.under_way = Some(reload);
                are_free
            }
            Step::Preparing => {
                self.reloads.under_way = Some(reload);
                false
            }
        }
    }

    /// The same once more, as what it is compared with has become something else.
    fn begin_again(&mut self, reload: Reload) {
        let (plan, touched) = (reload.merged.live.plan.clone(), reload.touched.clone());
        let is_return = reload.is_return;
        let answers = self.withdraw(reload);
        self.begin_reload(plan, touched, answers, is_return);
    }

    /// A reload is not to be. Whoever waits for it.
    fn withdraw(&mut self, reload: Reload) -> Vec<Asker> {
        for stage in &reload.merged.added {
            self.reloads.early.remove(stage);
        }
        self.inputs.push_back(Input::Withdraw(reload.merged.added));
        reload.answers
    }

    /// A stage that a reload has brought has failed, before it was in effect or soon after.
    pub(super) fn not_up(&mut self, stage: usize, failure: Failure) {
        let is_under_way = |reload: &Reload| reload.merged.added.contains(&stage);
        if self.reloads.under_way.as_ref().is_some_and(is_under_way) {
            let Some(reload) = self.reloads.under_way.take() else { return };
            let answers = self.withdraw(reload);
            self.tell(EventKind::ReloadFailed { failure: failure.clone(), was_in_effect: false });
            answer_all(answers, Err(SteerError::NotUp(Box::new(failure))));
            return self.settle_fallen();
        }
        if self.supervisor.stage(stage).phase != Phase::Fallen {
            return;
        }
        match self.reloads.under_way.take() {
            // Something comes up already, and replaces it too.
            Some(reload) => self.begin_again(reload),
            None => {
                self.tell(match (self.may_return(), self.reloads.may_rest) {
                    (true, _) => EventKind::ReloadFailed { failure, was_in_effect: true },
                    (false, true) => EventKind::StageFell { failure },
                    // It is told as any failure.
                    (false, false) => return self.inputs.push_back(Input::GiveUpFallen),
                });
                self.settle_fallen();
            }
        }
    }

    /// Nothing comes up that would take the place of stages that have fallen: what was before them does, or they rest, or
    /// have failed.
    fn settle_fallen(&mut self) {
        if self.may_return() {
            let before = self.reloads.before.take().expect("there is one to return to");
            self.begin_reload(before, BTreeMap::new(), Vec::new(), true);
        } else if !self.reloads.may_rest {
            self.inputs.push_back(Input::GiveUpFallen);
        }
    }

    /// Whether all stages that have fallen were something else before.
    fn may_return(&self) -> bool {
        let Some(before) = &self.reloads.before else { return false };
        let change = compare(&self.reloads.live.plan, before, &BTreeMap::new());
        let was_other = |stage: usize| {
            let step = change.stage(&self.plan.stages[stage].stage.name).map(|stage| stage.step);
            matches!(step, Some(ChangeStep::Replace | ChangeStep::Remove))
        };
        let mut fallen = self.supervisor.fallen().peekable();
        fallen.peek().is_some() && fallen.all(was_other)
    }

    // ---- in effect

    fn commit(&mut self, reload: Reload) {
        let Reload { change, merged, began_at, answers, is_return, may_rest, .. } = reload;
        let had_fallen = self.supervisor.fallen().next().is_some();
        let Merged { committed, live, replaced, added, removed, resized, .. } = merged;
        let pools: Vec<_> = resized.iter().map(|&at| (at, committed.stages[at].stage.pool)).collect();
        let mut committed = committed;
        for &at in &resized {
            // It is told so by itself, below.
            committed.stages[at].stage.pool = self.plan.stages[at].stage.pool;
        }
        self.plan = Arc::new(committed);
        let plan = Arc::clone(&self.plan);
        self.names.pipeline.clone_from(&plan.name);
        self.broker
            .take_over(&plan, &Takeover { stages: &live.stages, queues: &live.queues, replaced: &replaced });
        let configs = live
            .plan
            .stages
            .iter()
            .zip(&live.stages)
            .map(|(planned, &at)| (at, Config::new(planned, &live.plan).remapped(&live.stages)));
        for &stage in &added {
            let old = replaced.iter().find(|(_, new)| *new == stage).map(|&(old, _)| old);
            let first = old.filter(|&old| self.keeps_order(old, stage));
            self.gates[stage] = first.map_or(Gate::Opening, Gate::Behind);
        }
        let leaving: Vec<usize> = replaced.iter().map(|&(old, _)| old).chain(removed).collect();
        let commit = Commit { configs: configs.collect(), added: added.clone(), leaving, stop: plan.stop };
        self.reloads.leaving.extend(&commit.leaving);
        self.step(Input::Commit(Box::new(commit)));
        let before = std::mem::replace(&mut self.reloads.live, live).plan;
        self.reloads.may_rest = may_rest;
        match (is_return, had_fallen) {
            (true, _) => self.reloads.before = None,
            (false, true) => {}
            (false, false) => self.reloads.before = Some(before),
        }
        for (stage, pool) in pools {
            self.resize(stage, pool, 0);
        }
        for stage in added {
            if self.gates[stage] == Gate::Opening {
                self.release(stage);
            }
        }
        self.close_ended();
        self.open_late_stdout();
        let took = self.clock.now().saturating_duration_since(began_at);
        self.tell(EventKind::Reloaded { change: change.clone(), took });
        answer_all(answers, Ok(Reloaded { change, took }));
    }

    /// New edges may lead to stages that have come to their end.
    fn close_ended(&mut self) {
        for stage in self.ended_stages() {
            let reason = match self.supervisor.stage(stage).phase {
                Phase::Over(Outcome::Failed) => Reason::ConsumerFailed,
                _ => Reason::ConsumerEnded,
            };
            self.broker.close_input(stage, reason);
        }
    }

    /// Tells stages that leave when nothing is left for them.
    fn look_at_leaving(&mut self) {
        let broker = &self.broker;
        let supervisor = &self.supervisor;
        let done = self.reloads.leaving.extract_if(.., |&mut stage| {
            matches!(supervisor.stage(stage).phase, Phase::Over(_)) || broker.takes_no_more(stage)
        });
        for stage in done {
            self.work_done[stage] = true;
            self.inputs.push_back(Input::WorkDone { stage });
        }
    }

    // ---- standard streams

    /// What of `mpflow`'s own streams a run was started with and cannot change.
    fn unchangeable_streams(&self, plan: &Plan, change: &Change) -> Vec<String> {
        let mut all = Vec::new();
        let reads = |plan: &Plan| plan.queues.iter().any(|queue| queue.from.is_none());
        if reads(plan) && !reads(&self.reloads.live.plan) {
            all.push("the first edge from `stdin`".to_owned());
        }
        let is_new = |name: &str| change.edge(name).is_some_and(|edge| edge.step > ChangeStep::Rewire);
        let to_program = self.stdout.as_ref().is_some_and(super::stdio::Stdout::is_inside);
        if to_program && plan.queues.iter().any(|queue| queue.to.is_none() && is_new(&queue.name)) {
            all.push("an edge to `stdout`, whose values a program receives".to_owned());
        }
        all
    }
}

fn answer_all(answers: Vec<Asker>, result: Result<Reloaded, SteerError>) {
    for answer in answers {
        answer.answer(result.clone());
    }
}
