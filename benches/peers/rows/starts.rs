//! Starts of Python workers: one after another, and a hundred at once.
//!
//! One after another: from the end of a worker, by `_exit`, to the first line of its successor's function (in the
//! engine's pipeline, to where its class is built, which is before it is ready). The death, its being seen, and whatever
//! decides that there is to be another are in the figure, for both.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::contest::{Contest, Context, Cost, Unit};
use crate::engine::{Pipeline, quoted};
use crate::processes::{descendants, end_tree, pss};
use crate::python::{self, defaults, program, target, told};

/// A start method, whether its server imports NumPy beforehand, and whether the workers import it.
#[derive(Debug, Clone, Copy)]
struct Way {
    method: &'static str,
    preload: bool,
    numpy: bool,
}

impl Way {
    fn stage(self) -> String {
        let preload = if self.preload { ", preload: [numpy]" } else { "" };
        format!("start_method: {}{preload}", self.method)
    }

    fn python(self) -> Result<&'static Path, String> {
        if self.numpy { python::with_numpy() } else { python::needed() }
    }
}

macro_rules! rows {
    ($($name:ident, $which:ident, $method:literal, $preload:literal, $numpy:literal, $target:expr;)*) => {
        $(pub(super) fn $name(context: &Context) -> Result<Contest, String> {
            $which(context, Way { method: $method, preload: $preload, numpy: $numpy }, $target)
        })*
    };
}

rows! {
    spawn, one, "spawn", false, false, Some(14.0);
    fork, one, "fork", false, false, Some(1.5);
    forkserver, one, "forkserver", false, false, None;
    spawn_numpy, one, "spawn", false, true, Some(50.0);
    fork_numpy, one, "fork", false, true, Some(1.5);
    forkserver_numpy, one, "forkserver", true, true, Some(4.0);
    hundred_by_spawn, hundred, "spawn", false, true, Some(3500.0);
    hundred_by_fork, hundred, "fork", false, true, Some(300.0);
    hundred_by_forkserver, hundred, "forkserver", true, true, Some(300.0);
    memory_by_spawn, memory, "spawn", false, true, None;
    memory_by_fork, memory, "fork", false, true, Some(250.0);
    memory_by_forkserver, memory, "forkserver", true, true, Some(250.0);
}

// ---- one after another

fn one(context: &Context, way: Way, most: Option<f64>) -> Result<Contest, String> {
    let python = way.python()?;
    let count = context.size(30, 10) as usize;
    let stamps = context.folder().join("stamps");
    let yaml = format!(
        "stages:\n  work:\n    {{python: {}, args: [{}], python_executable: {}, {}, \
         restart: {{policy: on-failure, max: 1000, within: 1s, backoff: {{initial: 0ms}}}}}}\n\
         edges:\n  - queue: stdin -> work -> stdout\n",
        target("starts.py", "Replaced"),
        quoted(&stamps),
        quoted(python),
        way.stage(),
    );
    let pipeline = Pipeline::new(context, "starts", &yaml);
    let file = pipeline.file().to_owned();
    let records: String = (0..=count).map(|number| format!("{number}\n")).collect();
    let ours = move || {
        // All of these rows have the same file.
        std::fs::write(&file, &yaml).map_err(|error| error.to_string())?;
        let _ = std::fs::remove_file(&stamps);
        let mut command = pipeline.command();
        command
            .env("STARTS", if way.numpy { "numpy" } else { "" })
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let written = child.stdin.take().expect("it was asked for").write_all(records.as_bytes());
        let status =
            child.wait().and_then(|status| written.map(|()| status)).map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("it ended with {status}"));
        }
        between(&std::fs::read_to_string(&stamps).map_err(|error| error.to_string())?, count)
    };
    let mut contest = Contest::new(Unit::Millis, ours);
    if let Some(most) = most {
        contest = contest.at_most(most);
    }
    Ok(contest.peer(&format!("multiprocessing, {}", way.method), "python3", None, move || {
        let mut command = program(python, "starts.py", [way.method, &count.to_string()]);
        if way.numpy {
            command.arg("numpy");
        }
        if way.preload {
            command.arg("preload");
        }
        told(&mut command)
    }))
}

/// The median of the times from each end to the next beginning; the first line is the first beginning.
fn between(stamps: &str, count: usize) -> Cost {
    let stamps: Vec<f64> = stamps.lines().filter_map(|line| line.parse().ok()).collect();
    let mut times: Vec<f64> = stamps[1..].chunks_exact(2).map(|pair| pair[1] - pair[0]).collect();
    if times.len() != count {
        return Err(format!("{} workers of {count} were replaced", times.len()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

// ---- a hundred at once

const WORKERS: usize = 100;

/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn hundred(context: &Context, way: Way, most: Option<f64>) -> Result<Contest, String> {
    up(context, way, most, Unit::Millis, |_, seconds| seconds)
}

fn memory(context: &Context, way: Way, most: Option<f64>) -> Result<Contest, String> {
    up(context, way, most, Unit::Megabytes, |child, _| {
        let processes = descendants(child.id()).into_iter().chain([child.id()]);
        processes.filter_map(pss).sum::<u64>() as f64
    })
}

/// `cost`: of a program whose workers are all up, and of the seconds that this took.
fn up(
    context: &Context,
    way: Way,
    most: Option<f64>,
    unit: Unit,
    cost: fn(&Child, f64) -> f64,
) -> Result<Contest, String> {
    let python = way.python()?;
    let ready = context.folder().join("ready");
    if !ready.exists() {
        mkfifo(&ready, Mode::S_IRWXU).map_err(|error| error.to_string())?;
    }
    // The source never writes, so that the workers wait for records.
    let yaml = format!(
        "{}stages:\n  source: {{command: [sleep, '1000']}}\n  work: {{python: {}, args: [{}], pool: {WORKERS}, {}}}\n\
         edges:\n  - queue: source -> work\n",
        defaults(python),
        target("hundred.py", "Waiting"),
        quoted(&ready),
        way.stage(),
    );
    let pipeline = Pipeline::new(context, &format!("hundred-{}", way.method), &yaml);
    let (ours, theirs) = (ready.clone(), ready);
    let mut contest = Contest::new(unit, move || until_up(pipeline.command(), &ours, cost));
    if let Some(most) = most {
        contest = contest.at_most(most);
    }
    Ok(contest.peer(&format!("Pool, {}", way.method), "python3", None, move || {
        let count = WORKERS.to_string();
        let mut command =
            program(python, "hundred.py", [way.method, &count, theirs.to_str().expect("a path of text")]);
        if way.preload {
            command.arg("preload");
        }
        until_up(command, &theirs, cost)
    }))
}

fn until_up(mut command: Command, ready: &Path, cost: fn(&Child, f64) -> f64) -> Cost {
    // Open for both, so that it neither waits nor ends.
    let mut said = File::options().read(true).write(true).open(ready).map_err(|error| error.to_string())?;
    nix::fcntl::fcntl(&said, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let mut workers = 0;
    let mut bytes = [0; WORKERS];
    while workers < WORKERS && start.elapsed() < PATIENCE {
        match said.read(&mut bytes) {
            Ok(count) => workers += count,
            Err(_) => std::thread::sleep(Duration::from_micros(500)),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cost = cost(&child, seconds);
    end_tree(child.id());
    let _ = child.wait();
    if workers == WORKERS { Ok(cost) } else { Err(format!("{workers} of {WORKERS} workers came up")) }
}
