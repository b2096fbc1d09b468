//! How records are coded on each queue, and whether both ends can do it.

use std::collections::BTreeMap;

use crate::graph::ports::Direction;
use crate::graph::resolve::{End, Ends, Link, Net};
use crate::model::{Body, FAILED, Format, PartitionKey, Place, Problem, STDERR};

/// The format of each queue, by the position of its link; those of pipes mean nothing.
pub(in crate::graph) fn choose(net: &Net<'_>, problems: &mut Vec<Problem>) -> Vec<Format> {
    let mut is_sound = true;
    let formats = net
        .links
        .iter()
        .map(|link| match link.queue().and_then(|options| options.format) {
            None => default(body(net, link.from), body(net, link.to)),
            Some(format) => {
                let wrong = unsupported(net, link, format);
                is_sound &= wrong.is_none();
                problems.extend(wrong);
                format
            }
        })
        .collect::<Vec<_>>();
    for (link, format) in net.links.iter().zip(&formats) {
        problems.extend(unreadable_key(link, *format));
    }
    // A format that its own end cannot have would only be reported again as one that differs.
    if is_sound {
        check_ports(net, &formats, problems);
    }
    formats
}

/// Who reads or writes the bytes at an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coder {
    /// A program, or `mpflow`'s own stream: bytes as they are. Standard error is one whatever runs behind it.
    Bytes,
    Python,
    Rust,
    /// The program that started the run, at a standard stream of the pipeline.
    Program,
    /// The engine, as documents about failed records.
    Failures,
}

impl Coder {
    /// Of a port of a stage with this body; `None` is `mpflow`'s own stream.
    fn of(end: Option<(&Body, &str)>) -> Self {
        match end {
            None | Some((_, STDERR)) => Self::Bytes,
            Some((_, FAILED)) => Self::Failures,
            Some((Body::Command(_), _)) => Self::Bytes,
            Some((Body::Python(_), _)) => Self::Python,
            Some((Body::Function(_), _)) => Self::Rust,
        }
    }
}

fn coder(net: &Net<'_>, end: End<'_>) -> Coder {
    match (end, net.ends) {
        (End::Engine, Ends::Program) => Coder::Program,
        _ => Coder::of(body(net, end)),
    }
}

fn body<'a>(net: &Net<'a>, end: End<'a>) -> Option<(&'a Body, &'a str)> {
    match end {
        End::Engine => None,
        End::Port { stage, port } => Some((&net.stage(stage).body, port)),
    }
}

/// The format of a queue between these ends that declares none: the bodies of its stages and its ports, `None`
/// being `mpflow`'s own stream.
pub(in crate::graph) fn default(from: Option<(&Body, &str)>, to: Option<(&Body, &str)>) -> Format {
    match (Coder::of(from), Coder::of(to)) {
        (Coder::Failures, _) => Format::Json,
        (Coder::Bytes, _) | (_, Coder::Bytes) => Format::Lines,
        (Coder::Program, _) | (_, Coder::Program) => Format::Lines,
        (Coder::Rust, _) | (_, Coder::Rust) => Format::Msgpack,
        (Coder::Python, _) => Format::Pickle,
    }
}

fn can(coder: Coder, format: Format) -> bool {
    match (coder, format) {
        (Coder::Failures, _) => format == Format::Json,
        (Coder::Bytes, Format::Msgpack | Format::Pickle) => false,
        (Coder::Rust | Coder::Program, Format::Pickle) => false,
        (Coder::Bytes | Coder::Python | Coder::Rust | Coder::Program, _) => true,
    }
}

fn unsupported(net: &Net<'_>, link: &Link<'_>, format: Format) -> Option<Problem> {
    let direction = [Direction::Out, Direction::In]
        .into_iter()
        .find(|&direction| !can(coder(net, link.end(direction)), format))?;
    let end = link.end(direction);
    let (why, help) = match coder(net, end) {
        Coder::Bytes => ("plain bytes", "use `lines`, `json`, `nul` or `frames`"),
        Coder::Rust => ("a Rust function", "use `msgpack`, or `json`"),
        Coder::Program => ("a Rust program", "use `msgpack`, or `json`"),
        Coder::Failures => {
            ("JSON documents about failed records", "remove `format`, or write `format: json`")
        }
        Coder::Python => ("Python", "use another format"),
    };
    Some(
        Problem::error(
            "mpflow::format_unsupported",
            format!(
                "queue `{}` cannot carry `{format}`: {} is {why}",
                link.edge,
                net.end_name(end, direction)
            ),
        )
        .at(Place::EdgeKey(link.number, "format"), format!("not `{format}`"))
        .at(link.end_place(direction), why)
        .help(help),
    )
}

