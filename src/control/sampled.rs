//! Records as `tap` shows them.

use serde_json::{Value, json};

use crate::ipc::Framing;
use crate::model::Format;
use crate::runtime::broker::SampledRecord;
use crate::runtime::run::Sample;

/// One record, or all that are coded together.
pub(super) fn show(sample: &Sample, record: &SampledRecord) -> Vec<Value> {
    let is_whole = record.data.len() as u64 == record.bytes;
    let body = match is_whole {
        true => sample.framing.body(&record.data),
        false if sample.framing == Framing::Length => record.data.get(4..).unwrap_or_default(),
        false => &record.data,
    };
    let bytes = record.bytes - (record.data.len() - body.len()) as u64;
    match sample.format {
        Format::Json if is_whole => match serde_json::from_slice::<Value>(body) {
            Ok(value) => vec![json!({"value": value, "bytes": bytes})],
            Err(_) => vec![text(body, bytes, is_whole)],
        },
        Format::Lines | Format::Nul | Format::Json => vec![text(body, bytes, is_whole)],
        Format::Frames => match std::str::from_utf8(body) {
            Ok(_) => vec![text(body, bytes, is_whole)],
            Err(_) => {
                vec![json!({"hex": hex(body), "bytes": bytes, "is_cut": body.len() > HEX_BYTES || !is_whole})]
            }
        },
        Format::Msgpack | Format::Pickle => {
            vec![json!({"records": record.records, "bytes": record.bytes})]
        }
    }
}

/// Bytes of a frame that are shown at most, where they are no text.
const HEX_BYTES: usize = 64;

fn text(body: &[u8], bytes: u64, is_whole: bool) -> Value {
    match is_whole {
        true => json!({"text": String::from_utf8_lossy(body), "bytes": bytes}),
        false => json!({"text": String::from_utf8_lossy(body), "bytes": bytes, "is_cut": true}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(HEX_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
