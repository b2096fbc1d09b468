//! A value and a format that do not fit.

use crate::model::Format;

/// A record in a message is cut at so many bytes.
const SHOWN_BYTES: usize = 120;

/// A value that its queue's format cannot carry, or a record that is not the value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct CodeError {
    what: String,
    reason: String,
}

impl CodeError {
    pub(super) fn uncodable<T: ?Sized>(format: Format, reason: String) -> Self {
        let name = std::any::type_name::<T>();
        Self { what: format!("a `{name}` cannot be a record of `{format}`"), reason }
    }

    /// Records that were announced and are not there.
    pub(crate) fn torn(format: Format, records: u64) -> Self {
        let what = format!("a block that was to hold {records} records of `{format}`");
        Self { what, reason: "they are not in it".to_owned() }
    }

    /// Why, without what it was to be.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn undecodable<T>(format: Format, body: &[u8], reason: String) -> Self {
        let name = std::any::type_name::<T>();
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
        let shown: String = shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let more = if body.len() > SHOWN_BYTES { "…" } else { "" };
        let what = match format {
            Format::Msgpack => format!("a record of `{format}` of {} bytes is no `{name}`", body.len()),
            _ => format!("the record `{shown}{more}` of `{format}` is no `{name}`"),
        };
        Self { what, reason }
    }
}
