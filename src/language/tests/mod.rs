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

/// Reads a document. What the reader accepts, the schema must accept too.
fn parse(text: &str) -> Result<Document, Diagnostics> {
    let document = Document::parse(text, Path::new("/work/dir/demo.yaml"), &options())?;
    let tree = super::tree::parse(text, &mut Vec::new()).expect("it was parsed before");
    let found: Vec<_> = SCHEMA
        .iter_errors(&tree.to_json())
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(found.is_empty(), "the schema refuses {text}: {found:?}");
    Ok(document)
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
