//! The descriptors of one worker: the ends of its queues and pipes, its files, and the numbers at which it finds them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::feed::Feed;
use super::ready::Probing;
use super::recipe::Recipe;
use super::start::Refusal;
use super::window::ONE_PAGE;
use super::worker::{Exchange, Log, Tap, WorkerIo};
use super::{RunLoop, Target};
use crate::ipc::{Cutter, Framing};
use crate::model::{FAILED, Mode, ProbeKind, Redirect, STDERR, STDIN, STDOUT};
use crate::runtime::supervisor::{Phase, Worker};
use crate::sys::descriptor;

/// A worker's descriptors and what its environment says of them, in the making.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) descriptors: Vec<(OwnedFd, i32)>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) next: i32,
    /// Of a function: the numbers of its input and output ports, by their positions, and of pipes by the other stage.
    pub(super) inputs: Vec<Option<i32>>,
    pub(super) outputs: Vec<Option<i32>>,
    pub(super) connections: BTreeMap<String, i32>,
}

impl Ends {
    /// The number of a port: the standard one, or the next free, told by a variable.
    fn number(&mut self, port: &str, variable: &str) -> i32 {
        match port {
            STDIN => 0,
            STDOUT => 1,
            STDERR => 2,
            name => self.further(name, variable),
        }
    }

    /// A number of its own, told by a variable: `MPFLOW_OUT_links`.
    fn further(&mut self, name: &str, variable: &str) -> i32 {
        let number = self.free();
        self.variables.push((format!("{variable}_{}", name.replace('-', "_")), number.to_string()));
        number
    }

    /// A descriptor of its own, whose number a variable tells.
    pub(super) fn pass(&mut self, fd: OwnedFd, variable: &str) {
        let number = self.free();
        self.variables.push((variable.to_owned(), number.to_string()));
        self.descriptors.push((fd, number));
    }

    pub(super) fn free(&mut self) -> i32 {
        self.next = self.next.max(3) + 1;
        self.next - 1
    }

    fn has(&self, number: i32) -> bool {
        self.descriptors.iter().any(|&(_, there)| there == number)
    }
}

impl RunLoop {
    pub(super) fn open_inputs(
        &mut self,
        worker: Worker,
        recipe: &Recipe,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        for port in 0..io.feeds.len() {
            if port == 0 && self.mode(stage) == Mode::Each && recipe.takes_record_as_argument() {
                continue;
            }
            let name = self.plan.stages[stage].inputs[port].name.clone();
            let number = match self.is_function(stage) {
                true => ends.further(&name, "MPFLOW_IN"),
                false => ends.number(&name, "MPFLOW_IN"),
            };
            ends.inputs.push(Some(number));
            let (theirs, ours) = descriptor::pipe().map_err(Refusal::of_pipe)?;
            descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
            let shares =
                matches!(io.exchange, Exchange::Stream { .. }) && self.plan.stages[stage].stage.pool.max > 1;
            let size = if shares { descriptor::set_pipe_size(ours.as_fd(), ONE_PAGE) } else { None };
            let token = self.tokens.add(Target::Feed { stage, rank, port });
            let mut feed = Feed::new(ours, token);
            if matches!(io.exchange, Exchange::Stream { .. }) {
                feed.remember(size.unwrap_or(16 * ONE_PAGE));
            }
            io.feeds[port] = Some(feed);
            ends.descriptors.push((theirs, number));
        }
        Ok(())
    }

    pub(super) fn open_outputs(
        &mut self,
        worker: Worker,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        ends.outputs = vec![None; io.taps.len()];
        for port in 0..io.taps.len() {
            let plan = &self.plan.stages[stage].outputs[port];
            let is_functions = self.is_function(stage) && plan.name != STDERR;
            // A function's results of leased records are in its answers.
            if plan.name == FAILED || (is_functions && self.mode(stage) == Mode::Map) {
                continue;
            }
            let (format, name) = (plan.format, plan.name.clone());
            let limits = plan.queues.iter().map(|&queue| self.plan.queues[queue].options.max_record);
            let max_record = limits.min().unwrap_or(u64::MAX);
            let producer = self.broker.output(stage, port);
            let number = match is_functions {
                true => ends.further(&name, "MPFLOW_OUT"),
                false => ends.number(&name, "MPFLOW_OUT"),
            };
            ends.outputs[port] = Some(number);
            let (ours, theirs) = pipe_to_read()?;
            ends.descriptors.push((theirs, number));
            if self.broker.is_unwanted(producer) {
                // Dropped here: whoever writes to it meets SIGPIPE.
                continue;
            }
            let token = self.tokens.add(Target::Tap { stage, rank, port });
            let cutter = Cutter::new(Framing::of(format), max_record);
            io.taps[port] = Some(Tap::new(ours, token, cutter, Some(producer), format));
        }
        if !ends.has(2) && *self.plan.stages[stage].stage.stderr.get(rank) == Redirect::Inherit {
            let (ours, theirs) = pipe_to_read()?;
            let token = self.tokens.add(Target::Log { stage, rank });
            io.log = Some(Log { fd: ours, token, line: Vec::new() });
            if self.is_function(stage) {
                // What it prints is no data.
                let printed = theirs.try_clone().map_err(Refusal::of_pipe)?;
                ends.descriptors.push((printed, 1));
            }
            ends.descriptors.push((theirs, 2));
        }
        Ok(())
    }

