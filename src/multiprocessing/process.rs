//! Single processes.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::context::{Context, Method};
use super::error::Error;
use super::memory::Until;
use super::starter::{Starter, State, Watched, standard, starter};
use crate::ipc::{encode, giving};
use crate::model::{Format, Signal};
use crate::process::{Lookup, StartRequest, find_program, first_free_number};
use crate::worker::{self, CALL, Call, Kind, write_call};

/// A process of this program's own, or of another program. Python's `multiprocessing.Process`.
///
/// Its standard output and error are this program's, its standard input is `/dev/null`. It leads a process group of its own,
/// to which [`Process::terminate`] and [`Process::kill`] send their signals.
///
/// When the program ends normally, it waits for its processes that are no daemons, and ends those that are; when it is
/// killed, all are. Dropping this changes nothing about the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    is_daemon: bool,
    context: Context,
    target: Target,
    started: Option<Started>,
}

#[derive(Debug)]
enum Target {
    Function { name: String, argument: Vec<u8>, descriptors: Vec<OwnedFd> },
    Command(Vec<OsString>),
}

struct Started {
    starter: &'static Starter,
    id: u64,
    watched: Arc<Watched>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.watched.state().fmt(f)
    }
}

/// Processes that the program waits for at its end.
static AWAITED: Mutex<Vec<Arc<Watched>>> = Mutex::new(Vec::new());

impl Process {
    /// A process that is to call this function, registered by [`Functions::process`](crate::Functions::process), with
    /// this argument. What the argument is now, it gets.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFunction`], [`Error::NotInitialised`], [`Error::Code`].
    pub fn new<A: Serialize + ?Sized>(function: &str, argument: &A) -> Result<Self, Error> {
        let functions = worker::registered();
        if functions.kind(function) != Some(Kind::Process) {
            let named = functions.names().filter(|name| functions.kind(name) == Some(Kind::Process));
            return Err(Error::unknown("function of a process", "process", function, named));
        }
        let mut coded = Vec::new();
        let (result, descriptors) = giving(|| encode(Format::Msgpack, argument, &mut coded));
        result?;
        let name = function.to_owned();
        Ok(Self::of(function, Target::Function { name, argument: coded, descriptors }))
    }

    /// A process that is to run a program, looked up in `PATH`, with these arguments.
    pub fn command<T: Into<OsString>>(line: impl IntoIterator<Item = T>) -> Self {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let name = line.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::of(&name, Target::Command(line))
    }

    fn of(name: &str, target: Target) -> Self {
        Self { name: name.to_owned(), is_daemon: false, context: Context::default(), target, started: None }
    }

    /// What it is called in messages and, cut to 15 bytes where it is forked, in lists of processes. The default is that of
    /// its function or program.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = name.replace('\0', " ");
        self
    }

    /// Whether the program does not wait for it at its end. The default is that it does.
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.is_daemon = daemon;
        self
    }

    /// How it comes to be.
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, and returns when it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Start`], [`Error::NotInitialised`]: it does not run, and nothing of it is left. [`Error::StartedBefore`].
    pub fn start(&mut self) -> Result<(), Error> {
        if self.started.is_some() {
            return Err(Error::StartedBefore);
        }
        let starter = starter(self.context.origin())?;
        let request = self.request()?;
        let (id, watched) = starter.start(request);
        if let State::Refused(why) = watched.wait(Until::FOREVER, |state| *state != State::Asked) {
            return Err(Error::Start(why));
        }
        if !self.is_daemon {
            crate::sys::at_exit::call(wait_for_all);
            let mut awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
            awaited.retain(|watched| matches!(watched.state(), State::Asked | State::Running(_)));
            awaited.push(Arc::clone(&watched));
        }
        self.started = Some(Started { starter, id, watched });
        Ok(())
    }

    fn request(&mut self) -> Result<StartRequest, Error> {
        let cwd = std::env::current_dir()
            .map_err(|error| Error::Start(format!("no working directory: {error}")))?;
        let mut env: Vec<Vec<u8>> = std::env::vars_os()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect();
        let mut descriptors = vec![(standard(&std::io::stdout())?, 1), (standard(&std::io::stderr())?, 2)];
        let is_copy = matches!(self.target, Target::Function { .. }) && self.context.0 != Method::Spawn;
        let (program, argv) = match &mut self.target {
            Target::Command(line) => {
                let first = line.first().ok_or_else(|| Error::Start("the command is empty".to_owned()))?;
                let program = match find_program(
                    &first.to_string_lossy(),
                    std::env::var_os("PATH").as_deref().map(OsStr::new),
                    &cwd,
                ) {
                    Lookup::Found(program) => program,
                    Lookup::NotExecutable(file) => {
                        return Err(Error::Start(format!("`{}` is not executable", file.display())));
                    }
                    Lookup::Missing => {
                        return Err(Error::Start(format!("there is no program `{}`", first.display())));
                    }
                };
                (program, line.iter().map(|text| text.as_bytes().to_vec()).collect())
            }
            Target::Function { name, argument, descriptors: own } => {
                let first = if self.context.0 == Method::Fork { first_free_number() } else { 3 };
                let numbers: Vec<i32> = (first + 1..).take(own.len()).collect();
                let call =
                    Call { function: name.clone(), name: self.name.clone(), descriptors: numbers.clone() };
                descriptors.push((write_call(&call, argument)?, first));
                descriptors.extend(own.drain(..).zip(numbers));
                env.push(format!("{CALL}={first}").into_bytes());
                let argv = ["mpflow-process", self.name.as_str()].map(|text| text.as_bytes().to_vec());
                ("/proc/self/exe".into(), argv.to_vec())
            }
        };
        Ok(StartRequest {
            program: program.into_os_string().into_vec(),
            argv,
            env,
            cwd: cwd.into_os_string().into_vec(),
            descriptors,
            is_copy,
            ..StartRequest::default()
        })
    }

    fn state(&self) -> Option<State> {
        self.started.as_ref().map(|started| started.watched.state())
    }

    /// Waits for its end, at most so long; `None` for ever. Whether it has ended, as one that was not started has not.
    pub fn join(&self, timeout: Option<Duration>) -> bool {
        let Some(started) = &self.started else { return false };
        let ended = |state: &State| matches!(state, State::Ended { .. });
        ended(&started.watched.wait(Until::after(timeout), ended))
    }

    /// Whether it has been started and has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(self.state(), Some(State::Running(_)))
    }

    /// Its number, once it has been started.
    pub fn pid(&self) -> Option<i32> {
        match self.state()? {
            State::Running(pid) | State::Ended { pid, .. } => Some(pid),
            State::Asked | State::Refused(_) => None,
        }
    }

    /// What it has ended with, as Python writes it: its exit code, or `-N` if signal N has killed it. `None`: it has not.
    pub fn exit_code(&self) -> Option<i32> {
        match self.state()? {
            State::Ended { exit, .. } => Some(exit.code()),
            State::Asked | State::Running(_) | State::Refused(_) => None,
        }
    }

    /// Asks it to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it: SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// One that has ended is sent nothing.
    fn signal(&self, signal: Signal) {
        if let Some(started) = &self.started {
            started.starter.signal(started.id, signal);
        }
    }
}

extern "C" fn wait_for_all() {
    loop {
        let next = AWAITED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(watched) = next else { return };
        watched.wait(Until::FOREVER, |state| matches!(state, State::Ended { .. } | State::Refused(_)));
    }
}
