//! The part of a record that chooses its worker.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::PartitionKey;

/// A number for the record's key: equal keys give equal numbers, in every run. `None` where a record that should
/// be JSON is not. A record that has no such part has the key "absent", so all of those go to one worker.
pub(crate) fn key_of(body: &[u8], key: &PartitionKey) -> Option<u64> {
    match key {
        PartitionKey::Field(number) => {
            let field = body.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(number - 1);
            Some(hash(&field))
        }
        PartitionKey::Pointer(pointer) => {
            let document: serde_json::Value = serde_json::from_slice(body).ok()?;
            // The text of a value is the same for equal values: maps are sorted by key.
            Some(hash(&document.pointer(pointer).map(ToString::to_string)))
        }
    }
}

/// `DefaultHasher::new` has fixed keys: the same in each process of one build.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_equal_however_they_are_written() {
        let user = PartitionKey::Pointer("/user/id".into());
        let key = |text: &str| key_of(text.as_bytes(), &user);
        assert_eq!(key(r#"{"user":{"id":7},"n":1}"#), key(r#"{ "n": 2, "user": { "id": 7 } }"#));
        assert_ne!(key(r#"{"user":{"id":7}}"#), key(r#"{"user":{"id":8}}"#));
        assert_eq!(key("not json"), None);
        assert_eq!(key_of(b"a  b c", &PartitionKey::Field(2)), key_of(b"x\tb", &PartitionKey::Field(2)));
    }
}
