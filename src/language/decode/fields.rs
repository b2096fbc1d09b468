//! A map whose keys belong to the language.

use super::reader::Reader;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Entry, Kind, Node};
use crate::model::nearest;

/// The entries of such a map; unknown ones are reported and left out.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) entries: Vec<Entry>,
    pub(super) span: Span,
    /// The keys that unknown ones were probably meant to be: nobody should be told that they are missing.
    pub(super) misspelt: Vec<&'static str>,
}

impl Fields {
    pub(super) fn new(
        reader: Reader<'_>,
        what: &str,
        mut entries: Vec<Entry>,
        span: Span,
        keys: &[&'static str],
    ) -> Self {
        let mut misspelt = Vec::new();
        entries.retain(|entry| {
            let known = keys.contains(&entry.key.as_str());
            if !known {
                let near = nearest(&entry.key, keys.iter().copied());
                misspelt.extend(keys.iter().find(|key| Some(**key) == near));
                reader.report(unknown_key(reader, what, entry, near, keys));
            }
            known
        });
        Self { entries, span, misspelt }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Reads the value of a key, if it is there. The reader gets the key in backticks to name it by.
    pub(super) fn read<T>(&self, key: &str, read: impl FnOnce(&str, &Node) -> Option<T>) -> Option<T> {
        self.get(key).and_then(|entry| read(&format!("`{key}`"), &entry.value))
    }

    /// The one of some keys that exclude each other. Reports none and several.
    pub(super) fn one_of(
        &self,
        reader: Reader<'_>,
        what: &str,
        place: Span,
        keys: &[&str],
        code: &'static str,
    ) -> Option<&Entry> {
        let mut present = self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str()));
        let wanted = super::words::listed(keys.iter().copied());
        let Some(first) = present.next() else {
            if self.misspelt.iter().any(|key| keys.contains(key)) {
                return None;
            }
            reader.report(
                Finding::error(code, format!("{what} has none of {wanted}"))
                    .at(place, "this needs exactly one of them"),
            );
            return None;
        };
        if let Some(second) = present.next() {
            let message = format!("{what} has both `{}` and `{}`", first.key, second.key);
            reader.report(
                Finding::error(code, message)
                    .at(second.key_span, "only one of the two can be meant")
                    .at(first.key_span, "first here")
                    .help(format!("keep exactly one of {wanted}")),
            );
        }
        Some(first)
    }
}

/// Whether this is no key, but what follows a comma in a text without quotes.
fn is_rest_of_a_value(reader: Reader<'_>, entry: &Entry) -> bool {
    let has_no_value = matches!(&entry.value.kind, Kind::Null(text) if text.is_empty());
    let after = reader.shared.text.get(entry.key_span.end..).unwrap_or_default();
    has_no_value && after.trim_start().starts_with([',', '}'])
}

fn unknown_key(
    reader: Reader<'_>,
    what: &str,
    entry: &Entry,
    near: Option<&str>,
    keys: &[&'static str],
) -> Finding {
    let help = match near {
        // Compose files have such keys as homes for anchors.
        // `{command: sort -k1,1nr}`: no key of ours has a space, and none stands without its colon.
        _ if is_rest_of_a_value(reader, entry) => {
            "in `{…}` a comma ends the value; put a value that has one into quotes".to_owned()
        }
        _ if entry.key.starts_with("x-") => "an anchor can have its home under `vars`".to_owned(),
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{what} can have {}", super::words::listed(keys.iter().copied())),
    };
    Finding::error(code::UNKNOWN_KEY, format!("{what} has no key `{}`", entry.key))
        .at(entry.key_span, "unknown key")
        .help(help)
}
