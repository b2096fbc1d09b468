//! Memory that processes share: 8-byte words in a sealed file without a name.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::Mode;

/// Bytes of a word.
const WORD: usize = 8;

/// A new memory file of this size, all zeros, which nobody can make larger or smaller: whoever maps it never meets
/// SIGBUS. Its pages are taken when they are first touched.
pub(crate) fn create(bytes: u64) -> io::Result<File> {
    let file =
        File::from(memfd_create(c"mpflow-shared", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Such a file, mapped for reading and writing.
///
/// Each word is read and written whole. What is more than one access is made atomic by [`Words::exclusively`].
pub(crate) struct Words {
    /// An open file description of its own, since record locks of the kind used here belong to it: those of another
    /// mapping in this process are another's, and closing one releases nothing of the other's.
    file: OwnedFd,
    start: NonNull<AtomicU64>,
    count: usize,
    /// A record lock does not exclude the threads that share its description.
    threads: Mutex<()>,
}

// SAFETY: the mapping belongs to this value until it is dropped, and is accessed as atomic words only.
unsafe impl Send for Words {}
// SAFETY: as above; atomics may be shared.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the whole file.
    pub(crate) fn map(received: OwnedFd) -> io::Result<Self> {
        // Only a sealed file keeps its size.
        let seals = SealFlag::from_bits_retain(fcntl(&received, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::other("the memory may be cut short by others"));
        }
        let path = format!("/proc/self/fd/{}", received.as_raw_fd());
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(path.as_str(), flags, Mode::empty())?;
        let bytes = usize::try_from(nix::sys::stat::fstat(&file)?.st_size).map_err(io::Error::other)?;
        let size = NonZeroUsize::new(bytes).ok_or_else(|| io::Error::other("the memory is empty"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a file that cannot shrink.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { file, start: start.cast(), count: bytes / WORD, threads: Mutex::new(()) })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.count as u64
    }

    /// One of them, for what this file has no words for.
    pub(crate) fn atomic(&self, position: u64) -> io::Result<&AtomicU64> {
        self.word(position)
    }

    /// Where one of them lies: for what is more than a word, and is kept by others.
    pub(super) fn address(&self, position: u64) -> io::Result<*mut AtomicU64> {
        self.word(position)?;
        // SAFETY: within the mapping, by the line before.
        Ok(unsafe { self.start.as_ptr().add(usize::try_from(position).map_err(io::Error::other)?) })
    }

    fn word(&self, position: u64) -> io::Result<&AtomicU64> {
        let position = usize::try_from(position).ok().filter(|&position| position < self.count);
        let position = position.ok_or_else(|| io::Error::other("beyond the end of the shared memory"))?;
        // SAFETY: within the mapping, which is aligned to a page, lives as long as `self`, and which other processes
        // too access by aligned 8-byte loads and stores only.
        Ok(unsafe { self.start.add(position).as_ref() })
    }

    pub(crate) fn load(&self, position: u64) -> io::Result<u64> {
        Ok(self.word(position)?.load(Ordering::SeqCst))
    }

    pub(crate) fn store(&self, position: u64, word: u64) -> io::Result<()> {
        self.word(position)?.store(word, Ordering::SeqCst);
        Ok(())
    }

    /// Does something while nobody else who asks for it has these words, in this process or in another. Waits for whoever
    /// has them; the kernel releases what a dead process had.
    pub(crate) fn exclusively<T>(
        &self,
        position: u64,
        count: u64,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        // A thread that panicked has left no word half written.
        let _threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        self.record_lock(nix::libc::F_WRLCK, position, count)?;
        let done = act();
        self.record_lock(nix::libc::F_UNLCK, position, count)?;
        done
    }

    fn record_lock(&self, kind: i32, position: u64, count: u64) -> io::Result<()> {
        let bytes = |words: u64| i64::try_from(words.saturating_mul(WORD as u64)).map_err(io::Error::other);
        let range = nix::libc::flock {
            l_type: i16::try_from(kind).map_err(io::Error::other)?,
            l_whence: 0,
            l_start: bytes(position)?,
            l_len: bytes(count)?,
            l_pid: 0,
        };
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&range)) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Words {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this start and this many words, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.count * WORD) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_change_the_size_of_the_memory() {
        let file = create(64).unwrap();
        assert!(file.set_len(8).is_err());
        assert!(file.set_len(4096).is_err());
        let words = Words::map(file.into()).unwrap();
        words.store(7, 5).unwrap();
        assert_eq!(words.load(7).unwrap(), 5);
        assert!(words.load(8).is_err());
        assert!(words.store(u64::MAX, 1).is_err());
    }

    #[test]
    fn a_file_that_could_shrink_is_not_mapped() {
        let file =
            File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.set_len(64).unwrap();
        assert!(Words::map(file.into()).is_err());
    }

    #[test]
    fn two_mappings_of_one_process_exclude_each_other_and_so_do_threads() {
        let file = create(64).unwrap();
        let one = Words::map(file.try_clone().unwrap().into()).unwrap();
        let other = Words::map(file.into()).unwrap();
        let count = |words: &Words| {
            for _ in 0..1000 {
                words
                    .exclusively(0, 1, || {
                        let before = words.load(0)?;
                        std::thread::yield_now();
                        words.store(0, before + 1)
                    })
                    .unwrap();
            }
        };
        std::thread::scope(|scope| {
            for words in [&one, &one, &other, &other] {
                scope.spawn(|| count(words));
            }
        });
        assert_eq!(one.load(0).unwrap(), 4000);
    }
}
