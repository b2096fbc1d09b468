//! A world of pretended processes around the supervisor: it plays the launcher and the broker, and asserts at each
//! step what must always hold.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::*;
use super::pairs::Seen;
use super::reloads::Reloads;
use crate::model::{DependencyState, Mode, RestartScope};

/// A process of the pretended world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pretended {
    pub(super) worker: Worker,
    pub(super) runs: bool,
    pub(super) exited: bool,
    pub(super) group_ended: bool,
    pub(super) outputs_ended: bool,
    pub(super) killed: bool,
    /// When it was sent its stop signal.
    pub(super) asked_at: Option<Instant>,
    /// It was to blame for something, and killed for it.
    pub(super) is_faulty: bool,
}

/// What became of the request to start the next process of a slot when the one that is there has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    Waits,
    Runs,
}

/// What the broker would say.
#[derive(Default)]
pub(super) struct Records {
    pub(super) answered: u64,
    pub(super) holds: bool,
    pub(super) has_closed_output: bool,
    pub(super) has_had_all: bool,
}

impl View for Records {
    fn answered(&self, _: usize) -> u64 {
        self.answered
    }
    fn holds_records(&self, _: usize, _: usize) -> bool {
        self.holds
    }
    fn lease_counts(&self, _: usize, _: usize) -> (u64, u64) {
        (self.answered, u64::from(self.holds))
    }
    fn has_closed_output(&self, _: usize) -> bool {
        self.has_closed_output
    }
    fn has_had_all(&self, _: usize, _: usize) -> bool {
        self.has_had_all
    }
    fn stderr_tail(&self, _: usize, _: usize) -> Vec<String> {
        Vec::new()
    }
}

