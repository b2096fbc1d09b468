//! A tree of values, laid out as text.

use std::panic::Location;

use serde_json::{Number, Value as Json};

use super::scalar;

/// A line is not made longer than this by writing a list or map in braces.
const WIDTH: usize = 100;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Item>),
    Map(Vec<Entry>),
}

/// An element of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) value: Yaml,
    pub(crate) origin: Option<&'static Location<'static>>,
}

/// A key of a map and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Yaml,
    /// The code that says so.
    pub(crate) origin: Option<&'static Location<'static>>,
}

/// A document, and which code each part of it comes from: ranges of bytes, the smaller ones within larger ones first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) origins: Vec<(std::ops::Range<usize>, &'static Location<'static>)>,
}

impl Yaml {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn list(values: impl IntoIterator<Item = Self>) -> Self {
        Self::List(values.into_iter().map(|value| Item { value, origin: None }).collect())
    }

    /// A map without the entries that have no value.
    pub(crate) fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Option<Self>)>) -> Self {
        let entry = |(key, value): (&str, Option<Self>)| {
            Some(Entry { key: key.to_owned(), value: value?, origin: None })
        };
        Self::Map(entries.into_iter().filter_map(entry).collect())
    }

    /// What is not a list or map, in one line; text in quotes where it needs them.
    fn scalar(&self) -> Option<String> {
        Some(match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => scalar::text(text),
            Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// All of it in one line.
    fn flow(&self) -> String {
        match self {
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.value.flow()).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let pair = |entry: &Entry| format!("{}: {}", scalar::text(&entry.key), entry.value.flow());
                format!("{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            scalar => scalar.scalar().unwrap_or_default(),
        }
    }

    fn has_block(&self) -> bool {
        match self {
            Self::Text(text) => scalar::is_block(text),
            Self::List(items) => items.iter().any(|item| item.value.has_block()),
            Self::Map(entries) => entries.iter().any(|entry| entry.value.has_block()),
            Self::Null | Self::Bool(_) | Self::Number(_) => false,
        }
    }

    /// Whether other parts of it come from other code, so that each is to have a place of its own.
    fn has_origins(&self) -> bool {
        match self {
            Self::List(items) => items.iter().any(|item| item.origin.is_some() || item.value.has_origins()),
            Self::Map(entries) => {
                entries.iter().any(|entry| entry.origin.is_some() || entry.value.has_origins())
            }
            _ => false,
        }
    }
}

/// As it stands: text may hold expressions, keys hold none.
impl From<Json> for Yaml {
    fn from(value: Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::Text(text),
            Json::Array(values) => Self::list(values.into_iter().map(Self::from)),
            Json::Object(entries) => Self::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry { key, value: value.into(), origin: None })
                    .collect(),
            ),
        }
    }
}

impl Written {
    /// A map as a document.
    pub(crate) fn document(entries: &[Entry]) -> Self {
        let mut written = Self::default();
        written.map(entries, 0, true);
        // What lies within something else ends before it, or with it and begins later.
        written.origins.sort_by_key(|(range, _)| range.len());
        written
    }

    fn map(&mut self, entries: &[Entry], indent: usize, is_first_indented: bool) {
        for (position, entry) in entries.iter().enumerate() {
            if position > 0 || !is_first_indented {
                self.text.extend(std::iter::repeat_n(' ', if position == 0 { 0 } else { indent }));
            }
            let start = self.text.len();
            self.text.push_str(&scalar::text(&entry.key));
            self.text.push(':');
            self.value(&entry.value, indent);
            self.note(start, entry.origin);
        }
    }

    fn list(&mut self, items: &[Item], indent: usize) {
        for item in items {
            self.text.extend(std::iter::repeat_n(' ', indent));
            let start = self.text.len();
            self.text.push('-');
            match &item.value {
                Yaml::Map(entries) if !entries.is_empty() && !self.fits(&item.value) => {
                    self.text.push(' ');
                    self.map(entries, indent + 2, false);
                }
                value => self.value(value, indent),
            }
            self.note(start, item.origin);
        }
    }

