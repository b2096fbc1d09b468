//! What differs between two pipelines: plain data, made by [`Pipeline::compare`](crate::Pipeline::compare).

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::MOST_WORKERS;
use crate::report::Failure;

/// What a running pipeline has to do to become another one: a step for every stage and edge of either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Keys of the pipeline as a whole that hold from now on and touch no worker.
    pub adopted: Vec<&'static str>,
    /// What no running pipeline can change: it has to be ended and run again. In words, with names in backticks; JSON has
    /// none of these.
    #[serde(serialize_with = "without_backticks")]
    pub new_run: Vec<String>,
    /// In the order of the new pipeline, then those that are removed.
    pub stages: Vec<StageChange>,
    /// Likewise; queues that carry a standard output to `mpflow`'s own are among them.
    pub edges: Vec<EdgeChange>,
}

fn without_backticks<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| text.replace('`', "")))
}

/// A reload that has taken effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// What has changed.
    pub change: Change,
    /// From when it was asked for, in seconds as JSON has it.
    #[serde(serialize_with = "crate::report::seconds")]
    pub took: Duration,
}

/// What becomes of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageChange {
    /// Its name.
    pub stage: String,
    /// What is done.
    pub step: Step,
    /// Why; empty where it stays the same, is added or removed.
    pub why: Vec<Why>,
}

/// What becomes of one edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeChange {
    /// `crawl -> parse`.
    pub edge: String,
    /// Whether it is a pipe, and not a queue.
    pub is_pipe: bool,
    /// What is done.
    pub step: Step,
    /// Why; empty where it stays the same, is added or removed.
    pub why: Vec<Why>,
}

/// What becomes of a stage or an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing: a stage keeps its workers, an edge its records.
    Same,
    /// A stage has more or fewer workers, an edge another bound; the workers and records that stay are not touched.
    Resize,
    /// A stage keeps its workers; other queues lead to its ports, or from them. A queue keeps its records, which its
    /// workers share otherwise.
    Rewire,
    /// A stage has new workers, which take over from the old ones. A queue begins anew: what waits in it goes to its
    /// old consumer first.
    Replace,
    /// It was not there before.
    Add,
    /// It is there no more. What waits in a queue goes to its consumer first.
    Remove,
}

/// Why something is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Why {
    /// A key of it says something else.
    Key {
        /// `command`.
        key: &'static str,
        /// What it was and what it is, `2 -> 4`, where that is a number. Other values may be secrets.
        #[serde(skip_serializing_if = "Option::is_none")]
        values: Option<String>,
    },
    /// The pipeline lies in another folder.
    Folder,
    /// This edge, which it has an end of, has changed, come or gone.
    Edge {
        /// Its name.
        edge: String,
    },
    /// This stage, which a pipe joins it to, has other workers.
    Peer {
        /// Its name.
        stage: String,
    },
    /// A file that it runs has changed, or somebody asked for it.
    Touched {
        /// In words: `tasks.py has changed`.
        reason: String,
    },
}

impl Change {
    /// Whether nothing differs at all.
    pub fn is_nothing(&self) -> bool {
        self.adopted.is_empty()
            && self.new_run.is_empty()
            && self.stages.iter().all(|stage| stage.step == Step::Same)
            && self.edges.iter().all(|edge| edge.step == Step::Same)
    }

    /// What becomes of the stage of this name.
    pub fn stage(&self, name: &str) -> Option<&StageChange> {
        self.stages.iter().find(|change| change.stage == name)
    }

    /// What becomes of the edge of this name.
    pub fn edge(&self, name: &str) -> Option<&EdgeChange> {
        self.edges.iter().find(|change| change.edge == name)
    }

    /// The names of the stages that this step is for.
    pub fn stages_to(&self, step: Step) -> impl Iterator<Item = &str> {
        self.stages.iter().filter(move |change| change.step == step).map(|change| change.stage.as_str())
    }
}

impl Change {
    /// What is about to be done, and why, in one line: ``replace `square` (`command`); resize `store` (`pool` 2 -> 4)``.
    pub fn ahead(&self) -> String {
        /// Parts that are told one by one.
        const SHOWN: usize = 6;
        let stages = self.stages.iter().map(|stage| (stage.step, &stage.stage, &stage.why));
        let edges = self.edges.iter().map(|edge| (edge.step, &edge.edge, &edge.why));
        let differs = |&(step, ..): &(Step, &String, &Vec<Why>)| step != Step::Same;
        // Stages are rewired by what becomes of edges.
        let stages = stages.filter(|&(step, ..)| step != Step::Rewire);
        let mut parts: Vec<String> = stages
            .chain(edges)
            .filter(differs)
            .map(|(step, name, why)| match &why[..] {
                [] => format!("{} `{name}`", step.as_str()),
                why => format!("{} `{name}` ({})", step.as_str(), Why::all(why)),
            })
            .chain(self.adopted.iter().map(|key| format!("adopt `{key}`")))
            .collect();
        if parts.len() > SHOWN {
            let more = parts.split_off(SHOWN).len();
            parts.push(format!("and {more} more"));
        }
        parts.join("; ")
    }
}

