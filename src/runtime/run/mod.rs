//! The run's own thread: one loop that owns everything, waits on everything, and does what the two pure cores say.
//!
//! # Theory of operation
//!
//! One turn: wait for events; first what steers (the launcher, requests from other threads), then what can be
//! written, then one read for each readable end; after each read the blocks go on at once, while they are in
//! the cache. Nothing blocks: every end of the engine's is non-blocking, and a turn is bounded, so that control
//! never waits behind data.
//!
//! | file | part |
//! |---|---|
//! | `recipe` | what a worker is started with |
//! | `start` | its descriptors, and the request to the launcher |
//! | `successor` | processes that take the place of others at once |
//! | `read` | what workers write, cut and passed on |
//! | `stdio`, `ahead` | `mpflow`'s own standard streams; a file there, read by a thread |
//! | `feed`, `stream`, `lease` | what workers are given: blocks by demand, leased records |
//! | `function`, `control`, `answers` | workers that call functions: their task, their control connection, their answers |
//! | `servers` | processes that are forked for each worker |
//! | `segments` | shared memory for large records |
//! | `ready` | whether workers are ready |
//! | `hear` | what the launcher and other threads say |
//! | `settle` | what the cores say is done |
//! | `steer`, `reload`, `gate` | what is changed while it runs; a run that becomes another pipeline; what waits for that |
//! | `shared` | the clients of shared objects |
//! | `time` | the run's clock, which stands still while the run is suspended |
//! | `clock` | deadlines that are not the supervisor's |
//! | `why` | who waits for what |
//! | `tell`, `look` | events, the report; snapshots |
//! | `taps` | samples of the records that pass through a queue |
//! | `handle` | what other threads ask of the run |

mod ahead;
mod answers;
mod clock;
mod control;
mod ends;
mod feed;
mod function;
mod gate;
mod handle;
mod hear;
mod held;
mod lease;
mod look;
mod poller;
mod read;
mod ready;
mod recipe;
mod reload;
mod segments;
mod servers;
mod settle;
mod shared;
mod start;
mod stdio;
mod steer;
mod stream;
mod successor;
mod taps;
mod tell;
mod time;
mod why;
mod window;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use nix::sys::eventfd::EventFd;

pub(crate) use ahead::READS_AHEAD;
use gate::Gate;
pub(crate) use handle::{Control, Ended, Handle};
pub(crate) use held::IN_MEMORY_BYTES;
pub(crate) use lease::LEASE_BYTES;
use poller::{Poller, Ready, Token, Tokens};
pub(crate) use read::LONGEST_LOG_LINE;
pub(crate) use recipe::check as check_stage;
use recipe::{Recipe, RunNames};
use reload::Reloads;
use segments::Segments;
use servers::Servers;
use shared::SharedSide;
pub(crate) use stdio::{Ends, InEnd, OutEnd};
use stdio::{Stdin, Stdout};
use steer::Steering;
use successor::Successor;
pub(crate) use successor::{LINE_BYTES, MOST_IN_LINE, MOST_SUCCESSORS, may_have_successors};
use taps::Taps;
pub(crate) use taps::{Sample, TapError};
use tell::Events;
use time::RunClock;
use window::Rounds;
pub(crate) use window::{LARGEST_PIPE, ONE_PAGE};
pub(crate) use worker::TAIL_BYTES;
use worker::{StderrTail, WorkerIo};

use super::broker::{Broker, Consumer};
use super::supervisor::{Input, Level, Supervisor, Worker};
use crate::event::Event;
use crate::graph::Plan;
use crate::ipc::Buffers;
use crate::model::Mode;
use crate::process::{Launcher, Notification};
use crate::report::Report;
use crate::shared::ClientId;
use crate::sys::descriptor;
use crate::sys::run_folder::FolderOf;

/// A turn that takes so much longer than it was meant to, and some that follow it, are for listening alone.
const AWAY: Duration = Duration::from_millis(100);

/// So many turns.
const CATCHES_UP: u32 = 16;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Launcher,
    Wake,
    Stdin,
    Stdout,
    Feed { stage: usize, rank: usize, port: usize },
    Tap { stage: usize, rank: usize, port: usize },
    Log { stage: usize, rank: usize },
    Notify { stage: usize, rank: usize },
    Control { stage: usize, rank: usize },
    Server(u32),
    ServerLog(u32),
    Answers { stage: usize, rank: usize },
    SharedListener,
    SharedClient(ClientId),
}

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Worker(Worker),
    /// A fork server.
    Server(u32),
    /// One look at whether this worker is ready.
    Probe(Worker),
    /// It takes the place of the process that is in this slot.
    Successor {
        stage: usize,
        rank: usize,
    },
}

