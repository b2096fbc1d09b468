//! GNU parallel's placeholders in the commands of `each` stages.
//!
//! In a list of arguments a placeholder is replaced by the text itself. In a shell string it is replaced by a
//! *reference to an environment variable*, quoted for the place where it stands: the shell never parses what a
//! record holds, so no record can run anything, whatever quotes surround it.

use std::borrow::Cow;

/// A part of a command with placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// `{}`: the record.
    Whole,
    /// `{.}`: the record without its extension.
    WithoutExtension,
    /// `{/}`: the last component of the record, as a path.
    Basename,
    /// `{//}`: the folder of the record, as a path; `.` where it has none.
    Dirname,
    /// `{/.}`: the last component without its extension.
    Stem,
    /// `{#}`: the record's number, from 1.
    Sequence,
    /// `{%}`: the worker's slot, from 1.
    Slot,
}

/// All placeholders, the longer ones first where one is the beginning of another.
const PLACEHOLDERS: [(&str, Piece); 7] = [
    ("{//}", Piece::Dirname),
    ("{/.}", Piece::Stem),
    ("{/}", Piece::Basename),
    ("{.}", Piece::WithoutExtension),
    ("{#}", Piece::Sequence),
    ("{%}", Piece::Slot),
    ("{}", Piece::Whole),
];

/// The record that a process is started for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its bytes, without the end of record.
    pub bytes: &'a [u8],
    /// Its number, from 1.
    pub sequence: u64,
    /// The worker's slot, from 1.
    pub slot: usize,
}

impl Piece {
    /// How it is written.
    pub(crate) fn word(self) -> &'static str {
        PLACEHOLDERS.iter().find(|(_, piece)| *piece == self).map_or("", |(word, _)| word)
    }

    /// The environment variable that carries it to a shell.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Whole => "MPFLOW_RECORD",
            Self::WithoutExtension => "MPFLOW_RECORD_WITHOUT_EXTENSION",
            Self::Basename => "MPFLOW_RECORD_BASENAME",
            Self::Dirname => "MPFLOW_RECORD_DIRNAME",
            Self::Stem => "MPFLOW_RECORD_STEM",
            Self::Sequence => "MPFLOW_SEQ",
            Self::Slot => "MPFLOW_SLOT",
        }
    }

    /// Whether it is taken from the record itself, and not from its number or slot.
    pub(crate) fn reads_record(self) -> bool {
        !matches!(self, Self::Sequence | Self::Slot)
    }

    /// What it stands for.
    pub(crate) fn value<'a>(self, record: Record<'a>) -> Cow<'a, [u8]> {
        let bytes = record.bytes;
        match self {
            Self::Whole => Cow::Borrowed(bytes),
            Self::WithoutExtension => Cow::Borrowed(without_extension(bytes)),
            Self::Basename => Cow::Borrowed(basename(bytes)),
            Self::Dirname => Cow::Borrowed(dirname(bytes)),
            Self::Stem => Cow::Borrowed(without_extension(basename(bytes))),
            Self::Sequence => Cow::Owned(record.sequence.to_string().into_bytes()),
            Self::Slot => Cow::Owned(record.slot.to_string().into_bytes()),
        }
    }
}

fn basename(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

fn dirname(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(slash) => &path[..slash],
        None => b".",
    }
}

/// The extension is what follows the last dot of the last component, GNU parallel's `s:\.[^/.]+$::`.
fn without_extension(path: &[u8]) -> &[u8] {
    let start = path.len() - basename(path).len();
    match path[start..].iter().rposition(|&byte| byte == b'.') {
        Some(dot) if start + dot + 1 < path.len() => &path[..start + dot],
        _ => path,
    }
}

/// One text in which placeholders may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// Literal texts and placeholders in turn.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Piece(Piece),
}

