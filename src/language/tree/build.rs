//! From the parser's events to the tree.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use super::{Entry, Kind, MAX_ALIAS_NODES, MAX_DEPTH, Node, Origin, merge, scalar};
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::model::nearest;

/// Reads a document. What is wrong with it is added to `findings`; `None` where nothing of it can be used.
pub(in crate::language) fn parse(text: &str, findings: &mut Vec<Finding>) -> Option<Node> {
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::new(text, findings);
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, bytes(span)),
            Err(error) => Err(syntax_error(&error, text)),
        };
        if let Err(finding) = step {
            builder.findings.push(finding);
            return None;
        }
    }
    if builder.root.is_none() {
        let finding = Finding::error(code::EMPTY_DOCUMENT, "the document is empty")
            .at(Span::default(), "a pipeline has at least `stages`")
            .help("`mpflow init` writes a first pipeline to start from");
        builder.findings.push(finding);
    }
    builder.root
}

/// A list or map that has begun and not ended.
struct Frame {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// The entries, and a key that waits for its value.
    Map(Vec<Entry>, Option<(String, Span)>),
}

struct Builder<'a> {
    text: &'a str,
    findings: &'a mut Vec<Finding>,
    open: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    /// Finished anchored nodes with their sizes, by the parser's number for the anchor.
    anchors: HashMap<usize, (Node, usize)>,
    anchor_names: Vec<String>,
    alias_nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, findings: &'a mut Vec<Finding>) -> Self {
        Self {
            text,
            findings,
            open: Vec::new(),
            root: None,
            documents: 0,
            anchors: HashMap::new(),
            anchor_names: Vec::new(),
            alias_nodes: 0,
        }
    }

    /// Takes one event. An error ends the document: nothing after it could be trusted.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Finding> {
        match event {
            Event::DocumentStart(..) => return self.document_start(span),
            Event::Scalar(value, style, anchor, tag) => {
                let kind = self.scalar(&value, style, tag.as_deref(), span);
                self.finish(Node { span, kind }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "seq", span);
                self.begin(Content::List(Vec::new()), span, anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "map", span);
                self.begin(Content::Map(Vec::new(), None), span, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                self.unknown_alias(&name, span);
                self.finish(Node { span, kind: Kind::Broken }, 0);
            }
            Event::Anchor(_, name) => self.anchor_names.push(name.into_owned()),
            _ => {}
        }
        Ok(())
    }

    fn document_start(&mut self, span: Span) -> Result<(), Finding> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        Err(Finding::error(code::SEVERAL_DOCUMENTS, "the file holds more than one YAML document")
            .at(span, "a second document begins here")
            .help("put each pipeline into a file of its own"))
    }

    fn begin(&mut self, content: Content, span: Span, anchor: usize) -> Result<(), Finding> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(Frame { start: span.start, anchor, content });
        Ok(())
    }

    fn end(&mut self, span: Span) {
        let frame = self.open.pop().expect("the parser ends only what it has begun");
        let kind = match frame.content {
            Content::List(items) => Kind::List(items),
            Content::Map(entries, _) => Kind::Map(merge::merge(entries, self.text, self.findings)),
        };
        let end = frame.start + self.text.get(frame.start..span.end).unwrap_or("").trim_end().len();
        self.finish(Node { span: Span::new(frame.start, end), kind }, frame.anchor);
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let size = node.size();
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(entries, pending)) => match pending.take() {
                Some((key, key_span)) => {
                    // An absent value has no place of its own; its key has.
                    let span = if node.span.is_empty() { key_span } else { node.span };
                    let value = Node { span, kind: node.kind };
                    entries.push(Entry { key, key_span, value, origin: Origin::Own });
                }
                None => {
                    let key = key_text(&node, self.findings);
                    *pending = Some((key, node.span));
                }
            },
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Finding> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(Finding::error(code::UNKNOWN_ALIAS, "an alias stands inside of what it names")
                .at(span, "this would go on for ever"));
        };
        self.alias_nodes += size;
        if self.alias_nodes > MAX_ALIAS_NODES {
            return Err(Finding::error(code::ALIAS_BOMB, "aliases expand without bound")
                .at(span, format!("with this one to more than {MAX_ALIAS_NODES} values"))
                .help("use fewer aliases of aliases"));
        }
        if self.open.len() + node.depth() > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let node = node.clone();
        self.finish(node, 0);
        Ok(())
    }

    fn unknown_alias(&mut self, name: &str, span: Span) {
        let near = nearest(name, self.anchor_names.iter().map(String::as_str));
        self.findings.push(
            Finding::error(code::UNKNOWN_ALIAS, format!("alias `*{name}` names no anchor"))
                .at(span, "no anchor of this name stands before it")
                .maybe_help(match near {
                    Some(near) => Some(format!("did you mean `*{near}`?")),
                    None => Some("a text that begins with `*` needs quotes: `\"*.txt\"`".to_owned()),
                }),
        );
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Kind {
        let Some(tag) = tag.filter(|tag| !is_non_specific(tag)) else {
            let plain = style == ScalarStyle::Plain && tag.is_none();
            // The parser writes `~` for a value that is not there at all.
            let value = if plain && span.is_empty() { "" } else { value };
            return if plain { scalar::resolve_plain(value) } else { Kind::Text(value.to_owned()) };
        };
        let resolved = core_suffix(tag).map(|suffix| scalar::resolve_tagged(&suffix, value));
        match resolved {
            Some(Some(kind)) => return kind,
            Some(None) => self.findings.push(
                Finding::error(code::WRONG_TYPE, "a value does not fit its tag")
                    .at(span, format!("this is not what `{}` promises", written(tag))),
            ),
            None => self.findings.push(unknown_tag(tag, span)),
        }
        Kind::Broken
    }

    fn check_collection_tag(&mut self, tag: Option<&Tag>, wanted: &str, span: Span) {
        if let Some(tag) = tag.filter(|tag| !is_non_specific(tag))
            && core_suffix(tag).is_none_or(|suffix| suffix != wanted)
        {
            self.findings.push(unknown_tag(tag, span));
        }
    }
}

