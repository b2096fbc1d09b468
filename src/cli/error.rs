//! What can go wrong on the command line, apart from the pipeline itself.

use std::io;
use std::path::PathBuf;

use super::exit::End;

/// Something that the user asked for and that cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("hot reload (`--watch`) is not in this version of mpflow")]
    NoWatch,
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
}

impl CliError {
    /// How `mpflow` ends with it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::NoWatch
            | Self::RunStdin
            | Self::NoFileName { .. }
            | Self::SameFile(_)
            | Self::Overwrites { .. }
            | Self::Create { .. }
            | Self::Exists(_)
            | Self::NoCommand(_)
            | Self::Conformance(_)
            | Self::Stdin(_) => End::Wrong,
            // Whoever read it has had enough, as `head` does.
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => End::Success,
            Self::Stdout(_) | Self::Signals(_) | Self::Thread(_) | Self::Start(_) => End::Failed,
        }
    }

    /// What to do now.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::NoWatch => Some("leave `--watch` out and run the pipeline again after a change".to_owned()),
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
            Self::Stdin(_)
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
