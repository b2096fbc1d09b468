//! Whether workers are ready: probes of every kind.
//!
//! Looks that wait for a network run on a thread of their own, one for each worker that is probed, and tell the loop
//! what they saw; a command is a process like any other, started by the launcher; a line or a word of the
//! worker's own is seen as it comes.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use regex::bytes::Regex;

use super::poller::Token;
use super::{Control, Owner, RunLoop};
use crate::model::{Exit, Probe, ProbeKind, Signal};
use crate::process::{Notification, look_http, look_tcp};
use crate::runtime::supervisor::{Input, Worker};

/// How one worker is probed, and what was seen.
#[derive(Debug)]
pub(super) enum Probing {
    /// A thread looks again and again until this is dropped.
    Thread { _stop: Sender<()>, seen: Seen },
    /// The machine had no thread left for it: when to ask for one again.
    NoThread { again_at: Instant },
    /// A process looks.
    Command { next: Option<Instant>, running: Option<(u64, Instant)>, seen: Seen },
    /// A line is waited for.
    Log { pattern: Regex },
    /// The worker writes a line to this descriptor.
    Notify { fd: OwnedFd, token: Token },
    /// It was ready once, and nothing takes that back.
    Done,
}

/// What looks have seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    is_ready: bool,
    /// Failed looks in a row.
    failures: u32,
    /// Why the last failed.
    pub(super) last: Option<String>,
}

impl RunLoop {
    /// A worker runs: its probe begins.
    pub(super) fn begin_probe(&mut self, worker: Worker) {
        let Some(probe) = self.plan.stages[worker.stage].stage.ready.clone() else { return };
        if self.io(worker).is_some_and(|io| matches!(io.probe, Some(Probing::Done))) {
            // It said so before the launcher could tell that it runs, when nobody would have believed it.
            self.inputs.push_back(Input::Ready { worker, is_ready: true });
            return;
        }
        let probing = match &probe.kind {
            ProbeKind::Tcp(_) | ProbeKind::Http(_) => match self.probe_by_thread(worker, &probe) {
                Ok(stop) => Probing::Thread { _stop: stop, seen: Seen::default() },
                Err(error) => {
                    let name = self.plan.stages[worker.stage].stage.worker_name(worker.rank);
                    let wait = humantime::format_duration(probe.interval);
                    self.notice(format!("cannot probe worker `{name}` yet: {error}; again in {wait}"));
                    Probing::NoThread { again_at: self.clock.now() + probe.interval }
                }
            },
            ProbeKind::Command(_) => {
                Probing::Command { next: Some(self.clock.now()), running: None, seen: Seen::default() }
            }
            // Its first words are waited for before it is known to run, and its descriptor was opened with the others.
            ProbeKind::Log(_) | ProbeKind::Notify => return,
        };
        if let Some(io) = self.io(worker) {
            io.probe = Some(probing);
        }
    }

    /// What of a probe is in place before a worker is started: its first line may come before the launcher's word
    /// that it runs.
    pub(super) fn probe_of_the_first_line(&self, stage: usize) -> Result<Option<Probing>, String> {
        match self.plan.stages[stage].stage.ready.as_ref().map(|probe| &probe.kind) {
            Some(ProbeKind::Log(pattern)) => match Regex::new(pattern) {
                Ok(pattern) => Ok(Some(Probing::Log { pattern })),
                Err(error) => Err(format!("cannot probe it: {error}")),
            },
            _ => Ok(None),
        }
    }

