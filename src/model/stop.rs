//! How a run is ended.

/// How strongly a run is to be ended. A stronger request replaces a weaker one; a weaker one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Sources are stopped, everything in flight drains.
    Drain,
    /// All workers get their stop signal, then SIGKILL after the grace period.
    Terminate,
    /// SIGKILL at once.
    Kill,
}
