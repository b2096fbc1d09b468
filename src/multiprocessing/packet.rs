//! Whole messages between processes, which no kill can tear: a packet has come, or it has not.
//!
//! A pair of sockets of the type SEQPACKET is a queue in the kernel that any number of processes may put into and take
//! from. It holds some hundred KiB; what is too large for it lies in a memory file, and only that file's descriptor is in the
//! packet.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::error::Error;
use super::memory::Until;
use crate::sys::message::{self, Received};

/// A longer message lies in a memory file.
pub(super) const MOST_BYTES: usize = 64 << 10;

/// Asked of the kernel for each direction; it gives what `net.core.wmem_max` allows.
const BUFFER_BYTES: usize = 1 << 20;

/// The first byte of a packet: none is empty, which would be the end of all.
const PLAIN: u8 = 1;
const IN_FILE: u8 = 2;

/// Two connected ends.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for end in [&one, &other] {
        setsockopt(end, sockopt::SndBuf, &BUFFER_BYTES)?;
    }
    Ok((one, other))
}

/// Whether it is a socket of the kind that [`pair`] makes.
pub(super) fn is_one(fd: &OwnedFd) -> bool {
    nix::sys::socket::getsockopt(fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket)
}

/// A message in the making: what is put behind it is sent as one packet.
pub(super) fn begin() -> Vec<u8> {
    vec![PLAIN]
}

/// Sends a packet that [`begin`] has begun. [`Error::Full`]: there was no room in time, and nothing is sent.
pub(super) fn send(socket: BorrowedFd<'_>, packet: &[u8], until: Until) -> Result<(), Error> {
    if packet.len() <= MOST_BYTES {
        return send_when_room(socket, packet, None, until);
    }
    let mut file = File::from(memfd_create(c"mpflow-message", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&packet[1..])?;
    file.rewind()?;
    send_when_room(socket, &[IN_FILE], Some(&file), until)
}

fn send_when_room(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    file: Option<&File>,
    until: Until,
) -> Result<(), Error> {
    let descriptors: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
    loop {
        match message::send(socket, packet, &descriptors, false) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait(socket, PollFlags::POLLOUT, until)? {
                    return Err(Error::Full);
                }
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                return Err(Error::Closed);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the next message. [`Error::Empty`]: none has come in time.
pub(super) fn receive(socket: BorrowedFd<'_>, until: Until, idle: impl Fn()) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; MOST_BYTES];
    let mut is_idle = false;
    loop {
        match message::receive(socket, &mut buffer) {
            Ok(Received { length: 0, .. }) => return Err(Error::Closed),
            Ok(Received { length, mut descriptors, .. }) => {
                return match (buffer[0], descriptors.pop()) {
                    (PLAIN, _) => {
                        buffer.truncate(length);
                        Ok(buffer)
                    }
                    (IN_FILE, Some(file)) => {
                        let mut message = begin();
                        File::from(file).read_to_end(&mut message)?;
                        Ok(message)
                    }
                    _ => Err(Error::Garbled),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !std::mem::replace(&mut is_idle, true) {
                    idle();
                }
                if !wait(socket, PollFlags::POLLIN, until)? {
                    return Err(Error::Empty);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Error::Closed),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for an end to be ready. `false`: not in time.
pub(super) fn wait(socket: BorrowedFd<'_>, flags: PollFlags, until: Until) -> Result<bool, Error> {
    loop {
        let patience = until.left().map_or(PollTimeout::NONE, |left| {
            let millis = left.as_micros().div_ceil(1000);
            PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = [PollFd::new(socket.as_fd(), flags)];
        match poll(&mut polled, patience) {
            Ok(0) if until.is_over() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
