//! Ports that a stage has.

use crate::model::{Edge, FAILED, Mode, Place, Problem, STDERR, STDIN, STDOUT, Stage};

/// Which way records pass a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Direction {
    /// Into the stage.
    In,
    /// Out of the stage.
    Out,
}

/// What is wrong with this port at this end of an edge, if anything is.
pub(super) fn check(
    number: usize,
    edge: &Edge,
    stage: &Stage,
    port: &str,
    direction: Direction,
) -> Option<Problem> {
    let name = &stage.name;
    let wrong = |what: String, label: &str, help: String| {
        let (verb, place) = match direction {
            Direction::In => ("writes to", Place::EdgeTo(number)),
            Direction::Out => ("reads from", Place::EdgeFrom(number)),
        };
        let message = format!("edge `{edge}` {verb} `{port}` of `{name}`, {what}");
        Some(Problem::error("mpflow::unknown_port", message).at(place, label).help(help))
    };
    match (direction, port) {
        (Direction::In, STDIN) | (Direction::Out, STDOUT | STDERR) => None,
        (Direction::Out, FAILED) if stage.is_leased() => None,
        (Direction::Out, FAILED) => wrong(
            "which a stage in `stream` mode does not have".to_owned(),
            "its records are not leased",
            format!(
                "give `{name}` `mode: map` or `mode: each`: only there a record is known to have failed by itself"
            ),
        ),
        (Direction::Out, STDIN) => wrong(
            "which is an input".to_owned(),
            "records go in here",
            format!("write `{name} -> …`: records leave a stage by its `stdout`"),
        ),
        (Direction::In, FAILED) => wrong(
            "which is an output".to_owned(),
            "records come out here",
            format!("write `{name}.failed -> …` to take what fails in `{name}`"),
        ),
        (Direction::In, STDOUT | STDERR) => wrong(
            "which is an output".to_owned(),
            "records come out here",
            format!("write `… -> {name}`: records enter a stage by its `stdin`"),
        ),
        _ if !is_identifier(port) => wrong(
            "which cannot be the name of a port".to_owned(),
            "not a port's name",
            "use letters, digits and `_`, beginning with no digit: it becomes part of the name of a variable"
                .to_owned(),
        ),
        _ => match misspelt(port, direction) {
            Some(meant) => wrong(
                format!("which is almost `{meant}`"),
                "a standard port, misspelt?",
                format!("did you mean `{meant}`? A port of your own needs a name that differs more"),
            ),
            None if direction == Direction::In && stage.mode == Mode::Each => {
                Some(each_has_no_input(number, edge, stage, port))
            }
            None => None,
        },
    }
}

/// In `each` mode a process lives for one record: there is nobody to read a second input for long.
fn each_has_no_input(number: usize, edge: &Edge, stage: &Stage, port: &str) -> Problem {
    let name = &stage.name;
    Problem::error(
        "mpflow::port_mode",
        format!("edge `{edge}` writes to `{port}` of `{name}`, whose processes live for one record each"),
    )
    .at(Place::EdgeTo(number), "no process lives long enough to read this")
    .at(Place::StageKey(name.clone(), "mode"), "one process per record")
    .help(format!("write `… -> {name}`, or give `{name}` `mode: map`"))
}

/// Whether a port can be part of the name of an environment variable.
fn is_identifier(port: &str) -> bool {
    let mut bytes = port.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The standard port that was probably meant. Narrower than the search for other names, since any name is
/// allowed here: `called` is a good port and two edits from `failed`.
fn misspelt(port: &str, direction: Direction) -> Option<&'static str> {
    let known: &[&'static str] = match direction {
        Direction::In => &[STDIN],
        Direction::Out => &[STDOUT, STDERR, FAILED],
    };
    let lower = port.to_ascii_lowercase();
    if direction == Direction::Out && matches!(lower.as_str(), "fail" | "fails" | "failure" | "failures") {
        return Some(FAILED);
    }
    known.iter().copied().find(|name| is_one_edit(lower.as_bytes(), name.as_bytes()))
}

/// Whether at most one letter is missing, added, changed or swapped with its neighbour, the first one excepted:
/// who misspells a word begins it well.
fn is_one_edit(a: &[u8], b: &[u8]) -> bool {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    if start == 0 {
        return false;
    }
    match (a, b) {
        ([], []) => true,
        ([_, rest @ ..], other) | (other, [_, rest @ ..]) if rest == other => true,
        ([], _) | (_, []) => false,
        ([a0, a_rest @ ..], [b0, b_rest @ ..]) => {
            a_rest == b_rest
                || a_rest == b
                || matches!((a_rest, b_rest), ([a1, a_tail @ ..], [b1, b_tail @ ..])
                    if a0 == b1 && b0 == a1 && a_tail == b_tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, refused};
    use crate::model::Mode;

    fn pair() -> Build {
        Build::new().stage("a").stage("b")
    }

    #[test]
    fn an_edge_leaves_by_outputs_and_enters_by_inputs() {
        refused(pair().queue("a -> b.stdout"), "mpflow::unknown_port", "which is an output");
        refused(pair().queue("a -> b.stderr"), "mpflow::unknown_port", "which is an output");
        refused(pair().queue("a -> b.failed"), "mpflow::unknown_port", "which is an output");
        refused(pair().queue("a.stdin -> b"), "mpflow::unknown_port", "which is an input");
    }

    #[test]
    fn only_leased_stages_have_failed() {
        let problem = refused(pair().queue("a.failed -> b"), "mpflow::unknown_port", "`stream` mode");
        assert!(problem.help.unwrap().contains("`mode: map`"));
        Build::new()
            .with("a", |a| a.mode = Mode::Map)
            .stage("b")
            .queue("stdin -> a")
            .queue("a.failed -> b")
            .accepted();
    }

    #[test]
    fn a_misspelt_standard_port_is_not_taken_for_one_of_the_users_own() {
        for (edge, meant) in [
            ("a.stdrr -> b", "`stderr`"),
            ("a.fail -> b", "`failed`"),
            ("a.Failed -> b", "`failed`"),
            ("a.sdtout -> b", "`stdout`"),
            ("a -> b.stdn", "`stdin`"),
        ] {
            refused(pair().queue(edge), "mpflow::unknown_port", meant);
        }
        for edge in ["a.links -> b", "a.called -> b", "a.mailed -> b", "a -> b._x9", "a.errors -> b"] {
            pair().queue(edge).accepted();
        }
    }

    #[test]
    fn a_port_can_be_part_of_the_name_of_a_variable() {
        refused(pair().queue("a.two-words -> b"), "mpflow::unknown_port", "cannot be the name");
        refused(pair().queue("a -> b.9"), "mpflow::unknown_port", "cannot be the name");
    }

    #[test]
    fn each_has_no_second_input_and_map_has() {
        let with = |mode| Build::new().stage("a").with("b", move |b| b.mode = mode).queue("a -> b");
        refused(with(Mode::Each).queue("a.side -> b.side"), "mpflow::port_mode", "one record each");
        with(Mode::Map).queue("a.side -> b.side").accepted();
        with(Mode::Each).stage("c").queue("b.side -> c").accepted();
    }
}