impl Template {
    /// Finds the placeholders of a text.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((piece, length)) = placeholder_at(rest) {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Piece(piece));
                rest = &rest[length..];
            } else {
                literal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }
    }

    /// A text in which nothing is a placeholder.
    pub(crate) fn literal(text: &str) -> Self {
        Self { parts: vec![Part::Literal(text.to_owned())] }
    }

    /// The placeholders in it, in order, with repetitions.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Piece(piece) => Some(*piece),
            Part::Literal(_) => None,
        })
    }

    /// The text for one record.
    pub(crate) fn expand(&self, record: Record<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Piece(piece) => text.extend_from_slice(&piece.value(record)),
            }
        }
        text
    }

    /// The text as a shell script in which each placeholder is a quoted reference to its variable.
    pub(crate) fn shell_script(&self) -> String {
        let mut script = String::new();
        let mut quoting = Quoting::default();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => {
                    quoting.read(literal);
                    script.push_str(literal);
                }
                Part::Piece(piece) => {
                    let variable = piece.variable();
                    match quoting.context() {
                        Context::Plain => script.push_str(&format!("\"${{{variable}}}\"")),
                        Context::Double | Context::Arithmetic => script.push_str(&format!("${{{variable}}}")),
                        Context::Single => script.push_str(&format!("'\"${{{variable}}}\"'")),
                    }
                    quoting.word_goes_on();
                }
            }
        }
        script
    }

    /// A placeholder that a shell would compute, `$(({} + 1))`: the script from its `$((` to the placeholder.
    /// What a record holds must not come there: some shells run commands that stand in such an expression.
    pub(crate) fn record_in_arithmetic(&self) -> Option<String> {
        let mut quoting = Quoting::default();
        let mut script = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => {
                    quoting.read(literal);
                    script.push_str(literal);
                }
                Part::Piece(piece) => {
                    script.push_str(piece.word());
                    if piece.reads_record() && quoting.context() == Context::Arithmetic {
                        let start = script.rfind("$((").unwrap_or(0);
                        return Some(script.split_off(start));
                    }
                    quoting.word_goes_on();
                }
            }
        }
        None
    }
}

/// The placeholder that a text begins with, and its length in bytes.
fn placeholder_at(text: &str) -> Option<(Piece, usize)> {
    if !text.starts_with('{') {
        return None;
    }
    PLACEHOLDERS.iter().find(|(word, _)| text.starts_with(word)).map(|(word, piece)| (*piece, word.len()))
}

/// Where in a shell script we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Plain,
    Double,
    Single,
    Arithmetic,
}

/// Follows the quoting of a POSIX shell script (POSIX.1-2017, XCU 2.2) through quotes, escapes, comments and
/// command substitutions. Here-documents are not followed: there a placeholder shows its quotes, which is
/// wrong to look at and still safe.
#[derive(Debug)]
struct Quoting {
    /// The innermost context last. A substitution inside double quotes starts a plain one again.
    stack: Vec<Frame>,
    escaped: bool,
    comment: bool,
    /// Whether the next character would start a word, where `#` starts a comment.
    word_start: bool,
    after_dollar: bool,
    /// The last two characters were `$(`: another parenthesis makes it an arithmetic expansion.
    after_substitution: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Plain text: the script itself, or `$(…)` and `(…)` up to its closing parenthesis.
    Plain,
    Double,
    Single,
    Backticks,
    /// Within `$((…))`, and parentheses in it.
    Arithmetic,
}

impl Default for Quoting {
    fn default() -> Self {
        Self {
            stack: vec![Frame::Plain],
            escaped: false,
            comment: false,
            word_start: true,
            after_dollar: false,
            after_substitution: false,
        }
    }
}

impl Quoting {
    fn top(&self) -> Frame {
        *self.stack.last().expect("the script's own frame is never taken off")
    }

    fn context(&self) -> Context {
        match self.top() {
            Frame::Plain | Frame::Backticks => Context::Plain,
            Frame::Double => Context::Double,
            Frame::Single => Context::Single,
            Frame::Arithmetic => Context::Arithmetic,
        }
    }

    fn word_goes_on(&mut self) {
        self.word_start = false;
        self.escaped = false;
        self.after_dollar = false;
        self.after_substitution = false;
    }

    fn read(&mut self, text: &str) {
        for c in text.chars() {
            self.read_char(c);
        }
    }

    fn pop(&mut self) {
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }

