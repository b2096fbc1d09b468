//! Runs in a program that has a life of its own.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mpflow::event::EventKind;
use mpflow::report::Outcome;
use mpflow::{Engine, Run, StartError, Stdio, Stop};

use super::{DEADLINE, assert_balanced, end, pipeline, values, within_deadline};
use crate::own_main::Test;

pub(super) const TESTS: &[Test] = crate::tests![
    several_runs_in_one_program_know_nothing_of_one_another,
    a_run_is_waited_for_as_long_as_one_likes,
    dropping_a_run_leaves_nothing_behind,
    a_run_drains_or_is_terminated_or_killed,
    events_tell_of_a_run_from_its_start_to_its_end,
    a_run_can_be_looked_at_while_it_goes_on,
    a_run_that_failed_says_why_as_data,
    the_program_keeps_its_signals_and_its_own_children,
    what_this_machine_lacks_starts_nothing,
    a_stage_is_scaled_and_restarted_by_the_program,
];

const ENDLESS: &str = "
stages:
  tree: {command: 'sh -c \"sleep 1000 & sleep 1000\" & trap \"\" TERM; sleep 1000 & wait; wait', pool: 2, stop: {grace: 100ms}}
";

fn several_runs_in_one_program_know_nothing_of_one_another() {
    let double = "stages: {double: {command: 'while read -r n; do echo $((n * 2)); done', mode: map, pool: 2}}\n\
                  edges: [{queue: stdin -> double -> stdout}]";
    let double = pipeline(double);
    let engine = Engine::new().stdin(Stdio::Values).stdout(Stdio::Values);
    let runs: Vec<Run> = (0..4).map(|_| engine.start(&double).unwrap()).collect();
    let ids: std::collections::BTreeSet<&str> = runs.iter().map(Run::id).collect();
    assert_eq!(ids.len(), 4);
    thread::scope(|scope| {
        for (number, run) in runs.iter().enumerate() {
            scope.spawn(move || {
                let (input, output) = (run.input::<usize>().unwrap(), run.output::<usize>().unwrap());
                (0..500).for_each(|n| input.send(&(number * 1000 + n)).unwrap());
                drop(input);
                let mut received: Vec<usize> = output.map(Result::unwrap).collect();
                received.sort_unstable();
                assert!(received.into_iter().eq((0..500).map(|n| 2 * (number * 1000 + n))));
            });
        }
    });
    for run in runs {
        assert_eq!(end(run).outcome, Outcome::Succeeded);
    }
}

fn a_run_is_waited_for_as_long_as_one_likes() {
    let mut run = values("stages: {cat: {command: cat}}\nedges: [{queue: stdin -> cat -> stdout}]");
    assert_eq!(run.wait_timeout(Duration::from_millis(20)), None);
    assert!(!run.is_finished());
    drop(run.input::<str>().unwrap());
    let report = run.wait_timeout(DEADLINE).unwrap();
    assert!(run.is_finished());
    assert_eq!(run.wait_timeout(Duration::ZERO).as_ref(), Some(&report));
    assert_eq!(run.snapshot(), None);
    assert_eq!(run.wait(), report);
}

/// All processes with this mark in their environment: those of the run, whatever they have become.
fn processes_of(run_id: &str) -> Vec<String> {
    let mark = format!("MPFLOW_RUN_ID={run_id}\0");
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let of_run = processes.filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    });
    of_run.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn dropping_a_run_leaves_nothing_behind() {
    let run = Engine::new().start(&pipeline(ENDLESS)).unwrap();
    let id = run.id().to_owned();
    wait_until("both workers have their children", || processes_of(&id).len() >= 8);
    within_deadline(move || drop(run));
    assert_eq!(processes_of(&id), Vec::<String>::new());
}

fn a_run_drains_or_is_terminated_or_killed() {
    for (stop, level) in [(Stop::Drain, "drain"), (Stop::Terminate, "terminate"), (Stop::Kill, "kill")] {
        let run = Engine::new().start(&pipeline(ENDLESS)).unwrap();
        let id = run.id().to_owned();
        wait_until("it runs", || processes_of(&id).len() >= 2);
        run.stop(stop);
        let report = end(run);
        assert_eq!(report.outcome, Outcome::Stopped { level: level.to_owned() });
        assert_eq!(processes_of(&id), Vec::<String>::new());
    }
}

