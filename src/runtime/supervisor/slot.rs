//! One place in a pool, and what may become of the process in it.

use std::time::Instant;

use crate::model::{Exit, Usage};

/// Why a worker was asked to end. An end that was asked for is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The run, or the stage, is stopped.
    Stop,
    /// The pool shrinks, or the stage has no more work.
    Retire,
    /// Another takes its place: it has had as many records as it should.
    Replace,
    /// It is restarted together with one that died.
    Restart,
    /// Another form of its stage takes over.
    Leave,
    /// Nobody wants what it makes.
    Unwanted,
    /// It held one record too long, or broke the exchange. The record is to blame, or the worker: the exit is not
    /// its own, and it is restarted as after a failure.
    Fault,
}

impl Asked {
    /// Why, in words that go on after "asked to end: ".
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Stop => "it is stopped",
            Self::Retire => "it is not needed any more",
            Self::Replace => "it has had as many records as it should, and another takes its place",
            Self::Restart => "it is restarted together with another",
            Self::Leave => "another form of its stage takes over",
            Self::Unwanted => "nobody wants what it makes",
            Self::Fault => "it held a record too long, or broke the exchange",
        }
    }
}

/// A process that has been started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) generation: u64,
    pub(crate) pid: i32,
    /// Its own end; others of its group may live on.
    pub(crate) exit: Option<(Exit, Usage)>,
    /// All its outputs are at their end.
    pub(crate) outputs_ended: bool,
}

/// A place in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// No process, and none is due: the stage waits, the pool is smaller, or no record needs one.
    Vacant,
    /// The launcher was asked for it. `asked`: it is to end as soon as it runs.
    Starting { generation: u64, asked: Option<Asked> },
    /// It runs, or others of its group do.
    Running { process: Process },
    /// It was told by the end of its input, or of its readers, to end by itself. `stop_at`: when it is asked by
    /// a signal; `None`: it may take its time.
    Finishing { process: Process, asked: Asked, stop_at: Option<Instant> },
    /// It was sent its stop signal.
    Stopping { process: Process, asked: Asked, kill_at: Instant },
    /// It was sent SIGKILL.
    Killed { process: Process, asked: Asked },
    /// Its group has ended; its outputs have not. `asked`: whether that was wanted.
    Draining { process: Process, asked: Option<Asked>, let_go_at: Instant },
    /// It will be started again.
    BackingOff { at: Instant },
    /// It has ended for good.
    Done,
}

impl Slot {
    /// The process, where there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        match self {
            Self::Running { process }
            | Self::Finishing { process, .. }
            | Self::Stopping { process, .. }
            | Self::Killed { process, .. }
            | Self::Draining { process, .. } => Some(process),
            Self::Vacant | Self::Starting { .. } | Self::BackingOff { .. } | Self::Done => None,
        }
    }

    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        match self {
            Self::Running { process }
            | Self::Finishing { process, .. }
            | Self::Stopping { process, .. }
            | Self::Killed { process, .. }
            | Self::Draining { process, .. } => Some(process),
            Self::Vacant | Self::Starting { .. } | Self::BackingOff { .. } | Self::Done => None,
        }
    }

    /// The generation of the process that is here or on its way.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self {
            Self::Starting { generation, .. } => Some(*generation),
            other => other.process().map(|process| process.generation),
        }
    }

    /// Whether a process is here or on its way.
    pub(crate) fn is_live(&self) -> bool {
        self.generation().is_some()
    }

    /// Whether nothing is here and nothing will come by itself.
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(self, Self::Vacant | Self::Done)
    }

    /// When something is to be done here.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Finishing { stop_at, .. } => *stop_at,
            Self::Stopping { kill_at, .. } => Some(*kill_at),
            Self::Draining { let_go_at, .. } => Some(*let_go_at),
            Self::BackingOff { at } => Some(*at),
            Self::Vacant
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Killed { .. }
            | Self::Done => None,
        }
    }

    /// What is going on here, in a word for people and programs.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Vacant => "vacant",
            Self::Starting { .. } => "starting",
            Self::Running { .. } => "running",
            Self::Finishing { .. } => "finishing",
            Self::Stopping { .. } => "stopping",
            Self::Killed { .. } => "killed",
            Self::Draining { .. } => "draining",
            Self::BackingOff { .. } => "backing_off",
            Self::Done => "done",
        }
    }

    /// Why it was asked to end, if it was.
    pub(crate) fn asked(&self) -> Option<Asked> {
        match self {
            Self::Starting { asked, .. } | Self::Draining { asked, .. } => *asked,
            Self::Finishing { asked, .. } | Self::Stopping { asked, .. } | Self::Killed { asked, .. } => {
                Some(*asked)
            }
            Self::Vacant | Self::Running { .. } | Self::BackingOff { .. } | Self::Done => None,
        }
    }
}
