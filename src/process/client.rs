//! The engine's side of the launcher.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::launcher::{ALL_ENDED, LAUNCHER_NAME};
use super::protocol::{
    ADOPT, Answer, MAX_MESSAGE_BYTES, REVOKE, SIGNAL, START_IN_FILE, StartFailure, StartRequest,
};
use super::seed;
use crate::model::{Exit, Signal, Usage};
use crate::sys::message::{self, Received};

/// What the launcher tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notification {
    /// The process runs.
    Started { id: u64, pid: i32 },
    /// It does not, and nothing of it is left.
    StartFailed { id: u64, failure: StartFailure },
    /// The process itself has ended; others of its group may live on. `ran`: from its start to its end.
    Exited { id: u64, exit: Exit, usage: Usage, ran: Duration },
    /// Its whole group has ended.
    GroupEnded { id: u64 },
    /// The one whose place it was to take has ended, and it is being started.
    Succeeds { id: u64 },
    /// It was to take another's place, and is not started: that one did not end well, or takes long, or was gone already,
    /// or it was asked for.
    Revoked { id: u64 },
    /// The launcher is gone. The kernel has killed the workers with it, and its guardian the rest, unless that was killed
    /// as well.
    Lost,
}

impl Notification {
    /// The number of the process that it is about.
    pub(crate) fn id(&self) -> Option<u64> {
        match *self {
            Self::Started { id, .. }
            | Self::StartFailed { id, .. }
            | Self::Exited { id, .. }
            | Self::GroupEnded { id }
            | Self::Succeeds { id }
            | Self::Revoked { id } => Some(id),
            Self::Lost => None,
        }
    }
}

/// What a launcher is a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This executable, started again.
    Anew,
    /// This program as it was when it was initialised.
    Seed,
}

/// A message that the socket had no room for yet.
struct Unsent {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// The process that starts, signals and reaps workers. Dropping it kills them all.
pub(crate) struct Launcher {
    /// The guardian, which is the launcher's parent; `None` where it is a copy of this program's seed, which reaps it.
    process: Option<Child>,
    socket: OwnedFd,
    unsent: VecDeque<Unsent>,
    /// The kernel was short of something for the first of them, and does not say when it has it again.
    is_refused: bool,
    buffer: Vec<u8>,
}

impl Launcher {
    /// Starts it. It does not matter from which thread.
    pub(crate) fn start(origin: Origin) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let process = match origin {
            Origin::Anew => Some(Self::execute(theirs)?),
            Origin::Seed => {
                seed::grow(&theirs)?;
                None
            }
        };
        Ok(Self {
            process,
            socket,
            unsent: VecDeque::new(),
            is_refused: false,
            buffer: vec![0; MAX_MESSAGE_BYTES],
        })
    }

    fn execute(socket: OwnedFd) -> io::Result<Child> {
        // It blocks all signals when it is ready to. Until then it would die of a Ctrl-C that is meant for us, or of a
        // stray SIGTERM, did it not inherit the mask of the thread that starts it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let process = Command::new(own_program())
            .arg0(LAUNCHER_NAME)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .spawn();
        mask.thread_set_mask()?;
        process
    }

    /// To wait on: readable when it has something to tell, writable when it takes what it had no room for.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether requests wait for room in the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether the socket was full: what is asked now waits here, with its descriptors.
    pub(crate) fn is_busy(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Asks for a worker. Never waits; the descriptors are closed here once they have been sent.
    pub(crate) fn request_start(&mut self, mut request: StartRequest) -> io::Result<()> {
        let mut bytes = request.encode();
        let mut descriptors: Vec<OwnedFd> = request.descriptors.drain(..).map(|(fd, _)| fd).collect();
        if bytes.len() > MAX_MESSAGE_BYTES {
            let file = memfd_create(c"mpflow-start", MFdFlags::MFD_CLOEXEC)?;
            let mut file = std::fs::File::from(file);
            file.write_all(&bytes)?;
            io::Seek::rewind(&mut file)?;
            descriptors.push(file.into());
            bytes = vec![START_IN_FILE];
            bytes.extend_from_slice(&request.id.to_le_bytes());
        }
        self.send(Unsent { bytes, descriptors })
    }

    /// Asks for a signal to a worker's whole group. A worker that has ended gets none.
    pub(crate) fn request_signal(&mut self, id: u64, signal: Signal) -> io::Result<()> {
        let mut bytes = vec![SIGNAL];
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&signal.0.to_le_bytes());
        self.send(Unsent { bytes, descriptors: Vec::new() })
    }

