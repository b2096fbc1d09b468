//! A range of bytes in the document.

/// A range of bytes in the text of a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From `start` up to `end`.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether it is a mere position.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The text it covers; empty where it does not fit the text.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or("")
    }

    /// The same within the text, on whole characters and on one line.
    ///
    /// A label past the end of the text makes miette panic, and one over many lines hides what it points at: of
    /// those only the first line is kept.
    pub(super) fn fitted(self, text: &str) -> Self {
        let start = floor(text, self.start);
        let end = floor(text, self.end.max(start));
        let line = text[start..end].find(['\n', '\r']).map_or(end, |length| start + length);
        let seen = text[start..line].trim_end().len();
        Self { start, end: start + seen }
    }
}

/// The start of the character that an offset lies in.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_span_lies_in_the_text_on_one_line() {
        assert_eq!(Span::new(2, 99).fitted("abc"), Span::new(2, 3));
        assert_eq!(Span::new(50, 99).fitted("abc"), Span::new(3, 3));
        assert_eq!(Span::new(0, 7).fitted("ab  \ncd"), Span::new(0, 2));
        assert_eq!(Span::new(1, 2).fitted("é"), Span::new(0, 2));
        assert_eq!(Span::new(0, 1).fitted("é"), Span::new(0, 0));
    }
}
