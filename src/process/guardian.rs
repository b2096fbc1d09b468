//! The guardian: the launcher's parent, which ends what a launcher leaves that was killed.
//!
//! It does nothing but wait, so that it costs next to nothing: it is a copy of the launcher from before that has done
//! anything. The kernel kills the workers with their launcher; what these had started loses its parent and comes to
//! the nearest subreaper above, which is this process.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::ended_children;
use super::sweep::kill_descendants;
use crate::sys::reap::{self, Children};

/// A launcher that has lost its engine kills all and ends by itself, unless it is stopped or stuck: then it is
/// killed after this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks at a launcher that has been killed and is not gone.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the end of the launcher, then kills and reaps all that it has left.
///
/// `socket` is the launcher's end of the way to the engine. It stays open here until all is done: the engine learns of
/// the launcher's end only when nothing is left of what it had started.
pub(super) fn guard(launcher: i32, socket: &OwnedFd) {
    let Ok(signals) = ended_children() else { std::process::exit(1) };
    let mut engine_is_gone_since: Option<Instant> = None;
    while !has_ended(launcher) {
        let mut polled = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            // No events: only that the other end is closed, which an engine that waits for our end does not do.
            PollFd::new(socket.as_fd(), PollFlags::empty()),
        ];
        let (watched, patience) = match engine_is_gone_since {
            None => (&mut polled[..], PollTimeout::NONE),
            Some(since) => {
                let left = PATIENCE.saturating_sub(since.elapsed()).max(LOOK);
                let left = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
                (&mut polled[..1], PollTimeout::from(left))
            }
        };
        let _ = poll(watched, patience);
        while let Ok(Some(_)) = signals.read_signal() {}
        match engine_is_gone_since {
            None if polled[1].any().unwrap_or(true) => engine_is_gone_since = Some(Instant::now()),
            Some(since) if since.elapsed() >= PATIENCE => {
                let _ = kill(Pid::from_raw(launcher), Signal::SIGKILL);
            }
            _ => {}
        }
    }
    kill_descendants(&signals);
}

/// Looks at the children that have ended. As long as the launcher lives it is the only one.
fn has_ended(launcher: i32) -> bool {
    loop {
        match reap::look_at_all() {
            Children::Ended(pid) => {
                reap::reap(pid);
                if pid == launcher {
                    return true;
                }
            }
            Children::Alive => return false,
            Children::None => return true,
        }
    }
}
