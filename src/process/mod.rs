//! Processes: how they come to be, how they are signalled, how their end is seen.
//!
//! # Theory of operation
//!
//! One small single-threaded process, the **launcher**, starts every worker. It is this executable again,
//! started before any worker. The engine asks it over a socket that passes descriptors ([`Launcher`]); it
//! answers with what was started, how each process ended and when its whole group has. It is the parent of every worker, so that it alone
//! reaps, and a signal, which it also sends, can never reach a number that has become free. It is a subreaper,
//! so that what workers leave behind comes to it. When the engine vanishes, however that happens, the socket
//! ends, and the launcher kills everything and ends too. When the launcher itself is killed, the kernel kills
//! the workers (`PR_SET_PDEATHSIG`), and its parent, the **guardian**, which does nothing else, what these had started.
//! When both are killed, the engine does that. So nothing is left as long as one of the three lives.
//!
//! This layer knows no stage, no queue and no record: it takes programs and descriptors.

mod client;
mod family;
mod guardian;
mod holder;
mod launcher;
mod leftovers;
mod lookup;
mod probe;
mod protocol;
mod seed;
mod server;
mod sweep;

pub(crate) use client::{Launcher, Notification, Origin};
pub(crate) use family::is_ending;
pub(crate) use holder::{Holder, command_line, find_holder};
pub(crate) use launcher::{become_launcher_if_asked, initialise, is_initialised};
pub(crate) use leftovers::{adopt_orphans, kill_leftovers};
pub(crate) use lookup::{Lookup, find_program, program_of_script};
pub(crate) use probe::{look_http, look_tcp};
pub(crate) use protocol::{Limit, StartRequest};
pub(crate) use seed::first_free_number;
pub(crate) use server::BRIEF;
