//! `map`: every line is leased, answered by one line at once, and leaves in order.
//!
//! The plain pipe runs the same program without leases and order, read by a `cat` as the engine reads it.

use crate::contest::{Contest, Context, Unit};
use crate::engine::Pipeline;
use crate::input;

pub(super) fn one(context: &Context) -> Result<Contest, String> {
    map(context, 1, 0.8)
}

/// Two workers, the engine, and whoever reads share the machine; without four processors nobody can be twice as
/// fast, so that there is no target.
pub(super) fn two(context: &Context) -> Result<Contest, String> {
    map(context, 2, None)
}

fn map(context: &Context, pool: usize, target: impl Into<Option<f64>>) -> Result<Contest, String> {
    let to = context.size(1_000_000, 100_000);
    let file = input::numbers(context, 1, to);
    let yaml = format!(
        "stages:\n  echo: {{command: [mawk, -W, interactive, '{{print; fflush()}}'], mode: map, ordered: true, pool: {pool}}}\n\
         edges:\n  - queue: stdin -> echo -> stdout\n"
    );
    let pipeline = Pipeline::new(context, &format!("map-{pool}"), &yaml).reading(&file);
    let lines = pipeline.lines()?;
    if lines.count != to || !lines.ascending {
        return Err(format!("{lines:?} came out of {to} in order"));
    }
    Ok(Contest::new(Unit::Rate(to as f64 / 1e3, "K lines/s"), move || {
        pipeline.seconds_delivering("-> echo", to)
    })
    .shell(
        "plain pipe of one",
        "mawk",
        target,
        "cat \"$1\" | mawk -W interactive '{print; fflush()}' | cat > /dev/null",
        &file,
    ))
}
