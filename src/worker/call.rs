//! A process that calls one function once, with what it was started with: no stage, no engine.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, caught, keep_places};
use super::functions::Function;
use super::life::registered;
use super::map::PANICKED;
use crate::ipc::taking;
use crate::sys::{descriptor, environment};

/// The variable that tells such a process where its call is.
pub(crate) const CALL: &str = "MPFLOW_CALL";

/// What stands before the argument, which is coded as a record of `msgpack` is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) name: String,
    /// The numbers of the descriptors in the argument.
    pub(crate) descriptors: Vec<i32>,
}

/// The call in a file of its own: a line of JSON, then the argument.
pub(crate) fn write_call(call: &Call, argument: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"mpflow-call", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&mut file, call)?;
    file.write_all(b"\n")?;
    file.write_all(argument)?;
    file.rewind()?;
    Ok(file.into())
}

/// If this process was started to make a call, makes it, and does not return.
pub(super) fn call_if_asked() {
    let Some((call, argument)) = read_call() else { return };
    environment::remove(&[CALL]);
    std::process::exit(make(&call, &argument))
}

fn read_call() -> Option<(Call, Vec<u8>)> {
    let number = std::env::var(CALL).ok()?.parse().ok()?;
    let mut bytes = Vec::new();
    descriptor::look_at(number).ok()?.read_to_end(&mut bytes).ok()?;
    let end = memchr::memchr(b'\n', &bytes)?;
    let call = serde_json::from_slice(&bytes[..end]).ok()?;
    drop(descriptor::adopt(number));
    Some((call, bytes.split_off(end + 1)))
}

/// Calls it, and says what the process is to exit with.
fn make(call: &Call, argument: &[u8]) -> i32 {
    let descriptors: Result<Vec<OwnedFd>, _> =
        call.descriptors.iter().map(|&fd| descriptor::adopt(fd)).collect();
    let Ok(descriptors) = descriptors else { return 1 };
    let Some(Function::Process(function)) = registered().get(&call.function) else {
        eprintln!("process `{}`: there is no function `{}` for a process", call.name, call.function);
        return 1;
    };
    keep_places();
    let result = caught(|| {
        let target = taking(descriptors, || function(argument))?;
        target()
    });
    let Err(Failure { error, r#type, traceback, is_panic, .. }) = result else { return 0 };
    let name = &call.name;
    match (is_panic, r#type.as_str()) {
        (true, _) => eprintln!("process `{name}` {}", traceback.trim_end()),
        (false, "" | "Undecodable") => eprintln!("process `{name}`: {error}"),
        (false, kind) => eprintln!("process `{name}`: {kind}: {error}"),
    }
    if is_panic { PANICKED } else { 1 }
}
