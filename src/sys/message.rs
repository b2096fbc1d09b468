//! Messages with descriptors over a Unix socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Descriptors in one message at most: the kernel's SCM_MAX_FD, unix(7).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Sends one message with copies of the descriptors. With `wait` false, a full socket is `WouldBlock`.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd], wait: bool) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let mut flags = MsgFlags::MSG_NOSIGNAL;
    flags.set(MsgFlags::MSG_DONTWAIT, !wait);
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One message.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its length. 0: the peer is gone.
    pub(crate) length: usize,
    /// Closed on exec.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// This process may have no more descriptors, and those at the end of the message are lost.
    pub(crate) is_cut: bool,
}

/// Room for the descriptors of one message, `CMSG_SPACE`, in words so that the kernel's header is aligned.
// SAFETY: CMSG_SPACE computes with integers.
const CONTROL_WORDS: usize =
    (unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as libc::c_uint) } as usize)
        .div_ceil(size_of::<u64>());

/// Receives one message without waiting.
///
/// Not by nix, which gives no access to the descriptors that came with a message that was cut: they would stay open for
/// ever.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is plain integers and pointers, for which zero bytes are valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to live memory of the lengths that it says. Without a signal handler of its own a
    // non-blocking call is not interrupted; if it is, the caller asks again.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled the control buffer, which is live, and set its length in the header.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers that lie whole in the buffer, or null.
    while let Some(head) = unsafe { next.as_ref() } {
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as above; CMSG_LEN computes with integers.
            let (data, before) = unsafe { (libc::CMSG_DATA(next).cast::<RawFd>(), libc::CMSG_LEN(0)) };
            #[allow(clippy::unnecessary_cast, reason = "musl counts these bytes in another type than glibc")]
            let count = (head.cmsg_len as usize - before as usize) / size_of::<RawFd>();
            for position in 0..count {
                // SAFETY: the kernel has just installed so many descriptors for us, and nobody else knows them.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(data.add(position).read_unaligned()) });
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(Received { length, descriptors, is_cut: header.msg_flags & libc::MSG_CTRUNC != 0 })
}
