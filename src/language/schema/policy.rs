//! Maps inside of stages.

use schemars::JsonSchema;

use super::scalar::{
    Address, Count, Cpu, Duration, Either, Factor, FullText, LooseText, Nice, Part, RestartPolicy,
    RestartScope, SignalName, Size, Some1, Url, Width, Yes,
};

/// A pool that grows with a full input queue and shrinks after idling.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("required" = ["max"]))]
pub(super) struct Pool {
    /// Workers at the start, and when idle.
    #[schemars(extend("default" = 1))]
    min: Width,
    /// Workers at most.
    max: Width,
}

/// How many records are handed over together.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("anyOf" = [{"required": ["size"]}, {"required": ["bytes"]}]))]
pub(super) struct Batch {
    /// Records at most.
    size: Count,
    /// Bytes at most; one record at least.
    bytes: Size,
    /// How long they are gathered at most.
    wait: Duration,
}

/// How often one record is tried.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Retry {
    /// Attempts in all.
    #[schemars(extend("default" = 1))]
    attempts: Count,
    /// The wait before the second attempt.
    #[schemars(extend("default" = "0s"))]
    delay: Duration,
    /// Every further wait is this many times the one before.
    #[schemars(extend("default" = 2))]
    factor: Factor,
    /// No wait is longer.
    #[schemars(extend("default" = "60s"))]
    max_delay: Duration,
}

/// What happens when a worker dies.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Restart {
    /// When a worker is started again.
    #[schemars(extend("default" = "on-failure"))]
    policy: RestartPolicy,
    /// More restarts than this within the window fail the stage.
    #[schemars(extend("default" = 5))]
    max: Count,
    /// The window.
    #[schemars(extend("default" = "60s"))]
    within: Duration,
    /// The waits before restarts.
    backoff: Backoff,
    /// What restarts together: the worker, the whole pool, the stage and all that it feeds, or everything.
    #[schemars(extend("default" = "worker"))]
    scope: RestartScope,
}

/// The waits before restarts.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Backoff {
    /// Before the first restart.
    #[schemars(extend("default" = "100ms"))]
    initial: Duration,
    /// Every further wait is this many times the one before.
    #[schemars(extend("default" = 2))]
    factor: Factor,
    /// No wait is longer.
    #[schemars(extend("default" = "10s"))]
    max: Duration,
    /// The part of a wait by which it is changed at random.
    #[schemars(extend("default" = 0.1))]
    jitter: Part,
}

/// How workers are ended.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Stop {
    /// The polite signal.
    #[schemars(extend("default" = "SIGTERM"))]
    signal: SignalName,
    /// The time between the polite signal and SIGKILL.
    #[schemars(extend("default" = "10s"))]
    grace: Duration,
}

/// Resource limits of each worker.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Address space.
    memory: Size,
    /// Open descriptors.
    open_files: Count,
    /// Processor time, in whole seconds.
    cpu_time: Duration,
    /// Scheduling priority, from -20 (first) to 19 (last).
    nice: Nice,
    /// The processors it may use.
    cpus: Some1<Cpu>,
}

/// A text for the shell, or a list of a program and its arguments.
pub(super) type Command = Either<FullText, Some1<LooseText>>;

/// How a worker is known to be ready: exactly one kind of look.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("oneOf" = [
    {"required": ["tcp"]}, {"required": ["http"]}, {"required": ["command"]}, {"required": ["log"]},
    {"required": ["notify"]}
]))]
pub(super) struct Ready {
    /// A connection to `HOST:PORT` succeeds.
    tcp: Address,
    /// A GET of this URL is answered by a status below 400.
    http: Url,
    /// This command exits with 0.
    command: Command,
    /// A line of its output or standard error matches this regular expression.
    log: FullText,
    /// The worker says so itself.
    notify: Yes,
    /// The time between two looks.
    #[schemars(extend("default" = "1s"))]
    interval: Duration,
    /// The time for one look.
    #[schemars(extend("default" = "1s"))]
    timeout: Duration,
    /// So many failed looks in a row count as not ready any more.
    #[schemars(extend("default" = 3))]
    failures: Count,
}
