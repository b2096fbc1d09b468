//! Duplicate keys, and the merge key `<<` (<https://yaml.org/type/merge.html>).

use std::collections::HashMap;

use super::{Entry, Kind, Node};
use crate::language::diagnostic::{Finding, code};

const MERGE: &str = "<<";

/// The entries of one map: without duplicates, and with what `<<` brings in after them.
///
/// Own keys win over merged ones, and earlier maps of a list over later ones. `text`: the document. In quotes `<<` is a key
/// like any other.
pub(super) fn merge(entries: Vec<Entry>, text: &str, findings: &mut Vec<Finding>) -> Vec<Entry> {
    let mut own: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut merged = Vec::new();
    for entry in entries {
        if let Some(&first) = places.get(&entry.key) {
            findings.push(duplicate(&own[first], &entry));
            continue;
        }
        places.insert(entry.key.clone(), own.len());
        own.push(entry);
    }
    own.retain_mut(|entry| {
        let is_merge = entry.key == MERGE
            && text.get(entry.key_span.start..).is_some_and(|written| written.starts_with(MERGE));
        if is_merge {
            collect(&entry.value, &mut merged, findings);
        }
        !is_merge
    });
    for entry in merged {
        if !places.contains_key(&entry.key) {
            places.insert(entry.key.clone(), own.len());
            own.push(entry);
        }
    }
    own
}

fn collect(value: &Node, merged: &mut Vec<Entry>, findings: &mut Vec<Finding>) {
    match &value.kind {
        Kind::Broken => {}
        Kind::Map(entries) => merged.extend(entries.iter().cloned()),
        Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_) | Kind::Broken)) => {
            for item in items {
                collect(item, merged, findings);
            }
        }
        _ => findings.push(
            Finding::error(code::WRONG_TYPE, "`<<` merges a map or a list of maps")
                .at(value.span, format!("expected an alias of a map, found {}", value.describe())),
        ),
    }
}

fn duplicate(first: &Entry, again: &Entry) -> Finding {
    Finding::error(code::DUPLICATE_KEY, format!("key `{}` stands twice in one map", again.key))
        .at(again.key_span, "again here")
        .at(first.key_span, "first here")
        .help("remove one of the two, or give it another name")
}
