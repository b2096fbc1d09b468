//! Descriptors: pipes with one non-blocking end, sizes, private copies of the standard ones.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::pipe2;

nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);

/// A pipe, `(reading, writing)`, both ends closed on exec and blocking.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes one end of a new pipe non-blocking. The flag belongs to the open file description, which the two ends of
/// a pipe do not share: the worker's end stays as it is. A new pipe has no other flags that could be set.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Asks the kernel for a pipe capacity. What it refuses is not an error: the pipe stays as it was.
/// Returns the capacity that the pipe has then.
pub(crate) fn set_pipe_size(fd: BorrowedFd<'_>, bytes: usize) -> Option<usize> {
    let wanted = i32::try_from(bytes).ok()?;
    match fcntl(fd, FcntlArg::F_SETPIPE_SZ(wanted)) {
        Ok(size) => usize::try_from(size).ok(),
        Err(_) => None,
    }
}

/// Reads once into the room behind `bytes`, of which it uses so much at most, and that nobody has filled with zeroes.
/// Returns how much was read; at an error nothing has changed.
pub(crate) fn read_more(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, most: usize) -> Result<usize, Errno> {
    let room = bytes.spare_capacity_mut();
    let most = room.len().min(most);
    let (read, _) =
        rustix::io::read(fd, &mut room[..most]).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    let read = read.len();
    let filled = bytes.len() + read;
    // SAFETY: the call has initialised the first `read` bytes behind those of `bytes`, within its capacity.
    unsafe { bytes.set_len(filled) };
    Ok(read)
}

/// How many bytes lie unread in a pipe, asked at either end.
pub(crate) fn unread_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which is to a live local of that type.
    unsafe { fionread(fd.as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The size of a memory file that has all its memory and whose size is sealed, so that nobody who maps it can be made to
/// fault; `None` for any other file.
pub(crate) fn fixed_size(fd: BorrowedFd<'_>) -> Option<u64> {
    let seals = SealFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GET_SEALS).ok()?);
    let is_fixed = seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW);
    let file = fstat(fd).ok().filter(|_| is_fixed)?;
    let size = u64::try_from(file.st_size).ok()?;
    // stat(2) counts blocks of 512 bytes, whatever those of the file system are.
    let allocated = u64::try_from(file.st_blocks).ok()?.saturating_mul(512);
    (allocated >= size).then_some(size)
}

/// A memory file of this size, for good.
pub(crate) fn sealed_memory(bytes: i64) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(c"mpflow-test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    nix::unistd::ftruncate(&fd, bytes)?;
    nix::fcntl::posix_fallocate(&fd, 0, bytes)?;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))?;
    Ok(fd)
}

/// What kind of file a standard stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pipe.
    Pipe,
    /// A terminal or another character device.
    Device,
    /// A socket.
    Socket,
    /// A regular file: always ready, and never in epoll.
    File,
}

