//! Children that have ended: seen first, reaped later, so that a signal never goes to a number that is free.

use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{P_ALL, P_PGID, id_t, idtype_t};
use nix::unistd::Pid;

/// What `waitid` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    /// This child has ended and is not reaped yet.
    Ended(i32),
    /// There are children, and none has ended.
    Alive,
    /// There are none.
    None,
}

/// By the raw call: nix makes an error of a child that a real-time signal has killed, since it has no name for it.
fn look(kind: idtype_t, id: id_t) -> Children {
    loop {
        // SAFETY: a siginfo_t is plain integers and pointers, for which zero bytes are valid.
        let mut info: nix::libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = nix::libc::WEXITED | nix::libc::WNOHANG | nix::libc::WNOWAIT;
        // SAFETY: the pointer is to a live local of the right type, which waitid fills.
        if unsafe { nix::libc::waitid(kind, id, &raw mut info, options) } == 0 {
            // SAFETY: waitid has filled in what it does for SIGCHLD, or left zeros where no child has ended.
            return match unsafe { info.si_pid() } {
                0 => Children::Alive,
                pid => Children::Ended(pid),
            };
        }
        if Errno::last() != Errno::EINTR {
            return Children::None;
        }
    }
}

/// Looks at all children of this process. Only the launcher may: it starts nothing but workers.
pub(crate) fn look_at_all() -> Children {
    look(P_ALL, 0)
}

/// Looks at the children of this process in one process group.
pub(crate) fn look_at_group(group: i32) -> Children {
    // A group that cannot be has nobody in it; 0 would be our own.
    id_t::try_from(group).ok().filter(|&group| group > 0).map_or(Children::None, |group| look(P_PGID, group))
}

/// How a child ended, and what it and the children that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code, or the negative signal that killed it.
    pub(crate) code: i32,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Resident memory at its peak.
    pub(crate) peak_memory_bytes: u64,
    /// It was killed and left a core dump.
    pub(crate) core_dumped: bool,
}

/// Reaps a child that has ended.
pub(crate) fn reap(pid: i32) -> Option<Ended> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<nix::libc::rusage>::zeroed();
    // SAFETY: both pointers are to live locals of the right types, which wait4 fills.
    let reaped = unsafe { nix::libc::wait4(pid, &mut status, nix::libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped != pid {
        return None;
    }
    // SAFETY: a rusage is plain integers, for which zero bytes are valid, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    let code = if nix::libc::WIFSIGNALED(status) {
        -nix::libc::WTERMSIG(status)
    } else {
        nix::libc::WEXITSTATUS(status)
    };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    // Linux counts ru_maxrss in KiB, getrusage(2).
    let peak_memory_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    let core_dumped = nix::libc::WIFSIGNALED(status) && nix::libc::WCOREDUMP(status);
    Some(Ended { code, cpu, peak_memory_bytes, core_dumped })
}

/// Waits for a child that has ended or is about to, and forgets how.
pub(crate) fn reap_blocking(pid: i32) {
    while matches!(nix::sys::wait::waitpid(Pid::from_raw(pid), None), Err(Errno::EINTR)) {}
}

fn duration(time: nix::libc::timeval) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_usec).unwrap_or(0).saturating_mul(1000),
    )
}
