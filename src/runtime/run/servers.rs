//! Fork servers: processes of one thread that have imported what Python workers need, and are forked for each.
//!
//! A server is started by the launcher like any process, and forked twice for each worker, so that what comes of it is
//! an orphan, which the launcher adopts: it reaps it, signals it and ends it like every other. One such process waits
//! ahead, so that a single worker is not waited for but for being told what it is. What the server and the engine say
//! to each other is described in `src/sdk/python/mpflow/_server.py`.
//!
//! A server that dies takes nothing with it but the requests that it had not answered: they fail as those of a
//! machine that is short of something do, and the next start makes a new server.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::Deserialize;
use serde_json::json;

use super::ends::pipe_to_read;
use super::poller::Token;
use super::recipe::Recipe;
use super::start::Refusal;
use super::{Owner, RunLoop, Target};
use crate::event::EventKind;
use crate::ipc::Broken;
use crate::model::{Body, Signal, StartMethod};
use crate::process::{Notification, StartRequest};
use crate::runtime::supervisor::{Input, Phase, Worker};
use crate::sys::message;
use crate::sys::message::Received;

/// A server's message is at most this long.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Where a server finds its socket, its task, and its log.
const SOCKET: i32 = 3;
const TASK: i32 = 4;

/// Which workers one server is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Serves {
    /// `fork`: those of this stage, whose function it has imported.
    Stage(usize),
    /// `forkserver`: all of the pipeline that run on this interpreter, until a reload brings others.
    Interpreter(Vec<u8>, u32),
}

/// One server.
#[derive(Debug)]
pub(super) struct ForkServer {
    serves: Serves,
    /// What it is called in messages.
    name: String,
    /// The launcher's number for it.
    id: u64,
    socket: OwnedFd,
    token: Token,
    log: OwnedFd,
    log_token: Token,
    /// The beginning of a line.
    line: Vec<u8>,
    is_ready: bool,
    /// To be asked for when it is ready.
    waiting: Vec<(Worker, StartRequest)>,
    /// Asked for, and not answered.
    asked: HashMap<u64, Worker>,
}

/// All servers of a run.
#[derive(Debug, Default)]
pub(super) struct Servers {
    by_number: HashMap<u32, ForkServer>,
    next: u32,
    /// Reloads so far: what a server has imported may be old.
    reloads: u32,
}

/// What a server says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    /// It can fork. `threads`: that run in it besides its own, and the modules that started them.
    Ready {
        #[serde(default)]
        threads: u64,
        #[serde(default)]
        modules: Vec<String>,
    },
    /// It cannot: an import has failed.
    Broken(Broken),
    Forked {
        id: u64,
        pid: i32,
    },
    Failed {
        id: u64,
        error: String,
    },
}

impl RunLoop {
    /// Whether the workers of this stage are forked from a server.
    pub(super) fn is_forked(&self, stage: usize) -> bool {
        let declared = &self.plan.stages[stage].stage;
        matches!(declared.body, Body::Python(_)) && declared.start_method != StartMethod::Spawn
    }

    /// Has a server make this worker.
    pub(super) fn fork_worker(
        &mut self,
        worker: Worker,
        recipe: &Recipe,
        request: StartRequest,
    ) -> Result<(), Refusal> {
        let serves = match self.plan.stages[worker.stage].stage.start_method {
            StartMethod::Fork => Serves::Stage(worker.stage),
            StartMethod::Spawn | StartMethod::Forkserver => {
                Serves::Interpreter(request.program.clone(), self.servers.reloads)
            }
        };
        let found = self.servers.by_number.iter().find(|(_, server)| server.serves == serves);
        let number = match found {
            Some((&number, _)) => number,
            None => self.start_server(worker, serves, recipe, &request)?,
        };
        let Some(server) = self.servers.by_number.get_mut(&number) else { return Ok(()) };
        server.waiting.push((worker, request));
        if server.is_ready {
            self.ask_server(number);
        }
        Ok(())
    }

