//! The tree itself.

use crate::language::Span;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::language) struct Node {
    pub(in crate::language) span: Span,
    pub(in crate::language) kind: Kind,
}

/// What a value is, by the core schema of YAML 1.2.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::language) enum Kind {
    /// `null`, `~` or nothing at all; the text as written.
    Null(String),
    Bool(bool),
    /// A number without a fraction, and the text as written.
    Integer(i128, String),
    /// Any other number, and the text as written.
    Float(f64, String),
    /// Text as it stands in the document: expressions in it are still to be evaluated.
    Text(String),
    /// Text that an expression gave: what looks like an expression in it is none.
    Evaluated(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Nobody can know: what is wrong with it has been reported.
    Broken,
}

/// A key of a map and its value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::language) struct Entry {
    pub(in crate::language) key: String,
    pub(in crate::language) key_span: Span,
    pub(in crate::language) value: Node,
    pub(in crate::language) origin: Origin,
}

/// How an entry came into its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::language) enum Origin {
    /// It is written there, or merged in with `<<`.
    Own,
    /// It stands in `defaults`, for whatever it fits.
    Defaults,
}

impl Node {
    /// What it is, for people, with its article.
    pub(in crate::language) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Null(_) | Kind::Broken => "nothing",
            Kind::Bool(_) => "a truth value",
            Kind::Integer(..) => "an integer",
            Kind::Float(..) => "a number with a fraction",
            Kind::Text(_) | Kind::Evaluated(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// How many nodes it has, itself included; keys do not count.
    pub(super) fn size(&self) -> usize {
        self.children().map(Self::size).sum::<usize>() + 1
    }

    /// How many lists and maps lie inside one another; 0 for a scalar.
    pub(super) fn depth(&self) -> usize {
        match self.kind {
            Kind::List(_) | Kind::Map(_) => self.children().map(Self::depth).max().unwrap_or(0) + 1,
            _ => 0,
        }
    }

    /// The elements of a list and the values of a map.
    pub(in crate::language) fn children(&self) -> impl Iterator<Item = &Self> {
        let (list, map): (&[Self], &[Entry]) = match &self.kind {
            Kind::List(items) => (items, &[]),
            Kind::Map(entries) => (&[], entries),
            _ => (&[], &[]),
        };
        list.iter().chain(map.iter().map(|entry| &entry.value))
    }
}

#[cfg(test)]
impl Node {
    /// The tree as JSON, with expressions as they are written.
    pub(in crate::language) fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null(_) | Kind::Broken => serde_json::Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Integer(value, _) => serde_json::to_value(value).unwrap_or_default(),
            Kind::Float(value, _) => (*value).into(),
            Kind::Text(text) | Kind::Evaluated(text) => text.as_str().into(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                serde_json::Value::Object(pairs.collect())
            }
        }
    }
}
