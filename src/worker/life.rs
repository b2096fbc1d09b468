//! The life of a worker, from its task to its exit: `schemas/worker-protocol.md`, sections 1 and 2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::{Parts, Worker};
use super::failure::{Failure, caught, keep_places};
use super::functions::{Call, CallBy, Function, Functions, Kind, Run};
use super::input::Inlet;
use super::outbox::{Outbox, Outlet, Post};
use super::{call, map, stream};
use crate::ipc::{PROTOCOL, SaidKind, control_frame};
use crate::model::{Format, Mode, STDIN, TASK_PREFIX, nearest};
use crate::sys::{descriptor, environment};

/// The variables that tell a worker where its task and its control connection are.
pub(crate) const TASK: &str = "MPFLOW_TASK";
pub(crate) const CONTROL: &str = "MPFLOW_CONTROL";

/// The task, as far as a Rust function has use for it.
#[derive(Debug, Deserialize)]
struct Task {
    protocol: u32,
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    stage: String,
    mode: String,
    source: bool,
    target: String,
    #[serde(default)]
    args: Vec<Value>,
    #[serde(default)]
    kwargs: serde_json::Map<String, Value>,
    #[serde(default)]
    batch: Option<Value>,
    block: BlockSize,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    answers: Option<i32>,
    #[serde(default)]
    connections: BTreeMap<String, i32>,
}

#[derive(Debug, Deserialize)]
struct BlockSize {
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    format: Format,
    fd: i32,
    #[serde(default)]
    leased: bool,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    format: Format,
    fd: Option<i32>,
    #[serde(default)]
    max_record: Option<u64>,
    #[serde(default)]
    block_records: Option<u64>,
    #[serde(default)]
    wanted: Option<bool>,
}

/// The functions of this program.
static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// Keeps the functions of this program; those of the first call.
pub(crate) fn register(functions: Functions) -> &'static Functions {
    FUNCTIONS.get_or_init(|| functions)
}

/// The functions of this program.
pub(crate) fn registered() -> &'static Functions {
    FUNCTIONS.get_or_init(Functions::new)
}

/// If this process was started to be a worker, is one, and does not return.
pub(crate) fn become_worker_if_asked() {
    if let Some(task) = task() {
        work(registered(), task);
    }
    call::call_if_asked();
}

/// A worker's life in a process that was made to be one.
pub(crate) fn live() -> ! {
    become_worker_if_asked();
    std::process::exit(1)
}

/// The task that the environment names. A number that was left there by somebody else is no task: then the descriptor
/// is another, or none.
fn task() -> Option<Task> {
    let number = std::env::var(TASK).ok()?.parse().ok()?;
    let file = descriptor::look_at(number).ok()?;
    // Shared by all workers of a stage, so that it is read at places and not on.
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        match file.read_at(&mut part, text.len() as u64) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    let task = serde_json::from_slice(&text).ok()?;
    descriptor::adopt(number).ok()?;
    Some(task)
}

/// The control connection, as far as the worker talks.
struct Line(OwnedFd);

impl Line {
    fn say(&self, kind: SaidKind, payload: &Value) {
        let frame = control_frame(kind, payload.to_string().as_bytes());
        if let Ok(copy) = self.0.try_clone()
            && File::from(copy).write_all(&frame).is_err()
        {
            std::process::exit(1);
        }
    }

    fn is_broken(&self, failure: &Failure, nearest: Option<&str>) -> ! {
        let traceback = Some(&failure.traceback).filter(|text| !text.is_empty());
        let error = match failure.r#type.as_str() {
            "" => failure.error.clone(),
            name => format!("{name}: {}", failure.error),
        };
        self.say(SaidKind::Broken, &json!({"error": error, "traceback": traceback, "nearest": nearest}));
        std::process::exit(1);
    }

    /// Waits for GO, and reads no further.
    fn wait_for_go(&self) -> io::Result<()> {
        let mut file = File::from(self.0.try_clone()?);
        loop {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_le_bytes(length) as usize];
            file.read_exact(&mut frame)?;
            if frame.first() == Some(&crate::ipc::GO) {
                return Ok(());
            }
        }
    }
}

fn work(functions: &Functions, task: Task) -> ! {
    let control = std::env::var(CONTROL).ok().and_then(|number| number.parse().ok());
    let Some(Ok(control)) = control.map(descriptor::adopt) else { std::process::exit(1) };
    // What this process starts is no worker.
    environment::remove(&[TASK, CONTROL]);
    let Ok(line) = control.try_clone().map(Line) else { std::process::exit(1) };
    let (worker, mut work) = prepare(functions, &task, control).unwrap_or_else(|broken| {
        let (failure, nearest) = *broken;
        line.is_broken(&failure, nearest.as_deref())
    });
    line.say(SaidKind::Ready, &json!({"protocol": PROTOCOL, "language": "Rust", "segments": false}));
    if line.wait_for_go().is_err() {
        std::process::exit(1);
    }
    let late = std::thread::Builder::new().name("mpflow-late".to_owned());
    // Where there is no thread to be had, the results of a slow function leave when a block is full.
    let _ = late.spawn(move || worker.post().send_late());
    let result = match &mut work {
        Work::Map { inlet, call, is_batch } => map::run(worker, inlet, call, *is_batch),
        Work::Once(run) => stream::run(worker, run),
    };
    worker.post().flush();
    match result {
        Ok(()) => {
            worker.post().close();
            std::process::exit(0)
        }
        Err(failure) => {
            line.say(SaidKind::Error, &serde_json::to_value(&failure).unwrap_or_default());
            std::process::exit(if failure.is_panic { map::PANICKED } else { 1 })
        }
    }
}