    fn start_server(
        &mut self,
        worker: Worker,
        serves: Serves,
        recipe: &Recipe,
        like: &StartRequest,
    ) -> Result<u32, Refusal> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|error| Refusal::of_pipe(error.into()))?;
        let (log, their_log) = pipe_to_read()?;
        let printed = their_log.try_clone().map_err(Refusal::of_pipe)?;
        let task = self.server_task(worker, &serves);
        let task = memory_file(task.to_string().as_bytes()).map_err(Refusal::of_pipe)?;
        let number = self.servers.next;
        self.servers.next += 1;
        let id = self.next_id;
        self.next_id += 1;
        let variables = [("MPFLOW_SERVER", SOCKET), ("MPFLOW_TASK", TASK)];
        let variables = variables.map(|(name, number)| (name.to_owned(), number.to_string()));
        let mut request = recipe
            .request(id, None, &variables)
            .map_err(|error| Refusal::from(("cannot start its fork server", io::Error::other(error))))?;
        request.argv = like.argv.iter().take(2).cloned().chain([b"--server".to_vec()]).collect();
        request.descriptors = vec![(theirs, SOCKET), (task, TASK), (printed, 1), (their_log, 2)];
        // Limits and priority are its workers'.
        (request.limits, request.nice, request.cpus) = (Vec::new(), None, Vec::new());
        let token = self.tokens.add(Target::Server(number));
        let log_token = self.tokens.add(Target::ServerLog(number));
        self.poller.watch(socket.as_fd(), token, false).map_err(Refusal::of_pipe)?;
        self.poller.watch(log.as_fd(), log_token, false).map_err(Refusal::of_pipe)?;
        self.launcher
            .request_start(request)
            .map_err(|error| Refusal::from(("cannot ask the launcher for a fork server", error)))?;
        self.ids.insert(id, Owner::Server(number));
        let name = match serves {
            Serves::Stage(stage) => self.plan.stages[stage].stage.name.clone(),
            Serves::Interpreter(..) => "forkserver".to_owned(),
        };
        let server = ForkServer {
            serves,
            name,
            id,
            socket,
            token,
            log,
            log_token,
            line: Vec::new(),
            is_ready: false,
            waiting: Vec::new(),
            asked: HashMap::new(),
        };
        self.servers.by_number.insert(number, server);
        Ok(number)
    }

    /// Stages that have not come to their end: what a reload has taken away is not imported any more.
    fn stages_there(&self) -> impl Iterator<Item = &crate::graph::StagePlan> {
        let is_there = |stage: usize| match self.supervisor.stages_len() > stage {
            true => !matches!(self.supervisor.stage(stage).phase, Phase::Over(_)),
            false => true,
        };
        self.plan.stages.iter().enumerate().filter(move |&(stage, _)| is_there(stage)).map(|(_, plan)| plan)
    }

    /// What servers have imported may be old: those that come from now on are forked from others.
    pub(super) fn renew_fork_servers(&mut self) {
        self.servers.reloads += 1;
        let (supervisor, reloads) = (&self.supervisor, self.servers.reloads);
        let is_old = |server: &ForkServer| match &server.serves {
            Serves::Stage(stage) => matches!(supervisor.stage(*stage).phase, Phase::Over(_)),
            Serves::Interpreter(_, of) => *of != reloads,
        };
        let is_idle = |server: &ForkServer| server.waiting.is_empty() && server.asked.is_empty();
        let servers = self.servers.by_number.iter();
        let old: Vec<u32> = servers
            .filter(|(_, server)| is_old(server) && is_idle(server))
            .map(|(&number, _)| number)
            .collect();
        for number in old {
            self.kill_server(number);
        }
    }

    /// What a server imports: for one stage its function as well, for all of them what any wants to be there.
    fn server_task(&self, worker: Worker, serves: &Serves) -> serde_json::Value {
        let declared = &self.plan.stages[worker.stage].stage;
        let (target, preload) = match serves {
            Serves::Stage(_) => (Some(target_of(&declared.body)), declared.preload.clone()),
            Serves::Interpreter(..) => {
                let mut modules: Vec<String> = Vec::new();
                for stage in self.stages_there() {
                    if stage.stage.start_method == StartMethod::Forkserver {
                        modules.extend(stage.stage.preload.iter().cloned());
                    }
                }
                let mut seen = std::collections::HashSet::new();
                modules.retain(|module| seen.insert(module.clone()));
                (None, modules)
            }
        };
        json!({
            "folder": self.plan.dir.to_string_lossy(),
            "path": self.target_folders(),
            "target": target,
            "preload": preload,
        })
    }

    /// Asks a server that is ready for what waits.
    fn ask_server(&mut self, number: u32) {
        while let Some(server) = self.servers.by_number.get_mut(&number) {
            let Some((worker, request)) = server.waiting.pop() else { return };
            let result = fork_request(&request).and_then(|file| {
                let fds: Vec<i32> = [file.as_raw_fd()]
                    .into_iter()
                    .chain(request.descriptors.iter().map(|(fd, _)| fd.as_raw_fd()))
                    .collect();
                message::send(server.socket.as_fd(), &request.id.to_le_bytes(), &fds, false)
            });
            match result {
                Ok(()) => drop(server.asked.insert(request.id, worker)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It is asked again when it has answered one.
                    server.waiting.push((worker, request));
                    return;
                }
                // It is gone, which the launcher tells.
                Err(_) => {
                    server.asked.insert(request.id, worker);
                }
            }
        }
    }

    /// A server has said something.
    pub(super) fn hear_server(&mut self, number: u32) {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        self.moved();
        while let Some(server) = self.servers.by_number.get_mut(&number) {
            match message::receive(server.socket.as_fd(), &mut buffer) {
                // Its end is heard of from the launcher.
                Ok(Received { length: 0, .. }) => return,
                Ok(Received { length, .. }) => match serde_json::from_slice(&buffer[..length]) {
                    Ok(told) => self.server_told(number, told),
                    Err(error) => {
                        tracing::error!(%error, "a fork server said what cannot be read");
                        self.kill_server(number);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn server_told(&mut self, number: u32, told: Told) {
        let Some(server) = self.servers.by_number.get_mut(&number) else { return };
        match told {
            Told::Ready { threads, modules } => {
                server.is_ready = true;
                let name = server.name.clone();
                self.ask_server(number);
                if threads > 0 {
                    self.warn_of_threads(&name, threads, &modules);
                }
            }
            Told::Broken(broken) => {
                let waiting: Vec<Worker> = server.waiting.iter().map(|(worker, _)| *worker).collect();
                let key = if matches!(server.serves, Serves::Stage(_)) { None } else { Some("preload") };
                let mut stages: Vec<usize> = waiting.iter().map(|worker| worker.stage).collect();
                stages.dedup();
                for stage in stages {
                    self.function_broken(stage, 0, broken.clone(), key);
                }
            }
            Told::Forked { id, pid } => {
                if server.asked.remove(&id).is_some()
                    && let Err(error) = self.launcher.request_adoption(id, pid)
                {
                    tracing::error!(%error, "cannot ask the launcher");
                }
                self.ask_server(number);
            }
            Told::Failed { id, error } => {
                if let Some(worker) = server.asked.remove(&id) {
                    self.fork_failed(worker, &error);
                }
                self.ask_server(number);
            }
        }
    }

    fn warn_of_threads(&mut self, name: &str, threads: u64, modules: &[String]) {
        let who = match modules {
            [] => "what it has imported".to_owned(),
            modules => format!("`{}`", modules.join("`, `")),
        };
        self.notice(format!(
            "the fork server of `{name}` has {threads} further threads, started by {who}: a worker that is forked from it \
             has none of them, and what locks they held stay locked. Start threads when a worker starts, or use \
             `start_method: spawn`"
        ));
    }

    fn fork_failed(&mut self, worker: Worker, error: &str) {
        if self.io(worker).is_none() {
            return;
        }
        let error = format!("its fork server could not make it: {error}");
        self.start_failed(worker, &error, true);
        self.inputs.push_back(Input::StartFailed { worker, error, is_passing: true });
    }

    /// What the launcher tells of a server.
    pub(super) fn hear_of_server(&mut self, id: u64, number: u32, notification: Notification) {
        match notification {
            Notification::Exited { exit, .. } => {
                // What it said last may lie in its socket still.
                self.hear_server(number);
                self.server_ended(number, &format!("the fork server ended with {exit}"));
            }
            Notification::StartFailed { failure, .. } => self.server_ended(number, &failure.to_string()),
            Notification::GroupEnded { .. } => drop(self.ids.remove(&id)),
            Notification::Started { .. }
            | Notification::Succeeds { .. }
            | Notification::Revoked { .. }
            | Notification::Lost => {}
        }
    }

    fn server_ended(&mut self, number: u32, why: &str) {
        self.read_server_log(number);
        let Some(server) = self.servers.by_number.remove(&number) else { return };
        self.tokens.remove(server.token);
        self.tokens.remove(server.log_token);
        let waiting = server.waiting.into_iter().map(|(worker, _)| worker);
        for worker in server.asked.into_values().chain(waiting) {
            self.fork_failed(worker, why);
        }
    }

    fn kill_server(&mut self, number: u32) {
        if let Some(server) = self.servers.by_number.get(&number)
            && let Err(error) = self.launcher.request_signal(server.id, Signal::KILL)
        {
            tracing::error!(%error, "cannot ask the launcher");
        }
    }

    /// Ends servers that are still at their imports when all who wait for them are asked to end: nothing else would
    /// end the wait, should an import never return.
    pub(super) fn end_unneeded_servers(&mut self) {
        let supervisor = &self.supervisor;
        let is_unneeded = |server: &ForkServer| {
            let is_asked =
                |worker: &Worker| supervisor.stage(worker.stage).slots[worker.rank].asked().is_some();
            !server.is_ready
                && !server.waiting.is_empty()
                && server.waiting.iter().all(|(worker, _)| is_asked(worker))
        };
        let unneeded: Vec<u32> = self
            .servers
            .by_number
            .iter()
            .filter(|(_, server)| is_unneeded(server))
            .map(|(&number, _)| number)
            .collect();
        for number in unneeded {
            self.kill_server(number);
        }
    }

    /// What a server prints, line by line.
    pub(super) fn read_server_log(&mut self, number: u32) {
        let mut buffer = [0; 4096];
        while let Some(server) = self.servers.by_number.get_mut(&number) {
            match nix::unistd::read(&server.log, &mut buffer) {
                Ok(0) | Err(nix::errno::Errno::EAGAIN) => return,
                Ok(length) => server.line.extend_from_slice(&buffer[..length]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
            self.tell_server_lines(number);
        }
    }

    fn tell_server_lines(&mut self, number: u32) {
        while let Some(server) = self.servers.by_number.get_mut(&number) {
            let Some(end) = memchr::memchr(b'\n', &server.line) else { return };
            let rest = server.line.split_off(end + 1);
            let line = std::mem::replace(&mut server.line, rest);
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            let worker = server.name.clone();
            self.tell(EventKind::Log { worker, line });
        }
    }
}

fn target_of(body: &Body) -> String {
    match body {
        Body::Python(target) | Body::Function(target) => target.clone(),
        Body::Command(_) => String::new(),
    }
}

/// A request in a file of its own, since an environment may be larger than any message: JSON, then the working
/// directory and the environment, each ended by a NUL.
fn fork_request(request: &StartRequest) -> io::Result<OwnedFd> {
    let limits: Vec<_> = request.limits.iter().map(|limit| (limit.resource, limit.value)).collect();
    let argv: Vec<_> = request.argv.iter().map(|text| String::from_utf8_lossy(text)).collect();
    let targets: Vec<_> = request.descriptors.iter().map(|&(_, there)| there).collect();
    let head = json!({
        "id": request.id,
        "argv": argv,
        "descriptors": targets,
        "limits": limits,
        "nice": request.nice,
        "cpus": request.cpus,
    });
    let mut bytes = head.to_string().into_bytes();
    bytes.push(0);
    for text in [&request.cwd].into_iter().chain(&request.env) {
        bytes.extend_from_slice(text);
        bytes.push(0);
    }
    memory_file(&bytes)
}

/// A file in memory with this content, to be read from its beginning.
pub(super) fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(c"mpflow", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(content)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}
