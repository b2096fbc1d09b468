//! The broker beside small models of what it owes: random events, and then the books.

mod documents;
mod reloads;
mod trial;
mod world;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::graph::testing::{Build, pool};
use crate::model::WhenFull;
use trial::Trial;

const LINES: Framing = Framing::EndedBy(b'\n');

fn numbers(block: &Block) -> Vec<u64> {
    let text = std::str::from_utf8(&block.data).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn block(numbers: &[u64]) -> Block {
    let text: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Block::new(Bytes::from(text), numbers.len() as u64)
}

/// A million steps in all: what no one thinks of, found by their number. What they find is told by its seed, and
/// the property below makes a short list of steps of it.
#[rstest]
fn a_million_random_steps_lose_and_double_nothing(#[values(1, 2, 3, 4)] _part: u8) {
    trial::steps(250_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_record_comes_out_once_or_fails_whatever_happens(
        setting in trial::setting(),
        ops in proptest::collection::vec(trial::op(), 0..300),
        is_cut_off: bool,
    ) {
        let mut trial = Trial::new(setting);
        ops.into_iter().for_each(|op| trial.does(op));
        if is_cut_off {
            trial.cut_off();
        } else {
            trial.finish();
            trial.check();
        }
    }

    #[test]
    fn a_full_queue_that_drops_counts_what_it_drops(
        oldest: bool,
        capacity in 1u64..10,
        ops in proptest::collection::vec((any::<bool>(), 1u64..30), 0..60),
    ) {
        let plan = Build::new()
            .stage("source")
            .queue_with("source -> stdout", |queue| {
                queue.capacity = Some(capacity);
                queue.when_full = if oldest { WhenFull::DropOldest } else { WhenFull::DropNewest };
            })
            .accepted();
        let mut broker = Broker::new(&plan);
        let (mut next, mut out, mut waiting) = (0u64, Vec::new(), VecDeque::new());
        for op in ops {
            match op {
                (true, records) => {
                    let made: Vec<u64> = (next..next + records).collect();
                    next += records;
                    broker.publish(broker.output(0, 0), block(&made));
                    prop_assert!(!broker.is_blocked(broker.output(0, 0)));
                    for number in made {
                        if (waiting.len() as u64) < capacity {
                            waiting.push_back(number);
                        } else if oldest {
                            waiting.pop_front();
                            waiting.push_back(number);
                        }
                    }
                }
                (false, records) => {
                    if let Some((queue, block)) = broker.take(Consumer::Stdout, 0, usize::MAX, records) {
                        broker.deliver(None, queue, block.records);
                        let numbers = numbers(&block);
                        let expected: Vec<u64> = waiting.drain(..numbers.len()).collect();
                        prop_assert_eq!(&numbers, &expected);
                        out.extend(numbers);
                    }
                }
            }
        }
        let report = broker.close_books().remove(0);
        prop_assert!(report.balances());
        prop_assert_eq!(report.dropped, next - out.len() as u64 - waiting.len() as u64);
    }
}

#[test]
fn a_record_larger_than_the_queue_passes_alone() {
    let plan = Build::new()
        .stage("source")
        .queue_with("source -> stdout", |queue| queue.capacity_bytes = 200)
        .accepted();
    let mut broker = Broker::new(&plan);
    let source = broker.output(0, 0);
    let large = [vec![b'x'; 5000], vec![b'\n']].concat();
    broker.publish(source, Block::new(Bytes::from(large.clone()), 1));
    assert!(!broker.is_blocked(source));
    broker.publish(source, block(&[1]));
    assert!(broker.is_blocked(source), "nothing goes beside it");
    assert_eq!(broker.take(Consumer::Stdout, 0, 10, 10).unwrap().1.data, large);
    assert!(!broker.is_blocked(source));
    assert_eq!(broker.changes().producers, [source]);
}

#[test]
fn what_nobody_wants_is_told_up_the_graph() {
    let plan = Build::new().stage("source").stage("sink").queue("source -> sink").accepted();
    let mut broker = Broker::new(&plan);
    let source = broker.output(0, 0);
    broker.publish(source, block(&[1, 2, 3]));
    broker.close_consumer(Consumer::Port { stage: 1, port: 0 }, Reason::ConsumerEnded);
    assert!(broker.is_unwanted(source));
    assert_eq!(broker.changes().unwanted, [source]);
    broker.publish(source, block(&[4]));
    let report = broker.close_books().remove(0);
    assert_eq!((report.records_in, report.discarded[0].records), (4, 4));
}

/// Who is not told is not asked again whether it wants more: with a wide pool, that would cost more than the records.
#[test]
fn an_answer_is_told_to_other_workers_only_where_they_have_waited_for_it() {
    let answers = |ordered: bool| {
        let plan = Build::new()
            .with("work", |stage| {
                (stage.mode, stage.pool, stage.ordered) = (crate::model::Mode::Map, pool(2), ordered);
            })
            .queue("stdin -> work")
            .accepted();
        let mut broker = Broker::new(&plan);
        let stdin = broker.stdin().unwrap();
        broker.publish(stdin, Block::whole(Bytes::from(vec![b'\n'; 2 * MAX_AHEAD as usize]), LINES));
        assert!(broker.lease(0, 0, usize::MAX, 2).is_some());
        while broker.lease(0, 1, usize::MAX, 1000).is_some() {}
        let held = broker.held(0, 1);
        broker.changes();
        let mut answer = |rank, records| {
            broker.answer_with(0, rank, records, Results::new()).unwrap();
            !broker.changes().consumers.is_empty()
        };
        (held, [answer(1, 1), answer(0, 1), answer(0, 1)])
    };
    let own = Consumer::Port { stage: 0, port: 0 };
    assert_eq!(answers(false), (2 * MAX_AHEAD - 2, [false; 3]), "{own:?} has nobody to ask");
    // The first answer lets nothing go, and so tells once, and nobody waits any more; whoever is refused waits again.
    assert_eq!(answers(true).1, [true, false, false]);
}

#[test]
fn a_lease_does_not_hold_the_whole_read_that_it_came_with() {
    let plan = Build::new()
        .with("work", |stage| stage.mode = crate::model::Mode::Each)
        .queue("stdin -> work")
        .accepted();
    let mut broker = Broker::new(&plan);
    let read = Bytes::from(vec![b'\n'; 1 << 20]);
    let stdin = broker.stdin().unwrap();
    broker.publish(stdin, Block::whole(read.clone(), LINES));
    assert!(broker.lease(0, 0, usize::MAX, 1).is_some());
    broker.close_consumer(Consumer::Port { stage: 0, port: 0 }, Reason::Stopped);
    assert_eq!(broker.held(0, 0), 1);
    assert!(read.is_unique(), "the lease has a copy of its record");
}
