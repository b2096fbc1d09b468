//! Files mapped into memory, read-only.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use bytes::Bytes;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The pages of a private file. The kernel may give them back to the disk, unlike memory of our own.
struct Mapping {
    start: NonNull<std::ffi::c_void>,
    length: usize,
}

// SAFETY: the pages are read-only and belong to this value alone until it unmaps them.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Mapping {}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `length` are those of a live mapping that is unmapped only in `drop`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with exactly these values, and `self` is the only one to know it.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

/// The first `length` bytes of an unlinked temporary file that nobody writes any more.
pub(crate) fn map(file: &File, length: usize) -> io::Result<Bytes> {
    let Some(size) = NonZeroUsize::new(length) else { return Ok(Bytes::new()) };
    // SAFETY: a fresh mapping at an address of the kernel's choice. The file is unlinked and only this process
    // has it, so that it is not cut short while it is mapped.
    let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0) }?;
    Ok(Bytes::from_owner(Mapping { start, length }))
}
