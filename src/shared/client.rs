//! The side of a Rust program: a connection to the run that it is part of.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value as Json, json};

use super::memory::Place;
use super::protocol::{LONGEST_LINE, ObjectInfo, Refusal, Request, VARIABLE};
use crate::model::nearest;
use crate::sys::message::{self, Received};
use crate::sys::words::Words;

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// Why something could not be done with a shared object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `MPFLOW_SHARED` is not set.
    #[error("there are no shared objects here: this process is no worker of a run that declares any")]
    NotInARun,
    /// Nobody answers at the run's socket.
    #[error("cannot reach the run at `{}`", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run has ended, or the connection to it has: what was held is released.
    #[error("the connection to the run is lost; what was held is released")]
    Lost(#[source] io::Error),
    /// The run said something that is no reply.
    #[error("the run answers something that this version does not understand: {0}")]
    Protocol(String),
    /// The run does not do what it was asked; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The memory of values and arrays cannot be used.
    #[error("cannot use the shared memory")]
    Memory(#[source] io::Error),
}

/// A connection to the shared objects of the run that this process is a worker of.
///
/// What it acquires it holds until it releases it or is dropped; when this process dies the kernel closes the
/// connection, and so releases all. It waits for one thing at a time. Use one for each thread that waits.
///
/// ```no_run
/// use std::time::Duration;
///
/// # fn main() -> Result<(), mpflow::shared::Error> {
/// let mut shared = mpflow::shared::Client::connect()?;
/// if shared.acquire("screen", Some(Duration::from_secs(5)))? {
///     println!("{} hits", shared.add("hits", None, &1.into())?);
///     shared.release("screen")?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
    objects: HashMap<String, ObjectInfo>,
    order: Vec<String>,
    memory: Option<Memory>,
}

