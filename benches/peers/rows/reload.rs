//! A pool of four under load is reloaded again and again: the longest time in which whoever reads the results gets
//! nothing. Every record comes once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contest::{Contest, Context, Unit};
use crate::engine::Pipeline;

/// Between two reloads.
const EVERY: Duration = Duration::from_millis(150);

pub(super) fn stream(context: &Context) -> Result<Contest, String> {
    reload(context, "stream", "command: [cat]", context.size(20_000_000, 4_000_000))
}

pub(super) fn map(context: &Context) -> Result<Contest, String> {
    reload(context, "map", "command: [sed, -u, p;d], mode: map", context.size(3_000_000, 600_000))
}

fn reload(context: &Context, name: &str, work: &str, records: u64) -> Result<Contest, String> {
    let text = {
        let work = work.to_owned();
        move |round: u32| {
            format!(
                "stages:\n  count: {{command: seq 1 {records}}}\n  work: {{{work}, pool: 4, env: {{ROUND: '{round}'}}}}\n\
                 edges:\n  - queue: count -> work -> stdout\n"
            )
        }
    };
    let name = format!("reload-{name}");
    let pipeline = Pipeline::new(context, &name, &text(0));
    let report = context.folder().join(format!("{name}-report.json"));
    let mut round = 0;
    let run = move || {
        let mut command = pipeline.command();
        command.arg("--report").arg(&report).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().expect("it was asked for");
        let reader = std::thread::spawn(move || longest_pause(BufReader::new(stdout), records));
        while !reader.is_finished() {
            std::thread::sleep(EVERY);
            round += 1;
            std::fs::write(pipeline.file(), text(round)).map_err(|error| error.to_string())?;
            hang_up(&child);
        }
        let pause = reader.join().map_err(|_| "the reader panicked".to_owned())?;
        let status = child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("it ended with {status}"));
        }
        let report = std::fs::read_to_string(&report).map_err(|error| error.to_string())?;
        let report: serde_json::Value = serde_json::from_str(&report).map_err(|error| error.to_string())?;
        let started = report["stages"][1]["started"].as_u64();
        if started.is_none_or(|started| started < 8) {
            return Err(format!("{started:?} workers were started: no reload took effect"));
        }
        pause
    };
    Ok(Contest::new(Unit::Millis, run).at_most(100.0))
}

fn hang_up(child: &Child) {
    // It may have ended.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP);
}

/// The longest time between two lines, in seconds; they have to be the numbers up to this one, in any order.
fn longest_pause(lines: impl BufRead, records: u64) -> Result<f64, String> {
    let (mut count, mut sum, mut longest) = (0, 0, Duration::ZERO);
    let mut last = None;
    for line in lines.lines() {
        let line = line.map_err(|error| error.to_string())?;
        let now = Instant::now();
        longest = longest.max(last.map_or(Duration::ZERO, |last| now - last));
        last = Some(now);
        count += 1;
        sum += line.parse::<u64>().map_err(|error| format!("`{line}`: {error}"))?;
    }
    match (count, sum) == (records, records * (records + 1) / 2) {
        true => Ok(longest.as_secs_f64()),
        false => Err(format!("{count} records came, of {records}, or some of them twice")),
    }
}
