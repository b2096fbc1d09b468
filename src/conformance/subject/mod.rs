//! One worker under test, as the engine would have started it, and what it has said so far.

mod start;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{Mode, Options, formats};
use crate::ipc::{Answer, Block, Framing, PROTOCOL, Ready, Said, Say, records_header};
use crate::model::{Exit, Format, Signal};
use crate::process::Launcher;
use crate::sys::{descriptor, message};

pub(crate) use start::Task;

/// Why a check has ended before it was through.
#[derive(Debug)]
pub(crate) enum Stop {
    Fails { expected: String, came: String },
    Untested(String),
    Cannot(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Cannot(error)
    }
}

impl From<nix::errno::Errno> for Stop {
    fn from(error: nix::errno::Errno) -> Self {
        Self::Cannot(error.into())
    }
}

/// Bytes of a worker's that a message shows.
const SHOWN: usize = 96;

/// See the module's description.
pub(crate) struct Subject<'a> {
    launcher: &'a mut Launcher,
    id: u64,
    timeout: Duration,
    format: Format,
    control: Option<OwnedFd>,
    inbox: BytesMut,
    pub(crate) said: VecDeque<Said>,
    descriptors: VecDeque<OwnedFd>,
    /// Its segments, by its own ids.
    pub(crate) segments: HashMap<u64, File>,
    input: Option<OwnedFd>,
    unwritten: BytesMut,
    /// Answers, or the records of its output.
    output: Option<OwnedFd>,
    came: BytesMut,
    is_leased: bool,
    pub(crate) exit: Option<Exit>,
    is_gone: bool,
    /// What it was told and what it said, for messages.
    heard: Vec<String>,
}

