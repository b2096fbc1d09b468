//! The end of all descendants, wherever they have gone.

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpgid, getpgrp};
use std::os::fd::AsFd;

use super::family::children;
use crate::sys::reap::{self, Children};

/// Kills every descendant of this process, which must be a subreaper: whoever loses its parent becomes a child of
/// it, a process that has made a session of its own too. Ends when there is none, and all are reaped.
///
/// `signals` tells of SIGCHLD.
pub(super) fn kill_descendants(signals: &SignalFd) {
    loop {
        children().into_iter().for_each(kill_with_group);
        loop {
            match reap::look_at_all() {
                Children::Ended(pid) => drop(reap::reap(pid)),
                Children::Alive => break,
                Children::None => return,
            }
        }
        let mut polled = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // A child that dies between the look and the wait has left its signal; the bound is for one whose
        // parent we could not yet see.
        let _ = poll(&mut polled, 20u8);
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// Kills a child with its whole group, which the kernel does at once, so that nobody in it can fork faster than it is
/// killed. Whoever is in a descendant's group is one as well: groups do not reach over sessions, and the
/// sessions are theirs or ours; our own group is left out. The number cannot have become a stranger's: a child that
/// is not reaped keeps it.
pub(super) fn kill_with_group(child: i32) {
    let child = Pid::from_raw(child);
    match getpgid(Some(child)) {
        Ok(group) if group.as_raw() > 1 && group != getpgrp() => drop(killpg(group, Signal::SIGKILL)),
        _ => {}
    }
    let _ = kill(child, Signal::SIGKILL);
}
