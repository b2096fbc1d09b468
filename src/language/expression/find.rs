//! Where the expressions of a scalar are.

use std::ops::Range;

const OPEN: &str = "${{";

/// A part of a scalar.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::language) enum Segment<'a> {
    /// Stands for itself.
    Text(&'a str),
    /// What lies between `${{` and `}}`.
    Expression(&'a str),
}

/// A `${{` without its `}}`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::language) struct Unclosed;

/// Whether a text has an expression at all.
pub(in crate::language) fn has_expression(text: &str) -> bool {
    text.contains(OPEN)
}

/// Splits a scalar into texts and expressions, in order.
pub(in crate::language) fn segments(text: &str) -> Result<Vec<Segment<'_>>, Unclosed> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(OPEN) {
        if open > 0 {
            found.push(Segment::Text(&rest[..open]));
        }
        let inner = &rest[open + OPEN.len()..];
        let length = inner_length(inner).ok_or(Unclosed)?;
        found.push(Segment::Expression(&inner[..length]));
        rest = &inner[length + 2..];
    }
    if !rest.is_empty() {
        found.push(Segment::Text(rest));
    }
    Ok(found)
}

/// How long an expression is, up to the `}}` that is not in a string or in braces of its own.
fn inner_length(inner: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut braces = 0_usize;
    for (index, c) in inner.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '{' => braces += 1,
                '}' if braces > 0 => braces -= 1,
                '}' if inner[index..].starts_with("}}") => return Some(index),
                _ => {}
            },
        }
    }
    None
}

/// Where the `nth` expression of a scalar stands in the scalar's source text, `${{` and `}}` included, and whether
/// what is between them is written there as `inner` says (no escapes, no folded lines).
pub(in crate::language) fn locate(source: &str, nth: usize, inner: &str) -> Option<(Range<usize>, bool)> {
    let (start, _) = source.match_indices(OPEN).nth(nth)?;
    let after = &source[start + OPEN.len()..];
    if after.starts_with(inner) {
        return Some((start..start + OPEN.len() + inner.len() + 2, true));
    }
    let length = after.find("}}")? + OPEN.len() + 2;
    Some((start..start + length, false))
}

#[cfg(test)]
mod tests {
    use super::Segment::{Expression, Text};
    use super::*;

    #[test]
    fn a_scalar_is_texts_and_expressions() {
        assert_eq!(segments("a"), Ok(vec![Text("a")]));
        assert_eq!(segments("${{ x }}"), Ok(vec![Expression(" x ")]));
        assert_eq!(
            segments("a${{x}}b ${X} ${{ '}}' }}"),
            Ok(vec![Text("a"), Expression("x"), Text("b ${X} "), Expression(" '}}' ")])
        );
        assert_eq!(segments("${{ {'a': {'b': 1}}.a.b }}"), Ok(vec![Expression(" {'a': {'b': 1}}.a.b ")]));
        assert_eq!(segments("${{ x }"), Err(Unclosed));
        assert_eq!(segments("${{ ' }}"), Err(Unclosed));
    }

    #[test]
    fn an_expression_is_found_in_its_source() {
        assert_eq!(locate("'a ${{ x }} b'", 0, " x "), Some((3..11, true)));
        assert_eq!(locate("a ${{ x }} ${{ y }}", 1, " y "), Some((11..19, true)));
        assert_eq!(locate("\"${{ \\\"x\\\" }}\"", 0, " \"x\" "), Some((1..13, false)));
        assert_eq!(locate("\\u0024{{ x }}", 0, " x "), None);
    }
}
