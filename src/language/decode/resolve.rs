//! Expressions put in their places.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::reader::Reader;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::expression::{Failure, Segment, has_expression, locate, segments};
use crate::language::tree::{Entry, Kind, Node, Origin};

impl Reader<'_> {
    /// The node with its expressions evaluated; of a list or map only the node itself, not what is in it.
    ///
    /// `None` where that cannot be done, which has been reported then.
    pub(super) fn resolve<'n>(self, node: &'n Node) -> Option<Cow<'n, Node>> {
        if node.kind == Kind::Broken {
            return None;
        }
        let Kind::Text(text) = &node.kind else { return Some(Cow::Borrowed(node)) };
        if !has_expression(text) {
            return Some(Cow::Borrowed(node));
        }
        let Ok(segments) = segments(text) else {
            return self.mistake(
                code::EXPRESSION_SYNTAX,
                "an expression is not closed",
                self.span_of("${{", node.span),
                "no `}}` follows this",
                "write `${{ … }}`",
            );
        };
        let kind = match segments.as_slice() {
            [Segment::Expression(expression)] => self.typed(expression, node.span)?,
            _ => Kind::Evaluated(self.interpolated(&segments, node.span)?),
        };
        Some(Cow::Owned(Node { span: node.span, kind }))
    }

    /// The node with all expressions in it evaluated, as JSON.
    pub(super) fn json(self, what: &str, node: &Node) -> Option<Json> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Broken => None,
            Kind::Null(_) => Some(Json::Null),
            Kind::Bool(value) => Some(Json::Bool(*value)),
            Kind::Integer(value, _) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => Some(value.into()),
                (_, Ok(value)) => Some(value.into()),
                _ => Some((*value as f64).into()),
            },
            Kind::Float(value, _) => match serde_json::Number::from_f64(*value) {
                Some(number) => Some(Json::Number(number)),
                None => self.wrong_type(what, "a finite number", &node),
            },
            Kind::Text(text) | Kind::Evaluated(text) => Some(Json::String(text.clone())),
            Kind::List(items) => {
                // Each is read, so that each is reported.
                let values: Vec<_> = items.iter().map(|item| self.json(what, item)).collect();
                values.into_iter().collect::<Option<_>>().map(Json::Array)
            }
            Kind::Map(entries) => {
                let values: Vec<_> = entries
                    .iter()
                    .map(|entry| Some((entry.key.clone(), self.json(what, &entry.value)?)))
                    .collect();
                values.into_iter().collect::<Option<_>>().map(Json::Object)
            }
        }
    }

    /// Whether anything in the node names the worker.
    pub(super) fn names_worker(self, node: &Node) -> bool {
        let here = match &node.kind {
            Kind::Text(text) if has_expression(text) => {
                segments(text).unwrap_or_default().iter().any(|segment| match segment {
                    Segment::Expression(expression) => self.shared.evaluator.names_worker(expression),
                    Segment::Text(_) => false,
                })
            }
            _ => false,
        };
        here || node.children().any(|child| self.names_worker(child))
    }

    /// A scalar that is one expression has the expression's type.
    fn typed(self, expression: &str, span: Span) -> Option<Kind> {
        let value = self.evaluate(expression, 0, span)?;
        Some(from_json(value, span).kind)
    }

    fn interpolated(self, segments: &[Segment<'_>], span: Span) -> Option<String> {
        let mut text = Some(String::new());
        let mut nth = 0;
        for segment in segments {
            let piece = match segment {
                Segment::Text(literal) => Some((*literal).to_owned()),
                Segment::Expression(expression) => {
                    let value = self.evaluate(expression, nth, span);
                    nth += 1;
                    value.and_then(|value| self.as_text(value, span))
                }
            };
            text = text.zip(piece).map(|(text, piece)| text + &piece);
        }
        text
    }

    fn as_text(self, value: Json, span: Span) -> Option<String> {
        let found = match value {
            Json::String(text) => return Some(text),
            Json::Bool(_) | Json::Number(_) => return Some(value.to_string()),
            Json::Null => "nothing",
            Json::Array(_) => "a list",
            Json::Object(_) => "a map",
        };
        self.mistake(
            code::WRONG_TYPE,
            "an expression inside of a text must give text, a number or a truth value",
            span,
            format!("an expression in this gives {found}"),
            "a list can be made a text by `| join(\" \")`",
        )
    }

    fn evaluate(self, expression: &str, nth: usize, span: Span) -> Option<Json> {
        let failure = match self.shared.evaluator.evaluate(expression, self.scope) {
            Ok(value) => match serde_json::to_value(&value) {
                Ok(json) => return Some(json),
                Err(_) => Failure::Failed("its value is neither text, number, list nor map".to_owned()),
            },
            Err(failure) => failure,
        };
        let place = self.place_of(expression, nth, span);
        self.report(finding(failure, expression, place, self.shared.text));
        None
    }

    /// Where the expression stands: between its braces, where that can be told.
    fn place_of(self, expression: &str, nth: usize, span: Span) -> Span {
        let Some((range, literal)) = locate(span.of(self.shared.text), nth, expression) else { return span };
        if !literal {
            return Span::new(span.start + range.start, span.start + range.end);
        }
        let start = span.start + range.start + "${{".len() + leading_blanks(expression);
        Span::new(start, start + expression.trim().len())
    }
}

fn leading_blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn finding(failure: Failure, expression: &str, place: Span, text: &str) -> Finding {
    // The name alone, where the place is the expression as written.
    let name_place = |name: &str| match place.of(text).find(name) {
        Some(offset) if place.of(text) == expression.trim() => {
            Span::new(place.start + offset, place.start + offset + name.len())
        }
        _ => place,
    };
    match failure {
        Failure::Syntax(reason) => {
            Finding::error(code::EXPRESSION_SYNTAX, "an expression cannot be read").at(place, reason)
        }
        Failure::Failed(reason) => {
            Finding::error(code::EXPRESSION_FAILED, "an expression has no value").at(place, reason)
        }
        Failure::UnknownName { name, why, help } => {
            Finding::error(code::UNKNOWN_NAME, format!("unknown name `{name}` in an expression"))
                .at(name_place(&name), why)
                .maybe_help(help)
        }
        Failure::Worker { name, in_stage } => {
            let why = if in_stage {
                "this key has one value for all workers of the stage"
            } else {
                "known only inside of a stage"
            };
            let help =
                "`worker.*` can stand in `command`, `env`, `cwd`, `stdin`, `stdout` and `stderr` of a stage";
            Finding::error(code::WORKER_EXPRESSION, format!("`{name}` cannot be used here"))
                .at(name_place(&name), why)
                .help(help)
        }
    }
}

/// What an expression gave, as if it stood in the document.
fn from_json(value: Json, span: Span) -> Node {
    let kind = match value {
        Json::Null => Kind::Null("null".to_owned()),
        Json::Bool(value) => Kind::Bool(value),
        Json::Number(number) => {
            let text = number.to_string();
            match text.parse::<i128>() {
                Ok(value) => Kind::Integer(value, text),
                Err(_) => Kind::Float(number.as_f64().unwrap_or(f64::NAN), text),
            }
        }
        Json::String(text) => Kind::Evaluated(text),
        Json::Array(items) => Kind::List(items.into_iter().map(|item| from_json(item, span)).collect()),
        Json::Object(entries) => {
            let entry = |(key, value)| Entry {
                key,
                key_span: span,
                value: from_json(value, span),
                origin: Origin::Own,
            };
            Kind::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { span, kind }
}
