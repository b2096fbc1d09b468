//! What a program does at its normal end.

use std::sync::Once;

/// Has this called, once, when `main` returns or the program calls `exit`: not when it is killed.
pub(crate) fn call(function: extern "C" fn()) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function takes nothing and lives as long as the program. Where there is no room for it, it is
        // not called.
        let _ = unsafe { nix::libc::atexit(function) };
    });
}
