//! An object that all workers share, said in code.

use serde::Serialize;

use super::builder::json;
use super::part::number;
use crate::language::write::Yaml;

/// One object that all workers of a run share. See [`crate::shared`] for what workers do with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared(pub(super) Yaml);

fn value(element: &str, initial: serde_json::Value) -> Shared {
    Shared(Yaml::map([("value", Some(Yaml::text(element))), ("initial", Some(initial.into()))]))
}

fn array(element: &str, length: u64) -> Shared {
    Shared(Yaml::map([("array", Some(Yaml::text(element))), ("length", Some(number(length)))]))
}

fn one(key: &str, value: Yaml) -> Shared {
    Shared(Yaml::map([(key, Some(value))]))
}

impl Shared {
    /// A signed number and its first value.
    pub fn i64(initial: i64) -> Self {
        value("i64", initial.into())
    }

    /// An unsigned number and its first value.
    pub fn u64(initial: u64) -> Self {
        value("u64", initial.into())
    }

    /// A number with a fraction and its first value.
    pub fn f64(initial: f64) -> Self {
        value("f64", initial.into())
    }

    /// A truth value and what it is at first.
    pub fn bool(initial: bool) -> Self {
        value("bool", initial.into())
    }

    /// So many signed numbers, all 0 at first.
    pub fn i64_array(length: u64) -> Self {
        array("i64", length)
    }

    /// So many unsigned numbers, all 0 at first.
    pub fn u64_array(length: u64) -> Self {
        array("u64", length)
    }

    /// So many numbers with a fraction, all 0 at first.
    pub fn f64_array(length: u64) -> Self {
        array("f64", length)
    }

    /// So many truth values, all false at first.
    pub fn bool_array(length: u64) -> Self {
        array("bool", length)
    }

    /// A lock.
    pub fn lock() -> Self {
        one("lock", Yaml::Bool(true))
    }

    /// A semaphore with so many permits.
    pub fn semaphore(permits: u64) -> Self {
        one("semaphore", number(permits))
    }

    /// An event, and whether it is set at first.
    pub fn event(is_set: bool) -> Self {
        one("event", Yaml::Bool(is_set))
    }

    /// A barrier that so many wait at.
    pub fn barrier(parties: u64) -> Self {
        one("barrier", number(parties))
    }

    /// A dictionary and its first entries.
    ///
    /// # Panics
    ///
    /// If they are no value of JSON.
    #[track_caller]
    pub fn dict(entries: impl Serialize) -> Self {
        one("dict", json(entries).into())
    }
}
