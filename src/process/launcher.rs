//! The launcher's side: the small process that starts, signals and reaps every worker.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::guardian;
use super::seed::{self, Live};
use super::server::Server;
use super::sweep::kill_descendants;
use crate::sys::descriptor;
use crate::sys::fork::{Fork, fork};
use crate::sys::message::{self};

/// The name that this executable is started by when it is to be the launcher.
pub(super) const LAUNCHER_NAME: &str = "mpflow-launcher";

/// Whether this process can be started again as a launcher.
static IS_INITIALISED: AtomicBool = AtomicBool::new(false);

/// Whether [`become_launcher_if_asked`] was called: without it, a program would start itself as a launcher, and that
/// again, without end.
pub(crate) fn is_initialised() -> bool {
    IS_INITIALISED.load(Ordering::Acquire)
}

/// What a launcher says last, when nothing is left of what it has started: its end alone could be a kill.
pub(super) const ALL_ENDED: [u8; 1] = [0];

/// From here on this process may start launchers. `live`: what a copy of one does, to be a worker; `None` where this
/// program has nothing that it could do.
pub(crate) fn initialise(live: Option<Live>) {
    if let Some(live) = live {
        seed::plant(live);
    }
    IS_INITIALISED.store(true, Ordering::Release);
}

/// If this process was started to be a launcher, is it, and does not return.
///
/// Must run before any thread is started and before the arguments are looked at.
pub(crate) fn become_launcher_if_asked(live: Live) {
    let mut args = std::env::args_os();
    if args.next().is_none_or(|name| name != LAUNCHER_NAME) || args.next().is_some() {
        return;
    }
    // What whoever started the engine left open is for workers that are to have it, and for nobody else.
    let inherited = descriptor::inheritable();
    // It came as standard input, the one way that needs no number to be agreed upon.
    let Ok(socket) = descriptor::copy_above(std::io::stdin().as_fd(), 3) else { std::process::exit(1) };
    serve(socket, Program { inherited, kept: Vec::new(), live })
}

/// What a launcher has of the program that it is.
pub(super) struct Program {
    /// What whoever started the engine left inheritable.
    pub(super) inherited: Vec<RawFd>,
    /// Descriptors of the program's own, that its copies keep.
    pub(super) kept: Vec<RawFd>,
    pub(super) live: Live,
}

/// The life of a launcher, and of its guardian. `socket`: the way to the engine.
pub(super) fn serve(socket: OwnedFd, program: Program) -> ! {
    let Some(null) = settle() else { std::process::exit(1) };
    let _ = nix::sys::prctl::set_name(c"mpflow-launcher");
    let is_guarded = match fork() {
        Ok(Fork::Parent(launcher)) => {
            let _ = nix::sys::prctl::set_name(c"mpflow-guardian");
            guardian::guard(launcher, &socket);
            let _ = message::send(socket.as_fd(), &ALL_ENDED, &[], true);
            std::process::exit(0);
        }
        Ok(Fork::Child) => true,
        // Where no process can be made for it, there is one guard less, and a run all the same.
        Err(_) => false,
    };
    let Some(mut launcher) = Server::new(socket, null, program) else { std::process::exit(1) };
    launcher.run();
    kill_descendants(&launcher.signals);
    if !is_guarded {
        let _ = message::send(launcher.socket.as_fd(), &ALL_ENDED, &[], true);
    }
    std::process::exit(0);
}

/// What the launcher and its guardian have in common; `/dev/null`, which is in the place of their standard streams.
fn settle() -> Option<OwnedFd> {
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null").ok()?.into();
    for standard in 0..2 {
        descriptor::place_at(null.as_fd(), standard).ok()?;
    }
    descriptor::close_all_on_exec().ok()?;
    reset_dispositions();
    // Everything is blocked, so that nobody's stray SIGTERM takes the workers' guardians away; the workers
    // get an empty mask.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).ok()?;
    stand_alone()?;
    Some(null)
}

/// A session of its own: no terminal, whose Ctrl-C would reach it, and none for the workers. And all that is
/// orphaned below comes to this process.
pub(super) fn stand_alone() -> Option<()> {
    match nix::unistd::setsid() {
        // It leads one already.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(_) => return None,
    }
    nix::sys::prctl::set_child_subreaper(true).ok()
}

/// Tells of children that have ended.
pub(super) fn ended_children() -> nix::Result<SignalFd> {
    let mut ended = SigSet::empty();
    ended.add(NixSignal::SIGCHLD);
    SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// What this process ignores, its workers would ignore too: SIGPIPE, which Rust programs ignore, most of all.
/// SIGHUP stays ignored where it was (`nohup`).
fn reset_dispositions() {
    let kept = [NixSignal::SIGHUP, NixSignal::SIGKILL, NixSignal::SIGSTOP];
    for signal in NixSignal::iterator().filter(|signal| !kept.contains(signal)) {
        crate::sys::signal::set_default(signal);
    }
    crate::sys::signal::set_real_time_default();
}
