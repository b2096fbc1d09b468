//! A copy of a process that has one thread.

use nix::unistd::ForkResult;

/// Which of the two a process is after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The one that was there before, and the pid of its copy.
    Parent(i32),
    /// The copy.
    Child,
}

/// Copies this process. Only for one that has a single thread: a program at its start, before it has made any, and the launcher, which makes none.
///
/// # Errors
///
/// The kernel's; there is no copy then.
pub(crate) fn fork() -> nix::Result<Fork> {
    // SAFETY: what a copy of a process with threads must not do is bound to locks that a thread held which the copy
    // does not have. This process has one thread: `mpflow::init` runs before any other is started, and the seed looks whether that is so.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Ends this process, and nothing else: it is a copy, and what would be flushed and dropped belongs to the original.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: `_exit` runs no destructors and no handlers.
    unsafe { nix::libc::_exit(code) }
}
