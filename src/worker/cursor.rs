//! The records of a frame, one after the other.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;
use crate::ipc::{bodies, decode, decode_list};
use crate::model::Format;

/// Bytes of a record that a message shows at most.
const SHOWN_BYTES: usize = 200;

/// Walks over records, decoding each as what its function takes.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    format: Format,
    bodies: Vec<&'a [u8]>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(format: Format, block: &'a [u8]) -> Self {
        Self { format, bodies: bodies(format, block).collect(), at: 0 }
    }

    /// How many there are in all.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bodies.len()
    }

    /// Where it stands, counted in records.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next record. It is passed over whether it can be decoded or not.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let body = self.bodies.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        decode(self.format, body).map_err(|error| Failure::undecodable(error.to_string()))
    }

    /// All records that are left, as one value: a list of them.
    pub(crate) fn all<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let rest = &self.bodies[self.at.min(self.bodies.len())..];
        self.at = self.bodies.len();
        decode_list(self.format, rest).map_err(|error| Failure::undecodable(error.to_string()))
    }

    /// The record at this position as people see it.
    pub(crate) fn shown(&self, position: usize) -> Value {
        let body = self.bodies.get(position).copied().unwrap_or_default();
        let cut = |text: &str| Value::String(text.chars().take(SHOWN_BYTES).collect());
        match self.format {
            Format::Json | Format::Msgpack => match decode::<Value>(self.format, body) {
                Ok(value) if body.len() <= SHOWN_BYTES => value,
                Ok(value) => cut(&value.to_string()),
                Err(_) => cut(&String::from_utf8_lossy(body)),
            },
            _ => cut(&String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN_BYTES)])),
        }
    }
}
