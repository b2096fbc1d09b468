//! What comes back for a task.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::worker::Failure;

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function returned an error, or panicked.
    #[error("{error}")]
    Failed {
        /// What it says, with its causes, and where it panicked.
        error: String,
        /// The error's type; `panic`; empty for texts.
        kind: String,
    },
    /// Each worker that was given the task died of it.
    #[error("{0}")]
    Killed(String),
    /// The pool was terminated, or has failed, before the task was done.
    #[error("the pool has ended: {0}")]
    Ended(String),
    /// There was no result in time; it may still come. From [`Unfinished::get`](super::Unfinished::get).
    #[error("there is no result yet")]
    TimedOut,
    /// The argument cannot be sent. Nothing was done.
    #[error("{0}")]
    Argument(String),
}

/// What a worker gave for a task, or the engine in its place.
pub(super) enum Reply<Out> {
    Result(u64, Result<Out, Failure>),
    /// The document about a failed record: the record as people see it, and the error.
    Failed(serde_json::Value, String),
}

impl<'de, Out: DeserializeOwned> Deserialize<'de> for Reply<Out> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReplyVisitor(PhantomData))
    }
}

struct ReplyVisitor<Out>(PhantomData<Out>);

impl<'de, Out: DeserializeOwned> Visitor<'de> for ReplyVisitor<Out> {
    type Value = Reply<Out>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the result of a task")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Reply<Out>, A::Error> {
        use serde::de::Error;
        let missing = || A::Error::custom("a result without its number");
        let number = seq.next_element()?.ok_or_else(missing)?;
        Ok(Reply::Result(number, seq.next_element()?.ok_or_else(missing)?))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reply<Out>, A::Error> {
        let (mut record, mut error) = (serde_json::Value::Null, String::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "record" => record = map.next_value()?,
                "error" => error = map.next_value()?,
                _ => drop(map.next_value::<serde_json::Value>()?),
            }
        }
        Ok(Reply::Failed(record, error))
    }
}

/// The number of a task whose record is shown as `[number, argument]`, cut where it is long.
pub(super) fn number_of(record: &serde_json::Value) -> Option<u64> {
    match record {
        serde_json::Value::Array(parts) => parts.first()?.as_u64(),
        serde_json::Value::String(text) => {
            text.strip_prefix('[')?.split([',', ']']).next()?.trim().parse().ok()
        }
        _ => None,
    }
}
