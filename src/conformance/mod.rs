//! Whether a worker keeps to the worker protocol, `schemas/worker-protocol.md`: a driver that speaks the engine's side of
//! it to any program, one sentence of the document at a time.
//!
//! ```no_run
//! use mpflow::conformance::{Options, Verdict, check};
//!
//! // First thing in `main`: the worker is started as the engine starts it.
//! mpflow::init(&mpflow::Functions::new());
//! let checks = check(&Options::new(["./my-worker"]), &mut |_| {})?;
//! assert!(!checks.iter().any(|check| matches!(check.verdict, Verdict::Fails { .. })));
//! # Ok::<(), std::io::Error>(())
//! ```

mod formats;
mod map;
mod pickles;
mod stream;
mod subject;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::model::Format;
use crate::process::{Launcher, Origin, is_initialised};
use subject::{Stop, Subject, Task};

/// How a worker takes its records: see the document's section 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Leased records, each answered.
    Map,
    /// A stream of records in, a stream of records out.
    Stream,
    /// No input.
    Source,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Map, Self::Stream, Self::Source];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Map => "map",
            Self::Stream => "stream",
            Self::Source => "source",
        })
    }
}

/// What is checked, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The worker: a program, looked up in `PATH`, and its arguments.
    pub command: Vec<OsString>,
    /// The modes that it is to have.
    pub modes: Vec<Mode>,
    /// The format of its ports.
    pub format: Format,
    /// How long it is waited for, each time.
    pub timeout: Duration,
    /// What the task's `target` has before the name of the function.
    pub target_prefix: String,
}

impl Options {
    /// All modes, `lines`, 5 seconds, targets such as `conformance:echo`.
    pub fn new<T: Into<OsString>>(command: impl IntoIterator<Item = T>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            modes: Mode::ALL.to_vec(),
            format: Format::Lines,
            timeout: Duration::from_secs(5),
            target_prefix: "conformance:".to_owned(),
        }
    }
}

/// One sentence of the protocol, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// In which mode it was looked at.
    pub mode: Mode,
    /// The sentence, of which the worker is the subject: `answers each record once`.
    pub name: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Whether a sentence holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Fails {
        /// What should have come.
        expected: String,
        /// What came, bytes shown as they are.
        came: String,
    },
    /// This worker, or this format, has nothing that it could be seen by.
    Untested {
        /// Why.
        reason: String,
    },
}

/// A check: its name, and what it does with workers of its own.
pub(crate) type Sentence = (&'static str, fn(&mut Bench<'_>) -> Result<(), Stop>);

/// Checks a worker, and tells of each check when it is done.
///
/// # Errors
///
/// The worker could not be started, or this program has not called [`init`](crate::init). What a worker does wrong is no
/// error but a [`Verdict`].
pub fn check(options: &Options, told: &mut dyn FnMut(&Check)) -> io::Result<Vec<Check>> {
    if !is_initialised() {
        return Err(io::Error::other("`mpflow::init` was not called at the start of this program"));
    }
    let mut launcher = Launcher::start(Origin::Anew)?;
    let mut checks = Vec::new();
    let mut next_id = 1;
    for &mode in &options.modes {
        let sentences: &[Sentence] = match mode {
            Mode::Map => map::SENTENCES,
            Mode::Stream => stream::SENTENCES,
            Mode::Source => stream::SOURCE_SENTENCES,
        };
        for &(name, look) in sentences {
            let mut bench = Bench { options, mode, launcher: &mut launcher, next_id };
            let verdict = match look(&mut bench) {
                Ok(()) => Verdict::Holds,
                Err(Stop::Fails { expected, came }) => Verdict::Fails { expected, came },
                Err(Stop::Untested(reason)) => Verdict::Untested { reason },
                Err(Stop::Cannot(error)) => return Err(error),
            };
            next_id = bench.next_id;
            let check = Check { mode, name, verdict };
            told(&check);
            checks.push(check);
        }
    }
    Ok(checks)
}

/// What a check has to work with.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    mode: Mode,
    launcher: &'a mut Launcher,
    next_id: u64,
}

impl Bench<'_> {
    fn format(&self) -> Format {
        self.options.format
    }

    /// A worker of this function, just started.
    fn start(&mut self, function: &str, change: impl FnOnce(&mut Task)) -> Result<Subject<'_>, Stop> {
        let mut task = Task::new(self.options, self.mode, function);
        change(&mut task);
        self.next_id += 1;
        Subject::start(self.options, self.launcher, self.next_id, &task)
    }

    /// A worker of this function that is ready, and has been told to go.
    fn work(&mut self, function: &str) -> Result<Subject<'_>, Stop> {
        self.work_with(function, |_| {})
    }

    fn work_with(&mut self, function: &str, change: impl FnOnce(&mut Task)) -> Result<Subject<'_>, Stop> {
        let mut subject = self.start(function, change)?;
        subject.until_ready()?;
        subject.go()?;
        Ok(subject)
    }
}
