//! What workers use of the machine, from `/proc`, read by whoever asks and never by the run.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::report::{Snapshot, WorkerUsage};

/// Processes that are looked at below one worker at most.
const MOST_PROCESSES: usize = 1024;

/// Adds to a snapshot what its workers use.
pub(super) fn measure(snapshot: &mut Snapshot) {
    let slots = snapshot.stages.iter_mut().flat_map(|stage| &mut stage.slots);
    for slot in slots {
        slot.usage = slot.pid.and_then(of_tree);
    }
}

/// What a process and all that it has started use. `None` where it is gone.
fn of_tree(pid: i32) -> Option<WorkerUsage> {
    let mut all = of_process(pid)?;
    let mut below = children(pid);
    while let Some(child) = below.pop() {
        if all.processes >= MOST_PROCESSES {
            break;
        }
        let Some(usage) = of_process(child) else { continue };
        all.processes += 1;
        all.memory_bytes += usage.memory_bytes;
        all.cpu += usage.cpu;
        below.extend(children(child));
    }
    Some(all)
}

fn of_process(pid: i32) -> Option<WorkerUsage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let per_second =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok())?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok())?;
    parse(&stat, per_second, page)
}

/// The fields of proc(5): 14 to 17 are times in ticks, 24 is resident memory in pages. The name before them may hold
/// anything, so they are counted from its last parenthesis.
fn parse(stat: &str, ticks_per_second: u32, page: u64) -> Option<WorkerUsage> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks: u64 = [14, 15, 16, 17].into_iter().filter_map(field).sum();
    Some(WorkerUsage {
        processes: 1,
        memory_bytes: field(24)? * page,
        cpu: Duration::from_secs(ticks) / ticks_per_second.max(1),
    })
}

/// The children of all threads of a process; none on a kernel that does not list them.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_whatever_the_name_is() {
        let stat = "77 (a) b ( c) S 1 77 77 0 -1 4194304 1 2 3 4 150 50 25 25 20 0 1 0 9 99999 12 18446744073709551615";
        let usage = parse(stat, 100, 4096).unwrap();
        assert_eq!(
            usage,
            WorkerUsage { processes: 1, memory_bytes: 12 * 4096, cpu: Duration::from_millis(2500) }
        );
        assert_eq!(parse("no stat", 100, 4096), None);
    }

    #[test]
    fn this_process_uses_memory_and_one_that_is_not_there_is_not_known() {
        let own = of_tree(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.memory_bytes > 1 << 16 && own.processes >= 1);
        assert_eq!(of_tree(i32::MAX), None);
    }
}