    fn note(&mut self, start: usize, origin: Option<&'static Location<'static>>) {
        if let Some(origin) = origin {
            self.origins.push((start..self.text.len() - 1, origin));
        }
    }

    /// Whether it may stand in braces on the line that is being written.
    fn fits(&self, value: &Yaml) -> bool {
        let line = self.text.len() - self.text.rfind('\n').map_or(0, |newline| newline + 1);
        !value.has_block() && !value.has_origins() && line + value.flow().len() < WIDTH
    }

    /// What follows a colon or a dash, up to the end of its last line.
    fn value(&mut self, value: &Yaml, indent: usize) {
        match value {
            Yaml::Text(text) if scalar::is_block(text) => self.block(text, indent + 2),
            Yaml::List(items) if !items.is_empty() && !self.fits(value) => {
                self.text.push('\n');
                self.list(items, indent + 2);
            }
            Yaml::Map(entries) if !entries.is_empty() && !self.fits(value) => {
                self.text.push('\n');
                self.text.extend(std::iter::repeat_n(' ', indent + 2));
                self.map(entries, indent + 2, false);
            }
            value => {
                self.text.push(' ');
                self.text.push_str(&value.flow());
                self.text.push('\n');
            }
        }
    }

    fn block(&mut self, text: &str, indent: usize) {
        self.text.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
        for line in text.lines() {
            if !line.is_empty() {
                self.text.extend(std::iter::repeat_n(' ', indent));
                self.text.push_str(line);
            }
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::language::tree;

    fn value() -> impl Strategy<Value = Json> {
        let text = prop_oneof![
            ".{0,30}",
            "[a-z ${}'\":#,\\[\\]|>&*!%@-]{0,12}",
            "[a-z]{1,3}(\n| ){1,2}[a-z: ]{0,9}\n?",
            Just("null".to_owned()),
            Just("1e3".to_owned()),
            Just(".5".to_owned()),
            Just("0x1f".to_owned()),
            Just("${{ x }}".to_owned()),
            Just("---".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Json::from),
            text.prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
                proptest::collection::hash_map("[^<]{0,6}", inner, 0..5)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn what_is_written_is_read_as_the_same(value in value()) {
            let entries = [Entry { key: "key".into(), value: value.clone().into(), origin: None }];
            let written = Written::document(&entries);
            let mut findings = Vec::new();
            let root = tree::parse(&written.text, &mut findings);
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", written.text);
            let read = root.expect("it is a document").to_json();
            prop_assert_eq!(&read["key"], &value, "{}", written.text);
        }
    }

    #[test]
    fn a_document_reads_as_a_person_would_write_it() {
        let script = Yaml::text("set -e\nsort |\n  uniq -c\n");
        let stages = Yaml::map([
            ("numbers", Some(Yaml::map([("command", Some(Yaml::text("seq 1 10")))]))),
            ("count", Some(Yaml::map([("command", Some(script)), ("pool", Some(Json::from(2).into()))]))),
        ]);
        let edges = Yaml::list([Yaml::map([("queue", Some(Yaml::text("numbers -> count -> stdout")))])]);
        let entries = [("stages", stages), ("edges", edges)].map(|(key, value)| Entry {
            key: key.to_owned(),
            value,
            origin: None,
        });
        let expected = "\
stages:
  numbers: {command: seq 1 10}
  count:
    command: |
      set -e
      sort |
        uniq -c
    pool: 2
edges: [{queue: numbers -> count -> stdout}]
";
        assert_eq!(Written::document(&entries).text, expected);
    }

    #[test]
    fn the_code_that_says_something_is_found_by_its_place() {
        let (outer, inner) = (Location::caller(), Location::caller());
        let stage =
            Yaml::Map(vec![Entry { key: "pool".into(), value: Json::from(0).into(), origin: Some(inner) }]);
        let stages = Yaml::Map(vec![Entry { key: "a".into(), value: stage, origin: Some(outer) }]);
        let written = Written::document(&[Entry { key: "stages".into(), value: stages, origin: None }]);
        let ranges: Vec<&str> =
            written.origins.iter().map(|(range, _)| &written.text[range.clone()]).collect();
        assert_eq!(ranges, ["pool: 0", "a:\n    pool: 0"]);
    }
}
