//! Random pairs of pipelines, one reloaded into the other, while workers are killed at random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mpflow::change::{SteerError, Step};
use mpflow::event::EventKind;
use mpflow::report::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::live::Live;
use crate::own_main::Test;
use crate::steer::COUNTS;

pub(super) const TESTS: &[Test] = crate::tests![
    whatever_is_reloaded_and_killed_each_record_ends_once_and_what_did_not_change_keeps_its_workers,
    of_a_hundred_reloads_at_random_moments_the_last_is_in_effect,
];

/// Runs, and reloads of each.
const RUNS: u64 = 8;
const RELOADS: usize = 6;

/// A chain of random stages from the source to the store. Their records are leased, so that a kill loses none.
fn any_pipeline(random: &mut fastrand::Rng) -> String {
    let mut names = ["a", "b", "c", "d"].to_vec();
    random.shuffle(&mut names);
    names.truncate(random.usize(0..=3));
    let mut stages = String::new();
    for name in &names {
        let work = match random.u8(..3) {
            0 => "command: [cat], mode: each, batch: 100",
            1 => "command: [sed, -u, p;d], mode: map",
            _ => "command: [sed, -u, s/^//], mode: map",
        };
        stages.push_str(&format!(
            "  {name}: {{{work}, pool: {}, ordered: {}, exclusive: {}, on_error: skip, env: {{E: '{}'}}, \
             restart: {{policy: on-failure, max: 1000, backoff: {{initial: 1ms, max: 5ms}}}}}}\n",
            random.usize(1..4),
            random.bool(),
            random.u8(..4) == 0,
            random.u8(..2),
        ));
    }
    let chain: Vec<&str> = ["count"].into_iter().chain(names).chain(["store"]).collect();
    let capacity = if random.bool() { "" } else { ", capacity: 300" };
    let mut edges = String::new();
    for pair in chain.windows(2) {
        // Here and there each record belongs to one worker. The store keeps its worker, whatever is reloaded.
        let by_key = if pair[1] != "store" && random.u8(..3) == 0 { ", partition_by: 1" } else { "" };
        edges.push_str(&format!("  - {{queue: {} -> {}{capacity}{by_key}}}\n", pair[0], pair[1]));
    }
    format!(
        "stages:\n  count: {{command: '{COUNTS}'}}\n{stages}  store: {{command: cat, stdout: out.txt}}\nedges:\n{edges}"
    )
}

/// Kills somebody every few milliseconds, until it is told to stop.
fn kill_at_random(live: &Live, mut random: fastrand::Rng, stop: &AtomicBool) -> usize {
    let mut killed = 0;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(random.u64(5..30)));
        let living: Vec<i32> = ["a", "b", "c", "d"].iter().flat_map(|stage| live.living(stage)).collect();
        if let Some(&pid) = living.get(random.usize(..living.len().max(1))) {
            // It may have ended by itself.
            killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }
    killed
}

