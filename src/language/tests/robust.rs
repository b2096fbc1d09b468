//! No text, however wrong, makes the reader panic or point outside of it.

use proptest::prelude::*;

use super::parse;
use crate::language::Diagnostics;

const SAMPLE: &str = "vars: {n: 2}\ndefaults: {pool: '${{ vars.n }}'}\nstages:\n  a: &a\n    command: |\n      é $X\n    \
    env: {A: '${{ worker.rank }}'}\n  b: {<<: *a, mode: each, batch: 2, command: 'c {}'}\nedges:\n  - queue: a -> b.x -> stdout\n    \
    capacity: 3\nshared: {x: {value: i64}}\n";

fn check(text: &str) {
    let found = match parse(text) {
        Ok(document) => document.warnings().clone(),
        Err(diagnostics) => {
            assert!(diagnostics.has_errors());
            diagnostics
        }
    };
    for label in found.iter().flat_map(|diagnostic| diagnostic.labels()) {
        assert!(text.get(label.span().start..label.span().end).is_some());
    }
    render(&found);
}

fn render(found: &Diagnostics) {
    let _ = found.plain().to_string();
    let _ = found.to_json();
    #[cfg(feature = "cli")]
    for diagnostic in found {
        let mut text = String::new();
        miette::GraphicalReportHandler::new().render_report(&mut text, diagnostic).unwrap();
    }
}

proptest! {
    #[test]
    fn random_text(text in "[ a-c:{}\\[\\],&*!|>'\"#$%~<\\-\t\r\né]{0,80}") {
        check(&text);
    }

    #[test]
    fn mutated_documents(at in 0..SAMPLE.len(), cut in 0..12_usize, put in "[ a-z0-9:{}\\[\\],&*|>'\"#$\n\\-é.]{0,6}") {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes.splice(at..(at + cut).min(SAMPLE.len()), put.bytes());
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn cut_documents(length in 0..SAMPLE.len()) {
        check(&String::from_utf8_lossy(&SAMPLE.as_bytes()[..length]));
    }
}

#[test]
fn corners() {
    for text in [
        "\u{feff}",
        "\0",
        "a: \"\\0\"",
        "\r",
        "\t",
        "%",
        "---\n...\n---\n",
        "? \n: \n",
        "{",
        "[",
        "é: é",
        "stages: {a: {command: '${{'}}",
    ] {
        check(text);
    }
}

#[test]
fn a_document_full_of_mistakes_is_reported_in_no_time() {
    let keys: String = (0..60_000).map(|number| format!("  k{number}: 1\n")).collect();
    let found = parse(&format!("stages:\n{keys}")).unwrap_err();
    assert_eq!((found.len(), found.omitted()), (500, 59_500));
    assert!(found.plain().to_string().ends_with("… and 59500 more"));
    render(&found);
}
