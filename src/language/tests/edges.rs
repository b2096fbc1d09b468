use super::{codes, mistakes, pipeline};
use crate::model::{Edge, EdgeKind, Format, PartitionKey, WhenFull};

fn edges(items: &str) -> Vec<Edge> {
    pipeline(&format!("stages: {{a: {{command: c}}}}\nedges:\n{items}")).edges
}

fn edge_codes(item: &str) -> Vec<String> {
    let stages = "stages: {a: {command: c}, b: {command: c}}";
    codes(&mistakes(&format!("{stages}\nedges:\n  - {item}")))
}

#[test]
fn a_chain_is_as_many_edges_with_the_same_options() {
    let edges = edges("  - {queue: 'stdin -> a->b.links -> stdout', capacity: 5}\n  - pipe: a.failed -> q\n");
    let names: Vec<String> = edges.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["stdin -> a", "a -> b.links", "b.links -> stdout", "a.failed -> q"]);
    let capacities: Vec<_> = edges
        .iter()
        .map(|edge| match &edge.kind {
            EdgeKind::Queue(options) => options.capacity,
            EdgeKind::Pipe(_) => None,
        })
        .collect();
    assert_eq!(capacities, [Some(5), Some(5), Some(5), None]);
}

#[test]
fn every_option_of_an_edge_arrives() {
    let edges = edges(
        "  - {queue: a -> b, format: nul, capacity: 5, capacity_bytes: 1MiB, max_record: 2KiB, \
         when_full: drop_oldest, partition_by: /user/id}\n  - {queue: a -> b, partition_by: 2}\n  \
         - {queue: a -> b, to_each: true}\n  - {pipe: a -> b, duplex: true, size: 1MiB}\n",
    );
    let EdgeKind::Queue(first) = &edges[0].kind else { panic!() };
    assert_eq!((first.format, first.capacity), (Some(Format::Nul), Some(5)));
    assert_eq!((first.capacity_bytes, first.max_record), (1 << 20, 2 << 10));
    assert_eq!(first.when_full, WhenFull::DropOldest);
    assert_eq!(first.partition_by, Some(PartitionKey::Pointer("/user/id".to_owned())));
    let EdgeKind::Queue(second) = &edges[1].kind else { panic!() };
    assert_eq!(second.partition_by, Some(PartitionKey::Field(2)));
    let EdgeKind::Queue(third) = &edges[2].kind else { panic!() };
    assert!(third.to_each);
    let EdgeKind::Pipe(pipe) = &edges[3].kind else { panic!() };
    assert!(pipe.duplex && pipe.size == Some(1 << 20));
}

#[test]
fn edges_that_cannot_be_meant_are_mistakes() {
    for (item, code) in [
        ("a -> b", "wrong_type"),
        ("queue: a", "invalid_edge"),
        ("queue: a ->", "invalid_edge"),
        ("queue: a -> -> b", "invalid_edge"),
        ("queue: a -> b c", "invalid_edge"),
        ("queue: a.x.y -> b", "invalid_edge"),
        ("queue: a -> stdin", "reserved_name"),
        ("queue: stdout -> a", "reserved_name"),
        ("queue: a -> stdout -> b", "reserved_name"),
        ("queue: stdin.x -> a", "reserved_name"),
        ("{queue: a -> b, pipe: a -> b}", "conflicting_keys"),
        ("{format: json}", "conflicting_keys"),
        ("{queue: a -> b, duplex: true}", "wrong_option"),
        ("{queue: a -> b, size: 1KiB}", "wrong_option"),
        ("{pipe: a -> b, capacity: 3}", "wrong_option"),
        ("{queue: a -> b, capacity: 0}", "out_of_range"),
        ("{queue: a -> b, max_record: 5}", "invalid_size"),
        ("{queue: a -> b, when_full: drop}", "invalid_value"),
        ("{queue: a -> b, partition_by: user}", "invalid_value"),
        ("{queue: a -> b, partition_by: /a~b}", "invalid_value"),
        ("{queue: a -> b, partition_by: 0}", "out_of_range"),
        ("{queue: a -> b, partition_by: 1, to_each: true}", "conflicting_keys"),
        ("{queue: a -> b, format: yaml}", "invalid_value"),
        ("{queue: a -> b, formt: json}", "unknown_key"),
    ] {
        let found = edge_codes(item);
        assert!(found.iter().all(|found| found == code), "{item}: {found:?}");
    }
}
