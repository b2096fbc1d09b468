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
