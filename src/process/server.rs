//! What a launcher does, request by request, for as long as its engine lives.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as NixSignal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::family::parent_of;
use super::launcher::{Program, ended_children, stand_alone};
use super::protocol::{
    ADOPT, ANSWER_BYTES, Answer, Decoded, MAX_MESSAGE_BYTES, REVOKE, Reader, SIGNAL, START, START_IN_FILE,
    StartFailure,
};
use crate::model::{Exit, Usage};
use crate::sys::message::{self, Received};
use crate::sys::reap::Children;
use crate::sys::spawn::Step;
use crate::sys::{reap, spawn};

/// Between two looks at groups whose leader has ended: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(640);

/// One worker that has not ended with its whole group.
struct Worker {
    id: u64,
    /// The leader has ended and is reaped; others of its group live on.
    leader_ended: bool,
    /// A brief one; the engine does not know yet that it runs.
    is_unsaid: bool,
    /// It exited with 0.
    is_success: bool,
    since: Instant,
}

/// A process that is to be started in the place of another when that has ended well: at once, without a way to the
/// engine and back in between.
struct Successor {
    id: u64,
    request: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Those that take the place of one process, one after the other.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Successor>,
    /// How many there were when the last was added.
    full: usize,
}

impl Line {
    fn add(&mut self, successor: Successor) {
        self.waiting.push_back(successor);
        self.full = self.waiting.len();
    }

    /// Whether the engine had better know of those that have ended, so that it can add others before this is empty.
    fn runs_short(&self) -> bool {
        self.waiting.len() * 2 <= self.full
    }
}

pub(super) struct Server {
    pub(super) socket: OwnedFd,
    pub(super) signals: SignalFd,
    null: OwnedFd,
    /// By process group, which is the leader's pid. A number stays here, and so belongs to this worker, as long
    /// as the leader is not reaped or a child of ours is in the group.
    workers: HashMap<i32, Worker>,
    groups: HashMap<u64, i32>,
    /// By the process whose place is taken.
    lines: HashMap<u64, Line>,
    /// When the groups whose leader has ended are to be looked at again, where there are any.
    look_again_at: Option<Instant>,
    /// The last that have ended without being workers: one may be a worker that a fork server has only just made.
    strangers: VecDeque<Stranger>,
    program: Program,
    /// Between the last look and the next.
    look_interval: Duration,
    answers: Vec<u8>,
    /// Among the answers is one that is waited for.
    is_urgent: bool,
    /// When they are sent at the latest.
    tell_by: Option<Instant>,
    /// Brief processes of which the engine does not know yet that they run, and since when they do.
    unsaid: VecDeque<(Instant, i32)>,
    buffer: Vec<u8>,
}

/// A process is brief that takes less. For so long, the news that it runs waits for the news that it has ended, where
/// the engine has no use for the first alone, and so long the start of another may wait for its end. And so long the
/// news of its end may wait for those of others, where its place is taken.
pub(crate) const BRIEF: Duration = Duration::from_millis(5);

/// A process that has ended and was no worker.
struct Stranger {
    pid: i32,
    exit: Exit,
    usage: Usage,
}

/// Remembered of them at most: more than fork servers can have made between two messages.
const STRANGERS: usize = 256;

impl Server {
    pub(super) fn new(socket: OwnedFd, null: OwnedFd, program: Program) -> Option<Self> {
        // Neither comes with a fork from a guardian.
        stand_alone()?;
        let signals = ended_children().ok()?;
        Some(Self {
            socket,
            signals,
            null,
            workers: HashMap::new(),
            groups: HashMap::new(),
            lines: HashMap::new(),
            look_again_at: None,
            strangers: VecDeque::new(),
            program,
            look_interval: FIRST_LOOK,
            answers: Vec::new(),
            is_urgent: false,
            tell_by: None,
            unsaid: VecDeque::new(),
            buffer: vec![0; MAX_MESSAGE_BYTES],
        })
    }

    /// Serves until the engine is gone.
    pub(super) fn run(&mut self) {
        loop {
            let mut polled = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let Ok(_) = poll(&mut polled, self.patience()) else { continue };
            let [asked, ended] = polled.map(|fd| fd.any().unwrap_or(true));
            if self.look_again_at.is_some_and(|at| at <= Instant::now()) {
                self.look_at_lingering();
            }
            // The ended first: their places are what the next start waits for.
            if ended {
                // One signal stands for all that have ended so far; who ends from here on sends another.
                let _ = self.signals.read_signal();
                self.reap();
            }
            if asked && !self.receive() {
                return;
            }
            self.say_what_lasts();
            if self.is_to_be_told() && !self.flush() {
                return;
            }
        }
    }

