//! Primitives in Rust beside those of `multiprocessing`: a pool at small tasks, a queue of small values, and one value
//! with nothing else going on.
//!
//! This program is its own workers: `main` registers [`functions`]. Nobody's start is in a figure, and the cost of one
//! task or value is compared, of which the peers get fewer.

use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

use mpflow::Functions;
use mpflow::multiprocessing::{Error, Pool, Process, Queue};

use crate::contest::{Contest, Context, Cost, Unit};
use crate::python::{self, program, told};

/// Cost of one, shown as millions in a second.
const MILLION: f64 = 1e-6;

/// A value on the queue: a number behind what makes it as long as this.
const VALUE_BYTES: usize = 64;
const PADDING: &str = "................................................";

/// Before each value nothing happens for so long, so that whoever waits for it sleeps.
const IDLE: Duration = Duration::from_micros(200);

/// Trips that do not count.
const WARM: u64 = 100;

/// What does not come within this time is an error, and no wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the workers of these rows do.
pub(crate) fn functions() -> Functions {
    Functions::new().map("square", square).try_process("put", put).try_process("answer", answer)
}

fn square(number: u64) -> u64 {
    number * number % 1009
}

fn put((queue, count): (Queue<String>, u64)) -> Result<(), Error> {
    let mut value = String::from(PADDING);
    for number in 0..count {
        value.truncate(PADDING.len());
        let _ = write!(value, "{number:0>width$}", width = VALUE_BYTES - PADDING.len());
        queue.put(&value)?;
    }
    Ok(())
}

/// Until there is a 0.
fn answer((requests, answers): (Queue<u64>, Queue<u64>)) -> Result<(), Error> {
    loop {
        match requests.get()? {
            0 => return Ok(()),
            number => answers.put(&number)?,
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Two workers, as the peers have.
pub(super) fn pool(context: &Context) -> Result<Contest, String> {
    let python = python::needed()?;
    let count = context.size(2_000_000, 500_000);
    let by_chunks = |chunk: u64, count: u64| {
        move || told(&mut program(python, "primitives.py", ["pool", &chunk.to_string(), &count.to_string()]))
    };
    Ok(Contest::new(Unit::Rate(MILLION, "M tasks/s"), move || tasks(count))
        .peer("imap_unordered, chunks of 1", "python3", 10.0, by_chunks(1, context.size(60_000, 20_000)))
        .peer("… of 1000", "python3", None, by_chunks(1000, count)))
}

/// The seconds of one task, once the workers are there.
fn tasks(count: u64) -> Cost {
    let pool = Pool::<u64, u64>::builder("square").width(2).start().map_err(text)?;
    pool.map(0..1000).map_err(text)?;
    let (mut came, mut sum) = (0_u64, 0_u64);
    let start = Instant::now();
    for result in pool.imap_unordered(0..count) {
        sum += result.map_err(text)?;
        came += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    pool.join().map_err(text)?;
    if (came, sum) != (count, (0..count).map(square).sum()) {
        return Err(format!("{count} tasks have {came} results, which make {sum}"));
    }
    Ok(seconds / count as f64)
}

/// One process puts, this one gets.
pub(super) fn queue(context: &Context) -> Result<Contest, String> {
    let python = python::needed()?;
    let (count, few) = (context.size(5_000_000, 1_000_000), context.size(200_000, 50_000));
    Ok(Contest::new(Unit::Rate(MILLION, "M values/s"), move || values(count)).at_least(2.0).peer(
        "mp.Queue",
        "python3",
        None,
        move || told(&mut program(python, "primitives.py", ["queue", &few.to_string()])),
    ))
}

/// The seconds of one value, once the first has come.
fn values(count: u64) -> Cost {
    let queue = Queue::<String>::new().map_err(text)?;
    let mut process = Process::new("put", &(&queue, count)).map_err(text)?;
    process.start().map_err(text)?;
    let mut start = Instant::now();
    for number in 0..count {
        let value = queue.get_timeout(PATIENCE).map_err(text)?;
        // What one thread has put comes in its order.
        let found = value.get(PADDING.len()..).and_then(|found| found.parse().ok());
        if value.len() != VALUE_BYTES || found != Some(number) {
            return Err(format!("`{value}` came for {number}"));
        }
        if number == 0 {
            start = Instant::now();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    finished(&mut process)?;
    Ok(seconds / (count - 1) as f64)
}

/// Half of the way to another process and back.
pub(super) fn latency(context: &Context) -> Result<Contest, String> {
    let python = python::needed()?;
    let trips = context.size(3000, 500);
    Ok(Contest::new(Unit::Micros, move || one_way(trips)).at_most(30.0).peer(
        "mp.Queue",
        "python3",
        None,
        move || told(&mut program(python, "primitives.py", ["latency", &trips.to_string()])),
    ))
}

/// The median of the seconds of half a trip.
fn one_way(trips: u64) -> Cost {
    let (requests, answers) = (Queue::<u64>::new().map_err(text)?, Queue::<u64>::new().map_err(text)?);
    let mut process = Process::new("answer", &(&requests, &answers)).map_err(text)?;
    process.start().map_err(text)?;
    let mut seconds = Vec::new();
    for number in 1..=trips + WARM {
        std::thread::sleep(IDLE);
        let start = Instant::now();
        requests.put(&number).map_err(text)?;
        let answer = answers.get_timeout(PATIENCE).map_err(text)?;
        seconds.push(start.elapsed().as_secs_f64() / 2.0);
        if answer != number {
            return Err(format!("{answer} came for {number}"));
        }
    }
    requests.put(&0).map_err(text)?;
    finished(&mut process)?;
    let mut seconds = seconds.split_off(WARM as usize);
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn finished(process: &mut Process) -> Result<(), String> {
    process.join(Some(PATIENCE));
    match process.exit_code() {
        Some(0) => Ok(()),
        other => Err(format!("the other process ended with {other:?}")),
    }
}
