//! Wider and narrower pools, and workers that are replaced one by one.

use std::collections::BTreeSet;

use mpflow::change::SteerError;
use mpflow::event::EventKind;
use mpflow::report::{Outcome, Report};
use tempfile::TempDir;

use crate::live::Live;
use crate::own_main::Test;

pub(super) const TESTS: &[Test] = crate::tests![
    a_pool_is_scaled_up_and_down_under_load_and_nothing_is_lost_or_doubled,
    when_a_scaled_pool_is_answered_for_its_workers_are_there,
    a_rolling_restart_replaces_every_worker_one_by_one_and_nothing_is_lost_or_doubled,
    a_rolling_restart_whose_successor_ends_at_once_is_given_up_and_the_others_stay,
    one_worker_is_restarted_and_the_others_stay,
    the_only_worker_of_a_pool_is_restarted_without_a_gap,
    workers_that_a_pipe_joins_are_scaled_and_restarted_together,
    what_cannot_be_scaled_or_restarted_is_said_and_changes_nothing,
    a_run_that_is_ending_is_not_steered_any_more,
];

/// A source that goes on until there is a file `enough`, and then says the last number that it wrote.
pub(super) const COUNTS: &str =
    "i=0; while [ ! -e enough ]; do for _ in $(seq 200); do i=$((i+1)); echo $i; done; done";

fn counting(work: &str) -> String {
    format!(
        "stages:\n  count: {{command: '{COUNTS}'}}\n  work: {{{work}}}\n  store: {{command: cat, stdout: out.txt}}\n\
         edges:\n  - queue: count -> work -> store\n"
    )
}

