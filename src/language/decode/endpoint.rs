//! `A -> B`: chains of ends.

use super::names::is_name;
use super::reader::Reader;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::Node;
use crate::model::{Endpoint, STDIN, STDOUT};

/// One link of a chain, with the places of its parts.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) from_span: Span,
    pub(super) arrow_span: Span,
    pub(super) to_span: Span,
}

/// A part of the text between arrows.
struct Part<'t> {
    text: &'t str,
    span: Span,
}

impl Reader<'_> {
    /// The links of `A -> B -> C`.
    pub(super) fn chain(self, what: &str, node: &Node) -> Option<Vec<Link>> {
        let text = self.full_text(what, node)?;
        let parts = self.parts(&text, node.span);
        if parts.len() < 2 {
            return self.mistake(
                code::INVALID_EDGE,
                format!("{what} must be `A -> B`"),
                node.span,
                "no arrow leads anywhere",
                format!("write `{} -> NEXT`", text.trim()),
            );
        }
        // All ends are looked at, so that all mistakes are found.
        let last = parts.len() - 1;
        let ends: Vec<_> = (0..parts.len()).map(|index| self.check_end(&parts[index], index, last)).collect();
        ends.into_iter().collect::<Option<()>>()?;
        let links = parts.windows(2).map(|pair| Link {
            from: endpoint(pair[0].text, STDOUT),
            to: endpoint(pair[1].text, STDIN),
            from_span: pair[0].span,
            arrow_span: self.span_of("->", Span::new(pair[0].span.end, pair[1].span.start)),
            to_span: pair[1].span,
        });
        Some(links.collect())
    }

    /// The parts between arrows, each with its place where the text is written as it is read.
    fn parts<'t>(self, text: &'t str, span: Span) -> Vec<Part<'t>> {
        let offset = span.of(self.shared.text).find(text);
        let mut start = 0;
        let mut parts = Vec::new();
        for piece in text.split("->") {
            let trimmed = piece.trim();
            let lead = piece.len() - piece.trim_start().len();
            let place = offset.map(|offset| span.start + offset + start + lead);
            let place = place.map_or(span, |place| Span::new(place, place + trimmed.len()));
            parts.push(Part { text: trimmed, span: place });
            start += piece.len() + "->".len();
        }
        parts
    }

    fn check_end(self, part: &Part<'_>, index: usize, last: usize) -> Option<()> {
        let invalid = |label: &str, help: &str| {
            self.report(
                Finding::error(code::INVALID_EDGE, format!("`{}` is not an end of an edge", part.text))
                    .at(part.span, label)
                    .help(help),
            );
            None
        };
        if part.text.is_empty() {
            self.report(
                Finding::error(code::INVALID_EDGE, "an arrow has nothing on one side")
                    .at(part.span, "a stage is missing here")
                    .help("write `A -> B`, or a chain `A -> B -> C`"),
            );
            return None;
        }
        match part.text {
            STDIN if index != 0 => {
                self.reserved_end(part, "`mpflow`'s standard input can only be the first end")
            }
            STDOUT if index != last => {
                self.reserved_end(part, "`mpflow`'s standard output can only be the last end")
            }
            STDIN | STDOUT => Some(()),
            text => {
                let (stage, port) = text.split_once('.').unwrap_or((text, STDIN));
                if stage == STDIN || stage == STDOUT {
                    return self.reserved_end(part, "`mpflow`'s own streams have no ports");
                }
                if is_name(stage) && is_name(port) {
                    return Some(());
                }
                invalid("expected `stage` or `stage.port`", "names have letters, digits, `_` and `-` in them")
            }
        }
    }

    fn reserved_end(self, part: &Part<'_>, label: &str) -> Option<()> {
        let message = format!("`{}` cannot be this end of an edge", part.text);
        let help =
            "`stdin -> STAGE` reads what is piped into `mpflow`, `STAGE -> stdout` writes to its output";
        self.mistake(code::RESERVED_NAME, message, part.span, label, help)
    }
}

fn endpoint(text: &str, standard: &str) -> Endpoint {
    if text == STDIN || text == STDOUT {
        return Endpoint::Engine;
    }
    let (stage, port) = text.split_once('.').unwrap_or((text, standard));
    Endpoint::Stage { stage: stage.to_owned(), port: port.to_owned() }
}
