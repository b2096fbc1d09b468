//! What pairs of plans come to.

use std::collections::BTreeMap;

use super::compare;
use crate::change::{Change, Step, Why};
use crate::graph::testing::{Build, pool};
use crate::model::*;

fn between(old: &Build, new: &Build) -> Change {
    let plan = |build: &Build| build.planned().unwrap().plan;
    compare(&plan(old), &plan(new), &BTreeMap::new())
}

fn steps(change: &Change) -> Vec<(&str, Step)> {
    change.stages.iter().map(|change| (change.stage.as_str(), change.step)).collect()
}

fn edges(change: &Change) -> Vec<(&str, Step)> {
    change.edges.iter().map(|change| (change.edge.as_str(), change.step)).collect()
}

fn edge(name: &str) -> Why {
    Why::Edge { edge: name.to_owned() }
}

#[test]
fn a_plan_does_not_differ_from_itself() {
    let build = Build::new().stage("a").stage("b").queue("a -> b");
    let change = between(&build, &build);
    assert!(change.is_nothing());
    assert_eq!(change.to_string(), "nothing has changed");
}

#[test]
fn stages_are_known_by_their_names_and_not_by_their_places() {
    let old = Build::new().stage("a").stage("b").queue("a -> b");
    let new = Build::new().stage("b").stage("a").queue("a -> b");
    assert!(between(&old, &new).is_nothing());
}

#[test]
fn a_stage_whose_own_keys_differ_is_replaced_alone_and_its_queues_keep_their_records() {
    let old = Build::new().stage("a").stage("b").stage("c").queue("a -> b").queue("b -> c");
    let new = Build::new()
        .stage("a")
        .with("b", |b| b.args = vec![1.into()])
        .stage("c")
        .queue("a -> b")
        .queue("b -> c");
    let change = between(&old, &new);
    assert_eq!(steps(&change), [("a", Step::Same), ("b", Step::Replace), ("c", Step::Same)]);
    assert_eq!(change.stages[1].why, [Why::Key { key: "args", values: None }]);
    assert!(change.edges.iter().all(|edge| edge.step == Step::Same));
    assert_eq!(change.to_string(), "replaced `b`; 2 stages as they were");
}

#[test]
fn a_pool_is_resized_and_keeps_its_workers() {
    let old = Build::new().stage("a").with("b", |b| b.pool = pool(2)).queue("a -> b");
    let new = Build::new().stage("a").with("b", |b| b.pool = Pool { min: 1, max: 4 }).queue("a -> b");
    let change = between(&old, &new);
    assert_eq!(steps(&change), [("a", Step::Same), ("b", Step::Resize)]);
    assert_eq!(change.stages[1].why[0].to_string(), "`pool` 2 -> 1..4");
}

#[test]
fn a_pool_that_has_records_by_their_key_is_replaced_and_its_queue_keeps_them() {
    let build = |width| {
        Build::new()
            .stage("a")
            .with("b", |b| b.pool = pool(width))
            .queue_with("a -> b", |queue| queue.partition_by = Some(PartitionKey::Field(1)))
    };
    let change = between(&build(2), &build(3));
    assert_eq!(steps(&change), [("a", Step::Same), ("b", Step::Replace)]);
    assert_eq!(edges(&change), [("a -> b", Step::Rewire), ("b -> stdout", Step::Same)]);
}

#[test]
fn a_queue_to_each_worker_of_another_pool_begins_anew() {
    let build = |width| {
        let stages = Build::new().stage("a").with("b", |b| b.pool = pool(width));
        stages.queue_with("a -> b", |queue| queue.to_each = true)
    };
    let change = between(&build(2), &build(3));
    assert_eq!(steps(&change), [("a", Step::Rewire), ("b", Step::Replace)]);
    assert_eq!(edges(&change), [("a -> b", Step::Replace), ("b -> stdout", Step::Same)]);
}

#[test]
fn a_stage_whose_edge_by_key_is_gone_is_replaced_as_what_waits_there_is_its_old_workers() {
    let build = |width, options: fn(&mut QueueOptions)| {
        let stages = Build::new().stage("a").stage("c").with("b", |b| b.pool = pool(width));
        stages.queue_with("c -> b", options).queue_with("a -> b", options)
    };
    let options: [fn(&mut QueueOptions); 2] =
        [|queue| queue.partition_by = Some(PartitionKey::Field(1)), |queue| queue.to_each = true];
    for options in options {
        let old = build(2, options);
        let mut new = old.clone();
        new.0.edges.remove(0);
        let change = between(&old, &new);
        assert_eq!(steps(&change)[2], ("b", Step::Replace));
        assert_eq!(change.stages[2].why[0], edge("c -> b"));
    }
    let shared = build(2, |_| {});
    let mut new = shared.clone();
    new.0.edges.remove(0);
    assert_eq!(steps(&between(&shared, &new))[2], ("b", Step::Rewire));
}

