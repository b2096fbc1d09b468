//! The engine's side of the launcher.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::launcher::LAUNCHER_NAME;
use super::protocol::{Answer, MAX_MESSAGE_BYTES, REVOKE, SIGNAL, START_IN_FILE, StartFailure, StartRequest};
use crate::model::{Exit, Signal, Usage};
use crate::sys::message;

/// What the launcher tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notification {
    /// The process runs.
    Started { id: u64, pid: i32 },
    /// It does not, and nothing of it is left.
    StartFailed { id: u64, failure: StartFailure },
    /// The process itself has ended; others of its group may live on.
    Exited { id: u64, exit: Exit, usage: Usage },
    /// Its whole group has ended.
    GroupEnded { id: u64 },
    /// It was to take another's place, and was not started: that one did not end well, or was gone already, or it was
    /// asked for.
    Revoked { id: u64 },
    /// The launcher is gone, and the kernel has killed the workers with it.
    Lost,
}

/// A message that the socket had no room for yet.
struct Unsent {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// The process that starts, signals and reaps workers. Dropping it kills them all.
pub(crate) struct Launcher {
    process: Child,
    socket: OwnedFd,
    unsent: VecDeque<Unsent>,
    buffer: Vec<u8>,
}

impl Launcher {
    /// Starts it: this executable again, under another name. It does not matter from which thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // It blocks all signals when it is ready to. Until then it would die of a Ctrl-C that is meant for us, or of a
        // stray SIGTERM, did it not inherit the mask of the thread that starts it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let process = Command::new("/proc/self/exe")
            .arg0(LAUNCHER_NAME)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn();
        mask.thread_set_mask()?;
        let process = process?;
        Ok(Self { process, socket: ours, unsent: VecDeque::new(), buffer: vec![0; MAX_MESSAGE_BYTES] })
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

    fn send(&mut self, message: Unsent) -> io::Result<()> {
        self.unsent.push_back(message);
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(next) = self.unsent.front() {
            let raw: Vec<RawFd> = next.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            match message::send(self.socket.as_fd(), &next.bytes, &raw, false) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The launcher is gone; its end of the socket tells so when it is read.
                Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {
                    self.unsent.clear();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what it has told so far. Never waits.
    pub(crate) fn receive(&mut self, told: &mut Vec<Notification>) {
        loop {
            match message::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok((0, _)) => return told.push(Notification::Lost),
                Ok((length, _)) => {
                    told.extend(Answer::read_all(&self.buffer[..length]).map(|answer| match answer {
                        Answer::Started { id, pid } => Notification::Started { id, pid },
                        Answer::StartFailed { id, failure } => Notification::StartFailed { id, failure },
                        Answer::Exited { id, exit, usage } => Notification::Exited { id, exit, usage },
                        Answer::GroupEnded { id } => Notification::GroupEnded { id },
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
    /// Ends it: it kills what there is, waits for that, and ends. `false`: it was killed, and has not done so.
    pub(crate) fn end(&mut self) -> bool {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        self.process.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.end();
    }
}
