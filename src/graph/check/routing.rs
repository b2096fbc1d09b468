//! `partition_by` and `to_each`: which worker of a pool gets a record.

use std::collections::BTreeMap;

use crate::graph::ports::Direction;
use crate::graph::resolve::{End, Link, Net};
use crate::model::{Mode, PartitionKey, Place, Problem, QueueOptions, STDIN, Stage};

const PARTITION_BY: &str = "partition_by";
const TO_EACH: &str = "to_each";

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for link in &net.links {
        let Some(options) = link.queue() else { continue };
        if options.partition_by.is_some() && options.to_each {
            problems.push(both(link));
            continue;
        }
        if let Some(key) = key(options) {
            problems.extend(wrong_target(net, link, key));
        }
        problems.extend(bad_key(link, options));
    }
    check_mixtures(net, problems);
}

/// The key by which a queue says where its records go, if it does.
fn key(options: &QueueOptions) -> Option<&'static str> {
    match (&options.partition_by, options.to_each) {
        (Some(_), _) => Some(PARTITION_BY),
        (None, true) => Some(TO_EACH),
        (None, false) => None,
    }
}

fn both(link: &Link<'_>) -> Problem {
    let number = link.number;
    Problem::error("mpflow::routing", format!("queue `{}` has both `partition_by` and `to_each`", link.edge))
        .at(Place::EdgeKey(number, PARTITION_BY), "to one worker, by its key")
        .at(Place::EdgeKey(number, TO_EACH), "to every worker")
        .help("remove one of them")
}

fn wrong_target(net: &Net<'_>, link: &Link<'_>, key: &'static str) -> Option<Problem> {
    let place = Place::EdgeKey(link.number, key);
    let Some(position) = link.to.stage() else {
        return Some(
            Problem::error(
                "mpflow::routing",
                format!("queue `{}` has `{key}`, and mpflow's own `stdout` has no workers", link.edge),
            )
            .at(place, "no pool to choose from")
            .help(format!("remove `{key}`")),
        );
    };
    let stage = net.stage(position);
    let name = &stage.name;
    if stage.pool.is_elastic() {
        let problem = Problem::error(
            "mpflow::elastic_pool",
            format!("queue `{}` has `{key}`, and the pool of `{name}` grows and shrinks", link.edge),
        );
        return Some(
            problem
                .at(place, "needs the same workers all the time")
                .at(Place::StageKey(name.clone(), "pool"), "not always as wide")
                .help(format!("give `{name}` a fixed `pool: {}`", stage.pool.max)),
        );
    }
    conflicts_with_stage(link, position, stage, key, place)
}

/// In `each` mode there are no workers that could all have seen a record, only slots. Where results are to leave
/// in the order of the records, every record has one place in it and so one answer.
fn conflicts_with_stage(
    link: &Link<'_>,
    position: usize,
    stage: &Stage,
    key: &'static str,
    place: Place,
) -> Option<Problem> {
    let name = &stage.name;
    let (other, why) = match stage.mode {
        // Only what enters by `stdin` is leased and ordered; other ports carry plain streams.
        _ if key != TO_EACH || !link.to.is(position, STDIN) => return None,
        Mode::Each => ("mode", "has a new process for each record and no workers that stay"),
        Mode::Map if stage.ordered => ("ordered", "keeps the order of records, of which each has one answer"),
        Mode::Map | Mode::Stream => return None,
    };
    Some(
        Problem::error("mpflow::routing", format!("queue `{}` has `{key}`, and `{name}` {why}", link.edge))
            .at(place, "every worker answers every record")
            .at(Place::StageKey(name.clone(), other), "cannot be together with it")
            .help(format!("remove `{key}`, or `{other}` from `{name}`")),
    )
}

fn bad_key(link: &Link<'_>, options: &QueueOptions) -> Option<Problem> {
    let (message, help) = match options.partition_by.as_ref()? {
        PartitionKey::Field(0) => ("has field number 0".to_owned(), "fields are counted from 1"),
        PartitionKey::Pointer(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
            (format!("has `{pointer}`, which is no JSON pointer"), "begin it with `/`: `/user/id`")
        }
        PartitionKey::Field(_) | PartitionKey::Pointer(_) => return None,
    };
    Some(
        Problem::error("mpflow::partition_key", format!("`partition_by` of queue `{}` {message}", link.edge))
            .at(Place::EdgeKey(link.number, PARTITION_BY), "no key of a record")
            .help(help),
    )
}