    /// The descriptor that a worker says by that it is ready, where it is asked to.
    pub(super) fn open_notify(
        &mut self,
        worker: Worker,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        if self.plan.stages[stage].stage.ready.as_ref().is_none_or(|probe| probe.kind != ProbeKind::Notify) {
            return Ok(());
        }
        let (ours, theirs) = pipe_to_read()?;
        let token = self.tokens.add(Target::Notify { stage, rank });
        self.poller.watch(ours.as_fd(), token, false).map_err(Refusal::of_pipe)?;
        let number = ends.free();
        ends.variables.push(("MPFLOW_NOTIFY".to_owned(), number.to_string()));
        ends.descriptors.push((theirs, number));
        io.probe = Some(Probing::Notify { fd: ours, token });
        Ok(())
    }

    /// The ends of pipe edges: made when the first of the two workers is asked for, gone from the engine when the
    /// second is known to run.
    pub(super) fn open_pipes(
        &mut self,
        worker: Worker,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        let plan = Arc::clone(&self.plan);
        for (position, pipe) in plan.pipes.iter().enumerate() {
            for is_from in [true, false] {
                if worker.stage != if is_from { pipe.from } else { pipe.to } {
                    continue;
                }
                let made = match self.pipes.remove(&(position, worker.rank)) {
                    Some(made) => made,
                    None => super::PipeEnds::make(pipe.duplex, pipe.size).map_err(Refusal::of_pipe)?,
                };
                let super::PipeEnds { from, to } = made;
                let (ours, rest) = if is_from {
                    (from, super::PipeEnds { from: None, to })
                } else {
                    (to, super::PipeEnds { from, to: None })
                };
                let is_function = self.is_function(worker.stage);
                let other = if is_from { pipe.to } else { pipe.from };
                let number = match (pipe.duplex, is_from) {
                    _ if is_function => {
                        let name = self.plan.stages[other].stage.name.clone();
                        let number = ends.further(&name, "MPFLOW_PIPE");
                        ends.connections.insert(name, number);
                        number
                    }
                    (true, true) => ends.further(&pipe.from_port, "MPFLOW_PIPE"),
                    (true, false) => ends.further(&pipe.to_port, "MPFLOW_PIPE"),
                    (false, true) => ends.number(&pipe.from_port, "MPFLOW_OUT"),
                    (false, false) => ends.number(&pipe.to_port, "MPFLOW_IN"),
                };
                let ours = ours.ok_or_else(|| Refusal {
                    error: format!("its pipe `{}` went with the worker that had it before", pipe.name),
                    is_passing: false,
                })?;
                let theirs = ours.try_clone();
                io.pipe_ends.push((position, is_from, ours));
                // An end that nobody will come for is closed at once, so that the worker sees that.
                let is_awaited = !matches!(self.supervisor.stage(other).phase, Phase::Over(_));
                if is_awaited && (rest.from.is_some() || rest.to.is_some()) {
                    self.pipes.insert((position, worker.rank), rest);
                }
                ends.descriptors.push((theirs.map_err(Refusal::of_pipe)?, number));
            }
        }
        Ok(())
    }

    pub(super) fn open_files(&mut self, worker: Worker, ends: &mut Ends) -> Result<(), Refusal> {
        let plan = Arc::clone(&self.plan);
        let stage = &plan.stages[worker.stage].stage;
        let streams = [(0, stage.stdin.as_ref()), (1, stage.stdout.as_ref()), (2, Some(&stage.stderr))];
        for (number, redirect) in streams {
            let Some(Redirect::File(path)) = redirect.map(|redirect| redirect.get(worker.rank)) else {
                continue;
            };
            if ends.has(number) {
                continue;
            }
            let file = if number == 0 { open_to_read(path) } else { self.open_to_append(path) };
            let what = format!("cannot open `{}`", path.display());
            let file = file.map_err(|error| Refusal::from((what.as_str(), error)))?;
            ends.descriptors.push((file.into(), number));
        }
        Ok(())
    }

    /// Emptied when the run opens it first; appended to, so that the workers of a pool do not overwrite each other.
    fn open_to_append(&mut self, path: &Path) -> io::Result<File> {
        let is_first = self.opened.insert(path.to_owned());
        let mut options = File::options();
        options.create(true).append(true);
        open_without_waiting(&mut options, path).inspect(|file| {
            if is_first && file.metadata().is_ok_and(|file| file.is_file()) {
                let _ = file.set_len(0);
            }
        })
    }
}

impl super::PipeEnds {
    fn make(duplex: bool, size: Option<u64>) -> io::Result<Self> {
        if duplex {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
            let (from, to) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            return Ok(Self { from: Some(from), to: Some(to) });
        }
        let (to, from) = descriptor::pipe()?;
        if let Some(size) = size {
            descriptor::set_pipe_size(from.as_fd(), usize::try_from(size).unwrap_or(usize::MAX));
        }
        Ok(Self { from: Some(from), to: Some(to) })
    }
}

/// A pipe: the engine's end, which is read without waiting, and a worker's.
pub(super) fn pipe_to_read() -> Result<(OwnedFd, OwnedFd), Refusal> {
    let (ours, theirs) = descriptor::pipe().map_err(Refusal::of_pipe)?;
    descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
    Ok((ours, theirs))
}

fn open_to_read(path: &Path) -> io::Result<File> {
    open_without_waiting(File::options().read(true), path)
}

/// Opening a named pipe waits for its other side, which the loop must not: open it without, and let the worker wait
/// in its reads and writes.
fn open_without_waiting(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::unix::fs::OpenOptionsExt;
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(file)
}
