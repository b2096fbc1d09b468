//! The listening side: who is let in, and how all of it ends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use serde_json::Value;

use super::connection::{Came, Connection};
use super::keeper::Keeper;
use super::protocol::{self, LONGEST_REQUEST_BYTES, Refusal, Request};
use super::{LeftAbout, SOCKET};
use crate::change::Reloaded;
use crate::runtime::run::Handle;
use crate::sys::run_folder::RunFolder;

/// Connections at one time.
const MOST_CLIENTS: usize = 32;

/// Of these, so many may follow something, or wait: they are not sent away for others.
const MOST_FOLLOWING: usize = 24;

/// Threads that are at their end and not gone yet are counted up to here.
const MOST_THREADS: usize = 2 * MOST_CLIENTS;

/// Of a thread for one client.
const STACK_BYTES: usize = 256 << 10;

/// When the machine is short of descriptors or threads, so long until the next look.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Threads that have nothing more to do end within this, and at the end of the run those who wait for it are told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What a run says of itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) run_id: String,
    pub(crate) pipeline: String,
    /// The document, where there is one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) began_at: Instant,
    /// To whoever can read the document again.
    pub(crate) reloads: Option<Sender<ReloadRequest>>,
}

impl About {
    /// The document as JSON can have it, which holds no bytes that are no text.
    pub(super) fn file_as_text(&self) -> Option<Cow<'_, str>> {
        self.file.as_ref().map(|file| file.to_string_lossy())
    }
}

/// Somebody wants the document to be read again and the run to become what it says.
#[derive(Debug)]
pub struct ReloadRequest(pub(super) Sender<Result<Reloaded, NotReloaded>>);

/// Nothing has changed.
#[derive(Debug)]
pub(super) struct NotReloaded {
    /// In words.
    pub(super) why: String,
    /// What is wrong with the document, for programs.
    pub(super) diagnostics: Option<Value>,
}

impl ReloadRequest {
    /// Says what has come of it: what has changed, when it has taken effect, or why nothing has, in words. Dropped without
    /// an answer, it says that the run has ended.
    pub fn answer(self, outcome: Result<Reloaded, String>) {
        self.send(outcome.map_err(|why| NotReloaded { why, diagnostics: None }));
    }

    /// Says that the document is wrong: in words, and as a list for programs, that of
    /// [`Diagnostics::to_json`](crate::language::Diagnostics::to_json).
    pub fn refuse_document(self, why: String, diagnostics: Value) {
        self.send(Err(NotReloaded { why, diagnostics: Some(diagnostics) }));
    }

    fn send(self, outcome: Result<Reloaded, NotReloaded>) {
        // Whoever asked may have gone.
        let _ = self.0.send(outcome);
    }
}

/// One client that is connected.
struct Guest {
    stream: Arc<UnixStream>,
    idle_since: Instant,
    doing: Doing,
}

/// What a client's thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waits for a request.
    Nothing,
    /// It obeys one, which is soon done.
    Obeying,
    /// It obeys one that lasts as long as the client, or the run, likes.
    Following,
}

#[derive(Default)]
struct Guests {
    by_number: BTreeMap<u64, Guest>,
    next: u64,
    threads: usize,
}

/// What all threads of the server share.
pub(super) struct Shared {
    pub(super) about: About,
    pub(super) handle: Handle,
    pub(super) keeper: Keeper,
    guests: Mutex<Guests>,
    /// The thread of a client has ended.
    has_left: Condvar,
    is_closing: AtomicBool,
    wake: EventFd,
}

/// A run's open control socket. Dropped, it tells those who wait that the run has ended, and closes.
pub(crate) struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    folder: Arc<RunFolder>,
}

impl Server {
    /// Opens the socket in the run's folder.
    pub(crate) fn open(folder: Arc<RunFolder>, about: About, handle: Handle) -> io::Result<Self> {
        LeftAbout::write(&about, folder.path());
        let listener = UnixListener::bind(folder.path().join(SOCKET))?;
        listener.set_nonblocking(true)?;
        let events = handle.listen(Keeper::wants).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            about,
            handle,
            keeper: Keeper::default(),
            guests: Mutex::default(),
            has_left: Condvar::new(),
            is_closing: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        let mut server = Self { shared: Arc::clone(&shared), acceptor: None, keeper: None, folder };
        server.acceptor = Some(thread("control", {
            let shared = Arc::clone(&shared);
            move || accept_all(&shared, &listener)
        })?);
        // Last: what is dropped for want of a thread waits for this one, which ends with the run.
        server.keeper = Some(thread("control-log", move || shared.keeper.listen(&events))?);
        Ok(server)
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
}

impl Drop for Server {
    fn drop(&mut self) {
        let shared = &self.shared;
        // First the name: nobody new is to come. The run may go on when only its owner has lost interest.
        let _ = std::fs::remove_file(self.folder.path().join(SOCKET));
        LeftAbout::remove(self.folder.path());
        shared.is_closing.store(true, Ordering::Release);
        let _ = shared.wake.write(1);
        join(self.acceptor.take());
        // It ends with the run, which its owner has waited for.
        join(self.keeper.take());
        shared.close();
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(Err(_)) = thread.map(JoinHandle::join) {
        tracing::error!("a thread of the control socket has panicked");
    }
}

/// Takes clients in until the server is closed.
fn accept_all(shared: &Arc<Shared>, listener: &UnixListener) {
    while !shared.is_closing.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => shared.take_in(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [
                    PollFd::new(listener.as_fd(), PollFlags::POLLIN),
                    PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN),
                ];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "cannot take in a client of the control socket");
                std::thread::sleep(SHORTAGE);
            }
        }
    }
}

