//! The text that diagnostics speak of.

use std::sync::Arc;

/// A file's name and text, cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::language) struct Source {
    /// As the user wrote it.
    pub(in crate::language) file: String,
    pub(in crate::language) text: Arc<str>,
}

impl Source {
    pub(in crate::language) fn new(file: impl Into<String>, text: &str) -> Self {
        Self { file: file.into(), text: Arc::from(text) }
    }

    /// Line and column of an offset, both from 1; columns count characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// A line by its number, without its end.
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
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.file.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}
