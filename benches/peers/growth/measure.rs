//! One run: its time, and what the engine and its launcher took of processors and memory. Workers are not counted.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::engine::Pipeline;
use crate::processes::{children, pss};

/// What a run is to do, and what must come out of it.
pub(super) struct Work {
    pub(super) pipeline: Pipeline,
    /// What time is divided by: records that go in.
    pub(super) records: u64,
    /// What the engine's own time is divided by: each record counts once for each stage that it passes.
    pub(super) passages: u64,
    pub(super) output: Sum,
}

/// What came out, whatever its order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Of the values of all bytes.
    pub(super) total: u64,
}

impl Sum {
    pub(super) fn of(mut from: impl Read) -> std::io::Result<Self> {
        let mut sum = Self::default();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(sum);
            }
            sum.bytes += length as u64;
            for part in buffer[..length].chunks(128) {
                // Small sums, so that the compiler can do many at once.
                sum.lines += u64::from(part.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>());
                sum.total += u64::from(part.iter().map(|&byte| u16::from(byte)).sum::<u16>());
            }
        }
    }

    pub(super) fn times(self, factor: u64) -> Self {
        Self { lines: self.lines * factor, bytes: self.bytes * factor, total: self.total * factor }
    }
}

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) processor_seconds: f64,
    /// The most that was seen: PSS, where a page that both share counts once.
    pub(super) memory_bytes: f64,
}

impl Measured {
    /// The median of each.
    pub(super) fn middle(runs: Vec<Self>) -> Self {
        let middle = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            seconds: middle(|run| run.seconds),
            processor_seconds: middle(|run| run.processor_seconds),
            memory_bytes: middle(|run| run.memory_bytes),
        }
    }

    pub(super) fn for_records(self, records: f64, passages: f64) -> Self {
        Self { seconds: self.seconds / records, processor_seconds: self.processor_seconds / passages, ..self }
    }
}

/// Runs it once.
pub(super) fn measure(work: &Work) -> Result<Measured, String> {
    let start = Instant::now();
    let mut child = work
        .pipeline
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("cannot start it: {error}"))?;
    let stdout = child.stdout.take().expect("it was asked for");
    let has_ended = AtomicBool::new(false);
    let (sum, peak, seconds, processor) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(child.id(), &has_ended));
        let sum = Sum::of(stdout);
        // Its processor time is known until somebody has waited for it.
        let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
        let ended = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let seconds = start.elapsed().as_secs_f64();
        has_ended.store(true, Ordering::Release);
        let processor = processor_seconds(child.id());
        let (memory, launcher) = watcher.join().expect("it does not panic");
        ended.map_err(|error| error.to_string())?;
        let processor = processor.ok_or("its processor time is not told")? + launcher;
        Ok::<_, String>((sum, memory, seconds, processor))
    })?;
    check(&mut child, sum.map_err(|error| error.to_string())?, work.output)?;
    Ok(Measured { seconds, processor_seconds: processor, memory_bytes: peak })
}

fn check(child: &mut Child, sum: Sum, expected: Sum) -> Result<(), String> {
    let status = child.wait().map_err(|error| error.to_string())?;
    match (status.success(), sum == expected) {
        (false, _) => Err(format!("it ended with {status}")),
        (true, false) => Err(format!("{sum:?} came out instead of {expected:?}")),
        (true, true) => Ok(()),
    }
}

/// Looks at the engine and its launcher, which is its only child, until the engine has ended: the most memory of both,
/// and the processor time of the launcher when it was last seen.
fn watch(engine: u32, has_ended: &AtomicBool) -> (f64, f64) {
    let start = Instant::now();
    let (mut most, mut launcher_seconds) = (0, 0.0f64);
    let mut launcher = None;
    while !has_ended.load(Ordering::Acquire) {
        launcher = launcher.or_else(|| children(engine).first().copied());
        let both = [Some(engine), launcher].into_iter().flatten();
        most = most.max(both.filter_map(pss).sum());
        launcher_seconds = launcher_seconds.max(launcher.and_then(processor_seconds).unwrap_or(0.0));
        // Looking costs the engine little, but not nothing.
        let pause = (start.elapsed() / 20).clamp(Duration::from_millis(2), Duration::from_millis(20));
        std::thread::sleep(pause);
    }
    (most as f64, launcher_seconds)
}

/// Of all threads that a process has or had.
fn processor_seconds(pid: u32) -> Option<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).ok()?;
    let time = clock_gettime(clock).ok()?;
    Some(Duration::from(time).as_secs_f64())
}
