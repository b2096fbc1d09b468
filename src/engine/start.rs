//! How a run is started.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{bounded, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::stdio::{self, Stdio};
use super::{Run, preflight};
use crate::graph::StagePlan;
use crate::language::Diagnostics;
use crate::model::{Body, Format, StartMethod};
use crate::pipeline::Pipeline;
use crate::process::{Launcher, Origin};
use crate::runtime::run::{Handle, RunLoop};
use crate::sdk;
use crate::sys::run_folder::FolderOf;

/// Starts runs. It says what they share with this program: by default nothing. No signal handler is installed, nothing
/// is printed, and no process of this program's own is waited for.
///
/// ```no_run
/// use mpflow::{Engine, Pipeline, Stdio};
///
/// # fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::from_path("pipelines/word-count.yaml")?;
/// let run = Engine::new().stdin(Stdio::Null).stdout(Stdio::Values).start(&pipeline)?;
/// for line in run.output::<String>()? {
///     println!("{}", line?);
/// }
/// println!("{:?}", run.wait().outcome);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Engine {
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
}

/// Why a run did not start. No worker was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`init`](crate::init) was not called at the start of `main`.
    #[error(
        "the engine was not initialised: call `mpflow::init(&functions)` first thing in `main`, or \
         `mpflow::init(&mpflow::Functions::new())` in a program without functions"
    )]
    NotInitialised,
    /// This machine lacks what the pipeline needs: see [`Engine::check`].
    #[error("the pipeline cannot be run here: {}", .0.plain())]
    Refused(Box<Diagnostics>),
    /// An edge begins at `stdin` or ends at `stdout`, and nobody has said what that is.
    #[error(
        "edge `{edge}` needs to know what `{stream}` is: say `Engine::new().{stream}(Stdio::Values)`, or `Inherit`, \
         `Bytes` or `Null`"
    )]
    Unconnected {
        /// `stdin` or `stdout`.
        stream: &'static str,
        /// The first such edge.
        edge: String,
    },
    /// An edge carries values where its stream carries bytes, or `stdout` would have two formats.
    #[error(
        "edge `{edge}` cannot carry `{format}` beside or as plain bytes: give the engine `.{stream}(Stdio::Values)`, or the \
         edges of `{stream}` one of the formats `lines`, `json`, `nul` and `frames`"
    )]
    Values {
        /// `stdin` or `stdout`.
        stream: &'static str,
        /// The edge.
        edge: String,
        /// Its format.
        format: Format,
    },
    /// The Python package that workers of Python stages run could not be written to any folder of the user's.
    #[error(
        "cannot write the Python package of the workers: neither to the user's cache nor among the temporary files"
    )]
    Sdk(#[source] io::Error),
    /// The launcher process, or what the run's thread waits on, could not be made.
    #[error("cannot start the run")]
    System(#[from] io::Error),
}

impl Engine {
    /// An engine that shares nothing with this program.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `stdin` is to the runs. Without this, a pipeline with an edge that begins there is not started.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// What `stdout` is to the runs. Without this, a pipeline with an edge that ends there is not started, and the output
    /// of a stage that says nothing about it is thrown away.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = Some(stdout);
        self
    }

    /// What speaks against running a pipeline on this machine, and what is worth knowing of it: missing programs, folders
    /// that cannot be entered, too few descriptors or processes. Nothing is started.
    pub fn check(&self, pipeline: &Pipeline) -> Diagnostics {
        let mut found = pipeline.warnings().clone();
        found.extend(pipeline.diagnose(preflight::preflight(pipeline.plan())));
        found
    }

    /// Starts a pipeline, on a thread of its own. One engine may start many runs, which know nothing of
    /// one another.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(&self, pipeline: &Pipeline) -> Result<Run, StartError> {
        if !crate::process::is_initialised() {
            return Err(StartError::NotInitialised);
        }
        let wrong = self.check(pipeline);
        if wrong.has_errors() {
            return Err(StartError::Refused(Box::new(wrong)));
        }
        let plan = pipeline.plan().clone();
        let (ends, program) = stdio::open(&plan, self.stdin, self.stdout)?;
        if plan.stages.iter().any(|stage| matches!(stage.stage.body, Body::Python(_))) {
            sdk::install().map_err(StartError::Sdk)?;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let wake = Arc::new(
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?,
        );
        let (control, requests) = unbounded();
        let (sender, events) = unbounded();
        let is_copied = |stage: &StagePlan| {
            matches!(stage.stage.body, Body::Function(_)) && stage.stage.start_method == StartMethod::Fork
        };
        let origin = if plan.stages.iter().any(is_copied) { Origin::Seed } else { Origin::Anew };
        let launcher = Launcher::start(origin)?;
        // After the launcher, whose limits are those of the workers.
        preflight::raise_descriptor_limit();
        let handle = Handle::new(control.clone(), Arc::clone(&wake));
        let (pipeline, folder) = (plan.name.clone(), Arc::new(FolderOf::new(id.clone())));
        let run = RunLoop::new(plan, Arc::clone(&folder), launcher, (control, requests), wake, sender, ends)?;
        let (works, ended) = bounded(0);
        let thread = std::thread::Builder::new().name("mpflow-run".to_owned()).spawn(move || {
            let report = run.run();
            drop(works);
            report
        })?;
        Ok(Run {
            id,
            pipeline,
            began_at: Instant::now(),
            folder,
            handle,
            events,
            thread: Some(thread),
            ended,
            report: None,
            ends: program.into(),
            control: None,
        })
    }
}
