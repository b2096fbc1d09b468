//! `pool`, `batch`.

use std::num::NonZeroUsize;

use super::keys;
use super::reader::Reader;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Kind, Node};
use crate::model::{Batch, MOST_WORKERS, Pool};

/// Checks a width that the command line gives.
pub(super) fn is_width(width: usize) -> bool {
    (1..=MOST_WORKERS).contains(&width)
}

impl Reader<'_> {
    pub(super) fn pool(self, what: &str, node: &Node, cpus: usize) -> Option<Pool> {
        let node = self.resolve(node)?;
        if !matches!(node.kind, Kind::Map(_)) {
            return self.width(what, &node, cpus).map(|width| Pool { min: width, max: width });
        }
        let fields = self.fields(what, &node, keys::POOL)?;
        let min = fields.read("min", |_, node| self.width("`pool.min`", node, cpus));
        if fields.get("max").is_none() {
            return self.mistake(
                code::MISSING_KEY,
                "`pool` has no `max`",
                node.span,
                "up to how many workers?",
                "write `pool: {min: 1, max: 4}`",
            );
        }
        let max = fields.read("max", |_, node| self.width("`pool.max`", node, cpus))?;
        let min = if fields.get("min").is_some() { min? } else { 1 };
        if min <= max {
            return Some(Pool { min, max });
        }
        let span = |key| fields.get(key).map_or(node.span, |entry| entry.value.span);
        self.report(
            Finding::error(code::OUT_OF_RANGE, "`pool.min` is larger than `pool.max`")
                .at(span("min"), format!("at least {min}"))
                .at(span("max"), format!("at most {max}")),
        );
        None
    }

    fn width(self, what: &str, node: &Node, cpus: usize) -> Option<usize> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) if text == "auto" => Some(cpus.clamp(1, MOST_WORKERS)),
            Kind::Integer(..) => self
                .integer(what, &node, 1..=MOST_WORKERS as i128)
                .and_then(|value| usize::try_from(value).ok()),
            _ => self.wrong_type(what, "an integer of at least 1, `auto` or `{min, max}`", &node),
        }
    }

    pub(super) fn batch(self, what: &str, node: &Node) -> Option<Batch> {
        let node = self.resolve(node)?;
        if let Kind::Integer(..) = node.kind {
            return self.count::<usize>(what, &node).and_then(NonZeroUsize::new).map(|size| Batch {
                size,
                bytes: None,
                wait: None,
            });
        }
        if !matches!(node.kind, Kind::Map(_)) {
            return self.wrong_type(what, "an integer of at least 1 or `{size, bytes, wait}`", &node);
        }
        let fields = self.fields(what, &node, keys::BATCH)?;
        let size = fields.read("size", |_, node| self.count::<usize>("`batch.size`", node));
        let bytes = fields.read("bytes", |_, node| self.size("`batch.bytes`", node));
        let wait = fields.read("wait", |_, node| self.duration("`batch.wait`", node));
        if fields.get("size").is_none() && fields.get("bytes").is_none() {
            return self.mistake(
                code::MISSING_KEY,
                "`batch` has neither `size` nor `bytes`",
                node.span,
                "how many records at most?",
                "write `batch: 100` or `batch: {size: 100, wait: 1s}`",
            );
        }
        let size = if fields.get("size").is_some() { NonZeroUsize::new(size?)? } else { NonZeroUsize::MAX };
        Some(Batch { size, bytes, wait })
    }
}
