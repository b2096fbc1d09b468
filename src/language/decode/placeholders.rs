//! Placeholders of `each` in commands of other modes, and of one record where there are many.
//!
//! In a shell braces mean many things: `find … -exec rm {} \;`, `awk '{}'`, `jq '{}'`. So only a word that is
//! nothing but a placeholder, outside of quotes, is an error, and only in a command without such a program.

use super::reader::Reader;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Kind, Node};
use crate::model::{Command, Mode, PerWorker, Piece, Template};

/// Programs for whom braces have a meaning of their own.
const OWN_BRACES: [&str; 18] = [
    "find", "fd", "fdfind", "xargs", "parallel", "sem", "rush", "jq", "gojq", "jaq", "yq", "awk", "gawk",
    "mawk", "nawk", "python", "python3", "perl",
];

/// Checks the placeholders of a command against the stage's mode.
pub(super) fn check(reader: Reader<'_>, command: &PerWorker<Command>, node: &Node, mode: Mode, batch: bool) {
    // All workers have the same placeholders: they stand in the document, not in values.
    let command = command.get(0);
    if mode == Mode::Each
        && let Command::Shell(script) = command
        && let Some(fragment) = Template::parse(script).record_in_arithmetic()
    {
        report_arithmetic(reader, &fragment, node);
    }
    match mode {
        Mode::Each if batch => check_batch(reader, command, node),
        Mode::Each => {}
        Mode::Stream | Mode::Map => check_other_mode(reader, command, node),
    }
}

fn check_other_mode(reader: Reader<'_>, command: &Command, node: &Node) {
    let words = match command {
        Command::Shell(script) => unquoted_words(script),
        Command::Argv(argv) => argv.clone(),
    };
    if words.iter().any(|word| OWN_BRACES.contains(&word.rsplit('/').next().unwrap_or(word))) {
        return;
    }
    let Some((word, exact)) = words.iter().find_map(|word| placeholder_word(word)) else { return };
    let message = format!("placeholder `{word}` stands in a stage whose mode is not `each`");
    let finding = if exact {
        Finding::error(code::PLACEHOLDER_OUTSIDE_EACH, message)
    } else {
        Finding::warning(code::PLACEHOLDER_OUTSIDE_EACH, message)
    };
    reader.report(
        finding
            .at(place_of(reader, word, node), "the program would get it literally")
            .help("set `mode: each` to start the command once for every record"),
    );
}

/// The placeholder of a word, and whether it is all of the word.
fn placeholder_word(word: &str) -> Option<(&str, bool)> {
    for placeholder in ["{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{%}"] {
        if word == placeholder {
            return Some((placeholder, true));
        }
    }
    // Inside of a word only those count that hardly mean anything else.
    ["{//}", "{/.}", "{/}", "{.}"]
        .into_iter()
        .find(|placeholder| word.contains(placeholder))
        .map(|word| (word, false))
}

fn report_arithmetic(reader: Reader<'_>, fragment: &str, node: &Node) {
    reader.report(
        Finding::error(
            code::PLACEHOLDER_IN_ARITHMETIC,
            "a placeholder stands where the shell would compute what the record holds",
        )
        .at(place_of(reader, fragment, node), "some shells run commands that stand in such a text")
        .help("take the record into a variable, check that it is a number, and compute with that: `n={}; … $((n + 1))`"),
    );
}

fn check_batch(reader: Reader<'_>, command: &Command, node: &Node) {
    let texts = match command {
        Command::Shell(script) => std::slice::from_ref(script),
        Command::Argv(argv) => argv.as_slice(),
    };
    let pieces: Vec<Piece> =
        texts.iter().flat_map(|text| Template::parse(text).pieces().collect::<Vec<_>>()).collect();
    let Some(piece) = pieces.into_iter().find(|piece| piece.reads_record()) else { return };
    let word = piece.word();
    reader.report(
        Finding::error(
            code::PLACEHOLDER_IN_BATCH,
            format!("placeholder `{word}` stands for one record, and `batch` hands over many"),
        )
        .at(place_of(reader, word, node), "which record?")
        .help("read the records from standard input, or remove `batch`"),
    );
}

/// Where a placeholder stands in the command's own text.
fn place_of(reader: Reader<'_>, word: &str, node: &Node) -> crate::language::Span {
    let holder = match &node.kind {
        Kind::List(items) => {
            items.iter().find(|item| matches!(&item.kind, Kind::Text(text) if text.contains(word)))
        }
        _ => None,
    };
    reader.span_of(word, holder.unwrap_or(node).span)
}

/// The words of a shell script that have no quotes in them.
fn unquoted_words(script: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut quote = None;
    let mut chars = script.chars().chain(['\n']);
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some('"') if c == '\\' => drop(chars.next()),
            Some(_) => {}
            None => match c {
                '\'' | '"' => {
                    quote = Some(c);
                    quoted = true;
                }
                '\\' => {
                    chars.next();
                    quoted = true;
                }
                '#' if word.is_empty() && !quoted => {
                    chars.by_ref().find(|&c| c == '\n');
                }
                ' ' | '\t' | '\n' | ';' | '|' | '&' | '(' | ')' | '<' | '>' | '`' => {
                    if !quoted && !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                    word.clear();
                    quoted = false;
                }
                _ => word.push(c),
            },
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_quotes_are_not_looked_at() {
        assert_eq!(unquoted_words("echo {} | awk '{}' # {}"), ["echo", "{}", "awk"]);
        assert_eq!(unquoted_words("a \"{} \\\" {}\" \\{} b;{.}"), ["a", "b", "{.}"]);
        assert_eq!(placeholder_word("{}"), Some(("{}", true)));
        assert_eq!(placeholder_word("out/{/.}.png"), Some(("{/.}", false)));
        assert_eq!(placeholder_word("${x}"), None);
        assert_eq!(placeholder_word("a{}b"), None);
    }
}
