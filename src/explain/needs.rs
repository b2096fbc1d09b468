//! Descriptors, processes and pipes: sums over the plan, against the limits of a machine.

use crate::explanation::{Machine, Memory, Need, NeedPart, Resource};
use crate::graph::{Plan, StagePlan};
use crate::model::{Body, Mode, ProbeKind, Redirect};
use crate::runtime::run::{LARGEST_PIPE, MOST_IN_LINE, MOST_SUCCESSORS, ONE_PAGE, may_have_successors};

/// Descriptors that a run needs besides those of its workers: standard ones, epoll, the launcher's socket, files of
/// the program around it.
const BASE_DESCRIPTORS: u64 = 32;

/// Of a run with shared objects: its folder, its socket, its memory.
const SHARED_DESCRIPTORS: u64 = 3;

/// The engine, its launcher and the launcher's guardian.
const OWN_PROCESSES: u64 = 3;

/// Pages of a pipe that nobody has resized, pipe(7).
const DEFAULT_PAGES: u64 = 16;

/// What stands for the engine itself in sums.
pub(super) const ENGINE: &str = "mpflow";

impl Need {
    /// `limit: None` and what fits in what others leave of it.
    fn new(what: Resource, parts: Vec<NeedPart>, limit: Option<u64>, in_use: u64) -> Self {
        let needed = parts.iter().map(NeedPart::sum).fold(0, u64::saturating_add);
        let fits = limit.is_none_or(|limit| needed <= limit.saturating_sub(in_use));
        Self { what, needed, limit, in_use, fits, parts }
    }

    /// The greatest summand that is not the engine's own.
    pub(crate) fn largest(&self) -> Option<&NeedPart> {
        self.parts.iter().filter(|part| part.of != ENGINE).max_by_key(|part| part.sum())
    }
}

impl NeedPart {
    /// `times` × `each`.
    pub fn sum(&self) -> u64 {
        self.times.saturating_mul(self.each)
    }

    fn own(sum: u64) -> Self {
        Self { of: ENGINE.to_owned(), times: 1, each: sum }
    }
}

/// One summand for each stage, from what one worker of it needs.
fn by_worker<'a>(
    plan: &'a Plan,
    each: impl Fn(&StagePlan) -> u64 + 'a,
) -> impl Iterator<Item = NeedPart> + 'a {
    let part = move |stage: &StagePlan| NeedPart {
        of: stage.stage.name.clone(),
        times: stage.stage.pool.max as u64,
        each: each(stage),
    };
    plan.stages.iter().map(part).filter(|part| part.each > 0)
}

/// The engine's own ends of a worker's streams.
fn ends_of_a_worker(stage: &StagePlan) -> u64 {
    let outputs = pipes_out(stage);
    let is_notified = stage.stage.ready.as_ref().is_some_and(|probe| probe.kind == ProbeKind::Notify);
    // One for standard error, where no edge takes it; a function has a control connection besides.
    (stage.inputs.len() + outputs + 1 + usize::from(is_notified) + usize::from(is_function(stage))) as u64
}

/// Pipes that one worker writes records to. The results of a `map` function all travel in one.
fn pipes_out(stage: &StagePlan) -> usize {
    let outputs = stage.outputs.iter().filter(|port| port.name != "failed");
    match is_function(stage) && stage.stage.mode == Mode::Map {
        true => 1 + outputs.filter(|port| port.name == "stderr").count(),
        false => outputs.count(),
    }
}

fn is_function(stage: &StagePlan) -> bool {
    !matches!(stage.stage.body, Body::Command(_))
}

/// The engine's own ends of the streams of processes that wait to take the place of others.
fn ends_of_successors(plan: &Plan) -> u64 {
    let stages = (0..plan.stages.len()).filter(|&stage| may_have_successors(plan, stage));
    let ends = stages.map(|stage| {
        let stage = &plan.stages[stage];
        (stage.stage.pool.max.saturating_mul(MOST_IN_LINE)).min(MOST_SUCCESSORS) as u64
            * ends_of_a_worker(stage)
    });
    ends.fold(0, u64::saturating_add)
}

