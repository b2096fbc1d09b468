//! `mpflow shared lock`: a command that runs while something is held.
//!
//! Both this process and the command have the connection that holds it. So it is held as long as either lives, whichever
//! is killed; and since this process releases it when the command has ended, what the command leaves behind does not
//! keep it.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use mpflow::observe::Colour;
use mpflow::shared::{Client, Error};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::terminal;

/// Numbers for the command's copy of the connection, the best first: high ones, which no script uses for its own files,
/// as far as the limit of descriptors allows them.
const NUMBERS: [i32; 3] = [250, 100, 10];

pub(super) fn run(
    mut client: Client,
    name: &str,
    timeout: Option<Duration>,
    command: &[String],
) -> Result<End, CliError> {
    if !client.acquire(name, timeout)? {
        return Err(CliError::TimedOut { name: name.to_owned(), what: "was not to be had", timeout });
    }
    let status = hold(&mut client, name, command)?;
    match client.release(name) {
        Ok(()) => {}
        Err(Error::Lost(_)) => say_lost(name),
        Err(error) => return Err(error.into()),
    }
    Ok(End::Command(code_of(status)))
}

fn hold(client: &mut Client, name: &str, command: &[String]) -> Result<ExitStatus, CliError> {
    pass_on(client)?;
    let (program, arguments) = command.split_first().expect("clap asks for one at least");
    // Until here a signal ends this process, and what it holds is released.
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2]).map_err(CliError::Signals)?;
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(|source| CliError::Program { program: program.clone(), source })?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                // When it has been reaped this process is about to end.
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(pid, signal);
                }
            }
        })
        .map_err(CliError::Thread)?;
    wait(client, name, &mut child).map_err(CliError::Signals)
}

/// Lets the command inherit the connection.
fn pass_on(client: &Client) -> Result<(), CliError> {
    for lowest in NUMBERS {
        // This copy is not closed on exec, and stays open here too.
        match fcntl(client.as_fd(), FcntlArg::F_DUPFD(lowest)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINVAL) => {}
            Err(error) => return Err(CliError::Signals(error.into())),
        }
    }
    Ok(())
}

/// Waits for the command, and says so when the connection breaks meanwhile.
fn wait(client: &Client, name: &str, child: &mut Child) -> io::Result<ExitStatus> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let mut is_lost = false;
    loop {
        let connection = if is_lost { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut watched =
            [PollFd::new(process.as_fd(), PollFlags::POLLIN), PollFd::new(client.as_fd(), connection)];
        match poll(&mut watched[..if is_lost { 1 } else { 2 }], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if watched[0].any() == Some(true) {
            return child.wait();
        }
        // Nobody was asked anything: what comes now is the end.
        if !is_lost && watched[1].any() == Some(true) {
            is_lost = true;
            say_lost(name);
        }
    }
}

fn say_lost(name: &str) {
    let look = terminal::stderr();
    let warning = look.paint(Colour::Yellow, "warning:");
    let text =
        format!("{warning} the run is gone, and with it the hold on `{name}` before its command ended\n");
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// As a shell has it: 128 and its number for a signal.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