/// The two ends of one pipe of a pipe edge, until both workers have been started with them.
#[derive(Debug, Default)]
struct PipeEnds {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
}

/// The loop and all that it owns.
pub(crate) struct RunLoop {
    plan: Arc<Plan>,
    names: RunNames,
    folder: Arc<FolderOf>,
    /// In real time, as all that is told of it.
    began_at: Instant,
    clock: RunClock,
    broker: Broker,
    supervisor: Supervisor,
    launcher: Launcher,
    launcher_token: Token,
    /// The launcher's socket is full, and watched for room: only then, since otherwise each request that the launcher
    /// takes would wake this thread.
    is_launcher_full: bool,
    control: Receiver<Control>,
    /// The other end, for threads that probe.
    asks: Sender<Control>,
    wake: Arc<EventFd>,
    poller: Poller,
    tokens: Tokens<Target>,
    buffers: Buffers,
    /// By stage and rank.
    workers: Vec<Vec<Option<WorkerIo>>>,
    /// By stage and rank: what is to take the worker's place, one after the other, and how many there are.
    successors: Vec<Vec<VecDeque<Successor>>>,
    successor_count: usize,
    /// Of which the launcher has just said that they run.
    started: Vec<Worker>,
    recipes: Vec<Vec<Option<Arc<Recipe>>>>,
    tails: Vec<Vec<StderrTail>>,
    /// The launcher's numbers.
    ids: HashMap<u64, Owner>,
    next_id: u64,
    /// Ends that may have something to read, in turn.
    readable: VecDeque<Token>,
    segments: Segments,
    servers: Servers,
    pipes: HashMap<(usize, usize), PipeEnds>,
    /// Files that were opened, and emptied, in this run.
    opened: HashSet<PathBuf>,
    stdin: Option<Stdin>,
    stdout: Option<Stdout>,
    /// Where the pipeline declares shared objects.
    shared: Option<SharedSide>,
    /// To be started as soon as the launcher takes more.
    to_start: VecDeque<Worker>,
    /// Not yet told to the supervisor.
    inputs: VecDeque<Input>,
    /// What the launcher has said of a successor before it was taken in.
    overheard: VecDeque<Notification>,
    /// By stage: which worker is asked first, so that none starves.
    turns: Vec<usize>,
    /// By stage: nobody is given anything, and what comes is thrown away.
    abandoned: Vec<bool>,
    /// By stage: the supervisor knows.
    work_done: Vec<bool>,
    /// Ports of stages that a reload has brought, which nobody writes to any more, and when that is known to be for good.
    closed_on_trial: Vec<(Instant, usize, usize)>,
    /// By stage, and by rank where each worker has records of its own: since when some wait that are too few for a batch.
    batch_since: BTreeMap<(usize, usize), Instant>,
    /// By stage: how many successors each of its workers may have. 0 where its processes are not likely to end soon, and to
    /// leave no more behind than a pipe holds.
    ahead: Vec<usize>,
    /// Workers that have closed an end too early, and by when they have ended if they are about to: the input of a
    /// `map` worker, or what a function worker must keep.
    closed_early: Vec<(Worker, Instant, Option<&'static str>)>,
    /// Why workers were killed that are to blame for it.
    faults: HashMap<Worker, String>,
    /// Something has moved in this turn, and when something last did.
    has_moved: bool,
    moved_at: Instant,
    /// Nothing moves, and that was said.
    said_still: bool,
    events: Events,
    taps: Taps,
    /// By stage: files that its workers were found to run.
    files: HashMap<String, HashSet<String>>,
    has_ended: bool,
    /// Descriptors that whoever started this process left inheritable.
    inheritable: Vec<RawFd>,
    /// Records may flow: every function was found.
    flows: bool,
    /// When this thread last began to listen. What is due is judged by this time: all that had happened before it is
    /// known, and what came later may have been in time.
    heard_at: Instant,
    /// How long it then meant to wait at most.
    patience: Duration,
    /// When this thread last heard of events, and how long what it then did took.
    woken_at: Instant,
    rounds: Rounds,
    /// This process stood still, or was very busy: for so many turns more it only listens, as long as there is
    /// anything to hear. Others did not stand still, and what they did meanwhile takes more than one look.
    catches_up: u32,
    /// The strongest request to end the run, and when it came.
    asked_to_end: Option<(Level, Instant)>,
    steering: Steering,
    reloads: Reloads,
    /// By stage.
    gates: Vec<Gate>,
    /// Standard output, where nothing goes there yet.
    unused_stdout: Option<OutEnd>,
}

impl RunLoop {
    /// Prepares a run: nothing is started yet.
    pub(crate) fn new(
        plan: Plan,
        folder: Arc<FolderOf>,
        launcher: Launcher,
        (asks, control): (Sender<Control>, Receiver<Control>),
        wake: Arc<EventFd>,
        events: Sender<Event>,
        ends: Ends,
    ) -> io::Result<Self> {
        let broker = Broker::new(&plan);
        let poller = Poller::new()?;
        let mut tokens = Tokens::default();
        let launcher_token = tokens.add(Target::Launcher);
        poller.watch(launcher.socket(), launcher_token, false)?;
        poller.watch(wake.as_fd(), tokens.add(Target::Wake), false)?;
        let by_worker = || plan.stages.iter().map(|stage| stage.stage.pool.max);
        let stages = plan.stages.len();
        let mut run = Self {
            names: RunNames { pipeline: plan.name.clone(), run_id: folder.run_id().to_owned(), shared: None },
            folder,
            began_at: Instant::now(),
            clock: RunClock::default(),
            supervisor: Supervisor::new(&plan, fastrand::u64(..)),
            broker,
            launcher,
            launcher_token,
            is_launcher_full: false,
            control,
            asks,
            wake,
            poller,
            tokens,
            buffers: Buffers::default(),
            workers: by_worker().map(|width| (0..width).map(|_| None).collect()).collect(),
            successors: by_worker().map(|width| (0..width).map(|_| VecDeque::new()).collect()).collect(),
            successor_count: 0,
            started: Vec::new(),
            recipes: by_worker().map(|width| vec![None; width]).collect(),
            tails: by_worker().map(|width| (0..width).map(|_| StderrTail::default()).collect()).collect(),
            ids: HashMap::new(),
            next_id: 1,
            readable: VecDeque::new(),
            segments: Segments::default(),
            servers: Servers::default(),
            pipes: HashMap::new(),
            opened: HashSet::new(),
            stdin: None,
            stdout: None,
            shared: None,
            to_start: VecDeque::new(),
            inputs: VecDeque::new(),
            overheard: VecDeque::new(),
            turns: vec![0; stages],
            abandoned: vec![false; stages],
            work_done: vec![false; stages],
            closed_on_trial: Vec::new(),
            batch_since: BTreeMap::new(),
            ahead: plan.stages.iter().map(|stage| usize::from(stage.stage.mode == Mode::Each)).collect(),
            closed_early: Vec::new(),
            faults: HashMap::new(),
            has_moved: true,
            moved_at: Instant::now(),
            said_still: false,
            events: Events::new(events),
            taps: Taps::default(),
            files: HashMap::new(),
            has_ended: false,
            inheritable: descriptor::inheritable(),
            flows: false,
            heard_at: Instant::now(),
            patience: Duration::MAX,
            woken_at: Instant::now(),
            rounds: Rounds::default(),
            catches_up: 0,
            asked_to_end: None,
            steering: Steering::default(),
            reloads: Reloads::new(&plan),
            gates: vec![Gate::Open; stages],
            unused_stdout: None,
            plan: Arc::new(plan),
        };
        run.open_standard(ends)?;
        run.names.shared = run.open_shared()?;
        Ok(run)
    }

