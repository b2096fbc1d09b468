//! Values that may differ from worker to worker of one stage.

/// A value of a stage that may name the worker (`${{ worker.rank }}`).
///
/// The language evaluates it for every rank the pool can reach, so that the runtime needs no expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PerWorker<T> {
    /// Every worker has the same value.
    Same(T),
    /// Worker `i` has element `i`; never empty.
    ByRank(Vec<T>),
}

impl<T> PerWorker<T> {
    /// The value of the worker with this rank.
    ///
    /// # Panics
    ///
    /// If the value was made for fewer workers than `rank + 1`.
    pub(crate) fn get(&self, rank: usize) -> &T {
        match self {
            Self::Same(value) => value,
            Self::ByRank(values) => &values[rank],
        }
    }

    /// Every different value that was given, in the order of ranks.
    pub(crate) fn all(&self) -> &[T] {
        match self {
            Self::Same(value) => std::slice::from_ref(value),
            Self::ByRank(values) => values,
        }
    }
}

impl<T> From<T> for PerWorker<T> {
    fn from(value: T) -> Self {
        Self::Same(value)
    }
}
