//! The language's JSON Schema, for editors.
//!
//! The types here are never made: they say what a document may look like, with the manual's words beside each key.
//! Tests compare them with the keys and words that `decode` knows.

mod edge;
mod policy;
mod scalar;
mod shared;
mod stage;
#[cfg(test)]
mod tests;
mod top;

use schemars::generate::SchemaSettings;

/// The JSON Schema of a document, draft 7: the one that editors read.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<top::Document>().to_value()
}
