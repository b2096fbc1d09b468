//! Shared memory that large records travel in, from one function worker to another, without a copy in the engine. See
//! `schemas/worker-protocol.md`, section 5.
//!
//! The engine owns every segment from the moment it hears of it: it holds a descriptor and never a mapping, so that
//! no worker can make it fault, and no death of a worker loses what others still read. A segment is *in use* as
//! long as a block of the engine's names it, or a worker was given it and has not said that it is done.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::RunLoop;
use crate::ipc::{
    Block, Breach, ChunkHeader, Framing, Pins, Released, Say, rename_segments, segments_of, with_body,
};
use crate::runtime::supervisor::{Input, Worker};
use crate::sys::descriptor;

/// Segments that one worker may have at once; it bounds the engine's descriptors.
const MOST_OF_A_WORKER: usize = 256;

/// One piece of shared memory.
#[derive(Debug)]
struct Segment {
    fd: Arc<OwnedFd>,
    bytes: u64,
    /// Who writes it, and its name for it; `None` once that worker is gone.
    owner: Option<(Worker, u64)>,
    /// Its owner has named it since it was last told that it may write it again. Told twice, it would write over what
    /// it has named meanwhile and the engine has not read yet.
    is_named: bool,
    /// Blocks that name it, counted as often as they were read.
    pins: u64,
    /// Workers that were given it, and how often each has yet to say that it is done.
    readers: HashMap<Worker, u64>,
    /// Workers that have its descriptor.
    known: HashSet<Worker>,
}

impl Segment {
    fn is_in_use(&self) -> bool {
        self.pins > 0 || !self.readers.is_empty()
    }
}

/// All segments of a run.
#[derive(Debug, Default)]
pub(super) struct Segments {
    by_id: HashMap<u64, Segment>,
    /// The engine's name of a worker's own.
    own: HashMap<(Worker, u64), u64>,
    released: Released,
    next_id: u64,
}

impl Segments {
    /// A worker has made one.
    fn add(&mut self, worker: Worker, name: u64, bytes: u64, fd: OwnedFd) -> Result<(), Breach> {
        let breach = |what: String| Err(Breach(what));
        if self.own.contains_key(&(worker, name)) {
            return breach(format!("a second segment {name}"));
        }
        // Those in use cannot be dropped, so that this bounds the descriptors too.
        if self.own.keys().filter(|(owner, _)| *owner == worker).count() >= MOST_OF_A_WORKER {
            return breach(format!("more than {MOST_OF_A_WORKER} segments"));
        }
        match descriptor::fixed_size(fd.as_fd()) {
            Some(size) if size >= bytes => {}
            Some(size) => return breach(format!("segment {name} of {bytes} bytes, which are {size}")),
            None => {
                return breach(format!(
                    "segment {name}, which is no memory file of a sealed size with all its memory"
                ));
            }
        }
        self.next_id += 1;
        self.own.insert((worker, name), self.next_id);
        let segment = Segment {
            fd: Arc::new(fd),
            bytes,
            owner: Some((worker, name)),
            is_named: false,
            pins: 0,
            readers: HashMap::new(),
            known: HashSet::new(),
        };
        self.by_id.insert(self.next_id, segment);
        Ok(())
    }

    /// Records of a worker, with the engine's names for the segments that they lie in, which they hold.
    fn pin(&mut self, worker: Worker, block: Block) -> Result<Block, Breach> {
        let mut pins = Vec::new();
        let mut renamed = Vec::new();
        for chunk in Framing::Chunks.records(&block.data) {
            for used in segments_of(chunk) {
                let id = self.own.get(&(worker, used.id));
                let Some((&id, segment)) = id.and_then(|id| Some((id, self.by_id.get_mut(id)?))) else {
                    return Err(Breach(format!("a record in segment {}, which it has not sent", used.id)));
                };
                if used.bytes > segment.bytes {
                    return Err(Breach(format!(
                        "a record of {} bytes in segment {}, which has {}",
                        used.bytes, used.id, segment.bytes
                    )));
                }
                segment.pins += 1;
                segment.is_named = true;
                pins.push(self.released.pin(id, used.bytes));
            }
            let own = &self.own;
            renamed
                .push(rename_segments(chunk, |name| own.get(&(worker, name)).copied().unwrap_or_default()));
        }
        Ok(Block { data: renamed.concat().into(), pins: Pins::new(pins), ..block })
    }

    /// A worker gets these records: what it has to be sent before, and that it reads.
    fn give(&mut self, worker: Worker, data: &[u8]) -> Vec<(Say, Arc<OwnedFd>)> {
        let mut sent = Vec::new();
        for used in Framing::Chunks.records(data).flat_map(segments_of) {
            let Some(segment) = self.by_id.get_mut(&used.id) else { continue };
            *segment.readers.entry(worker).or_default() += 1;
            if segment.known.insert(worker) {
                sent.push((Say::Segment { id: used.id, bytes: segment.bytes }, Arc::clone(&segment.fd)));
            }
        }
        sent
    }

