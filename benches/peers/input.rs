//! Generated inputs, and a sum of records that does not depend on their order.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::contest::Context;

/// Room that the inputs need, with some to spare.
const NEEDED_BYTES: u64 = 3 << 30;

/// A folder in memory where that has room, so that no disk is measured; else where temporary files are.
pub(crate) fn folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    let has_room = nix::sys::statvfs::statvfs(shared)
        .is_ok_and(|at| at.blocks_available() * at.fragment_size() > NEEDED_BYTES);
    let in_memory = has_room.then(|| TempDir::with_prefix_in("mpflow-bench-", shared).ok()).flatten();
    in_memory.unwrap_or_else(|| TempDir::with_prefix("mpflow-bench-").unwrap())
}

/// Text lines of 11 to 130 bytes, each with its number, so that no two are the same.
pub(crate) fn text(context: &Context, bytes: u64) -> PathBuf {
    const WORDS: [&str; 12] =
        ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "pipelines", "flow"];
    make(context, &format!("text-{bytes}"), |out| {
        let mut random = fastrand::Rng::with_seed(1);
        let mut line = String::new();
        let (mut written, mut number) = (0, 0u64);
        while written < bytes {
            number += 1;
            line.clear();
            line.push_str(&format!("{number:09}"));
            for _ in 0..random.usize(0..20) {
                line.push(' ');
                line.push_str(WORDS[random.usize(0..WORDS.len())]);
            }
            line.push('\n');
            written += line.len() as u64;
            out.write_all(line.as_bytes()).unwrap();
        }
    })
}

/// The numbers from 1 on, one a line; 10 million are 79 MB.
pub(crate) fn numbers(context: &Context, from: u64, to: u64) -> PathBuf {
    make(context, &format!("numbers-{from}-{to}"), |out| {
        for number in from..=to {
            writeln!(out, "{number}").unwrap();
        }
    })
}

fn make(context: &Context, name: &str, write: impl FnOnce(&mut BufWriter<File>)) -> PathBuf {
    let path = context.folder().join(name);
    if !path.exists() {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
        write(&mut out);
        out.flush().unwrap();
    }
    path
}

/// How many lines, and a sum over them that is the same in every order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    /// Whether each was greater than the one before, read as a number.
    pub(crate) ascending: bool,
}

impl Lines {
    pub(crate) fn of(from: impl Read) -> Self {
        let mut from = BufReader::with_capacity(1 << 20, from);
        let (mut count, mut sum, mut last, mut ascending) = (0, 0u64, 0, true);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).unwrap() > 0 {
            let mut hasher = DefaultHasher::new();
            hasher.write(&line);
            sum = sum.wrapping_add(hasher.finish());
            count += 1;
            let digits = line.iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
            ascending &= number > last;
            last = number;
            line.clear();
        }
        Self { count, sum, ascending }
    }

    pub(crate) fn in_file(path: &Path) -> Self {
        Self::of(File::open(path).unwrap())
    }
}
