//! Reloads between leases, answers and deaths.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::{Op, World};
use super::*;
use crate::graph::{Live, compare};
use crate::model::{Mode, PartitionKey};

fn op() -> impl Strategy<Value = Op> {
    any::<u64>().prop_map(|seed| Op::random(&mut fastrand::Rng::with_seed(seed)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_reloaded_when_each_record_ends_once_in_each_queue_that_it_was_put_in(
        seed: u64,
        ops in proptest::collection::vec(op(), 0..300),
        is_cut_off: bool,
    ) {
        let mut world = World::new(seed);
        ops.into_iter().for_each(|op| world.does(op));
        if is_cut_off {
            world.cut_off();
        } else {
            world.finish();
            world.check();
        }
    }
}

/// As the other million: found by number, and told by the seed.
#[test]
fn many_random_steps_with_reloads_lose_and_double_nothing() {
    let mut done = 0;
    while done < 150_000 {
        let seed = trial::Told(fastrand::u64(..));
        let mut random = fastrand::Rng::with_seed(seed.0);
        let mut world = World::new(random.u64(..));
        let steps = random.usize(1..500);
        for _ in 0..steps {
            world.does(Op::random(&mut random));
        }
        done += steps;
        match random.u8(..4) {
            0 => world.cut_off(),
            _ => {
                world.finish();
                world.check();
            }
        }
    }
}

/// Has the only stage of these plans, which standard input leads to, replaced by its other form.
fn replace(broker: &mut Broker, old: &Plan, new: &Plan) {
    let merged = Live::new(old).merge(old, new, &compare(old, new, &BTreeMap::new()), &BTreeSet::new());
    assert_eq!(merged.replaced, [(0, 1)]);
    broker.add_stage(&merged.prepared, 1, Some(0));
    let takeover =
        Takeover { stages: &merged.live.stages, queues: &merged.live.queues, replaced: &merged.replaced };
    broker.take_over(&merged.committed, &takeover);
}

#[test]
fn what_waits_by_its_key_goes_into_the_lanes_of_a_pool_of_another_width() {
    let plan = |width, key: Option<PartitionKey>| {
        let build = Build::new().with("work", |work| (work.mode, work.pool) = (Mode::Stream, pool(width)));
        build.queue_with("stdin -> work", |queue| queue.partition_by.clone_from(&key)).accepted()
    };
    let key = || Some(PartitionKey::Field(1));
    for (old, new) in
        [(plan(3, key()), plan(2, key())), (plan(3, key()), plan(2, None)), (plan(2, None), plan(3, key()))]
    {
        let mut broker = Broker::new(&old);
        let stdin = broker.stdin().unwrap();
        // Each key three times, in order.
        let all: Vec<u64> = (0..90).collect();
        let of = |numbers: &[u64]| {
            Block::whole(
                numbers
                    .iter()
                    .map(|number| format!("{} {number}\n", number % 30))
                    .collect::<String>()
                    .into_bytes()
                    .into(),
                LINES,
            )
        };
        broker.publish(stdin, of(&all));
        let port = |stage| Consumer::Port { stage, port: 0 };
        // One worker was fed, and has not read it.
        let (queue, fed) = broker.take(port(0), 1, usize::MAX, 10).unwrap();
        replace(&mut broker, &old, &new);
        broker.put_back(queue, 1, fed);
        assert!(broker.take(port(0), 0, usize::MAX, 1).is_none(), "nothing is left for the old form");
        assert!(broker.takes_no_more(0));
        broker.close_input(0, Reason::EdgeRemoved);
        broker.end_producer(stdin);
        let mut had = BTreeMap::<u64, Vec<(usize, u64)>>::new();
        for rank in 0..new.stages[0].stage.pool.max {
            while let Some((queue, block)) = broker.take(port(1), rank, usize::MAX, 7) {
                broker.deliver(Some(1), queue, block.records);
                for line in String::from_utf8(block.data.to_vec()).unwrap().lines() {
                    let (key, number) = line.split_once(' ').unwrap();
                    had.entry(key.parse().unwrap()).or_default().push((rank, number.parse().unwrap()));
                }
            }
        }
        assert_eq!(had.values().map(Vec::len).sum::<usize>(), all.len(), "none is lost or doubled");
        if new.queues[0].options.partition_by.is_some() {
            for (key, had) in had {
                assert!(had.is_sorted(), "key {key} has come to one worker, in order: {had:?}");
                assert_eq!(had[0].0, had[2].0);
            }
        }
        for edge in broker.close_books() {
            assert!(edge.balances() && edge.discarded.is_empty(), "{edge:?}");
        }
    }
}

#[test]
fn what_an_old_worker_gives_back_by_its_key_is_done_by_a_new_form_of_another_width() {
    let plan = |width| {
        let build = Build::new().with("work", |work| (work.mode, work.pool) = (Mode::Map, pool(width)));
        build
            .queue_with("stdin -> work", |queue| queue.partition_by = Some(PartitionKey::Field(1)))
            .accepted()
    };
    let (old, new) = (plan(3), plan(2));
    let mut broker = Broker::new(&old);
    let all: Vec<u64> = (0..30).collect();
    broker.publish(broker.stdin().unwrap(), block(&all));
    for rank in 0..3 {
        assert!(broker.lease(0, rank, usize::MAX, 100).is_some());
    }
    replace(&mut broker, &old, &new);
    (0..3).for_each(|rank| broker.give_back(0, rank));
    broker.close_input(0, Reason::EdgeRemoved);
    // What comes next by the same keys goes to the same workers.
    broker.publish(broker.stdin().unwrap(), block(&all));
    broker.end_producer(broker.stdin().unwrap());
    for rank in 0..2 {
        let mut had = Vec::new();
        while let Some(lease) = broker.lease(1, rank, usize::MAX, 4).cloned() {
            had.extend(numbers(&lease.block));
            broker.answer(1, rank, None, LINES, lease.block).unwrap();
        }
        let (first, then) = had.split_at(had.len() / 2);
        let first: BTreeSet<_> = first.iter().collect();
        assert_eq!(first, then.iter().collect(), "once by the old queue and once by the new");
    }
    assert!(broker.is_answered(1), "no record is left");
}
