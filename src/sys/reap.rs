//! Children that have ended: seen first, reaped later, so that a signal never goes to a number that is free.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
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

fn look(id: impl Fn() -> Id<'static>) -> Children {
    loop {
        match waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::StillAlive) => return Children::Alive,
            Ok(status) => match status.pid() {
                Some(pid) => return Children::Ended(pid.as_raw()),
                None => return Children::Alive,
            },
            Err(Errno::EINTR) => {}
            Err(_) => return Children::None,
        }
    }
}

/// Looks at all children of this process. Only the launcher may: it starts nothing but workers.
pub(crate) fn look_at_all() -> Children {
    look(|| Id::All)
}

/// Looks at the children of this process in one process group.
pub(crate) fn look_at_group(group: i32) -> Children {
    look(|| Id::PGid(Pid::from_raw(group)))
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
