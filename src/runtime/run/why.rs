//! Why a run stands still: who waits for what (promise P7).

use std::time::{Duration, Instant};

use super::RunLoop;
use super::gate::Gate;
use super::ready::Probing;
use crate::graph::PortRef;
use crate::model::{DependencyState, Mode};
use crate::process::command_line;
use crate::runtime::broker::Consumer;
use crate::runtime::supervisor::{Outcome, Phase};

/// A run in which nothing has moved for so long says why, once.
pub(super) const STILL: Duration = Duration::from_secs(30);

impl RunLoop {
    /// Something has moved.
    pub(super) fn moved(&mut self) {
        self.has_moved = true;
    }

    /// When to say why nothing moves; `None` once it has been said.
    pub(super) fn still_deadline(&self) -> Option<Instant> {
        (!self.said_still).then(|| self.moved_at + STILL)
    }

    /// Called once a turn.
    pub(super) fn watch_movement(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_moved) {
            self.moved_at = now;
            self.said_still = false;
        } else if self.still_deadline().is_some_and(|at| at <= now) {
            self.said_still = true;
            let for_so_long = humantime::format_duration(STILL);
            self.explain(&format!("nothing has moved for {for_so_long}"));
        }
    }

    /// Tells observers what each part of the run waits for.
    pub(super) fn explain(&mut self, title: &str) {
        let lines = self.explanation();
        self.notice(format!("{title}:\n  {}", lines.join("\n  ")));
    }

    /// What each part of the run waits for, a line each.
    pub(super) fn explanation(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for stage in 0..self.plan.stages.len() {
            self.explain_stage(stage, &mut lines);
        }
        self.explain_edges(&mut lines);
        self.explain_shared(&mut lines);
        if lines.is_empty() {
            lines.push("every stage has ended; what is left is standard output".to_owned());
        }
        lines
    }

    fn explain_stage(&self, stage: usize, lines: &mut Vec<String>) {
        let state = self.supervisor.stage(stage);
        let name = &state.config.name;
        match state.phase {
            Phase::Waiting => {
                lines.push(format!("stage `{name}` has not begun: {}", self.explain_wait(stage)))
            }
            Phase::Running => lines.push(format!("stage `{name}` runs: {}", self.explain_workers(stage))),
            Phase::Restarting => {
                lines.push(format!("stage `{name}` restarts: {}", self.explain_workers(stage)))
            }
            Phase::Ending(outcome) => {
                let why = match outcome {
                    Outcome::Finished => "nobody wants what it makes",
                    Outcome::Failed => "it has failed",
                    Outcome::Stopped => "it was stopped",
                    Outcome::Replaced => "it was replaced or removed",
                };
                lines.push(format!("stage `{name}` is ending ({why}): {}", self.explain_workers(stage)));
            }
            Phase::Preparing => {
                lines.push(format!("the new `{name}` comes up: {}", self.explain_workers(stage)));
            }
            Phase::Fallen => lines.push(format!("stage `{name}` has fallen: {}", state.why_fallen())),
            Phase::StandingBy | Phase::Leaving => {
                lines.push(format!("the old `{name}` finishes: {}", self.explain_workers(stage)));
            }
            Phase::Over(_) => {}
        }
    }

    pub(super) fn explain_wait(&self, stage: usize) -> String {
        let unmet = self.supervisor.stage(stage).config.depends_on.iter().filter_map(|&(other, wanted)| {
            let state = self.supervisor.stage(other);
            let name = &state.config.name;
            match wanted {
                DependencyState::Started if state.is_started => None,
                DependencyState::Ready if state.is_ready => None,
                DependencyState::Started => Some(format!("`{name}` has not started")),
                DependencyState::Finished => Some(format!("`{name}` has not finished")),
                DependencyState::Ready => Some(format!("`{name}` is not ready{}", self.last_look(other))),
            }
        });
        let unmet: Vec<String> = unmet.collect();
        if unmet.is_empty() { "its turn has come".to_owned() } else { unmet.join(", ") }
    }

    /// What the last failed look at a stage's workers saw.
    pub(super) fn last_look(&self, stage: usize) -> String {
        let seen = self.workers[stage].iter().flatten().find_map(|io| match &io.probe {
            Some(Probing::Thread { seen, .. } | Probing::Command { seen, .. }) => seen.last.clone(),
            Some(Probing::Log { .. }) => Some("no line of its log has matched".to_owned()),
            Some(Probing::Notify { .. }) => Some("it has written nothing to MPFLOW_NOTIFY".to_owned()),
            Some(Probing::NoThread { .. }) => Some("this machine had no thread for its probe".to_owned()),
            Some(Probing::Done) | None => None,
        });
        seen.map(|seen| format!(" ({seen})")).unwrap_or_default()
    }

    fn explain_workers(&self, stage: usize) -> String {
        /// Workers named at most.
        const SHOWN: usize = 4;
        let workers: Vec<String> =
            (0..self.workers[stage].len()).filter_map(|rank| self.explain_worker(stage, rank)).collect();
        if workers.is_empty() {
            return match self.mode(stage) {
                Mode::Each => "no record has come for it".to_owned(),
                Mode::Map | Mode::Stream => "it has no worker now".to_owned(),
            };
        }
        let more = workers.len().saturating_sub(SHOWN);
        let mut text = workers[..workers.len().min(SHOWN)].join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }

    fn explain_worker(&self, stage: usize, rank: usize) -> Option<String> {
        let what = self.doing(stage, rank)?;
        let name = self.plan.stages[stage].stage.worker_name(rank);
        let Some(process) = self.supervisor.stage(stage).process(rank) else {
            return Some(format!("worker `{name}` {what}"));
        };
        let command = command_line(process.pid);
        Some(format!("worker `{name}` (pid {}, `{command}`) {what}", process.pid))
    }

    /// What a worker does, or waits for: what follows its name in a sentence.
    pub(super) fn doing(&self, stage: usize, rank: usize) -> Option<String> {
        let io = self.workers[stage][rank].as_ref()?;
        let Some(process) = self.supervisor.stage(stage).process(rank) else {
            return Some("is being started".to_owned());
        };
        let control = io.control.as_ref().filter(|_| io.is_function);
        Some(if control.is_some_and(|control| !control.is_ready) {
            "has not said yet that its function can be called".to_owned()
        } else if self.gates[stage] == Gate::Closed {
            match self.supervisor.stage(stage).ready[rank] {
                true => "is ready; its stage is not in effect yet".to_owned(),
                false => format!("is not ready{}", self.last_look(stage)),
            }
        } else if matches!(self.gates[stage], Gate::Behind(_)) {
            "waits for the workers of its stage's form before, which have not finished".to_owned()
        } else if control.is_some() && !io.went {
            "waits until all functions can be called".to_owned()
        } else if self.has_blocked_output(stage) {
            "waits until there is room for what it makes".to_owned()
        } else if self.plan.stages[stage].stage.is_leased() && self.broker.held(stage, rank) > 0 {
            match self.broker.held(stage, rank) {
                1 => "holds 1 record that it has not answered".to_owned(),
                held => format!("holds {held} records that it has not answered"),
            }
        } else if io.feeds.iter().flatten().any(|feed| !feed.is_idle()) {
            "does not read the input that waits for it".to_owned()
        } else if process.exit.is_some() {
            "has exited; others of its process group live on".to_owned()
        } else if io.feeds.iter().any(Option::is_some) {
            "has taken all input that has come".to_owned()
        } else {
            "runs".to_owned()
        })
    }

    fn explain_edges(&self, lines: &mut Vec<String>) {
        for (edge, queue) in self.broker.snapshot().iter().zip(&self.plan.queues) {
            if !edge.is_full {
                continue;
            }
            let who = match queue.to {
                Some(PortRef { stage, .. }) => {
                    format!("`{}` does not take them", self.plan.stages[stage].stage.name)
                }
                None => "standard output does not take them".to_owned(),
            };
            lines.push(format!(
                "edge `{}` is full, {} records in {} bytes: {who}",
                edge.edge, edge.records, edge.bytes
            ));
        }
        if self.writes_stdout() {
            let waiting = self.broker.waiting(Consumer::Stdout, 0);
            lines.push(format!("whoever reads standard output does not: {waiting} records wait for it"));
        }
    }
}
