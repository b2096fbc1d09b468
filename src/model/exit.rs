//! How a process ended, and what it used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a process ended, written as Python writes it: `0`, `3`, `-15`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By itself, with this code, 0 to 255.
    Code(i32),
    /// Killed by this signal.
    Signal(Signal),
}

impl Exit {
    /// Success.
    pub const SUCCESS: Self = Self::Code(0);

    /// From Python's number.
    pub fn from_code(code: i32) -> Self {
        if code < 0 { Self::Signal(Signal(-code)) } else { Self::Code(code) }
    }

    /// Python's number: the code, or the negative signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal.0,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Signal(signal) => write!(f, "{} ({signal})", -signal.0),
        }
    }
}

/// A Unix signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(
    /// Its number on Linux.
    pub i32,
);

/// Names and numbers, signal(7), the numbers of x86 and ARM.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// Interrupt.
    pub const INT: Self = Self(2);
    /// Kill.
    pub const KILL: Self = Self(9);
    /// Broken pipe.
    pub const PIPE: Self = Self(13);
    /// Terminate.
    pub const TERM: Self = Self(15);
    /// Continue.
    pub const CONT: Self = Self(18);
    /// Stop, as the terminal asks.
    pub const TSTP: Self = Self(20);
    /// Stop, not to be caught.
    pub const STOP: Self = Self(19);

    /// Every name that [`Signal::from_str`] knows, with `SIG`.
    pub fn names() -> impl Iterator<Item = String> {
        SIGNALS.iter().map(|(name, _)| format!("SIG{name}"))
    }
}

/// The text is not the name of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a signal")]
pub struct UnknownSignal;

/// Reads `SIGTERM` and `TERM`.
impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        SIGNALS.iter().find(|(known, _)| *known == name).map(|&(_, number)| Self(number)).ok_or(UnknownSignal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// What a process, and those of its children that it waited for, used, and what it left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system together.
    pub cpu: Duration,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: u64,
    /// The signal that killed it had the kernel write a core dump.
    pub core_dumped: bool,
}
