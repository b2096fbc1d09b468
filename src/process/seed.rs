//! The seed: a copy of an embedding program as it was when it was initialised, for workers that are to be copies of that.
//!
//! A program that has threads cannot be copied, and one that has functions may have threads as soon as it is
//! initialised. So a copy is made then, which does nothing but wait: its memory is the program's own, page for page,
//! until one of the two writes to it. Whoever wants workers of this kind asks it for a launcher. It is no child of the
//! program, which would meet it in its own waits, and ends with it.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::launcher::{Program, serve};
use crate::sys::fork::{Fork, fork, leave};
use crate::sys::message::{self, Received};
use crate::sys::{descriptor, signal};

/// What a copy of a launcher does, to be a worker of its program. Does not return.
pub(crate) type Live = fn() -> !;

/// The way to this program's seed.
static SEED: OnceLock<Result<Seed, String>> = OnceLock::new();

struct Seed {
    socket: OwnedFd,
    /// One above all descriptors that the program had.
    first_free: RawFd,
}

/// Makes this program's seed. Where that fails, whoever wants it is told why.
pub(super) fn plant(live: Live) {
    SEED.get_or_init(|| make(live));
}

fn make(live: Live) -> Result<Seed, String> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(format!("the program had {threads} threads when it called `mpflow::init`"));
    }
    let text = |error: nix::errno::Errno| format!("no copy of the program could be made: {error}");
    let kept: Vec<RawFd> = descriptor::open_numbers().into_iter().filter(|&number| number > 2).collect();
    let inherited = descriptor::inheritable();
    let first_free = kept.last().map_or(3, |last| last + 1);
    let (socket, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(text)?;
    // What is not written yet would be written by each copy.
    let _ = io::stdout().flush();
    match fork().map_err(text)? {
        Fork::Parent(between) => {
            let _ = waitpid(Pid::from_raw(between), None);
            Ok(Seed { socket, first_free })
        }
        Fork::Child => {
            drop(socket);
            match fork() {
                Ok(Fork::Child) => wait(&theirs, &Program { inherited, kept, live }),
                // Nothing of the program's ends here.
                Ok(Fork::Parent(_)) | Err(_) => leave(0),
            }
        }
    }
}

/// The life of the seed.
fn wait(socket: &OwnedFd, program: &Program) -> ! {
    // No signal that is meant for the program, or for its group, ends it: its end follows the program's.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    signal::ignore(Signal::SIGCHLD);
    // Workers have standard streams of their own, and whoever reads the program's is to see their end.
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        (0..3).for_each(|standard| drop(descriptor::place_at(null.as_fd(), standard)));
    }
    let mut buffer = [0; 16];
    loop {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut polled, PollTimeout::NONE);
        match message::receive(socket.as_fd(), &mut buffer) {
            Ok(Received { length: 0, .. }) => leave(0),
            Ok(Received { mut descriptors, .. }) => {
                let Some(theirs) = descriptors.pop() else { continue };
                if let Ok(Fork::Child) = fork() {
                    let Program { inherited, kept, live } = program;
                    let (inherited, kept) = (inherited.clone(), kept.clone());
                    descriptor::close_all_but(
                        &kept.iter().copied().chain([0, 1, 2, theirs.as_raw_fd()]).collect::<Vec<_>>(),
                    );
                    serve(theirs, Program { inherited, kept, live: *live });
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => leave(0),
        }
    }
}

fn seed() -> io::Result<&'static Seed> {
    match SEED.get() {
        Some(Ok(seed)) => Ok(seed),
        Some(Err(why)) => Err(io::Error::other(format!("workers cannot be forked: {why}"))),
        None => Err(io::Error::other(
            "workers cannot be forked: this program had no functions when it called `mpflow::init`",
        )),
    }
}

/// Has a launcher made of the seed, that serves at this end of a socket.
pub(super) fn grow(socket: &OwnedFd) -> io::Result<()> {
    message::send(seed()?.socket.as_fd(), &[1], &[socket.as_raw_fd()], true)
}

/// The first descriptor that a copy of the seed has not got from the program.
pub(crate) fn first_free_number() -> RawFd {
    seed().map_or(3, |seed| seed.first_free)
}
