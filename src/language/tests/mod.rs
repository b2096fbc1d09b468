//! What documents mean, and what is said of wrong ones.

mod edges;
mod expressions;
mod meaning;
#[cfg(feature = "cli")]
mod mistakes;
mod robust;

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;

use super::{Diagnostics, Document, ParseOptions};
use crate::model::{Pipeline, Stage};

fn options() -> ParseOptions {
    let env = [("HOME", "/home/me"), ("WORKERS", "3")];
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    ParseOptions { env, cpus: 8, ..ParseOptions::default() }
}

static SCHEMA: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft7::new(&super::schema()).expect("the schema is one"));

/// Reads a document. What the reader accepts, the schema must accept too, and what it says can be written down again.
fn parse(text: &str) -> Result<Document, Diagnostics> {
    let document = Document::parse(text, Path::new("/work/dir/demo.yaml"), &options())?;
    let tree = super::tree::parse(text, &mut Vec::new()).expect("it was parsed before");
    let found: Vec<_> = SCHEMA
        .iter_errors(&tree.to_json())
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(found.is_empty(), "the schema refuses {text}: {found:?}");
    assert_can_be_written(document.pipeline());
    Ok(document)
}

/// A pipeline that is written and read again is the same.
fn assert_can_be_written(pipeline: &Pipeline) {
    let text = super::write::write(pipeline);
    let path = pipeline.dir.join("written.yaml");
    match Document::parse(&text, &path, &ParseOptions::default()) {
        Ok(read) => assert_eq!(read.pipeline(), pipeline, "{text}"),
        Err(diagnostics) => panic!("{}\n{text}", diagnostics.plain()),
    }
}

#[test]
fn the_pipelines_of_the_repository_are_the_same_when_they_are_written_and_read_again() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let document = Document::load(&path, &ParseOptions::of_this_process());
                let document = document.unwrap_or_else(|wrong| panic!("{}", wrong.plain()));
                assert_can_be_written(document.pipeline());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// The pipeline of a document that must have no mistakes.
fn pipeline(text: &str) -> Pipeline {
    match parse(text) {
        Ok(document) => document.into_pipeline(),
        Err(diagnostics) => panic!("{}", diagnostics.plain()),
    }
}

/// The one stage `a` with these keys.
fn stage(keys: &str) -> Stage {
    pipeline(&format!("stages: {{a: {{{keys}}}}}")).stages.remove(0)
}

/// The mistakes of a document that must have some.
fn mistakes(text: &str) -> Diagnostics {
    match parse(text) {
        Ok(document) => panic!("no mistake was found in {:#?}", document.pipeline()),
        Err(diagnostics) => diagnostics,
    }
}

/// The codes of all mistakes of the one stage `a` with these keys, without `mpflow::`.
fn stage_codes(keys: &str) -> Vec<String> {
    codes(&mistakes(&format!("stages: {{a: {{{keys}}}}}")))
}

fn codes(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.iter().map(|diagnostic| diagnostic.code().replace("mpflow::", "")).collect()
}
