//! One worker under test, as the engine would have started it, and what it has said so far.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde_json::{Value, json};

use super::{Mode, Options, formats};
use crate::ipc::{Answer, Block, Framing, PROTOCOL, Ready, Said, Say, records_header};
use crate::model::{Exit, Format, Signal};
use crate::process::{Launcher, Lookup, Notification, StartRequest, find_program};
use crate::sys::{descriptor, message};

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

/// Numbers of the descriptors in the worker. With gaps: a worker reads them in its task.
const TASK_FD: i32 = 11;
const CONTROL_FD: i32 = 7;
const INPUT_FD: i32 = 5;
const OUTPUT_FD: i32 = 9;

/// Between two looks at what no descriptor tells.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes of a worker's that a message shows.
const SHOWN: usize = 96;

/// The task document, and the target within it.
pub(crate) struct Task(pub(crate) Value);

impl Task {
    pub(crate) fn new(options: &Options, mode: Mode, function: &str) -> Self {
        let is_map = mode == Mode::Map;
        let format = options.format.as_str();
        let input = json!({"name": "stdin", "format": format, "fd": INPUT_FD, "leased": is_map});
        let folder = std::env::current_dir().unwrap_or_default();
        Self(json!({
            "protocol": PROTOCOL,
            "pipeline": "conformance", "run_id": "conformance", "stage": "worker",
            "mode": if mode == Mode::Stream { "stream" } else { "map" },
            "source": mode == Mode::Source,
            "daemon": false,
            "folder": folder.to_string_lossy(), "path": [],
            "target": format!("{}{function}", options.target_prefix),
            "initializer": null, "args": [], "kwargs": {}, "unpack": false, "batch": null, "preload": [],
            "block": {"records": 1000, "bytes": 262_144},
            "inputs": if mode == Mode::Source { json!([]) } else { json!([input]) },
            "outputs": [{
                "name": "stdout", "format": format, "fd": (!is_map).then_some(OUTPUT_FD),
                "max_record": 64 << 20, "block_records": 1000, "wanted": true,
            }],
            "answers": is_map.then_some(OUTPUT_FD),
            "connections": {},
            "shared": null,
        }))
    }
}

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

