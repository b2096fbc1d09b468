//! Python functions: three stages of small objects, arrays from one stage to another, the way of one record.
//!
//! The scripts in `benches/peers/python` hold both the functions that the engine's pipelines run and the same by hand.
//! The peers whose records cost much get fewer of them: what is compared is the cost of one. All is timed from the start
//! of the command to its end, so that interpreters are in every figure.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::contest::{Contest, Context, Cost, Unit};
use crate::engine::Pipeline;
use crate::python::{self, defaults, printing, program, target, told};

/// Cost of one record, shown as millions in a second.
const MILLIONS: Unit = Unit::Rate(1e-6, "M records/s");

pub(super) fn integers(context: &Context) -> Result<Contest, String> {
    small(context, "integers", "square", |count| (0..count).map(|number| number * number % 1009).sum())
}

pub(super) fn objects(context: &Context) -> Result<Contest, String> {
    small(context, "objects", "change", |count| (0..count).sum())
}

/// A source, a pool of two, a sink that counts and adds up.
fn small(
    context: &Context,
    kind: &'static str,
    work: &str,
    sum: impl Fn(u64) -> u64 + Copy + 'static,
) -> Result<Contest, String> {
    let python = python::needed()?;
    // A second or two for everybody.
    let count = context.size(10_000_000, 1_000_000) / if kind == "objects" { 4 } else { 1 };
    let yaml = format!(
        "{}stages:\n  source: {{python: {}, args: [{count}]}}\n  work: {{python: {}, pool: 2}}\n  \
         sink: {{python: {}, mode: stream}}\nedges:\n  - queue: source -> work -> sink\n",
        defaults(python),
        target("small.py", kind),
        target("small.py", work),
        target("small.py", &format!("total_of_{kind}")),
    );
    let pipeline = Pipeline::new(context, &format!("small-{kind}"), &yaml);
    let by_hand = |contender: &'static str, count: u64| {
        move || {
            let mut command = program(python, "small.py", [contender, kind, &count.to_string()]);
            printing(&mut command, &format!("{count} {}", sum(count))).map(|seconds| seconds / count as f64)
        }
    };
    let few = context.size(200_000, 50_000);
    let fewer = context.size(60_000, 20_000);
    let contest = Contest::new(MILLIONS, move || {
        let expected = format!("{count} {}", sum(count));
        printing(&mut pipeline.command(), &expected).map(|seconds| seconds / count as f64)
    })
    .peer("mp.Queue", "python3", 5.0, by_hand("queue", few))
    .peer("imap_unordered", "python3", 10.0, by_hand("imap", fewer))
    .peer("… chunks of 1000", "python3", None, by_hand("chunks", count))
    .peer("mp.Queue of lists of 1000", "python3", 0.5, by_hand("lists", count));
    if kind != "integers" {
        return Ok(contest);
    }
    let (tasks, batches) = (context.size(10_000, 2_000), context.size(1_000_000, 200_000));
    Ok(contest.peer("Ray, tasks", "ray", None, move || over("over_ray.py", "tasks", &[], tasks)).peer(
        "… tasks of 1000",
        "ray",
        None,
        move || over("over_ray.py", "batches", &[], batches),
    ))
}

/// Cost of one record by a script over somebody else's framework, which measures by itself: its start takes seconds, and
/// is not counted, unlike that of the engine.
fn over(script: &str, contender: &str, arguments: &[u64], count: u64) -> Cost {
    let mut command = program(python::needed()?, script, [contender]);
    command.args(arguments.iter().chain([&count]).map(u64::to_string));
    told(&mut command).map(|seconds| seconds / count as f64)
}

pub(super) fn small_arrays(context: &Context) -> Result<Contest, String> {
    let counts = (context.size(100_000, 20_000), context.size(10_000, 2_000));
    arrays(context, 64 << 10, counts, (4.0, None))
}

pub(super) fn large_arrays(context: &Context) -> Result<Contest, String> {
    let counts = (context.size(1000, 300), context.size(30, 10));
    arrays(context, 16 << 20, counts, (20.0, Some(0.9)))
}

