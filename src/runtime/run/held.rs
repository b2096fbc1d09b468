//! The output of a process that may yet fail: held until it has not.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::ipc::{Block, Framing, Pins};
use crate::sys::mapping;

/// Held in memory at most; more goes to an unlinked temporary file.
pub(crate) const IN_MEMORY_BYTES: usize = 1 << 20;

/// Output held back.
#[derive(Debug, Default)]
pub(super) struct Held {
    blocks: Vec<Block>,
    bytes: usize,
    file: Option<File>,
    /// What blocks lie in that went to the file.
    pins: Pins,
}

impl Held {
    /// Holds a block. Only the last may be open.
    pub(super) fn push(&mut self, block: Block) -> io::Result<()> {
        if block.is_empty() {
            return Ok(());
        }
        self.bytes += block.len();
        self.pins.join(&block.pins);
        if let Some(file) = &mut self.file {
            return file.write_all(&block.data);
        }
        self.blocks.push(block);
        if self.bytes > IN_MEMORY_BYTES {
            let mut file = unlinked_file()?;
            for block in self.blocks.drain(..) {
                file.write_all(&block.data)?;
            }
            self.file = Some(file);
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, as few blocks.
    pub(super) fn take(self, framing: Framing) -> io::Result<Vec<Block>> {
        match self.file {
            None => Ok(self.blocks),
            Some(file) => {
                let all = Block::whole(mapping::map(&file, self.bytes)?, framing);
                Ok(vec![Block { pins: self.pins, ..all }])
            }
        }
    }
}

/// A file that has no name, in the folder for temporary files; one in memory where that has no room for such.
fn unlinked_file() -> io::Result<File> {
    let folder = std::env::temp_dir();
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    if let Ok(fd) = open(&folder, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        return Ok(File::from(fd));
    }
    // Not every file system knows O_TMPFILE: make one with a name and take the name away.
    let path = folder.join(format!("mpflow-{}", uuid::Uuid::now_v7()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Several results of one process on one port, as one block each.
pub(super) fn join(blocks: Vec<Block>) -> Option<Block> {
    let mut blocks = blocks.into_iter();
    let first = blocks.next()?;
    let mut joined: Option<Vec<u8>> = None;
    let (mut records, mut is_open, mut pins) = (first.records, first.is_open, first.pins);
    for block in blocks {
        pins.join(&block.pins);
        joined.get_or_insert_with(|| first.data.to_vec()).extend_from_slice(&block.data);
        records += block.records;
        is_open = block.is_open;
    }
    let data = joined.map_or(first.data, Bytes::from);
    Some(Block { data, records, is_open, pins })
}
