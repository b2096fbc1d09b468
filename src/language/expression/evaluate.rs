//! From the text of an expression to its value.

use std::cell::{LazyCell, RefCell};
use std::collections::BTreeSet;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::Scope;
use super::scope::{ROOTS, Worker};
use crate::model::nearest;

/// No expression may give more values or a longer text than this; a document is at most as large itself.
const MAX_VALUES: usize = 100_000;
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Evaluates expressions, and remembers which variables they named.
#[derive(Debug)]
pub(in crate::language) struct Evaluator {
    /// Made for the first expression: few pipelines have one, and it is large.
    environment: LazyCell<Environment<'static>>,
    used_variables: RefCell<BTreeSet<String>>,
}

/// Why an expression has no value.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::language) enum Failure {
    /// It cannot be read; the reason.
    Syntax(String),
    /// It names what is not known here: the name, why, and what may have been meant.
    UnknownName { name: String, why: String, help: Option<String> },
    /// It names the worker where all workers share the value.
    Worker { name: String, in_stage: bool },
    /// It has no value; the reason.
    Failed(String),
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // It would print every variable of the environment, and some are secrets.
    environment.remove_global("debug");
    environment
}

impl Evaluator {
    pub(in crate::language) fn new() -> Self {
        Self { environment: LazyCell::new(environment), used_variables: RefCell::default() }
    }

    /// The variables that any expression has named so far.
    pub(in crate::language) fn used_variables(&self) -> BTreeSet<String> {
        self.used_variables.borrow().clone()
    }

    /// Whether an expression names the worker. One that cannot be read does not.
    pub(in crate::language) fn names_worker(&self, expression: &str) -> bool {
        self.environment
            .compile_expression(expression)
            .is_ok_and(|expression| expression.undeclared_variables(false).contains("worker"))
    }

    /// The value of an expression.
    pub(in crate::language) fn evaluate(&self, expression: &str, scope: &Scope) -> Result<Value, Failure> {
        let compiled = self.environment.compile_expression(expression).map_err(|error| unreadable(&error))?;
        let names: BTreeSet<String> = compiled.undeclared_variables(true).into_iter().collect();
        for name in &names {
            self.check_name(name, scope)?;
        }
        match compiled.eval(scope.value()) {
            Ok(value) if !value.is_undefined() => {
                let mut budget = MAX_VALUES;
                if fits(&value, &mut budget) {
                    return Ok(value);
                }
                Err(Failure::Failed("its value is too large".to_owned()))
            }
            Ok(_) => Err(undefined(&names, scope)),
            Err(error) if error.kind() == ErrorKind::UndefinedError => Err(undefined(&names, scope)),
            Err(error) => Err(Failure::Failed(without_secrets(reason(&error), &names, scope))),
        }
    }

    /// Checks what is known before any value is: whether a default follows or not, a name outside the language is
    /// a slip.
    fn check_name(&self, name: &str, scope: &Scope) -> Result<(), Failure> {
        let (root, rest) = name.split_once('.').unwrap_or((name, ""));
        if !ROOTS.contains(&root) {
            return Err(unknown_root(name, root, scope));
        }
        let attribute = rest.split('.').next().unwrap_or_default();
        if root == "vars" && !attribute.is_empty() {
            self.used_variables.borrow_mut().insert(attribute.to_owned());
        }
        if root == "worker" && scope.worker() != Worker::One {
            let in_stage = scope.worker() == Worker::AllAlike;
            return Err(Failure::Worker { name: name.to_owned(), in_stage });
        }
        let Some(_) = scope.root(root) else {
            let why = match root {
                "stage" | "pool" if scope.worker() == Worker::NoStage => "known only inside of a stage",
                _ => "not known yet at this place",
            };
            return Err(Failure::UnknownName { name: name.to_owned(), why: why.to_owned(), help: None });
        };
        // What `vars` and `env` hold is the user's: a default may stand in for it.
        if matches!(root, "vars" | "env") || attribute.is_empty() {
            return Ok(());
        }
        if scope.names(root).iter().any(|known| known == attribute) {
            return Ok(());
        }
        Err(unknown_attribute(root, attribute, scope))
    }
}

/// The first of the names that has no value.
fn undefined(names: &BTreeSet<String>, scope: &Scope) -> Failure {
    for name in names {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or_default();
        let Some(mut value) = scope.root(root).cloned() else { continue };
        for (depth, part) in parts.enumerate() {
            value = value.get_attr(part).unwrap_or_default();
            if value.is_undefined() && depth == 0 {
                return unknown_attribute(root, part, scope);
            }
            if value.is_undefined() {
                let why = "it has no such entry".to_owned();
                return Failure::UnknownName { name: name.clone(), why, help: None };
            }
        }
    }
    Failure::Failed("it has no value".to_owned())
}

fn unknown_root(name: &str, root: &str, scope: &Scope) -> Failure {
    let full: Vec<String> = ["vars", "pipeline", "stage", "worker", "pool"]
        .iter()
        .flat_map(|root| scope.names(root).into_iter().map(move |name| format!("{root}.{name}")))
        .collect();
    // A bare `width` is a `vars.width` whose beginning was forgotten.
    let forgotten = full.iter().find(|full| full.split_once('.').is_some_and(|(_, last)| last == name));
    let near = forgotten.map(String::as_str).or_else(|| nearest(root, ROOTS));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "an expression begins with `vars.`, `env.`, `pipeline.`, `stage.`, `worker.` or `pool.`"
            .to_owned(),
    };
    Failure::UnknownName {
        name: root.to_owned(),
        why: "not a name of the language".to_owned(),
        help: Some(help),
    }
}

