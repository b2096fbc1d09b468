//! The signals that `mpflow run` gets, as values on a channel.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use crossbeam_channel::Receiver;
use nix::fcntl::OFlag;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cli::error::CliError;
use crate::cli::exit::Interrupt;

/// What a signal asks of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGINT, SIGTERM, or SIGHUP when the terminal has gone: to end.
    End(Interrupt),
    /// SIGHUP otherwise: to read the pipeline again.
    Reload,
    /// SIGUSR1: to say who waits for what.
    Explain,
    /// SIGTSTP: to stand still, workers and all.
    Suspend,
    /// SIGCONT: to go on.
    Continue,
}

/// Catches the signals from now on, on a thread of their own.
///
/// Handlers stay installed to the end of the process. Workers get none of them: the launcher resets all
/// dispositions in them.
pub(super) fn catch() -> Result<Receiver<Request>, CliError> {
    let ignored = ignored_at_entry();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGTSTP, SIGCONT]
        .into_iter()
        // Under nohup, and in a shell without job control, whoever started us wants these to do nothing. SIGINT
        // is not among them: a shell script ignores it for all that it starts with `&`, and still means it when
        // it sends it.
        .filter(|&signal| !(matches!(signal, SIGHUP | SIGTSTP) && ignored.contains(signal)));
    let had_terminal = has_terminal();
    let mut signals = Signals::new(wanted).map_err(CliError::Signals)?;
    // Unbounded: signals are rare, and none may be lost or hold up this thread.
    let (sender, requests) = crossbeam_channel::unbounded();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                // Whoever sends SIGHUP wants a reload, but for the kernel, which sends it when the terminal is closed.
                let is_hung_up = signal == SIGHUP && had_terminal && !has_terminal();
                let hung_up = is_hung_up.then_some(Request::End(Interrupt::Hup));
                let Some(request) = hung_up.or_else(|| request(signal)) else { continue };
                if sender.send(request).is_err() {
                    return;
                }
            }
        })
        .map_err(CliError::Thread)?;
    Ok(requests)
}

fn request(signal: i32) -> Option<Request> {
    match signal {
        SIGINT => Some(Request::End(Interrupt::Int)),
        SIGTERM => Some(Request::End(Interrupt::Term)),
        SIGHUP => Some(Request::Reload),
        SIGUSR1 => Some(Request::Explain),
        SIGTSTP => Some(Request::Suspend),
        SIGCONT => Some(Request::Continue),
        _ => None,
    }
}

/// Whether this process has a controlling terminal: one that was closed cannot be opened any more, tty(4).
fn has_terminal() -> bool {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    fs::File::options().read(true).custom_flags(flags.bits()).open("/dev/tty").is_ok()
}

/// Stops this process as SIGTSTP would have. Returns when it is continued.
pub(super) fn stop_ourselves() -> io::Result<()> {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).map_err(io::Error::from)
}

/// A set of signals, bit `n - 1` for signal `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SignalSet(u64);

impl SignalSet {
    fn contains(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }
}

/// The signals that were ignored when the program was started: it inherits that, and has changed nothing yet.
fn ignored_at_entry() -> SignalSet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    SignalSet(ignored_in(&status).unwrap_or(0))
}

/// The mask of ignored signals in a `/proc/PID/status`, proc(5).
fn ignored_in(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_is_seen() {
        let set = SignalSet(ignored_in("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n").unwrap());
        assert!(set.contains(SIGHUP));
        assert!(!set.contains(SIGINT));
        assert_eq!(ignored_in("Name:\tx\n"), None);
    }
}