/// `counts`: how many the engine and the ring of slots pass, and how many the queue.
fn arrays(
    context: &Context,
    bytes: u64,
    counts: (u64, u64),
    targets: (f64, Option<f64>),
) -> Result<Contest, String> {
    let python = python::with_numpy()?;
    let (count, few) = counts;
    let yaml = format!(
        "{}stages:\n  source: {{python: {}, args: [{bytes}, {count}]}}\n  sink: {{python: {}, mode: stream}}\n\
         edges:\n  - queue: source -> sink\n",
        defaults(python),
        target("arrays.py", "source"),
        target("arrays.py", "sink"),
    );
    let pipeline = Pipeline::new(context, &format!("arrays-{bytes}"), &yaml);
    let by_hand = |contender: &'static str, count: u64| {
        move || {
            let mut command =
                program(python, "arrays.py", [contender, &bytes.to_string(), &count.to_string()]);
            printing(&mut command, &count.to_string()).map(|seconds| seconds / count as f64)
        }
    };
    let contest = Contest::new(Unit::Rate(1.0, "arrays/s"), move || {
        printing(&mut pipeline.command(), &count.to_string()).map(|seconds| seconds / count as f64)
    })
    .peer("mp.Queue", "python3", targets.0, by_hand("queue", few))
    .peer("SharedMemory slots by hand", "python3", targets.1, by_hand("slots", count));
    let by =
        move |script: &'static str, contender: &'static str| move || over(script, contender, &[bytes], few);
    Ok(contest
        .peer("dora", "dora", None, by("over_dora.py", "arrays"))
        .peer("… send_output_raw", "dora", None, by("over_dora.py", "buffers"))
        .peer("… 512 MiB of shared memory", "dora", None, move || {
            over("over_dora.py", "roomy", &[bytes], count / 5)
        })
        .peer("Ray", "ray", None, by("over_ray.py", "arrays")))
}

// ---- the way of one record

/// The median over so many trips, after some that do not count.
const WARM: u64 = 100;

pub(super) fn round_trip(context: &Context) -> Result<Contest, String> {
    let python = python::needed()?;
    let trips = context.size(5000, 1000);
    let yaml = format!(
        "{}stages:\n  echo: {{python: {}}}\nedges:\n  - queue: stdin -> echo -> stdout\n",
        defaults(python),
        target("trips.py", "echo"),
    );
    let pipeline = Pipeline::new(context, "trips", &yaml);
    Ok(Contest::new(Unit::Micros, move || trip(&mut pipeline.command(), trips))
        .at_most(130.0)
        .peer("two pipes", "python3", None, move || trip(&mut program(python, "trips.py", ["pipe"]), trips))
        .peer("two mp.Queues", "python3", None, move || {
            told(&mut program(python, "trips.py", ["queue", &trips.to_string()]))
        })
        .peer("two nodes of dora", "dora", None, move || {
            told(&mut program(python, "over_dora.py", ["trips", &trips.to_string()]))
        }))
}

/// The median of the seconds from writing a line to a command until it has answered that line.
fn trip(command: &mut Command, trips: u64) -> Cost {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut seconds = Vec::new();
    let mut answer = String::new();
    for number in 0..trips + WARM {
        let line = format!("{number}\n");
        answer.clear();
        let start = Instant::now();
        let passed = stdin.write_all(line.as_bytes()).and_then(|()| stdout.read_line(&mut answer));
        seconds.push(start.elapsed().as_secs_f64());
        if passed.is_err() || answer != line {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("`{answer}` came for {line}"));
        }
    }
    drop(stdin);
    let status = child.wait().map_err(|error| error.to_string())?;
    let mut seconds = seconds.split_off(WARM as usize);
    seconds.sort_by(f64::total_cmp);
    if status.success() { Ok(seconds[seconds.len() / 2]) } else { Err(format!("it ended with {status}")) }
}
