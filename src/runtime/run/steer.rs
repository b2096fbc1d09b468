//! A run that is changed while it runs: what other threads ask for, and when it has come about.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::RunLoop;
use super::worker::StderrTail;
use crate::change::{Reloaded, SteerError};
use crate::event::EventKind;
use crate::graph::Plan;
use crate::model::{MOST_WORKERS, Mode, PerWorker, Pool, Stage, nearest};
use crate::runtime::supervisor::{GivenUp, Input, Phase};

/// Told when what was asked for has come about, or cannot.
pub(crate) type Answer<T> = Sender<Result<T, SteerError>>;

/// Whoever waits for a reload, and what they asked for.
#[derive(Debug)]
pub(super) enum Asker {
    Reload(Answer<Reloaded>),
    Scale(Answer<()>),
    /// How many workers were to be replaced.
    Restart(usize, Answer<usize>),
}

impl Asker {
    /// Nobody may wait any more.
    pub(super) fn answer(self, result: Result<Reloaded, SteerError>) {
        match self {
            Self::Reload(answer) => drop(answer.send(result)),
            Self::Scale(answer) => drop(answer.send(result.map(|_| ()))),
            Self::Restart(count, answer) => drop(answer.send(result.map(|_| count))),
        }
    }
}

/// Who waits for what, by ticket.
#[derive(Debug, Default)]
pub(super) struct Steering {
    next: u64,
    waiting: Vec<(u64, Waiting)>,
}

#[derive(Debug)]
enum Waiting {
    Scale(Answer<()>),
    /// How many were to be replaced.
    Restart(usize, Answer<usize>),
}

impl Steering {
    fn ticket(&mut self, waiting: Waiting) -> u64 {
        self.next += 1;
        self.waiting.push((self.next, waiting));
        self.next
    }
}

impl RunLoop {
    // ---- scale

