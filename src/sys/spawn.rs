//! Starting a program from the single-threaded launcher.
//!
//! The child shares the launcher's memory until it executes (`CLONE_VM | CLONE_VFORK`, what glibc's
//! `posix_spawn` does): no page table is copied, so that a start costs the same however large the launcher is,
//! and an error is simply written where the launcher reads it. It also allows what `posix_spawn` has no words for: the
//! death signal, limits, the working directory.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, RawFd};

use nix::libc;

use super::descriptor;
use super::fork::{Fork, fork};
use super::message::MAX_DESCRIPTORS;

/// What to start. All pointers live as long as the call.
pub(crate) struct Program<'a> {
    /// The file to execute; no search.
    pub path: &'a CStr,
    /// Arguments, the name first.
    pub argv: &'a [&'a CStr],
    /// `NAME=value`.
    pub env: &'a [&'a CStr],
    /// The working directory.
    pub cwd: &'a CStr,
    /// `(here, there)`: this process's descriptor and the number that the program finds it at.
    pub descriptors: &'a [(RawFd, RawFd)],
    /// Further descriptors that it gets at the numbers that they have here, but those that `descriptors` takes.
    pub inherited: &'a [RawFd],
    /// Resource limits, `(resource, soft and hard)`.
    pub limits: &'a [(c_int, u64)],
    /// Scheduling priority.
    pub nice: Option<i32>,
    /// The processors it may use.
    pub cpus: &'a [usize],
}

/// What a start failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// Making the process.
    Fork = 0,
    /// Its group and death signal.
    Group = 1,
    /// Its signal mask.
    Signals = 2,
    /// Its descriptors.
    Descriptors = 3,
    /// Its limits, priority and processors.
    Limits = 4,
    /// Its working directory.
    Cwd = 5,
    /// Executing the program.
    Exec = 6,
    /// Taking a process that somebody else has made.
    Adopt = 7,
}

impl Step {
    /// The step of this number.
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Fork,
            1 => Self::Group,
            2 => Self::Signals,
            3 => Self::Descriptors,
            4 => Self::Limits,
            5 => Self::Cwd,
            7 => Self::Adopt,
            _ => Self::Exec,
        }
    }
}

/// What the child sees of the launcher's memory.
struct Shared<'a> {
    program: &'a Program<'a>,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    cpus: libc::cpu_set_t,
    /// One above every number that the program wants its descriptors at.
    free_from: RawFd,
    parent: libc::pid_t,
    failure: Option<(Step, c_int)>,
}

impl<'a> Shared<'a> {
    fn new(program: &'a Program<'a>, argv: &'a [*const c_char], envp: &'a [*const c_char]) -> Self {
        // SAFETY: a cpu_set_t is an array of integers, for which zero bytes are valid.
        let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for &cpu in program.cpus {
            if cpu < libc::CPU_SETSIZE as usize {
                // SAFETY: the index was compared with the set's size.
                unsafe { libc::CPU_SET(cpu, &mut cpus) };
            }
        }
        Self {
            program,
            argv,
            envp,
            cpus,
            free_from: program.descriptors.iter().map(|&(_, there)| there + 1).max().unwrap_or(3).max(3),
            // SAFETY: getpid has no preconditions.
            parent: unsafe { libc::getpid() },
            failure: None,
        }
    }
}

/// Enough for the child's calls; it runs on a stack of its own, below which the launcher's is not touched.
const STACK_BYTES: usize = 64 << 10;

