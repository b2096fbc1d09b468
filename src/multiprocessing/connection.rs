//! Pipes of messages between two ends.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::memory::Until;
use super::packet;
use crate::ipc::{Passed, decode, encode, take_passed};
use crate::model::Format;

/// One end of a [`pipe`]. Python's `multiprocessing.connection.Connection`.
///
/// Several threads and processes may have one end: each message goes whole to one of them. When all copies of the other end
/// are closed, what is still in the pipe can be received, and then [`Error::Closed`] says that there is no more; so this
/// program drops its own copy of an end that it has passed on.
pub struct Connection {
    socket: OwnedFd,
    sends: bool,
    receives: bool,
}

/// Two connected ends. Without `duplex` the first receives and the second sends, as with Python's `Pipe(False)`.
///
/// # Errors
///
/// This process may have no more descriptors.
pub fn pipe(duplex: bool) -> Result<(Connection, Connection), Error> {
    let (one, other) = packet::pair()?;
    if !duplex {
        shutdown(one.as_raw_fd(), Shutdown::Write)?;
    }
    let connection = |socket, sends, receives| Connection { socket, sends, receives };
    Ok((connection(one, duplex, true), connection(other, true, duplex)))
}

impl Connection {
    /// Sends a value; waits while the pipe is full.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Direction`], [`Error::Code`]; nothing is sent.
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let mut message = packet::begin();
        encode(Format::Msgpack, value, &mut message)?;
        self.send_packet(&message)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        self.send_packet(&[&packet::begin(), bytes].concat())
    }

    fn send_packet(&self, message: &[u8]) -> Result<(), Error> {
        if !self.sends {
            return Err(Error::Direction("receiving"));
        }
        packet::send(self.socket.as_fd(), message, Until::FOREVER)
    }

    /// Receives the next value, and waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]: there will be none. [`Error::Direction`]. [`Error::Code`]: it is no `T`, and is gone.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(decode(Format::Msgpack, &self.recv_bytes()?)?)
    }

    /// Receives the next message as the bytes that it is.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Direction`].
    pub fn recv_bytes(&self) -> Result<Vec<u8>, Error> {
        if !self.receives {
            return Err(Error::Direction("sending"));
        }
        let mut message = packet::receive(self.socket.as_fd(), Until::FOREVER, || {})?;
        message.drain(..packet::begin().len());
        Ok(message)
    }

    /// Whether something, or the end, can be received; waits for it at most so long, `None` for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Direction`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        if !self.receives {
            return Err(Error::Direction("sending"));
        }
        packet::wait(self.socket.as_fd(), PollFlags::POLLIN, Until::after(timeout))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Passed(&self.socket), self.sends, self.receives).serialize(serializer)
    }
}

/// The descriptor of a handle, as it came.
pub(super) struct Came(pub(super) OwnedFd);

impl<'de> Deserialize<'de> for Came {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take_passed(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Came(socket), sends, receives) = Deserialize::deserialize(deserializer)?;
        match packet::is_one(&socket) {
            true => Ok(Self { socket, sends, receives }),
            false => Err(D::Error::custom("the descriptor of a connection is no socket of messages")),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sends", &self.sends)
            .field("receives", &self.receives)
            .finish_non_exhaustive()
    }
}