    /// Asks that a process which waits for another's place is not started. It is told that it was revoked; or that
    /// it was started, which crossed this.
    pub(crate) fn request_revoke(&mut self, id: u64) -> io::Result<()> {
        let mut bytes = vec![REVOKE];
        bytes.extend_from_slice(&id.to_le_bytes());
        self.send(Unsent { bytes, descriptors: Vec::new() })
    }

    /// Asks it to take a process for this worker that a fork server has made, and left to it. Answered like a start.
    pub(crate) fn request_adoption(&mut self, id: u64, pid: i32) -> io::Result<()> {
        let mut bytes = vec![ADOPT];
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&pid.to_le_bytes());
        self.send(Unsent { bytes, descriptors: Vec::new() })
    }

    fn send(&mut self, message: Unsent) -> io::Result<()> {
        self.unsent.push_back(message);
        self.flush()
    }

    /// Whether [`Launcher::flush`] is to be tried again soon though the socket does not say so.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        use nix::libc::{ENOBUFS, ENOMEM, ETOOMANYREFS};
        self.is_refused = false;
        while let Some(next) = self.unsent.front() {
            let raw: Vec<RawFd> = next.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            match message::send(self.socket.as_fd(), &next.bytes, &raw, false) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The launcher is gone, perhaps with requests that it had not read; its end of the socket tells so when
                // it is read.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.unsent.clear();
                    return Ok(());
                }
                // ETOOMANYREFS: too many descriptors of this user are on their way in sockets, unix(7). Nothing tells
                // when that is over.
                Err(error) if matches!(error.raw_os_error(), Some(ENOMEM | ENOBUFS | ETOOMANYREFS)) => {
                    self.is_refused = true;
                    return Ok(());
                }
                Err(error) => {
                    // Whoever asked is told that it cannot be had, and must not get it later.
                    self.unsent.pop_front();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes what it has told so far. Never waits.
    pub(crate) fn receive(&mut self, told: &mut Vec<Notification>) {
        loop {
            match message::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(Received { length: 0, .. }) => return told.push(Notification::Lost),
                Ok(Received { length, .. }) => {
                    told.extend(Answer::read_all(&self.buffer[..length]).map(|answer| match answer {
                        Answer::Started { id, pid } => Notification::Started { id, pid },
                        Answer::StartFailed { id, failure } => Notification::StartFailed { id, failure },
                        Answer::Exited { id, exit, usage, ran } => {
                            Notification::Exited { id, exit, usage, ran }
                        }
                        Answer::GroupEnded { id } => Notification::GroupEnded { id },
                        Answer::Succeeds { id } => Notification::Succeeds { id },
                        Answer::Revoked { id } => Notification::Revoked { id },
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return told.push(Notification::Lost),
            }
        }
    }
}

impl Launcher {
    /// Ends it: it kills what there is, waits for that, and ends. `false`: its guardian was killed, so that something
    /// may be left if it was killed too.
    pub(crate) fn end(&mut self) -> bool {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        let mut has_ended_all = false;
        // The other end is closed when both are gone. What is still told is read, so that nobody waits for room.
        loop {
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut polled, PollTimeout::NONE);
            match message::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(Received { length: 0, .. }) => break,
                Ok(Received { length, .. }) => has_ended_all = self.buffer[..length] == ALL_ENDED,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
        }
        if let Some(process) = &mut self.process {
            let _ = process.wait();
        }
        has_ended_all
    }
}

/// This program, to be executed once more. What the link leads to is right also where the file has been replaced since; an
/// emulator (valgrind, qemu) has itself executed by it, and answers only who reads the link with the program's path.
fn own_program() -> PathBuf {
    use std::os::unix::fs::MetadataExt;

    let link = Path::new("/proc/self/exe");
    let file_of = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    match link.read_link() {
        Ok(path) if file_of(&path).is_some() && file_of(&path) != file_of(link) => path,
        _ => link.to_owned(),
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.end();
    }
}
