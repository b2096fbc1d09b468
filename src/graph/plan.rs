//! What is to be run: the pipeline with every name resolved, every default chosen and nothing left to check.

use std::path::PathBuf;

use crate::model::{Format, QueueOptions, SharedObject, Stage, StopPolicy};

/// A checked pipeline, ready to run. Stages, queues and pipes are named by their position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// The pipeline's folder, absolute: where Python looks for modules first.
    pub dir: PathBuf,
    /// How the run as a whole is ended.
    pub stop: StopPolicy,
    /// In the order of the document.
    pub stages: Vec<StagePlan>,
    /// Declared ones in the order of the document, then those that carry a standard output with neither edge nor
    /// file to `mpflow`'s own.
    pub queues: Vec<QueuePlan>,
    /// In the order of the document.
    pub pipes: Vec<PipePlan>,
    /// What all workers share, in the order of the document.
    pub shared: Vec<SharedObject>,
    /// The stages from sources to sinks: every edge leads from an earlier to a later one.
    pub order: Vec<usize>,
}

/// One stage and its ports.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StagePlan {
    /// What the user declared.
    pub stage: Stage,
    /// The ports that queues lead into; `stdin` first, then the user's own in the order of the document.
    pub inputs: Vec<PortPlan>,
    /// A function in `map` mode that nothing feeds: it is called once, and its mode here is `stream`, since no record of
    /// it is leased.
    pub is_called_once: bool,
    /// The ports that queues lead out of; in the order of the document, implicit ones last.
    pub outputs: Vec<PortPlan>,
}

/// One port that queues are joined to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PortPlan {
    /// `stdin`, `stdout`, `stderr`, `failed` or the user's own.
    pub name: String,
    /// How its bytes are cut into records; the same for all its queues, but that queues of `lines` and `json` may
    /// meet at a command, and then it is `lines`.
    pub format: Format,
    /// Positions in [`Plan::queues`]: subscriptions of an output, merged sources of an input.
    pub queues: Vec<usize>,
}

/// An end of a queue: a stage and the position of the port in [`StagePlan::inputs`] or [`StagePlan::outputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PortRef {
    /// Position in [`Plan::stages`].
    pub stage: usize,
    /// Position among the stage's inputs (a consumer) or outputs (a producer).
    pub port: usize,
}

/// One queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueuePlan {
    /// `crawl -> parse`, as messages and reports show it.
    pub name: String,
    /// Whether the document declares it.
    pub is_declared: bool,
    /// The producer; `None` is `mpflow`'s standard input.
    pub from: Option<PortRef>,
    /// The consumer; `None` is `mpflow`'s standard output.
    pub to: Option<PortRef>,
    /// The chosen format.
    pub format: Format,
    /// Everything else; its `format` is `Some` of the chosen one.
    pub options: QueueOptions,
}

/// One pipe edge: as many kernel pipes as its two stages have workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipePlan {
    /// `encoder -> muxer`.
    pub name: String,
    /// The writing stage, position in [`Plan::stages`].
    pub from: usize,
    /// Its port: `stdout`, `stderr` or the user's own; of a duplex pipe the peer's name.
    pub from_port: String,
    /// The reading stage.
    pub to: usize,
    /// Its port: `stdin` or the user's own; of a duplex pipe the peer's name.
    pub to_port: String,
    /// A connected pair of sockets.
    pub duplex: bool,
    /// Capacity asked of the kernel, in bytes.
    pub size: Option<u64>,
}

impl Plan {
    /// Whether the width of a stage's pool is more than a number: worker `i` is joined to worker `i` of another stage by a
    /// pipe, or has the records of its keys, or of all, for itself.
    pub(crate) fn is_bound_to_width(&self, stage: usize) -> bool {
        let mut queues = self.stages[stage].inputs.iter().flat_map(|port| &port.queues);
        self.pipes.iter().any(|pipe| pipe.from == stage || pipe.to == stage)
            || queues.any(|&queue| self.queues[queue].has_lanes())
    }

    /// The position of the stage of this name.
    pub(crate) fn stage_position(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|plan| plan.stage.name == name)
    }
}

impl QueuePlan {
    /// Whether each worker of the consuming pool has records for itself: those of its keys, or all.
    pub(crate) fn has_lanes(&self) -> bool {
        self.options.partition_by.is_some() || self.options.to_each
    }
}

impl StagePlan {
    /// Whether no queue feeds it. A pipe or a file still may: see [`Plan::pipes`] and [`Stage::stdin`].
    pub(crate) fn is_source(&self) -> bool {
        self.inputs.is_empty()
    }
}