    /// The same records with their bodies in the block itself, for a reader that maps no segments.
    fn bring_home(&self, block: Block) -> io::Result<Block> {
        let mut whole = Vec::new();
        for chunk in Framing::Chunks.records(&block.data) {
            let header = ChunkHeader::read(chunk);
            match segments_of(chunk).last() {
                Some(used) if header.is_some_and(|header| header.has_body_in_segment(chunk)) => {
                    let segment = self.by_id.get(&used.id).ok_or(io::ErrorKind::NotFound)?;
                    let mut body = vec![0; usize::try_from(used.bytes).unwrap_or(usize::MAX)];
                    descriptor::read_at(segment.fd.as_fd(), &mut body, 0)?;
                    whole.extend(with_body(chunk, &body));
                }
                _ => whole.extend_from_slice(chunk),
            }
        }
        Ok(Block::new(whole.into(), block.records))
    }

    /// A worker is done with these, each as often as it is listed.
    fn free(&mut self, worker: Worker, ids: &[u64]) -> Result<(), Breach> {
        for id in ids {
            let count = self.by_id.get_mut(id).and_then(|segment| segment.readers.get_mut(&worker));
            let Some(count) = count else {
                return Err(Breach(format!("it is done with segment {id}, which it was not given")));
            };
            *count -= 1;
            if *count == 0
                && let Some(segment) = self.by_id.get_mut(id)
            {
                segment.readers.remove(&worker);
            }
        }
        Ok(())
    }

    /// A worker will not name these of its own again.
    fn drop_own(&mut self, worker: Worker, names: &[u64]) -> Result<Vec<u64>, Breach> {
        let mut dropped = Vec::new();
        for &name in names {
            let Some(id) = self.own.remove(&(worker, name)) else {
                return Err(Breach(format!("it drops segment {name}, which it has not sent")));
            };
            if let Some(segment) = self.by_id.get_mut(&id) {
                segment.owner = None;
                if segment.is_named || segment.is_in_use() {
                    return Err(Breach(format!("it drops segment {name}, which is in use")));
                }
            }
            dropped.push(id);
        }
        Ok(dropped)
    }

    /// A worker is gone.
    fn leave(&mut self, worker: Worker) {
        self.own.retain(|(owner, _), _| *owner != worker);
        for segment in self.by_id.values_mut() {
            segment.readers.remove(&worker);
            segment.known.remove(&worker);
            segment.owner = segment.owner.filter(|(owner, _)| *owner != worker);
        }
    }

    fn let_go_of_pins(&mut self) -> Vec<u64> {
        let released = self.released.take();
        for id in &released {
            if let Some(segment) = self.by_id.get_mut(id) {
                segment.pins = segment.pins.saturating_sub(1);
            }
        }
        released
    }

    /// Of these, the ones that nobody uses any more: their owners may write them again, and those without one are
    /// given up. Returns what is to be said to whom.
    fn settle(&mut self, ids: impl IntoIterator<Item = u64>) -> Vec<(Worker, Say)> {
        let mut said = Vec::new();
        for id in ids {
            let Some(segment) = self.by_id.get_mut(&id).filter(|segment| !segment.is_in_use()) else {
                continue;
            };
            match segment.owner {
                Some((owner, name)) => {
                    if std::mem::take(&mut segment.is_named) {
                        said.push((owner, Say::Recycle(vec![name])));
                    }
                }
                None => {
                    said.extend(segment.known.iter().map(|&worker| (worker, Say::Forget(vec![id]))));
                    self.by_id.remove(&id);
                }
            }
        }
        said
    }
}

impl RunLoop {
    pub(super) fn segment_came(
        &mut self,
        worker: Worker,
        name: u64,
        bytes: u64,
        fd: Option<OwnedFd>,
    ) -> Result<(), Breach> {
        let fd = fd.ok_or_else(|| Breach(format!("segment {name} without its descriptor")))?;
        self.segments.add(worker, name, bytes, fd)
    }

    pub(super) fn segments_freed(&mut self, worker: Worker, ids: &[u64]) -> Result<(), Breach> {
        self.segments.free(worker, ids)?;
        self.settle_segments(ids.to_vec());
        Ok(())
    }

    pub(super) fn segments_dropped(&mut self, worker: Worker, names: &[u64]) -> Result<(), Breach> {
        let dropped = self.segments.drop_own(worker, names)?;
        self.settle_segments(dropped);
        Ok(())
    }

    /// Records that a function worker has written: from here on they hold the segments that they lie in. A segment
    /// may be announced on the control connection after the record that names it was read.
    pub(super) fn pin_segments(&mut self, worker: Worker, block: Block) -> Result<Block, Breach> {
        let named = || Framing::Chunks.records(&block.data).flat_map(segments_of);
        if named().next().is_none() {
            return Ok(block);
        }
        if named().any(|used| !self.segments.own.contains_key(&(worker, used.id))) {
            self.read_all_control(worker.stage, worker.rank);
        }
        self.segments.pin(worker, block)
    }

