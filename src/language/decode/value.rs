//! Readers of plain values.

use std::ops::RangeInclusive;

use super::fields::Fields;
use super::reader::Reader;
use super::words::listed;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Entry, Kind, Node};
use crate::model::nearest;

impl Reader<'_> {
    /// A text that is written as one.
    pub(super) fn text(self, what: &str, node: &Node) -> Option<String> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) => self.clean(what, text, node.span),
            _ => self.wrong_type(what, "text", &node),
        }
    }

    /// A text that is not empty.
    pub(super) fn full_text(self, what: &str, node: &Node) -> Option<String> {
        let text = self.text(what, node)?;
        if !text.trim().is_empty() {
            return Some(text);
        }
        let help = "write a value, or remove the key";
        self.mistake(
            code::INVALID_VALUE,
            format!("{what} must not be empty"),
            node.span,
            "this is empty",
            help,
        )
    }

    /// A text, or a number or truth value as it is written: what a program or an environment gets is text anyway.
    pub(super) fn loose_text(self, what: &str, node: &Node) -> Option<String> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) => self.clean(what, text, node.span),
            Kind::Integer(_, text) | Kind::Float(_, text) => Some(text.clone()),
            Kind::Bool(value) => {
                // As it is written, for `True` is another text than `true`.
                let written = node.span.of(self.shared.text);
                let same = written.eq_ignore_ascii_case(&value.to_string());
                Some(if same { written.to_owned() } else { value.to_string() })
            }
            _ => self.wrong_type(what, "text", &node),
        }
    }

    /// No argument, path or variable can hold a NUL byte.
    fn clean(self, what: &str, text: &str, span: Span) -> Option<String> {
        if !text.contains('\0') {
            return Some(text.to_owned());
        }
        let help = "remove the `\\0`";
        self.mistake(code::INVALID_VALUE, format!("{what} has a NUL byte in it"), span, "in this text", help)
    }

    pub(super) fn truth(self, what: &str, node: &Node) -> Option<bool> {
        let node = self.resolve(node)?;
        match node.kind {
            Kind::Bool(value) => Some(value),
            _ => self.wrong_type(what, "`true` or `false`", &node),
        }
    }

    /// An integer in a range. The range's end may be `i128::MAX` for "any".
    pub(super) fn integer(self, what: &str, node: &Node, range: RangeInclusive<i128>) -> Option<i128> {
        let node = self.resolve(node)?;
        let Kind::Integer(value, _) = node.kind else {
            return self.wrong_type(what, &integer_in(&range), &node);
        };
        if range.contains(&value) {
            return Some(value);
        }
        self.report(
            Finding::error(code::OUT_OF_RANGE, format!("{what} must be {}", integer_in(&range)))
                .at(node.span, format!("{value} is out of range")),
        );
        None
    }

    /// An integer of at least 1 that fits into the model's type.
    pub(super) fn count<T: TryFrom<i128>>(self, what: &str, node: &Node) -> Option<T> {
        self.integer(what, node, 1..=i128::from(i64::MAX)).and_then(|value| match T::try_from(value) {
            Ok(value) => Some(value),
            Err(_) => {
                let message = format!("{what} is too large");
                self.report(Finding::error(code::OUT_OF_RANGE, message).at(node.span, "far too many"));
                None
            }
        })
    }

    /// A finite number in a range.
    pub(super) fn number(self, what: &str, node: &Node, range: RangeInclusive<f64>) -> Option<f64> {
        let node = self.resolve(node)?;
        let value = match node.kind {
            Kind::Integer(value, _) => value as f64,
            Kind::Float(value, _) => value,
            _ => return self.wrong_type(what, "a number", &node),
        };
        if range.contains(&value) {
            return Some(value);
        }
        let bounds = match (range.start(), range.end()) {
            (low, high) if *high > 1e6 => format!("at least {low}"),
            (low, high) => format!("from {low} to {high}"),
        };
        self.report(
            Finding::error(code::OUT_OF_RANGE, format!("{what} must be {bounds}"))
                .at(node.span, "out of range"),
        );
        None
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(self, what: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let node = self.resolve(node)?;
        let allowed = || words.iter().map(|(word, _)| *word);
        let (Kind::Text(text) | Kind::Evaluated(text)) = &node.kind else {
            return self.wrong_type(what, &format!("one of {}", listed(allowed())), &node);
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        self.unknown_word(what, text, &node, allowed())
    }

    /// Reports a word that is none of those allowed.
    pub(super) fn unknown_word<'w, T>(
        self,
        what: &str,
        text: &str,
        node: &Node,
        words: impl Iterator<Item = &'w str> + Clone,
    ) -> Option<T> {
        let near = nearest(text, words.clone()).map(|near| format!("did you mean `{near}`?"));
        self.report(
            Finding::error(code::INVALID_VALUE, format!("{what} must be one of {}", listed(words)))
                .at(node.span, "not one of these words")
                .maybe_help(near),
        );
        None
    }

    /// The elements of a list; none for an empty value.
    pub(super) fn list(self, what: &str, node: &Node) -> Option<Vec<Node>> {
        let node = self.resolve(node)?;
        match node.into_owned() {
            Node { kind: Kind::List(items), .. } => Some(items),
            Node { kind: Kind::Null(text), .. } if text.is_empty() => Some(Vec::new()),
            other => self.wrong_type(what, "a list", &other),
        }
    }

    /// The entries of a map with names of the user's; none for an empty value.
    pub(super) fn entries(self, what: &str, node: &Node) -> Option<Vec<Entry>> {
        let node = self.resolve(node)?;
        match node.into_owned() {
            Node { kind: Kind::Map(entries), .. } => Some(entries),
            Node { kind: Kind::Null(text), .. } if text.is_empty() => Some(Vec::new()),
            other => self.wrong_type(what, "a map", &other),
        }
    }

    /// The entries of a map whose keys are the language's.
    pub(super) fn fields(self, what: &str, node: &Node, keys: &[&'static str]) -> Option<Fields> {
        let node = self.resolve(node)?;
        match node.into_owned() {
            Node { kind: Kind::Map(entries), span } => Some(Fields::new(self, what, entries, span, keys)),
            other => self.wrong_type(what, "a map", &other),
        }
    }

    /// A list, each element read by `read`. All elements are read, so that all mistakes are found.
    pub(super) fn each<T>(
        self,
        what: &str,
        node: &Node,
        read: impl Fn(&Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let values: Vec<_> = self.list(what, node)?.iter().map(read).collect();
        values.into_iter().collect()
    }
}

fn integer_in(range: &RangeInclusive<i128>) -> String {
    match (*range.start(), *range.end()) {
        (low, high) if high >= i128::from(u32::MAX) => format!("an integer of at least {low}"),
        (low, high) => format!("an integer from {low} to {high}"),
    }
}