/// Ends it: every number that was counted is in the file, and once.
fn everything_came_once(live: Live) -> (Report, Vec<EventKind>) {
    live.write("enough", "");
    let (report, events, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
    (report, events)
}

pub(super) fn all_numbers(folder: &TempDir) {
    let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    let wanted: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert!(numbers == wanted, "{} lines, the last {:?}", numbers.len(), numbers.last());
}

fn a_pool_is_scaled_up_and_down_under_load_and_nothing_is_lost_or_doubled() {
    let works = [
        "command: [cat], pool: 2",
        "command: [sed, -u, p;d], mode: map, pool: 2",
        "command: [cat], mode: each, batch: 500, pool: 2",
    ];
    for work in works {
        let live = Live::start(&counting(work));
        for width in [4, 1, 3, 6, 2] {
            live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
            live.run.scale("work", width).unwrap();
            let snapshot = live.run.snapshot().unwrap();
            let stage = snapshot.stages.iter().find(|stage| stage.stage == "work").unwrap();
            assert_eq!(stage.pool, width);
        }
        let (report, events) = everything_came_once(live);
        let resized: Vec<(usize, usize)> = events
            .iter()
            .filter_map(|event| match event {
                EventKind::StageResized { from, to, .. } => Some((*from, *to)),
                _ => None,
            })
            .collect();
        assert_eq!(resized, [(2, 4), (4, 1), (1, 3), (3, 6), (6, 2)]);
        let stage = report.stages.iter().find(|stage| stage.stage == "work").unwrap();
        assert_eq!(stage.restarts, 0, "a worker that comes or goes so is no restart");
    }
}

fn when_a_scaled_pool_is_answered_for_its_workers_are_there() {
    let live = Live::start(&counting("command: [cat], pool: 1"));
    live.run.scale("work", 5).unwrap();
    live.wait_until("they are told of", |live| live.living("work").len() == 5);
    live.run.scale("work", 2).unwrap();
    live.wait_until("three have left", |live| live.living("work").len() == 2);
    everything_came_once(live);
}

fn a_rolling_restart_replaces_every_worker_one_by_one_and_nothing_is_lost_or_doubled() {
    for work in ["command: [cat], pool: 4", "command: [sed, -u, p;d], mode: map, pool: 4"] {
        let live = Live::start(&counting(work));
        live.wait_for_lines("out.txt", 1000);
        live.wait_until("four are told of", |live| live.living("work").len() == 4);
        let before: BTreeSet<i32> = live.living("work");
        assert_eq!(live.run.restart("work"), Ok(4));
        live.wait_until("all are told of", |live| {
            live.living("work").len() == 4 && live.started("work") == 8
        });
        let after = live.living("work");
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");
        // At no time was the pool short of more than one.
        let mut living = 0;
        let mut has_begun = false;
        for event in live.seen() {
            match event {
                EventKind::WorkerStarted { worker, .. } if worker.stage == "work" => living += 1,
                EventKind::WorkerEnded { worker, .. } if worker.stage == "work" => living -= 1,
                _ => continue,
            }
            has_begun |= living == 4;
            assert!(!has_begun || living >= 3, "{living} were left");
        }
        everything_came_once(live);
    }
}

fn a_rolling_restart_whose_successor_ends_at_once_is_given_up_and_the_others_stay() {
    let work = "command: 'test -e broken && exit 6; exec sed -u \"p;d\"', mode: map, pool: 3, restart: {policy: on-failure, max: 100}";
    let live = Live::start(&counting(work));
    live.wait_for_lines("out.txt", 500);
    live.wait_until("three are told of", |live| live.living("work").len() == 3);
    let before = live.living("work");
    live.write("broken", "");
    let error = live.run.restart("work").unwrap_err();
    assert_eq!(
        error.to_string(),
        "given up: the new worker `work/0` ended at once, and 2 others were left as before"
    );
    live.wait_until("the first has gone, and the others stay", |live| {
        live.living("work").intersection(&before).count() == 2
    });
    std::fs::remove_file(live.path("broken")).unwrap();
    live.wait_until("its policy starts another", |live| live.living("work").len() == 3);
    everything_came_once(live);
}

fn one_worker_is_restarted_and_the_others_stay() {
    let live = Live::start(&counting("command: [cat], pool: 3"));
    live.wait_for_lines("out.txt", 1000);
    live.wait_until("three are told of", |live| live.living("work").len() == 3);
    let before = live.living("work");
    assert_eq!(live.run.restart("work/1"), Ok(1));
    live.wait_until("it is told of", |live| live.living("work").len() == 3 && live.started("work") == 4);
    let after = live.living("work");
    assert_eq!(before.intersection(&after).count(), 2);
    let generations = live
        .seen()
        .iter()
        .filter(|event| matches!(event, EventKind::WorkerStarted { worker, .. } if worker.worker == "work/1"))
        .count();
    assert_eq!(generations, 2);
    everything_came_once(live);
}

fn what_cannot_be_scaled_or_restarted_is_said_and_changes_nothing() {
    let live = Live::start(&counting("command: 'cat; : ${{ worker.rank }}', pool: 2"));
    let error = live.run.scale("wrok", 2).unwrap_err();
    assert_eq!(error.to_string(), "there is no stage `wrok` in this run: did you mean `work`?");
    assert_eq!(live.run.scale("work", 0), Err(SteerError::NoWorkers));
    let error = live.run.scale("work", 100_000_000).unwrap_err();
    assert_eq!(error.to_string(), "a pool cannot have 100000000 workers: an integer from 1 to 32768");
    let error = live.run.scale("work", 3).unwrap_err();
    assert!(error.to_string().contains("its `command` names the worker's rank"), "{error}");
    assert_eq!(live.run.scale("work", 1), Ok(()), "fewer are as many as it knows ranks");
    let error = live.run.restart("work/7").unwrap_err();
    assert!(error.to_string().contains("there is no stage or worker `work/7`"), "{error}");
    everything_came_once(live);
}

fn a_run_that_is_ending_is_not_steered_any_more() {
    let live = Live::start(
        "stages:\n  sleeps: {command: 'trap \"\" TERM; sleep 1'}\n  after: {command: sleep 60}\n",
    );
    live.wait_until("it runs", |live| live.living("after").len() == 1);
    live.run.stop(mpflow::Stop::Terminate);
    assert_eq!(live.run.scale("after", 2), Err(SteerError::RunEnded));
    assert_eq!(live.run.restart("after"), Err(SteerError::RunEnded));
    live.finish();
}

fn the_only_worker_of_a_pool_is_restarted_without_a_gap() {
    let live = Live::start(&counting("command: [cat]"));
    live.wait_for_lines("out.txt", 500);
    assert_eq!(live.run.restart("work"), Ok(1));
    let words: Vec<bool> = live
        .seen()
        .iter()
        .filter_map(|event| match event {
            EventKind::WorkerStarted { worker, .. } if worker.stage == "work" => Some(true),
            EventKind::WorkerEnded { worker, .. } if worker.stage == "work" => Some(false),
            _ => None,
        })
        .collect();
    assert_ne!(words, [true, false, true], "the new one is there before the old one goes");
    everything_came_once(live);
}

fn workers_that_a_pipe_joins_are_scaled_and_restarted_together() {
    let text = "stages:\n  say: {command: 'while [ ! -e enough ]; do echo x; sleep 0.01; done'}\n  hear: {command: cat}\n  \
                store: {command: cat, stdout: out.txt}\nedges:\n  - pipe: say -> hear\n  - queue: hear -> store\n";
    let live = Live::start(text);
    live.wait_for_lines("out.txt", 2);
    live.run.scale("hear", 3).unwrap();
    live.wait_until("three pairs", |live| live.living("say").len() == 3 && live.living("hear").len() == 3);
    let before = live.living("say");
    assert_eq!(live.run.restart("hear/1"), Ok(1));
    live.wait_until("three others", |live| {
        live.living("say").len() == 3 && live.living("say").is_disjoint(&before)
    });
    live.write("enough", "");
    let (report, _, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
}