    /// Records as a worker is to get them: it is told of the segments that they lie in, before it gets them, or gets
    /// what lies there. `None`: that cannot be read, and the worker is being killed.
    pub(super) fn with_segments(&mut self, worker: Worker, block: Block) -> Option<Block> {
        if block.pins.is_empty() {
            return Some(block);
        }
        if self.io(worker).is_some_and(|io| !io.maps_segments) {
            return self
                .without_segments(block)
                .inspect_err(|error| {
                    let reason = format!("cannot read a segment with its records: {error}");
                    self.inputs.push_back(Input::Fault { worker, reason });
                })
                .ok();
        }
        for (say, fd) in self.segments.give(worker, &block.data) {
            self.say_with(worker, &say, Some(fd));
        }
        Some(block)
    }

    /// Records for whoever maps no segments: the program that started the run, and workers that say so.
    pub(super) fn without_segments(&self, block: Block) -> io::Result<Block> {
        if block.pins.is_empty() { Ok(block) } else { self.segments.bring_home(block) }
    }

    /// A worker is gone, and with it all that it read and may write.
    pub(super) fn segments_left(&mut self, worker: Worker) {
        if self.segments.by_id.is_empty() {
            return;
        }
        self.segments.leave(worker);
        let all: Vec<u64> = self.segments.by_id.keys().copied().collect();
        self.settle_segments(all);
    }

    /// Once a turn: what blocks have let go of may be written again.
    pub(super) fn recycle_segments(&mut self) {
        if self.segments.by_id.is_empty() {
            return;
        }
        let released = self.segments.let_go_of_pins();
        self.settle_segments(released);
    }

    fn settle_segments(&mut self, mut ids: Vec<u64>) {
        ids.sort_unstable();
        ids.dedup();
        for (worker, say) in self.segments.settle(ids) {
            self.say_with(worker, &say, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    const OWNER: Worker = Worker { stage: 0, rank: 0, generation: 1 };
    const READER: Worker = Worker { stage: 1, rank: 0, generation: 1 };

    fn segments() -> Segments {
        let mut segments = Segments::default();
        segments.add(OWNER, 5, 4096, descriptor::sealed_memory(4096).unwrap()).unwrap();
        segments
    }

    fn naming(id: u64, bytes: u64) -> Block {
        let mut chunk = Vec::new();
        chunk.put_u32_le(28);
        chunk.put_u32_le(0);
        chunk.put_u32_le(1);
        chunk.put_u16_le(0);
        chunk.put_u16_le(1);
        chunk.put_u64_le(id);
        chunk.put_u64_le(bytes);
        Block::new(chunk.into(), 1)
    }

    #[test]
    fn a_segment_is_written_again_when_no_block_and_no_worker_has_it() {
        let mut segments = segments();
        let block = segments.pin(OWNER, naming(5, 100)).unwrap();
        let sent = segments.give(READER, &block.data);
        assert_eq!(
            sent.iter().map(|(say, _)| say.clone()).collect::<Vec<_>>(),
            [Say::Segment { id: 1, bytes: 4096 }]
        );
        drop(block);
        let released = segments.let_go_of_pins();
        assert_eq!((released.clone(), segments.settle(released)), (vec![1], vec![]));
        segments.free(READER, &[1]).unwrap();
        assert_eq!(segments.settle([1]), [(OWNER, Say::Recycle(vec![5]))]);
        assert_eq!(segments.settle([1]), [], "it is told once");
        // The second time the reader has it already.
        let block = segments.pin(OWNER, naming(5, 100)).unwrap();
        assert!(segments.give(READER, &block.data).is_empty());
    }

    #[test]
    fn a_segment_outlives_its_owner_as_long_as_somebody_reads_it() {
        let mut segments = segments();
        let block = segments.pin(OWNER, naming(5, 100)).unwrap();
        segments.give(READER, &block.data);
        drop(block);
        segments.leave(OWNER);
        let released = segments.let_go_of_pins();
        assert!(segments.settle(released).is_empty() && segments.by_id.len() == 1);
        segments.free(READER, &[1]).unwrap();
        assert_eq!(segments.settle([1]), [(READER, Say::Forget(vec![1]))]);
        assert!(segments.by_id.is_empty());
    }

    #[test]
    fn a_reader_that_dies_holds_nothing() {
        let mut segments = segments();
        let block = segments.pin(OWNER, naming(5, 100)).unwrap();
        segments.give(READER, &block.data);
        segments.leave(READER);
        drop(block);
        let released = segments.let_go_of_pins();
        assert_eq!(segments.settle(released), [(OWNER, Say::Recycle(vec![5]))]);
    }

    #[test]
    fn what_is_not_there_is_a_breach() {
        let mut segments = segments();
        assert!(segments.pin(OWNER, naming(6, 1)).is_err());
        assert!(segments.pin(OWNER, naming(5, 5000)).is_err());
        assert!(segments.free(READER, &[1]).is_err());
        let again = descriptor::sealed_memory(4096).unwrap();
        assert!(segments.add(OWNER, 5, 4096, again).is_err());
        let small = descriptor::sealed_memory(10).unwrap();
        assert!(segments.add(OWNER, 6, 4096, small).is_err());
        let (pipe, _other) = descriptor::pipe().unwrap();
        assert!(segments.add(OWNER, 6, 1, pipe).is_err());
    }
}
