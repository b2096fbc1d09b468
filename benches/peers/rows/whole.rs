//! From the start of `mpflow` to its end, with two stages that do nothing: what a run costs by itself.

use crate::contest::{Contest, Context, Unit};
use crate::engine::Pipeline;

pub(super) fn tiny(context: &Context) -> Result<Contest, String> {
    let yaml =
        "stages:\n  one: {command: ['true']}\n  two: {command: ['true']}\nedges:\n  - queue: one -> two\n";
    let pipeline = Pipeline::new(context, "tiny", yaml);
    Ok(Contest::new(Unit::Millis, move || pipeline.seconds())
        .at_most(12.0)
        .repeats(if context.quick { 5 } else { 15 })
        .shell("shell pipe", "true", None, "/bin/true | /bin/true", context.folder()))
}
