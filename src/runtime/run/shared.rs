//! The run's side of its shared objects: a listening socket, and a connection for each client.
//!
//! Everything is non-blocking and bounded. A client is read from once a turn; it is not read from while it has not
//! taken its last reply, so that one that does not read costs a reply, and one that sends a line without end costs a
//! line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use super::poller::{Poller, Token, Tokens};
use super::{RunLoop, Target};
use crate::model::SharedObject;
use crate::report::SharedReport;
use crate::runtime::supervisor::{Phase, Worker};
use crate::shared::{Answer, Arbiter, ClientId, LONGEST_LINE, Layout, ReadWords, Refusal, Reply, Request};
use crate::sys::run_folder::RunFolder;
use crate::sys::{message, words};

/// The socket in the run's folder.
const SOCKET: &str = "shared";

/// Read from one client at once.
const READ_BYTES: usize = 64 << 10;

/// Kept of the buffers of a client that has nothing to say.
const KEPT_BYTES: usize = 4 << 10;

/// Clients that are taken in at once.
const ACCEPTED: usize = 64;

/// When the machine is short of descriptors, so long until the next look.
const SHORTAGE: Duration = Duration::from_millis(100);

/// A quarter of the descriptors that this process may open, within these bounds, is for clients: the rest is for
/// workers.
const MOST_CLIENTS: std::ops::RangeInclusive<u64> = 16..=4096;

struct Connection {
    stream: UnixStream,
    token: Token,
    /// What has come and is no whole line yet, or waits until the client has read its reply.
    input: Vec<u8>,
    /// So much of it has been obeyed.
    obeyed: usize,
    output: VecDeque<u8>,
    /// The descriptor of the memory goes with the next bytes.
    owes_memory: bool,
    waits_for_room: bool,
}

/// A line of a client: the number of the request, and what it asks.
type Line = (Option<u64>, Result<Request, Refusal>);

/// What came of an attempt to go on with a client.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There may be more to read: in its turn.
    Again,
    /// It will be heard of by an event.
    Later,
    Gone,
}

/// What the loop lends.
struct Loop<'a> {
    poller: &'a Poller,
    tokens: &'a mut Tokens<Target>,
    readable: &'a mut VecDeque<Token>,
    /// By the run's clock: waits do not pass while the run is suspended.
    now: Instant,
}

/// See the module's description.
pub(super) struct SharedSide {
    folder: Arc<RunFolder>,
    listener: UnixListener,
    listener_token: Token,
    arbiter: Arbiter,
    /// Where values and arrays lie.
    memory: Option<File>,
    connections: BTreeMap<ClientId, Connection>,
    next_client: u64,
    /// What is read from a client comes here first.
    scratch: Vec<u8>,
    most_clients: usize,
    accept_again_at: Option<Instant>,
    /// Workers have ended, or a stage has.
    has_lost_workers: bool,
}

struct Memory<'a>(Option<&'a File>);

impl ReadWords for Memory<'_> {
    fn word(&self, position: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        let file = self.0.ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut word, position * 8)?;
        Ok(u64::from_ne_bytes(word))
    }
}

impl SharedSide {
    /// `workers`: the names of all that there may be.
    fn new(
        objects: &[SharedObject],
        folder: Arc<RunFolder>,
        workers: BTreeSet<String>,
        lent: &mut Loop<'_>,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(folder.path().join(SOCKET))?;
        listener.set_nonblocking(true)?;
        let listener_token = lent.tokens.add(Target::SharedListener);
        lent.poller.watch(listener.as_fd(), listener_token, false)?;
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let most_clients = (limit / 4).clamp(*MOST_CLIENTS.start(), *MOST_CLIENTS.end());
        Ok(Self {
            folder,
            listener,
            listener_token,
            arbiter: Arbiter::new(objects, workers),
            memory: make_memory(objects)?,
            connections: BTreeMap::new(),
            next_client: 1,
            scratch: vec![0; READ_BYTES],
            most_clients: usize::try_from(most_clients).unwrap_or(usize::MAX),
            accept_again_at: None,
            has_lost_workers: false,
        })
    }

    fn accept(&mut self, lent: &mut Loop<'_>) {
        self.accept_again_at = None;
        for _ in 0..ACCEPTED {
            match self.listener.accept() {
                Ok((stream, _)) => self.take_in(stream, lent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot take in a client of the shared objects");
                    self.accept_again_at = Some(lent.now + SHORTAGE);
                    return;
                }
            }
        }
        lent.readable.push_back(self.listener_token);
    }

    fn take_in(&mut self, mut stream: UnixStream, lent: &mut Loop<'_>) {
        // Nobody else can enter the folder; but its mode is not all that stands between users.
        let is_ours = getsockopt(&stream, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0);
        if !is_ours || stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() >= self.most_clients {
            let refusal =
                Refusal::new("too_many", "the run has as many clients of its shared objects as it takes");
            let _ = stream.write(&Answer::Refused(refusal).line(None));
            return;
        }
        let client = ClientId(self.next_client);
        self.next_client += 1;
        let token = lent.tokens.add(Target::SharedClient(client));
        if let Err(error) = lent.poller.watch(stream.as_fd(), token, false) {
            tracing::debug!(%error, "cannot watch a client of the shared objects");
            lent.tokens.remove(token);
            return;
        }
        let connection = Connection {
            stream,
            token,
            input: Vec::new(),
            obeyed: 0,
            output: VecDeque::new(),
            owes_memory: false,
            waits_for_room: false,
        };
        self.connections.insert(client, connection);
    }

