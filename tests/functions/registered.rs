//! The functions of this program.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mpflow::{Functions, Records, worker};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Counts how often this process has made a state, and what it had before `init`.
static MADE: AtomicU64 = AtomicU64::new(0);
pub(crate) static BEFORE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, thiserror::Error)]
#[error("cannot use the line")]
struct Useless(#[from] std::num::ParseIntError);

#[derive(Debug, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: i64,
    #[serde(default)]
    by: String,
}

/// What serde calls bytes, which are `bytes` in Python; a `Vec<u8>` is a list of numbers.
#[derive(Debug)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A list of numbers is read from bytes as well.
        Vec::deserialize(deserializer).map(Self)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Large {
    text: String,
    bytes: Octets,
}

fn me() -> &'static mpflow::Worker {
    worker().unwrap()
}

/// Only the first worker that comes here does it.
fn once(name: &str) -> bool {
    fs::File::options().write(true).create_new(true).open(name).is_ok()
}

pub(crate) fn functions() -> Functions {
    // What is computed before `init` is there in a fork and in no other worker, since those begin again from here: the
    // process that this test program is started as says so in its environment.
    if std::env::var_os("MPFLOW_WORKER").is_none() && std::env::args().nth(1).is_some() {
        BEFORE.store(std::process::id().into(), Ordering::Relaxed);
    }
    let functions = Functions::new()
        .map("double", |number: u64| number * 2)
        .map("same", |value: serde_json::Value| value)
        .map("sink", |_: String| ())
        .map("bytes", |mut bytes: Vec<u8>| {
            bytes.reverse();
            bytes
        })
        .flat_map("words", |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .flat_map("many", |count: u64| 0..count)
        .try_map("parse", |line: String| line.parse::<u32>().map_err(Useless::from))
        .map("divide", |number: u64| 100 / number)
        .map("mirror", |point: Point| Point { x: point.y, y: point.x, by: "Rust".to_owned() })
        .map("turn", |Large { text, bytes: Octets(mut bytes) }: Large| {
            bytes.reverse();
            Large { text: text.chars().rev().collect(), bytes: Octets(bytes) }
        })
        .map_with(
            "state",
            || Ok::<_, String>(MADE.fetch_add(1, Ordering::Relaxed)),
            |state, _: String| format!("{} {state}", me().name()),
        )
        .try_map_with(
            "no_state",
            || Err::<u32, _>("there is no model"),
            |_, line: String| Ok::<_, String>(line),
        )
        .map_with(
            "scaled",
            || me().kwarg::<f64>("factor"),
            |factor, number: f64| {
                (number * *factor, me().arg::<String>(0).map_err(|error| error.to_string()))
            },
        )
        .map("join", |lines: Vec<String>| format!("{}:{}", lines.len(), lines.join("+")))
        .flat_map("ports", |number: u64| {
            if number.is_multiple_of(2) {
                me().emit("even", &number).unwrap();
            }
            (number % 2 == 1).then_some(number)
        })
        .map("no_port", |_: String| me().emit("evn", &1).unwrap_err().to_string())
        .map("slow", |line: String| {
            if line == "wait" {
                while !Path::new("go").exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            line
        })
        .stream("sum", |numbers: Records<u64>| [numbers.sum::<u64>()])
        .stream("upper", |lines: Records<String>| lines.map(|line| line.to_uppercase()))
        .try_stream("up_to_three", |lines: Records<u64>| {
            lines.map(|number| if number > 3 { Err("more than three") } else { Ok(number) })
        })
        .stream("panics_at_two", |lines: Records<u64>| lines.inspect(|&number| assert!(number != 2, "two")))
        .source("numbers", || 0..me().arg::<u64>(0).unwrap_or(10))
        .source("kept", || {
            println!("printed, and no record");
            [BEFORE.load(Ordering::Relaxed)]
        });
    let functions = conformance(functions);
    crate::pools::functions(crate::primitives::functions(odd(functions)))
}

/// What `mpflow conformance` asks for.
fn conformance(functions: Functions) -> Functions {
    functions
        .map("echo", |text: String| text)
        .flat_map("twice", |text: String| [text.clone(), text])
        .flat_map("nothing", |_: String| None::<String>)
        .try_map("fail", |_: String| Err::<(), _>("it fails"))
        .flat_map("batch", |texts: Vec<String>| texts)
        .stream("stream", |texts: Records<String>| texts)
        .try_stream("fail_stream", |mut texts: Records<String>| {
            texts.next().map(|_| Err::<String, _>("it fails"))
        })
        .source("count", || (0..me().arg::<u64>(0).unwrap_or(1)).map(|number| number.to_string()))
}

/// Workers that come to a bad end, or tell about themselves.
fn odd(functions: Functions) -> Functions {
    functions
        .map("killed_once", |number: u64| {
            if number.is_multiple_of(100) && once(&format!("killed-{number}")) {
                kill_self();
            }
            number
        })
        .map("exit", |code: i32| -> i32 { std::process::exit(code) })
        .map("kill", |_: String| kill_self())
        .source("tell", || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            [field("SigBlk"), field("SigIgn")]
        })
        .map("open", |_: String| {
            let mut kinds: Vec<String> = fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
                .map(|path| path.to_string_lossy().into_owned())
                .filter(|path| !path.starts_with("/proc/"))
                .map(|path| path.split([':', ' ']).next().unwrap().to_owned())
                .collect();
            kinds.sort();
            kinds.join(" ")
        })
        .source("who", || {
            let limits = fs::read_to_string("/proc/self/limits").unwrap();
            let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
            let files = files.split_whitespace().nth(3).unwrap().to_owned();
            let folder = std::env::current_dir().unwrap();
            let pgrp = nix::unistd::getpgrp() == nix::unistd::getpid();
            [format!(
                "{} {} {} {} {} {files} {pgrp} {}",
                me().name(),
                me().rank(),
                me().pool(),
                me().stage(),
                std::env::var("COLOUR").unwrap_or_default(),
                folder.file_name().unwrap().to_string_lossy(),
            )]
        })
}

fn kill_self() {
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).unwrap();
}