/// In one line: ``replaced `square`; resized `store`; 3 stages as they were``.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for step in [Step::Add, Step::Replace, Step::Resize, Step::Rewire, Step::Remove] {
            let names: Vec<String> = self.stages_to(step).map(|name| format!("`{name}`")).collect();
            if !names.is_empty() {
                parts.push(format!("{} {}", step.done(), names.join(", ")));
            }
        }
        if parts.is_empty() {
            let edges = self.edges.iter().filter(|edge| edge.step != Step::Same);
            parts.extend(edges.map(|edge| format!("{} `{}`", edge.step.done(), edge.edge)));
        }
        if parts.is_empty() {
            parts.extend(self.adopted.iter().map(|key| format!("adopted `{key}`")));
        }
        match self.stages_to(Step::Same).count() {
            _ if parts.is_empty() => parts.push("nothing has changed".to_owned()),
            0 => {}
            1 => parts.push("1 stage as it was".to_owned()),
            count => parts.push(format!("{count} stages as they were")),
        }
        f.write_str(&parts.join("; "))
    }
}

impl Step {
    /// The word of the manual.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Resize => "resize",
            Self::Rewire => "rewire",
            Self::Replace => "replace",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }

    /// The word once it is done.
    pub fn done(self) -> &'static str {
        match self {
            Self::Same => "kept",
            Self::Resize => "resized",
            Self::Rewire => "rewired",
            Self::Replace => "replaced",
            Self::Add => "added",
            Self::Remove => "removed",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Why {
    /// Several, in one line.
    pub(crate) fn all(why: &[Self]) -> String {
        why.iter().map(Self::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// `` `pool` 2 -> 4 ``, `` the edge `a -> b` ``.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { key, values: Some(values) } => write!(f, "`{key}` {values}"),
            Self::Key { key, values: None } => write!(f, "`{key}`"),
            Self::Folder => f.write_str("the pipeline's folder"),
            Self::Edge { edge } => write!(f, "edge `{edge}`"),
            Self::Peer { stage } => write!(f, "pipe to `{stage}`"),
            Self::Touched { reason } => f.write_str(reason),
        }
    }
}

/// Why a running pipeline was not changed. Unless a variant says otherwise it is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// No stage, and where one was asked for no worker, has this name.
    #[error("there is no {what} `{name}` in this run{}", did_you_mean(.nearest.as_deref()))]
    Unknown {
        /// `stage`, or `stage or worker`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The most similar name that there is.
        nearest: Option<String>,
        /// Those that there are.
        names: Vec<String>,
    },
    /// A pool has at least one worker.
    #[error("a pool cannot have 0 workers: at least 1")]
    NoWorkers,
    /// So many workers no document may ask for either.
    #[error("a pool cannot have {0} workers: an integer from 1 to {MOST_WORKERS}")]
    TooManyWorkers(usize),
    /// Values of the stage name the rank of each worker, and were made for the ranks that it had.
    #[error(
        "`{stage}` cannot be given {width} workers here: its `{key}` names the worker's rank, and its values were made for {made}. \
         Reload it with another `pool` instead"
    )]
    NamesRank {
        /// The stage.
        stage: String,
        /// The key.
        key: &'static str,
        /// What was asked for.
        width: usize,
        /// The widest that it can have.
        made: usize,
    },
    /// The stage has come to its end, or is about to.
    #[error("stage `{0}` has ended, or is about to: nothing is started in it any more")]
    StageEnded(String),
    /// The run has ended, or is about to.
    #[error("the run has ended, or is about to")]
    RunEnded,
    /// These workers were to come up and have not: their stage's restart policy has decided about them.
    #[error("not all has come up: {} ended before it was ready", .0.join(", "))]
    Missing(Vec<String>),
    /// A rolling restart was given up: the successor of a worker has ended at once. Its restart policy goes on with that
    /// one, and so many others were not touched.
    #[error(
        "given up: the new worker `{worker}` ended at once, and {} left as before",
        match .left { 0 => "none of the others was".to_owned(), 1 => "1 other was".to_owned(), left => format!("{left} others were") }
    )]
    GivenUp {
        /// The worker.
        worker: String,
        /// Workers that were not touched.
        left: usize,
    },
    /// The Python package that workers of Python stages run could not be written.
    #[error("cannot write the Python package of the workers: {0}")]
    Sdk(String),
    /// A running pipeline cannot take this over.
    #[error("a running pipeline cannot take this over: end it and run it again, for {}", .0.join(", "))]
    NewRun(Vec<String>),
    /// The new workers of a stage did not come up. The old ones go on.
    #[error("nothing was changed, since the new {} did not come up: {}", shown(.0), .0.reason)]
    NotUp(Box<Failure>),
}

fn shown(failure: &Failure) -> String {
    failure.stage.as_ref().map_or_else(|| "pipeline".to_owned(), |stage| format!("`{stage}`"))
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(": did you mean `{nearest}`?")).unwrap_or_default()
}
