//! The stages that `depends_on` names.

use crate::graph::resolve::Net;
use crate::model::{Place, Problem};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for stage in &net.pipeline.stages {
        for dependency in &stage.depends_on {
            let other = &dependency.stage;
            if net.position(other).is_none() {
                problems.push(
                    Problem::error(
                        "mpflow::unknown_stage",
                        format!(
                            "`{}` depends on `{other}`, which is not a stage of this pipeline",
                            stage.name
                        ),
                    )
                    .at(
                        Place::StageKey(stage.name.clone(), "depends_on"),
                        format!("no stage is called `{other}`"),
                    )
                    .help(net.suggest_stage(other)),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, places, refused};
    use crate::model::{Dependency, DependencyState, Place};

    #[test]
    fn a_dependency_is_a_stage() {
        let dependency = Dependency { stage: "databse".into(), state: DependencyState::Ready };
        let build = Build::new().stage("database").with("app", |app| app.depends_on.push(dependency));
        let problem = refused(build, "mpflow::unknown_stage", "`app` depends on `databse`");
        assert_eq!(problem.help.as_deref(), Some("did you mean `database`?"));
        assert_eq!(places(&problem), [Place::StageKey("app".into(), "depends_on")]);
    }

    #[test]
    fn both_ends_of_an_edge_are_stages() {
        let build = Build::new().stage("decode").stage("encode");
        let problem =
            refused(build.clone().queue("decodr -> encode"), "mpflow::unknown_stage", "reads from `decodr`");
        assert_eq!(problem.help.as_deref(), Some("did you mean `decode`?"));
        assert_eq!(places(&problem), [Place::EdgeFrom(0)]);
        let problem =
            refused(build.clone().queue("decode -> stdin"), "mpflow::unknown_stage", "writes to `stdin`");
        assert!(problem.help.unwrap().ends_with("`stdout`"));
        assert_eq!(build.queue("x.y -> z").planned().unwrap_err().len(), 2);
    }
}