    /// A client may have written something, or have room.
    fn hear(&mut self, client: ClientId, lent: &mut Loop<'_>) {
        let step = self.go_on(client, lent);
        match step {
            Step::Again => {
                lent.readable.extend(self.connections.get(&client).map(|connection| connection.token));
            }
            Step::Later => {}
            Step::Gone => self.drop_clients(vec![client], lent),
        }
    }

    fn go_on(&mut self, client: ClientId, lent: &mut Loop<'_>) -> Step {
        let mut has_read = false;
        loop {
            let memory = self.memory.as_ref();
            let Some(connection) = self.connections.get_mut(&client) else { return Step::Later };
            match connection.flush(memory, lent.poller) {
                Ok(true) => {}
                Ok(false) => return Step::Later,
                Err(_) => return Step::Gone,
            }
            if let Some(line) = connection.take_line() {
                self.obey(client, line, lent);
                continue;
            }
            if connection.input.len() >= LONGEST_LINE {
                let refusal = Refusal::request("a request is longer than 1 MiB");
                let _ = connection.stream.write(&Answer::Refused(refusal).line(None));
                return Step::Gone;
            }
            if has_read {
                return Step::Again;
            }
            has_read = true;
            match connection.read(&mut self.scratch) {
                Ok(0) => return Step::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Later,
                Err(_) => return Step::Gone,
            }
        }
    }

    fn obey(&mut self, client: ClientId, (id, request): Line, lent: &mut Loop<'_>) {
        let replies = match request {
            Ok(request) => self.arbiter.request(client, id, request, lent.now),
            Err(refusal) => vec![Reply { to: client, id, answer: Answer::Refused(refusal) }],
        };
        self.deliver(replies, lent);
    }

    /// Hands out replies; whoever turns out to be gone meanwhile leaves what it holds to others, and so on.
    fn deliver(&mut self, replies: Vec<Reply>, lent: &mut Loop<'_>) {
        let gone = self.write_all(replies, lent);
        self.drop_clients(gone, lent);
    }

    fn write_all(&mut self, replies: Vec<Reply>, lent: &mut Loop<'_>) -> Vec<ClientId> {
        let mut gone = Vec::new();
        for Reply { to, id, answer } in replies {
            let Some(connection) = self.connections.get_mut(&to) else { continue };
            connection.owes_memory |= matches!(answer, Answer::Memory(_)) && self.memory.is_some();
            connection.output.extend(answer.line(id));
            if connection.flush(self.memory.as_ref(), lent.poller).is_err() {
                gone.push(to);
            }
        }
        gone
    }

    fn drop_clients(&mut self, mut gone: Vec<ClientId>, lent: &mut Loop<'_>) {
        while let Some(client) = gone.pop() {
            if let Some(connection) = self.connections.remove(&client) {
                lent.tokens.remove(connection.token);
            }
            let replies = self.arbiter.gone(client);
            gone.extend(self.write_all(replies, lent));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.arbiter.deadline(), self.accept_again_at].into_iter().flatten().min()
    }

    fn is_due(&mut self, now: Instant, lent: &mut Loop<'_>) {
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept(lent);
        }
        if self.arbiter.deadline().is_some_and(|at| at <= now) {
            let replies = self.arbiter.tick(now);
            self.deliver(replies, lent);
        }
    }
}

