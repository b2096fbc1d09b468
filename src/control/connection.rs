//! One client's connection: lines in, lines out, within bounds.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::LONGEST_REQUEST_BYTES;

/// A client that asks for nothing for so long has to connect again.
const IDLE: Duration = Duration::from_secs(60);

/// A request that has begun must be whole within this.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);

/// An answer must have been read within this.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Read at once.
const CHUNK_BYTES: usize = 4 << 10;

/// What has come from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Line(Vec<u8>),
    /// More than a request may be, without an end.
    TooLong,
    /// It has closed its end, has been silent, or has begun a request and not ended it.
    Gone,
}

/// The server's end of one connection.
pub(super) struct Connection<'a> {
    stream: &'a UnixStream,
    input: Vec<u8>,
    /// So much of the input is known to hold no end of a line.
    searched: usize,
}

impl<'a> Connection<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Self {
        Self { stream, input: Vec::new(), searched: 0 }
    }

    /// Waits for the next line.
    pub(super) fn next_line(&mut self) -> Came {
        let mut until = Instant::now() + if self.input.is_empty() { IDLE } else { WHOLE_WITHIN };
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.input[self.searched..]) {
                let end = self.searched + at;
                let rest = self.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.input, rest);
                line.truncate(end);
                self.searched = 0;
                return if end < LONGEST_REQUEST_BYTES { Came::Line(line) } else { Came::TooLong };
            }
            self.searched = self.input.len();
            if self.searched >= LONGEST_REQUEST_BYTES {
                return Came::TooLong;
            }
            if self.input.is_empty() {
                // What one long request took is not kept for the short ones.
                self.input = Vec::new();
            }
            let mut chunk = [0; CHUNK_BYTES];
            match self.read(&mut chunk, until) {
                Ok(count @ 1..) => {
                    if self.input.is_empty() {
                        until = Instant::now() + WHOLE_WITHIN;
                    }
                    self.input.extend_from_slice(&chunk[..count]);
                }
                Ok(0) | Err(_) => return Came::Gone,
            }
        }
    }

    fn read(&mut self, chunk: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(left(until)?))?;
            match (&mut &*self.stream).read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes whole lines. The error: they were not read in time, or the client is gone.
    pub(super) fn write(&mut self, mut lines: &[u8]) -> io::Result<()> {
        let until = Instant::now() + READ_WITHIN;
        while !lines.is_empty() {
            self.stream.set_write_timeout(Some(left(until)?))?;
            match (&mut &*self.stream).write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => lines = &lines[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the client has closed its end, or has written something more: then it wants nothing more of what it was
    /// following.
    pub(super) fn wants_no_more(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        !self.input.is_empty() || poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// The time until then; an error when there is none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_however_they_come() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(&server);
        for part in ["on", "e\ntwo\n\nth", "ree\nrest"] {
            (&mut &client).write_all(part.as_bytes()).unwrap();
        }
        for expected in ["one", "two", "", "three"] {
            assert_eq!(connection.next_line(), Came::Line(expected.into()));
        }
        assert!(connection.wants_no_more());
        drop(client);
        assert_eq!(connection.next_line(), Came::Gone);
    }

    #[test]
    fn a_line_without_end_is_not_gathered_for_ever() {
        let (client, server) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            let chunk = vec![b'x'; 1 << 16];
            while (&mut &client).write_all(&chunk).is_ok() {}
        });
        let mut connection = Connection::new(&server);
        assert_eq!(connection.next_line(), Came::TooLong);
        assert!(connection.input.len() <= LONGEST_REQUEST_BYTES + CHUNK_BYTES);
        drop(server);
        writer.join().unwrap();
    }

    #[test]
    fn a_client_that_has_gone_is_noticed_by_whoever_writes_to_it() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(&server);
        assert!(!connection.wants_no_more());
        drop(client);
        assert!(connection.wants_no_more());
        assert!(connection.write(b"x\n").is_err());
    }
}
