//! Shared objects in Python beside those of `multiprocessing`: a lock taken and given back, and a counter.
//!
//! Each process measures its own loop, from a barrier on; what counts is the slowest. Starting interpreters is in
//! no figure. `multiprocessing.Lock` is a semaphore in shared memory, for which an uncontended process does not ask
//! the kernel, and which stays locked when its holder is killed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::contest::{Contest, Context, Cost, LOCALE, Unit};
use crate::engine::{Pipeline, quoted};
use crate::python;

/// `work(lock, counter)`, the same for both.
const WORK: &str = "
import sys, time
what, times = sys.argv[1], int(sys.argv[2])
def work(lock, add, wait):
    for _ in range(100): lock.acquire(); lock.release(); add()
    wait()
    begin = time.perf_counter()
    if what == 'lock':
        for _ in range(times): lock.acquire(); lock.release()
    else:
        for _ in range(times): add()
    return time.perf_counter() - begin
";

const OURS: &str = "
from mpflow import shared
print(work(shared.door, shared.hits.add, shared.begin.wait), flush=True)
shared.begin.wait()
assert what == 'lock' or shared.hits.value == int(sys.argv[3]) * (100 + times), shared.hits.value
";

const THEIRS: &str = "
import multiprocessing
def run(lock, value, begin, results):
    def add():
        with value.get_lock(): value.value += 1
    results.put(work(lock, add, begin.wait))
if __name__ == '__main__':
    count = int(sys.argv[3])
    lock, value, begin = multiprocessing.Lock(), multiprocessing.Value('q', 0), multiprocessing.Barrier(count)
    results = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=run, args=(lock, value, begin, results)) for _ in range(count)]
    for process in processes: process.start()
    for _ in processes: print(results.get())
    for process in processes: process.join()
    assert what == 'lock' or value.value == count * (100 + times)
";

pub(super) fn lock(context: &Context) -> Result<Contest, String> {
    row(context, "lock", 1, context.size(50_000, 5_000), 500_000)
}

pub(super) fn contended_lock(context: &Context) -> Result<Contest, String> {
    row(context, "lock", 2, context.size(20_000, 2_000), 200_000)
}

pub(super) fn value(context: &Context) -> Result<Contest, String> {
    row(context, "value", 1, context.size(200_000, 20_000), 200_000)
}

pub(super) fn contended_value(context: &Context) -> Result<Contest, String> {
    row(context, "value", 2, context.size(100_000, 10_000), 100_000)
}

/// `times` and `their_times`: rounds of each process; as long as they take well over a millisecond, only the cost of one
/// counts.
fn row(
    context: &Context,
    what: &str,
    processes: u64,
    times: u64,
    their_times: u64,
) -> Result<Contest, String> {
    let python = python::needed()?;
    let script = |name: &str, rest: &str| -> PathBuf {
        let path = context.folder().join(name);
        std::fs::write(&path, format!("{WORK}{rest}")).unwrap();
        path
    };
    let (ours, theirs) = (script("shared-ours.py", OURS), script("shared-theirs.py", THEIRS));
    let yaml = format!(
        "shared: {{door: {{lock: true}}, hits: {{value: i64}}, begin: {{barrier: {processes}}}}}\n\
         stages:\n  work: {{command: [{python}, {ours}, {what}, '{times}', '{processes}'], pool: {processes}}}\n",
        python = quoted(python),
        ours = quoted(&ours),
    );
    let pipeline = Pipeline::new(context, &format!("shared-{what}-{processes}"), &yaml);
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sdk/python");
    let mut our_command = pipeline.command();
    our_command.env("PYTHONPATH", sdk).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut their_command = Command::new(python);
    their_command
        .arg(&theirs)
        .args([what, &their_times.to_string(), &processes.to_string()])
        .env(LOCALE.0, LOCALE.1);
    let done = processes as f64;
    // What is shown is of one operation; each side does as many as take a while.
    Ok(Contest::new(Unit::Rate(done, "operations/s"), move || each(&mut our_command, processes, times)).peer(
        if what == "lock" { "multiprocessing.Lock" } else { "multiprocessing.Value" },
        "python3",
        None,
        move || each(&mut their_command, processes, their_times),
    ))
}

/// The seconds that one operation of every process took, in the slowest of them.
fn each(command: &mut Command, processes: u64, times: u64) -> Cost {
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if seconds.len() as u64 != processes {
        return Err(format!("{} of {processes} processes have said how long they took", seconds.len()));
    }
    Ok(seconds.into_iter().fold(0.0, f64::max) / times as f64)
}
