//! Scalars, as YAML 1.2 writes them.

use std::fmt::Write as _;

/// Words that some reader of YAML takes for something else than text.
const WORDS: [&str; 12] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", "nan", "inf"];

/// The same text where it is to stand for itself: an expression in it is none.
///
/// What a pipeline says may hold `${{ … }}` wherever it is text, whether it is said in YAML or in code.
pub fn literal(text: &str) -> String {
    text.replace("${{", "${{ '${{' }}")
}

/// A text, without quotes where that is sure to be read as the same.
pub(super) fn text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Whether a text may stand by itself, in braces too. Stricter than YAML is.
fn is_plain(text: &str) -> bool {
    let may_begin = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/' | '.');
    let may_follow = |c: char| c.is_ascii_alphanumeric() || " _-./@%+=~$>()*'|;&<?!^".contains(c);
    text.starts_with(may_begin)
        && !text.ends_with(' ')
        && text.chars().all(may_follow)
        && !text.starts_with("...")
        && !WORDS.iter().any(|word| text.trim_start_matches('.').eq_ignore_ascii_case(word))
        && text.trim_start_matches('.').parse::<f64>().is_err()
}

/// In double quotes. What is not sure to be seen is written by its number.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            // Writing to a string cannot fail.
            c => match u32::from(c) {
                code @ 0..=0xff => drop(write!(out, "\\x{code:02x}")),
                code @ 0x100..=0xffff => drop(write!(out, "\\u{code:04x}")),
                code => drop(write!(out, "\\U{code:08x}")),
            },
        }
    }
    out.push('"');
    out
}

/// Whether a text of several lines can be written as a block (`|`), which begins with a line that has something in it.
pub(super) fn is_block(text: &str) -> bool {
    let seen = |c: char| (' '..='~').contains(&c) || c == '\n' || c.is_alphanumeric();
    let (last, kept) = match text.strip_suffix('\n') {
        Some(body) => (!body.ends_with('\n'), body),
        None => (true, text),
    };
    kept.contains('\n')
        && last
        && text.chars().all(seen)
        && !text.starts_with([' ', '\n'])
        && kept.lines().all(|line| !line.ends_with(' '))
}
