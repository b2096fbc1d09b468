//! Durations and sizes.

use std::time::Duration;

use bytesize::ByteSize;

use super::reader::Reader;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Kind, Node};

/// No wait is longer: instants further away cannot be computed with.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// No size is larger: what is added to it must not overflow.
const MAX_SIZE: u64 = 1 << 60;
/// A single letter is left out on purpose: `64K` is 64,000 to some programs and 65,536 to others.
const UNITS: [&str; 10] = ["B", "kB", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"];

impl Reader<'_> {
    /// A duration; zero is one.
    pub(super) fn duration(self, what: &str, node: &Node) -> Option<Duration> {
        let node = self.resolve(node)?;
        let finding = match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) => match parse_duration(text.trim()) {
                Ok(duration) => return Some(duration),
                Err(finding) => finding,
            },
            Kind::Integer(_, number) | Kind::Float(_, number) => {
                Unreadable::new("a number without a unit", format!("write `{number}s` or `{number}ms`"))
            }
            _ => return self.wrong_type(what, "a duration like `30s`", &node),
        };
        let message = format!("{what} is not a duration");
        self.report(
            Finding::error(code::INVALID_DURATION, message).at(node.span, finding.label).help(finding.help),
        );
        None
    }

    /// A duration that is not zero.
    pub(super) fn positive_duration(self, what: &str, node: &Node) -> Option<Duration> {
        let duration = self.duration(what, node)?;
        if !duration.is_zero() {
            return Some(duration);
        }
        let message = format!("{what} must be longer than zero");
        self.mistake(code::OUT_OF_RANGE, message, node.span, "no time at all", "write a duration like `30s`")
    }

    /// A size in bytes, at least 1.
    pub(super) fn size(self, what: &str, node: &Node) -> Option<u64> {
        let node = self.resolve(node)?;
        let finding = match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) => match parse_size(text.trim()) {
                Ok(size) => return Some(size),
                Err(finding) => finding,
            },
            Kind::Integer(_, number) | Kind::Float(_, number) => Unreadable::new(
                "a number without a unit",
                format!("write `{number}B`, `{number}KiB` or `{number}MiB`"),
            ),
            _ => return self.wrong_type(what, "a size like `64KiB`", &node),
        };
        let message = format!("{what} is not a size");
        self.report(
            Finding::error(code::INVALID_SIZE, message).at(node.span, finding.label).help(finding.help),
        );
        None
    }
}

/// Why a text is no duration or size, and what to write.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable {
    label: String,
    help: String,
}

impl Unreadable {
    fn new(label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { label: label.into(), help: help.into() }
    }
}

fn is_bare_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn parse_duration(text: &str) -> Result<Duration, Unreadable> {
    if is_bare_number(text) {
        return Err(Unreadable::new("a number without a unit", format!("write `{text}s` or `{text}ms`")));
    }
    let example = "durations are written `250ms`, `30s`, `5m` or `1h30m`";
    // The library reads it as months, and nobody who writes it means them.
    if text.contains('M') {
        return Err(Unreadable::new("an unknown unit `M`", "write `m` for minutes, `ms` for milliseconds"));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            Err(Unreadable::new("longer than a hundred years", example))
        }
        Err(humantime::DurationError::UnknownUnit { .. }) => Err(Unreadable::new("an unknown unit", example)),
        Err(_) => Err(Unreadable::new("not a number with a unit", example)),
    }
}

fn parse_size(text: &str) -> Result<u64, Unreadable> {
    if is_bare_number(text) {
        let help = format!("write `{text}B`, `{text}KiB` or `{text}MiB`");
        return Err(Unreadable::new("a number without a unit", help));
    }
    let example = "sizes are written `64KiB`, `2GiB` or `500MB`";
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start();
    if unit.len() == text.len() {
        return Err(Unreadable::new("not a number with a unit", example));
    }
    if let [letter @ ('k' | 'K' | 'm' | 'M' | 'g' | 'G' | 't' | 'T')] = unit.chars().collect::<Vec<_>>()[..] {
        let number = text.trim_end_matches(letter).trim_end();
        let letter = letter.to_ascii_uppercase();
        let help =
            format!("write `{number}{letter}iB` (powers of 1024) or `{number}{letter}B` (powers of 1000)");
        return Err(Unreadable::new("this unit can mean two sizes", help));
    }
    if !UNITS.contains(&unit) {
        return Err(Unreadable::new("an unknown unit", example));
    }
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err(Unreadable::new("nothing at all", "write a size of at least `1B`")),
        Ok(ByteSize(size)) if size <= MAX_SIZE => Ok(size),
        Ok(_) => Err(Unreadable::new("far too large", example)),
        Err(_) => Err(Unreadable::new("not a number with a unit", example)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for text in
            ["", "30", "0", "1.5", "x", "-3s", "5 parsecs", "5M", "1000years", "99999999999999999999s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_size("1.5MB"), Ok(1_500_000));
        assert_eq!(parse_size("100B"), Ok(100));
        for text in ["", "64", "0KiB", "64K", "2g", "x", "-1KiB", "5 apples", "99999999TiB", "1.2.3MB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
