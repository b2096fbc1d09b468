//! What an expression can name.

use std::collections::BTreeMap;

use minijinja::Value;

/// The words an expression can begin with.
pub(super) const ROOTS: [&str; 6] = ["vars", "env", "pipeline", "stage", "worker", "pool"];

/// The names known at one place of the document.
#[derive(Debug, Clone)]
pub(in crate::language) struct Scope {
    roots: BTreeMap<&'static str, Value>,
    worker: Worker,
}

/// What is known of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::language) enum Worker {
    /// The place is outside of all stages.
    NoStage,
    /// The place is one of a stage, and has one value for all its workers.
    AllAlike,
    /// The value is for one worker.
    One,
}

impl Scope {
    /// Nothing but the environment.
    pub(in crate::language) fn new(env: &BTreeMap<String, String>) -> Self {
        let env = env.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        let roots = BTreeMap::from([
            ("env", Value::from(env.collect::<BTreeMap<_, _>>())),
            ("vars", Value::from(BTreeMap::<String, Value>::new())),
        ]);
        Self { roots, worker: Worker::NoStage }
    }

    /// The same with `root.name` for each of these.
    #[must_use]
    pub(in crate::language) fn with<const N: usize>(
        &self,
        root: &'static str,
        names: [(&str, Value); N],
    ) -> Self {
        self.with_all(root, names.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The same with all these names under `root`.
    #[must_use]
    pub(in crate::language) fn with_all(&self, root: &'static str, names: BTreeMap<String, Value>) -> Self {
        let mut scope = self.clone();
        scope.roots.insert(root, Value::from(names));
        scope
    }

    /// The same where a stage begins.
    #[must_use]
    pub(in crate::language) fn in_stage(&self, name: &str) -> Self {
        let mut scope = self.with("stage", [("name", Value::from(name))]);
        scope.worker = Worker::AllAlike;
        scope
    }

    /// The same for one worker of the stage.
    #[must_use]
    pub(in crate::language) fn for_worker(&self, rank: usize, name: &str) -> Self {
        let mut scope =
            self.with("worker", [("rank", Value::from(rank as u64)), ("name", Value::from(name))]);
        scope.worker = Worker::One;
        scope
    }

    pub(super) fn worker(&self) -> Worker {
        self.worker
    }

    pub(super) fn root(&self, name: &str) -> Option<&Value> {
        self.roots.get(name)
    }

    /// What can be written after `root.` here.
    pub(super) fn names(&self, root: &str) -> Vec<String> {
        let names = self.roots.get(root).and_then(|value| value.try_iter().ok());
        names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn value(&self) -> Value {
        Value::from(self.roots.clone())
    }
}
