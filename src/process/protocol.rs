//! What the engine and the launcher say to each other. Both ends are the same executable, so the form has no
//! version; integers are little-endian, texts end with a NUL, and the launcher uses them where they lie.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::model::{Exit, Usage};
use crate::sys::spawn::Step;

/// A message on the socket is at most this long; a longer request travels in a memory file. Below the default
/// `net.core.wmem_default` of 208 KiB with room to spare.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// A resource limit: the number of `setrlimit`, soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) resource: i32,
    pub(crate) value: u64,
}

/// A worker to be started.
#[derive(Debug, Default)]
pub(crate) struct StartRequest {
    /// The engine's own number for this process, never used twice.
    pub(crate) id: u64,
    /// The file to execute; no search.
    pub(crate) program: Vec<u8>,
    /// Arguments, the name first.
    pub(crate) argv: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: Vec<u8>,
    /// Descriptors and the numbers that the program finds them at. Standard ones that are not listed are
    /// `/dev/null`.
    pub(crate) descriptors: Vec<(OwnedFd, i32)>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Vec<usize>,
    /// It is likely to end soon, and nothing is done meanwhile: that it runs may be told later.
    pub(crate) is_brief: bool,
    /// It takes the place of this one, which runs or takes the place of another itself: it is started when that one's
    /// whole group has ended, and only if that exited with 0 itself and was brief. Otherwise, and if that is gone already,
    /// it is revoked.
    pub(crate) after: Option<u64>,
    /// It gets every descriptor that whoever started the engine left inheritable.
    pub(crate) inherits: bool,
    /// Nothing is executed: it is a copy of the launcher, and goes on as a worker of this program.
    pub(crate) is_copy: bool,
}

/// Why a worker could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

impl StartFailure {
    /// Whether the machine was short of something, so that trying again later may help.
    pub(crate) fn is_passing(self) -> bool {
        use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM, ETXTBSY};
        matches!(self.errno, EAGAIN | ENOMEM | EMFILE | ENFILE | ETXTBSY)
    }
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = match self.step {
            Step::Fork => "cannot make a process",
            Step::Group => "cannot make a process group",
            Step::Signals => "cannot set the signal mask",
            Step::Descriptors => "cannot pass the descriptors",
            Step::Limits => "cannot set the limits",
            Step::Cwd => "cannot enter the working directory",
            Step::Exec => "cannot execute the program",
            Step::Adopt => "it is not there any more, and nobody knows how it ended",
        };
        let error = io::Error::from_raw_os_error(self.errno);
        write!(f, "{step}: {error}")?;
        match (self.step, self.errno) {
            (Step::Exec, nix::libc::ENOEXEC) => f.write_str("; does the script lack its `#!` line?"),
            (Step::Exec, nix::libc::ENOENT) => {
                f.write_str("; are the program, and the interpreter of its `#!` line, there?")
            }
            (Step::Exec, nix::libc::E2BIG) => f.write_str("; the arguments and the environment are too long"),
            _ => Ok(()),
        }
    }
}

/// What the engine says.
pub(super) const START: u8 = 1;
pub(super) const START_IN_FILE: u8 = 2;
pub(super) const SIGNAL: u8 = 3;
pub(super) const ADOPT: u8 = 4;
pub(super) const REVOKE: u8 = 5;

/// What the launcher says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Started {
        id: u64,
        pid: i32,
    },
    StartFailed {
        id: u64,
        failure: StartFailure,
    },
    Exited {
        id: u64,
        exit: Exit,
        usage: Usage,
        /// From its start to its end.
        ran: Duration,
    },
    GroupEnded {
        id: u64,
    },
    /// It is being started in the place of another.
    Succeeds {
        id: u64,
    },
    Revoked {
        id: u64,
    },
}

/// The kinds of the news that a process has ended.
const EXITED: u8 = 3;
const EXITED_WITH_CORE: u8 = 5;

/// Bytes of one answer: kind, id, and three fields of 8 and one of 4.
pub(super) const ANSWER_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 8;

