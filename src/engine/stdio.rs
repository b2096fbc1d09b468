//! What a run's standard input and output are.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::input::InputEnd;
use super::output::OutputEnd;
use super::{EndError, StartError};
use crate::graph::{Plan, QueuePlan};
use crate::ipc::{Framing, Inlet, Outlet};
use crate::model::{Format, STDIN, STDOUT};
use crate::runtime::run::{Ends, InEnd, OutEnd};

/// What one standard stream of a run is: where records of edges from `stdin` come from, and where those of edges to
/// `stdout` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Nothing comes, and what goes there is thrown away, as by `/dev/null`.
    Null,
    /// This program's own. What a run writes there is not put together with what the program prints by [`print!`].
    Inherit,
    /// A pipe to this program: [`Run::take_stdin`](super::Run::take_stdin) is its writing end, or
    /// [`Run::take_stdout`](super::Run::take_stdout) its reading end. The bytes are cut into records as those of a file
    /// would be.
    Bytes,
    /// Values of this program: [`Run::input`](super::Run::input) sends, or [`Run::output`](super::Run::output) receives
    /// them. No bytes pass through the kernel.
    Values,
}

/// The ends that the program holds, until it takes them.
#[derive(Debug)]
pub(super) struct ProgramEnds {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) input: Option<InputEnd>,
    pub(super) output: Option<OutputEnd>,
    /// Why there is no `input`, or `output`, once there is none.
    pub(super) no_input: EndError,
    pub(super) no_output: EndError,
}

impl ProgramEnds {
    /// None at all.
    pub(super) fn none() -> Self {
        let (stdin, stdout, input, output) = (None, None, None, None);
        let (no_input, no_output) = (EndError::Taken(STDIN), EndError::Taken(STDOUT));
        Self { stdin, stdout, input, output, no_input, no_output }
    }

    fn new(plan: &Plan, takes_values: [bool; 2]) -> Self {
        let why = |stream, is_used, takes_values| match (is_used, takes_values) {
            (false, _) => EndError::Unused(stream),
            (true, false) => EndError::NotValues(stream),
            (true, true) => EndError::Taken(stream),
        };
        Self {
            no_input: why(STDIN, from_stdin(plan).next().is_some(), takes_values[0]),
            no_output: why(STDOUT, to_stdout(plan).next().is_some(), takes_values[1]),
            ..Self::none()
        }
    }
}

/// Both sides of both streams. `None`: nothing was said.
pub(super) fn open(
    plan: &Plan,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
) -> Result<(Ends, ProgramEnds), StartError> {
    let takes_values = [stdin, stdout].map(|stream| stream == Some(Stdio::Values));
    let mut program = ProgramEnds::new(plan, takes_values);
    let stdin = match stdin {
        _ if from_stdin(plan).next().is_none() => InEnd::Descriptor(null(false)?),
        None => return Err(unconnected(STDIN, from_stdin(plan).next())),
        Some(Stdio::Null) => InEnd::Descriptor(null(false)?),
        Some(Stdio::Inherit) => InEnd::Descriptor(io::stdin().as_fd().try_clone_to_owned()?),
        Some(Stdio::Bytes) => {
            let (reading, writing) = io::pipe()?;
            program.stdin = Some(writing);
            InEnd::Descriptor(reading.into())
        }
        Some(Stdio::Values) => {
            let (inlet, end) = values_in(plan)?;
            program.input = Some(end);
            InEnd::Inside(inlet)
        }
    };
    if stdout != Some(Stdio::Values) {
        only_bytes(STDOUT, to_stdout(plan))?;
    }
    if !matches!(stdin, InEnd::Inside(_)) {
        only_bytes(STDIN, from_stdin(plan))?;
    }
    let stdout = match stdout {
        None if to_stdout(plan).any(|queue| queue.is_declared) => {
            return Err(unconnected(STDOUT, to_stdout(plan).find(|queue| queue.is_declared)));
        }
        None | Some(Stdio::Null) => OutEnd::Descriptor(null(true)?),
        Some(Stdio::Inherit) => OutEnd::Descriptor(io::stdout().as_fd().try_clone_to_owned()?),
        Some(Stdio::Bytes) => {
            let (reading, writing) = io::pipe()?;
            program.stdout = to_stdout(plan).next().is_some().then_some(reading);
            OutEnd::Descriptor(writing.into())
        }
        Some(Stdio::Values) => {
            let outlet = Arc::new(Outlet::new(least_capacity(to_stdout(plan)))?);
            let formats = plan.queues.iter().map(|queue| queue.format).collect();
            let is_used = to_stdout(plan).next().is_some();
            program.output = is_used.then(|| OutputEnd::new(Arc::clone(&outlet), formats));
            OutEnd::Inside(outlet)
        }
    };
    Ok((Ends { stdin, stdout }, program))
}

fn values_in(plan: &Plan) -> io::Result<(Arc<Inlet>, InputEnd)> {
    // A line of JSON is a line too, so that where both meet all are JSON.
    let formats = || from_stdin(plan).map(|queue| queue.format);
    let format = formats().find(|&format| format == Format::Json).or_else(|| formats().next());
    let format = format.unwrap_or(Format::Lines);
    let max_record = from_stdin(plan).map(|queue| queue.options.max_record).min().unwrap_or(u64::MAX);
    let inlet = Arc::new(Inlet::new(format, least_capacity(from_stdin(plan)))?);
    let end = InputEnd::new(Arc::clone(&inlet), format, max_record);
    Ok((inlet, end))
}

fn from_stdin(plan: &Plan) -> impl Iterator<Item = &QueuePlan> {
    plan.queues.iter().filter(|queue| queue.from.is_none())
}

fn to_stdout(plan: &Plan) -> impl Iterator<Item = &QueuePlan> {
    plan.queues.iter().filter(|queue| queue.to.is_none())
}

/// What lies in the program is to wait as little as what lies in the queues.
fn least_capacity<'a>(queues: impl Iterator<Item = &'a QueuePlan>) -> u64 {
    queues.filter_map(|queue| queue.options.capacity).min().unwrap_or(u64::MAX)
}

fn unconnected(stream: &'static str, queue: Option<&QueuePlan>) -> StartError {
    StartError::Unconnected { stream, edge: queue.map_or_else(String::new, |queue| queue.name.clone()) }
}

/// A plan may have been made for a program that takes values.
fn only_bytes<'a>(
    stream: &'static str,
    queues: impl Iterator<Item = &'a QueuePlan>,
) -> Result<(), StartError> {
    let mut first = None;
    for queue in queues {
        let framing = Framing::of(queue.format);
        if framing == Framing::Chunks || *first.get_or_insert(framing) != framing {
            return Err(StartError::Values { stream, edge: queue.name.clone(), format: queue.format });
        }
    }
    Ok(())
}

fn null(write: bool) -> io::Result<OwnedFd> {
    Ok(File::options().read(!write).write(write).open("/dev/null")?.into())
}