    /// Runs to the end. Nothing of the run is left when this returns.
    pub(crate) fn run(mut self) -> Report {
        self.tell_start();
        self.inputs.push_back(Input::Begin);
        self.settle();
        let mut ready = Vec::new();
        while !self.has_ended || self.waits_for_stdout() {
            self.turn(&mut ready);
        }
        let report = self.report();
        // The launcher kills whatever is left, and waits for it.
        self.end_launcher();
        // Its folder goes with it.
        self.shared = None;
        let Self { events, began_at, .. } = self;
        events.end(began_at.elapsed(), &report);
        report
    }

    fn turn(&mut self, ready: &mut Vec<Ready>) {
        let now = self.clock.now();
        self.rounds.took(now.saturating_duration_since(self.woken_at));
        let was_away = now.saturating_duration_since(self.heard_at) > self.patience.saturating_add(AWAY);
        let timeout = match self.readable.is_empty() {
            true => {
                let deadline = self.deadline().map(|at| at.saturating_duration_since(now));
                deadline.into_iter().chain(self.events.due_in()).min()
            }
            false => Some(Duration::ZERO),
        };
        self.heard_at = now;
        self.patience = timeout.unwrap_or(Duration::MAX);
        self.catches_up = if was_away { CATCHES_UP } else { self.catches_up };
        ready.clear();
        if let Err(error) = self.poller.wait(timeout, ready) {
            // Only a bug makes epoll fail; the run cannot go on without it.
            tracing::error!(%error, "epoll failed");
            self.inputs.push_back(Input::Stop(Level::Kill));
        }
        self.woken_at = self.clock.now();
        let is_control = |target| matches!(target, Target::Launcher | Target::Wake);
        for event in ready.iter() {
            match self.tokens.get(event.token) {
                Some(Target::Launcher) => self.hear_launcher(),
                Some(Target::Wake) => self.hear_control(),
                _ => {}
            }
        }
        self.settle();
        for event in ready.iter() {
            match self.tokens.get(event.token) {
                Some(target) if !is_control(target) => self.note_ready(*event, target),
                _ => {}
            }
        }
        for _ in 0..self.readable.len() {
            let Some(token) = self.readable.pop_front() else { break };
            self.read(token);
            self.settle();
        }
        if self.catches_up > 0 && !self.readable.is_empty() {
            self.catches_up -= 1;
        } else {
            self.catches_up = 0;
            self.keep_time();
        }
        self.settle();
        self.recycle_segments();
        self.end_unneeded_servers();
        // A stage that is ended meanwhile waits for no room any more.
        self.start_some();
        self.send_samples();
        self.events.send_if_due();
        self.watch_launcher();
    }