/// Descriptors of the engine. Files that hold long results of `each` stages are not counted: they are for a moment,
/// and not every result is long.
pub(crate) fn descriptors(plan: &Plan, machine: &Machine) -> Need {
    // A worker that uses shared objects has a connection; threads and commands that have more are its own affair.
    let (own, connections) = if plan.shared.is_empty() { (0, 0) } else { (SHARED_DESCRIPTORS, 1) };
    let mut parts = vec![NeedPart::own(BASE_DESCRIPTORS + own + ends_of_successors(plan))];
    parts.extend(by_worker(plan, |stage| ends_of_a_worker(stage) + connections));
    // Both ends of a pipe edge wait in the engine until both of its workers have started.
    parts.extend(plan.pipes.iter().map(|pipe| NeedPart {
        of: pipe.name.clone(),
        times: plan.stages[pipe.from].stage.pool.max as u64,
        each: 2,
    }));
    Need::new(Resource::Descriptors, parts, machine.open_files_hard, 0)
}

/// Processes of the engine and its workers, without what these start themselves. The limit alone decides: what the
/// user's other processes leave of it changes from moment to moment.
pub(crate) fn processes(plan: &Plan, machine: &Machine) -> Need {
    let mut parts = vec![NeedPart::own(OWN_PROCESSES)];
    parts.extend(by_worker(plan, |_| 1));
    Need::new(Resource::Processes, parts, machine.processes, 0)
}

/// All that a pipeline needs.
pub(super) fn needs(plan: &Plan, memory: &Memory, machine: &Machine) -> Vec<Need> {
    let processes = processes(plan, machine);
    let processes =
        Need::new(Resource::Processes, processes.parts, machine.processes, machine.processes_in_use);
    let mut needs = vec![descriptors(plan, machine), processes];
    let engine = vec![NeedPart::own(memory.short_bytes)];
    needs.push(Need::new(Resource::Memory, engine, machine.memory_bytes, 0));
    needs.push(Need::new(Resource::PipePages, pages(plan, |pipe| pipe.at_start), machine.pipe_user_pages, 0));
    needs.push(Need::new(
        Resource::LargePipePages,
        pages(plan, |pipe| pipe.at_most),
        machine.pipe_user_pages,
        0,
    ));
    needs.extend(pipe_size(plan, machine));
    needs
}

/// Pages of one pipe.
#[derive(Debug, Clone, Copy)]
struct Pages {
    at_start: u64,
    at_most: u64,
}

fn pages(plan: &Plan, count: impl Fn(Pages) -> u64) -> Vec<NeedPart> {
    let large = (LARGEST_PIPE / ONE_PAGE) as u64;
    let of_a_worker = |stage: &StagePlan| {
        let is_stream = stage.stage.mode == Mode::Stream;
        let inputs = stage.inputs.len() as u64;
        let input = match (is_stream, stage.stage.pool.max > 1) {
            (true, true) => Pages { at_start: 1, at_most: large },
            (true, false) => Pages { at_start: DEFAULT_PAGES, at_most: large },
            (false, _) => Pages { at_start: DEFAULT_PAGES, at_most: DEFAULT_PAGES },
        };
        let outputs = pipes_out(stage) as u64;
        let logs = u64::from(has_log(stage));
        inputs * count(input)
            + outputs * count(Pages { at_start: DEFAULT_PAGES, at_most: large })
            + logs * DEFAULT_PAGES
    };
    let mut parts: Vec<NeedPart> = by_worker(plan, of_a_worker).collect();
    parts.extend(plan.pipes.iter().filter(|pipe| !pipe.duplex).map(|pipe| {
        let pages =
            pipe.size.map_or(DEFAULT_PAGES, |size| size.div_ceil(ONE_PAGE as u64).next_power_of_two());
        NeedPart {
            of: pipe.name.clone(),
            times: plan.stages[pipe.from].stage.pool.max as u64,
            each: count(Pages { at_start: pages, at_most: pages }),
        }
    }));
    parts
}

/// Whether the engine reads the standard error of its workers.
pub(super) fn has_log(stage: &StagePlan) -> bool {
    stage.stage.stderr.all().contains(&Redirect::Inherit)
        && stage.outputs.iter().all(|port| port.name != "stderr")
}

/// Only where the document asks for a size.
fn pipe_size(plan: &Plan, machine: &Machine) -> Option<Need> {
    let largest = plan.pipes.iter().filter(|pipe| !pipe.duplex).max_by_key(|pipe| pipe.size)?;
    let part = NeedPart { of: largest.name.clone(), times: 1, each: largest.size? };
    Some(Need::new(Resource::PipeSize, vec![part], machine.pipe_max_bytes, 0))
}
