//! Values that may differ from worker to worker.

use super::reader::Reader;
use crate::language::tree::Node;
use crate::model::{PerWorker, Pool};

/// A reader at one stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageReader<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) name: &'a str,
    pub(super) pool: Pool,
}

impl StageReader<'_> {
    /// Reads a value once, or once for each rank that the pool can reach if it names the worker.
    pub(super) fn per_worker<T: Clone + PartialEq>(
        self,
        node: &Node,
        read: impl Fn(Reader<'_>, &Node) -> Option<T>,
    ) -> Option<PerWorker<T>> {
        if !self.reader.names_worker(node) {
            return read(self.reader, node).map(PerWorker::Same);
        }
        let mut values = Vec::with_capacity(self.pool.max);
        for rank in 0..self.pool.max {
            let name =
                if self.pool.max == 1 { self.name.to_owned() } else { format!("{}/{rank}", self.name) };
            let scope = self.reader.scope.for_worker(rank, &name);
            // What is wrong for one rank is wrong for most: once is enough.
            values.push(read(self.reader.with_scope(&scope), node)?);
        }
        Some(PerWorker::ByRank(values))
    }
}