/// Starts a program in a process group of its own, to be killed when this process dies, with an empty signal
/// mask and only the listed descriptors. Returns when it has been executed.
///
/// # Errors
///
/// The step and the error number; no process is left.
pub(crate) fn spawn(program: &Program<'_>) -> Result<i32, (Step, c_int)> {
    let null_ended = |texts: &[&CStr]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (null_ended(program.argv), null_ended(program.env));
    let mut shared = Shared::new(program, &argv, &envp);
    // Never read before the child writes it, so that it need not be cleared.
    let mut stack: Vec<std::mem::MaybeUninit<u128>> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs `child` on its own stack (aligned to 16 bytes, growing down from `top`) and this
    // thread is suspended until it has executed or exited, so that `shared`, `stack` and all they point to
    // outlive it and are not used by two at once. The launcher has one thread and blocks all signals, so no
    // handler runs in the child on shared memory.
    let pid = unsafe { libc::clone(child, top, flags, (&raw mut shared).cast::<c_void>()) };
    if pid < 0 {
        return Err((Step::Fork, errno()));
    }
    // The child wrote through the pointer; read it as memory that somebody else has changed.
    // SAFETY: `shared` is live, and the child has let go of it.
    let failure = unsafe { std::ptr::read_volatile(&raw const shared.failure) };
    match failure {
        None => Ok(pid),
        Some(failure) => {
            crate::sys::reap::reap_blocking(pid);
            Err(failure)
        }
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Runs in the child: plain system calls only, no allocation, no lock, no panic.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its live `Shared`, and does not touch it while this runs.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    let failure = prepare(shared).err().unwrap_or_else(|| {
        // SAFETY: path, argv and envp are NUL-ended and NULL-ended; on success this does not return.
        unsafe {
            libc::execve(shared.program.path.as_ptr(), shared.argv.as_ptr(), shared.envp.as_ptr());
        }
        (Step::Exec, errno())
    });
    shared.failure = Some(failure);
    // SAFETY: `_exit` runs no destructors and no handlers of the parent's.
    unsafe { libc::_exit(127) }
}

/// Makes a copy of this process, set up as [`spawn`] sets up a program, with the environment and the descriptors that
/// it lists and those in `kept`, but with nothing executed: the copy goes on here. Only for a process that has one
/// thread: the launcher. `name`: what the copy is called in lists of processes.
///
/// Returns in both, `Some` with the pid in the parent when the copy is set up.
///
/// # Errors
///
/// The step and the error number; no copy is left.
pub(crate) fn copy(program: &Program<'_>, kept: &[RawFd], name: &CStr) -> Result<Option<i32>, (Step, c_int)> {
    let shared = Shared::new(program, &[], &[]);
    let pipe = descriptor::pipe().map_err(|error| (Step::Descriptors, error.raw_os_error().unwrap_or(0)))?;
    let (reading, writing) = pipe;
    match fork().map_err(|errno| (Step::Fork, errno as c_int))? {
        Fork::Parent(pid) => {
            drop(writing);
            let mut told = Vec::new();
            // Nothing is told where all has gone well.
            let _ = File::from(reading).read_to_end(&mut told);
            let Some((step, errno)) = told.split_first() else { return Ok(Some(pid)) };
            crate::sys::reap::reap_blocking(pid);
            let errno = errno.first_chunk().map_or(0, |errno| c_int::from_le_bytes(*errno));
            Err((Step::from_number(*step), errno))
        }
        Fork::Child => {
            // Out of the way of the numbers that are wanted.
            let moved = descriptor::copy_above(writing.as_fd(), shared.free_from);
            drop((reading, writing));
            let Ok(writing) = moved else { std::process::abort() };
            match prepare(&shared) {
                Ok(()) => {}
                Err((step, errno)) => {
                    let told = [&[step as u8][..], &errno.to_le_bytes()].concat();
                    let _ = File::from(writing).write_all(&told);
                    // SAFETY: `_exit` runs no destructors and no handlers of the parent's.
                    unsafe { libc::_exit(127) }
                }
            }
            let wanted = program.descriptors.iter().map(|&(_, there)| there);
            let mut spared: Vec<RawFd> = wanted.chain(kept.iter().copied()).collect();
            spared.extend([0, 1, 2]);
            // What owns the others in this copy of the memory is never dropped: the copy ends by an exit. The way to the
            // parent is among them, which so learns that all is set up.
            descriptor::close_all_but(&spared);
            std::mem::forget(writing);
            // A Rust program finds it so, and a copy is to find what a new one does.
            super::signal::ignore(nix::sys::signal::Signal::SIGPIPE);
            super::environment::replace(program.env);
            let _ = nix::sys::prctl::set_name(name);
            Ok(None)
        }
    }
}

fn check(step: Step, result: c_int) -> Result<(), (Step, c_int)> {
    if result < 0 { Err((step, errno())) } else { Ok(()) }
}

fn prepare(shared: &Shared<'_>) -> Result<(), (Step, c_int)> {
    let program = shared.program;
    // SAFETY: each call below takes integers or pointers to live memory, changes only this process, and is
    // async-signal-safe.
    unsafe {
        check(Step::Group, libc::setpgid(0, 0))?;
        check(Step::Group, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // The launcher may have died before the call above; then no signal will come.
        if libc::getppid() != shared.parent {
            libc::_exit(127);
        }
        if let Some(nice) = program.nice {
            check(Step::Limits, libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        }
        if !program.cpus.is_empty() {
            check(Step::Limits, libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &shared.cpus))?;
        }
        place_descriptors(shared)?;
        // After the descriptors, which may need numbers for a moment that a low limit does not allow.
        for &(resource, value) in program.limits {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            check(Step::Limits, libc::setrlimit(resource as _, &limit))?;
        }
        check(Step::Cwd, libc::chdir(program.cwd.as_ptr()))?;
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        check(Step::Signals, libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()))
    }
}

/// Puts each descriptor at its number. First every source that stands where another is to go is moved out of
/// the way: after that no step can overwrite a source, and `dup2` never meets its own number, where it would
/// leave the close-on-exec flag set.
fn place_descriptors(shared: &Shared<'_>) -> Result<(), (Step, c_int)> {
    let mut sources = [0; MAX_DESCRIPTORS];
    let wanted = shared.program.descriptors;
    for (source, &(here, _)) in sources.iter_mut().zip(wanted) {
        *source = here;
        if here < shared.free_from {
            // SAFETY: fcntl on a number of this process's own table, a copy of the launcher's.
            *source = unsafe { libc::fcntl(here, libc::F_DUPFD_CLOEXEC, shared.free_from) };
            check(Step::Descriptors, *source)?;
        }
    }
    for (&source, &(_, there)) in sources.iter().zip(wanted) {
        // SAFETY: dup2 on numbers of this process's own table.
        check(Step::Descriptors, unsafe { libc::dup2(source, there) })?;
    }
    for &inherited in shared.program.inherited {
        // SAFETY: fcntl on a number of this process's own table. One that has been closed meanwhile is not there.
        unsafe { libc::fcntl(inherited, libc::F_SETFD, 0) };
    }
    Ok(())
}