impl Connection {
    /// The next whole line.
    fn take_line(&mut self) -> Option<Line> {
        let rest = &self.input[self.obeyed..];
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.obeyed += end + 1;
                Some(Request::read(&rest[..end]))
            }
            None => {
                // Once for all lines that came together, so that many short ones cost no more than a long one.
                self.input.drain(..self.obeyed);
                self.obeyed = 0;
                if self.input.is_empty() {
                    self.input.shrink_to(KEPT_BYTES);
                }
                None
            }
        }
    }

    fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(scratch)?;
        self.input.extend_from_slice(&scratch[..count]);
        Ok(count)
    }

    /// Writes what waits for this client. `false`: it has no room for it now, and is watched.
    fn flush(&mut self, memory: Option<&File>, poller: &Poller) -> io::Result<bool> {
        while !self.output.is_empty() {
            let bytes = self.output.make_contiguous();
            let written = match memory.filter(|_| self.owes_memory) {
                // A short line: it goes as a whole, or not at all.
                Some(memory) => message::send(self.stream.as_fd(), bytes, &[memory.as_raw_fd()], false)
                    .map(|()| bytes.len())
                    .inspect(|_| self.owes_memory = false),
                None => self.stream.write(bytes),
            };
            match written {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watch_for_room(poller, true)?;
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.shrink_to(KEPT_BYTES);
        self.watch_for_room(poller, false)?;
        Ok(true)
    }

    fn watch_for_room(&mut self, poller: &Poller, room: bool) -> io::Result<()> {
        if self.waits_for_room != room {
            poller.watch_for_room(self.stream.as_fd(), self.token, room)?;
            self.waits_for_room = room;
        }
        Ok(())
    }
}

fn make_memory(objects: &[SharedObject]) -> io::Result<Option<File>> {
    let layout = Layout::new(objects);
    if layout.bytes() == 0 {
        return Ok(None);
    }
    let file = words::create(layout.bytes())?;
    for (offset, word) in layout.initial(objects) {
        file.write_all_at(&word.to_ne_bytes(), offset)?;
    }
    Ok(Some(file))
}

impl RunLoop {
    /// Opens the socket, where the pipeline declares shared objects, and says where it is.
    pub(super) fn open_shared(&mut self) -> io::Result<Option<PathBuf>> {
        if self.plan.shared.is_empty() {
            return Ok(None);
        }
        let plan = Arc::clone(&self.plan);
        let workers = plan
            .stages
            .iter()
            .flat_map(|stage| (0..stage.stage.pool.max).map(|rank| stage.stage.worker_name(rank)));
        let mut lent = Loop {
            poller: &self.poller,
            tokens: &mut self.tokens,
            readable: &mut self.readable,
            now: self.clock.now(),
        };
        let side = SharedSide::new(&plan.shared, self.folder.open()?, workers.collect(), &mut lent)?;
        let path = side.folder.path().join(SOCKET);
        self.shared = Some(side);
        Ok(Some(path))
    }

    fn with_shared<T>(&mut self, act: impl FnOnce(&mut SharedSide, &mut Loop<'_>) -> T) -> Option<T> {
        let side = self.shared.as_mut()?;
        let mut lent = Loop {
            poller: &self.poller,
            tokens: &mut self.tokens,
            readable: &mut self.readable,
            now: self.clock.now(),
        };
        Some(act(side, &mut lent))
    }

    pub(super) fn accept_shared(&mut self) {
        self.moved();
        self.with_shared(SharedSide::accept);
    }

    pub(super) fn hear_shared(&mut self, client: ClientId) {
        self.moved();
        self.with_shared(|side, lent| side.hear(client, lent));
    }

    pub(super) fn shared_deadline(&self) -> Option<Instant> {
        self.shared.as_ref().and_then(SharedSide::deadline)
    }

    /// Does what is due: waits that have lasted long enough, and barriers to which too few may still come.
    pub(super) fn keep_shared_time(&mut self, now: Instant) {
        self.with_shared(|side, lent| side.is_due(now, lent));
        if self.shared.as_mut().is_some_and(|side| std::mem::take(&mut side.has_lost_workers)) {
            let this = &*self;
            let workers = this.plan.stages.iter().enumerate().flat_map(|(stage, plan)| {
                let ranks = (0..plan.stage.pool.max).filter(move |&rank| this.may_come(stage, rank));
                ranks.map(|rank| plan.stage.worker_name(rank))
            });
            let workers = workers.collect();
            self.with_shared(|side, lent| {
                let replies = side.arbiter.set_crew(workers);
                side.deliver(replies, lent);
            });
        }
    }

    /// Whether a worker is in this slot, or may still be started in it.
    fn may_come(&self, stage: usize, rank: usize) -> bool {
        let state = self.supervisor.stage(stage);
        match state.phase {
            Phase::Waiting | Phase::Restarting | Phase::Preparing | Phase::StandingBy => true,
            Phase::Running => !state.is_slot_done(rank),
            Phase::Ending(_) | Phase::Leaving | Phase::Fallen => state.process(rank).is_some(),
            Phase::Over(_) => false,
        }
    }

    /// A worker has ended. What it held was released when the kernel closed its connections.
    pub(super) fn shared_worker_ended(&mut self, worker: Worker, is_success: bool) {
        if self.shared.is_none() {
            return;
        }
        let is_gone = !self.may_come(worker.stage, worker.rank);
        let name = self.plan.stages[worker.stage].stage.worker_name(worker.rank);
        self.with_shared(|side, lent| {
            side.has_lost_workers = true;
            if is_gone && !is_success {
                let replies = side.arbiter.failed(&name);
                side.deliver(replies, lent);
            }
        });
    }

    pub(super) fn shared_stage_ended(&mut self) {
        if let Some(side) = &mut self.shared {
            side.has_lost_workers = true;
        }
    }

    /// Who holds what and who waits for it.
    pub(super) fn explain_shared(&self, lines: &mut Vec<String>) {
        let now = self.clock.now();
        lines.extend(self.shared.iter().flat_map(|side| side.arbiter.explain(now)));
    }

    pub(super) fn shared_report(&mut self) -> Vec<SharedReport> {
        let Some(side) = &mut self.shared else { return Vec::new() };
        side.arbiter.report(&Memory(side.memory.as_ref()))
    }
}
