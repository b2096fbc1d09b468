//! What is left of a run whose launcher was killed, and the launcher's guardian before it.

use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::family::{children, parent_of, processes};

/// Set where all that loses its parent comes to this process when there is neither launcher nor guardian: the children
/// that it had before, of the program that it was until its `exec`.
static ADOPTS_BESIDE: OnceLock<Vec<i32>> = OnceLock::new();

/// A kill takes effect within this time, or never.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// The kernel has killed the workers with their launcher, but not what they had started. Kills all that has the
/// run's id in its environment, and all orphans that have come to this process.
pub(crate) fn kill_leftovers(run_id: &str) {
    let mark = format!("MPFLOW_RUN_ID={run_id}");
    let until = Instant::now() + PATIENCE;
    let mut clean = 0;
    while clean < CLEAN_LOOKS && Instant::now() < until {
        clean = if kill_once(mark.as_bytes()) { 0 } else { clean + 1 };
        thread::sleep(LOOK);
    }
}

/// One look through all processes; whether there was one to kill.
fn kill_once(mark: &[u8]) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    let mut found = false;
    for pid in processes().filter(|pid| Some(*pid) != own) {
        let is_adopted =
            || ADOPTS_BESIDE.get().is_some_and(|before| !before.contains(&pid)) && parent_of(pid) == own;
        if !has_mark(pid, mark) && !is_adopted() {
            continue;
        }
        found = true;
        // What the descriptor names cannot become another process; that it is the one that was meant is looked at
        // once more, since the number may have changed hands before.
        if let Some(pid) = rustix::process::Pid::from_raw(pid)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && (has_mark(pid.as_raw_nonzero().get(), mark) || is_adopted())
        {
            let _ = pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
        if is_adopted() {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    found
}

fn has_mark(pid: i32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark)
}