impl Subject<'_> {
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn framing(&self) -> Framing {
        Framing::of(self.format)
    }

    // ---- what it is told

    pub(crate) fn go(&mut self) -> Result<(), Stop> {
        self.say(&Say::Go, None)
    }

    pub(crate) fn say(&mut self, say: &Say, fd: Option<&OwnedFd>) -> Result<(), Stop> {
        let Some(control) = &self.control else { return Ok(()) };
        let raw: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        match message::send(control.as_fd(), &say.encode(), &raw, true) {
            // Its end is heard of otherwise.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Leases it these records in one frame.
    pub(crate) fn lease(&mut self, records: &[Vec<u8>]) {
        let block = formats::encode(self.format, records);
        self.lease_block(&block, false);
    }

    pub(crate) fn lease_block(&mut self, block: &Block, alone: bool) {
        if self.is_leased {
            self.write(&records_header(block, 1, alone));
        }
        self.write(&block.data);
    }

    /// Bytes for its input, written when there is room.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
    }

    /// Its input is at its end, once all is written.
    pub(crate) fn end_input(&mut self) -> Result<(), Stop> {
        self.until("it reads its input", |this| this.unwritten.is_empty().then_some(()))?;
        self.input = None;
        Ok(())
    }

    /// Whether it has read all that it was given.
    pub(crate) fn has_read_all(&self) -> bool {
        self.unwritten.is_empty() && self.unread().is_ok_and(|bytes| bytes == 0)
    }

    pub(crate) fn close_control(&mut self) {
        self.control = None;
    }

    /// How much of its input it has not read.
    pub(crate) fn unread(&self) -> Result<usize, Stop> {
        let Some(input) = &self.input else { return Ok(0) };
        Ok(descriptor::unread_bytes(input.as_fd())?)
    }

    // ---- what it says

    pub(crate) fn until_ready(&mut self) -> Result<Ready, Stop> {
        let said = self.next_said("READY")?;
        match said {
            Said::Ready(ready) if ready.protocol == PROTOCOL => Ok(ready),
            other => self.fails(format!("READY, in version {PROTOCOL}"), format!("{other:?}")),
        }
    }

    /// What it says next on the control connection, log lines and names of files left out.
    pub(crate) fn next_said(&mut self, expected: &str) -> Result<Said, Stop> {
        self.until(expected, |this| {
            while let Some(said) = this.said.pop_front() {
                if !matches!(said, Said::Log(_) | Said::Files(_)) {
                    return Some(said);
                }
            }
            None
        })
    }

    /// Its next answer.
    pub(crate) fn next_answer(&mut self, expected: &str) -> Result<Answer, Stop> {
        let frame = self.until(expected, |this| {
            let (length, _) = Framing::Length.front(&this.came, 0, 1);
            let is_whole = Framing::Length.whole(&this.came).1 > 0;
            (is_whole && length > 0).then(|| this.came.split_to(length).freeze())
        })?;
        let framing = [self.framing()];
        match Answer::read(&frame, &framing) {
            Ok(answer) => Ok(answer),
            Err(breach) => self.fails(expected, format!("{breach}: {}", shown(&frame))),
        }
    }

    /// The results of so many leased records, all answered by DONE, and nothing more.
    pub(crate) fn results(&mut self, records: u64) -> Result<Vec<Vec<u8>>, Stop> {
        let mut results = Vec::new();
        let mut answered = 0;
        while answered < records {
            let expected = format!("answers to {records} records (after {answered} of them)");
            match self.next_answer(&expected)? {
                Answer::Done { records: more, outputs } => {
                    answered += more;
                    for output in outputs {
                        results.extend(self.decode(&output.block.data)?);
                    }
                }
                Answer::About(_) | Answer::Leaving => {}
                Answer::Failed(failed) => {
                    return self.fails(expected, format!("FAILED: {}", failed.reason()));
                }
            }
        }
        match answered == records {
            true => Ok(results),
            false => self.fails(format!("answers to {records} records"), format!("answers to {answered}")),
        }
    }

    /// So many records of a worker that writes them to its output.
    pub(crate) fn records(&mut self, count: u64) -> Result<Vec<Vec<u8>>, Stop> {
        let framing = self.framing();
        let data = self.until(&format!("{count} records"), |this| {
            let (length, records) = framing.whole(&this.came);
            (records >= count).then(|| this.came.split_to(length))
        })?;
        self.decode(&data)
    }

    pub(crate) fn decode(&mut self, data: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        // A segment is sent before the record that names it.
        self.look()?;
        let segments = &self.segments;
        let read = |id: u64, bytes: u64| {
            let file = segments.get(&id).ok_or_else(|| format!("segment {id} was not sent"))?;
            let mut data = vec![0; usize::try_from(bytes).map_err(|error| error.to_string())?];
            file.read_exact_at(&mut data, 0).map_err(|error| format!("segment {id}: {error}"))?;
            Ok(data)
        };
        match formats::decode(self.format, data, &read) {
            Ok(records) => Ok(records),
            Err(formats::Unread::Wrong(what)) => self.fails(
                format!("records in the format {}", self.format.as_str()),
                format!("{what}: {}", shown(data)),
            ),
            Err(formats::Unread::Unknown(what)) => Err(Stop::Untested(what)),
        }
    }

    /// It ends, by itself.
    pub(crate) fn until_exit(&mut self, expected: &str) -> Result<Exit, Stop> {
        self.until(expected, |this| this.exit)
    }

    /// It ends with this code.
    pub(crate) fn exits(&mut self, code: i32) -> Result<(), Stop> {
        let expected = format!("it exits with {code}");
        match self.until_exit(&expected)? {
            Exit::Code(found) if found == code => Ok(()),
            other => self.fails(expected, format!("it ended with {other}")),
        }
    }

    /// Nothing comes for a while.
    pub(crate) fn stays_silent(&mut self, expected: &str) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_millis(300).min(self.timeout);
        while self.pump(until)? {}
        match self.came.is_empty() && self.exit.is_none() {
            true => Ok(()),
            false => self.fails(expected, String::new()),
        }
    }

    pub(crate) fn fails<T>(&self, expected: impl Into<String>, came: impl Into<String>) -> Result<T, Stop> {
        let came = came.into();
        let came = if came.is_empty() { self.told() } else { came };
        Err(Stop::Fails { expected: expected.into(), came })
    }

    /// All that there is to say of it.
    fn told(&self) -> String {
        let mut told = self.heard.clone();
        told.extend(self.said.iter().map(|said| format!("{said:?}")));
        if !self.came.is_empty() {
            told.push(format!("{} bytes: {}", self.came.len(), shown(&self.came)));
        }
        if let Some(exit) = self.exit {
            told.push(format!("it ended with {exit}"));
        }
        if told.is_empty() { "nothing".to_owned() } else { told.join("; ") }
    }
}

impl Drop for Subject<'_> {
    /// Nothing of it is left for the next check.
    fn drop(&mut self) {
        let _ = self.launcher.request_signal(self.id, Signal::KILL);
        let until = Instant::now() + Duration::from_secs(60);
        (self.control, self.input, self.output) = (None, None, None);
        while !self.is_gone && matches!(self.pump(until), Ok(true)) {}
    }
}

/// Bytes for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("`{}{more}`", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}
