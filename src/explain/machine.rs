//! The limits of this machine, for this process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{geteuid, getuid};

use crate::explanation::Machine;

impl Machine {
    /// What holds for this process at this moment. What cannot be read counts as no limit.
    pub fn of_this_process() -> Self {
        let limits = Self::limits();
        Self { processes_in_use: limits.processes.map_or(0, |_| tasks_of_this_user()), ..limits }
    }

    /// The limits alone, without a look at all processes.
    pub(crate) fn limits() -> Self {
        let is_root = geteuid().is_root();
        let (soft, hard) = limit(Resource::RLIMIT_NOFILE);
        let processes = limit(Resource::RLIMIT_NPROC).0.filter(|_| !is_root);
        let for_users = |name: &str| number(&format!("/proc/sys/fs/{name}")).filter(|_| !is_root);
        Self {
            open_files_soft: soft,
            open_files_hard: hard,
            processes,
            processes_in_use: 0,
            pipe_max_bytes: for_users("pipe-max-size"),
            // 0 is no limit, pipe(7).
            pipe_user_pages: for_users("pipe-user-pages-soft").filter(|&pages| pages > 0),
            memory_bytes: memory(),
        }
    }
}

fn limit(resource: Resource) -> (Option<u64>, Option<u64>) {
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    getrlimit(resource).map_or((None, None), |(soft, hard)| (finite(soft), finite(hard)))
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What the kernel counts against `RLIMIT_NPROC`: threads, of the real user.
fn tasks_of_this_user() -> u64 {
    let user = getuid().as_raw();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == user))
        .map(|entry| fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64))
        .sum()
}