fn whatever_is_reloaded_and_killed_each_record_ends_once_and_what_did_not_change_keeps_its_workers() {
    let mut all_killed = 0;
    for seed in 0..RUNS {
        let mut random = fastrand::Rng::with_seed(seed);
        let live = Live::start(&any_pipeline(&mut random));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let killer = random.fork();
            let killing = scope.spawn(|| kill_at_random(&live, killer, &stop));
            for _ in 0..RELOADS {
                std::thread::sleep(Duration::from_millis(random.u64(0..150)));
                match live.run.reload(&live.pipeline(&any_pipeline(&mut random)), BTreeMap::new()) {
                    Ok(reloaded) => {
                        assert_ne!(reloaded.change.stage("count").unwrap().step, Step::Replace);
                    }
                    Err(SteerError::NotUp(_)) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
            all_killed += killing.join().unwrap();
        });
        live.write("enough", "");
        let (report, events, folder) = live.finish();
        assert_eq!(report.outcome, Outcome::Succeeded, "seed {seed}: {report:#?}");
        let started = |stage: &str| {
            let is_it = |event: &&EventKind| matches!(event, EventKind::WorkerStarted { worker, .. } if worker.stage == stage);
            events.iter().filter(is_it).count()
        };
        assert_eq!((started("count"), started("store")), (1, 1), "seed {seed}");
        unchanged_keep_their_workers(seed, &events);
        let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        let mut out = BTreeSet::new();
        for line in text.lines() {
            assert!(out.insert(line.parse::<u64>().unwrap()), "seed {seed}: {line} came twice");
        }
        let made = report.stages.iter().find(|stage| stage.stage == "count").unwrap().records_out;
        let failed: u64 = report.stages.iter().map(|stage| stage.failed).sum();
        let discarded: u64 =
            report.edges.iter().flat_map(|edge| &edge.discarded).map(|part| part.records).sum();
        assert_eq!(out.len() as u64 + failed + discarded, made, "seed {seed}: {report:#?}");
        assert_eq!(discarded, 0, "seed {seed}: whoever leaves has the time to finish: {report:#?}");
    }
    assert!(all_killed > 0);
}

/// While a reload takes effect nobody of a stage that it does not replace ends but by the kills of this test. Those of
/// `each` stages end with their records.
#[track_caller]
fn unchanged_keep_their_workers(seed: u64, events: &[EventKind]) {
    let mut kept: Vec<&str> = Vec::new();
    for event in events {
        match event {
            EventKind::Reloaded { change, .. } => {
                let is_kept = |step: Step| matches!(step, Step::Same | Step::Rewire);
                kept =
                    change.stages.iter().filter(|at| is_kept(at.step)).map(|at| at.stage.as_str()).collect();
            }
            // From here on others may be asked to end.
            EventKind::Reloading { .. } | EventKind::Stopping { .. } => kept.clear(),
            EventKind::StageFinished { stage } if stage == "count" => kept.clear(),
            EventKind::WorkerStopping { worker, .. } => {
                assert!(!kept.contains(&worker.stage.as_str()), "seed {seed}: {worker:?} was asked to end");
            }
            _ => {}
        }
    }
}

fn of_a_hundred_reloads_at_random_moments_the_last_is_in_effect() {
    let text = |round: usize| {
        format!(
            "stages:\n  tick: {{command: 'while [ ! -e enough ]; do echo x; sleep 0.001; done'}}\n  \
             work: {{command: \"sed -u s/x/{round}/\", pool: 2}}\n  store: {{command: cat, stdout: out.txt}}\n\
             edges:\n  - queue: tick -> work -> store\n"
        )
    };
    let mut random = fastrand::Rng::with_seed(1);
    let live = Live::start(&text(0));
    std::thread::scope(|scope| {
        for round in 1..=100 {
            let pipeline = live.pipeline(&text(round));
            let run = &live.run;
            // Not one after the other: many are asked for while another is on its way. In the order of the rounds
            // all the same, by what goes between two of them.
            let (asked, is_asked) = std::sync::mpsc::channel();
            scope.spawn(move || {
                asked.send(()).unwrap();
                run.reload(&pipeline, BTreeMap::new()).unwrap();
            });
            is_asked.recv().unwrap();
            std::thread::sleep(Duration::from_micros(random.u64(500..15_000)));
        }
    });
    let last = Instant::now();
    let pipeline = live.pipeline(&text(101));
    live.run.reload(&pipeline, BTreeMap::new()).unwrap();
    let took = last.elapsed();
    live.wait_until("the last works", |live| live.read("out.txt").lines().last() == Some("101"));
    live.wait_until("those before are gone", |live| live.living("work").len() == 2);
    live.write("enough", "");
    let (report, events, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let reloads = events.iter().filter(|event| matches!(event, EventKind::Reloaded { .. })).count();
    println!("{reloads} of 101 reloads took effect, the last in {took:?}");
}
