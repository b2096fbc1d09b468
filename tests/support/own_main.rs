//! Tests of the crate itself, in programs whose `main` begins with `mpflow::init`, which libtest's does not.
//!
//! Takes the arguments of `cargo test -- …` that people use: parts of names, `--exact`, `--list`, `--skip PART`,
//! `--test-threads N`, `--nocapture`.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A test that takes longer hangs: it is named, and all fails.
const DEADLINE: Duration = Duration::from_secs(600);

/// A name that is a sentence, and what shows that it is true.
pub(crate) type Test = (&'static str, fn());

/// Lists tests by their functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn())),*]
    };
}

/// What the command line says.
#[derive(Default)]
struct Choice {
    parts: Vec<String>,
    skipped: Vec<String>,
    is_exact: bool,
    threads: Option<usize>,
}

impl Choice {
    fn takes(&self, name: &str) -> bool {
        let matches = |part: &String| if self.is_exact { name == part } else { name.contains(part.as_str()) };
        (self.parts.is_empty() || self.parts.iter().any(matches)) && !self.skipped.iter().any(matches)
    }
}

/// Runs the tests that the command line names, as many at once as there are processors, and says what came of each.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let mut choice = Choice::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => {
                tests.iter().for_each(|(name, _)| println!("{name}: test"));
                return ExitCode::SUCCESS;
            }
            "--exact" => choice.is_exact = true,
            "--skip" => choice.skipped.extend(args.next()),
            "--test-threads" => choice.threads = args.next().and_then(|number| number.parse().ok()),
            option if option.starts_with('-') => {}
            _ => choice.parts.push(arg),
        }
    }
    let chosen: Vec<Test> = tests.iter().copied().filter(|(name, _)| choice.takes(name)).collect();
    let threads =
        choice.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let running = Arc::default();
    watch(Arc::clone(&running));
    println!("\nrunning {} tests", chosen.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, test)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    running.lock().unwrap().push((*name, Instant::now()));
                    let is_right = panic::catch_unwind(AssertUnwindSafe(test)).is_ok();
                    running.lock().unwrap().retain(|(of, _)| of != name);
                    println!("test {name} ... {}", if is_right { "ok" } else { "FAILED" });
                    if !is_right {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let left_out = tests.len() - chosen.len();
    let passed = chosen.len() - failed.len();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {} failed; {left_out} filtered out", failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends this program when a test hangs.
fn watch(running: Arc<Mutex<Vec<(&'static str, Instant)>>>) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let hangs = running
                .lock()
                .unwrap()
                .iter()
                .find(|(_, since)| since.elapsed() > DEADLINE)
                .map(|(name, _)| *name);
            if let Some(name) = hangs {
                println!("test {name} ... FAILED: it has not ended within {DEADLINE:?}");
                std::process::exit(1);
            }
        }
    });
}
