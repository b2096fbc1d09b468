//! The lines that are spoken: JSON-RPC 2.0, one document a line. See `schemas/control.md`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A request may be so long, its end counted.
pub const LONGEST_REQUEST_BYTES: usize = 64 << 10;

/// What a run understands.
pub const METHODS: [&str; 10] =
    ["describe", "status", "explain", "logs", "tap", "stop", "wait", "scale", "restart", "reload"];

/// Version of this protocol.
pub(super) const VERSION: u32 = 1;

/// Why a request was not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// JSON-RPC's own numbers, from -32700 to -32600, where the request cannot be understood; 1 for all others.
    pub code: i64,
    /// In words.
    pub message: String,
    /// What programs and people can go by.
    #[serde(default)]
    pub data: RefusalData,
}

/// What programs and people can go by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalData {
    /// A stable word: `unknown_edge`.
    #[serde(default)]
    pub reason: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What is wrong with a document, as `mpflow check --format json` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Box<Value>>,
}

/// The request was understood and cannot be done.
const CANNOT: i64 = 1;

impl Refusal {
    fn with(code: i64, reason: &str, message: impl Into<String>) -> Self {
        let data = RefusalData { reason: reason.to_owned(), ..RefusalData::default() };
        Self { code, message: message.into(), data }
    }

    /// It was understood, and cannot be done.
    pub(super) fn cannot(reason: &str, message: impl Into<String>) -> Self {
        Self::with(CANNOT, reason, message)
    }

    pub(super) fn parse(message: impl Into<String>) -> Self {
        Self::with(-32700, "parse_error", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::with(-32600, "invalid_request", message)
    }

    pub(super) fn unknown_method(method: &str) -> Self {
        let method: String = method.chars().take(64).collect();
        Self::with(-32601, "unknown_method", format!("there is no method `{method}`"))
            .help(format!("there are {}", METHODS.join(", ")))
    }

    pub(super) fn params(message: impl Into<String>) -> Self {
        Self::with(-32602, "invalid_params", message)
    }

    pub(super) fn ended() -> Self {
        Self::cannot("run_ended", "the run has ended")
    }

    /// Whether it was refused since the run has ended, or is about to.
    pub fn has_ended(&self) -> bool {
        self.data.reason == "run_ended"
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.data.help = Some(help.into());
        self
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) params: Value,
}

impl Request {
    /// Reads one line. The error goes with the id that its answer has.
    pub(super) fn read(line: &[u8]) -> Result<Self, (Value, Refusal)> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            jsonrpc: Value,
            #[serde(default)]
            id: Value,
            #[serde(default)]
            method: Value,
            #[serde(default)]
            params: Value,
        }
        let value: Value = serde_json::from_slice(line).map_err(|error| {
            (Value::Null, Refusal::parse(format!("this is not one JSON document: {error}")))
        })?;
        let raw: Raw = match value {
            Value::Object(_) => serde_json::from_value(value)
                .map_err(|error| (Value::Null, Refusal::invalid(error.to_string())))?,
            Value::Array(_) => {
                return Err((
                    Value::Null,
                    Refusal::invalid("batches are not understood: one request a line"),
                ));
            }
            _ => return Err((Value::Null, Refusal::invalid("a request is an object"))),
        };
        let wrong = |message: &str| Err((Value::Null, Refusal::invalid(message)));
        match (&raw.id, raw.method) {
            _ if raw.jsonrpc != "2.0" => wrong("`jsonrpc` is not \"2.0\""),
            (Value::Number(_) | Value::String(_), Value::String(method)) => {
                Ok(Self { id: raw.id, method, params: raw.params })
            }
            (Value::Null, _) => wrong("a request needs an `id`: each is answered"),
            (Value::Number(_) | Value::String(_), _) => {
                Err((raw.id, Refusal::invalid("`method` is not a text")))
            }
            _ => wrong("`id` is neither a number nor a text"),
        }
    }

    /// The parameters, which must be an object or left out, and hold nothing that is not known.
    pub(super) fn params<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let params = match &self.params {
            Value::Null => json!({}),
            Value::Object(_) => self.params.clone(),
            _ => return Err(Refusal::params("`params` is not an object")),
        };
        serde_json::from_value(params).map_err(|error| Refusal::params(format!("`{}`: {error}", self.method)))
    }
}

/// The line that answers a request.
pub(super) fn answer(id: &Value, result: &Result<Value, Refusal>) -> Vec<u8> {
    line(&match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(refusal) => json!({"jsonrpc": "2.0", "id": id, "error": refusal}),
    })
}

/// A line that nobody has asked for by itself: what follows the answer to `logs` and `tap`.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

pub(super) fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(line: &str) -> (Value, i64) {
        let (id, refusal) = Request::read(line.as_bytes()).unwrap_err();
        (id, refusal.code)
    }

    #[test]
    fn a_request_is_read_with_its_parameters() {
        let request =
            Request::read(br#"{"jsonrpc":"2.0","id":7,"method":"stop","params":{"how":"kill"}}"#).unwrap();
        assert_eq!((request.id.clone(), request.method.as_str()), (json!(7), "stop"));
        #[derive(Deserialize, Debug, PartialEq)]
        #[serde(deny_unknown_fields)]
        struct Params {
            how: String,
        }
        assert_eq!(request.params(), Ok(Params { how: "kill".to_owned() }));
        let other = Request { params: json!({"how": "kill", "why": 1}), ..request };
        assert_eq!(other.params::<Params>().unwrap_err().code, -32602);
    }

    #[test]
    fn what_is_no_request_is_refused_by_the_number_of_its_fault() {
        assert_eq!(refused("nonsense"), (Value::Null, -32700));
        assert_eq!(refused(""), (Value::Null, -32700));
        assert_eq!(refused("[]"), (Value::Null, -32600));
        assert_eq!(refused("17"), (Value::Null, -32600));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","method":"status"}"#), (Value::Null, -32600));
        assert_eq!(refused(r#"{"id":1,"method":"status"}"#), (Value::Null, -32600));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":"a","method":5}"#), (json!("a"), -32600));
        assert_eq!(refused(&"[".repeat(60_000)), (Value::Null, -32700));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::read(&bytes);
        }
    }
}
