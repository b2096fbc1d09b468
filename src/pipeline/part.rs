//! A part of a pipeline that is being built: keys and values, each with the call that said it.

use std::panic::Location;

use crate::language::write::{Entry, Yaml};

/// The keys of one part.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Part {
    entries: Vec<Entry>,
}

impl Part {
    /// Says a key, in the place of what was said of it before.
    #[track_caller]
    pub(super) fn set(&mut self, key: &str, value: Yaml) {
        let origin = Some(Location::caller());
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key: key.to_owned(), value, origin });
    }

    /// Adds an entry to a key that is a map, in the place of one of its name.
    #[track_caller]
    pub(super) fn add(&mut self, key: &str, name: &str, value: Yaml) {
        let origin = Some(Location::caller());
        let entry = Entry { key: name.to_owned(), value, origin };
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(Entry { value: Yaml::Map(entries), .. }) => {
                entries.retain(|entry| entry.key != name);
                entries.push(entry);
            }
            _ => self.entries.push(Entry { key: key.to_owned(), value: Yaml::Map(vec![entry]), origin }),
        }
    }

    pub(super) fn into_yaml(self) -> Yaml {
        Yaml::Map(self.entries)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// A number as the document has it.
pub(super) fn number(number: impl Into<serde_json::Value>) -> Yaml {
    number.into().into()
}

/// A list of texts.
pub(super) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Yaml {
    Yaml::list(texts.into_iter().map(Yaml::text))
}
