//! Waiting for a worker under test, while all that it can be told and heard moves.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Stop, Subject, shown};
use crate::ipc::Said;
use crate::process::Notification;
use crate::sys::{descriptor, message};

/// Between two looks at what no descriptor tells.
const LOOK: Duration = Duration::from_millis(5);

impl Subject<'_> {
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
    pub(super) fn look(&mut self) -> Result<(), Stop> {
        while self.pump(Instant::now())? {}
        Ok(())
    }

    /// Moves what can be moved, and waits for that at most so long. Whether anything did.
    pub(super) fn pump(&mut self, until: Instant) -> Result<bool, Stop> {
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