struct Memory(Words);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl Client {
    /// Connects to the run that started this process, by `MPFLOW_SHARED`.
    ///
    /// # Errors
    ///
    /// [`Error::NotInARun`], [`Error::Connect`], and those of the first exchange.
    pub fn connect() -> Result<Self, Error> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).ok_or(Error::NotInARun)?;
        let path = PathBuf::from(path);
        let stream = UnixStream::connect(&path).map_err(|source| Error::Connect { path, source })?;
        let mut client =
            Self { stream, unread: Vec::new(), objects: HashMap::new(), order: Vec::new(), memory: None };
        let worker = std::env::var("MPFLOW_WORKER").unwrap_or_default();
        let welcome = client.call(&Request::hello(&worker, std::process::id()))?;
        let objects: Vec<ObjectInfo> =
            serde_json::from_value(welcome.get("objects").cloned().unwrap_or_default())
                .map_err(|error| Error::Protocol(error.to_string()))?;
        client.order = objects.iter().map(|object| object.name.clone()).collect();
        client.objects = objects.into_iter().map(|object| (object.name.clone(), object)).collect();
        Ok(client)
    }

    /// The objects of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the nearest name, where there is none.
    pub fn object(&self, name: &str) -> Result<&ObjectInfo, Error> {
        self.objects.get(name).ok_or_else(|| {
            let help = match nearest(name, self.order.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("this run has `{}`", self.order.join("`, `")),
            };
            let message = format!("there is no shared object `{name}`");
            Error::Refused(Refusal::new("unknown_object", message).help(help))
        })
    }

    /// What each object is and how it stands, in the order of the document: who holds locks, how many wait.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn list(&mut self) -> Result<Vec<Json>, Error> {
        match self.call(&json!({"op": "list"}))? {
            Json::Array(states) => Ok(states),
            other => Err(Error::Protocol(other.to_string())),
        }
    }

    // ---- locks and semaphores

    /// Takes a lock, or a permit of a semaphore. `patience`: `None` waits for ever, zero does not wait. `false`: it was
    /// not to be had in this time.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: there is no such lock, or this client holds it already; those of the connection.
    pub fn acquire(&mut self, name: &str, patience: Option<Duration>) -> Result<bool, Error> {
        self.truth(&on(name, "acquire", &[("timeout", seconds(patience))]))
    }

    /// Gives back what [`Self::acquire`] took.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: this client does not hold it; those of the connection.
    pub fn release(&mut self, name: &str) -> Result<(), Error> {
        self.call(&on(name, "release", &[])).map(drop)
    }

    // ---- events and barriers

    /// Sets an event: whoever waits for it goes on, and so does whoever will.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], and those of the connection.
    pub fn set_event(&mut self, name: &str) -> Result<(), Error> {
        self.call(&on(name, "set", &[])).map(drop)
    }

    /// Clears an event, or empties a dictionary.
    ///
    /// # Errors
    ///
    /// As [`Self::set_event`].
    pub fn clear(&mut self, name: &str) -> Result<(), Error> {
        self.call(&on(name, "clear", &[])).map(drop)
    }

    /// Whether an event is set.
    ///
    /// # Errors
    ///
    /// As [`Self::set_event`].
    pub fn is_set(&mut self, name: &str) -> Result<bool, Error> {
        self.truth(&on(name, "is_set", &[]))
    }

    /// Waits for an event. `false`: it was not set in this time.
    ///
    /// # Errors
    ///
    /// As [`Self::set_event`].
    pub fn wait_event(&mut self, name: &str, patience: Option<Duration>) -> Result<bool, Error> {
        self.truth(&on(name, "wait", &[("timeout", seconds(patience))]))
    }

    /// Waits at a barrier until all parties have come, and says as which of them this client came, counted from 0.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the code `broken_barrier`: another party is gone or has waited too long, or this one
    /// has; all others get the same.
    pub fn wait_barrier(&mut self, name: &str, patience: Option<Duration>) -> Result<u64, Error> {
        let index = self.call(&on(name, "wait", &[("timeout", seconds(patience))]))?;
        index.as_u64().ok_or_else(|| Error::Protocol(index.to_string()))
    }

    /// Makes a broken barrier whole again. Whoever waits at it gets an error.
    ///
    /// # Errors
    ///
    /// As [`Self::set_event`].
    pub fn reset_barrier(&mut self, name: &str) -> Result<(), Error> {
        self.call(&on(name, "reset", &[])).map(drop)
    }

    // ---- values, arrays, dictionaries

    /// A value; an element of an array, by its index; an entry of a dictionary, by its key; without either, a whole
    /// array or dictionary.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: there is no such object, element or key.
    pub fn get(&mut self, name: &str, at: Option<&str>) -> Result<Json, Error> {
        if let Some(place) = self.place(name)? {
            if at.is_none() && place.length.is_some() {
                let words = (0..place.count()).map(|index| self.load(&place, index));
                return words.collect::<Result<Vec<_>, Error>>().map(Json::from);
            }
            let index = index(&place, at)?;
            return self.load(&place, index);
        }
        match at {
            Some(key) => {
                let found = self.call(&on(name, "get", &[("key", json!(key))]))?;
                stored(name, key, found)
            }
            None => self.items(name),
        }
    }

    fn items(&mut self, name: &str) -> Result<Json, Error> {
        let (mut all, mut after) = (Map::new(), Json::Null);
        loop {
            let page = self.call(&on(name, "items", &[("after", after)]))?;
            let entries: Vec<(String, Json)> =
                serde_json::from_value(page.get("page").cloned().unwrap_or_default())
                    .map_err(|error| Error::Protocol(error.to_string()))?;
            after = entries.last().map_or(Json::Null, |(key, _)| json!(key));
            for (key, value) in entries {
                let value = stored(name, &key, value).or_else(|error| match error {
                    // The others are worth showing.
                    Error::Refused(refusal) if refusal.code == PICKLED => Ok(json!("(a Python object)")),
                    error => Err(error),
                })?;
                all.insert(key, value);
            }
            if page.get("more") != Some(&Json::Bool(true)) {
                return Ok(Json::Object(all));
            }
        }
    }

    /// Writes a value, an element or an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: there is no such object or element, or the value is of another type.
    pub fn set(&mut self, name: &str, at: Option<&str>, value: &Json) -> Result<(), Error> {
        if let Some(place) = self.place(name)? {
            let position = place.word(index(&place, at)?)?;
            let word = place.element.to_word(value)?;
            return self.memory()?.store(position, word).map_err(Error::Memory);
        }
        let key = at.ok_or_else(|| no_key(name))?;
        self.call(&on(name, "put", &[("key", json!(key)), ("value", json!({"json": value}))])).map(drop)
    }

    /// Adds to a value, an element or an entry, and says what it is then. No other addition comes in between, be it
    /// from Rust, from Python or from a command.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: as [`Self::set`], or the sum does not fit; nothing has changed then.
    pub fn add(&mut self, name: &str, at: Option<&str>, by: &Json) -> Result<Json, Error> {
        let Some(place) = self.place(name)? else {
            let key = at.ok_or_else(|| no_key(name))?;
            return self.call(&on(name, "add", &[("key", json!(key)), ("by", by.clone())]));
        };
        let position = place.word(index(&place, at)?)?;
        let words = self.memory()?;
        let added = words.exclusively(position, 1, || {
            let sum = place.element.add(words.load(position)?, by);
            sum.map(|sum| words.store(position, sum).map(|()| sum))
                .map_or_else(|refusal| Ok(Err(refusal)), |sum| sum.map(Ok))
        });
        Ok(place.element.to_json(added.map_err(Error::Memory)??))
    }

    /// Removes an entry of a dictionary, and says whether it was there.
    ///
    /// # Errors
    ///
    /// As [`Self::set_event`].
    pub fn delete(&mut self, name: &str, key: &str) -> Result<bool, Error> {
        self.truth(&on(name, "delete", &[("key", json!(key))]))
    }

    /// Where a value or an array lies; `None`: it is a dictionary.
    fn place(&self, name: &str) -> Result<Option<Place>, Error> {
        let info = self.object(name)?;
        match Place::of(info) {
            Some(place) => Ok(Some(place)),
            None if info.kind == "dict" => Ok(None),
            None => {
                Err(Refusal::new("wrong_kind", format!("`{name}` is a {}, which has no value", info.kind))
                    .help(format!("see how it stands with `mpflow shared list {name}`"))
                    .into())
            }
        }
    }

    fn load(&mut self, place: &Place, index: u64) -> Result<Json, Error> {
        let position = place.word(index)?;
        let word = self.memory()?.load(position).map_err(Error::Memory)?;
        Ok(place.element.to_json(word))
    }

    fn memory(&mut self) -> Result<&Words, Error> {
        if self.memory.is_none() {
            self.send(&json!({"op": "map"}))?;
            let mut fds = Vec::new();
            self.receive_line(&mut fds)?;
            let file = fds.pop().ok_or_else(|| Error::Protocol("no memory came".to_owned()))?;
            self.memory = Some(Memory(Words::map(file).map_err(Error::Memory)?));
        }
        match &self.memory {
            Some(Memory(words)) => Ok(words),
            None => Err(Error::Protocol("no memory came".to_owned())),
        }
    }

    // ---- the connection

    fn truth(&mut self, request: &Json) -> Result<bool, Error> {
        let answer = self.call(request)?;
        answer.as_bool().ok_or_else(|| Error::Protocol(answer.to_string()))
    }

    fn call(&mut self, request: &Json) -> Result<Json, Error> {
        self.send(request)?;
        self.receive_line(&mut Vec::new())
    }

    fn send(&mut self, request: &Json) -> Result<(), Error> {
        let line = format!("{request}\n");
        if line.len() > LONGEST_LINE {
            let message = format!(
                "a request to the run is at most {LONGEST_LINE} bytes long, and this is {}",
                line.len()
            );
            return Err(Refusal::new("too_large", message).into());
        }
        self.stream.write_all(line.as_bytes()).map_err(Error::Lost)
    }

    /// The next reply, and the descriptors that came with it.
    fn receive_line(&mut self, fds: &mut Vec<OwnedFd>) -> Result<Json, Error> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return read_reply(&line);
            }
            let mut bytes = vec![0; READ_BYTES];
            let ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            match poll(&mut { ready }, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(Error::Lost(error.into())),
            }
            match message::receive(self.stream.as_fd(), &mut bytes) {
                Ok(Received { length: 0, .. }) => {
                    return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(Received { length, descriptors, is_cut }) => {
                    if is_cut {
                        return Err(Error::Memory(io::Error::other("this process may open no more files")));
                    }
                    fds.extend(descriptors);
                    self.unread.extend_from_slice(&bytes[..length]);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(Error::Lost(error)),
            }
        }
    }
}

