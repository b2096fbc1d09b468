//! What is left of a run whose launcher was killed, and the launcher's guardian before it.

use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::family::{children, processes};
use super::sweep::kill_with_group;

/// Set where all that loses its parent comes to this process when there is neither launcher nor guardian: the children
/// that it had before, of the program that it was until its `exec`.
static ADOPTS_BESIDE: OnceLock<Vec<i32>> = OnceLock::new();

/// A kill takes effect within this time, or never.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Looks that must find nothing, one after another: a process on its way through `exec` has no environment yet.
const CLEAN_LOOKS: u32 = 3;

/// Makes orphans of this process's descendants its children, so that [`kill_leftovers`] finds those too that tell
/// by nothing else whose they are.
pub(crate) fn adopt_orphans() -> nix::Result<()> {
    let before = children();
    nix::sys::prctl::set_child_subreaper(true)?;
    let _ = ADOPTS_BESIDE.set(before);
    Ok(())
}

/// The kernel has killed the workers with their launcher, but not what they had started, and the guardian that would
/// have is gone too. Kills all orphans that have come to this process, and all that has the run's id in its
/// environment.
pub(crate) fn kill_leftovers(run_id: &str) {
    let mark = format!("MPFLOW_RUN_ID={run_id}");
    let until = Instant::now() + PATIENCE;
    let mut clean = 0;
    while clean < CLEAN_LOOKS && Instant::now() < until {
        // Those first, again and again: to look through all processes takes so long that one which forks and ends in turn
        // would be gone each time.
        while kill_adopted() && Instant::now() < until {
            thread::yield_now();
        }
        clean = if kill_marked(mark.as_bytes()) { 0 } else { clean + 1 };
        thread::sleep(LOOK);
    }
}

/// Kills and reaps the orphans that have come to this process so far; whether there was one.
fn kill_adopted() -> bool {
    let Some(before) = ADOPTS_BESIDE.get() else { return false };
    let adopted: Vec<i32> = children().into_iter().filter(|pid| !before.contains(pid)).collect();
    for &pid in &adopted {
        kill_with_group(pid);
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
    !adopted.is_empty()
}

/// One look through all processes for those with the mark; whether there was one to kill.
fn kill_marked(mark: &[u8]) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    let mut found = false;
    for pid in processes().filter(|&pid| Some(pid) != own && has_mark(pid, mark)) {
        found = true;
        // What the descriptor names cannot become another process; that it is the one that was meant is looked at
        // once more, since the number may have changed hands before.
        if let Some(number) = rustix::process::Pid::from_raw(pid)
            && let Ok(process) = pidfd_open(number, PidfdFlags::empty())
            && has_mark(pid, mark)
        {
            let _ = pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
    }
    found
}

fn has_mark(pid: i32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark)
}
