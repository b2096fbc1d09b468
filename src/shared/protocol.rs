//! Requests and replies: one JSON document a line. `schemas/shared-objects.md` is their manual.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Where a worker finds the path of the socket.
pub const VARIABLE: &str = "MPFLOW_SHARED";

/// The version of the protocol.
pub(crate) const VERSION: u64 = 1;

/// A request or a reply is at most so long, its end included.
pub(crate) const LONGEST_LINE: usize = 1 << 20;

/// How long somebody is willing to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Forever,
    /// Zero: not at all.
    For(Duration),
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// Who it is; the first of a connection.
    Hello {
        worker: String,
        pid: u32,
    },
    /// The memory that values and arrays lie in.
    Map,
    /// All objects and their states.
    List,
    /// It does not want to wait any longer.
    Cancel,
    On {
        name: String,
        op: Op,
    },
}

/// What is asked of one object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Acquire(Patience),
    Release,
    Set,
    IsSet,
    Wait(Patience),
    Reset,
    Abort,
    /// Of an event or a dictionary.
    Clear,
    State,
    Get {
        key: String,
    },
    Put {
        key: String,
        value: Stored,
    },
    Delete {
        key: String,
    },
    Pop {
        key: String,
    },
    SetDefault {
        key: String,
        value: Stored,
    },
    Contains {
        key: String,
    },
    /// The keys after this one, as many as fit in a reply.
    Keys {
        after: Option<String>,
    },
    Items {
        after: Option<String>,
    },
    Update {
        entries: Vec<(String, Stored)>,
    },
    Len,
    Add {
        key: String,
        by: Json,
    },
    /// `expected: None`: the key is not there. `value: None`: it shall not be there.
    CompareAndSet {
        key: String,
        expected: Option<Stored>,
        value: Option<Stored>,
    },
}

/// A value in a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The canonical text of a JSON document. As text it takes about as much memory as it is long.
    Json(Box<str>),
    /// A pickled Python object, in base64. The engine never looks into it.
    Pickle(Box<str>),
}

impl Stored {
    pub(crate) fn json(value: &Json) -> Self {
        Self::Json(value.to_string().into_boxed_str())
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Json(text) | Self::Pickle(text) => text.len(),
        }
    }

    /// As it stands in a reply: `{"json": 3}` or `{"pickle": "gASVCg…"}`.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Json(text) => format!("{{\"json\":{text}}}"),
            Self::Pickle(text) => format!("{{\"pickle\":{}}}", Json::from(&**text)),
        }
    }

    fn read(value: Json) -> Result<Self, Refusal> {
        let wrong = || Refusal::request("a value is written {\"json\": …} or {\"pickle\": \"base64\"}");
        let Json::Object(mut fields) = value else { return Err(wrong()) };
        let (json, pickle) = (fields.remove("json"), fields.remove("pickle"));
        match (json, pickle, fields.is_empty()) {
            (Some(json), None, true) => Ok(Self::json(&json)),
            (None, Some(Json::String(text)), true) if is_base64(&text) => {
                Ok(Self::Pickle(text.into_boxed_str()))
            }
            _ => Err(wrong()),
        }
    }
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// A line as it comes.
#[derive(Deserialize)]
struct Line {
    op: String,
    id: Option<u64>,
    name: Option<String>,
    protocol: Option<u64>,
    worker: Option<String>,
    pid: Option<u32>,
    timeout: Option<f64>,
    key: Option<String>,
    after: Option<String>,
    by: Option<Json>,
    value: Option<Json>,
    expected: Option<Json>,
    entries: Option<Vec<(String, Json)>>,
}

impl Request {
    /// Reads one line: the number that its reply shall have, and what is asked.
    pub(crate) fn read(line: &[u8]) -> (Option<u64>, Result<Self, Refusal>) {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => (line.id, Self::of(line)),
            Err(error) => (None, Err(Refusal::request(&format!("this is no request: {error}")))),
        }
    }

    fn of(line: Line) -> Result<Self, Refusal> {
        match line.op.as_str() {
            "hello" => match line.protocol {
                Some(VERSION) => {
                    Ok(Self::Hello { worker: line.worker.unwrap_or_default(), pid: line.pid.unwrap_or(0) })
                }
                other => Err(Refusal::request(&format!(
                    "this engine speaks version {VERSION} of the protocol, and the client {}",
                    other.map_or("does not say which".to_owned(), |version| format!("version {version}"))
                ))),
            },
            "map" => Ok(Self::Map),
            "list" => Ok(Self::List),
            "cancel" => Ok(Self::Cancel),
            _ => {
                let name = line.name.clone().ok_or_else(|| missing(&line.op, "name"))?;
                Ok(Self::On { name, op: Op::read(line)? })
            }
        }
    }

    /// The line of a client.
    pub(super) fn hello(worker: &str, pid: u32) -> Json {
        serde_json::json!({"op": "hello", "protocol": VERSION, "worker": worker, "pid": pid})
    }
}

fn missing(op: &str, key: &str) -> Refusal {
    Refusal::request(&format!("the request `{op}` has no `{key}`"))
}

