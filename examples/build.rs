//! A pipeline said in code: checked, drawn, written as YAML, and run with this program's own standard streams.
//!
//! ```text
//! cargo run --example build
//! cargo run --example build -- wrong
//! ```

use std::error::Error;

use mpflow::pipeline::{Charset, Drawing, Edge, Stage};
use mpflow::report::Outcome;
use mpflow::{Engine, Functions, Pipeline, Stdio};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    mpflow::init(&Functions::new());

    let has_mistake = std::env::args().any(|argument| argument == "wrong");
    let to = if has_mistake { "longst" } else { "longest" };
    // All mistakes at once, each with the call that made it.
    let pipeline = Pipeline::builder("words")
        .var("text", "the quick brown fox jumps over the lazy dog")
        .stage("words", Stage::shell("printf '%s\\n' ${{ vars.text }}"))
        .stage("measure", Stage::shell("awk '{ print length($0), $0 }'").pool(2))
        .stage("longest", Stage::shell("sort -k1,1nr -k2 | head -n 3"))
        .edge(Edge::queue(&format!("words -> measure -> {to}")))
        .edge(Edge::queue("longest -> stdout"))
        .build()?;
    println!("{}", pipeline.draw(Drawing::Text(Charset::Unicode)));
    println!("{}", pipeline.to_yaml());

    let report = Engine::new().stdout(Stdio::Inherit).start(&pipeline)?.wait();
    match report.outcome {
        Outcome::Succeeded => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}