/// A key of a record can be read only where the engine knows what a record looks like.
fn unreadable_key(link: &Link<'_>, format: Format) -> Option<Problem> {
    let options = link.queue()?;
    let (key, needed) = match options.partition_by.as_ref()? {
        PartitionKey::Pointer(_) => ("a JSON pointer", Format::Json),
        PartitionKey::Field(_) => ("a field number", Format::Lines),
    };
    if format == needed {
        return None;
    }
    let chosen = if options.format.is_some() { "is" } else { "is by default" };
    Some(
        Problem::error(
            "mpflow::partition_format",
            format!("queue `{}` is partitioned by {key}, and its format {chosen} `{format}`", link.edge),
        )
        .at(Place::EdgeKey(link.number, "partition_by"), format!("needs `{needed}`"))
        .at(Place::EdgeKey(link.number, "format"), format!("`{format}`"))
        .help(format!("add `format: {needed}` to the edge")),
    )
}

/// Every port has one format: a process writes its output once, whoever reads it, and reads its input in one way.
fn check_ports(net: &Net<'_>, formats: &[Format], problems: &mut Vec<Problem>) {
    let mut ports: BTreeMap<(Direction, End<'_>), Vec<usize>> = BTreeMap::new();
    for (position, link) in net.links.iter().enumerate().filter(|(_, link)| link.queue().is_some()) {
        ports.entry((Direction::Out, link.from)).or_default().push(position);
        ports.entry((Direction::In, link.to)).or_default().push(position);
    }
    let mut found = Vec::new();
    for ((direction, end), queues) in ports {
        let first = queues[0];
        let reader = coder(net, end);
        // A program reads each record by the format of the queue that it came by.
        let reads_any = reader == Coder::Program && direction == Direction::In;
        let differs = |&&other: &&usize| !reads_any && !can_meet(reader, formats[first], formats[other]);
        if let Some(&other) = queues.iter().find(differs) {
            found.push((other, conflict(net, direction, end, [first, other], formats)));
        }
    }
    found.sort_by_key(|(other, _)| *other);
    problems.extend(found.into_iter().map(|(_, problem)| problem));
}

/// Whether two queues of one port can have these formats. To a program a line of JSON is a line.
fn can_meet(coder: Coder, one: Format, other: Format) -> bool {
    let is_line = |format| matches!(format, Format::Lines | Format::Json);
    let is_bytes = matches!(coder, Coder::Bytes | Coder::Program);
    one == other || (is_bytes && is_line(one) && is_line(other))
}

fn conflict(
    net: &Net<'_>,
    direction: Direction,
    end: End<'_>,
    queues: [usize; 2],
    formats: &[Format],
) -> Problem {
    let [first, other] = queues.map(|queue| &net.links[queue]);
    let [one, two] = queues.map(|queue| formats[queue]);
    let mut problem = Problem::error(
        "mpflow::format_conflict",
        format!("{} would have two formats, `{one}` and `{two}`", net.end_name(end, direction)),
    );
    for (link, format) in [(other, two), (first, one)] {
        let is_declared = link.queue().is_some_and(|options| options.format.is_some());
        let by = if is_declared { "" } else { " by default" };
        let place =
            if is_declared { Place::EdgeKey(link.number, "format") } else { Place::Edge(link.number) };
        problem = problem.at(place, format!("`{format}`{by}"));
    }
    let or_ports = if end == End::Engine { "" } else { ", or a port each" };
    problem.help(format!("give `{}` and `{}` the same `format`{or_ports}", first.edge, other.edge))
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, places, python, refused};
    use crate::model::{Body, Format, Mode, PartitionKey, Place, QueueOptions};

    fn as_(format: Format) -> impl FnOnce(&mut QueueOptions) {
        move |queue| queue.format = Some(format)
    }

    /// Two commands `c`, `d`; two Python stages `p`, `q`; two Rust ones `r`, `s`.
    fn all() -> Build {
        let rust = || Body::Function("f".to_owned());
        Build::new()
            .stage("c")
            .stage("d")
            .with("p", |p| (p.body, p.mode) = (python(), Mode::Map))
            .with("q", |q| (q.body, q.mode) = (python(), Mode::Map))
            .with("r", |r| r.body = rust())
            .with("s", |s| s.body = rust())
    }

    #[test]
    fn the_format_follows_from_the_ends() {
        for (edge, format) in [
            ("c -> d", Format::Lines),
            ("c -> p", Format::Lines),
            ("p -> c", Format::Lines),
            ("stdin -> p", Format::Lines),
            ("r -> stdout", Format::Lines),
            ("p -> q", Format::Pickle),
            ("p -> r", Format::Msgpack),
            ("r -> p", Format::Msgpack),
            ("r -> s", Format::Msgpack),
            ("p.stderr -> q", Format::Lines),
            ("p.failed -> q", Format::Json),
            ("p.failed -> c", Format::Json),
        ] {
            let plan = all().queue(edge).accepted();
            assert_eq!(plan.queues[0].format, format, "{edge}");
            assert_eq!(plan.queues[0].options.format, Some(format), "{edge}");
        }
    }

    #[test]
    fn a_declared_format_must_be_possible_at_both_ends() {
        for (edge, format) in [
            ("c -> p", Format::Pickle),
            ("p -> c", Format::Msgpack),
            ("stdin -> p", Format::Pickle),
            ("p -> stdout", Format::Pickle),
            ("p -> r", Format::Pickle),
            ("p.stderr -> q", Format::Pickle),
            ("p.failed -> q", Format::Pickle),
        ] {
            let problem =
                refused(all().queue_with(edge, as_(format)), "mpflow::format_unsupported", "cannot carry");
            assert_eq!(problem.labels[0].place, Place::EdgeKey(0, "format"));
        }
        all().queue_with("p -> q", as_(Format::Json)).accepted();
        all().queue_with("r -> s", as_(Format::Frames)).accepted();
        all().queue_with("p -> q", as_(Format::Msgpack)).accepted();
    }

    #[test]
    fn a_port_has_one_format() {
        let build = all().queue("c -> d").queue_with("c -> p", as_(Format::Nul));
        let problem = refused(build, "mpflow::format_conflict", "`stdout` of `c`");
        assert_eq!(places(&problem), [Place::EdgeKey(1, "format"), Place::Edge(0)]);
        let build = all().queue_with("c -> p", as_(Format::Frames)).queue("q -> p");
        refused(
            build,
            "mpflow::format_conflict",
            "`stdin` of `p` would have two formats, `frames` and `pickle`",
        );
        let build = all().queue("stdin -> c").queue_with("stdin -> p", as_(Format::Nul));
        refused(build, "mpflow::format_conflict", "mpflow's own `stdin`");
        let build = all().queue("c -> stdout").queue_with("d -> stdout", as_(Format::Nul));
        refused(build, "mpflow::format_conflict", "mpflow's own `stdout`");
    }

    #[test]
    fn a_program_at_the_standard_streams_takes_values_of_every_format_but_pickles() {
        use crate::graph::Ends;
        let msgpack = || {
            all()
                .queue_with("stdin -> p", as_(Format::Msgpack))
                .queue_with("p -> stdout", as_(Format::Msgpack))
        };
        let problems = msgpack().planned().unwrap_err();
        assert!(problems.iter().all(|problem| problem.code == "mpflow::format_unsupported"), "{problems:#?}");
        let plan = msgpack().queue("p.failed -> stdout").planned_for(Ends::Program).unwrap().plan;
        let formats: Vec<Format> = plan.queues.iter().map(|queue| queue.format).collect();
        assert_eq!(formats[..3], [Format::Msgpack, Format::Msgpack, Format::Json]);
        // What it sends it codes once.
        let two = all().queue_with("stdin -> p", as_(Format::Msgpack)).queue("stdin -> c");
        let problems = two.planned_for(Ends::Program).unwrap_err();
        assert_eq!(problems[0].code, "mpflow::format_conflict");
        let pickle = all().queue_with("p -> stdout", as_(Format::Pickle));
        assert!(pickle.planned_for(Ends::Program).unwrap_err()[0].message.contains("a Rust program"));
        // What is not said does not depend on it: one document means one thing.
        let plan = all().queue("stdin -> r").planned_for(Ends::Program).unwrap().plan;
        assert_eq!(plan.queues[0].format, Format::Lines);
    }

    #[test]
    fn lines_and_json_meet_at_a_program() {
        let plan = all().queue("c -> d").queue_with("c -> p", as_(Format::Json)).accepted();
        assert_eq!(plan.stages[0].outputs[0].format, Format::Lines);
        let plan = all().queue_with("c -> d", as_(Format::Json)).accepted();
        assert_eq!(plan.stages[0].outputs[0].format, Format::Json);
        let build = all().queue("c -> p").queue_with("d -> p", as_(Format::Json));
        refused(build, "mpflow::format_conflict", "`stdin` of `p`");
    }

    #[test]
    fn a_partition_key_needs_a_format_that_has_it() {
        let by = |key, format| {
            all().queue_with("c -> d", |queue| {
                queue.partition_by = Some(key);
                queue.format = format;
            })
        };
        let pointer = || PartitionKey::Pointer("/user".into());
        by(pointer(), Some(Format::Json)).accepted();
        by(PartitionKey::Field(2), None).accepted();
        refused(by(pointer(), None), "mpflow::partition_format", "by default `lines`");
        refused(by(PartitionKey::Field(2), Some(Format::Json)), "mpflow::partition_format", "is `json`");
    }
}