impl Answer {
    pub(super) fn write(self, to: &mut Vec<u8>) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (kind, id, number, fields) = match self {
            Self::Started { id, pid } => (1, id, pid, [0; 3]),
            Self::StartFailed { id, failure } => (2, id, failure.errno, [failure.step as u64, 0, 0]),
            Self::Exited { id, exit, usage, ran } => {
                let kind = if usage.core_dumped { EXITED_WITH_CORE } else { EXITED };
                (kind, id, exit.code(), [micros(usage.cpu), usage.peak_memory_bytes, micros(ran)])
            }
            Self::GroupEnded { id } => (4, id, 0, [0; 3]),
            Self::Succeeds { id } => (6, id, 0, [0; 3]),
            Self::Revoked { id } => (7, id, 0, [0; 3]),
        };
        to.push(kind);
        to.extend_from_slice(&u64::to_le_bytes(id));
        to.extend_from_slice(&i32::to_le_bytes(number));
        fields.iter().for_each(|field| to.extend_from_slice(&field.to_le_bytes()));
    }

    /// Reads all answers of one message.
    pub(super) fn read_all(message: &[u8]) -> impl Iterator<Item = Self> + '_ {
        message.chunks_exact(ANSWER_BYTES).filter_map(|bytes| {
            let mut reader = Reader { bytes };
            let kind = reader.u8()?;
            let id = reader.u64()?;
            let number = i32::from_le_bytes(reader.u32()?.to_le_bytes());
            let (first, second, third) = (reader.u64()?, reader.u64()?, reader.u64()?);
            Some(match kind {
                1 => Self::Started { id, pid: number },
                2 => {
                    let step = Step::from_number(u8::try_from(first).unwrap_or(u8::MAX));
                    Self::StartFailed { id, failure: StartFailure { step, errno: number } }
                }
                EXITED | EXITED_WITH_CORE => {
                    let exit = Exit::from_code(number);
                    let usage = Usage {
                        cpu: Duration::from_micros(first),
                        peak_memory_bytes: second,
                        core_dumped: kind == EXITED_WITH_CORE,
                    };
                    Self::Exited { id, exit, usage, ran: Duration::from_micros(third) }
                }
                4 => Self::GroupEnded { id },
                6 => Self::Succeeds { id },
                _ => Self::Revoked { id },
            })
        })
    }
}

impl StartRequest {
    /// The message without its descriptors.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4096);
        bytes.push(START);
        let number = |bytes: &mut Vec<u8>, value: usize| {
            let value = u32::try_from(value).expect("a request has fewer than 2^32 of anything");
            bytes.extend_from_slice(&value.to_le_bytes());
        };
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.push(u8::from(self.is_brief) | u8::from(self.inherits) << 1 | u8::from(self.is_copy) << 2);
        // No process has the number 0.
        bytes.extend_from_slice(&self.after.unwrap_or(0).to_le_bytes());
        number(&mut bytes, self.descriptors.len());
        for (_, there) in &self.descriptors {
            bytes.extend_from_slice(&there.to_le_bytes());
        }
        number(&mut bytes, self.limits.len());
        for limit in &self.limits {
            bytes.extend_from_slice(&limit.resource.to_le_bytes());
            bytes.extend_from_slice(&limit.value.to_le_bytes());
        }
        bytes.extend_from_slice(&self.nice.unwrap_or(i32::MIN).to_le_bytes());
        number(&mut bytes, self.cpus.len());
        for &cpu in &self.cpus {
            number(&mut bytes, cpu);
        }
        number(&mut bytes, self.argv.len());
        number(&mut bytes, self.env.len());
        for text in [&self.program, &self.cwd].into_iter().chain(&self.argv).chain(&self.env) {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }
}

