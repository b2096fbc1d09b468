//! The rows: what is done, by whom, and what is to be reached. The targets are those of the project's design.

mod each;
mod functions;
mod idle;
mod map;
mod pipe;
mod pool;
mod primitives;
mod recovery;
mod reload;
mod shared;
mod starts;
mod storm;
mod whole;

use crate::contest::Row;
pub(crate) use primitives::functions;

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    vec![
        Row { name: "pool of 2 cat, 1 GB of text lines", make: pool::text },
        Row { name: "the same, read by a source stage", make: pool::text_from_a_stage },
        Row { name: "pool of 2 cat, 10 million short lines", make: pool::short },
        Row { name: "pool of 2 mawk that compute", make: pool::computing },
        Row { name: "pipe edge, 1 GB", make: pipe::pipe },
        Row { name: "map, line in, line out, ordered", make: map::one },
        Row { name: "map, pool of 2, ordered", make: map::two },
        Row { name: "each, /bin/true for every line", make: each::captured },
        Row { name: "each, /bin/true, nothing captured", make: each::uncaptured },
        Row { name: "killed record's next start, each, median", make: recovery::each },
        Row { name: "killed record's next start, each, 99th percentile", make: recovery::each_at_worst },
        Row { name: "killed record's next start, the only map worker, median", make: recovery::only_map },
        Row {
            name: "killed record's next start, the only map worker, 99th percentile",
            make: recovery::only_map_at_worst,
        },
        Row { name: "killed record's next start, map, pool of 2, median", make: recovery::map_of_two },
        Row {
            name: "killed record's next start, map, pool of 2, 99th percentile",
            make: recovery::map_of_two_at_worst,
        },
        Row { name: "longest pause while a pool of 4 cat is reloaded", make: reload::stream },
        Row { name: "longest pause while a pool of 4 map workers is reloaded", make: reload::map },
        Row {
            name: "a save until it is in effect, the worst last one of ten bursts of ten",
            make: reload::save,
        },
        Row { name: "kill storm, a worker of 4 each 100 ms", make: storm::storm },
        Row { name: "whole run of two tiny stages", make: whole::tiny },
        Row { name: "Python, three stages of integers", make: functions::integers },
        Row { name: "Python, three stages of small objects", make: functions::objects },
        Row { name: "Python, NumPy arrays of 64 KiB", make: functions::small_arrays },
        Row { name: "Python, NumPy arrays of 16 MiB", make: functions::large_arrays },
        Row { name: "Python, round trip of a small record, idle", make: functions::round_trip },
        Row { name: "Python, a worker replaced, spawn", make: starts::spawn },
        Row { name: "Python, a worker replaced, forkserver", make: starts::forkserver },
        Row { name: "Python, a worker replaced, fork", make: starts::fork },
        Row { name: "Python, one with NumPy replaced, spawn", make: starts::spawn_numpy },
        Row { name: "Python, one with NumPy replaced, forkserver, preload", make: starts::forkserver_numpy },
        Row { name: "Python, one with NumPy replaced, fork", make: starts::fork_numpy },
        Row { name: "Python, 100 workers with NumPy up, spawn", make: starts::hundred_by_spawn },
        Row {
            name: "Python, 100 workers with NumPy up, forkserver, preload",
            make: starts::hundred_by_forkserver,
        },
        Row { name: "Python, 100 workers with NumPy up, fork", make: starts::hundred_by_fork },
        Row { name: "Python, memory of 100 workers with NumPy, spawn", make: starts::memory_by_spawn },
        Row {
            name: "Python, memory of 100 workers with NumPy, forkserver, preload",
            make: starts::memory_by_forkserver,
        },
        Row { name: "Python, memory of 100 workers with NumPy, fork", make: starts::memory_by_fork },
        Row { name: "Rust, a Pool at small tasks", make: primitives::pool },
        Row { name: "Rust, a Queue of 64-byte values", make: primitives::queue },
        Row { name: "Rust, a value through an idle Queue", make: primitives::latency },
        Row { name: "shared lock, acquired and released", make: shared::lock },
        Row { name: "shared lock, two that want it", make: shared::contended_lock },
        Row { name: "shared value, add", make: shared::value },
        Row { name: "shared value, two that add", make: shared::contended_value },
        Row { name: "memory, 2 idle workers", make: idle::two },
        Row { name: "memory, 100 idle workers", make: idle::hundred },
    ]
}