fn events_tell_of_a_run_from_its_start_to_its_end() {
    let run = Engine::new().start(&pipeline("stages: {talk: {command: 'echo hello >&2'}}")).unwrap();
    let events = run.events();
    let id = run.id().to_owned();
    let report = end(run);
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert!(matches!(&kinds[0], EventKind::RunStarted { run_id, .. } if *run_id == id));
    let said = |kind: &EventKind| matches!(kind, EventKind::Log { worker, line } if worker == "talk" && line == "hello");
    assert!(kinds.iter().any(said), "{kinds:?}");
    assert!(kinds.iter().any(|kind| matches!(kind, EventKind::WorkerEnded { success: true, .. })));
    let Some(EventKind::RunEnded { report: told }) = kinds.last() else { panic!("{kinds:?}") };
    assert_eq!(**told, report);
}

fn a_run_can_be_looked_at_while_it_goes_on() {
    let run = values("stages: {cat: {command: cat}}\nedges: [{queue: stdin -> cat -> stdout}]");
    let (input, mut output) = (run.input::<u32>().unwrap(), run.output::<u32>().unwrap());
    (0..10).for_each(|n| input.send(&n).unwrap());
    (0..10).for_each(|n| assert_eq!(output.recv(), Ok(n)));
    let snapshot = run.snapshot().unwrap();
    let cat = &snapshot.stages[0];
    assert_eq!((cat.stage.as_str(), cat.workers, cat.records_in, cat.records_out), ("cat", 1, 10, 10));
    assert_eq!(snapshot.edges[0].records, 0);
    drop(input);
    end(run);
}

fn a_run_that_failed_says_why_as_data() {
    let run = Engine::new().start(&pipeline("stages: {bad: {command: 'echo no luck >&2; exit 3'}}")).unwrap();
    let report = end(run);
    let Outcome::Failed { failures } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(failures[0].stage.as_deref(), Some("bad"));
    assert_eq!(failures[0].exit, Some(3));
    assert_eq!(failures[0].stderr, ["no luck"]);
}

fn dispositions() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kept = ["SigCgt:", "SigIgn:", "SigBlk:"];
    status.lines().filter(|line| kept.iter().any(|kept| line.starts_with(kept))).map(str::to_owned).collect()
}

fn the_program_keeps_its_signals_and_its_own_children() {
    let before = dispositions();
    let mut own = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let run = Engine::new().start(&pipeline("stages: {many: {command: 'true', pool: 8}}")).unwrap();
    assert_eq!(dispositions(), before);
    assert_eq!(end(run).outcome, Outcome::Succeeded);
    assert_eq!(own.wait().unwrap().code(), Some(7), "nobody else has waited for it");
    assert_eq!(dispositions(), before);
}

fn what_this_machine_lacks_starts_nothing() {
    let missing = pipeline("stages: {a: {command: [no-such-program-anywhere]}}");
    let engine = Engine::new();
    assert!(engine.check(&missing).has_errors());
    let error = engine.start(&missing).map(drop).unwrap_err();
    let StartError::Refused(diagnostics) = &error else { panic!("{error}") };
    assert_eq!(diagnostics.iter().next().unwrap().code(), "mpflow::missing_program");
    assert!(error.to_string().contains("pipeline.yaml:1:"), "{error}");
}

fn a_stage_is_scaled_and_restarted_by_the_program() {
    let run = values(
        "stages: {same: {command: [sed, -u, p;d], mode: map, pool: 1}}\nedges: [{queue: stdin -> same -> stdout}]",
    );
    let (input, mut output) = (run.input::<u32>().unwrap(), run.output::<u32>().unwrap());
    input.send(&1).unwrap();
    assert_eq!(output.recv(), Ok(1));
    run.scale("same", 3).unwrap();
    assert_eq!(run.snapshot().unwrap().stages[0].workers, 3);
    assert_eq!(run.restart("same").unwrap(), 3);
    input.send(&2).unwrap();
    assert_eq!(output.recv(), Ok(2));
    drop(input);
    let report = end(run);
    assert_balanced(&report);
    assert_eq!(report.outcome, Outcome::Succeeded);
}
