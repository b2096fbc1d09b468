//! Who still holds an output open.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// A process that holds the other end of a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) command: String,
}

/// The first other process that has one of these pipes open. A look through `/proc`, only taken when an output
/// outlives its worker.
pub(crate) fn find_holder(pipes: &[i32]) -> Option<Holder> {
    let inode = |path: String| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let wanted: Vec<(u64, u64)> =
        pipes.iter().filter_map(|fd| inode(format!("/proc/self/fd/{fd}"))).collect();
    let own = i32::try_from(std::process::id()).ok();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in pids.filter(|pid: &i32| Some(*pid) != own) {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = entries.flatten().any(|entry| {
            fs::metadata(entry.path()).is_ok_and(|file| wanted.contains(&(file.dev(), file.ino())))
        });
        if holds {
            return Some(Holder { pid, command: command_line(pid) });
        }
    }
    None
}

/// A process's command line, its arguments separated by spaces; empty where it is gone.
pub(crate) fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")
}
