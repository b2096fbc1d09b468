//! Signal dispositions.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Gives a signal its default disposition; those that cannot be changed stay as they are.
pub(crate) fn set_default(signal: Signal) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default disposition runs no code of ours.
    let _ = unsafe { sigaction(signal, &default) };
}

/// Has a signal ignored.
pub(crate) fn ignore(signal: Signal) {
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no code runs when the signal comes.
    let _ = unsafe { sigaction(signal, &ignored) };
}

/// Gives the real-time signals their default disposition, the two that glibc keeps to itself among them: its
/// `posix_spawn`, which starts the launcher, leaves those ignored, and its `sigaction` refuses to change them.
pub(crate) fn set_real_time_default() {
    /// The kernel's own `struct sigaction` has at most this size; zeros are the default disposition, no flags and an
    /// empty mask on every architecture.
    const DEFAULT: [u64; 8] = [0; 8];
    /// The first real-time signal, and bytes of the kernel's signal set.
    const FIRST: nix::libc::c_int = 32;
    const SET_BYTES: usize = 8;
    for signal in FIRST..=nix::libc::SIGRTMAX() {
        // SAFETY: the pointer is to a live constant of at least the size that the kernel reads; nothing is written.
        // The default disposition runs no code of ours.
        unsafe {
            let old = std::ptr::null_mut::<u64>();
            nix::libc::syscall(nix::libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), old, SET_BYTES)
        };
    }
}