/// A private way to the file of a descriptor, which may be a standard one of this process.
///
/// `O_NONBLOCK` is shared by everyone who has the same open file description: the shell, `tee`, our own
/// standard error. So a pipe or a device is opened anew through `/proc/self/fd`, which gives a description of
/// our own; a socket and a regular file are duplicated and left blocking, and so are a pipe and a terminal that belong to
/// another user (`sudo -u`), who may not open them anew.
///
/// Returns the descriptor, its kind, and whether it is non-blocking.
pub(crate) fn private(fd: BorrowedFd<'_>, write: bool) -> io::Result<(OwnedFd, Kind, bool)> {
    let mode = SFlag::from_bits_truncate(fstat(fd)?.st_mode);
    let kind = match mode & SFlag::S_IFMT {
        SFlag::S_IFIFO => Kind::Pipe,
        SFlag::S_IFCHR => Kind::Device,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => Kind::File,
    };
    if matches!(kind, Kind::Pipe | Kind::Device) {
        let access = if write { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        if let Ok(own) = nix::fcntl::open(path.as_str(), flags, Mode::empty()) {
            return Ok((own, kind, true));
        }
    }
    Ok((copy_above(fd, 3)?, kind, false))
}

/// Fills all of `buffer` from this place of a file.
pub(crate) fn read_at(fd: BorrowedFd<'_>, mut buffer: &mut [u8], mut at: i64) -> io::Result<()> {
    while !buffer.is_empty() {
        match nix::sys::uio::pread(fd, buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                at += i64::try_from(read).map_err(io::Error::other)?;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A second reading end of the pipe that `writing` is the writing end of, non-blocking; to take back what a
/// worker that has ended did not read.
pub(crate) fn reading_end_of(writing: BorrowedFd<'_>) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", writing.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(File::from(nix::fcntl::open(path.as_str(), flags, Mode::empty())?))
}

/// A copy of a descriptor with a number of at least `lowest`, closed on exec.
pub(crate) fn copy_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: `F_DUPFD_CLOEXEC` has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A copy of the descriptor that has this number, if any has.
pub(crate) fn look_at(number: RawFd) -> io::Result<File> {
    // SAFETY: a number that is no open descriptor makes the call fail with EBADF, and the borrow ends with it.
    Ok(copy_above(unsafe { BorrowedFd::borrow_raw(number) }, 3)?.into())
}

/// The descriptor that whoever started this process left at this number for it to own, closed on exec from here on. To
/// be asked for once.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: fcntl on a number that is no open descriptor fails with EBADF and does nothing.
    fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, no standard one, and was put there for this process, in which nobody else knows it: it is
    // named once, in what the process was started with.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts a copy of `fd` at the number `target`, in the place of whatever was there.
pub(crate) fn place_at(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: dup2 touches no memory. Only the launcher calls this, at its start, for the standard numbers,
    // which nothing in it owns.
    if unsafe { nix::libc::dup2(fd.as_raw_fd(), target) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// All descriptors of this process, in order.
pub(crate) fn open_numbers() -> Vec<RawFd> {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let is_open = |&fd: &RawFd| {
        // SAFETY: fcntl on a number that is no longer open, such as that of the list, fails with EBADF.
        fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_GETFD).is_ok()
    };
    let listed: Vec<RawFd> = numbers.collect();
    let mut open: Vec<RawFd> = listed.into_iter().filter(is_open).collect();
    open.sort_unstable();
    open
}

/// Closes all descriptors but these. Only for a copy of the launcher, in which nothing that owns another of them is ever
/// used or dropped.
pub(crate) fn close_all_but(spared: &[RawFd]) {
    for number in open_numbers().into_iter().filter(|number| !spared.contains(number)) {
        // SAFETY: close touches no memory, and nobody in this process uses the number: see above.
        unsafe { nix::libc::close(number) };
    }
}

/// Descriptors besides the standard ones that a program that this process executes would have, in order.
pub(crate) fn inheritable() -> Vec<RawFd> {
    let is_inheritable = |&fd: &RawFd| {
        // SAFETY: the descriptor was just listed; should it be closed meanwhile, the call fails.
        fd > 2 && fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_GETFD) == Ok(0)
    };
    open_numbers().into_iter().filter(is_inheritable).collect()
}

/// Marks every descriptor from 3 on to be closed on exec, so that only listed ones reach a worker.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: a system call on integers; the flag changes no descriptor's validity, only what survives exec.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_close_range,
            3 as nix::libc::c_uint,
            nix::libc::c_uint::MAX,
            nix::libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    // Linux before 5.11 has no such flag: mark those that are open, never all numbers up to the limit.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd >= 3)
        .collect();
    for fd in open {
        // SAFETY: fcntl(F_SETFD) on a number that is no longer open fails with EBADF and does nothing.
        unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, FdFlag::FD_CLOEXEC.bits()) };
    }
    Ok(())
}

/// Whether a descriptor that may wait would not now: something, or the end, can be read, or something be written.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, write: bool) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(fd, if write { PollFlags::POLLOUT } else { PollFlags::POLLIN })];
    // One that cannot be looked at is tried: the call itself says what is wrong.
    poll(&mut polled, PollTimeout::ZERO).is_err() || polled[0].any().unwrap_or(true)
}

/// Whether `fd` is at its end for a writer: nobody reads it any more.
pub(crate) fn has_no_reader(fd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(_) => polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)),
        Err(_) => false,
    }
}
