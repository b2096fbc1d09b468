//! A run that becomes another pipeline while it goes on: no record is lost, and what did not change keeps its process.
//!
//! ```text
//! cargo run --example reload
//! ```

use std::collections::BTreeMap;
use std::error::Error;

use mpflow::pipeline::{Edge, Mode, Stage};
use mpflow::{Engine, Functions, Pipeline, Stdio};

/// A counter that is fed through a stage that changes.
fn greeting(word: &str) -> Result<Pipeline, mpflow::language::Diagnostics> {
    let greet = format!("sed -u 's/^/{word} /'");
    Pipeline::builder("greet")
        .stage("greet", Stage::shell(greet).mode(Mode::Map))
        .stage("number", Stage::shell("n=0; while read -r line; do n=$((n + 1)); echo $n $line; done"))
        .edge(Edge::queue("stdin -> greet -> number -> stdout"))
        .build()
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    mpflow::init(&Functions::new());

    let run = Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&greeting("hello")?)?;
    let (input, mut output) = (run.input::<str>()?, run.output::<String>()?);
    input.send("Ada")?;
    println!("{}", output.recv()?);

    // Returns when it has taken effect, or with the reason why the run goes on as it was.
    run.reload(&greeting("good morning")?, BTreeMap::new())?;
    input.send("Grace")?;
    println!("{}", output.recv()?);

    drop(input);
    for line in output {
        println!("{}", line?);
    }
    println!("{:?}", run.wait().outcome);
    Ok(())
}
