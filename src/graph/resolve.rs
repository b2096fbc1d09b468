//! Names into positions: which stages and ports the edges join.

use std::collections::HashMap;

use super::ports::{self, Direction};
use crate::model::{
    Edge, EdgeKind, Endpoint, PipeOptions, Place, Problem, QueueOptions, STDIN, STDOUT, Stage,
};
use crate::model::{Pipeline, nearest};

/// What lies at the pipeline's own standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Files, terminals, pipes: bytes as they are.
    Bytes,
    /// A Rust program that sends and receives values.
    Program,
}

/// One end of a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum End<'a> {
    /// `mpflow`'s own standard input or output.
    Engine,
    /// A port of the stage at this position.
    Port { stage: usize, port: &'a str },
}

impl End<'_> {
    pub(super) fn stage(self) -> Option<usize> {
        match self {
            Self::Engine => None,
            Self::Port { stage, .. } => Some(stage),
        }
    }

    /// Whether it is the port of this stage that goes by this name.
    pub(super) fn is(self, stage: usize, port: &str) -> bool {
        matches!(self, Self::Port { stage: s, port: p } if s == stage && p == port)
    }
}

/// An edge both of whose ends exist.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link<'a> {
    /// Its number in the document.
    pub(super) number: usize,
    pub(super) edge: &'a Edge,
    pub(super) from: End<'a>,
    pub(super) to: End<'a>,
}

impl<'a> Link<'a> {
    pub(super) fn queue(&self) -> Option<&'a QueueOptions> {
        match &self.edge.kind {
            EdgeKind::Queue(options) => Some(options),
            EdgeKind::Pipe(_) => None,
        }
    }

    pub(super) fn pipe(&self) -> Option<&'a PipeOptions> {
        match &self.edge.kind {
            EdgeKind::Queue(_) => None,
            EdgeKind::Pipe(options) => Some(options),
        }
    }

    pub(super) fn is_duplex(&self) -> bool {
        self.pipe().is_some_and(|options| options.duplex)
    }

    /// The two stages, where both ends are one.
    pub(super) fn stages(&self) -> Option<(usize, usize)> {
        Some((self.from.stage()?, self.to.stage()?))
    }

    pub(super) fn end(&self, direction: Direction) -> End<'a> {
        match direction {
            Direction::In => self.to,
            Direction::Out => self.from,
        }
    }

    /// Where the name of one end stands.
    pub(super) fn end_place(&self, direction: Direction) -> Place {
        match direction {
            Direction::In => Place::EdgeTo(self.number),
            Direction::Out => Place::EdgeFrom(self.number),
        }
    }
}

/// A pipeline whose names are resolved. Edges with a wrong end are left out, so that one mistake makes one
/// problem.
pub(super) struct Net<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) ends: Ends,
    pub(super) links: Vec<Link<'a>>,
    positions: HashMap<&'a str, usize>,
}

impl<'a> Net<'a> {
    /// Resolves every name of the edges, and says which are wrong.
    pub(super) fn new(pipeline: &'a Pipeline, ends: Ends, problems: &mut Vec<Problem>) -> Self {
        let mut positions = HashMap::new();
        for (position, stage) in pipeline.stages.iter().enumerate() {
            if positions.contains_key(stage.name.as_str()) {
                problems.push(duplicate_stage(stage));
            } else {
                positions.insert(stage.name.as_str(), position);
            }
        }
        let mut net = Self { pipeline, ends, links: Vec::new(), positions };
        for (number, edge) in pipeline.edges.iter().enumerate() {
            let from = net.end(number, edge, &edge.from, Direction::Out, problems);
            let to = net.end(number, edge, &edge.to, Direction::In, problems);
            if let (Some(from), Some(to)) = (from, to) {
                net.links.push(Link { number, edge, from, to });
            }
        }
        net
    }

    /// The position of the stage of this name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    pub(super) fn stage(&self, position: usize) -> &'a Stage {
        &self.pipeline.stages[position]
    }

    pub(super) fn name(&self, position: usize) -> &'a str {
        &self.stage(position).name
    }

    /// An end as messages show it: `stdin`, `stdout`, or a port and its stage.
    pub(super) fn end_name(&self, end: End<'_>, direction: Direction) -> String {
        match (end, direction) {
            (End::Engine, Direction::Out) => "mpflow's own `stdin`".to_owned(),
            (End::Engine, Direction::In) => "mpflow's own `stdout`".to_owned(),
            (End::Port { stage, port }, _) => format!("`{port}` of `{}`", self.name(stage)),
        }
    }

    /// What to do about a name that no stage has.
    pub(super) fn suggest_stage(&self, wrong: &str) -> String {
        let names = self.pipeline.stages.iter().map(|stage| stage.name.as_str());
        match nearest(wrong, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("declare it under `stages`: `{wrong}: {{command: …}}`"),
        }
    }

    fn end(
        &self,
        number: usize,
        edge: &Edge,
        end: &'a Endpoint,
        direction: Direction,
        problems: &mut Vec<Problem>,
    ) -> Option<End<'a>> {
        let Endpoint::Stage { stage, port } = end else { return Some(End::Engine) };
        let Some(position) = self.position(stage) else {
            problems.push(self.unknown_stage(number, edge, stage, direction));
            return None;
        };
        if let Some(problem) = ports::check(number, edge, self.stage(position), port, direction) {
            problems.push(problem);
            return None;
        }
        Some(End::Port { stage: position, port })
    }

    fn unknown_stage(&self, number: usize, edge: &Edge, name: &str, direction: Direction) -> Problem {
        let (verb, place) = match direction {
            Direction::In => ("writes to", Place::EdgeTo(number)),
            Direction::Out => ("reads from", Place::EdgeFrom(number)),
        };
        let help = match (name, direction) {
            (STDOUT, Direction::Out) => "mpflow's own standard input is called `stdin`".to_owned(),
            (STDIN, Direction::In) => "mpflow's own standard output is called `stdout`".to_owned(),
            _ => self.suggest_stage(name),
        };
        Problem::error(
            "mpflow::unknown_stage",
            format!("edge `{edge}` {verb} `{name}`, which is not a stage of this pipeline"),
        )
        .at(place, "no stage has this name")
        .help(help)
    }
}

fn duplicate_stage(stage: &Stage) -> Problem {
    Problem::error("mpflow::duplicate_stage", format!("two stages are called `{}`", stage.name))
        .at(Place::Stage(stage.name.clone()), "this name is used twice")
        .help("give one of them another name")
}
