//! The environment of a process that has one thread.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

/// Takes variables out of this process's environment. Only for one that has a single thread: a worker at its start.
pub(crate) fn remove(names: &[&str]) {
    for name in names {
        // SAFETY: nobody reads the environment meanwhile: this process has one thread, since `mpflow::init` runs before
        // any other is started.
        unsafe { std::env::remove_var(name) };
    }
}

/// Makes these, each `NAME=value`, all of this process's environment. As [`remove`].
pub(crate) fn replace(variables: &[&CStr]) {
    let all: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in all {
        // SAFETY: as above; a copy of the launcher, which has one thread.
        unsafe { std::env::remove_var(name) };
    }
    for variable in variables {
        let bytes = variable.to_bytes();
        let Some(at) = memchr::memchr(b'=', bytes).filter(|&at| at > 0) else { continue };
        let (name, value) = (OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]));
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}
