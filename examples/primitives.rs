//! Processes, a queue, a shared value and a pool without a pipeline, as in Python's `multiprocessing`.
//!
//! ```text
//! cargo run --example primitives
//! ```

use std::error::Error;

use mpflow::Functions;
use mpflow::multiprocessing::{self, Pool, Process, Queue, Value};

// Queues, values and locks reach a process in its argument.
fn measure(
    (words, lengths, seen): (Vec<String>, Queue<usize>, Value<i64>),
) -> Result<(), multiprocessing::Error> {
    for word in words {
        seen.update(|seen| seen + 1);
        lengths.put(&word.len())?;
    }
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Processes are this program, started again: in them, `init` does not return.
    mpflow::init(&Functions::new().try_process("measure", measure).map("square", |n: u64| n * n));

    let (lengths, seen) = (Queue::<usize>::new()?, Value::new(0_i64)?);
    let mut process = Process::new("measure", &(["one", "three"], &lengths, &seen))?;
    process.start()?;
    println!("{} {}", lengths.get()?, lengths.get()?);
    process.join(None);
    println!("exit code {}, {} words", process.exit_code().unwrap_or_default(), seen.get());

    let pool = Pool::<u64, u64>::builder("square").width(2).start()?;
    println!("{:?}", pool.map(0..5)?);
    Ok(())
}