/// A [`StartRequest`] as the launcher reads it: texts lie in the message.
pub(super) struct Decoded<'a> {
    pub(super) id: u64,
    pub(super) targets: Vec<i32>,
    pub(super) limits: Vec<(i32, u64)>,
    pub(super) nice: Option<i32>,
    pub(super) cpus: Vec<usize>,
    pub(super) program: &'a CStr,
    pub(super) cwd: &'a CStr,
    pub(super) argv: Vec<&'a CStr>,
    pub(super) env: Vec<&'a CStr>,
    pub(super) is_brief: bool,
    pub(super) after: Option<u64>,
    pub(super) inherits: bool,
    pub(super) is_copy: bool,
}

impl<'a> Decoded<'a> {
    /// `None` for a message that no engine of this version writes.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { bytes: message };
        reader.u8()?;
        let id = reader.u64()?;
        let flags = reader.u8()?;
        let (is_brief, inherits, is_copy) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        let after = Some(reader.u64()?).filter(|&after| after != 0);
        let count = reader.u32()?;
        let targets = (0..count).map(|_| reader.i32()).collect::<Option<_>>()?;
        let count = reader.u32()?;
        let limits = (0..count).map(|_| Some((reader.i32()?, reader.u64()?))).collect::<Option<_>>()?;
        let nice = Some(reader.i32()?).filter(|&nice| nice != i32::MIN);
        let count = reader.u32()?;
        let cpus = (0..count).map(|_| Some(reader.u32()? as usize)).collect::<Option<_>>()?;
        let (argc, envc) = (reader.u32()?, reader.u32()?);
        let (program, cwd) = (reader.text()?, reader.text()?);
        let argv = (0..argc).map(|_| reader.text()).collect::<Option<_>>()?;
        let env = (0..envc).map(|_| reader.text()).collect::<Option<_>>()?;
        Some(Self {
            id,
            targets,
            limits,
            nice,
            cpus,
            program,
            cwd,
            argv,
            env,
            is_brief,
            after,
            inherits,
            is_copy,
        })
    }
}

/// Takes fields off the front of a message.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a CStr> {
        let text = CStr::from_bytes_until_nul(self.bytes).ok()?;
        self.bytes = &self.bytes[text.to_bytes_with_nul().len()..];
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_request_is_read_as_it_was_written() {
        let request = StartRequest {
            id: 7,
            program: b"/bin/echo".to_vec(),
            argv: vec![b"echo".to_vec(), b"".to_vec(), vec![0xff, 0xfe]],
            env: vec![b"A=1".to_vec()],
            cwd: b"/tmp".to_vec(),
            limits: vec![Limit { resource: 9, value: u64::MAX }],
            nice: Some(-5),
            cpus: vec![0, 3],
            after: Some(6),
            ..StartRequest::default()
        };
        let bytes = request.encode();
        let read = Decoded::read(&bytes).unwrap();
        assert_eq!((read.id, read.nice, read.cpus, read.after), (7, Some(-5), vec![0, 3], Some(6)));
        assert_eq!(read.program.to_bytes(), b"/bin/echo");
        assert_eq!(read.argv.iter().map(|text| text.to_bytes().to_vec()).collect::<Vec<_>>(), request.argv);
        assert_eq!(read.limits, [(9, u64::MAX)]);
        for cut in 0..bytes.len() {
            assert!(Decoded::read(&bytes[..cut]).is_none(), "a message cut at {cut} is not read");
        }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let usage =
            Usage { cpu: Duration::from_micros(1_234_567), peak_memory_bytes: 3 << 20, core_dumped: true };
        let answers = [
            Answer::Started { id: 1, pid: 4711 },
            Answer::StartFailed { id: 2, failure: StartFailure { step: Step::Cwd, errno: 2 } },
            Answer::Exited { id: 1, exit: Exit::Code(3), usage, ran: Duration::from_micros(612) },
            Answer::Exited { id: 3, exit: Exit::from_code(-9), usage, ran: Duration::ZERO },
            Answer::GroupEnded { id: 1 },
            Answer::Succeeds { id: 4 },
            Answer::Revoked { id: 4 },
        ];
        let mut message = Vec::new();
        answers.iter().for_each(|answer| answer.write(&mut message));
        assert_eq!(Answer::read_all(&message).collect::<Vec<_>>(), answers);
    }
}