fn bytes(span: granit_parser::Span) -> Span {
    // Byte offsets are there whenever the parser reads from a `str`.
    let offset = |marker: &granit_parser::Marker| marker.byte_offset().unwrap_or_else(|| marker.index());
    Span::new(offset(&span.start), offset(&span.end))
}

/// The text of a key. YAML allows any value as a key; the language only a scalar.
fn key_text(node: &Node, findings: &mut Vec<Finding>) -> String {
    match &node.kind {
        Kind::Text(text) | Kind::Evaluated(text) | Kind::Null(text) => text.clone(),
        Kind::Integer(_, text) | Kind::Float(_, text) => text.clone(),
        Kind::Bool(value) => value.to_string(),
        Kind::Broken => String::new(),
        Kind::List(_) | Kind::Map(_) => {
            let label = format!("expected text, found {}", node.describe());
            let help = "a value that begins with `{` or `[` needs quotes to be text";
            findings
                .push(Finding::error(code::WRONG_TYPE, "a key must be text").at(node.span, label).help(help));
            String::new()
        }
    }
}

fn is_non_specific(tag: &Tag) -> bool {
    written(tag) == "!"
}

fn written(tag: &Tag) -> String {
    let (handle, suffix) = (tag.original_handle(), tag.suffix());
    format!("{handle}{suffix}")
}

/// `int` for `!!int`.
fn core_suffix(tag: &Tag) -> Option<String> {
    let full = format!("{}{}", tag.handle(), tag.suffix());
    full.strip_prefix("tag:yaml.org,2002:").map(str::to_owned)
}

fn unknown_tag(tag: &Tag, span: Span) -> Finding {
    Finding::error(code::UNKNOWN_TAG, format!("tag `{}` has no meaning here", written(tag)))
        .at(span, "this value has the tag")
        .help("remove the tag, or put the value in quotes if the `!` belongs to it")
}

fn too_deep(span: Span) -> Finding {
    Finding::error(code::TOO_DEEP, format!("lists and maps are nested more than {MAX_DEPTH} deep"))
        .at(span, "this is the one too many")
}

fn syntax_error(error: &ScanError, text: &str) -> Finding {
    let marker = error.marker();
    let start = marker.byte_offset().unwrap_or_else(|| marker.index());
    let span = Span::new(start, start + 1);
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_deep(span);
    }
    let (label, help) = explain(error.kind(), text);
    let label = label.map_or_else(|| error.kind().to_string(), str::to_owned);
    Finding::error(code::YAML_SYNTAX, "the document is not valid YAML")
        .at(span, label)
        .maybe_help(help.map(str::to_owned))
}

/// What the commonest mistakes look like to the one who made them.
fn explain(kind: &ErrorKind, text: &str) -> (Option<&'static str>, Option<&'static str>) {
    let quote_expression = text
        .contains("${{")
        .then_some("inside `{…}` or `[…]` an expression needs quotes: `\"${{ vars.x }}\"`");
    match kind {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabAtBlockScalarStart => {
            (Some("a tab stands here"), Some("YAML indents with spaces: replace the tab"))
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            Some("a `: ` cannot stand here"),
            Some("put a value that contains `: ` into quotes, or check the indentation of this line"),
        ),
        ErrorKind::UnclosedQuotedScalar => (Some("a quote was opened and never closed"), None),
        ErrorKind::UnknownQuotedScalarEscape => (
            Some("no such escape"),
            Some("in double quotes write `\\\\` for a backslash, or use single quotes"),
        ),
        ErrorKind::UnclosedFlowCollection { open: '{' } | ErrorKind::UnexpectedEofFlowMapping => {
            (Some("a `{` was opened and never closed"), quote_expression)
        }
        ErrorKind::UnclosedFlowCollection { .. } | ErrorKind::UnexpectedEofFlowSequence => {
            (Some("a `[` was opened and never closed"), quote_expression)
        }
        ErrorKind::ExpectedFlowMappingSeparator => (Some("expected `,` or `}`"), quote_expression),
        ErrorKind::ExpectedFlowSequenceSeparator => (Some("expected `,` or `]`"), quote_expression),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            (Some("expected `:` after a key"), Some("write `key: value`, with a space after the colon"))
        }
        ErrorKind::UnexpectedCharacter { character: '@' | '`' | '%' } => (
            Some("no value begins with this character"),
            Some("put a value that begins with `@`, `` ` `` or `%` into quotes"),
        ),
        _ => (None, quote_expression),
    }
}
