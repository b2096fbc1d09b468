//! Text of workers made harmless for a terminal.

use std::borrow::Cow;

/// One line as a terminal may show it after a prefix: what would move the cursor is left out, colours stay and
/// are ended, and of what a carriage return overwrites only the last is kept, as the terminal would have it.
pub(super) fn for_terminal(line: &str) -> Cow<'_, str> {
    if !line.chars().any(char::is_control) {
        return Cow::Borrowed(line);
    }
    let shown = line.split('\r').rfind(|part| !part.is_empty()).unwrap_or("");
    let mut clean = String::with_capacity(shown.len());
    let mut is_coloured = false;
    let mut chars = shown.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => {
                let sequence = escape(&mut chars);
                if sequence.starts_with('[') && sequence.ends_with('m') {
                    is_coloured = true;
                    clean.push('\x1b');
                    clean.push_str(&sequence);
                }
            }
            '\t' => clean.push('\t'),
            char if char.is_control() => {}
            char => clean.push(char),
        }
    }
    if is_coloured {
        clean.push_str("\x1b[0m");
    }
    Cow::Owned(clean)
}

/// A text that stands in a sentence, on one line: what would end the line or move the cursor is written as an escape.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped =
        |char: char| if char.is_control() { char.escape_debug().to_string() } else { char.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// Text of one or more lines, each as [`for_terminal`] has it, those after the first set in.
pub(super) fn block(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(for_terminal).collect();
    lines.join("\n    ")
}

/// Takes the rest of an escape sequence, ECMA-48: `[` … final byte, `]` … to its end, or one character.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut sequence = String::new();
    match chars.next() {
        Some('[') => {
            sequence.push('[');
            for char in chars.by_ref() {
                sequence.push(char);
                if ('\x40'..='\x7e').contains(&char) {
                    break;
                }
            }
        }
        Some(']') => {
            // The title of the window and the like: ended by BEL, or by an escape and a backslash.
            while let Some(char) = chars.next() {
                if char == '\x07' || (char == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(char) => sequence.push(char),
        None => {}
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_left_out_and_colours_stay() {
        assert_eq!(for_terminal("plain\tline"), "plain\tline");
        assert_eq!(for_terminal("a\x1b[2Kb\x07c\x1b]0;title\x07d"), "abcd");
        assert_eq!(for_terminal("\x1b[31mred"), "\x1b[31mred\x1b[0m");
    }

    #[test]
    fn a_carriage_return_leaves_what_was_written_last() {
        assert_eq!(for_terminal("10%\r20%\r30%"), "30%");
        assert_eq!(for_terminal("dos\r"), "dos");
        assert_eq!(for_terminal("\r\r"), "");
    }

    #[test]
    fn a_block_keeps_its_lines() {
        assert_eq!(
            block("Traceback\r\n  line 3\x1b[2K\nValueError\n"),
            "Traceback\n      line 3\n    ValueError"
        );
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        assert_eq!(for_terminal("a\x1b["), "a");
        assert_eq!(for_terminal("a\x1b"), "a");
    }
}
