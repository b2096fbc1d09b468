//! The thread that talks to a launcher for the processes of this program: one for each kind of launcher, from the first
//! process on until the program ends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::Error;
use super::memory::Until;
use crate::model::{Exit, Signal};
use crate::process::{Launcher, Notification, Origin, StartRequest};

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The launcher was asked for it.
    Asked,
    Running(i32),
    Refused(String),
    Ended {
        pid: i32,
        exit: Exit,
    },
}

/// A process, as whoever has it and the thread that hears of it share it.
#[derive(Debug)]
pub(super) struct Watched {
    state: Mutex<State>,
    has_changed: Condvar,
}

impl Watched {
    pub(super) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, next: impl FnOnce(&State) -> State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = next(&state);
        self.has_changed.notify_all();
    }

    /// Waits until this holds of it, and says what it is then, or what it is in the end.
    pub(super) fn wait(&self, until: Until, holds: impl Fn(&State) -> bool) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !holds(&state) && !until.is_over() {
            state = match until.left() {
                None => self.has_changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.has_changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.clone()
    }
}

enum Ask {
    Start(Box<StartRequest>, Arc<Watched>),
    Signal(u64, Signal),
}

/// The way to such a thread.
pub(super) struct Starter {
    asks: Sender<Ask>,
    wake: Arc<EventFd>,
    next_id: std::sync::atomic::AtomicU64,
}

/// That of this kind of launcher.
pub(super) fn starter(origin: Origin) -> Result<&'static Starter, Error> {
    static ANEW: Mutex<()> = Mutex::new(());
    static STARTERS: [OnceLock<Starter>; 2] = [OnceLock::new(), OnceLock::new()];
    let place = &STARTERS[usize::from(origin == Origin::Seed)];
    if let Some(starter) = place.get() {
        return Ok(starter);
    }
    let _one = ANEW.lock().unwrap_or_else(PoisonError::into_inner);
    if place.get().is_none() {
        let starter = Starter::new(origin)?;
        let _ = place.set(starter);
    }
    Ok(place.get().expect("set above, and never taken away"))
}

impl Starter {
    fn new(origin: Origin) -> Result<Self, Error> {
        if !crate::process::is_initialised() {
            return Err(Error::NotInitialised);
        }
        let launcher = Launcher::start(origin)?;
        let (asks, asked) = unbounded();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let thread = Thread { launcher, asked, wake: Arc::clone(&wake), watched: HashMap::new() };
        std::thread::Builder::new().name("mpflow-processes".to_owned()).spawn(move || thread.run())?;
        Ok(Self { asks, wake, next_id: 1.into() })
    }

    fn ask(&self, ask: Ask) {
        // The thread lives as long as the program.
        let _ = self.asks.send(ask);
        let _ = self.wake.write(1);
    }

    /// Starts a process; its number for [`Self::signal`].
    pub(super) fn start(&self, mut request: StartRequest) -> (u64, Arc<Watched>) {
        request.id = self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = request.id;
        let watched = Arc::new(Watched { state: Mutex::new(State::Asked), has_changed: Condvar::new() });
        self.ask(Ask::Start(Box::new(request), Arc::clone(&watched)));
        (id, watched)
    }

    pub(super) fn signal(&self, id: u64, signal: Signal) {
        self.ask(Ask::Signal(id, signal));
    }
}

struct Thread {
    launcher: Launcher,
    asked: Receiver<Ask>,
    wake: Arc<EventFd>,
    watched: HashMap<u64, Arc<Watched>>,
}

impl Thread {
    fn run(mut self) {
        let mut told = Vec::new();
        loop {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, self.launcher.has_unsent());
            let mut polled = [
                PollFd::new(self.launcher.socket(), flags),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            // Nothing tells when the kernel has again what it was short of.
            let patience = if self.launcher.is_refused() { 5u8.into() } else { PollTimeout::NONE };
            let _ = poll(&mut polled, patience);
            let _ = self.wake.read();
            while !self.launcher.is_busy()
                && let Ok(ask) = self.asked.try_recv()
            {
                self.ask(ask);
            }
            let _ = self.launcher.flush();
            self.launcher.receive(&mut told);
            for notification in told.drain(..) {
                if !self.hear(notification) {
                    return self.lose();
                }
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Start(request, watched) => {
                let id = request.id;
                self.watched.insert(id, Arc::clone(&watched));
                if let Err(error) = self.launcher.request_start(*request) {
                    self.watched.remove(&id);
                    watched.change(|_| State::Refused(error.to_string()));
                }
            }
            Ask::Signal(id, signal) => {
                let _ = self.launcher.request_signal(id, signal);
            }
        }
    }

    /// `false`: the launcher is gone.
    fn hear(&mut self, notification: Notification) -> bool {
        match notification {
            Notification::Started { id, pid } => self.change(id, |_| State::Running(pid)),
            Notification::StartFailed { id, failure } => {
                self.change(id, |_| State::Refused(failure.to_string()));
                self.watched.remove(&id);
            }
            Notification::Exited { id, exit, .. } => {
                self.change(id, |state| State::Ended { pid: pid_of(state), exit })
            }
            Notification::GroupEnded { id } => drop(self.watched.remove(&id)),
            Notification::Lost => return false,
            _ => {}
        }
        true
    }

    fn change(&self, id: u64, next: impl FnOnce(&State) -> State) {
        if let Some(watched) = self.watched.get(&id) {
            watched.change(next);
        }
    }

    /// The launcher was killed, and all of its processes with it: whoever waits for one is told so.
    fn lose(mut self) {
        let killed = |state: &State| match state {
            State::Ended { .. } | State::Refused(_) => state.clone(),
            State::Asked => State::Refused("the launcher process was killed".to_owned()),
            State::Running(pid) => State::Ended { pid: *pid, exit: Exit::Signal(Signal::KILL) },
        };
        self.launcher.end();
        self.watched.values().for_each(|watched| watched.change(killed));
        while let Ok(ask) = self.asked.recv() {
            if let Ask::Start(_, watched) = ask {
                watched.change(killed);
            }
        }
    }
}

fn pid_of(state: &State) -> i32 {
    match state {
        State::Running(pid) | State::Ended { pid, .. } => *pid,
        State::Asked | State::Refused(_) => 0,
    }
}

/// A copy of one of this program's own standard streams, for a process that is to have it.
pub(super) fn standard(stream: &dyn AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
