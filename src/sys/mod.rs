//! Every raw system call and every `unsafe` of the crate, one small file per facility, behind safe functions
//! that own their descriptors.
#![expect(unsafe_code, reason = "the only place for it")]

pub(crate) mod at_exit;
pub(crate) mod descriptor;
pub(crate) mod environment;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod mapping;
pub(crate) mod message;
pub(crate) mod reap;
pub(crate) mod robust;
pub(crate) mod run_folder;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod words;
