//! `vars`, and `--set`.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::Serde;

use super::reader::Reader;
use crate::language::diagnostic::{Finding, code};
use crate::language::expression::Scope;
use crate::language::tree::{Entry, Node, from_command_line};
use crate::model::nearest;

/// What `vars` and `--set` say.
#[derive(Debug)]
pub(super) struct Vars {
    /// The scope with all variables in it.
    pub(super) scope: Scope,
    declared: Vec<String>,
}

impl Vars {
    /// Each variable may use those before it; `--set` replaces values by name.
    pub(super) fn read(reader: Reader<'_>, node: Option<&Node>, set: &[(String, String)]) -> Self {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for (name, text) in set {
            let value = reader.json("a variable", &from_command_line(text));
            known.insert(
                name.clone(),
                value.map_or(Value::from(text.as_str()), |value| Value::from(Serde(value))),
            );
        }
        let mut scope = reader.scope.with_all("vars", known.clone());
        let mut declared = Vec::new();
        for entry in node.and_then(|node| reader.entries("`vars`", node)).unwrap_or_default() {
            if reader.identifier("a variable", &entry.key, entry.key_span).is_none() {
                continue;
            }
            if !set.iter().any(|(name, _)| *name == entry.key) {
                known.insert(entry.key.clone(), value_of(reader.with_scope(&scope), &entry));
                scope = scope.with_all("vars", known.clone());
            }
            declared.push(entry.key);
        }
        Self { scope, declared }
    }

    /// Reports what `--set` names and nothing declares or uses. To be asked when everything has been read.
    pub(super) fn report_unused(&self, reader: Reader<'_>, set: &[(String, String)]) {
        let used = reader.shared.evaluator.used_variables();
        for (name, _) in set {
            if self.declared.contains(name) || used.contains(name) {
                continue;
            }
            let near = nearest(name, self.declared.iter().chain(&used).map(String::as_str));
            let help = near.map_or_else(
                || format!("declare it: `vars: {{{name}: …}}`"),
                |near| format!("did you mean `--set {near}=…`?"),
            );
            let message =
                format!("`--set {name}=…` sets a variable that the document neither declares nor uses");
            reader.report(Finding::error(code::UNKNOWN_VARIABLE, message).help(help));
        }
    }
}

/// A variable that has failed is known all the same: those who use it are not wrong.
fn value_of(reader: Reader<'_>, entry: &Entry) -> Value {
    let what = format!("variable `{}`", entry.key);
    reader.json(&what, &entry.value).map_or(Value::from(1), |value| Value::from(Serde(value)))
}
