//! What other threads ask of a run, and how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::sys::eventfd::EventFd;

use super::steer::Answer;
use super::taps::{Sample, TapError};
use crate::change::{Reloaded, SteerError};
use crate::event::{Event, EventKind};
use crate::graph::Plan;
use crate::report::Snapshot;
use crate::runtime::supervisor::{Level, Worker};

/// What other threads ask of the run.
#[derive(Debug)]
pub(crate) enum Control {
    Stop(Level),
    /// Stops or continues all workers; answered when the launcher was told.
    Pause(bool, Sender<()>),
    Snapshot(Sender<Snapshot>),
    /// From now on events of this kind go to this observer too.
    Listen(Sender<Event>, fn(&EventKind) -> bool),
    /// From now on a sample of what passes through this edge goes to this observer.
    Tap {
        edge: String,
        samples: Sender<Sample>,
        answer: Sender<Result<(), TapError>>,
    },
    /// Gives a stage another pool.
    Scale {
        stage: String,
        width: usize,
        answer: Answer<()>,
    },
    /// Replaces the workers of a stage, or one worker.
    Restart {
        what: String,
        answer: Answer<usize>,
    },
    /// Lets the run become another pipeline.
    Reload {
        plan: Box<Plan>,
        touched: BTreeMap<String, String>,
        answer: Answer<Reloaded>,
    },
    /// Tells observers who waits for what.
    Explain,
    /// Who waits for what, a line each.
    Explanation(Sender<Vec<String>>),
    /// A probe has looked at a worker, from this moment of the real clock on.
    Probed {
        worker: Worker,
        seen: Result<(), String>,
        began_at: Instant,
    },
}

/// The run has ended: nobody hears what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run has ended")]
pub(crate) struct Ended;

/// One way to ask something of a run; many threads may have one. It keeps nothing alive.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    control: Sender<Control>,
    wake: Arc<EventFd>,
}

impl Handle {
    pub(crate) fn new(control: Sender<Control>, wake: Arc<EventFd>) -> Self {
        Self { control, wake }
    }

    /// Asks, and waits for nothing.
    fn ask(&self, control: Control) -> Result<(), Ended> {
        self.control.send(control).map_err(|_| Ended)?;
        self.wake.write(1).map(drop).map_err(|_| Ended)
    }

    /// Asks, and waits for the answer.
    fn request<T>(&self, control: impl FnOnce(Sender<T>) -> Control) -> Result<T, Ended> {
        let (sender, answer) = bounded(1);
        self.ask(control(sender))?;
        // A run that ends drops what it was asked and had not heard yet.
        answer.recv().map_err(|_| Ended)
    }

    pub(crate) fn stop(&self, level: Level) -> Result<(), Ended> {
        self.ask(Control::Stop(level))
    }

    pub(crate) fn pause(&self, paused: bool) -> Result<(), Ended> {
        self.request(|done| Control::Pause(paused, done))
    }

    pub(crate) fn scale(&self, stage: &str, width: usize) -> Result<(), SteerError> {
        let stage = stage.to_owned();
        self.request(|answer| Control::Scale { stage, width, answer }).unwrap_or(Err(SteerError::RunEnded))
    }

    pub(crate) fn restart(&self, what: &str) -> Result<usize, SteerError> {
        let what = what.to_owned();
        self.request(|answer| Control::Restart { what, answer }).unwrap_or(Err(SteerError::RunEnded))
    }

    /// The answer comes when the reload has taken effect, or cannot; none when the run ends before.
    pub(crate) fn begin_reload(
        &self,
        plan: Plan,
        touched: BTreeMap<String, String>,
    ) -> Receiver<Result<Reloaded, SteerError>> {
        let (answer, answered) = bounded(1);
        // What cannot be asked has no answer either.
        let _ = self.ask(Control::Reload { plan: Box::new(plan), touched, answer });
        answered
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, Ended> {
        self.request(Control::Snapshot)
    }

    pub(crate) fn explain(&self) -> Result<(), Ended> {
        self.ask(Control::Explain)
    }

    pub(crate) fn explanation(&self) -> Result<Vec<String>, Ended> {
        self.request(Control::Explanation)
    }

    /// The events of these kinds from now on; the last is the end of the run, if that is wanted. Those that come while
    /// too many wait are counted.
    pub(crate) fn listen(&self, wants: fn(&EventKind) -> bool) -> Result<Receiver<Event>, Ended> {
        let (sender, events) = unbounded();
        self.ask(Control::Listen(sender, wants))?;
        Ok(events)
    }

    /// Samples of what passes through an edge, until the receiver is dropped or nothing more comes.
    pub(crate) fn tap(&self, edge: &str) -> Result<Result<Receiver<Sample>, TapError>, Ended> {
        let (samples, receiver) = bounded(super::taps::MOST_WAITING);
        let edge = edge.to_owned();
        let answer = self.request(|answer| Control::Tap { edge, samples, answer })?;
        Ok(answer.map(|()| receiver))
    }
}
