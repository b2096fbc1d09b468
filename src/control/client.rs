//! The other side: whoever looks at a run from outside, and steers it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::Refusal;
use super::{LeftAbout, SOCKET, protocol};
use crate::model::Stop;
use crate::report::{Logs, RunInfo, SilentRun, Status};
use crate::sys::run_folder;

/// A run that does not answer within this hangs, or is stopped by SIGSTOP.
const PATIENCE: Duration = Duration::from_secs(10);

/// When several runs are asked who they are, one that does not answer is not waited for longer.
const PATIENCE_OF_MANY: Duration = Duration::from_secs(1);

/// A run that is just being killed may take a connection in and close it in the same moment: then it is tried again, so
/// often.
const TRIES: usize = 3;

/// An answer is never longer.
const LONGEST_ANSWER_BYTES: u64 = 256 << 20;

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stopped {
    /// As [`crate::report::Outcome`] is written: `{"result": "succeeded"}`. Null where the run's owner went first.
    pub outcome: Value,
}

/// A reload that has taken effect.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reload {
    /// From when it was asked for, in seconds.
    #[serde(rename = "took_seconds", deserialize_with = "crate::report::from_seconds")]
    pub took: Duration,
    /// As [`crate::change::Change`] is written, with a `summary` in one line.
    pub change: Value,
}

/// What comes while something is followed.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// Lines of the log.
    Log(Logs),
    /// Records that have passed, each as `schemas/control.md` has it.
    Records {
        /// Those that are shown.
        records: Vec<Value>,
        /// Records that passed and are not shown.
        not_shown: u64,
    },
    /// The run has ended; nothing follows.
    Ended,
}

/// Why a run could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It has ended, or is ending.
    #[error("the run has ended")]
    Ended,
    /// Nobody listens at its socket, and nobody has taken that away: its process was killed.
    #[error("the connection is lost: the run was killed")]
    Killed,
    /// It goes on, and has closed this connection: nothing was asked for too long, others wanted the place, or what came
    /// was not read in time.
    #[error("the connection is lost: the run has closed it, and goes on")]
    Closed,
    /// It is there and says nothing.
    #[error("the run does not answer")]
    Silent,
    /// It was understood and not done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It speaks another language.
    #[error("the run's answer is not understood: {0}")]
    Answer(String),
    /// The connection failed.
    #[error("cannot reach the run")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, TimedOut, UnexpectedEof, WouldBlock,
        };
        match error.kind() {
            NotFound => Self::Ended,
            ConnectionRefused => Self::Killed,
            ConnectionReset | BrokenPipe | UnexpectedEof => Self::Closed,
            WouldBlock | TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Why none, or not one, run was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// No run goes on.
    #[error("no run goes on")]
    NoRun,
    /// None is called so.
    #[error("no run that goes on is called `{wanted}`")]
    Unknown {
        /// What was looked for.
        wanted: String,
        /// The runs that go on.
        runs: Vec<RunInfo>,
        /// Those that go on and do not answer.
        silent: Vec<SilentRun>,
    },
    /// It goes on and does not answer, or they do not.
    #[error("{} not answer", run_does(.0))]
    Silent(Vec<SilentRun>),
    /// Several are.
    #[error("{} runs go on{}", .runs.len() + .silent.len(), .wanted.as_ref().map(|wanted| format!(" that are called `{wanted}`")).unwrap_or_default())]
    Several {
        /// What was looked for, if anything.
        wanted: Option<String>,
        /// Those that it may be.
        runs: Vec<RunInfo>,
        /// Those of them that do not answer.
        silent: Vec<SilentRun>,
    },
}

