//! A pipeline from YAML with a Python function in it, fed and read by this program.
//!
//! ```text
//! cargo run --example squares
//! ```

use std::error::Error;
use std::thread;

use mpflow::{Engine, Functions, Pipeline, Stdio};

const PIPELINE: &str = "
name: squares
stages:
  square: {python: 'operator:mul', unpack: true, pool: 2, ordered: true}
edges:
  - {queue: stdin -> square -> stdout, format: json}
";

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // First thing in `main`: this program is started once more, as the process that starts all workers.
    mpflow::init(&Functions::new());

    let pipeline = Pipeline::from_yaml(PIPELINE)?;
    let run = Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&pipeline)?;

    // Sending waits for room, so it has a thread of its own. Dropping the input ends it.
    let input = run.input::<(u64, u64)>()?;
    let sender = thread::spawn(move || (1..=10).try_for_each(|n| input.send(&(n, n))));

    for square in run.output::<u64>()? {
        println!("{}", square?);
    }
    sender.join().expect("the sender does not panic")?;

    let report = run.wait();
    println!("{} records, {} restarts", report.stages[0].records_in, report.stages[0].restarts);
    Ok(())
}
