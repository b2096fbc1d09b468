//! A pool of four under load is reloaded again and again: the longest time in which whoever reads the results gets
//! nothing. Every record comes once. And a file that is saved again and again: how long the last of several saves takes
//! until what the stage writes shows it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contest::{Contest, Context, Unit};
use crate::engine::{Pipeline, quoted};
use crate::processes::end_tree;

/// A pause says little where there is little to wait for: with less of a load than this a run does not count.
const LEAST_LOAD: f64 = 10_000.0;

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

/// The longest time between two lines, in seconds; they have to be the numbers up to this one, in any order, and as many a
/// second as make a load.
fn longest_pause(lines: impl BufRead, records: u64) -> Result<f64, String> {
    let (mut count, mut sum, mut longest) = (0, 0, Duration::ZERO);
    let (mut first, mut last) = (None, None);
    for line in lines.lines() {
        let line = line.map_err(|error| error.to_string())?;
        let now = Instant::now();
        first.get_or_insert(now);
        longest = longest.max(last.map_or(Duration::ZERO, |last| now - last));
        last = Some(now);
        count += 1;
        sum += line.parse::<u64>().map_err(|error| format!("`{line}`: {error}"))?;
    }
    if (count, sum) != (records, records * (records + 1) / 2) {
        return Err(format!("{count} records came, of {records}, or some of them twice"));
    }
    let load = match (first, last) {
        (Some(first), Some(last)) => records as f64 / last.duration_since(first).as_secs_f64(),
        _ => 0.0,
    };
    match load >= LEAST_LOAD {
        true => Ok(longest.as_secs_f64()),
        false => Err(format!("{load:.0} records a second are no load: {LEAST_LOAD} are wanted")),
    }
}

/// So many bursts of so many saves.
const BURSTS: u64 = 10;
const SAVES: u64 = 10;

/// Between two saves of a burst at most: some fall within one gathering, some into a reload.
const GAP: Duration = Duration::from_millis(150);

/// A save that is not in effect by then is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the last saves of some bursts the one that took longest until its record came.
pub(super) fn save(context: &Context) -> Result<Contest, String> {
    let script = context.folder().join("saved.sh");
    let text = format!(
        "stages:\n  tick: {{command: 'while echo x; do sleep 0.001; done'}}\n  mark: {{command: [sh, {}]}}\n\
         edges:\n  - queue: tick -> mark -> stdout\n",
        quoted(&script)
    );
    let pipeline = Pipeline::new(context, "saves", &text);
    let mut number = 0;
    let run = move || {
        let mut save = || {
            number += 1;
            // As editors do: another file in the place of the old one.
            let new = script.with_extension("tmp");
            let text = format!("while read x; do echo {number}; done\n");
            std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &script)).map(|()| number)
        };
        save().map_err(|error| error.to_string())?;
        let mut command = pipeline.command();
        command.arg("--watch").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let numbers = changes(child.stdout.take().expect("it was asked for"));
        let longest = longest_save(&mut save, &numbers);
        end_tree(child.id());
        let _ = child.wait();
        longest.map(|longest| longest.as_secs_f64())
    };
    Ok(Contest::new(Unit::Millis, run).at_most(500.0))
}

fn longest_save(
    save: &mut impl FnMut() -> std::io::Result<u64>,
    numbers: &Receiver<(u64, Instant)>,
) -> Result<Duration, String> {
    let lost = |error: mpsc::RecvTimeoutError| format!("a save is not in effect: {error}");
    numbers.recv_timeout(PATIENCE).map_err(lost)?;
    let mut longest = Duration::ZERO;
    for _ in 0..BURSTS {
        let mut last = (0, Instant::now());
        for at in 0..SAVES {
            if at > 0 {
                std::thread::sleep(GAP.mul_f64(fastrand::f64()));
            }
            last = (save().map_err(|error| error.to_string())?, Instant::now());
        }
        let seen = loop {
            let (number, at) = numbers.recv_timeout(PATIENCE).map_err(lost)?;
            if number == last.0 {
                break at;
            }
        };
        longest = longest.max(seen - last.1);
    }
    Ok(longest)
}

/// Each number that is another than the one in the line before, and when it came.
fn changes(lines: impl std::io::Read + Send + 'static) -> Receiver<(u64, Instant)> {
    let (sender, numbers) = mpsc::channel();
    std::thread::spawn(move || {
        let mut before = None;
        for number in BufReader::new(lines).lines().map_while(Result::ok).filter_map(|line| line.parse().ok())
        {
            if before.replace(number) != Some(number) && sender.send((number, Instant::now())).is_err() {
                return;
            }
        }
    });
    numbers
}