    fn read_char(&mut self, c: char) {
        let after_dollar = std::mem::take(&mut self.after_dollar);
        let after_substitution = std::mem::take(&mut self.after_substitution);
        if self.comment {
            self.comment = c != '\n';
            self.word_start = true;
            return;
        }
        if std::mem::take(&mut self.escaped) {
            self.word_start = false;
            return;
        }
        match (self.top(), c) {
            (Frame::Single, '\'') => self.pop(),
            (Frame::Single, _) => {}
            (_, '\\') => self.escaped = true,
            (Frame::Double, '"') => self.pop(),
            (_, '"') => self.stack.push(Frame::Double),
            (Frame::Plain | Frame::Backticks, '\'') => self.stack.push(Frame::Single),
            (Frame::Backticks, '`') => self.pop(),
            (_, '`') => self.stack.push(Frame::Backticks),
            (_, '$') => self.after_dollar = true,
            (Frame::Double, '(') if !after_dollar => {}
            (_, '(') if after_dollar => {
                self.stack.push(Frame::Plain);
                self.after_substitution = true;
            }
            (Frame::Arithmetic, '(') => self.stack.push(Frame::Arithmetic),
            (_, '(') if after_substitution => self.stack.push(Frame::Arithmetic),
            (_, '(') => self.stack.push(Frame::Plain),
            (Frame::Plain | Frame::Arithmetic, ')') => self.pop(),
            (Frame::Plain | Frame::Backticks, '#') if self.word_start => self.comment = true,
            _ => {}
        }
        self.word_start = matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '`');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, record: &str) -> String {
        let record = Record { bytes: record.as_bytes(), sequence: 7, slot: 2 };
        String::from_utf8(Template::parse(template).expand(record)).unwrap()
    }

    #[test]
    fn placeholders_mean_what_gnu_parallel_says() {
        let record = "photos/2024/cat.tar.gz";
        assert_eq!(expand("{}", record), "photos/2024/cat.tar.gz");
        assert_eq!(expand("{.}", record), "photos/2024/cat.tar");
        assert_eq!(expand("{/}", record), "cat.tar.gz");
        assert_eq!(expand("{//}", record), "photos/2024");
        assert_eq!(expand("{/.}", record), "cat.tar");
        assert_eq!(expand("{#}-{%}", record), "7-2");
        assert_eq!(expand("{.}", "a.b/c"), "a.b/c");
        assert_eq!(expand("{//}", "plain"), ".");
        assert_eq!(expand("{//}", "/etc"), "/");
        assert_eq!(expand("${x} {print} {", "r"), "${x} {print} {");
    }

    #[test]
    fn a_placeholder_in_a_shell_string_becomes_a_quoted_variable() {
        let script = |text| Template::parse(text).shell_script();
        assert_eq!(script("gzip {}"), r#"gzip "${MPFLOW_RECORD}""#);
        assert_eq!(script(r#"echo "a {} b""#), r#"echo "a ${MPFLOW_RECORD} b""#);
        assert_eq!(script("awk '/{}/'"), r#"awk '/'"${MPFLOW_RECORD}"'/'"#);
        assert_eq!(script(r#"echo "$(cat {})""#), r#"echo "$(cat "${MPFLOW_RECORD}")""#);
        assert_eq!(script("# it's\ncat {}"), "# it's\ncat \"${MPFLOW_RECORD}\"");
        assert_eq!(script(r#"echo \" {}"#), r#"echo \" "${MPFLOW_RECORD}""#);
        assert_eq!(
            script("echo \"$((({#} + 1) * 2)) {}\""),
            "echo \"$(((${MPFLOW_SEQ} + 1) * 2)) ${MPFLOW_RECORD}\""
        );
        assert_eq!(script("echo `cat {}` {#}"), "echo `cat \"${MPFLOW_RECORD}\"` \"${MPFLOW_SEQ}\"");
    }
    #[test]
    fn a_record_that_a_shell_would_compute_is_found() {
        let found = |text| Template::parse(text).record_in_arithmetic();
        assert_eq!(found("echo $(({} + 1))").unwrap(), "$(({}");
        assert_eq!(found("echo {} \"$((1 + $((2 * {/}))))\"").unwrap(), "$((2 * {/}");
        assert_eq!(found("echo $(( (1 + {#}) * ({}) ))").unwrap(), "$(( (1 + {#}) * ({}");
        for harmless in ["echo $(({#} + {%})) {}", "echo $((1 + $(wc -c < {})))", "(cd {}; echo '$(({}))' )"]
        {
            assert_eq!(found(harmless), None, "{harmless}");
        }
    }
}
