//! Pipelines for tests, written in a line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::build::Planned;
use super::{Ends, Plan, plan, plan_for};
use crate::model::*;

/// A pipeline in the making. Edges are written as in a document: `a.port -> b`, `stdin -> a`.
#[derive(Clone)]
pub(crate) struct Build(pub(crate) Pipeline);

impl Build {
    pub(crate) fn new() -> Self {
        Self(Pipeline {
            name: "test".to_owned(),
            description: String::new(),
            dir: PathBuf::from("/"),
            stages: Vec::new(),
            edges: Vec::new(),
            shared: Vec::new(),
            stop: StopPolicy::default(),
        })
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.0.name);
        self
    }

    /// One more stage: the command `true`, one worker, `stream` mode.
    pub(crate) fn stage(self, name: &str) -> Self {
        self.with(name, |_| {})
    }

    /// The same with keys of its own.
    pub(crate) fn with(mut self, name: &str, keys: impl FnOnce(&mut Stage)) -> Self {
        let mut stage = stage(name);
        keys(&mut stage);
        self.0.stages.push(stage);
        self
    }

    pub(crate) fn queue(self, edge: &str) -> Self {
        self.queue_with(edge, |_| {})
    }

    pub(crate) fn queue_with(self, edge: &str, keys: impl FnOnce(&mut QueueOptions)) -> Self {
        let mut options = QueueOptions::default();
        keys(&mut options);
        self.edge(edge, EdgeKind::Queue(options))
    }

    pub(crate) fn pipe(self, edge: &str) -> Self {
        self.edge(edge, EdgeKind::Pipe(PipeOptions::default()))
    }

    pub(crate) fn duplex(self, edge: &str) -> Self {
        self.edge(edge, EdgeKind::Pipe(PipeOptions { duplex: true, size: None }))
    }

    fn edge(mut self, text: &str, kind: EdgeKind) -> Self {
        let (from, to) = text.split_once(" -> ").unwrap();
        self.0.edges.push(Edge {
            from: endpoint(from, STDIN, STDOUT),
            to: endpoint(to, STDOUT, STDIN),
            kind,
        });
        self
    }

    pub(crate) fn planned(&self) -> Result<Planned, Vec<Problem>> {
        plan(&self.0)
    }

    pub(crate) fn planned_for(&self, ends: Ends) -> Result<Planned, Vec<Problem>> {
        plan_for(&self.0, ends)
    }

    /// Its plan; it must have neither errors nor warnings.
    #[track_caller]
    pub(crate) fn accepted(&self) -> Plan {
        let planned = self.planned().unwrap_or_else(|problems| panic!("refused: {problems:#?}"));
        assert_eq!(planned.warnings, []);
        planned.plan
    }
}

fn endpoint(text: &str, engine: &str, default_port: &str) -> Endpoint {
    if text == engine {
        return Endpoint::Engine;
    }
    let (stage, port) = text.split_once('.').unwrap_or((text, default_port));
    Endpoint::Stage { stage: stage.to_owned(), port: port.to_owned() }
}

/// Asserts that a pipeline has exactly one problem, and returns it.
#[track_caller]
pub(crate) fn refused(build: Build, code: &str, words: &str) -> Problem {
    let mut problems = build.planned().expect_err("the pipeline has a mistake");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = problems.remove(0);
    assert_eq!(problem.code, code, "{problem:#?}");
    assert!(problem.message.contains(words), "{words:?} is not in {:?}", problem.message);
    assert!(problem.help.is_some(), "{problem:#?}");
    assert!(!problem.labels.is_empty(), "{problem:#?}");
    problem
}

/// Where a problem is.
pub(crate) fn places(problem: &Problem) -> Vec<Place> {
    problem.labels.iter().map(|label| label.place.clone()).collect()
}

pub(crate) fn pool(width: usize) -> Pool {
    Pool { min: width, max: width }
}

pub(crate) fn python() -> Body {
    Body::Python("tasks:work".to_owned())
}

fn stage(name: &str) -> Stage {
    Stage {
        name: name.to_owned(),
        body: Body::Command(PerWorker::Same(Command::Argv(vec!["true".to_owned()]))),
        mode: Mode::Stream,
        pool: pool(1),
        ordered: false,
        daemon: false,
        start_method: StartMethod::Spawn,
        preload: Vec::new(),
        python_executable: None,
        initializer: None,
        args: Vec::new(),
        kwargs: serde_json::Map::new(),
        unpack: false,
        env: vec![("TOKEN".to_owned(), PerWorker::Same("hunter2".to_owned()))],
        cwd: PerWorker::Same(PathBuf::from("/")),
        inherit_env: true,
        stdin: None,
        stdout: None,
        prefetch: NonZeroUsize::new(1),
        batch: None,
        max_records_per_worker: None,
        record_timeout: None,
        retry: Retry::default(),
        on_error: OnError::Fail,
        restart: Restart::default(),
        on_failure: OnFailure::Stop,
        depends_on: Vec::new(),
        ready: None,
        timeout: None,
        line_buffered: false,
        success_exit: vec![Exit::SUCCESS],
        exclusive: false,
        stop: StopPolicy::default(),
        limits: Limits::default(),
        stderr: PerWorker::Same(Redirect::Inherit),
        watch: Vec::new(),
    }
}
