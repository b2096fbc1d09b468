//! A run as a filter between other processes: its standard streams are pipes.
//!
//! ```text
//! cargo run --example filter
//! ```

use std::error::Error;
use std::process::Command;

use mpflow::{Engine, Functions, Pipeline, Stdio};

const PIPELINE: &str = "
name: count
stages:
  letters: {command: 'tr a-z A-Z', pool: 2}
  count: {command: 'sort | uniq -c | sort -k1,1nr -k2'}
edges:
  - queue: stdin -> letters -> count -> stdout
";

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    mpflow::init(&Functions::new());

    let run =
        Engine::new().stdin(Stdio::Bytes).stdout(Stdio::Bytes).start(&Pipeline::from_yaml(PIPELINE)?)?;
    // Pipes of the standard library: to write to and read from, or to be given to other processes.
    let (to, from) = (run.take_stdin().expect("asked for"), run.take_stdout().expect("asked for"));
    let mut words =
        Command::new("printf").args(["%s\\n", "fig", "pear", "fig", "plum"]).stdout(to).spawn()?;
    let first = Command::new("head").args(["-n", "1"]).stdin(from).output()?;
    words.wait()?;
    print!("{}", String::from_utf8_lossy(&first.stdout));
    println!("{:?}", run.wait().outcome);
    Ok(())
}