/// A plain queue beside a partitioned one, into the same port, would take its records to whoever has room, and so
/// break what the other promises. A queue `to_each` beside either can be meant: settings for all.
fn check_mixtures(net: &Net<'_>, problems: &mut Vec<Problem>) {
    let mut ports: BTreeMap<End<'_>, Vec<(&Link<'_>, &QueueOptions)>> = BTreeMap::new();
    for link in &net.links {
        if let Some(options) = link.queue().filter(|options| !options.to_each) {
            ports.entry(link.to).or_default().push((link, options));
        }
    }
    for (end, queues) in ports {
        let find = |is_partitioned| {
            queues.iter().find(|(_, options)| options.partition_by.is_some() == is_partitioned)
        };
        // A pool of one is one worker whatever the keys say.
        let is_pool = end.stage().is_some_and(|stage| net.stage(stage).pool.max > 1);
        if let (true, Some((partitioned, _)), Some((plain, _))) = (is_pool, find(true), find(false)) {
            problems.push(mixture(net, end, partitioned, plain));
        }
    }
}

fn mixture(net: &Net<'_>, end: End<'_>, partitioned: &Link<'_>, plain: &Link<'_>) -> Problem {
    Problem::error(
        "mpflow::mixed_partition",
        format!("{} is fed by a partitioned queue and by one that is not", net.end_name(end, Direction::In)),
    )
    .at(Place::EdgeKey(partitioned.number, PARTITION_BY), "one worker for each key")
    .at(Place::Edge(plain.number), "any worker")
    .help(format!("give `{}` a `partition_by` too, or a port of its own", plain.edge))
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, pool, refused};
    use crate::model::{Format, Mode, PartitionKey, Pool, QueueOptions, Stage};

    fn by_field(queue: &mut QueueOptions) {
        queue.partition_by = Some(PartitionKey::Field(1));
    }

    fn to_each(queue: &mut QueueOptions) {
        queue.to_each = true;
    }

    fn into(keys: impl FnOnce(&mut Stage)) -> Build {
        Build::new().stage("a").stage("a2").with("b", keys)
    }

    #[test]
    fn routing_needs_a_pool_that_stays() {
        let elastic = || into(|b| b.pool = Pool { min: 1, max: 4 });
        refused(elastic().queue_with("a -> b", by_field), "mpflow::elastic_pool", "`partition_by`");
        refused(elastic().queue_with("a -> b", to_each), "mpflow::elastic_pool", "`to_each`");
        let fixed = into(|b| b.pool = pool(4));
        fixed.queue_with("a -> b", by_field).queue_with("a2 -> b", to_each).accepted();
        refused(into(|_| {}).queue_with("a -> stdout", by_field), "mpflow::routing", "`stdout`");
        refused(into(|_| {}).queue_with("a -> stdout", to_each), "mpflow::routing", "`stdout`");
    }

    #[test]
    fn a_record_goes_to_one_worker_or_to_each() {
        let build = into(|_| {}).queue_with("a -> b", |queue| {
            by_field(queue);
            to_each(queue);
        });
        refused(build, "mpflow::routing", "both");
    }

    #[test]
    fn to_each_needs_workers_that_stay_and_no_order() {
        refused(
            into(|b| b.mode = Mode::Each).queue_with("a -> b", to_each),
            "mpflow::routing",
            "for each record",
        );
        let ordered = |b: &mut Stage| (b.mode, b.ordered) = (Mode::Map, true);
        refused(into(ordered).queue_with("a -> b", to_each), "mpflow::routing", "keeps the order");
        into(ordered).queue_with("a -> b", by_field).accepted();
        into(ordered).queue("a -> b").queue_with("a2 -> b.side", to_each).accepted();
        into(|b| b.mode = Mode::Map).queue_with("a -> b", to_each).accepted();
        into(|b| b.mode = Mode::Each).queue_with("a -> b", by_field).accepted();
    }

    #[test]
    fn a_key_is_a_field_or_a_pointer() {
        let key = |key| {
            into(|_| {}).queue_with("a -> b", |queue| {
                queue.format = matches!(key, PartitionKey::Pointer(_)).then_some(Format::Json);
                queue.partition_by = Some(key);
            })
        };
        refused(key(PartitionKey::Field(0)), "mpflow::partition_key", "field number 0");
        refused(key(PartitionKey::Pointer("user".into())), "mpflow::partition_key", "`user`");
        key(PartitionKey::Pointer(String::new())).accepted();
    }

    #[test]
    fn a_partitioned_port_has_only_partitioned_queues() {
        let wide = |b: &mut Stage| b.pool = pool(2);
        let mixed = |build: Build| build.queue_with("a -> b", by_field).queue("a2 -> b");
        refused(mixed(into(wide)), "mpflow::mixed_partition", "`stdin` of `b`");
        mixed(into(|_| {})).accepted();
        into(wide).queue_with("a -> b", by_field).queue("a2 -> b.side").accepted();
    }
}
