//! Every word of the language, by the key it is a value of. The schema lists the same.

use crate::model::{
    DependencyState, Format, Mode, OnError, OnFailure, RestartPolicy, RestartScope, StartMethod, WhenFull,
};

/// Words and what they mean.
pub(in crate::language) type Words<T, const N: usize> = [(&'static str, T); N];

pub(in crate::language) const MODES: Words<Mode, 3> =
    [("stream", Mode::Stream), ("map", Mode::Map), ("each", Mode::Each)];

pub(in crate::language) const START_METHODS: Words<StartMethod, 3> =
    [("spawn", StartMethod::Spawn), ("fork", StartMethod::Fork), ("forkserver", StartMethod::Forkserver)];

pub(in crate::language) const ON_ERROR: Words<OnError, 2> =
    [("fail", OnError::Fail), ("skip", OnError::Skip)];

pub(in crate::language) const ON_FAILURE: Words<OnFailure, 2> =
    [("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];

pub(in crate::language) const POLICIES: Words<RestartPolicy, 3> = [
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
];

pub(in crate::language) const SCOPES: Words<RestartScope, 4> = [
    ("worker", RestartScope::Worker),
    ("stage", RestartScope::Stage),
    ("downstream", RestartScope::Downstream),
    ("pipeline", RestartScope::Pipeline),
];

pub(in crate::language) const STATES: Words<DependencyState, 3> = [
    ("started", DependencyState::Started),
    ("ready", DependencyState::Ready),
    ("finished", DependencyState::Finished),
];

pub(in crate::language) const FORMATS: Words<Format, 6> = [
    ("lines", Format::Lines),
    ("json", Format::Json),
    ("nul", Format::Nul),
    ("frames", Format::Frames),
    ("msgpack", Format::Msgpack),
    ("pickle", Format::Pickle),
];

pub(in crate::language) const WHEN_FULL: Words<WhenFull, 3> = [
    ("block", WhenFull::Block),
    ("drop_newest", WhenFull::DropNewest),
    ("drop_oldest", WhenFull::DropOldest),
];

/// The types of shared values and of the elements of shared arrays.
pub(in crate::language) const ELEMENTS: Words<&str, 4> =
    [("i64", "i64"), ("u64", "u64"), ("f64", "f64"), ("bool", "bool")];

/// `` `a`, `b` or `c` ``.
pub(super) fn listed<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
