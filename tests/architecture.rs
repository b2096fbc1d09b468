//! Imports point downwards only: the picture in the style guide, kept by a test. And one clock for all deadlines.
//!
//! ```text
//! 4  pipeline < engine < multiprocessing < lib
//! 3  language  observe  explain  control  watch
//! 2  runtime  worker  conformance
//! 1  graph  process  ipc  sdk  shared
//! 0  sys  model < report, explanation < change < event
//! ```
//!
//! A module imports only from smaller numbers, so that neighbours do not know each other. The command line is a
//! module of the binary and sees only the public API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer, and height within it: plain data has an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Level(u8, u8);

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "layer {}", self.0),
            height => write!(f, "layer {}.{height}", self.0),
        }
    }
}

const LEVELS: [(&str, Level); 23] = [
    ("sys", Level(0, 0)),
    ("model", Level(0, 0)),
    ("report", Level(0, 1)),
    ("explanation", Level(0, 1)),
    ("change", Level(0, 2)),
    ("event", Level(0, 3)),
    ("graph", Level(1, 0)),
    ("process", Level(1, 0)),
    ("ipc", Level(1, 0)),
    ("sdk", Level(1, 0)),
    ("shared", Level(1, 0)),
    ("runtime", Level(2, 0)),
    ("worker", Level(2, 0)),
    ("conformance", Level(2, 0)),
    ("language", Level(3, 0)),
    ("observe", Level(3, 0)),
    ("explain", Level(3, 0)),
    ("control", Level(3, 0)),
    ("watch", Level(3, 0)),
    ("pipeline", Level(4, 0)),
    ("engine", Level(4, 1)),
    ("multiprocessing", Level(4, 2)),
    ("lib", Level(4, 3)),
];

fn level(module: &str) -> Option<Level> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|&(_, level)| level)
}

/// The parts of the binary, which are not parts of the library.
const BINARY: [&str; 2] = ["main", "cli"];

/// What one file says about others.
struct File {
    /// From the crate's root: `language::tree::build` for `src/language/tree/build.rs`.
    module: Vec<String>,
    path: PathBuf,
    text: String,
}

impl File {
    fn new(src: &Path, path: PathBuf) -> Self {
        let relative = path.strip_prefix(src).expect("every file lies in src").with_extension("");
        let mut module: Vec<String> =
            relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let text = fs::read_to_string(&path).unwrap();
        Self { module, path, text }
    }

    fn top(&self) -> &str {
        &self.module[0]
    }

    /// The top modules that it names, with the line of each.
    fn imports(&self) -> Vec<(usize, String)> {
        let code = without_comments(&self.text);
        let mut found = names_after(&code, "crate::");
        // As many `super::` as the module is deep lead to the root as well.
        let to_root = "super::".repeat(if self.top() == "lib" { 0 } else { self.module.len() });
        if !to_root.is_empty() {
            let known = |(_, name): &(usize, String)| level(name).is_some();
            found.extend(names_after(&code, &to_root).into_iter().filter(known));
        }
        found
    }
}

/// The text with line comments blanked, so that prose in them names nothing; lines stay where they are.
fn without_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    lines.join("\n")
}

/// The names that follow this prefix: one, or those of a group in braces that are not within another.
fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        // `my_crate::` and `super::super::` end with the prefix too.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$')
            || code[..at].ends_with("super::")
        {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => found.extend(first_name(rest).map(|name| (line, name))),
            Some(group) => found.extend(group_names(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    // What begins with a capital is a re-export of the crate's root, and so of its face.
    match name.chars().next() {
        None => None,
        Some(first) if first.is_uppercase() => Some("lib".to_owned()),
        Some(_) => Some(name),
    }
}

fn group_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            char if depth == 0 => parts.last_mut().expect("never empty").push(char),
            _ => {}
        }
    }
    parts.iter().filter_map(|part| first_name(part.trim())).collect()
}

