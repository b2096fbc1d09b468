//! Who is whose child.

use std::fs;

/// This process's children, as the kernel lists them: by thread, which costs the same however many processes the
/// machine has.
pub(super) fn children() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists: Option<Vec<String>> =
        threads.map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    match lists {
        Some(lists) if !lists.is_empty() => {
            lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
        }
        // A kernel without CONFIG_PROC_CHILDREN, or a thread that ended meanwhile: look at everybody's parent.
        _ => {
            let own = i32::try_from(std::process::id()).ok();
            processes().filter(|&pid| parent_of(pid) == own).collect()
        }
    }
}

/// All processes that this one can see.
pub(super) fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether a process has ended or is about to: its descriptors are closed before anybody is told that it has ended.
pub(crate) fn is_ending(pid: i32) -> bool {
    /// PF_EXITING, linux/sched.h.
    const EXITING: u64 = 4;
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let mut fields = stat[stat.rfind(')').map_or(0, |end| end + 1)..].split_whitespace();
    let state = fields.next().unwrap_or("X");
    // Field 9, of which field 3 was just read.
    let flags: u64 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    matches!(state, "Z" | "X") || flags & EXITING != 0
}

/// Field 4 of `/proc/PID/stat`; the name before it may hold anything, so count from its last parenthesis.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}