enum Work {
    Map { inlet: Inlet, call: Call, is_batch: bool },
    Once(Run),
}

/// Why the function cannot be called, and the name that was perhaps meant.
type Broken = Box<(Failure, Option<String>)>;

fn prepare(functions: &Functions, task: &Task, control: OwnedFd) -> Result<(&'static Worker, Work), Broken> {
    let plain = |error: String| Box::new((Failure::coding("", error), None));
    if task.protocol != PROTOCOL {
        return Err(plain(format!(
            "this program speaks version {PROTOCOL} of the worker protocol, and the engine {}: build both with the same \
             mpflow",
            task.protocol
        )));
    }
    let name = task.target.as_str();
    let function = functions.get(name).ok_or_else(|| {
        let known: Vec<&str> = functions.names().collect();
        let known =
            if known.is_empty() { "no function".to_owned() } else { format!("`{}`", known.join("`, `")) };
        let error = format!("this program has registered {known}, and none as `{name}`");
        Box::new((Failure::coding("", error), nearest(name, functions.names()).map(str::to_owned)))
    })?;
    let ports =
        ports(task).map_err(|error| plain(format!("a descriptor of its task is missing: {error}")))?;
    let (post, inputs, leased, connections) = ports;
    keep_places();
    let worker = Worker::install(Parts {
        stage: task.stage.clone(),
        pipeline: task.pipeline.clone(),
        run_id: task.run_id.clone(),
        args: task.args.clone(),
        kwargs: task.kwargs.clone(),
        post,
        inputs,
        leased: leased.as_ref().map(|inlet| inlet.name.clone()),
        connections,
        control,
    });
    let is_batch = task.batch.is_some();
    let by = match is_batch {
        true => CallBy::Batch,
        false if name.starts_with(TASK_PREFIX) => CallBy::Task,
        false => CallBy::Record,
    };
    let work = match (function, leased, task.source, task.mode.as_str()) {
        (Function::Map(make), Some(inlet), _, _) => {
            let call = caught(|| make(worker, by)).map_err(|failure| Box::new((failure, None)))?;
            Work::Map { inlet, call, is_batch }
        }
        (Function::Source(run), None, true, _) | (Function::Stream(run), None, false, "stream") => {
            Work::Once(run.clone())
        }
        (_, leased, ..) => {
            let mode = if task.mode == "stream" { Mode::Stream } else { Mode::Map };
            let kind = functions.kind(name).unwrap_or(Kind::Map);
            let (wrong, help) = kind
                .misfit(leased.is_some() || !task.source, mode)
                .unwrap_or(("does not say how it is called", "use the worker protocol of this version"));
            return Err(plain(format!(
                "`{name}` was registered as {}, and the stage {wrong}: {help}",
                kind.described()
            )));
        }
    };
    Ok((worker, work))
}

type Ports = (Post, Vec<Inlet>, Option<Inlet>, BTreeMap<String, OwnedFd>);

fn ports(task: &Task) -> io::Result<Ports> {
    let mut outlets = Vec::new();
    for output in &task.outputs {
        let file = output.fd.map(descriptor::adopt).transpose()?.map(File::from);
        let (records, bytes) =
            (output.block_records.unwrap_or(u64::MAX), output.max_record.unwrap_or(u64::MAX));
        let mut outlet = Outlet::new(output.name.clone(), output.format, file, records, bytes);
        if output.wanted == Some(false) {
            outlet = outlet.unwanted();
        }
        outlets.push(outlet);
    }
    let (mut inputs, mut leased) = (Vec::new(), None);
    for input in &task.inputs {
        let file = File::from(descriptor::adopt(input.fd)?);
        let inlet = Inlet::new(input.name.clone(), input.format, file);
        match input.leased && input.name == STDIN {
            true => leased = Some(inlet),
            false => inputs.push(inlet),
        }
    }
    let connections = task.connections.iter();
    let connections: io::Result<_> =
        connections.map(|(name, &number)| Ok((name.clone(), descriptor::adopt(number)?))).collect();
    let answers = task.answers.map(descriptor::adopt).transpose()?.map(File::from);
    let block_bytes = usize::try_from(task.block.bytes).unwrap_or(usize::MAX);
    Ok((Post::new(Outbox::new(outlets, answers, block_bytes)), inputs, leased, connections?))
}
