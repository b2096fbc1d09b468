//! `limits`.

use std::time::Duration;

use super::keys;
use super::reader::Reader;
use crate::language::diagnostic::code;
use crate::language::tree::Node;
use crate::model::Limits;

/// The kernel's own bound on processors in an affinity mask of the usual size.
const MAX_CPU: i128 = 1023;

impl Reader<'_> {
    pub(super) fn limits(self, what: &str, node: &Node) -> Option<Limits> {
        let fields = self.fields(what, node, keys::LIMITS)?;
        Some(Limits {
            memory: fields.read("memory", |_, node| self.size("`limits.memory`", node)),
            open_files: fields.read("open_files", |_, node| self.count("`limits.open_files`", node)),
            cpu_time: fields.read("cpu_time", |_, node| self.cpu_time(node)),
            nice: fields.read("nice", |_, node| {
                self.integer("`limits.nice`", node, -20..=19).and_then(|nice| i32::try_from(nice).ok())
            }),
            cpus: fields.read("cpus", |what, node| self.cpus(what, node)),
        })
    }

    /// The kernel counts whole seconds.
    fn cpu_time(self, node: &Node) -> Option<Duration> {
        let time = self.positive_duration("`limits.cpu_time`", node)?;
        if time.subsec_nanos() == 0 {
            return Some(time);
        }
        let message = "`limits.cpu_time` must be whole seconds";
        self.mistake(
            code::OUT_OF_RANGE,
            message,
            node.span,
            "the kernel counts whole seconds",
            "write `1s` or more",
        )
    }

    fn cpus(self, what: &str, node: &Node) -> Option<Vec<usize>> {
        let cpus = self.each(what, node, |node| {
            let cpu = self.integer("an element of `limits.cpus`", node, 0..=MAX_CPU)?;
            usize::try_from(cpu).ok()
        })?;
        if !cpus.is_empty() {
            return Some(cpus);
        }
        let help = "write `cpus: [0, 1]`, or remove the key";
        self.mistake(
            code::INVALID_VALUE,
            "`limits.cpus` must not be empty",
            node.span,
            "no processor at all",
            help,
        )
    }
}
