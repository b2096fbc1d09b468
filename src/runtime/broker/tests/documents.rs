//! Documents that somebody writes and edits: what a random reload is from and to.

use crate::graph::Plan;
use crate::graph::testing::{Build, pool};
use crate::model::{Mode, OnError, PartitionKey, Retry};

/// Workers of a pool at most.
pub(super) const WIDEST: usize = 3;

/// Stages that take records and pass each on.
const MIDDLES: [&str; 2] = ["work", "other"];
pub(super) const NAMES: [&str; 3] = ["work", "other", "sink"];

/// Bits of a record's number that say by which stages it came, three for each.
pub(super) const WAY_BITS: u32 = 6;

/// Edges that may be there or not.
const EDGES: [(&str, &str); 9] = [
    ("stdin", "work"),
    ("stdin", "other"),
    ("two", "work"),
    ("two", "other"),
    ("work", "stdout"),
    ("work", "sink"),
    ("other", "sink"),
    ("other", "stdout"),
    ("work.failed", "sink"),
];

/// A stage as one document declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declared {
    mode: Mode,
    width: usize,
    ordered: bool,
    attempts: u32,
    /// What else of its text there is.
    text: u8,
    /// Each record belongs to one worker.
    by_key: bool,
}

/// One document.
#[derive(Debug, Clone)]
pub(super) struct Document {
    has_two: bool,
    middles: [Option<Declared>; 2],
    sink: Option<Declared>,
    source_text: u8,
    pub(super) edges: Vec<(&'static str, &'static str)>,
    capacity: Option<u64>,
}

impl Declared {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            mode: [Mode::Map, Mode::Map, Mode::Each, Mode::Stream][random.usize(..4)],
            width: random.usize(1..=WIDEST),
            ordered: random.bool(),
            attempts: random.u32(1..4),
            text: random.u8(..3),
            by_key: random.u8(..5) == 0,
        }
    }

    /// The same with one thing changed, mostly.
    fn edited(self, random: &mut fastrand::Rng) -> Self {
        match random.u8(..10) {
            0..3 => self,
            3..5 => Self { width: random.usize(1..=WIDEST), ..self },
            5 => Self { ordered: !self.ordered, ..self },
            6..9 => Self { text: self.text + 1, ..self },
            _ => Self::random(random),
        }
    }
}

impl Document {
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let edges = EDGES.into_iter().filter(|_| random.bool()).collect();
        Self {
            has_two: random.bool(),
            middles: [Some(Declared::random(random)), random.bool().then(|| Declared::random(random))],
            sink: random.bool().then(|| Declared::random(random)),
            source_text: 0,
            edges,
            capacity: random.bool().then(|| random.u64(1..40)),
        }
    }

    /// What somebody makes of it who goes on writing.
    pub(super) fn edited(&self, random: &mut fastrand::Rng) -> Self {
        let mut new = self.clone();
        let other = |stage: Option<Declared>, random: &mut fastrand::Rng| match (stage, random.u8(..5)) {
            (Some(_), 0) => None,
            (None, 0..3) => Some(Declared::random(random)),
            (stage, _) => stage.map(|stage| stage.edited(random)),
        };
        match random.u8(..6) {
            0 => new.has_two = !new.has_two,
            1 => new.source_text += 1,
            2 => new.capacity = random.bool().then(|| random.u64(1..40)),
            3 => new.sink = other(new.sink, random),
            _ => {}
        }
        if random.bool() {
            new.middles = new.middles.map(|stage| other(stage, random));
        }
        if random.bool() {
            let edge = EDGES[random.usize(..EDGES.len())];
            match new.edges.iter().position(|of| *of == edge) {
                Some(at) => drop(new.edges.remove(at)),
                None => new.edges.push(edge),
            }
        }
        new
    }

    fn declared(&self, name: &str) -> Option<Declared> {
        match name {
            "sink" => self.sink,
            _ => self.middles[MIDDLES.iter().position(|of| *of == name)?],
        }
    }

    /// Whether there is a stage, or stream, that an end of an edge names.
    pub(super) fn has(&self, end: &str) -> bool {
        match end.split('.').next() {
            Some("stdin" | "stdout") => true,
            Some("two") => self.has_two,
            Some(name) => self.declared(name).is_some(),
            None => false,
        }
    }

    /// Its plan. Where nothing leads to a stage that takes records, standard input does.
    pub(super) fn plan(&self) -> Plan {
        let mut edges: Vec<_> =
            self.edges.iter().copied().filter(|(from, to)| self.has(from) && self.has(to)).collect();
        edges.retain(|(from, _)| {
            // Only where records are leased some can fail.
            from.strip_suffix(".failed").is_none_or(|stage| {
                self.declared(stage).is_some_and(|declared| declared.mode != Mode::Stream)
            })
        });
        for name in NAMES.into_iter().filter(|name| self.has(name)) {
            if !edges.iter().any(|(_, to)| *to == name) {
                edges.push(("stdin", name));
            }
        }
        let mut build = Build::new();
        if self.has_two {
            build = build.with("two", |stage| stage.args = vec![self.source_text.into()]);
        }
        for name in NAMES.into_iter() {
            let Some(declared) = self.declared(name) else { continue };
            build = build.with(name, |stage| {
                stage.mode = declared.mode;
                stage.pool = pool(declared.width);
                stage.ordered = declared.ordered && declared.mode != Mode::Stream;
                stage.args = vec![declared.text.into()];
                stage.on_error = OnError::Skip;
                stage.retry = Retry { attempts: declared.attempts, ..Retry::default() };
            });
        }
        for (from, to) in edges {
            let by_key = self.declared(to).is_some_and(|declared| declared.by_key);
            build = build.queue_with(&format!("{from} -> {to}"), |queue| {
                queue.capacity = self.capacity;
                queue.partition_by = by_key.then_some(PartitionKey::Pointer(String::new()));
                queue.format = Some(crate::model::Format::Json);
            });
        }
        build.planned().unwrap_or_else(|problems| panic!("{self:?}: {problems:?}")).plan
    }
}