    fn probe_by_thread(&self, worker: Worker, probe: &Probe) -> std::io::Result<Sender<()>> {
        let (stop, stopped) = bounded::<()>(0);
        let (asks, wake, probe) = (self.asks.clone(), std::sync::Arc::clone(&self.wake), probe.clone());
        std::thread::Builder::new().name("mpflow-probe".to_owned()).spawn(move || {
            loop {
                let began_at = Instant::now();
                let seen = match &probe.kind {
                    ProbeKind::Tcp(address) => look_tcp(address, probe.timeout),
                    ProbeKind::Http(url) => look_http(url, probe.timeout),
                    ProbeKind::Command(_) | ProbeKind::Log(_) | ProbeKind::Notify => return,
                };
                if asks.send(Control::Probed { worker, seen, began_at }).is_err() || wake.write(1).is_err() {
                    return;
                }
                if stopped.recv_timeout(probe.interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(stop)
    }

    /// One look has been taken.
    pub(super) fn probed(&mut self, worker: Worker, result: Result<(), String>) {
        let Some(probe) = self.plan.stages[worker.stage].stage.ready.clone() else { return };
        let Some(Probing::Thread { seen, .. } | Probing::Command { seen, .. }) =
            self.io(worker).and_then(|io| io.probe.as_mut())
        else {
            return;
        };
        let was_ready = seen.is_ready;
        match result {
            Ok(()) => *seen = Seen { is_ready: true, failures: 0, last: None },
            Err(reason) => {
                seen.failures += 1;
                seen.last = Some(reason);
                seen.is_ready &= seen.failures < probe.failures;
            }
        }
        let (is_ready, last) = (seen.is_ready, seen.last.clone().unwrap_or_default());
        if is_ready != was_ready {
            if was_ready {
                let name = self.plan.stages[worker.stage].stage.worker_name(worker.rank);
                let failures = probe.failures;
                self.notice(format!(
                    "worker `{name}` is not ready any more: {failures} looks failed, the last: {last}"
                ));
            }
            self.inputs.push_back(Input::Ready { worker, is_ready });
        }
    }

    /// The worker has said by itself that it is ready, or what it wrote says so.
    fn is_ready_now(&mut self, worker: Worker) {
        if let Some(io) = self.io(worker) {
            io.probe = Some(Probing::Done);
        }
        self.inputs.push_back(Input::Ready { worker, is_ready: true });
    }

    /// A line, or several, of a worker that is known by its log.
    pub(super) fn look_at_line(&mut self, stage: usize, rank: usize, text: &[u8]) {
        let Some(io) = self.workers[stage][rank].as_ref() else { return };
        let worker = io.worker;
        if let Some(Probing::Log { pattern }) = &io.probe
            && text.split(|&byte| byte == b'\n').any(|line| pattern.is_match(line))
        {
            self.is_ready_now(worker);
        }
    }

    pub(super) fn read_notify(&mut self, stage: usize, rank: usize) {
        let Some(io) = self.workers[stage][rank].as_ref() else { return };
        let worker = io.worker;
        let Some(Probing::Notify { fd, token }) = &io.probe else { return };
        let token = *token;
        let mut buffer = [0; 256];
        let read = nix::unistd::read(fd, &mut buffer).unwrap_or(0);
        if buffer[..read].contains(&b'\n') {
            self.tokens.remove(token);
            self.is_ready_now(worker);
        }
    }

    // ---- looks by a process

    /// When a look is to be taken, or has taken too long.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        let probes = self.workers.iter().flatten().flatten().filter_map(|io| io.probe.as_ref());
        let deadlines = probes.filter_map(|probe| match probe {
            Probing::Command { running: Some((_, deadline)), .. } => Some(*deadline),
            Probing::Command { next, .. } => *next,
            Probing::NoThread { again_at } => Some(*again_at),
            Probing::Thread { .. } | Probing::Log { .. } | Probing::Notify { .. } | Probing::Done => None,
        });
        deadlines.min()
    }

    pub(super) fn probes_due(&mut self, now: Instant) {
        let workers: Vec<Worker> = self.workers.iter().flatten().flatten().map(|io| io.worker).collect();
        for worker in workers {
            let Some(io) = self.io(worker) else { continue };
            match io.probe {
                Some(Probing::Command { running: Some((id, deadline)), .. }) if deadline <= now => {
                    self.ids.remove(&id);
                    let _ = self.launcher.request_signal(id, Signal::KILL);
                    self.looked(worker, Err("the probe took longer than its timeout".to_owned()));
                }
                Some(Probing::Command { running: None, next: Some(at), .. }) if at <= now => {
                    self.look(worker, now)
                }
                Some(Probing::NoThread { again_at }) if again_at <= now => self.begin_probe(worker),
                _ => {}
            }
        }
    }

    fn look(&mut self, worker: Worker, now: Instant) {
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(Probe { kind: ProbeKind::Command(command), timeout, .. }) =
            &plan.stages[worker.stage].stage.ready
        else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        let recipe = self.recipes[worker.stage][worker.rank].clone();
        let request = recipe
            .ok_or_else(|| "its recipe is gone".to_owned())
            .and_then(|recipe| recipe.probe(id, command));
        let sent = request
            .and_then(|request| self.launcher.request_start(request).map_err(|error| error.to_string()));
        match sent {
            Ok(()) => {
                self.ids.insert(id, Owner::Probe(worker));
                if let Some(Probing::Command { running, .. }) =
                    self.io(worker).and_then(|io| io.probe.as_mut())
                {
                    *running = Some((id, now + *timeout));
                }
            }
            Err(reason) => self.looked(worker, Err(reason)),
        }
    }

    /// A process that looked has ended, or was not started.
    pub(super) fn hear_of_probe(&mut self, id: u64, worker: Worker, notification: Notification) {
        match notification {
            Notification::Exited { exit, .. } => {
                self.ids.remove(&id);
                let result = match exit {
                    Exit::SUCCESS => Ok(()),
                    other => Err(format!("the probe's command exited with {other}")),
                };
                self.looked(worker, result);
            }
            Notification::StartFailed { failure, .. } => {
                self.ids.remove(&id);
                self.looked(worker, Err(failure.to_string()));
            }
            Notification::Started { .. }
            | Notification::GroupEnded { .. }
            | Notification::Succeeds { .. }
            | Notification::Revoked { .. }
            | Notification::Lost => {}
        }
    }

    fn looked(&mut self, worker: Worker, result: Result<(), String>) {
        let interval = self.plan.stages[worker.stage].stage.ready.as_ref().map(|probe| probe.interval);
        let interval = interval.unwrap_or(Duration::from_secs(1));
        let now = self.clock.now();
        if let Some(Probing::Command { next, running, .. }) = self.io(worker).and_then(|io| io.probe.as_mut())
        {
            *running = None;
            *next = Some(now + interval);
        }
        self.probed(worker, result);
    }

    /// The worker has ended: nobody looks at it any more.
    pub(super) fn end_probe(&mut self, probe: Option<Probing>) {
        match probe {
            Some(Probing::Command { running: Some((id, _)), .. }) => {
                self.ids.remove(&id);
                let _ = self.launcher.request_signal(id, Signal::KILL);
            }
            Some(Probing::Notify { token, .. }) => self.tokens.remove(token),
            Some(
                Probing::Thread { .. }
                | Probing::NoThread { .. }
                | Probing::Command { .. }
                | Probing::Log { .. }
                | Probing::Done,
            )
            | None => {}
        }
    }
}