    fn watch_launcher(&mut self) {
        let is_full = self.launcher.has_unsent();
        if is_full != self.is_launcher_full {
            self.is_launcher_full = is_full;
            let socket = self.launcher.socket();
            if let Err(error) = self.poller.watch_for_room(socket, self.launcher_token, is_full) {
                tracing::error!(%error, "cannot watch the launcher");
            }
        }
    }

    fn note_ready(&mut self, event: Ready, target: Target) {
        match target {
            Target::Feed { stage, rank, port } => self.feed_has_room(stage, rank, port, event.hung_up),
            Target::Stdout => self.stdout_has_room(),
            Target::Tap { stage, rank, port } => {
                if let Some(tap) = self.tap_mut(stage, rank, port) {
                    tap.has_hung_up |= event.hung_up;
                    if !std::mem::replace(&mut tap.is_readable, true) {
                        self.readable.push_back(event.token);
                    }
                }
            }
            Target::Stdin => self.stdin_is_readable(event.token),
            Target::Log { stage, rank } => self.read_log(stage, rank),
            Target::Notify { stage, rank } => self.read_notify(stage, rank),
            Target::Control { stage, rank } => self.control_is_ready(stage, rank),
            Target::Server(number) => self.hear_server(number),
            Target::ServerLog(number) => self.read_server_log(number),
            Target::Answers { stage, rank } => {
                let answers = self.workers[stage][rank].as_mut().and_then(|io| io.answers.as_mut());
                if let Some(tap) = answers {
                    tap.has_hung_up |= event.hung_up;
                    if !std::mem::replace(&mut tap.is_readable, true) {
                        self.readable.push_back(event.token);
                    }
                }
            }
            Target::SharedListener => self.accept_shared(),
            Target::SharedClient(client) => self.hear_shared(client),
            Target::Launcher | Target::Wake => {}
        }
    }

    fn tap_mut(&mut self, stage: usize, rank: usize, port: usize) -> Option<&mut worker::Tap> {
        self.workers[stage][rank].as_mut()?.taps[port].as_mut()
    }

    fn feed_mut(&mut self, stage: usize, rank: usize, port: usize) -> Option<&mut feed::Feed> {
        self.workers[stage][rank].as_mut()?.feeds[port].as_mut()
    }

    fn mode(&self, stage: usize) -> Mode {
        self.plan.stages[stage].stage.mode
    }

    /// The consumer that takes for an input port, and whether by leases.
    fn is_leased_port(&self, consumer: Consumer) -> bool {
        matches!(consumer, Consumer::Port { stage, port: 0 } if self.mode(stage) != Mode::Stream)
    }
}
