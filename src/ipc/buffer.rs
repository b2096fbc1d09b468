//! Read buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A read buffer's size. Larger ones leave the second-level cache of common processors, smaller ones cost
/// more system calls; measured in `benches/`.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// Buffers kept for the next read at most.
pub(crate) const KEPT: usize = 8;

/// A supply of read buffers: fresh pages cost the kernel as much as the copy into them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Buffers {
    /// A buffer of [`BUFFER_BYTES`], with whatever it held before.
    pub(crate) fn take(&self) -> Box<[u8]> {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    /// Gives a buffer back.
    pub(crate) fn put(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }

    /// Shares a full buffer; it comes back when nobody holds a part of it any more.
    pub(crate) fn share(&self, buffer: Box<[u8]>) -> Bytes {
        Bytes::from_owner(Shared { buffer: Some(buffer), home: self.clone() })
    }
}

struct Shared {
    buffer: Option<Box<[u8]>>,
    home: Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.home.put(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_part_is_dropped() {
        let buffers = Buffers::default();
        let mut shared = buffers.share(buffers.take());
        let part = shared.split_to(10);
        drop(shared);
        assert_eq!(buffers.free.lock().unwrap().len(), 0);
        drop(part);
        assert_eq!(buffers.free.lock().unwrap().len(), 1);
    }
}