#[test]
fn an_edge_that_goes_elsewhere_is_another_edge_and_its_producer_keeps_its_workers() {
    let old = Build::new().stage("a").stage("b").stage("c").queue("a -> b").queue("a.x -> c");
    let new = Build::new().stage("a").stage("b").stage("c").queue("a -> c").queue("a.x -> b");
    let change = between(&old, &new);
    assert_eq!(steps(&change), [("a", Step::Rewire), ("b", Step::Rewire), ("c", Step::Rewire)]);
    assert_eq!(
        edges(&change)[..2],
        [("a -> c", Step::Add), ("a.x -> b", Step::Add)],
        "in the order of the new pipeline"
    );
    let gone: Vec<_> = change.edges.iter().filter(|edge| edge.step == Step::Remove).collect();
    assert_eq!(gone.len(), 2);
}

#[test]
fn a_stage_with_a_port_more_or_less_is_replaced_for_its_edge() {
    let old = Build::new().stage("a").stage("b").queue("a -> b");
    let new = Build::new().stage("a").stage("b").stage("c").queue("a -> b").queue("a.links -> c");
    let change = between(&old, &new);
    assert_eq!(steps(&change), [("a", Step::Replace), ("b", Step::Same), ("c", Step::Add)]);
    assert_eq!(change.stages[0].why, [edge("a.links -> c")]);
    let back = between(&new, &old);
    assert_eq!(steps(&back), [("a", Step::Replace), ("b", Step::Same), ("c", Step::Remove)]);
    assert_eq!(back.edge("a.links -> c").unwrap().step, Step::Remove);
    assert_eq!(back.edge("c -> stdout").unwrap().step, Step::Remove, "what it would have written to stdout");
}

#[test]
fn a_queue_in_another_format_begins_anew_and_both_its_ends_are_replaced() {
    let build = |format| {
        Build::new()
            .stage("a")
            .stage("b")
            .stage("c")
            .queue_with("a -> b", |queue| queue.format = Some(format))
            .queue("b -> c")
    };
    let change = between(&build(Format::Lines), &build(Format::Nul));
    assert_eq!(steps(&change), [("a", Step::Replace), ("b", Step::Replace), ("c", Step::Same)]);
    assert_eq!(change.edge("a -> b").unwrap().step, Step::Replace);
    assert_eq!(change.edge("b -> c").unwrap().step, Step::Same);
}

#[test]
fn a_bound_of_a_queue_is_moved_and_nobody_is_replaced() {
    let build = |capacity| {
        Build::new().stage("a").stage("b").queue_with("a -> b", |queue| queue.capacity = Some(capacity))
    };
    let change = between(&build(10), &build(20));
    assert_eq!(steps(&change), [("a", Step::Same), ("b", Step::Same)]);
    assert_eq!(edges(&change)[0], ("a -> b", Step::Resize));
    assert_eq!(change.edges[0].why[0].to_string(), "`capacity` 10 -> 20");
    assert_eq!(change.to_string(), "resized `a -> b`; 2 stages as they were");
}

#[test]
fn whom_a_pipe_joins_to_a_replaced_stage_is_replaced_too_and_so_on() {
    let build = |args: Vec<serde_json::Value>| {
        Build::new()
            .with("a", |a| a.args = args)
            .stage("b")
            .stage("c")
            .stage("d")
            .pipe("a -> b")
            .pipe("b -> c")
    };
    let change = between(&build(vec![]), &build(vec![1.into()]));
    assert_eq!(
        steps(&change),
        [("a", Step::Replace), ("b", Step::Replace), ("c", Step::Replace), ("d", Step::Same)]
    );
    assert_eq!(change.stages[2].why, [Why::Peer { stage: "b".to_owned() }]);
    assert!(change.edges.iter().all(|edge| edge.step == Step::Same), "the pipes themselves are as they were");
}

#[test]
fn a_touched_stage_is_replaced_for_that() {
    let build = Build::new().stage("a").stage("b").queue("a -> b");
    let plan = build.accepted();
    let touched = BTreeMap::from([("b".to_owned(), "b.py has changed".to_owned())]);
    let change = compare(&plan, &plan, &touched);
    assert_eq!(steps(&change), [("a", Step::Same), ("b", Step::Replace)]);
    assert_eq!(change.stages[1].why[0].to_string(), "b.py has changed");
}

#[test]
fn shared_objects_need_a_new_run() {
    let mut new = Build::new().stage("a");
    new.0.shared.push(SharedObject { name: "go".to_owned(), kind: SharedKind::Lock });
    let change = between(&Build::new().stage("a"), &new);
    assert_eq!(change.new_run, ["`shared`"]);
    assert!(!change.is_nothing());
}
