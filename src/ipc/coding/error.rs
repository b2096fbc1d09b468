//! A value and a format that do not fit.

use crate::model::Format;

/// A record in a message is cut at so many bytes.
const SHOWN_BYTES: usize = 120;

/// A value that its queue's format cannot carry, or a record that is not the value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodeError(String);

impl CodeError {
    pub(super) fn uncodable<T: ?Sized>(format: Format, reason: String) -> Self {
        let name = std::any::type_name::<T>();
        Self(format!("a `{name}` cannot be a record of `{format}`: {reason}"))
    }

    /// Records that were announced and are not there.
    pub(crate) fn torn(format: Format, records: u64) -> Self {
        Self(format!("{records} records of `{format}` are not in the block that was to hold them"))
    }

    pub(super) fn undecodable<T>(format: Format, body: &[u8], reason: String) -> Self {
        let name = std::any::type_name::<T>();
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
        let shown: String = shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let more = if body.len() > SHOWN_BYTES { "…" } else { "" };
        match format {
            Format::Msgpack => {
                Self(format!("a record of `{format}` of {} bytes is no `{name}`: {reason}", body.len()))
            }
            _ => Self(format!("the record `{shown}{more}` of `{format}` is no `{name}`: {reason}")),
        }
    }
}