    /// Takes all requests that have come; `false` when the engine is gone.
    fn receive(&mut self) -> bool {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = message::receive(self.socket.as_fd(), &mut buffer);
            let goes_on = match received {
                Ok(Received { length: 0, .. }) => Some(false),
                Ok(Received { length, descriptors, is_cut }) => {
                    self.serve(&buffer[..length], descriptors, is_cut);
                    None
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(true),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => None,
                Err(_) => Some(false),
            };
            self.buffer = buffer;
            if let Some(goes_on) = goes_on {
                return goes_on;
            }
        }
    }

    /// `is_cut`: some of its descriptors are lost, since this process may have no more.
    fn serve(&mut self, request: &[u8], mut descriptors: Vec<OwnedFd>, is_cut: bool) {
        match request.first() {
            Some(&(START | START_IN_FILE)) if is_cut => self.not_started(&request[1..], libc::EMFILE),
            Some(&START) => self.start_in_turn(request, descriptors),
            Some(&START_IN_FILE) => {
                let mut whole = Vec::new();
                let file = descriptors.pop().map(File::from);
                match file.map(|mut file| file.read_to_end(&mut whole)) {
                    Some(Ok(_)) => self.start_in_turn(&whole, descriptors),
                    Some(Err(_)) | None => self.not_started(&request[1..], libc::ENOMEM),
                }
            }
            Some(&SIGNAL) => self.signal(&request[1..]),
            Some(&REVOKE) => self.revoke(&request[1..]),
            Some(&ADOPT) => self.adopt(&request[1..]),
            _ => {}
        }
    }

    /// A request that has not come whole; its number is first in it.
    fn not_started(&mut self, request: &[u8], errno: i32) {
        let Some(id) = (Reader { bytes: request }).u64() else { return };
        self.tell_not_started(id, StartFailure { step: spawn::Step::Descriptors, errno });
    }

    /// Starts a process, or keeps the request until the one whose place it is to take has ended.
    fn start_in_turn(&mut self, request: &[u8], descriptors: Vec<OwnedFd>) {
        let Some(decoded) = Decoded::read(request) else { return };
        let Some(after) = decoded.after else {
            if let Err(failure) = self.start(&decoded, &descriptors) {
                self.tell_not_started(decoded.id, failure);
            }
            return;
        };
        match self.line_after(after) {
            Some(line) => line.add(Successor { id: decoded.id, request: request.to_vec(), descriptors }),
            None => self.tell_revoked(decoded.id),
        }
    }

    /// The line that this process is the last of, or the only one. None may be where it is known to last.
    fn line_after(&mut self, last: u64) -> Option<&mut Line> {
        let is_last = |line: &Line| line.waiting.back().is_some_and(|waiting| waiting.id == last);
        let first = match self.lines.iter().find(|(_, line)| is_last(line)) {
            Some((&first, _)) => first,
            None if self.lines.get(&last).is_some_and(|line| !line.waiting.is_empty()) => return None,
            None => last,
        };
        let is_brief = self.groups.get(&first).is_some_and(|group| self.workers[group].is_unsaid);
        is_brief.then(|| self.lines.entry(first).or_default())
    }

    fn revoke(&mut self, request: &[u8]) {
        let Some(id) = (Reader { bytes: request }).u64() else { return };
        for line in self.lines.values_mut() {
            if let Some(position) = line.waiting.iter().position(|waiting| waiting.id == id) {
                line.waiting.remove(position);
                return self.tell_revoked(id);
            }
        }
    }

    /// None is to take the place of this one.
    fn revoke_behind(&mut self, id: u64) {
        let line = self.lines.remove(&id).unwrap_or_default();
        self.revoke_line(line);
    }

    fn revoke_line(&mut self, line: Line) {
        for waiting in line.waiting {
            self.tell_revoked(waiting.id);
        }
    }

    fn tell_revoked(&mut self, id: u64) {
        Answer::Revoked { id }.write(&mut self.answers);
        self.is_urgent = true;
    }

    fn tell_not_started(&mut self, id: u64, failure: StartFailure) {
        Answer::StartFailed { id, failure }.write(&mut self.answers);
        self.is_urgent = true;
    }

