//! The text that diagnostics speak of.

use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;

/// A file's name and text, cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::language) struct Source {
    /// As the user wrote it.
    pub(in crate::language) file: String,
    pub(in crate::language) text: Arc<str>,
    /// Where the text was written by code.
    code: Option<Arc<Code>>,
}

/// The code that a text comes from.
#[derive(Debug)]
struct Code {
    built_at: &'static Location<'static>,
    /// Of ranges that lie in one another the smaller one first.
    parts: Vec<(Range<usize>, &'static Location<'static>)>,
}

impl Source {
    pub(in crate::language) fn new(file: impl Into<String>, text: &str) -> Self {
        Self { file: file.into(), text: Arc::from(text), code: None }
    }

    /// A text that code has made, with the ranges of it that each place in the code has made.
    pub(in crate::language) fn built(
        text: &str,
        built_at: &'static Location<'static>,
        parts: Vec<(Range<usize>, &'static Location<'static>)>,
    ) -> Self {
        let code = Some(Arc::new(Code { built_at, parts }));
        Self { file: built_at.file().to_owned(), text: Arc::from(text), code }
    }

    /// The place in the code that says what stands at an offset.
    pub(super) fn origin(&self, offset: usize) -> Option<&'static Location<'static>> {
        let code = self.code.as_ref()?;
        let part = code.parts.iter().find(|(range, _)| range.start <= offset && offset <= range.end);
        Some(part.map_or(code.built_at, |(_, origin)| origin))
    }

    /// The file that a user would look into for what stands at an offset.
    pub(super) fn file_at(&self, offset: usize) -> &str {
        self.origin(offset).map_or(&self.file, |origin| origin.file())
    }

    /// Line and column of an offset there, both from 1; columns count characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        match self.origin(offset) {
            Some(origin) => (origin.line() as usize, origin.column() as usize),
            None => self.position_in_text(offset),
        }
    }

    /// Line and column of an offset in the text.
    pub(super) fn position_in_text(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// A line of the text by its number, without its end.
    pub(super) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or("")
    }
}

impl miette::SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.text.read_span(span, context_lines_before, context_lines_after)?;
        let name = match self.origin(span.offset()) {
            Some(origin) => format!("{origin}, as YAML"),
            None => self.file.clone(),
        };
        Ok(Box::new(miette::MietteSpanContents::new_named(
            name,
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}