pub(super) struct World {
    pub(super) supervisor: Supervisor,
    /// By stage and rank: there is never a second one.
    pub(super) slots: Vec<Vec<Option<Pretended>>>,
    pub(super) successors: Vec<Vec<Option<Successor>>>,
    pub(super) records: Records,
    pub(super) now: Instant,
    /// Workers that are gone, whose late news may come still.
    pub(super) gone: Vec<Worker>,
    pub(super) has_ended: bool,
    pub(super) steps: u64,
    pub(super) seen: Seen,
    /// By stage and rank: the last generation, and when the next may be started at the earliest.
    last: Vec<Vec<(u64, Option<Instant>)>>,
    /// By stage: one of its workers was started once.
    has_begun: Vec<bool>,
    /// By stage: before this step it had come to its end, or was on its way there.
    was_ending: Vec<bool>,
    level: Option<Level>,
    /// By stage and rank: a process of this slot has found its function.
    loaded: Vec<Vec<bool>>,
    /// Records may flow.
    flows: bool,
    next_pid: i32,
    /// What was asked for and is not answered yet.
    tickets: Vec<u64>,
    next_ticket: u64,
    pub(super) plan: Rc<Plan>,
    pub(super) reloads: Reloads,
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        Self::with_seed(plan, 7)
    }

    pub(super) fn with_seed(plan: &Plan, seed: u64) -> Self {
        let widths = || plan.stages.iter().map(|stage| stage.stage.pool.max);
        let mut world = Self {
            supervisor: Supervisor::new(plan, seed),
            slots: widths().map(|width| vec![None; width]).collect(),
            successors: widths().map(|width| vec![None; width]).collect(),
            records: Records::default(),
            now: Instant::now(),
            gone: Vec::new(),
            has_ended: false,
            steps: 0,
            seen: Seen::default(),
            last: widths().map(|width| vec![(0, None); width]).collect(),
            has_begun: vec![false; plan.stages.len()],
            was_ending: Vec::new(),
            level: None,
            loaded: widths().map(|width| vec![false; width]).collect(),
            flows: false,
            next_pid: 100,
            tickets: Vec::new(),
            next_ticket: 0,
            plan: Rc::new(plan.clone()),
            reloads: Reloads::of(plan.stages.len()),
        };
        world.step(Input::Begin);
        world
    }

    pub(super) fn step(&mut self, input: Input) {
        self.steps += 1;
        if !self.has_ended {
            self.seen.note(&self.supervisor, &input);
        }
        if let Input::Stop(level) = &input {
            self.level = self.level.max(Some(*level));
        }
        let is_tick = input == Input::Tick;
        let is_ending = |stage: &Stage| matches!(stage.phase, Phase::Ending(_) | Phase::Over(_));
        self.was_ending.clear();
        self.was_ending.extend(self.supervisor.stages.iter().map(is_ending));
        let actions = self.supervisor.step(input, self.now, &self.records);
        for action in actions {
            assert!(!self.has_ended, "after the end of the run: {action:?}");
            self.act(action);
        }
        self.check(is_tick);
    }

    /// What holds between two steps.
    fn check(&self, is_tick: bool) {
        if self.has_ended {
            return;
        }
        self.expect_failures_in_effect();
        if is_tick {
            assert!(
                self.supervisor.deadline().is_none_or(|at| at > self.now),
                "what was due at this time is still due after it"
            );
        }
        for (stage, slots) in self.slots.iter().enumerate() {
            let state = &self.supervisor.stages[stage];
            for (rank, slot) in slots.iter().enumerate() {
                let generation = slot.map(|process| process.worker.generation);
                assert_eq!(state.slots[rank].generation(), generation, "who is in {stage}/{rank}");
            }
            if matches!(state.phase, Phase::Over(_)) {
                assert!(slots.iter().all(Option::is_none), "a stage is over when no process of it is left");
                let may_come = self.successors[stage].iter().any(Option::is_some);
                assert!(!may_come, "a stage is over when no process of it may come by itself");
            }
            let width = state.config.pool.max;
            let too_many = state.slots.iter().skip(width).filter(|slot| {
                matches!(slot, Slot::Running { .. } | Slot::BackingOff { .. })
                    || matches!(slot, Slot::Starting { asked: None, .. })
            });
            // An `each` process is there for its record, whatever has become of the pool since.
            let is_each = state.config.mode == crate::model::Mode::Each;
            let too_many = if is_each { 0 } else { too_many.count() };
            assert_eq!(too_many, 0, "beyond the pool's width nobody stays or comes: {:?}", state.slots);
        }
    }

    fn slot(&mut self, worker: Worker) -> &mut Option<Pretended> {
        &mut self.slots[worker.stage][worker.rank]
    }

    /// The process of this very generation.
    fn expect(&mut self, worker: Worker, why: &str) -> &mut Pretended {
        let found = self.slot(worker).as_mut().filter(|process| process.worker == worker);
        found.unwrap_or_else(|| panic!("{why}: {worker:?}"))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(worker) => self.starts(worker),
            Action::Signal { worker, signal } => self.signals(worker, signal),
            Action::Ended { worker, .. } => {
                let process = *self.expect(worker, "only what has started ends");
                assert!(process.exited && process.group_ended, "it ends when its whole group has");
                *self.slot(worker) = None;
                self.gone.push(worker);
            }
            Action::LetGo(worker) => {
                let process = self.expect(worker, "the outputs of one that is there are let go");
                assert!(process.group_ended && !process.outputs_ended);
            }
            Action::RunEnded => {
                let left = self.slots.iter().flatten().flatten().count();
                assert_eq!(left, 0, "the run ends when no process is left");
                self.has_ended = true;
            }
            Action::Emit(EventKind::WorkerRestarting { worker, backoff, .. }) => {
                // What restarts along with others starts with them, whatever it waited for by itself.
                let is_it = |state: &&Stage| state.config.name == worker.stage;
                if self.supervisor.stages.iter().find(is_it).map(|state| state.config.restart.scope)
                    != Some(RestartScope::Worker)
                {
                    self.last.iter_mut().flatten().for_each(|(_, not_before)| *not_before = None);
                }
                // One whose stage has come to its end by the same event is not started again.
                if let Some(stage) = self.who_backs_off(&worker.stage, worker.rank, self.now + backoff) {
                    self.last[stage][worker.rank].1 = Some(self.now + backoff);
                }
            }
            Action::CloseInput(worker) => {
                self.expect(worker, "the input of one that is there is closed");
            }
            Action::Steered { ticket, .. } => {
                let at = self.tickets.iter().position(|&asked| asked == ticket);
                self.tickets.remove(at.expect("what was asked for is answered, and once"));
            }
            Action::NotUp { stage, .. } => self.not_up(stage),
            Action::AbandonInput { .. }
            | Action::CloseSources
            | Action::StageEnded { .. }
            | Action::Wake { .. }
            | Action::Emit(_) => {}
            Action::LetFlow => {
                assert!(!std::mem::replace(&mut self.flows, true), "records begin to flow once");
                for (state, loaded) in self.supervisor.stages.iter().zip(&self.loaded) {
                    let found = loaded.iter().filter(|&&loaded| loaded).count();
                    let is_waited_for =
                        state.config.is_first() && matches!(state.phase, Phase::Waiting | Phase::Running);
                    assert!(!is_waited_for || found >= state.config.pool.min, "before functions are found");
                }
            }
        }
    }

    fn starts(&mut self, worker: Worker) {
        let Worker { stage, rank, generation } = worker;
        let succeeds = self.successors[stage][rank].take();
        assert_ne!(succeeds, Some(Successor::Waits), "two would be in one slot: {worker:?}");
        // One that the launcher has started by itself is there, whatever was wanted meanwhile.
        let is_there = succeeds == Some(Successor::Runs);
        assert!(
            is_there || self.level < Some(Level::Terminate),
            "nothing is started once the run is ended: {worker:?}"
        );
        assert!(self.slot(worker).is_none(), "one living generation for each slot: {worker:?}");
        let (last, not_before) = self.last[stage][rank];
        assert_eq!(generation, last + 1, "generations are counted");
        assert!(not_before.is_none_or(|at| at <= self.now), "it was to wait longer: {worker:?}");
        self.last[stage][rank] = (generation, None);
        assert!(
            is_there || !self.was_ending.get(stage).copied().unwrap_or(false),
            "nothing is started in a stage that ends: {worker:?}"
        );
        self.expect_alone(stage);
        let state = &self.supervisor.stages[stage];
        assert!(
            self.flows || state.config.is_first() || stage >= self.plan.stages.len(),
            "nothing begins before functions are found: {worker:?}"
        );
        if !std::mem::replace(&mut self.has_begun[stage], true) && !self.was_looked_at(stage) {
            for &(other, wanted) in &state.config.depends_on {
                let other = &self.supervisor.stages[other];
                let is_met = other.phase == Phase::Over(Outcome::Finished)
                    || match wanted {
                        DependencyState::Started => other.is_started,
                        DependencyState::Ready => other.is_ready,
                        DependencyState::Finished => false,
                    };
                assert!(is_met, "`{}` had not {wanted:?}", other.config.name);
            }
        }
        let (runs, exited, group_ended, outputs_ended, killed) = (false, false, false, false, false);
        let (asked_at, is_faulty) = (None, false);
        *self.slot(worker) =
            Some(Pretended { worker, runs, exited, group_ended, outputs_ended, killed, asked_at, is_faulty });
    }

    fn signals(&mut self, worker: Worker, signal: Signal) {
        let (now, level) = (self.now, self.level);
        let stop = self.supervisor.stages[worker.stage].config.stop;
        let process = self.expect(worker, "a signal goes to a process that is there");
        assert!(process.runs && !process.group_ended, "a signal goes to a group that has somebody in it");
        assert!(!process.killed, "nothing comes after SIGKILL");
        if signal == Signal::KILL {
            let is_due = process.asked_at.is_some_and(|at| at + stop.grace <= now);
            assert!(is_due || process.is_faulty || level == Some(Level::Kill), "killed too early");
            process.killed = true;
        } else if signal == stop.signal {
            process.asked_at = Some(now);
        } else {
            assert_eq!(signal, Signal::CONT, "nothing else is sent");
        }
    }

    /// The form of a stage whose worker of this rank is started again at this time, alone or with others.
    fn who_backs_off(&self, name: &str, rank: usize, at: Instant) -> Option<usize> {
        let forms =
            || (0..self.supervisor.stages.len()).filter(|&of| self.supervisor.stages[of].config.name == name);
        let waits =
            |&of: &usize| self.supervisor.stages[of].slots.get(rank) == Some(&Slot::BackingOff { at });
        let restarts = |&of: &usize| self.supervisor.stages[of].phase == Phase::Restarting;
        forms().find(waits).or_else(|| forms().find(restarts))
    }

    pub(super) fn forget_backoffs(&mut self, stage: usize) {
        self.last[stage].iter_mut().for_each(|(_, not_before)| *not_before = None);
    }

    /// For one more stage, at the end.
    pub(super) fn make_room(&mut self, width: usize) {
        self.slots.push(vec![None; width]);
        self.successors.push(vec![None; width]);
        self.last.push(vec![(0, None); width]);
        self.loaded.push(vec![false; width]);
        self.has_begun.push(false);
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.tickets.push(self.next_ticket);
        self.next_ticket
    }

    pub(super) fn resize(&mut self, stage: usize, pool: Pool) {
        let ticket = self.ticket();
        let width = self.slots[stage].len().max(pool.max);
        self.slots[stage].resize(width, None);
        self.successors[stage].resize(width, None);
        self.loaded[stage].resize(width, false);
        self.last[stage].resize(width, (0, None));
        self.step(Input::Resize { ticket, stage, pool });
    }

    /// All workers of a stage, one after the other.
    pub(super) fn restart(&mut self, stage: usize) {
        let ticket = self.ticket();
        let workers = (0..self.slots[stage].len()).map(|rank| (stage, rank)).collect();
        self.step(Input::Restart { ticket, workers });
    }

    /// Whether something that was asked for has not come about.
    pub(super) fn is_steering(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Some process of which `wanted` holds.
    pub(super) fn pick(&self, which: usize, wanted: impl Fn(&Pretended) -> bool) -> Option<Worker> {
        let all = || self.slots.iter().flatten().flatten().filter(|process| wanted(process));
        let count = all().count();
        (count > 0).then(|| all().nth(which % count).map(|process| process.worker)).flatten()
    }

    pub(super) fn set(&mut self, worker: Worker, change: impl FnOnce(&mut Pretended)) {
        change(self.expect(worker, "it was just picked"));
    }

    pub(super) fn started(&mut self, which: usize) {
        if let Some(worker) = self.pick(which, |process| !process.runs) {
            self.set(worker, |process| process.runs = true);
            self.next_pid += 1;
            self.step(Input::Started { worker, pid: self.next_pid });
        }
    }

    pub(super) fn start_failed(&mut self, which: usize, is_passing: bool) {
        if let Some(worker) = self.pick(which, |process| !process.runs) {
            *self.slot(worker) = None;
            self.gone.push(worker);
            self.step(Input::StartFailed { worker, error: "pretended".to_owned(), is_passing });
            // Nothing takes the place of what has never been.
            let Worker { stage, rank, .. } = worker;
            if self.successors[stage][rank].take().is_some() {
                self.step(Input::SuccessorRevoked { stage, rank });
            }
        }
    }

    pub(super) fn loaded(&mut self, which: usize) {
        let is_function = |worker: &Worker| self.supervisor.stage(worker.stage).config.is_function;
        let worker = self.pick(which, |process| process.runs && is_function(&process.worker));
        if let Some(worker) = worker {
            self.loaded[worker.stage][worker.rank] = true;
            self.step(Input::Loaded { worker });
        }
    }

    /// A worker has said that its function cannot be called.
    pub(super) fn broken(&mut self, which: usize) {
        let is_function = |worker: &Worker| self.supervisor.stage(worker.stage).config.is_function;
        let worker = self.pick(which, |process| process.runs && is_function(&process.worker));
        if let Some(Worker { stage, rank, .. }) = worker {
            let worker = self.supervisor.stages[stage].config.worker_name(rank);
            let problem = Box::new(Problem::error("mpflow::broken_function", "pretended"));
            self.step(Input::Broken { stage, worker, problem, stderr: Vec::new() });
        }
    }

    pub(super) fn exited(&mut self, which: usize, code: i32) {
        if let Some(worker) = self.pick(which, |process| process.runs && !process.exited) {
            self.ends(worker, code);
        }
    }

    pub(super) fn ends(&mut self, worker: Worker, code: i32) {
        let killed = self.expect(worker, "who ends was there").killed;
        self.set(worker, |process| process.exited = true);
        let exit = Exit::from_code(if killed { -9 } else { code });
        self.step(Input::Exited { worker, exit, usage: Usage::default() });
    }

    pub(super) fn group_ended(&mut self, which: usize) {
        if let Some(worker) = self.pick(which, |process| process.exited && !process.group_ended) {
            self.set(worker, |process| process.group_ended = true);
            self.step(Input::GroupEnded { worker });
        }
    }

    pub(super) fn outputs_ended(&mut self, which: usize) {
        if let Some(worker) = self.pick(which, |process| process.runs && !process.outputs_ended) {
            self.set(worker, |process| process.outputs_ended = true);
            self.step(Input::OutputsEnded { worker });
        }
    }

    pub(super) fn successor_asked(&mut self, which: usize) {
        let is_each = |worker: &Worker| self.supervisor.stage(worker.stage).config.mode == Mode::Each;
        let worker = self.pick(which, |process| !process.exited && is_each(&process.worker));
        if let Some(Worker { stage, rank, .. }) = worker
            && self.successors[stage][rank].is_none()
        {
            self.successors[stage][rank] = Some(Successor::Waits);
            self.step(Input::SuccessorAsked { stage, rank });
        }
    }

    pub(super) fn successor_revoked(&mut self, which: usize) {
        if let Some((stage, rank)) = self.waiting_successor(which) {
            self.successors[stage][rank] = None;
            self.step(Input::SuccessorRevoked { stage, rank });
        }
    }

    /// The launcher starts it when the group of the one before has ended; the loop tells when its outputs have, too.
    pub(super) fn successor_runs(&mut self, which: usize) {
        if let Some((stage, rank)) = self.waiting_successor(which)
            && self.slots[stage][rank].is_none()
        {
            self.successors[stage][rank] = Some(Successor::Runs);
            self.step(Input::SuccessorRuns { stage, rank });
            assert_eq!(self.successors[stage][rank], None, "one that runs is taken in");
        }
    }

    fn waiting_successor(&self, which: usize) -> Option<(usize, usize)> {
        let all = self.successors.iter().enumerate().flat_map(|(stage, ranks)| {
            ranks.iter().enumerate().map(move |(rank, successor)| ((stage, rank), *successor))
        });
        let waiting: Vec<_> =
            all.filter(|(_, successor)| successor.is_some()).map(|(slot, _)| slot).collect();
        (!waiting.is_empty()).then(|| waiting[which % waiting.len()])
    }

    pub(super) fn fault(&mut self, worker: Worker) {
        self.set(worker, |process| process.is_faulty = true);
        self.step(Input::Fault { worker, reason: "pretended".to_owned() });
        // It may have been asked to end already, and then nobody blames it.
        let asked = self.supervisor.stages[worker.stage].slots[worker.rank].asked();
        if let Some(process) = self.slot(worker) {
            process.is_faulty = asked == Some(Asked::Fault);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step(Input::Tick);
    }

    /// The kernel kills all workers with the launcher.
    pub(super) fn lose_launcher(&mut self) {
        self.slots.iter_mut().for_each(|slots| slots.fill(None));
        self.successors.iter_mut().for_each(|successors| successors.fill(None));
        let had_ended = self.has_ended;
        self.step(Input::LauncherLost);
        assert!(self.has_ended, "a run without a launcher ends at once");
        let of_the_run = self.supervisor.failures().iter().filter(|failure| failure.stage.is_none()).count();
        assert_eq!(of_the_run, usize::from(!had_ended), "and says why");
    }

    /// Starts everything that was asked for.
    pub(super) fn start_all(&mut self) {
        while self.pick(0, |process| !process.runs).is_some() {
            self.started(0);
        }
    }

    /// The first process of a stage ends, and its group and outputs with it. Whether there was one.
    pub(super) fn end_one(&mut self, stage: usize, code: i32) -> bool {
        let Some(worker) = self.pick(0, |process| process.worker.stage == stage && process.runs) else {
            return false;
        };
        self.ends(worker, code);
        self.set(worker, |process| process.outputs_ended = true);
        self.step(Input::OutputsEnded { worker });
        self.set(worker, |process| process.group_ended = true);
        self.step(Input::GroupEnded { worker });
        true
    }

    /// Stops the run: whatever its state was, it ends, by events and deadlines alone.
    pub(super) fn finish(&mut self) {
        self.step(Input::Stop(Level::Terminate));
        for turn in 0..10_000 {
            if self.has_ended {
                return;
            }
            self.started(0);
            // Some successors are revoked in time, others have been started.
            if turn % 3 == 0 {
                self.successor_revoked(0)
            } else {
                self.successor_runs(turn)
            }
            // Nobody ends by the polite signal: all must be killed.
            if let Some(worker) = self.pick(0, |process| process.killed && !process.exited) {
                self.ends(worker, -9);
            }
            self.group_ended(0);
            // Half of the outputs are held by somebody else and must be let go.
            if turn % 2 == 0 {
                self.outputs_ended(0);
            }
            if self.supervisor.deadline().is_some() {
                self.pass(Duration::from_millis(400));
            }
        }
        panic!("the run does not end: {:?}", self.slots);
    }
}