fn unknown_attribute(root: &str, attribute: &str, scope: &Scope) -> Failure {
    let names = scope.names(root);
    let near = nearest(attribute, names.iter().map(String::as_str));
    let (why, remedy) = match root {
        "vars" => (
            "not declared in `vars` before this place",
            Some(format!("declare it under `vars`, or give it a default: `vars.{attribute} | default(…)`")),
        ),
        "env" => (
            "not set in the environment of `mpflow`",
            Some(format!("set it, or give it a default: `env.{attribute} | default(\"…\")`")),
        ),
        _ => ("not known", Some(format!("`{root}` has {}", listed(root, &names)))),
    };
    let help = near.map(|near| format!("did you mean `{root}.{near}`?")).or(remedy);
    Failure::UnknownName { name: format!("{root}.{attribute}"), why: why.to_owned(), help }
}

fn listed(root: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("`{root}.{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a value is of a size that can be meant. Lists may be lazy and huge, so they are counted, not collected.
fn fits(value: &Value, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else { return false };
    *budget = left;
    if let Some(text) = value.as_str() {
        return text.len() <= MAX_TEXT_BYTES;
    }
    let is_map = value.kind() == ValueKind::Map;
    let mut items = value.try_iter().into_iter().flatten();
    items.all(|item| {
        let inner = if is_map { value.get_item(&item).unwrap_or_default() } else { item };
        fits(&inner, budget)
    })
}

/// Some of the library's messages hold the values they speak of.
fn without_secrets(mut reason: String, names: &BTreeSet<String>, scope: &Scope) -> String {
    for name in names {
        let Some(variable) = name.strip_prefix("env.") else { continue };
        let value = scope.root("env").and_then(|env| env.get_attr(variable).ok());
        if let Some(secret) = value.as_ref().and_then(Value::as_str).filter(|secret| !secret.is_empty()) {
            reason = reason.replace(secret, "…");
        }
    }
    reason
}

fn unreadable(error: &minijinja::Error) -> Failure {
    Failure::Syntax(reason(error))
}

/// The library's own words, without the name it gives to the text.
fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn scope() -> Scope {
        let env = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
        Scope::new(&env).with("vars", [("width", Value::from(4)), ("list", Value::from(vec![1, 2]))])
    }

    fn evaluate(expression: &str) -> Result<String, Failure> {
        Evaluator::new().evaluate(expression, &scope()).map(|value| value.to_string())
    }

    fn unknown(expression: &str) -> (String, Option<String>) {
        match evaluate(expression) {
            Err(Failure::UnknownName { name, help, .. }) => (name, help),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn expressions_have_values() {
        assert_eq!(evaluate("vars.width * 2").unwrap(), "8");
        assert_eq!(evaluate("env.HOME ~ '/x'").unwrap(), "/root/x");
        assert_eq!(evaluate("env.DB | default('localhost')").unwrap(), "localhost");
        assert_eq!(evaluate("vars.width if vars.width > 3 else 1").unwrap(), "4");
        assert_eq!(evaluate("vars['width']").unwrap(), "4");
    }

    #[test]
    fn unknown_names_are_named_with_the_nearest_right_one() {
        assert_eq!(unknown("vars.widht"), ("vars.widht".into(), Some("did you mean `vars.width`?".into())));
        assert_eq!(unknown("width"), ("width".into(), Some("did you mean `vars.width`?".into())));
        assert_eq!(unknown("var.width"), ("var".into(), Some("did you mean `vars`?".into())));
        assert_eq!(unknown("foo | default(1)").0, "foo");
        assert_eq!(unknown("env.HOMES").1.unwrap(), "did you mean `env.HOME`?");
        assert_eq!(unknown("stage.name").0, "stage.name");
    }

    #[test]
    fn the_worker_is_known_only_where_values_are_for_one() {
        let evaluator = Evaluator::new();
        let stage = scope().in_stage("a");
        let worker = |in_stage| Err(Failure::Worker { name: "worker.rank".into(), in_stage });
        assert_eq!(evaluator.evaluate("worker.rank", &scope()).map(|_| ()), worker(false));
        assert_eq!(evaluator.evaluate("worker.rank", &stage).map(|_| ()), worker(true));
        let one = stage.for_worker(2, "a/2");
        assert_eq!(evaluator.evaluate("worker.name ~ stage.name", &one).unwrap().to_string(), "a/2a");
        assert!(evaluator.names_worker("1 + worker.rank"));
        assert!(!evaluator.names_worker("vars.worker"));
    }

    #[test]
    fn what_cannot_be_read_or_computed_says_why() {
        assert!(matches!(evaluate("1 +"), Err(Failure::Syntax(_))));
        assert!(matches!(evaluate("vars.width | nofilter"), Err(Failure::Failed(_) | Failure::Syntax(_))));
        assert!(matches!(evaluate("vars.width + 'x'"), Err(Failure::Failed(_))));
        let too_large = Err(Failure::Failed("its value is too large".to_owned()));
        assert_eq!(evaluate("[[0] * 1000] * 1000"), too_large);
        assert_eq!(evaluate("'x' * 10000000"), too_large);
        for expression in ["env.HOME + 1", "env.HOME | int", "env.HOME - 1", "env.HOME.x.y"] {
            assert!(!format!("{:?}", evaluate(expression)).contains("/root"), "{expression}");
        }
    }
}
