//! What the language has and this version of the engine does not run yet.

use crate::model::{Body, Pipeline, Place, Problem, Stage, StartMethod};

/// One problem for each key of the pipeline that cannot be run yet, at its place.
///
/// Such a key is refused and never ignored: a pipeline that runs does what its document says.
pub fn not_yet(pipeline: &Pipeline) -> Vec<Problem> {
    pipeline.stages.iter().flat_map(of_stage).collect()
}

fn of_stage(stage: &Stage) -> Vec<Problem> {
    let mut problems = Vec::new();
    let at = |key| Place::StageKey(stage.name.clone(), key);
    match &stage.body {
        Body::Command(_) => {}
        Body::Python(target) => problems.push(
            problem(format!(
                "stage `{}` calls a Python function, which is not in this version of mpflow",
                stage.name
            ))
            .at(at("python"), "cannot be run yet")
            .help(python_as_command(target)),
        ),
        Body::Function(name) => problems.push(
            problem(format!(
                "stage `{}` calls the Rust function `{name}`, which is not in this version of mpflow",
                stage.name
            ))
            .at(at("function"), "cannot be run yet")
            .help("put the function into a program of its own and run that by `command`"),
        ),
    }
    let method = match stage.start_method {
        StartMethod::Spawn => return problems,
        StartMethod::Fork => "fork",
        StartMethod::Forkserver => "forkserver",
    };
    problems.push(
        problem(format!(
            "stage `{}` wants the start method `{method}`, which is not in this version of mpflow",
            stage.name
        ))
        .at(at("start_method"), "cannot be run yet")
        .help("write `start_method: spawn`, or leave it out"),
    );
    problems
}

fn problem(message: impl Into<String>) -> Problem {
    Problem::error("mpflow::not_yet", message)
}

/// How the callable can be reached meanwhile.
fn python_as_command(target: &str) -> String {
    let file = match target.rsplit_once(':') {
        Some((path, _)) if path.ends_with(".py") => path.to_owned(),
        Some((module, _)) => format!("-m {module}"),
        None => target.to_owned(),
    };
    format!("a script that reads lines and writes lines can be run by `command: python3 -u {file}`")
}
