//! The README is run: its files are written, its commands executed, and what they print compared with what it shows.
//!
//! `MPFLOW_UPDATE=1 cargo test --test readme` writes what is really printed into the README.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;
use support::path_with_python;
use tempfile::TempDir;

/// No command takes longer; `timeout` ends those that do, with this exit code.
const DEADLINE_SECONDS: &str = "60";
const TIMED_OUT: i32 = 124;

/// A part of the README between two fences.
struct Block {
    language: String,
    /// Its lines' numbers, from 0.
    start: usize,
    end: usize,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (number, line) in lines.iter().enumerate() {
        let Some(language) = line.strip_prefix("```") else { continue };
        open = match open {
            None => Some((language.to_owned(), number + 1)),
            Some((language, start)) => {
                blocks.push(Block { language, start, end: number });
                None
            }
        };
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// A folder with what the commands of the README may name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "pipelines", "schemas"] {
        symlink(repository().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// What one command prints, its standard output first, and its exit code. `$?` in it is that of the one before.
fn execute(command: &str, before: i32, folder: &Path) -> (Vec<String>, i32) {
    let binary = Path::new(env!("CARGO_BIN_EXE_mpflow")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), path_with_python());
    let output = Command::new("timeout")
        .args([DEADLINE_SECONDS, "/bin/sh", "-c", &format!("(exit {before}); {command}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("PWD", folder)
        .env("LC_ALL", "C.UTF-8")
        .env_remove("MPFLOW_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    assert_ne!(code, TIMED_OUT, "`{command}` does not end");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap().lines().map(str::to_owned).collect(), code)
}

/// What differs from run to run or from machine to machine, taken out: times, memory, which worker of a pool, how many
/// words each worker of `count` has met, and the widths of columns.
fn normalised(line: &str) -> String {
    let replacements = [
        (r"\b[\d.]+ (ns|µs|ms|s|min|m|h)\b", "TIME"),
        (r"\b[\d.]+ [KMG]iB\b", "SIZE"),
        (r"\b(work|square|name|count|root)/\d+\b", "$1/RANK"),
        (r"^(count|total) +\d .*", "$1 ROW"),
        (r" +", " "),
    ];
    replacements.iter().fold(line.to_owned(), |line, (pattern, with)| {
        Regex::new(pattern).unwrap().replace_all(&line, *with).trim_end().to_owned()
    })
}

/// The README with all outputs as they are. What differs only by what is normalised stays as it was.
fn as_printed(readme: &str) -> String {
    let lines: Vec<&str> = readme.lines().collect();
    let folder = folder();
    let mut result: Vec<String> = Vec::new();
    let mut next = 0;
    for block in blocks(&lines) {
        let shown = &lines[block.start..block.end];
        if matches!(block.language.as_str(), "yaml" | "python")
            && let Some(name) = shown.first().and_then(|line| line.strip_prefix("# "))
        {
            fs::write(folder.path().join(name), shown.join("\n") + "\n").unwrap();
        }
        if block.language != "console" {
            continue;
        }
        result.extend(lines[next..block.start].iter().map(|line| (*line).to_owned()));
        next = block.end;
        let mut code = 0;
        let mut rest = shown;
        while let Some((first, others)) = rest.split_first() {
            let command = first.strip_prefix("$ ").expect("a console block begins with a command");
            let length = others.iter().take_while(|line| !line.starts_with("$ ")).count();
            let (was, after) = others.split_at(length);
            let (printed, exit) = execute(command, code, folder.path());
            code = exit;
            result.push((*first).to_owned());
            let is_same =
                printed.iter().map(|line| normalised(line)).eq(was.iter().map(|line| normalised(line)));
            match is_same {
                true => result.extend(was.iter().map(|line| (*line).to_owned())),
                false => result.extend(printed.into_iter().map(|line| line.trim_end().to_owned())),
            }
            rest = after;
        }
    }
    result.extend(lines[next..].iter().map(|line| (*line).to_owned()));
    result.join("\n") + "\n"
}

#[test]
fn the_readme_shows_what_is_printed() {
    let path = repository().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let printed = as_printed(&readme);
    if std::env::var_os("MPFLOW_UPDATE").is_some() {
        return fs::write(path, printed).unwrap();
    }
    for (number, (shown, printed)) in readme.lines().zip(printed.lines()).enumerate() {
        assert_eq!(
            shown,
            printed,
            "README.md:{}: `MPFLOW_UPDATE=1 cargo test --test readme` brings it up to date",
            number + 1
        );
    }
    assert_eq!(readme, printed);
}

#[test]
fn the_readme_has_exactly_two_commands_for_a_fresh_machine() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let lines: Vec<&str> = readme.lines().collect();
    let commands: Vec<&str> = blocks(&lines)
        .into_iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| lines[block.start..block.end].to_vec())
        .collect();
    assert_eq!(commands, ["cargo run --release -- run pipelines/word-count.yaml", "cargo test"]);
}

#[test]
fn every_file_that_a_page_links_to_is_there() {
    let link = Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let mut pages = vec![repository().join("README.md"), repository().join("CHANGELOG.md")];
    pages.push(repository().join("pipelines/multiprocessing/README.md"));
    pages.extend(fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for found in link.captures_iter(&text) {
            let target = page.parent().unwrap().join(&found[1]);
            assert!(target.exists(), "{} links to {}, which is not there", page.display(), &found[1]);
        }
    }
}

#[test]
fn pictures_and_schema_are_those_that_the_program_makes() {
    for (args, file) in [
        (&["graph", "pipelines/access-log.yaml", "--format", "svg"][..], "docs/images/access-log.svg"),
        (&["schema"], "schemas/pipeline.schema.json"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mpflow"));
        let output = command.args(args).current_dir(repository()).output().unwrap();
        assert!(output.status.success());
        let path = repository().join(file);
        if std::env::var_os("MPFLOW_UPDATE").is_some() {
            fs::write(path, output.stdout).unwrap();
        } else {
            assert!(
                fs::read(path).unwrap() == output.stdout,
                "{file}: `mpflow {}` makes another",
                args.join(" ")
            );
        }
    }
}
