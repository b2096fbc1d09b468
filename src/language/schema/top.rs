//! The top level.

use schemars::JsonSchema;

use super::edge::{Pipe, Queue};
use super::policy::Stop;
use super::scalar::{Anything, Either, Environment, FullText, Named, Object, Some1, Text, Version, Whole};
use super::shared::Shared;
use super::stage::{Defaults, Stage};

/// A pipeline of mpflow: stages joined by edges into a directed acyclic graph.
#[derive(Default, JsonSchema)]
#[schemars(title = "mpflow pipeline", default, deny_unknown_fields, extend("required" = ["stages"]))]
pub(super) struct Document {
    /// The language version.
    #[schemars(extend("default" = 1))]
    version: Version,
    /// Shown in logs, reports and `ps`; otherwise the file's name without its extension.
    name: FullText,
    /// What the pipeline is for.
    description: Text,
    /// Values for `${{ vars.NAME }}`; `--set NAME=VALUE` replaces them.
    vars: Whole<Named<Anything, true>>,
    /// Environment variables of every worker.
    env: Environment,
    /// Files of variables, `NAME=value` on each line, read before `env`.
    env_file: Either<FullText, Some1<FullText>>,
    /// Used where a stage or edge does not say.
    defaults: Whole<Defaults>,
    /// The stages by name.
    #[schemars(extend("minProperties" = 1))]
    stages: Named<Stage>,
    /// The connections between stages.
    edges: Whole<Vec<Either<Queue, Pipe>>>,
    /// Objects that all workers share, by name.
    shared: Whole<Named<Shared, true>>,
    /// How the run as a whole is ended; a stage's own `stop` goes before.
    stop: Object<Stop>,
}
