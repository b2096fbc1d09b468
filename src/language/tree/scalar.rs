//! What a scalar is: the core schema of YAML 1.2.2, section 10.3.2.

use super::Kind;
use crate::language::Span;
use crate::language::tree::Node;

/// What a plain scalar is.
pub(super) fn resolve_plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null(text.to_owned()),
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    if let Some(value) = integer(text) {
        return Kind::Integer(value, text.to_owned());
    }
    match float(text) {
        Some(value) => Kind::Float(value, text.to_owned()),
        None => Kind::Text(text.to_owned()),
    }
}

/// What a scalar with one of YAML's own tags is; `None` where the text does not fit it.
pub(super) fn resolve_tagged(suffix: &str, text: &str) -> Option<Kind> {
    let plain = resolve_plain(text);
    match (suffix, plain) {
        ("str", _) => Some(Kind::Text(text.to_owned())),
        ("float", Kind::Integer(value, text)) => Some(Kind::Float(value as f64, text)),
        ("float", plain @ Kind::Float(..))
        | ("int", plain @ Kind::Integer(..))
        | ("bool", plain @ Kind::Bool(_))
        | ("null", plain @ Kind::Null(_)) => Some(plain),
        _ => None,
    }
}

/// What a value on the command line is (`--set name=value`): a YAML scalar, or else the text as it stands.
///
/// Only what can be nothing else is more than text: a comment, an alias or a list in it is meant literally.
pub(in crate::language) fn from_command_line(text: &str) -> Node {
    let quoted = text.starts_with(['"', '\'']);
    let kind = match quoted.then(|| serde_yaml::from_str::<serde_yaml::Value>(text)) {
        Some(Ok(serde_yaml::Value::String(inner))) => Kind::Text(inner),
        // `--set name=` clears the value; nobody means a null by it.
        _ if text.is_empty() => Kind::Text(String::new()),
        _ => resolve_plain(text),
    };
    let kind = match kind {
        Kind::Text(text) => Kind::Evaluated(text),
        other => other,
    };
    Node { span: Span::default(), kind }
}

fn integer(text: &str) -> Option<i128> {
    let digits = |text: &str, radix| {
        // `from_str_radix` would take a sign after the prefix.
        text.starts_with(|c: char| c.is_digit(radix))
            .then(|| i128::from_str_radix(text, radix).ok())
            .flatten()
    };
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return digits(hexadecimal, 16);
    }
    match text.strip_prefix('-') {
        Some(positive) => digits(positive, 10).map(|value| -value),
        None => digits(text.strip_prefix('+').unwrap_or(text), 10),
    }
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            let negative = text.starts_with('-');
            return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    // Rust reads `inf`, `nan` and `infinity` too, which are words in YAML.
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if is_number { text.parse().ok() } else { None }
}
