//! Diagnostics: findings joined with the text they speak of.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;

use miette::{LabeledSpan, SourceCode};

use super::{Finding, Source};
use crate::language::Span;
use crate::model::Severity;

/// One mistake in a document, or one warning.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    finding: Finding,
    labels: Vec<Label>,
    source: Source,
}

/// A place in the text, and what is to be said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    span: Span,
    text: String,
}

impl Label {
    /// Where: within the text, on whole characters, on one line.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What, a short lower-case fragment.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Diagnostic {
    /// The only way to make one: labels are fitted to the text here.
    fn new(finding: Finding, source: &Source) -> Self {
        let labels = finding
            .labels
            .iter()
            .map(|(span, text)| Label { span: span.fitted(&source.text), text: text.clone() })
            .collect();
        Self { finding, labels, source: source.clone() }
    }

    /// Stable and searchable: `mpflow::unknown_key`.
    pub fn code(&self) -> &'static str {
        self.finding.code
    }

    /// Whether it stops the run.
    pub fn severity(&self) -> Severity {
        self.finding.severity
    }

    /// A lower-case fragment with names in backticks.
    pub fn message(&self) -> &str {
        &self.finding.message
    }

    /// Where it is; the first is the primary one. Empty where the mistake is in no place of the text.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// An edit or a command that mends it.
    pub fn help(&self) -> Option<&str> {
        self.finding.help.as_deref()
    }

    /// The file, as the user wrote its name; of a pipeline that was built in code, the source file of that code.
    pub fn file(&self) -> &str {
        self.labels.first().map_or(&self.source.file, |label| self.source.file_at(label.span.start))
    }

    /// Line and column of a label's start, from 1; columns count characters. Of a pipeline that was built in code, of the
    /// call that says so.
    pub fn position(&self, label: &Label) -> (usize, usize) {
        self.source.position(label.span.start)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Two diagnostics with the same key say the same thing of the same place. What stands in `defaults` is read
    /// once for each stage, and its mistakes are found as often.
    fn key(&self) -> (&'static str, Option<Span>, String) {
        (self.finding.code, self.labels.first().map(|label| label.span), self.finding.message.clone())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.finding.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.labels.is_empty()).then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter().enumerate().map(|(index, label)| {
            let span = (label.span.start, label.span.len());
            let text = Some(label.text.clone());
            if index == 0 {
                LabeledSpan::new_primary_with_span(text, span)
            } else {
                LabeledSpan::new_with_span(text, span)
            }
        });
        (!self.labels.is_empty()).then(|| Box::new(labels) as Box<dyn Iterator<Item = _>>)
    }
}

/// More than this nobody reads, and finding the line of each in a large document takes long.
const MAX_KEPT: usize = 500;

/// Everything that is wrong with a document, in the order of its lines; never twice the same.
///
/// As an error it says how many there are, and has all of them as related ones. To show each by itself:
///
/// ```
/// let found = mpflow::Pipeline::from_yaml("stages: {a: {comand: ls, pool: 0}}").unwrap_err();
/// for diagnostic in &found {
///     println!("{}: {diagnostic}", diagnostic.code());
/// }
/// # assert_eq!(found.errors(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    pub(in crate::language) fn new(findings: impl IntoIterator<Item = Finding>, source: &Source) -> Self {
        let mut diagnostics = Self::default();
        diagnostics.add(findings.into_iter().map(|finding| Diagnostic::new(finding, source)));
        diagnostics
    }

    /// Adds others: a file's own warnings and what was found in its graph can be shown as one list.
    pub fn extend(&mut self, others: Self) {
        self.omitted += others.omitted;
        self.add(others.list);
    }

    fn add(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(others);
        self.list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
        let mut seen = HashSet::new();
        self.list.retain(|diagnostic| seen.insert(diagnostic.key()));
        if self.list.len() > MAX_KEPT {
            // Errors are kept before warnings, so that a refused document never looks like an accepted one.
            self.list.sort_by_key(|diagnostic| Reverse(diagnostic.severity()));
            self.omitted += self.list.split_off(MAX_KEPT).len();
            self.list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
        }
    }

    /// How many more there were; only the first some hundred are kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is to be said.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error).count()
    }

    /// Whether any stops the run.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// How many there are, and in which file; [`Diagnostics::plain`] says all.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.list.first() else { return f.write_str("nothing is wrong") };
        let counted = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let errors = self.errors() + self.omitted;
        let warnings = self.len() - self.errors();
        write!(f, "`{}` has ", first.file())?;
        match (errors, warnings) {
            (0, _) => f.write_str(&counted(warnings, "warning")),
            (_, 0) => f.write_str(&counted(errors, "error")),
            _ => write!(f, "{} and {}", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
}

/// All of them, as [`Diagnostics::plain`] says them: it is what a program shows whose `main` returns one.
impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plain())
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.has_errors() { miette::Severity::Error } else { miette::Severity::Warning })
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.list.iter().map(|diagnostic| diagnostic as &dyn miette::Diagnostic)))
    }
}
