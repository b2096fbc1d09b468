//! Finding programs, before anything is started.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// What a look for a program found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// This file can be executed.
    Found(PathBuf),
    /// This file is there and cannot be executed.
    NotExecutable(PathBuf),
    /// There is none.
    Missing,
}

/// Looks for a program as `execvp` does: a name with a slash is a path, from `cwd` on; any other is searched for
/// in the folders of `path`.
pub(crate) fn find_program(name: &str, path: Option<&OsStr>, cwd: &Path) -> Lookup {
    if name.contains('/') {
        return look_at(cwd.join(name));
    }
    // Without PATH, execvp(3) looks in these.
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    let mut second_best = Lookup::Missing;
    for folder in path.as_bytes().split(|&byte| byte == b':') {
        // An empty entry is the working directory.
        match look_at(cwd.join(OsStr::from_bytes(folder)).join(name)) {
            Lookup::Missing => {}
            Lookup::NotExecutable(file) => second_best = Lookup::NotExecutable(file),
            found @ Lookup::Found(_) => return found,
        }
    }
    second_best
}

fn look_at(file: PathBuf) -> Lookup {
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => Lookup::NotExecutable(file),
        Ok(_) if access(&file, AccessFlags::X_OK).is_ok() => Lookup::Found(file),
        Ok(_) => Lookup::NotExecutable(file),
        Err(_) => Lookup::Missing,
    }
}

/// Words at the start of a command that a POSIX shell does by itself (XCU 2.4 reserved words, 2.9.1, 2.14, and
/// the utilities that common shells have built in).
const SHELL_WORDS: [&str; 66] = [
    ".", ":", "[", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done", "echo", "elif",
    "else", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi", "for", "function",
    "getopts", "hash", "if", "in", "jobs", "kill", "let", "local", "printf", "pwd", "read", "readonly",
    "return", "select", "set", "shift", "source", "test", "then", "time", "times", "trap", "true", "type",
    "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "while", "declare", "builtin",
    "pushd", "popd", "dirs", "shopt", "suspend", "newgrp",
];

/// The program that a shell script starts with, where it is so simple that this is certain: plain words, no
/// quotes, no expansion, no operator, and not a word that the shell does by itself.
pub(crate) fn program_of_script(script: &str) -> Option<&str> {
    let first = script.split_ascii_whitespace().next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-,:@% \t".contains(c);
    (script.chars().all(is_plain) && !SHELL_WORDS.contains(&first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certain_program_of_a_script_is_named() {
        assert_eq!(program_of_script("sort -n"), Some("sort"));
        assert_eq!(program_of_script("  ./tool --x=1"), None, "an assignment or an option: not certain");
        for script in ["cd /tmp", "A=1 tool", "a | b", "$TOOL x", "f() { x; }", "'a b'", "", "a\nb", "# x"] {
            assert_eq!(program_of_script(script), None, "{script}");
        }
    }

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        let root = Path::new("/");
        assert_eq!(find_program("sh", Some(OsStr::new("/bin")), root), Lookup::Found("/bin/sh".into()));
        assert_eq!(find_program("bin/sh", None, root), Lookup::Found("/bin/sh".into()));
        assert_eq!(find_program("no-such-program", None, root), Lookup::Missing);
        assert_eq!(find_program("/etc/passwd", None, root), Lookup::NotExecutable("/etc/passwd".into()));
        assert_eq!(find_program("/bin", None, root), Lookup::NotExecutable("/bin".into()));
    }
}