    fn start(&mut self, decoded: &Decoded<'_>, descriptors: &[OwnedFd]) -> Result<(), StartFailure> {
        let mut placed: Vec<(RawFd, RawFd)> = (0..3)
            .filter(|standard| !decoded.targets.contains(standard))
            .map(|standard| (self.null.as_raw_fd(), standard))
            .collect();
        placed.extend(descriptors.iter().map(AsRawFd::as_raw_fd).zip(decoded.targets.iter().copied()));
        let program = spawn::Program {
            path: decoded.program,
            argv: &decoded.argv,
            env: &decoded.env,
            cwd: decoded.cwd,
            descriptors: &placed,
            inherited: if decoded.inherits { &self.program.inherited } else { &[] },
            limits: &decoded.limits,
            nice: decoded.nice,
            cpus: &decoded.cpus,
        };
        let id = decoded.id;
        let started = match decoded.is_copy {
            false => spawn::spawn(&program),
            true => self.copy(&program),
        };
        let pid = started.map_err(|(step, errno)| StartFailure { step, errno })?;
        let (is_unsaid, since) = (decoded.is_brief, Instant::now());
        let worker = Worker { id, leader_ended: false, is_unsaid, is_success: false, since };
        self.workers.insert(pid, worker);
        self.groups.insert(id, pid);
        match is_unsaid {
            true => self.unsaid.push_back((since, pid)),
            false => self.tell_started(id, pid),
        }
        Ok(())
    }

    fn tell_started(&mut self, id: u64, pid: i32) {
        Answer::Started { id, pid }.write(&mut self.answers);
        self.is_urgent = true;
    }

    /// Says of brief processes that run for too long to be such that they run.
    fn say_what_lasts(&mut self) {
        while let Some(&(since, pid)) = self.unsaid.front()
            && (since.elapsed() >= BRIEF || !self.workers.get(&pid).is_some_and(|worker| worker.is_unsaid))
        {
            self.unsaid.pop_front();
            if let Some(worker) = self.workers.get_mut(&pid).filter(|worker| worker.is_unsaid) {
                worker.is_unsaid = false;
                let id = worker.id;
                self.tell_started(id, pid);
                // No record is to wait behind it.
                self.revoke_behind(id);
            }
        }
    }

    /// Makes a copy of this process that is a worker. Returns in the launcher only.
    fn copy(&self, program: &spawn::Program<'_>) -> Result<i32, (Step, i32)> {
        let name = program.argv.last().copied().unwrap_or_default();
        match spawn::copy(program, &self.program.kept, name)? {
            Some(pid) => Ok(pid),
            None => {
                // What the launcher has in memory must not be dropped here, however the worker ends.
                let live = self.program.live;
                let _ = std::panic::catch_unwind(|| live());
                std::process::abort()
            }
        }
    }

    /// Takes a process that a fork server has left to us, as one that we have started: it leads a group of its own.
    fn adopt(&mut self, request: &[u8]) {
        let mut reader = Reader { bytes: request };
        let (Some(id), Some(pid)) = (reader.u64(), reader.i32()) else { return };
        let is_ours = parent_of(pid) == i32::try_from(std::process::id()).ok();
        // One that had the same number before is not meant.
        let ended = self.strangers.iter().position(|stranger| stranger.pid == pid && !is_ours);
        let ended = ended.and_then(|position| self.strangers.remove(position));
        if ended.is_none() && !is_ours {
            let failure = StartFailure { step: Step::Adopt, errno: nix::libc::ESRCH };
            return self.tell_not_started(id, failure);
        }
        let worker = Worker {
            id,
            leader_ended: ended.is_some(),
            is_unsaid: false,
            is_success: false,
            since: Instant::now(),
        };
        self.workers.insert(pid, worker);
        self.groups.insert(id, pid);
        self.tell_started(id, pid);
        if let Some(Stranger { exit, usage, .. }) = ended {
            Answer::Exited { id, exit, usage, ran: Duration::ZERO }.write(&mut self.answers);
            if !self.end_if_empty(pid) {
                self.look_again_after(FIRST_LOOK);
            }
        }
    }