impl Shared {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(self: &Arc<Self>, stream: UnixStream) {
        // Nobody else can enter the folder; but its mode is not all that stands between users.
        let is_ours = getsockopt(&stream, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0);
        if !is_ours || stream.set_nonblocking(false).is_err() {
            return;
        }
        let stream = Arc::new(stream);
        let Some(number) = self.admit(&stream) else {
            let refusal = Refusal::cannot("too_many", "the run has as many clients as it takes");
            let _ = stream.set_nonblocking(true);
            let _ = (&mut &*stream).write(&protocol::answer(&Value::Null, &Err(refusal)));
            return;
        };
        let this = Arc::clone(self);
        let serves = thread("control-client", move || {
            this.serve(number, &stream);
            this.leave(number);
        });
        if let Err(error) = serves {
            tracing::debug!(%error, "no thread for a client of the control socket");
            self.leave(number);
        }
    }

    /// Makes room for one more, if there can be any.
    fn admit(&self, stream: &Arc<UnixStream>) -> Option<u64> {
        let mut guests = self.guests();
        if guests.by_number.len() >= MOST_CLIENTS {
            let idle = guests.by_number.iter().filter(|(_, guest)| guest.doing == Doing::Nothing);
            let (&longest, _) = idle.min_by_key(|(_, guest)| guest.idle_since)?;
            guests.send_away(longest);
        }
        // Those who were sent away are gone in a moment.
        let is_crowded = |guests: &mut Guests| guests.threads >= MOST_THREADS;
        let waited = self.has_left.wait_timeout_while(guests, TOLD_WITHIN, is_crowded);
        let (mut guests, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        guests.threads += 1;
        guests.next += 1;
        let number = guests.next;
        let guest = Guest { stream: Arc::clone(stream), idle_since: Instant::now(), doing: Doing::Nothing };
        guests.by_number.insert(number, guest);
        Some(number)
    }

    fn leave(&self, number: u64) {
        let mut guests = self.guests();
        guests.by_number.remove(&number);
        guests.threads -= 1;
        self.has_left.notify_all();
    }

    /// Notes what a client's thread is at. Only one that does nothing is sent away for others.
    ///
    /// The error: as many follow already as may.
    pub(super) fn note(&self, number: u64, doing: Doing) -> Result<(), Refusal> {
        let mut guests = self.guests();
        let following = guests.by_number.values().filter(|guest| guest.doing == Doing::Following).count();
        if doing == Doing::Following && following >= MOST_FOLLOWING {
            return Err(Refusal::cannot("too_many", "as many clients follow this run as may")
                .help("end one of them, a `mpflow logs --follow` or a `mpflow tap`"));
        }
        // It may have been sent away.
        if let Some(guest) = guests.by_number.get_mut(&number) {
            guest.doing = doing;
            guest.idle_since = Instant::now();
        }
        Ok(())
    }

    /// Obeys one client until it goes.
    fn serve(&self, number: u64, stream: &UnixStream) {
        let mut connection = Connection::new(stream);
        loop {
            let line = match connection.next_line() {
                Came::Line(line) => line,
                Came::TooLong => {
                    let most = LONGEST_REQUEST_BYTES;
                    let refusal = Refusal::invalid(format!("a request is longer than {most} bytes"));
                    let _ = connection.write(&protocol::answer(&Value::Null, &Err(refusal)));
                    return;
                }
                Came::Gone => return,
            };
            let went_well = match Request::read(&line) {
                Ok(request) => self.obey(number, &request, &mut connection),
                Err((id, refusal)) => connection.write(&protocol::answer(&id, &Err(refusal))),
            };
            if went_well.is_err() {
                return;
            }
        }
    }

    /// Lets those who wait have their last word, and then nobody.
    fn close(&self) {
        let mut guests = self.guests();
        for guest in guests.by_number.values() {
            // Their requests end; answers may still be written.
            let _ = guest.stream.shutdown(std::net::Shutdown::Read);
        }
        let until = Instant::now() + TOLD_WITHIN;
        while guests.threads > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all: Vec<u64> = guests.by_number.keys().copied().collect();
                all.into_iter().for_each(|number| guests.send_away(number));
                return;
            }
            guests = self.has_left.wait_timeout(guests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the server is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

impl Guests {
    fn send_away(&mut self, number: u64) {
        if let Some(guest) = self.by_number.remove(&number) {
            let _ = guest.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
