//! Every key of the language, by the object it stands in. The schema is tested against these.

pub(crate) const TOP: &[&str] = &[
    "version",
    "name",
    "description",
    "vars",
    "env",
    "env_file",
    "defaults",
    "stages",
    "edges",
    "shared",
    "stop",
];

/// The bodies: a stage has exactly one.
pub(in crate::language) const BODIES: &[&str] = &["command", "python", "function"];

pub(crate) const STAGE: &[&str] = &[
    "command",
    "python",
    "function",
    "mode",
    "pool",
    "ordered",
    "daemon",
    "start_method",
    "preload",
    "python_executable",
    "initializer",
    "args",
    "kwargs",
    "unpack",
    "env",
    "cwd",
    "inherit_env",
    "stdin",
    "stdout",
    "prefetch",
    "batch",
    "max_records_per_worker",
    "record_timeout",
    "retry",
    "on_error",
    "restart",
    "on_failure",
    "depends_on",
    "ready",
    "timeout",
    "line_buffered",
    "success_exit",
    "exclusive",
    "stop",
    "limits",
    "stderr",
    "watch",
];

/// The key of `defaults` that is not one of a stage.
pub(in crate::language) const FORMAT: &str = "format";

/// The keys of `defaults`.
pub(in crate::language) fn defaults() -> Vec<&'static str> {
    STAGE.iter().filter(|key| !BODIES.contains(key)).chain([&FORMAT]).copied().collect()
}

pub(crate) const QUEUE: &[&str] =
    &["queue", "format", "capacity", "capacity_bytes", "max_record", "when_full", "partition_by", "to_each"];

pub(in crate::language) const PIPE: &[&str] = &["pipe", "duplex", "size"];

/// The keys of an edge of either kind.
pub(in crate::language) fn edge() -> Vec<&'static str> {
    QUEUE.iter().chain(PIPE).copied().collect()
}

pub(in crate::language) const POOL: &[&str] = &["min", "max"];
pub(in crate::language) const BATCH: &[&str] = &["size", "bytes", "wait"];
pub(in crate::language) const RETRY: &[&str] = &["attempts", "delay", "factor", "max_delay"];
pub(in crate::language) const RESTART: &[&str] = &["policy", "max", "within", "backoff", "scope"];
pub(in crate::language) const BACKOFF: &[&str] = &["initial", "factor", "max", "jitter"];
pub(in crate::language) const STOP: &[&str] = &["signal", "grace"];
pub(in crate::language) const LIMITS: &[&str] = &["memory", "open_files", "cpu_time", "nice", "cpus"];

/// The kinds of probes: one has exactly one.
pub(in crate::language) const PROBES: &[&str] = &["tcp", "http", "command", "log", "notify"];
pub(in crate::language) const READY: &[&str] =
    &["tcp", "http", "command", "log", "notify", "interval", "timeout", "failures"];

/// The kinds of shared objects: one has exactly one.
pub(in crate::language) const SHARED_KINDS: &[&str] =
    &["value", "array", "lock", "semaphore", "event", "barrier", "dict"];
pub(in crate::language) const SHARED: &[&str] =
    &["value", "initial", "array", "length", "lock", "semaphore", "event", "barrier", "dict"];