impl<'a> Subject<'a> {
    pub(crate) fn start(
        options: &Options,
        launcher: &'a mut Launcher,
        id: u64,
        task: &Task,
    ) -> Result<Self, Stop> {
        let mut file = File::from(memfd_create(c"mpflow", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(task.0.to_string().as_bytes())?;
        let (control, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let printed = stderr.try_clone()?;
        let mut descriptors = vec![(stderr, 2), (printed, 1), (file.into(), TASK_FD), (theirs, CONTROL_FD)];
        let mut input = None;
        if task.0["source"] != true {
            let (reading, writing) = descriptor::pipe()?;
            descriptor::set_nonblocking(writing.as_fd())?;
            descriptors.push((reading, INPUT_FD));
            input = Some(writing);
        }
        let (output, writing) = descriptor::pipe()?;
        descriptor::set_nonblocking(output.as_fd())?;
        descriptors.push((writing, OUTPUT_FD));
        launcher.request_start(StartRequest { descriptors, ..request(options, id)? })?;
        Ok(Self {
            launcher,
            id,
            timeout: options.timeout,
            format: options.format,
            control: Some(control),
            inbox: BytesMut::new(),
            said: VecDeque::new(),
            descriptors: VecDeque::new(),
            segments: HashMap::new(),
            input,
            unwritten: BytesMut::new(),
            output: Some(output),
            came: BytesMut::new(),
            is_leased: !task.0["answers"].is_null(),
            exit: None,
            is_gone: false,
            heard: Vec::new(),
        })
    }

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

    // ---- waiting

    /// Waits until `look` finds something.
    pub(crate) fn until<T>(
        &mut self,
        expected: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Stop> {
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            // Nobody tells that a pipe was read: look again now and then.
            let next = until.min(Instant::now() + LOOK);
            if !self.pump(next)? && (self.is_gone || next == until) {
                return self.fails(expected, String::new());
            }
        }
    }

    /// Takes what is there already.
    fn look(&mut self) -> Result<(), Stop> {
        while self.pump(Instant::now())? {}
        Ok(())
    }

    /// Moves what can be moved, and waits for that at most so long. Whether anything did.
    fn pump(&mut self, until: Instant) -> Result<bool, Stop> {
        let wants_room = !self.unwritten.is_empty();
        let mut polled = vec![PollFd::new(self.launcher.socket(), PollFlags::POLLIN)];
        let places: Vec<(BorrowedFd<'_>, PollFlags)> = [
            self.control.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.output.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.input.as_ref().filter(|_| wants_room).map(|fd| (fd.as_fd(), PollFlags::POLLOUT)),
        ]
        .into_iter()
        .flatten()
        .collect();
        polled.extend(places.iter().map(|&(fd, events)| PollFd::new(fd, events)));
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let left = PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, left) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(polled);
        drop(places);
        self.hear_launcher()?;
        self.hear_control()?;
        self.read_output()?;
        self.write_input()?;
        Ok(true)
    }

    fn hear_launcher(&mut self) -> Result<(), Stop> {
        let mut told = Vec::new();
        self.launcher.flush()?;
        self.launcher.receive(&mut told);
        for notification in told {
            match notification {
                Notification::StartFailed { id, failure } if id == self.id => {
                    return Err(io::Error::other(failure.to_string()).into());
                }
                Notification::Exited { id, exit, .. } if id == self.id => self.exit = Some(exit),
                Notification::GroupEnded { id } if id == self.id => self.is_gone = true,
                Notification::Lost => return Err(io::Error::other("the launcher has ended").into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn hear_control(&mut self) -> Result<(), Stop> {
        let mut buffer = vec![0; 64 << 10];
        while let Some(control) = &self.control {
            match message::receive(control.as_fd(), &mut buffer) {
                Ok(message::Received { length: 0, .. }) => {
                    self.control = None;
                    self.heard.push("it closed its control connection".to_owned());
                }
                Ok(message::Received { length, descriptors, .. }) => {
                    self.inbox.extend_from_slice(&buffer[..length]);
                    self.descriptors.extend(descriptors);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.control = None,
            }
        }
        loop {
            match Said::take(&mut self.inbox) {
                Ok(Some(Said::Segment { id, bytes })) => self.segment_came(id, bytes)?,
                Ok(Some(said)) => self.said.push_back(said),
                Ok(None) => return Ok(()),
                Err(breach) => {
                    return self.fails(
                        "control frames as in section 2",
                        format!("{breach}: {}", shown(&self.inbox)),
                    );
                }
            }
        }
    }

    fn segment_came(&mut self, id: u64, bytes: u64) -> Result<(), Stop> {
        let expected = "a segment with its descriptor, which is sealed and has all its memory";
        let Some(fd) = self.descriptors.pop_front() else {
            return self.fails(expected, format!("segment {id} without a descriptor"));
        };
        match descriptor::fixed_size(fd.as_fd()) {
            Some(size) if size >= bytes => drop(self.segments.insert(id, File::from(fd))),
            size => {
                return self
                    .fails(expected, format!("segment {id} of {bytes} bytes, where there are {size:?}"));
            }
        }
        Ok(())
    }

    fn read_output(&mut self) -> Result<(), Stop> {
        let mut buffer = vec![0; 64 << 10];
        while let Some(output) = &self.output {
            match nix::unistd::read(output, &mut buffer) {
                Ok(0) => self.output = None,
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_input(&mut self) -> Result<(), Stop> {
        while let Some(input) = self.input.as_ref().filter(|_| !self.unwritten.is_empty()) {
            match nix::unistd::write(input, &self.unwritten) {
                Ok(count) => drop(self.unwritten.split_to(count)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EPIPE) => {
                    self.heard.push("it closed its input".to_owned());
                    self.input = None;
                    self.unwritten.clear();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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

fn request(options: &Options, id: u64) -> Result<StartRequest, Stop> {
    let Some(name) = options.command.first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command").into());
    };
    let cwd = std::env::current_dir()?;
    let path = std::env::var_os("PATH");
    let program = match find_program(&name.to_string_lossy(), path.as_deref(), &cwd) {
        Lookup::Found(program) => program,
        _ => {
            let what = format!("there is no program `{}`", name.to_string_lossy());
            return Err(io::Error::new(io::ErrorKind::NotFound, what).into());
        }
    };
    let own = [
        ("MPFLOW_TASK", TASK_FD.to_string()),
        ("MPFLOW_CONTROL", CONTROL_FD.to_string()),
        ("MPFLOW_WORKER", "worker".to_owned()),
        ("MPFLOW_RANK", "0".to_owned()),
        ("MPFLOW_POOL", "1".to_owned()),
        // A variable that nobody knows means nothing.
        ("MPFLOW_UNHEARD_OF", "1".to_owned()),
    ];
    let inherited = std::env::vars_os().filter(|(name, _)| !name.as_bytes().starts_with(b"MPFLOW_"));
    let env = inherited.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let env = env.chain(own.map(|(name, value)| format!("{name}={value}").into_bytes())).collect();
    let argv = options.command.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    let (program, cwd) = (program.into_os_string().into_vec(), cwd.into_os_string().into_vec());
    Ok(StartRequest { id, program, argv, env, cwd, ..StartRequest::default() })
}

/// Bytes for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("`{}{more}`", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}