impl AsFd for Client {
    /// The connection. A process that inherits it keeps what the client holds from being released by the client's death.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn read_reply(line: &[u8]) -> Result<Json, Error> {
    let protocol = |what: String| Error::Protocol(what);
    let reply: Json = serde_json::from_slice(line).map_err(|error| protocol(error.to_string()))?;
    let Json::Object(mut reply) = reply else { return Err(protocol("no object".to_owned())) };
    if let Some(refusal) = reply.remove("error") {
        let refusal: Refusal =
            serde_json::from_value(refusal).map_err(|error| protocol(error.to_string()))?;
        return Err(refusal.into());
    }
    reply.remove("ok").ok_or_else(|| protocol("neither `ok` nor `error`".to_owned()))
}

fn on(name: &str, op: &str, more: &[(&str, Json)]) -> Json {
    let mut request = json!({"op": op, "name": name});
    for (key, value) in more {
        request[*key] = value.clone();
    }
    request
}

fn seconds(patience: Option<Duration>) -> Json {
    patience.map_or(Json::Null, |time| json!(time.as_secs_f64()))
}

/// The code of a value that only Python can read.
const PICKLED: &str = "pickled";

fn stored(name: &str, key: &str, found: Json) -> Result<Json, Error> {
    match found {
        Json::Object(mut value) => match value.remove("json") {
            Some(json) => Ok(json),
            None => Err(Refusal::new(PICKLED, format!("`{name}[{key}]` is a Python object"))
                .help("only Python can read it: `from mpflow import shared`")
                .into()),
        },
        _ => Err(Refusal::new("unknown_key", format!("dict `{name}` has no key `{key}`"))
            .help(format!("see them all with `mpflow shared get {name}`"))
            .into()),
    }
}

fn no_key(name: &str) -> Error {
    Refusal::new("bad_request", format!("`{name}` is a dict: which key?"))
        .help("name the key after it")
        .into()
}

/// The index of an element: that of a value is 0 and is not named.
fn index(place: &Place, at: Option<&str>) -> Result<u64, Error> {
    let name = &place.name;
    let refused = |message: String, help: &str| Err(Refusal::new("bad_request", message).help(help).into());
    match (at, place.length) {
        (None, None) => Ok(0),
        (Some(at), None) => refused(format!("`{name}` is one value and has no `{at}`"), "leave it out"),
        (None, Some(length)) => refused(
            format!("`{name}` is an array: which of its {length} elements?"),
            "name the index after it",
        ),
        (Some(at), Some(length)) => match at.parse() {
            Ok(index) => Ok(index),
            Err(_) => refused(
                format!("`{at}` is no index of array `{name}`"),
                &format!("write a number from 0 to {}", length - 1),
            ),
        },
    }
}
