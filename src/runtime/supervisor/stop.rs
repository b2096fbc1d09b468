//! The run is ended from outside.

use std::time::{Duration, Instant};

use super::{Action, Level, Outcome, Slot, Supervisor, Worker};
use crate::event::EventKind;

impl Supervisor {
    pub(super) fn stop(&mut self, level: Level, now: Instant) {
        if self.level.is_some_and(|current| current >= level) {
            return;
        }
        self.level = Some(level);
        self.emit(EventKind::Stopping { level: level.as_str().to_owned() });
        match level {
            Level::Drain => {
                self.actions.push(Action::CloseSources);
                // No reload comes any more.
                self.give_up_fallen(now);
                for stage in 0..self.stages.len() {
                    if self.stages[stage].config.is_source && !self.stages[stage].config.is_daemon {
                        self.end_stage(stage, Outcome::Stopped, now);
                    }
                }
            }
            Level::Terminate => {
                self.actions.push(Action::CloseSources);
                self.end_all(now);
            }
            Level::Kill => {
                self.actions.push(Action::CloseSources);
                self.end_all(now);
                for worker in self.live_workers() {
                    self.kill(worker, "the run is killed");
                }
            }
        }
        self.say_who_is_waited_for(now);
    }

    pub(super) fn live_workers(&self) -> Vec<Worker> {
        let workers = self.stages.iter().enumerate().flat_map(|(stage, state)| {
            state.slots.iter().enumerate().filter_map(move |(rank, slot)| {
                slot.process().map(|process| Worker { stage, rank, generation: process.generation })
            })
        });
        workers.collect()
    }

    pub(super) fn say_who_is_waited_for(&mut self, now: Instant) {
        /// Names shown at most.
        const SHOWN: usize = 5;
        let stages = self.stages.iter().filter(|stage| !stage.config.is_daemon);
        let waited: Vec<String> = stages
            .flat_map(|stage| {
                stage.slots.iter().enumerate().filter_map(move |(rank, slot)| {
                    let name = stage.config.worker_name(rank);
                    match slot {
                        // A drain may need it still.
                        Slot::BackingOff { at } => {
                            let wait = Duration::from_secs((*at - now).as_secs());
                            let wait = humantime::format_duration(wait);
                            Some(format!("`{name}` (to be started again in {wait})"))
                        }
                        slot => Some(format!("`{name}` (pid {})", slot.process()?.pid)),
                    }
                })
            })
            .collect();
        if waited.is_empty() {
            return;
        }
        let more = waited.len().saturating_sub(SHOWN);
        let mut message = format!("waiting for {}", waited[..waited.len().min(SHOWN)].join(", "));
        if more > 0 {
            message.push_str(&format!(" and {more} more"));
        }
        self.emit(EventKind::Notice { message });
    }
}