impl Op {
    fn read(line: Line) -> Result<Self, Refusal> {
        let Line { op, timeout, key, after, by, value, expected, entries, .. } = line;
        let key = || key.ok_or_else(|| missing(&op, "key"));
        let required = |value: Option<Json>| Stored::read(value.ok_or_else(|| missing(&op, "value"))?);
        Ok(match op.as_str() {
            "acquire" => Self::Acquire(patience(timeout)?),
            "release" => Self::Release,
            "set" => Self::Set,
            "is_set" => Self::IsSet,
            "wait" => Self::Wait(patience(timeout)?),
            "reset" => Self::Reset,
            "abort" => Self::Abort,
            "clear" => Self::Clear,
            "state" => Self::State,
            "get" => Self::Get { key: key()? },
            "put" => Self::Put { key: key()?, value: required(value)? },
            "delete" => Self::Delete { key: key()? },
            "pop" => Self::Pop { key: key()? },
            "setdefault" => Self::SetDefault { key: key()?, value: required(value)? },
            "contains" => Self::Contains { key: key()? },
            "keys" => Self::Keys { after },
            "items" => Self::Items { after },
            "len" => Self::Len,
            "add" => Self::Add { key: key()?, by: by.ok_or_else(|| missing(&op, "by"))? },
            "compare_and_set" => Self::CompareAndSet {
                key: key()?,
                expected: expected.map(Stored::read).transpose()?,
                value: value.map(Stored::read).transpose()?,
            },
            "update" => Self::Update {
                entries: entries
                    .ok_or_else(|| missing(&op, "entries"))?
                    .into_iter()
                    .map(|(key, value)| Ok((key, Stored::read(value)?)))
                    .collect::<Result<_, Refusal>>()?,
            },
            other => return Err(Refusal::request(&format!("there is no request `{other}`"))),
        })
    }
}

fn patience(seconds: Option<f64>) -> Result<Patience, Refusal> {
    match seconds {
        None => Ok(Patience::Forever),
        Some(seconds) if seconds.is_nan() => Err(Refusal::request("`timeout` is not a number of seconds")),
        Some(seconds) if seconds <= 0.0 => Ok(Patience::For(Duration::ZERO)),
        // What no clock holds is for ever.
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(Patience::Forever, |time| match time {
                time if time > MOST_PATIENCE => Patience::Forever,
                time => Patience::For(time),
            }))
        }
    }
}

/// A hundred years.
const MOST_PATIENCE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The text of a JSON document.
    Done(String),
    /// The same, and the descriptor of the memory with it.
    Memory(String),
    Refused(Refusal),
}

impl Answer {
    pub(crate) fn value(value: impl Into<Json>) -> Self {
        Self::Done(value.into().to_string())
    }

    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// The line, with its end.
    pub(crate) fn line(&self, id: Option<u64>) -> Vec<u8> {
        let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
        let answer = match self {
            Self::Done(text) | Self::Memory(text) => format!("\"ok\":{text}"),
            Self::Refused(refusal) => format!("\"error\":{}", serde_json::json!(refusal)),
        };
        format!("{{{id}{answer}}}\n").into_bytes()
    }
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable: `unknown_object`, `wrong_kind`, `already_held`, `not_held`, `broken_barrier`, `not_a_number`,
    /// `too_large`, `busy`, `cancelled`, `bad_request`.
    pub code: String,
    /// What was wrong, and where.
    pub message: String,
    /// What to do now, where something can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), help: None }
    }

    pub(crate) fn request(message: &str) -> Self {
        Self::new("bad_request", message)
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// One shared object, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// `value`, `array`, `lock`, `semaphore`, `event`, `barrier` or `dict`.
    pub kind: String,
    /// Of a value or an array: `i64`, `u64`, `f64` or `bool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// Of a value or an array: where it begins in the memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Of an array: how many elements it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, Refusal> {
        Request::read(line.as_bytes()).1
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds_and_none_is_for_ever() {
        let wait = |line: &str| match read(line).unwrap() {
            Request::On { op: Op::Wait(patience), .. } => patience,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(r#"{"op": "wait", "name": "go"}"#), Patience::Forever);
        assert_eq!(wait(r#"{"op": "wait", "name": "go", "timeout": null}"#), Patience::Forever);
        assert_eq!(wait(r#"{"op": "wait", "name": "go", "timeout": 1e300}"#), Patience::Forever);
        let half = Patience::For(Duration::from_millis(500));
        assert_eq!(wait(r#"{"op": "wait", "name": "go", "timeout": 0.5}"#), half);
        for none in ["0", "-3", "0.0"] {
            let line = format!(r#"{{"op": "wait", "name": "go", "timeout": {none}}}"#);
            assert_eq!(wait(&line), Patience::For(Duration::ZERO));
        }
    }

    #[test]
    fn null_is_a_value_like_any_other() {
        let put = read(r#"{"op": "put", "name": "d", "key": "k", "value": {"json": null}}"#).unwrap();
        let value = Stored::Json("null".into());
        assert_eq!(put, Request::On { name: "d".into(), op: Op::Put { key: "k".into(), value } });
    }

    #[test]
    fn what_is_no_request_is_said_to_be_none() {
        for line in [
            "",
            "[]",
            "{}",
            "{\"op\": 3}",
            r#"{"op": "fly", "name": "x"}"#,
            r#"{"op": "acquire"}"#,
            r#"{"op": "get", "name": "d"}"#,
            r#"{"op": "put", "name": "d", "key": "k", "value": 3}"#,
            r#"{"op": "put", "name": "d", "key": "k", "value": {"pickle": "\u0000"}}"#,
            r#"{"op": "hello"}"#,
            r#"{"op": "hello", "protocol": 9}"#,
        ] {
            assert_eq!(read(line).unwrap_err().code, "bad_request", "{line}");
        }
    }

    #[test]
    fn numbers_come_back_as_they_went_in() {
        for text in
            ["0.1", "1e-300", "2.2250738585072014e-308", "18446744073709551615", "-9223372036854775808"]
        {
            let value: Json = serde_json::from_str(text).unwrap();
            assert_eq!(Stored::json(&value).to_text(), format!("{{\"json\":{text}}}"));
        }
    }
}
