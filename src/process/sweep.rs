//! The end of all descendants, wherever they have gone.

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpgid, getpgrp};
use std::os::fd::AsFd;

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
/// sessions are theirs or ours. The number cannot have become a stranger's: a child that is not reaped keeps it.
fn kill_with_group(child: i32) {
    let child = Pid::from_raw(child);
    match getpgid(Some(child)) {
        Ok(group) if group.as_raw() > 1 && group != getpgrp() => drop(killpg(group, Signal::SIGKILL)),
        _ => {}
    }
    let _ = kill(child, Signal::SIGKILL);
}

/// This process's children, as the kernel lists them.
fn children() -> Vec<i32> {
    let pid = std::process::id();
    if let Ok(list) = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")) {
        return list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    // A kernel without CONFIG_PROC_CHILDREN: look at everybody's parent.
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|other| parent_of(*other) == i32::try_from(pid).ok())
        .collect()
}

/// Field 4 of `/proc/PID/stat`; the name before it may hold anything, so count from its last parenthesis.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}
