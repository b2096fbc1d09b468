//! Some of the records that go into a queue, copied for whoever looks on, and the number of the others.

use crate::ipc::{Block, Framing};

/// Records of one sample at most, chunks of several counted as one.
const MOST_RECORDS: usize = 20;

/// Bytes kept of one record.
const MOST_BYTES: usize = 4 << 10;

/// Bytes kept of a chunk: cut, it could not be decoded.
const MOST_CHUNK_BYTES: usize = 64 << 10;

/// One record, or of formats that code several together, one such chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SampledRecord {
    /// With its marks; of a long one only the beginning.
    pub(crate) data: Vec<u8>,
    /// Bytes of the whole.
    pub(crate) bytes: u64,
    /// Records in it.
    pub(crate) records: u64,
}

/// What a [`Sampler`] has seen since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) records: Vec<SampledRecord>,
    /// Records that are not among these.
    pub(crate) not_shown: u64,
}

/// Looks at what goes into one queue. What it costs does not grow with the records: when it has enough, it only adds
/// up.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    seen: Seen,
}

impl Sampler {
    /// These records go into the queue.
    pub(crate) fn see(&mut self, block: &Block, framing: Framing) {
        let (mut shown, mut at) = (0, 0);
        while at < block.data.len() && self.seen.records.len() < MOST_RECORDS {
            let length = framing.first(&block.data[at..]).max(1);
            let record = &block.data[at..at + length];
            at += length;
            let most = if framing == Framing::Chunks { MOST_CHUNK_BYTES } else { MOST_BYTES };
            let records = framing.count_in(record);
            shown += records;
            self.seen.records.push(SampledRecord {
                data: record[..length.min(most)].to_vec(),
                bytes: length as u64,
                records,
            });
        }
        self.seen.not_shown += block.records.saturating_sub(shown);
    }

    /// Whether anything has passed since the last [`Sampler::take`].
    pub(crate) fn has_seen_any(&self) -> bool {
        !self.seen.records.is_empty()
    }

    /// What has passed since the last call.
    pub(crate) fn take(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const LINES: Framing = Framing::EndedBy(b'\n');

    proptest! {
        #[test]
        fn what_is_shown_and_what_is_not_are_all_records_that_passed(
            blocks in proptest::collection::vec((1usize..60, 0usize..9, proptest::bool::ANY), 1..30)
        ) {
            let (mut sampler, mut passed, mut told) = (Sampler::default(), 0, 0);
            for (lines, length, take) in blocks {
                let text = format!("{}\n", "x".repeat(length)).repeat(lines);
                sampler.see(&Block::whole(Bytes::from(text), LINES), LINES);
                passed += lines as u64;
                if take {
                    let seen = sampler.take();
                    prop_assert!(seen.records.len() <= MOST_RECORDS);
                    told += seen.not_shown + seen.records.iter().map(|record| record.records).sum::<u64>();
                }
            }
            let seen = sampler.take();
            told += seen.not_shown + seen.records.iter().map(|record| record.records).sum::<u64>();
            prop_assert_eq!(told, passed);
        }
    }

    #[test]
    fn of_a_long_record_only_the_beginning_is_kept() {
        let mut sampler = Sampler::default();
        let long = format!("{}\n", "y".repeat(1 << 20));
        sampler.see(&Block::whole(Bytes::from(long), LINES), LINES);
        let seen = sampler.take();
        assert_eq!((seen.records[0].data.len(), seen.records[0].bytes), (MOST_BYTES, (1 << 20) + 1));
        assert!(!sampler.has_seen_any());
    }
}