    fn signal(&self, request: &[u8]) {
        let mut reader = Reader { bytes: request };
        let (Some(id), Some(number)) = (reader.u64(), reader.i32()) else { return };
        let (Some(&group), Ok(signal)) = (self.groups.get(&id), NixSignal::try_from(number)) else { return };
        // Never our own group: a worker's number is a pid that we were given and have not reaped.
        if group > 1 && group != nix::unistd::getpgrp().as_raw() {
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// Reaps all that have ended: workers, and what they have left behind.
    fn reap(&mut self) {
        let mut orphans_ended = false;
        while let Children::Ended(pid) = reap::look_at_all() {
            let Some(ended) = reap::reap(pid) else { return };
            let exit = Exit::from_code(ended.code);
            let usage = Usage {
                cpu: ended.cpu,
                peak_memory_bytes: ended.peak_memory_bytes,
                core_dumped: ended.core_dumped,
            };
            match self.workers.get_mut(&pid) {
                Some(worker) => {
                    worker.leader_ended = true;
                    worker.is_success = ended.code == 0;
                    let (id, ran) = (worker.id, worker.since.elapsed());
                    if std::mem::take(&mut worker.is_unsaid) {
                        Answer::Started { id, pid }.write(&mut self.answers);
                    }
                    Answer::Exited { id, exit, usage, ran }.write(&mut self.answers);
                    if !self.end_if_empty(pid) {
                        self.is_urgent = true;
                        self.look_again_after(FIRST_LOOK);
                        // Nobody knows for how long the rest of the group stays.
                        self.revoke_behind(id);
                    }
                }
                None => {
                    orphans_ended = true;
                    if self.strangers.len() == STRANGERS {
                        self.strangers.pop_front();
                    }
                    self.strangers.push_back(Stranger { pid, exit, usage });
                }
            }
            if self.answers.len() > MAX_MESSAGE_BYTES / 2 && !self.flush() {
                return;
            }
        }
        if orphans_ended {
            self.look_at_lingering();
        }
    }

    fn look_again_after(&mut self, interval: Duration) {
        self.look_interval = interval;
        self.look_again_at = Some(Instant::now() + interval);
    }

    /// How long nothing has to be done though nothing happens.
    fn patience(&self) -> PollTimeout {
        let unsaid = self.unsaid.front().map(|&(since, _)| since + BRIEF);
        let due = [unsaid, self.look_again_at, self.tell_by].into_iter().flatten().min();
        // Up to the next millisecond: to wake too early would only mean to wait again.
        let wait = due.map(|at| at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000));
        wait.map_or(PollTimeout::NONE, |wait| PollTimeout::from(u16::try_from(wait).unwrap_or(u16::MAX)))
    }

    /// Looks again at the groups whose leader has ended. A member that ends tells so by its signal; nothing tells of
    /// one that leaves for a session of its own, so that there is a look now and then, at growing intervals.
    fn look_at_lingering(&mut self) {
        let lingering: Vec<i32> =
            self.workers.iter().filter(|(_, worker)| worker.leader_ended).map(|(&group, _)| group).collect();
        for group in lingering {
            self.end_if_empty(group);
        }
        self.look_again_at = None;
        if self.workers.values().any(|worker| worker.leader_ended) {
            self.look_again_after((self.look_interval * 2).min(LAST_LOOK));
        }
    }

    /// Members of a group whose leader has ended are, or descend from, children of ours: we are the subreaper.
    /// So the group is empty when no child of ours is in it, and while one is, its number cannot be reused.
    fn end_if_empty(&mut self, group: i32) -> bool {
        if reap::look_at_group(group) != Children::None {
            return false;
        }
        if let Some(worker) = self.workers.remove(&group) {
            self.groups.remove(&worker.id);
            Answer::GroupEnded { id: worker.id }.write(&mut self.answers);
            match self.lines.remove(&worker.id) {
                Some(line) if worker.is_success => self.start_next(line),
                Some(line) => self.revoke_line(line),
                None => self.is_urgent = true,
            }
        }
        true
    }

    /// A place is free: its next process is started.
    fn start_next(&mut self, mut line: Line) {
        let Some(next) = line.waiting.pop_front() else { return self.is_urgent = true };
        let Some(decoded) = Decoded::read(&next.request) else {
            line.waiting.push_front(next);
            return self.revoke_line(line);
        };
        Answer::Succeeds { id: next.id }.write(&mut self.answers);
        match self.start(&decoded, &next.descriptors) {
            Ok(()) => {
                self.is_urgent |= line.runs_short();
                self.lines.insert(next.id, line);
            }
            Err(failure) => {
                self.revoke_line(line);
                self.tell_not_started(next.id, failure);
            }
        }
    }

    /// Whether what there is to say cannot wait.
    fn is_to_be_told(&mut self) -> bool {
        if self.is_urgent || self.answers.is_empty() {
            return self.is_urgent;
        }
        let now = Instant::now();
        *self.tell_by.get_or_insert(now + BRIEF) <= now
    }

    /// Sends what there is to say; `false` when the engine is gone.
    fn flush(&mut self) -> bool {
        let sent = self
            .answers
            .chunks(MAX_MESSAGE_BYTES / ANSWER_BYTES * ANSWER_BYTES)
            .all(|part| message::send(self.socket.as_fd(), part, &[], true).is_ok());
        self.answers.clear();
        self.is_urgent = false;
        self.tell_by = None;
        sent
    }
}