fn run_does(runs: &[SilentRun]) -> String {
    match runs {
        [only] => format!("the run {only} does"),
        _ => format!("the runs {} do", runs.iter().map(SilentRun::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// The runs of this user that go on.
#[derive(Debug, Default)]
pub struct Runs {
    /// Those that answer, by their start.
    pub answering: Vec<RunInfo>,
    /// Those that do not: they may be suspended.
    pub silent: Vec<SilentRun>,
}

/// The runs of this user that go on and can be found from here. What dead runs have left is removed.
pub fn runs() -> Runs {
    let (answering, silent) = all();
    Runs { answering: infos(answering), silent }
}

/// Those that answer, and those that do not.
fn all() -> (Vec<(Client, RunInfo)>, Vec<SilentRun>) {
    let (mut answering, mut silent) = (Vec::new(), Vec::new());
    for (id, folder) in run_folder::living() {
        let mut pid = None;
        let described = Client::connect(&folder.join(SOCKET)).and_then(|mut client| {
            pid = client.pid();
            Ok((client.describe()?, client))
        });
        match described {
            Ok((info, client)) => answering.push((client, info)),
            // It has just ended, or is opening its socket right now.
            Err(ClientError::Ended | ClientError::Killed | ClientError::Closed) => {}
            Err(_) => {
                let LeftAbout { pipeline, file } = LeftAbout::read(&folder);
                silent.push(SilentRun { id, pid, pipeline, file });
            }
        }
    }
    (answering, silent)
}

/// The run that is meant: by the beginning of its id, or the name of its pipeline; without either, the only one.
///
/// # Errors
///
/// See [`FindError`]: there is none, it does not answer, or it may be several.
pub fn find(wanted: Option<&str>) -> Result<(Client, RunInfo), FindError> {
    let (answering, silent) = all();
    let is_meant = |pipeline: Option<&str>, id: &str| {
        wanted.is_none_or(|wanted| pipeline == Some(wanted) || is_prefix(wanted, id))
    };
    let (mut meant, others): (Vec<_>, Vec<_>) =
        answering.into_iter().partition(|(_, info)| is_meant(Some(&info.pipeline), &info.id));
    let (silent, other_silent): (Vec<_>, Vec<_>) =
        silent.into_iter().partition(|run| is_meant(run.pipeline.as_deref(), &run.id));
    match (meant.len(), silent.len(), wanted.map(str::to_owned)) {
        (1, 0, _) => Ok(meant.remove(0)),
        (0, 0, None) => Err(FindError::NoRun),
        (0, 0, Some(wanted)) => Err(FindError::Unknown { wanted, runs: infos(others), silent: other_silent }),
        (0, ..) => Err(FindError::Silent(silent)),
        (.., wanted) => Err(FindError::Several { wanted, runs: infos(meant), silent }),
    }
}

/// Whether this is the beginning of an id; the dashes of both may be left out.
fn is_prefix(wanted: &str, id: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
    !wanted.is_empty() && plain(id).starts_with(&plain(wanted))
}

fn infos(candidates: Vec<(Client, RunInfo)>) -> Vec<RunInfo> {
    candidates.into_iter().map(|(_, info)| info).collect()
}

/// A connection to a run. Not more than one request at a time.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    next_id: u64,
}

impl Client {
    fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE_OF_MANY))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: socket.to_owned(), stream: BufReader::new(stream), next_id: 1 })
    }

    /// The process at the other end, which the kernel knows though it may be suspended.
    fn pid(&self) -> Option<i32> {
        getsockopt(self.stream.get_ref(), sockopt::PeerCredentials).ok().map(|peer| peer.pid())
    }

    fn connect_again(&mut self) -> Result<(), ClientError> {
        *self = Self::connect(&self.socket)?;
        Ok(self.stream.get_ref().set_read_timeout(Some(PATIENCE))?)
    }

    /// A request that changes nothing. Whoever looks seldom finds the connection closed, or its place taken by others:
    /// then it is asked over a new one.
    fn look<T: DeserializeOwned>(&mut self, method: &str) -> Result<T, ClientError> {
        match self.request(method, json!({})) {
            Err(ClientError::Closed) => {
                self.connect_again()?;
                self.request(method, json!({}))
            }
            other => other,
        }
    }

    /// What the run says of itself.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; that of every request.
    pub fn describe(&mut self) -> Result<RunInfo, ClientError> {
        let info = self.request("describe", json!({}))?;
        self.stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        Ok(info)
    }

    /// One look at the run, over a new connection where this one was closed.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.look("status")
    }

    /// Who waits for what, a line each.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn explain(&mut self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Explanation {
            lines: Vec<String>,
        }
        Ok(self.look::<Explanation>("explain")?.lines)
    }

    /// The last lines of the log, of one stage or worker or of all. If they are followed, more of them come by
    /// [`Client::followed`], and nothing else can be asked over this connection.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn logs(&mut self, stage: Option<&str>, lines: usize, follow: bool) -> Result<Logs, ClientError> {
        let mut params = json!({"lines": lines, "follow": follow});
        if let Some(stage) = stage {
            params["stage"] = stage.into();
        }
        self.request("logs", params)
    }

    /// From now on some of the records that pass through an edge come by [`Client::followed`]; nothing else can be asked
    /// over this connection.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn tap(&mut self, edge: &str) -> Result<(), ClientError> {
        self.request::<Value>("tap", json!({"edge": edge})).map(drop)
    }

    /// Asks the run to end. Does not wait for it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn stop(&mut self, how: Stop) -> Result<(), ClientError> {
        let how = match how {
            Stop::Drain => "drain",
            Stop::Terminate => "terminate",
            Stop::Kill => "kill",
        };
        self.request::<Value>("stop", json!({"how": how})).map(drop)
    }

    /// Waits for the end of the run, however long that takes.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn wait(&mut self) -> Result<Stopped, ClientError> {
        self.wait_without_limit()?;
        self.request("wait", json!({}))
    }

    /// Gives a stage a pool of so many workers: see [`crate::Run::scale`]. Returns when that has come about.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn scale(&mut self, stage: &str, workers: usize) -> Result<(), ClientError> {
        self.wait_without_limit()?;
        self.request::<Value>("scale", json!({"stage": stage, "workers": workers})).map(drop)
    }

    /// Replaces the workers of a stage, or one worker, one after the other: see [`crate::Run::restart`]. Returns how many
    /// were replaced, when the last is ready.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn restart(&mut self, what: &str) -> Result<u64, ClientError> {
        #[derive(Deserialize)]
        struct Restarted {
            replaced: u64,
        }
        self.wait_without_limit()?;
        Ok(self.request::<Restarted>("restart", json!({"what": what}))?.replaced)
    }

    /// Has the run's document read again, and waits until that has taken effect: see [`crate::Run::reload`].
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; a wrong document is [`ClientError::Refused`], and the run goes on as it was.
    pub fn reload(&mut self) -> Result<Reload, ClientError> {
        self.wait_without_limit()?;
        self.request("reload", json!({}))
    }

    fn wait_without_limit(&self) -> Result<(), ClientError> {
        Ok(self.stream.get_ref().set_read_timeout(None)?)
    }

    /// What comes next of that which is followed.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn followed(&mut self) -> Result<Followed, ClientError> {
        #[derive(Deserialize)]
        struct Records {
            records: Vec<Value>,
            not_shown: u64,
        }
        self.wait_without_limit()?;
        let line = self.read_line().map_err(|error| self.explained(error))?;
        match line["method"].as_str() {
            Some("log") => Ok(Followed::Log(understand(line["params"].clone())?)),
            Some("records") => {
                let Records { records, not_shown } = understand(line["params"].clone())?;
                Ok(Followed::Records { records, not_shown })
            }
            Some("ended") => Ok(Followed::Ended),
            _ => Err(ClientError::Answer(line.to_string().chars().take(200).collect())),
        }
    }

    /// One request and its answer, for what this version of the crate has no words for.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn request<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T, ClientError> {
        self.ask(method, params).map_err(|error| self.explained(error))
    }

    fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.stream.get_mut().write_all(&protocol::line(&request))?;
        let mut line = self.read_line()?;
        if let Some(error) = line.get_mut("error") {
            return Err(ClientError::Refused(understand(error.take())?));
        }
        if line["id"] != id {
            return Err(ClientError::Answer(format!("it answers request {} and not {id}", line["id"])));
        }
        understand(line["result"].take())
    }

    fn read_line(&mut self) -> Result<Value, ClientError> {
        let mut line = Vec::new();
        (&mut self.stream).take(LONGEST_ANSWER_BYTES).read_until(b'\n', &mut line)?;
        // Half a line is what a run that was killed has left.
        if !line.ends_with(b"\n") {
            return Err(ClientError::Closed);
        }
        serde_json::from_slice(&line).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// A connection that was closed says nothing of the run: its socket does.
    fn explained(&self, error: ClientError) -> ClientError {
        if !matches!(error, ClientError::Closed) {
            return error;
        }
        let look = || Self::connect(&self.socket)?.ask::<Value>("describe", json!({}));
        for _ in 0..TRIES {
            match look() {
                Err(ClientError::Closed) => {}
                Err(gone @ (ClientError::Ended | ClientError::Killed)) => return gone,
                Err(ClientError::Refused(refusal)) if refusal.has_ended() => return ClientError::Ended,
                Ok(_) | Err(_) => return error,
            }
        }
        error
    }
}

fn understand<T: DeserializeOwned>(value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|error| ClientError::Answer(error.to_string()))
}
