//! A queue to a pool of two.
//!
//! The engine reads the file on its standard input, as `split` and `parallel` read it themselves; in the row with
//! a source stage, a `cat` reads it and the engine gets it through a pipe, as the plain shell pipe does. All
//! workers write to `/dev/null`, but once before, when their output is compared with the input as a multiset of
//! lines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::contest::{Contest, Context, Cost, LOCALE, Unit};
use crate::engine::{Pipeline, quoted};
use crate::input::{self, Lines};

const POOL: &str = "\
stages:
  copy: {command: [cat], pool: 2, stdout: 'null'}
edges:
  - queue: stdin -> copy
";

const POOL_SHOWN: &str = "\
stages:
  copy: {command: [cat], pool: 2}
edges:
  - queue: stdin -> copy -> stdout
";

const PLAIN: &str = "cat \"$1\" | cat > /dev/null";
const SPLIT: &str = "split -n r/2 --filter='cat > /dev/null' \"$1\"";
const PARALLEL: &str = "parallel --will-cite --pipe -j2 'cat > /dev/null' < \"$1\"";
const ROUND_ROBIN: &str = "parallel --will-cite --pipe --round-robin -j2 'cat > /dev/null' < \"$1\"";
/// Seeks in the file instead of reading a stream: no queue, but what `parallel` is best at.
const PIPEPART: &str = "parallel --will-cite --pipepart --block -1 -j2 -a \"$1\" 'cat > /dev/null'";

pub(super) fn text(context: &Context) -> Result<Contest, String> {
    let file = input::text(context, context.size(1_000_000_000, 100_000_000));
    let contest = counting("text", &file, from_stdin(context, "text", &file))?;
    Ok(contest
        .shell("plain pipe", "cat", 1.25, PLAIN, &file)
        .shell("split -n r/2", "split", 1.2, SPLIT, &file)
        .shell("parallel --pipe", "parallel", None, PARALLEL, &file)
        .shell("… --round-robin", "parallel", None, ROUND_ROBIN, &file)
        .shell("… --pipepart", "parallel", None, PIPEPART, &file))
}

pub(super) fn text_from_a_stage(context: &Context) -> Result<Contest, String> {
    let file = input::text(context, context.size(1_000_000_000, 100_000_000));
    let stages = format!("stages:\n  source: {{command: [cat, {}]}}\n", quoted(&file));
    let queue = |yaml: &str| yaml.replace("stages:\n", &stages).replace("stdin ->", "source ->");
    let shown = Pipeline::new(context, "stage-shown", &queue(POOL_SHOWN));
    let timed = Pipeline::new(context, "stage", &queue(POOL));
    let contest = counting("text", &file, (shown, timed))?;
    let piped = "cat \"$1\" | split -n r/2 --filter='cat > /dev/null'";
    Ok(contest.shell("plain pipe", "cat", 1.25, PLAIN, &file).shell(
        "cat | split -n r/2",
        "split",
        1.2,
        piped,
        &file,
    ))
}

pub(super) fn short(context: &Context) -> Result<Contest, String> {
    let file = input::numbers(context, 1, context.size(10_000_000, 1_000_000));
    let contest = counting("short", &file, from_stdin(context, "short", &file))?;
    Ok(contest
        .shell("plain pipe", "cat", 1.0, PLAIN, &file)
        .shell("split -n r/2", "split", 2.0, SPLIT, &file)
        .shell("parallel --pipe", "parallel", 2.5, PARALLEL, &file)
        .shell("… --round-robin", "parallel", 2.5, ROUND_ROBIN, &file))
}

fn from_stdin(context: &Context, name: &str, file: &Path) -> (Pipeline, Pipeline) {
    let pipeline =
        |suffix: &str, text: &str| Pipeline::new(context, &format!("{name}{suffix}"), text).reading(file);
    (pipeline("-shown", POOL_SHOWN), pipeline("", POOL))
}

/// A contest of bytes per second, once what comes out was seen to be what went in.
fn counting(name: &str, file: &Path, (shown, timed): (Pipeline, Pipeline)) -> Result<Contest, String> {
    let expected = Lines::in_file(file);
    let got = shown.lines()?;
    if (got.count, got.sum) != (expected.count, expected.sum) {
        return Err(format!("{name}: {got:?} came out of {expected:?}"));
    }
    let megabytes = std::fs::metadata(file).map_err(|error| error.to_string())?.len() as f64 / 1e6;
    Ok(Contest::new(Unit::Rate(megabytes, "MB/s"), move || {
        timed.seconds_delivering("-> copy", expected.count)
    }))
}

// ---- a filter that computes

/// Enough work for each line that the filters, not the pipes, are the limit.
const COMPUTE: &str = "{ s += $1 % 7; t += length($1) * sqrt($1) } END { printf \"%d\\n\", s }";

/// The sum that all of them print in parts.
fn expected(to: u64) -> u64 {
    (1..=to).map(|number| number % 7).sum()
}

pub(super) fn computing(context: &Context) -> Result<Contest, String> {
    let to = context.size(10_000_000, 1_000_000);
    let (file, first, second) = (
        input::numbers(context, 1, to),
        input::numbers(context, 1, to / 2),
        input::numbers(context, to / 2 + 1, to),
    );
    let yaml = format!(
        "stages:\n  sum: {{command: [mawk, {}], pool: 2}}\nedges:\n  - queue: stdin -> sum -> stdout\n",
        serde_json::Value::from(COMPUTE)
    );
    let pipeline = Pipeline::new(context, "computing", &yaml).reading(&file);
    let sum = expected(to);
    let of = move |mut command: Command| move || sum_printed(&mut command, sum);
    let shell = |script: &str, arguments: &[&Path]| {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, "sh", COMPUTE])
            .args(arguments)
            .env(LOCALE.0, LOCALE.1)
            .stdin(Stdio::null());
        command
    };
    let halves = "mawk \"$1\" < \"$2\" & mawk \"$1\" < \"$3\" & wait";
    let one = "cat \"$2\" | mawk \"$1\"";
    // The filter is a shell command of its own, which gets the program in its environment.
    let split = "P=\"$1\" split -n r/2 --filter='mawk \"$P\"' \"$2\"";
    let parallel = "P=\"$1\" parallel --will-cite --pipe --round-robin -j2 'mawk \"$P\"' < \"$2\"";
    Ok(Contest::new(Unit::Rate(to as f64 / 1e6, "M lines/s"), move || {
        sum_printed(&mut pipeline.command(), sum)
    })
    .peer("pre-split halves", "mawk", 0.95, of(shell(halves, &[&first, &second])))
    .peer("one plain pipe", "mawk", None, of(shell(one, &[&file])))
    .peer("split -n r/2", "split", None, of(shell(split, &[&file])))
    .peer("parallel --round-robin", "parallel", None, of(shell(parallel, &[&file]))))
}

/// The seconds of a command whose numbers, one a line, have this sum.
fn sum_printed(command: &mut Command, sum: u64) -> Cost {
    let start = Instant::now();
    let output = command.stdout(Stdio::piped()).output().map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let got: u64 = text.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    if got == sum { Ok(seconds) } else { Err(format!("the sum is {got} instead of {sum}")) }
}
