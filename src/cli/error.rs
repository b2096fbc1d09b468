//! What can go wrong on the command line, apart from the pipeline itself.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mpflow::control::{ClientError, FindError};
use mpflow::observe::Look;
use mpflow::report::{RunInfo, SilentRun};
use mpflow::{observe, shared};

use super::exit::End;
use super::terminal;

/// Before the lines of a help that is a list.
const INDENT: &str = "   ";

/// Something that the user asked for and that cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(
        "`mpflow run` does not read the pipeline from standard input: that is where its data may come from"
    )]
    RunStdin,
    #[error("`{option}` needs the name of a file; `-` is not one, since standard output is for data")]
    NoFileName { option: &'static str },
    #[error("`--report` and `--events` name the same file `{}`", .0.display())]
    SameFile(PathBuf),
    #[error("`{option}` would overwrite the pipeline `{}`", .path.display())]
    Overwrites { option: &'static str, path: PathBuf },
    #[error("cannot write {what} to `{}`", .path.display())]
    Create { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` exists already and is left as it is", .0.display())]
    Exists(PathBuf),
    #[error("there is no command `{0}`")]
    NoCommand(String),
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("cannot start the worker")]
    Conformance(#[source] io::Error),
    #[error("cannot start the run")]
    Start(#[from] mpflow::StartError),
    #[error(transparent)]
    Shared(#[from] shared::Error),
    /// `by`: what a run's name is written after, if it is no argument of its own.
    #[error("{error}")]
    Find { error: FindError, by: Option<&'static str> },
    #[error(transparent)]
    Control(#[from] ClientError),
    #[error("`{0}` is to be set to what?")]
    NoValue(String),
    #[error("`{name}` {what} within {}", shown(.timeout))]
    TimedOut { name: String, what: &'static str, timeout: Option<Duration> },
    #[error("cannot run `{program}`")]
    Program { program: String, source: io::Error },
}

impl CliError {
    /// How `mpflow` ends with it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::RunStdin
            | Self::NoFileName { .. }
            | Self::SameFile(_)
            | Self::Overwrites { .. }
            | Self::Create { .. }
            | Self::Exists(_)
            | Self::NoCommand(_)
            | Self::Stdin(_)
            | Self::Conformance(_)
            | Self::NoValue(_)
            | Self::Shared(shared::Error::NotInARun) => End::Wrong,
            Self::Shared(shared::Error::Refused(refusal)) => match refusal.code.as_str() {
                "unknown_object" | "wrong_kind" | "wrong_value" | "out_of_range" | "bad_request" => {
                    End::Wrong
                }
                _ => End::Failed,
            },
            Self::Shared(_) => End::Failed,
            Self::Find { error: FindError::Silent(_), .. } => End::Failed,
            Self::Find { .. } => End::Wrong,
            Self::Control(ClientError::Refused(_)) => End::Wrong,
            Self::Control(_) => End::Failed,
            Self::TimedOut { .. } => End::TimedOut,
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => End::Command(127),
            Self::Program { .. } => End::Command(126),
            // Whoever read it has had enough, as `head` does.
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => End::Success,
            Self::Stdout(_) | Self::Signals(_) | Self::Thread(_) | Self::Start(_) => End::Failed,
        }
    }

    /// What to do now.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::RunStdin => Some("write the pipeline to a file and name that".to_owned()),
            Self::NoFileName { option } => Some(format!("write `{option} FILE`")),
            Self::SameFile(_) => Some("give each a file of its own".to_owned()),
            Self::Overwrites { option, .. } => Some(format!("write `{option}` and another name")),
            Self::Create { source, path, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
                    Some(format!("make its folder first: `mkdir -p {}`", parent.display()))
                }
                _ => None,
            },
            Self::Exists(path) => Some(format!(
                "move it away, or name another folder; see it with `mpflow graph {}`",
                path.display()
            )),
            Self::NoCommand(_) => Some("see `mpflow --help` for all of them".to_owned()),
            Self::NoValue(name) => {
                Some(format!("write `mpflow shared set {name} VALUE`; only an event is set without one"))
            }
            Self::Shared(shared::Error::NotInARun) => Some(
                "use it in a command of a stage, in a pipeline that has a `shared` section, and start that with `mpflow run`"
                    .to_owned(),
            ),
            Self::Shared(shared::Error::Connect { .. }) => {
                Some("has the run ended? Its socket is there only as long as it goes on".to_owned())
            }
            Self::Shared(shared::Error::Refused(refusal)) => refusal.help.clone(),
            Self::TimedOut { name, .. } => {
                Some(format!("see who holds it, or how many wait, with `mpflow shared list {name}`"))
            }
            Self::Find { error: FindError::NoRun, .. } => {
                Some("start one with `mpflow run`; only this user's on this machine are found".to_owned())
            }
            Self::Find {
                error: FindError::Unknown { runs, silent, .. } | FindError::Several { runs, silent, .. },
                by,
            } => Some(named(runs, silent, *by)),
            Self::Control(ClientError::Refused(refusal)) => refusal.data.help.clone(),
            Self::Find { error: FindError::Silent(_), .. } | Self::Control(ClientError::Silent) => {
                Some("is it suspended? SIGCONT, or `fg` in its shell, continues it".to_owned())
            }
            Self::Find { .. }
            | Self::Control(_)
            | Self::Shared(_)
            | Self::Program { .. }
            | Self::Stdin(_)
            | Self::Stdout(_)
            | Self::Signals(_)
            | Self::Thread(_)
            | Self::Conformance(_)
            | Self::Start(_) => None,
        }
    }

    /// Whether anybody wants to read it.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// A time-out as it was written.
fn shown(timeout: &Option<Duration>) -> String {
    timeout.map_or_else(String::new, |time| humantime::format_duration(time).to_string())
}

/// How the runs that go on can be named, after which option.
fn named(runs: &[RunInfo], silent: &[SilentRun], by: Option<&str>) -> String {
    if runs.is_empty() && silent.is_empty() {
        return "no run goes on".to_owned();
    }
    let look = terminal::stderr();
    let look = Look { width: look.width.saturating_sub(INDENT.len()), ..look };
    let mut lines = if runs.is_empty() { Vec::new() } else { observe::runs(runs, look) };
    lines.extend(silent.iter().map(|run| format!("{run} does not answer: it may be suspended")));
    let lines: String = lines.iter().map(|line| format!("\n{INDENT}{line}")).collect();
    let by = by.map_or_else(String::new, |option| format!("with `{option}` "));
    format!("name one {by}by its id or its pipeline:{lines}")
}
