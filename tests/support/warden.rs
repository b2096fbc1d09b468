//! A process above each run to which everything comes that the run leaves behind.
//!
//! Tests run as threads of one process. Were that process itself the subreaper, orphans of all runs would come to it, and
//! one that has given up its environment, its group and its session would be nobody's. So each run has a warden of its
//! own: a fork of the test's process that never executes anything, is a child subreaper, and has one child, the
//! engine. Whatever the engine starts is a descendant of the warden for as long as it lives, wherever it goes: no
//! `setsid`, no double fork and no `execve` takes it out. The warden reaps all that comes to it, so that nothing stays
//! a zombie, says how the engine ended, and ends when it has no child left: its end is the proof that nothing is.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// See the module's description.
pub(super) struct Warden {
    process: Child,
    report: File,
    engine: i32,
    status: Option<ExitStatus>,
    has_ended: bool,
}

impl Warden {
    /// Starts this program under a warden of its own. Gives back the child for its standard streams, too.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let (report, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let writing = theirs.as_raw_fd();
        let between = move || {
            // SAFETY: raw system calls in a process that has been forked and not executed: nothing is allocated and no
            // lock is taken. The warden never returns from here; its copy goes on to execute the program.
            unsafe {
                libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
                match libc::fork() {
                    0 => Ok(()),
                    engine if engine > 0 => watch(engine, writing),
                    _ => Err(io::Error::last_os_error()),
                }
            }
        };
        // SAFETY: see above.
        unsafe { command.pre_exec(between) };
        let process = command.spawn()?;
        drop(theirs);
        let mut warden =
            Self { process, report: File::from(report), engine: 0, status: None, has_ended: false };
        let mut pid = [0; 4];
        warden.report.read_exact(&mut pid)?;
        warden.engine = i32::from_ne_bytes(pid);
        fcntl(&warden.report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(warden)
    }

    /// The standard streams that were piped.
    pub(super) fn streams(&mut self) -> &mut Child {
        &mut self.process
    }

    pub(super) fn engine(&self) -> i32 {
        self.engine
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.id().try_into().unwrap()
    }

    /// How the engine ended, if it has.
    pub(super) fn status(&mut self) -> Option<ExitStatus> {
        let mut status = [0; 4];
        if self.status.is_none() && self.hear(&mut status) {
            self.status = Some(ExitStatus::from_raw(i32::from_ne_bytes(status)));
        }
        self.status
    }

    /// Whether nothing is left that the run has started.
    pub(super) fn is_alone(&mut self) -> bool {
        self.status().is_some() && !self.hear(&mut [0; 4]) && self.has_ended
    }

    fn hear(&mut self, word: &mut [u8; 4]) -> bool {
        match self.report.read(word) {
            Ok(4) => true,
            Ok(_) => {
                self.has_ended = true;
                false
            }
            Err(_) => false,
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // Whoever could not be killed keeps it: that was told, and is not waited for.
        if self.has_ended {
            let _ = self.process.wait();
        }
    }
}

/// The life of a warden.
///
/// # Safety
///
/// For a process that has been forked from one with threads: system calls only.
unsafe fn watch(engine: i32, report: RawFd) -> ! {
    // SAFETY: calls on integers and on live locals.
    unsafe {
        // Nothing is held open that somebody waits for the end of: streams of the run, the pipe by which `Command` learns
        // that the program was executed.
        libc::dup2(report, 0);
        libc::syscall(libc::SYS_close_range, 1 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint);
        libc::write(0, (&raw const engine).cast(), 4);
        loop {
            let mut status: libc::c_int = 0;
            match libc::waitpid(-1, &mut status, 0) {
                pid if pid == engine => drop(libc::write(0, (&raw const status).cast(), 4)),
                -1 if *libc::__errno_location() != libc::EINTR => libc::_exit(0),
                _ => {}
            }
        }
    }
}

/// All that descend from a process.
pub(super) fn descendants(of: i32) -> Vec<i32> {
    let below = children(of);
    below.into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// The children of a process, as the kernel lists them by thread.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect()
}
