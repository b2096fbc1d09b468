//! What the language has and this version of the engine does not run yet.

use crate::model::{Body, Pipeline, Place, Problem, Stage};

/// One problem for each key of the pipeline that cannot be run yet, at its place.
///
/// Such a key is refused and never ignored: a pipeline that runs does what its document says.
pub fn not_yet(pipeline: &Pipeline) -> Vec<Problem> {
    pipeline.stages.iter().flat_map(of_stage).collect()
}

fn of_stage(stage: &Stage) -> Vec<Problem> {
    let mut problems = Vec::new();
    let at = |key| Place::StageKey(stage.name.clone(), key);
    let name = match &stage.body {
        Body::Command(_) | Body::Python(_) => return problems,
        Body::Function(name) => name,
    };
    problems.push(
        problem(format!(
            "stage `{}` calls the Rust function `{name}`, which is not in this version of mpflow",
            stage.name
        ))
        .at(at("function"), "cannot be run yet")
        .help("put the function into a program of its own and run that by `command`"),
    );
    problems
}

fn problem(message: impl Into<String>) -> Problem {
    Problem::error("mpflow::not_yet", message)
}