/// What is wrong with one import, if anything is.
fn complaint(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    if BINARY.contains(&from) {
        let is_own = BINARY.contains(&to);
        return (!is_own).then(|| {
            format!("`{from}` belongs to the binary and names `crate::{to}`; it may use only `mpflow::`")
        });
    }
    let missing = |name: &str| format!("`{name}` has no layer yet: give it one in tests/architecture.rs");
    let Some(own) = level(from) else { return Some(missing(from)) };
    // A function or macro of the root, such as `crate::init`, belongs to the crate's face.
    let Some(other) = level(to) else { return Some(missing(to)) };
    (other >= own).then(|| {
        format!("`{from}` ({own}) imports `{to}` ({other}); a module imports only from smaller numbers")
    })
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_module_imports_only_from_smaller_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 10, "the sources are where this test looks for them");
    let mut complaints = Vec::new();
    for file in paths.into_iter().map(|path| File::new(&src, path)) {
        for (line, name) in file.imports() {
            if let Some(complaint) = complaint(file.top(), &name) {
                let path = file.path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
                complaints.push(format!("{path}:{line}: {complaint}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Files of the runtime that read the machine's clock, and what for. All others ask the run's, which stands still while
/// the run is suspended.
const REAL_TIME: [&str; 5] = [
    // That clock.
    "run/time.rs",
    // What is told of the run: since when it runs, and how often news are sent.
    "run/mod.rs",
    "run/tell.rs",
    "run/look.rs",
    // When a thread that probes began to look.
    "run/ready.rs",
];

#[test]
fn a_deadline_of_the_run_is_a_moment_of_its_own_clock() {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/runtime");
    let mut paths = Vec::new();
    rust_files(&runtime, &mut paths);
    for path in paths.iter().filter(|path| !REAL_TIME.iter().any(|file| path.ends_with(file))) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let reads = ["Instant::now", ".elapsed("].iter().any(|call| without_comments(code).contains(call));
        assert!(
            !reads
                || path.to_string_lossy().ends_with("tests.rs")
                || path.components().any(|part| part.as_os_str() == "tests"),
            "{} reads the machine's clock",
            path.display()
        );
    }
}

#[test]
fn an_import_that_points_up_or_sideways_is_found() {
    assert_eq!(complaint("runtime", "graph"), None);
    assert_eq!(complaint("event", "report"), None);
    let upwards = complaint("graph", "language").unwrap();
    assert!(upwards.contains("`graph` (layer 1) imports `language` (layer 3)"), "{upwards}");
    assert!(complaint("ipc", "process").is_some());
    assert!(complaint("model", "event").is_some());
    assert!(complaint("cli", "engine").unwrap().contains("only `mpflow::`"));
    assert_eq!(complaint("main", "cli"), None);
}

#[test]
fn every_way_to_write_an_import_is_read() {
    let file = |module: &[&str], text: &str| File {
        module: module.iter().map(|&part| part.to_owned()).collect(),
        path: PathBuf::new(),
        text: text.to_owned(),
    };
    let names = |file: File| file.imports().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    let grouped = "use crate::{\n    model::{Exit, Signal},\n    graph, Run,\n};\n";
    assert_eq!(names(file(&["language"], grouped)), ["model", "graph", "lib"]);
    let inline = "fn f(x: crate::model::Exit) {} // crate::sys\nuse super::super::graph::Plan;";
    assert_eq!(names(file(&["language", "tree"], inline)), ["model", "graph"]);
    let lines = file(&["language"], "\n\nuse crate::sys::x;").imports();
    assert_eq!(lines, [(3, "sys".to_owned())]);
}

#[test]
fn no_timer_asks_the_wall_clock() {
    // Somebody may set it by an hour, and a restart or a timeout must not notice.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders: Vec<PathBuf> =
        ["runtime", "process", "ipc", "sys", "engine"].iter().map(|name| root.join(name)).collect();
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            looked_at += 1;
            let text = fs::read_to_string(&path).unwrap();
            for clock in ["SystemTime", "CLOCK_REALTIME", "Timestamp::now", "gettimeofday"] {
                assert!(!text.contains(clock), "{} asks `{clock}`", path.display());
            }
        }
    }
    assert!(looked_at > 30, "{looked_at} files");
}

/// Crates that the library is made of and that no program which uses it should have to know.
const INSIDE: [&str; 12] = [
    "bytes",
    "dotenvy",
    "granit_parser",
    "libc",
    "minijinja",
    "nix",
    "notify",
    "petgraph",
    "rmp_serde",
    "rustix",
    "serde_yaml",
    "uuid",
];

/// The names that a file imports from crates of the inside, those crates' own among them.
fn names_from_inside(code: &str) -> Vec<String> {
    let mut names: Vec<String> = INSIDE.iter().map(|name| format!("{name}::")).collect();
    for statement in code.split("use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        if INSIDE.iter().any(|name| statement.starts_with(&format!("{name}::"))) {
            // `Watcher as _` brings no name in, and `Event as NotifyEvent` that one.
            let parts = statement.split([',', '{', '}']).map(str::trim);
            let named = parts.map(|part| part.rsplit(" as ").next().unwrap_or(part));
            let last = named.map(|part| part.rsplit("::").next().unwrap_or(part));
            let types = last.filter(|word| word.starts_with(char::is_uppercase));
            names.extend(types.map(str::to_owned));
        }
    }
    names
}

/// What a file shows to the outside: each item or field that is `pub`, up to its body or its end.
fn shown(code: &str) -> Vec<&str> {
    let mut shown = Vec::new();
    for (at, _) in code.match_indices("pub ") {
        let before = &code[..at];
        if !before.is_empty() && !before.ends_with(char::is_whitespace) {
            continue;
        }
        let rest = &code[at..];
        let ends = if rest.starts_with("pub fn") { &['{', ';'][..] } else { &['{', ';', '\n'][..] };
        shown.push(rest.split(ends).next().unwrap_or_default());
    }
    shown
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !(char.is_alphanumeric() || char == '_'))
}