    pub(super) fn scale(&mut self, stage: &str, width: usize, answer: Answer<()>) {
        match self.may_scale(stage, width) {
            // Its workers are joined to others one by one: they change all together.
            Ok(bound) if self.plan.is_bound_to_width(bound) => {
                let mut plan = self.reloads.newest_plan().clone();
                for stage in joined_by_pipes(&plan, stage) {
                    plan.stages[stage].stage.pool = Pool { min: width, max: width };
                }
                self.reload(plan, BTreeMap::new(), Asker::Scale(answer));
            }
            Ok(stage) => {
                let ticket = self.steering.ticket(Waiting::Scale(answer));
                self.resize(stage, Pool { min: width, max: width }, ticket);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn may_scale(&self, name: &str, width: usize) -> Result<usize, SteerError> {
        let stage = self.running_stage(name, "stage")?;
        if width == 0 {
            return Err(SteerError::NoWorkers);
        }
        // Room is made for each of them at once, living or not.
        if width > MOST_WORKERS {
            return Err(SteerError::TooManyWorkers(width));
        }
        match names_rank(&self.plan.stages[stage].stage) {
            Some((key, made)) if made < width => {
                Err(SteerError::NamesRank { stage: name.to_owned(), key, width, made })
            }
            _ => Ok(stage),
        }
    }

    /// Gives a stage another pool. Its queues, its workers and what they hold stay.
    pub(super) fn resize(&mut self, stage: usize, pool: Pool, ticket: u64) {
        let before = self.plan.stages[stage].stage.pool;
        Arc::make_mut(&mut self.plan).stages[stage].stage.pool = pool;
        self.reloads.resized(stage, pool);
        let width = self.workers[stage].len().max(pool.max);
        self.workers[stage].resize_with(width, || None);
        self.successors[stage].resize_with(width, VecDeque::new);
        self.tails[stage].resize_with(width, StderrTail::default);
        // Each worker finds the width of its pool in its environment.
        self.recipes[stage] = vec![None; width];
        self.broker.resize(stage, pool.max);
        if (before.max == 1) != (pool.max == 1) {
            self.workers[stage].iter_mut().flatten().for_each(|io| io.is_alone(pool.max == 1));
        }
        let name = self.plan.stages[stage].stage.name.clone();
        self.tell(EventKind::StageResized { stage: name, from: before.max, to: pool.max });
        // At once: whoever goes through a stage's workers asks the supervisor about each.
        self.step(Input::Resize { ticket, stage, pool });
    }

    // ---- restart

    /// `what`: a stage, or one worker of a stage.
    pub(super) fn restart(&mut self, what: &str, answer: Answer<usize>) {
        let is_fallen = |&stage: &usize| self.supervisor.stage(stage).phase == Phase::Fallen;
        if let Some(stage) = self.reloads.stage(what).filter(is_fallen) {
            // Any reload brings up what has fallen.
            let count = self.plan.stages[stage].stage.pool.min;
            let plan = self.reloads.newest_plan().clone();
            return self.reload(plan, BTreeMap::new(), Asker::Restart(count, answer));
        }
        match self.workers_called(what) {
            Ok(workers) if self.is_replaced_whole(&workers) => {
                let stage = self.plan.stages[workers[0].0].stage.name.clone();
                let touched = BTreeMap::from([(stage, "a restart was asked for".to_owned())]);
                let plan = self.reloads.newest_plan().clone();
                self.reload(plan, touched, Asker::Restart(workers.len(), answer));
            }
            Ok(workers) => {
                let ticket = self.steering.ticket(Waiting::Restart(workers.len(), answer));
                self.inputs.push_back(Input::Restart { ticket, workers });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Whether these workers are replaced as by a reload, their successors first: of a pool of one, which would leave a
    /// gap, and those that pipes join to others.
    fn is_replaced_whole(&self, workers: &[(usize, usize)]) -> bool {
        let Some(&(stage, _)) = workers.first() else { return false };
        let has_pipe = self.plan.pipes.iter().any(|pipe| pipe.from == stage || pipe.to == stage);
        has_pipe || self.plan.stages[stage].stage.pool.max == 1 && self.mode(stage) != Mode::Each
    }

    /// The workers that are there of a stage, or the one of this name.
    fn workers_called(&self, what: &str) -> Result<Vec<(usize, usize)>, SteerError> {
        let (name, rank) = match what.rsplit_once('/') {
            Some((name, rank)) => (name, Some(rank)),
            None => (what, None),
        };
        let stage = self.running_stage(name, "stage or worker")?;
        let ranks = 0..self.plan.stages[stage].stage.pool.max;
        match rank.map(str::parse::<usize>) {
            None => Ok(ranks
                .filter(|&rank| self.supervisor.stage(stage).stays(rank))
                .map(|rank| (stage, rank))
                .collect()),
            Some(Ok(rank)) if ranks.contains(&rank) => Ok(vec![(stage, rank)]),
            Some(_) => {
                let names: Vec<String> =
                    ranks.map(|rank| self.plan.stages[stage].stage.worker_name(rank)).collect();
                Err(unknown("stage or worker", what, names))
            }
        }
    }

    /// The stage of this name, which has not come to its end.
    fn running_stage(&self, name: &str, what: &'static str) -> Result<usize, SteerError> {
        if self.is_about_to_end() {
            return Err(SteerError::RunEnded);
        }
        let Some(stage) = self.reloads.stage(name) else {
            let stages = &self.reloads.plan().stages;
            return Err(unknown(what, name, stages.iter().map(|stage| stage.stage.name.clone()).collect()));
        };
        match self.supervisor.stage(stage).phase {
            Phase::Waiting | Phase::Running | Phase::Restarting => Ok(stage),
            Phase::Preparing
            | Phase::StandingBy
            | Phase::Leaving
            | Phase::Fallen
            | Phase::Ending(_)
            | Phase::Over(_) => Err(SteerError::StageEnded(name.to_owned())),
        }
    }

    // ---- what has come about

    pub(super) fn steered(&mut self, ticket: u64, missing: &[(usize, usize)], given_up: Option<GivenUp>) {
        let Some(at) = self.steering.waiting.iter().position(|(of, _)| *of == ticket) else { return };
        let (_, waiting) = self.steering.waiting.swap_remove(at);
        let name = |&(stage, rank): &(usize, usize)| self.plan.stages[stage].stage.worker_name(rank);
        let names: Vec<String> = missing.iter().map(name).map(|name| format!("`{name}`")).collect();
        let missing = (!names.is_empty()).then_some(SteerError::Missing(names));
        let error = given_up.map_or(missing, |GivenUp { worker, left }| {
            Some(SteerError::GivenUp { worker: name(&worker), left })
        });
        // Nobody may wait any more.
        match waiting {
            Waiting::Scale(answer) => drop(answer.send(error.map_or(Ok(()), Err))),
            Waiting::Restart(count, answer) => drop(answer.send(error.map_or(Ok(count), Err))),
        }
    }
}

/// There is nothing of this name, but of these.
fn unknown(what: &'static str, name: &str, names: Vec<String>) -> SteerError {
    let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    SteerError::Unknown { what, name: name.to_owned(), nearest, names }
}

/// The stages that this one is joined to by pipes, itself among them: worker by worker.
fn joined_by_pipes(plan: &Plan, name: &str) -> Vec<usize> {
    let mut joined: Vec<usize> = plan.stage_position(name).into_iter().collect();
    let mut next = 0;
    while let Some(&stage) = joined.get(next) {
        next += 1;
        for pipe in &plan.pipes {
            let other = match stage {
                _ if pipe.from == stage => pipe.to,
                _ if pipe.to == stage => pipe.from,
                _ => continue,
            };
            if !joined.contains(&other) {
                joined.push(other);
            }
        }
    }
    joined
}

/// A key of the stage whose values name the worker's rank, and for how many ranks they were made.
fn names_rank(stage: &Stage) -> Option<(&'static str, usize)> {
    use crate::model::Body;
    fn made<T>(key: &'static str, value: &PerWorker<T>) -> Option<(&'static str, usize)> {
        match value {
            PerWorker::Same(_) => None,
            PerWorker::ByRank(values) => Some((key, values.len())),
        }
    }
    let body = match &stage.body {
        Body::Command(command) => made("command", command),
        Body::Python(_) | Body::Function(_) => None,
    };
    let env = || stage.env.iter().find_map(|(_, value)| made("env", value));
    body.or_else(env)
        .or_else(|| made("cwd", &stage.cwd))
        .or_else(|| made("stdin", stage.stdin.as_ref()?))
        .or_else(|| made("stdout", stage.stdout.as_ref()?))
        .or_else(|| made("stderr", &stage.stderr))
}
