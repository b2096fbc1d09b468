//! Waiting for a word that processes share to change: futex(2), by its low half.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::libc;

/// Waits until somebody wakes this word, or `patience` is over, or for no reason; not at all where the low half of the
/// word is no longer `seen`.
pub(crate) fn wait(word: &AtomicU64, seen: u64, patience: Option<Duration>) {
    let time = patience.map(|patience| libc::timespec {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: patience.subsec_nanos() as _,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the address is that of a live word, whose low half lies first on the little-endian machines that this runs
    // on; the time is null or a live local. The call reads both and changes nothing.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAIT, seen as u32, time) };
}

/// Wakes all that wait for this word, in every process.
pub(crate) fn wake(word: &AtomicU64) {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

fn low_half(word: &AtomicU64) -> *const u32 {
    const { assert!(cfg!(target_endian = "little"), "the low half of a word lies first") };
    std::ptr::from_ref(word).cast()
}
