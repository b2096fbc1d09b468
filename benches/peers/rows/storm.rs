//! A kill storm: records done in a second while a worker of four is killed each 100 ms, beside the calm run.
//!
//! The work is a wait, so that four workers have something to do at once on any machine, and what is lost is what the
//! kills cost: the attempt that is repeated, and the start of the next process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contest::{Contest, Context, Cost, Unit};
use crate::engine::Pipeline;
use crate::input;
use crate::processes::descendants;

const WORKERS: usize = 4;
const EVERY: Duration = Duration::from_millis(100);

/// Answers each line after a wait, by the shell itself, so that starts are cheap: `read -t` waits without a process.
const WORKER: &str =
    "exec {wait}<> <(:); while IFS= read -r line; do read -r -t 0.005 -u $wait; echo \"$line\"; done";

pub(super) fn storm(context: &Context) -> Result<Contest, String> {
    let records = context.size(8000, 1600);
    let file = input::numbers(context, 1, records);
    let yaml = format!(
        "stages:\n  work:\n    {{command: [bash, -c, {}], mode: map, pool: {WORKERS}, retry: {{attempts: 1000}}, \
         restart: {{policy: on-failure, max: 100000, within: 1s, backoff: {{initial: 1ms}}}}}}\n\
         edges:\n  - queue: stdin -> work -> stdout\n",
        serde_json::Value::from(WORKER)
    );
    let pipeline = Pipeline::new(context, "storm", &yaml).reading(&file);
    let calm = pipeline.clone();
    Ok(Contest::new(Unit::Rate(records as f64, "records/s"), move || run(&pipeline, records, true)).peer(
        "the calm run",
        "bash",
        0.9,
        move || run(&calm, records, false),
    ))
}

/// The seconds of a run in which each record came out once.
fn run(pipeline: &Pipeline, records: u64, is_storm: bool) -> Cost {
    let start = Instant::now();
    let child = pipeline.command().stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let stdout = child.stdout.take().expect("it was asked for");
    let reader = std::thread::spawn(move || numbers_of(stdout));
    if is_storm {
        kill_until_it_ends(&mut child, start);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let mut numbers = reader.join().map_err(|_| "its output could not be read".to_owned())?;
    numbers.sort_unstable();
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    if !numbers.iter().copied().eq(1..=records) {
        return Err(format!("{} records came out of {records}, or not the same", numbers.len()));
    }
    Ok(seconds)
}

fn numbers_of(from: impl Read) -> Vec<u64> {
    BufReader::new(from).lines().map_while(Result::ok).filter_map(|line| line.parse().ok()).collect()
}

fn kill_until_it_ends(child: &mut Child, start: Instant) {
    let mut kills: u32 = 0;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if start.elapsed() < EVERY * (kills + 1) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let workers: Vec<u32> = descendants(child.id()).into_iter().filter(|&pid| is_worker(pid)).collect();
        let next = workers.get(kills as usize % workers.len().max(1));
        if let Some(pid) = next.and_then(|&pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        kills += 1;
    }
}

fn is_worker(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "bash")
}