#[test]
fn what_the_crate_shows_names_no_crate_of_its_inside() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    let mut complaints = Vec::new();
    for path in paths.iter().filter(|path| !path.starts_with(src.join("cli"))) {
        let code = without_comments(&fs::read_to_string(path).unwrap());
        let inside = names_from_inside(&code);
        for item in shown(&code) {
            let is_inside = |name: &String| {
                item.contains(name.as_str()) && (name.ends_with("::") || words(item).any(|word| word == name))
            };
            if let Some(name) = inside.iter().find(|name| is_inside(name)) {
                complaints.push(format!("{}: `{}` names `{name}`", path.display(), item.trim()));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_crate_shows_what_is_meant_to_be_used_and_no_more() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let hidden = ["graph", "model", "runtime", "process", "ipc", "sys", "sdk", "engine", "explain", "worker"];
    assert!(modules.contains(&"pipeline") && modules.contains(&"report"), "{modules:?}");
    for module in hidden {
        assert!(!modules.contains(&module), "`{module}` is of the inside: re-export what of it is meant");
    }
}

#[test]
fn a_type_of_the_inside_in_a_signature_is_found() {
    let renamed = names_from_inside("use notify::{Event as Change, Watcher as _};");
    assert_eq!(renamed[renamed.len() - 1], "Change");
    let code = "use nix::unistd::{Pid, getpid};\npub fn wait(pid: Pid,\n    x: u8) -> u8 {\n}\npub(crate) fn own(pid: Pid) {}\n";
    assert!(names_from_inside(code).contains(&"Pid".to_owned()));
    assert_eq!(shown(code), ["pub fn wait(pid: Pid,\n    x: u8) -> u8 "]);
}
