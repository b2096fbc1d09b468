//! A run that becomes another pipeline.

use std::collections::{BTreeMap, BTreeSet};

use mpflow::change::{SteerError, Step};
use mpflow::event::EventKind;
use mpflow::report::Outcome;

use crate::live::Live;
use crate::own_main::Test;
use crate::steer::{COUNTS, all_numbers};

pub(super) const TESTS: &[Test] = crate::tests![
    a_changed_stage_is_replaced_under_load_and_nothing_is_lost_or_doubled,
    a_stage_in_the_middle_is_removed_and_another_is_put_there_and_nothing_is_lost,
    an_edge_in_another_format_is_drained_to_its_old_consumer_first,
    what_waits_in_an_edge_that_is_removed_goes_to_its_consumer_or_is_counted_as_discarded,
    while_a_new_form_comes_up_or_waits_for_the_old_one_both_are_shown_with_what_they_wait_for,
    results_in_order_stay_in_order_across_a_reload,
    of_an_exclusive_stage_the_old_worker_ends_before_the_new_one_starts,
    a_new_worker_that_does_not_come_up_changes_nothing_and_its_error_is_told,
    an_exclusive_stage_comes_back_when_its_successor_does_not_come_up,
    what_falls_over_in_its_first_second_takes_the_reload_back,
    what_falls_over_in_each_first_second_of_its_restarts_takes_the_reload_back,
    two_stages_that_fall_over_take_the_reload_back_once,
    a_stage_whose_file_is_wrong_rests_and_its_records_wait_for_the_next_reload,
    a_stage_that_falls_in_its_old_form_too_rests,
    a_stage_that_has_fallen_comes_up_again_by_a_restart,
    a_run_that_is_to_end_does_not_wait_for_what_has_fallen,
    a_stage_that_falls_after_a_restart_fails,
    filters_that_fall_over_do_not_end_what_feeds_them,
    an_exclusive_filter_that_falls_over_does_not_end_what_it_feeds,
    what_closes_its_output_after_a_reload_and_lives_on_ends_what_it_feeds,
    a_pool_is_resized_by_a_reload_and_keeps_its_workers,
    a_reload_that_comes_during_another_takes_its_place_and_answers_both,
    a_replaced_source_runs_anew,
    a_python_stage_whose_file_has_changed_is_replaced_when_that_is_said,
    what_a_running_pipeline_cannot_take_over_is_refused,
    a_stage_that_has_finished_stays_finished,
    what_a_new_source_writes_before_the_old_one_has_left_is_passed_on_after_it,
    keys_stay_in_order_when_their_pool_is_replaced,
    a_pipe_and_both_its_ends_are_replaced_together,
    a_document_in_another_order_is_no_change_and_stages_stay_who_they_are,
    what_an_old_worker_has_not_read_is_the_new_ones,
    records_by_key_that_wait_or_are_given_back_are_done_by_a_pool_of_another_width,
];

fn counting(work: &str) -> String {
    format!(
        "stages:\n  count: {{command: '{COUNTS}'}}\n  work: {{{work}}}\n  store: {{command: cat, stdout: out.txt}}\n\
         edges:\n  - queue: count -> work -> store\n"
    )
}

fn reload(live: &Live, text: &str) -> Result<mpflow::change::Reloaded, SteerError> {
    live.run.reload(&live.pipeline(text), BTreeMap::new())
}

fn a_changed_stage_is_replaced_under_load_and_nothing_is_lost_or_doubled() {
    let works = [
        "command: [cat]",
        "command: [cat], pool: 3",
        "command: [sed, -u, p;d], mode: map, pool: 4",
        "command: [sed, -u, p;d], mode: map, pool: 4, ordered: true",
        "command: [cat], mode: each, batch: 500, pool: 2",
    ];
    for work in works {
        let live = Live::start(&counting(work));
        live.wait_until("they are told of", |live| live.pids().len() == 3);
        let mut kept = BTreeSet::new();
        for round in 0..5 {
            live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
            let text = counting(&format!("{work}, env: {{ROUND: '{round}'}}"));
            let reloaded = reload(&live, &text).unwrap_or_else(|error| panic!("{work}: {error}"));
            assert_eq!(reloaded.change.stages_to(Step::Replace).collect::<Vec<_>>(), ["work"]);
            kept.insert((live.pids()["count"].clone(), live.pids()["store"].clone()));
        }
        assert_eq!(kept.len(), 1, "the other stages keep their workers");
        live.write("enough", "");
        let (report, events, folder) = live.finish();
        assert_eq!(report.outcome, Outcome::Succeeded, "{work}: {report:#?}");
        all_numbers(&folder);
        let reloads = events.iter().filter(|event| matches!(event, EventKind::Reloaded { .. })).count();
        assert_eq!(reloads, 5);
        assert_eq!(report.stages.len(), 3, "one line for each stage, whatever its forms");
        assert!(report.stages.iter().all(|stage| stage.restarts == 0));
    }
}

fn a_stage_in_the_middle_is_removed_and_another_is_put_there_and_nothing_is_lost() {
    let text = |middle: &str, edges: &str| {
        format!(
            "stages:\n  count: {{command: '{COUNTS}'}}\n{middle}  store: {{command: cat, stdout: out.txt}}\nedges:\n{edges}"
        )
    };
    let direct = text("", "  - queue: count -> store\n");
    let through = |name: &str| {
        text(
            &format!("  {name}: {{command: cat, pool: 2}}\n"),
            &format!("  - queue: count -> {name} -> store\n"),
        )
    };
    let live = Live::start(&through("a"));
    for next in [direct.clone(), through("b"), through("c"), direct, through("a")] {
        live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
        let reloaded = reload(&live, &next).unwrap();
        assert_eq!(reloaded.change.stage("count").unwrap().step, Step::Rewire);
        assert_eq!(reloaded.change.stage("store").unwrap().step, Step::Rewire);
    }
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.wait_until("it is told of", |live| live.started("count") > 0);
    assert_eq!(live.started("count"), 1);
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
    let removed: Vec<_> =
        report.stages.iter().filter(|stage| stage.state == "removed").map(|stage| &stage.stage).collect();
    assert_eq!(removed, ["b", "c"]);
}

fn an_edge_in_another_format_is_drained_to_its_old_consumer_first() {
    // The consumer is slow, so that its queue holds records whenever it is replaced.
    let text = |format: &str, number: &str| {
        format!(
            "stages:\n  count: {{command: 'for i in $(seq 300); do printf \"{number}\"; done; sleep 60', stop: {{grace: 1s}}}}\n  \
             work: {{command: 'while IFS= read -r line; do echo \"$line\"; sleep 0.001; done', stop: {{grace: 20s}}}}\n  \
             store: {{command: cat, stdout: out.txt}}\nedges:\n  - {{queue: count -> work, format: {format}}}\n  - queue: work -> store\n"
        )
    };
    let live = Live::start(&text("lines", "old\\n"));
    live.wait_for_lines("out.txt", 10);
    let reloaded = reload(&live, &text("json", "7\\n")).unwrap();
    assert_eq!(reloaded.change.edge("count -> work").unwrap().step, Step::Replace);
    live.wait_for_lines("out.txt", 600);
    let lines = live.read("out.txt");
    assert_eq!(lines.lines().filter(|line| *line == "old").count(), 300);
    assert_eq!(lines.lines().filter(|line| *line == "7").count(), 300);
    live.run.stop(mpflow::Stop::Terminate);
    live.finish();
}

fn what_waits_in_an_edge_that_is_removed_goes_to_its_consumer_or_is_counted_as_discarded() {
    // The consumer takes one record and no more, so that all others wait when its edge is removed.
    let text = |hold: &str, edge: &str| {
        format!(
            "stages:\n  say: {{command: 'seq 100; exec sleep 60', stop: {{grace: 1s}}}}\n{hold}  \
             keep: {{command: 'cat > /dev/null'}}\n  store: {{command: cat, stdout: out.txt}}\n\
             edges:\n  - queue: say -> keep -> store\n{edge}"
        )
    };
    let with = |grace: &str| {
        let hold = format!(
            "  hold: {{command: 'read -r line; echo $line; while [ ! -e enough ]; do sleep 0.01; done; exec cat', \
             mode: map, prefetch: 1, stop: {{grace: {grace}}}}}\n"
        );
        text(&hold, "  - queue: say -> hold -> store\n")
    };
    let without = text("", "");
    let discarded = |live: Live| {
        live.run.stop(mpflow::Stop::Terminate);
        let (report, _, folder) = live.finish();
        let edge = report.edges.iter().find(|edge| edge.edge == "say -> hold").unwrap().clone();
        let lines =
            std::fs::read_to_string(folder.path().join("out.txt")).unwrap_or_default().lines().count();
        let removed = edge.discarded.iter().find(|part| part.reason == "edge removed");
        (edge.records_in, removed.map_or(0, |part| part.records), lines)
    };
    let live = Live::start(&with("30s"));
    live.wait_for_lines("out.txt", 1);
    reload(&live, &without).unwrap();
    let snapshot = live.run.snapshot().unwrap();
    let hold = snapshot
        .stages
        .iter()
        .find(|stage| stage.stage == "hold")
        .expect("as long as it has work it is shown");
    assert_eq!((hold.state.as_str(), hold.in_effect, hold.workers), ("leaving", false, 1));
    live.write("enough", "");
    live.wait_for_lines("out.txt", 100);
    assert_eq!(discarded(live), (100, 0, 100), "whoever has the time takes all");

    let live = Live::start(&with("100ms"));
    live.wait_for_lines("out.txt", 1);
    reload(&live, &without).unwrap();
    live.wait_until("what is discarded is told when it is", |live| {
        live.seen().iter().any(|event| {
            matches!(event, EventKind::Notice { message } if message.starts_with("99 records of `say -> hold` discarded"))
        })
    });
    assert_eq!(discarded(live), (100, 99, 1), "what is not taken in time is counted, with the reason");
}

fn while_a_new_form_comes_up_or_waits_for_the_old_one_both_are_shown_with_what_they_wait_for() {
    let never = "command: [cat], ready: {command: [sh, -c, 'echo no; exit 7'], interval: 10ms}";
    let slow = "command: 'cat; while [ ! -e over ]; do sleep 0.01; done'";
    let live = Live::start(&counting(slow));
    live.wait_for_lines("out.txt", 500);
    let forms = |live: &Live| -> Vec<_> {
        let stages = live.run.snapshot().unwrap().stages.into_iter();
        stages.filter(|stage| stage.stage == "work").collect()
    };
    std::thread::scope(|scope| {
        let first = live.pipeline(&counting(never));
        let run = &live.run;
        scope.spawn(move || run.reload(&first, BTreeMap::new()));
        live.wait_until("why it is not ready", |live| {
            let forms = forms(live);
            let [now, next] = &forms[..] else { return false };
            let doing = next.slots[0].reason.clone().unwrap_or_default();
            assert!(now.in_effect && !next.in_effect, "{forms:#?}");
            next.state == "preparing" && doing.starts_with("is not ready (") && doing.contains('7')
        });
        reload(&live, &counting("command: [cat]")).unwrap();
    });
    live.wait_until("what it waits for", |live| {
        let forms = forms(live);
        let [now, before] = &forms[..] else { return false };
        let doing = now.slots[0].reason.clone().unwrap_or_default();
        before.state == "leaving" && doing.contains("form before, which have not finished")
    });
    live.write("over", "");
    live.wait_until("one is left", |live| forms(live).len() == 1);
    live.write("enough", "");
    let (report, _, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded);
    let work = &report.stages[1];
    assert!(work.wall <= report.wall, "two forms at a time are not twice the time: {report:#?}");
}

fn results_in_order_stay_in_order_across_a_reload() {
    for work in [
        "command: [sed, -u, p;d], mode: map, pool: 4, ordered: true",
        "command: [cat], mode: each, pool: 3, batch: 50, ordered: true",
        "command: [cat]",
    ] {
        let live = Live::start(&counting(work));
        for round in 0..4 {
            live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 300);
            reload(&live, &counting(&format!("{work}, env: {{ROUND: '{round}'}}"))).unwrap();
        }
        live.write("enough", "");
        let (_, _, folder) = live.finish();
        let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        let wrong = text.lines().enumerate().find(|(at, line)| **line != (at + 1).to_string());
        assert_eq!(wrong, None, "{work}");
    }
}

/// By worker of this stage: when it started, and when it ended.
fn lives(events: &[EventKind], stage: &str) -> Vec<(&'static str, i32)> {
    events
        .iter()
        .filter_map(|event| match event {
            EventKind::WorkerStarted { worker, pid } if worker.stage == stage => Some(("start", *pid)),
            EventKind::WorkerEnded { worker, pid, .. } if worker.stage == stage => Some(("end", *pid)),
            _ => None,
        })
        .collect()
}

fn of_an_exclusive_stage_the_old_worker_ends_before_the_new_one_starts() {
    let live = Live::start(&counting("command: [cat], exclusive: true"));
    live.wait_for_lines("out.txt", 500);
    reload(&live, &counting("command: [cat, -u], exclusive: true")).unwrap();
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.write("enough", "");
    let (report, events, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded);
    all_numbers(&folder);
    let words: Vec<&str> = lives(&events, "work").iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["start", "end", "start", "end"]);
    // Any other stage has its new worker first.
    let live = Live::start(&counting("command: [cat]"));
    live.wait_for_lines("out.txt", 500);
    reload(&live, &counting("command: [cat, -u]")).unwrap();
    live.write("enough", "");
    let (_, events, _) = live.finish();
    let words: Vec<&str> = lives(&events, "work").iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["start", "start", "end", "end"]);
}

fn a_new_worker_that_does_not_come_up_changes_nothing_and_its_error_is_told() {
    let live = Live::start_with(
        &counting("command: [cat], pool: 2"),
        &[("tasks.py", "def work(record): return record\n")],
    );
    live.wait_for_lines("out.txt", 500);
    // Events come a moment after what they tell of.
    live.wait_until("both are told of", |live| live.living("work").len() == 2);
    let before = live.living("work");
    for (wrong, reason) in [
        ("command: [./there-is-none]", "there-is-none"),
        ("python: 'tasks:wrok'", "wrok"),
        (
            "command: [cat], ready: {log: never}, timeout: 5s, restart: never, cwd: /nowhere",
            "working directory",
        ),
    ] {
        let error = reload(&live, &counting(wrong)).unwrap_err();
        let SteerError::NotUp(failure) = &error else { panic!("{error}") };
        assert_eq!(failure.stage.as_deref(), Some("work"));
        assert!(failure.reason.contains(reason), "{error}");
    }
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.wait_until("those before are left", |live| live.living("work") == before);
    // And it is no obstacle to the next.
    reload(&live, &counting("command: [cat, -u], pool: 2")).unwrap();
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
}

fn an_exclusive_stage_comes_back_when_its_successor_does_not_come_up() {
    let live = Live::start(&counting("command: [cat], exclusive: true"));
    live.wait_for_lines("out.txt", 500);
    let error = reload(&live, &counting("command: [./there-is-none], exclusive: true")).unwrap_err();
    assert!(matches!(error, SteerError::NotUp(_)), "{error}");
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
}

fn what_falls_over_in_its_first_second_takes_the_reload_back() {
    // Leased, so that nothing can be lost by it; nor does one record fail that meets all workers that do.
    let good = "command: [sed, -u, p;d], mode: map, pool: 2, retry: 9, restart: {policy: on-failure, max: 1}";
    let bad = "command: 'read -r line; exit 3', mode: map, pool: 2, retry: 9, restart: {policy: on-failure, max: 1}";
    let live = Live::start(&counting(good));
    live.wait_for_lines("out.txt", 500);
    reload(&live, &counting(bad)).unwrap();
    live.wait_until("it is taken back", |live| {
        live.seen().iter().any(|event| matches!(event, EventKind::ReloadFailed { was_in_effect: true, .. }))
    });
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
}

fn is_taken_back(event: &EventKind) -> bool {
    matches!(event, EventKind::ReloadFailed { was_in_effect: true, .. })
}

fn has_fallen(event: &EventKind) -> bool {
    matches!(event, EventKind::StageFell { .. })
}

fn what_falls_over_in_each_first_second_of_its_restarts_takes_the_reload_back() {
    // All in all its restarts take longer than a second.
    let bad = "command: 'sleep 0.2; exit 3', restart: {policy: on-failure, max: 3, backoff: {initial: 500ms, factor: 1, jitter: 0}}";
    let live = Live::start(&counting("command: [cat], pool: 2"));
    live.wait_for_lines("out.txt", 500);
    reload(&live, &counting(bad)).unwrap();
    live.wait_until("it is taken back", |live| live.seen().iter().any(is_taken_back));
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.write("enough", "");
    let (report, events, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert_eq!(events.iter().filter(|event| is_taken_back(event)).count(), 1);
    let restarts = events.iter().filter(|event| matches!(event, EventKind::WorkerRestarting { .. })).count();
    assert_eq!(restarts, 3, "as often as its policy allows");
}

fn two_stages_that_fall_over_take_the_reload_back_once() {
    let text = |work: &str| {
        format!(
            "stages:\n  count: {{command: '{COUNTS}'}}\n  one: {{{work}}}\n  two: {{{work}}}\n  store: {{command: cat, stdout: out.txt}}\n\
             edges:\n  - queue: count -> one -> store\n  - queue: count -> two -> store\n"
        )
    };
    let live = Live::start(&text("command: [cat], pool: 2"));
    live.wait_for_lines("out.txt", 500);
    reload(&live, &text("command: 'sleep 0.2; exit 3', pool: 2")).unwrap();
    live.wait_until("it is taken back", |live| live.seen().iter().any(is_taken_back));
    let stage = |live: &Live, name: &str| {
        let stages = live.run.snapshot().unwrap().stages;
        stages.into_iter().find(|stage| stage.stage == name).unwrap()
    };
    live.wait_until("both are back", |live| {
        ["one", "two"].iter().all(|name| stage(live, name).state == "running" && live.living(name).len() == 2)
    });
    live.write("enough", "");
    let (report, events, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert_eq!(events.iter().filter(|event| is_taken_back(event)).count(), 1);
}

const SCRIPT: &str = "command: [sh, work.sh], mode: map, pool: 2";

/// A stage that runs a script, and has fallen since a wrong one was saved.
fn fallen() -> Live {
    let live = Live::start_with(&counting(SCRIPT), &[("work.sh", "exec sed -u 'p;d'\n")]);
    live.wait_for_lines("out.txt", 500);
    live.write("work.sh", "read -r line; exit 3\n");
    touch(&live);
    live.wait_until("it falls", |live| live.seen().iter().any(has_fallen));
    live
}

fn touch(live: &Live) {
    let touched = BTreeMap::from([("work".to_owned(), "work.sh has changed".to_owned())]);
    live.run.reload(&live.pipeline(&counting(SCRIPT)), touched).unwrap();
}

fn a_stage_whose_file_is_wrong_rests_and_its_records_wait_for_the_next_reload() {
    let live = fallen();
    let work = live.run.snapshot().unwrap().stages.remove(1);
    assert_eq!(work.state, "fallen");
    assert!(work.reason.as_ref().unwrap().contains("its records wait for the next reload"), "{work:#?}");
    let source = live.pids()["count"].clone();
    live.write("work.sh", "exec sed -u 'p;d'\n");
    let before = live.read("out.txt").lines().count();
    touch(&live);
    live.wait_for_lines("out.txt", before + 500);
    assert_eq!(live.pids()["count"], source, "nobody else was touched");
    live.write("enough", "");
    let (report, events, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert!(!events.iter().any(is_taken_back), "there is nothing to go back to");
    let out = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
    let out: BTreeSet<u64> = out.lines().map(|line| line.parse().unwrap()).collect();
    let failed = report.stages[1].failed;
    assert!(failed <= 2, "the records that it fell by, and no others: {failed}");
    assert_eq!(out.len() as u64 + failed, report.stages[0].records_out);
}

fn a_stage_that_falls_in_its_old_form_too_rests() {
    let live = Live::start_with(&counting(SCRIPT), &[("work.sh", "exec sed -u 'p;d'\n")]);
    live.wait_for_lines("out.txt", 500);
    // Its text and its file are saved together, and only the text can be taken back.
    live.write("work.sh", "read -r line; exit 3\n");
    reload(&live, &counting(&format!("{SCRIPT}, env: {{A: b}}"))).unwrap();
    live.wait_until("it falls", |live| live.seen().iter().any(has_fallen));
    live.write("work.sh", "exec sed -u 'p;d'\n");
    let before = live.read("out.txt").lines().count();
    touch(&live);
    live.wait_for_lines("out.txt", before + 500);
    live.write("enough", "");
    let (report, events, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert_eq!(events.iter().filter(|event| is_taken_back(event)).count(), 1);
}

fn a_stage_that_has_fallen_comes_up_again_by_a_restart() {
    let live = fallen();
    live.write("work.sh", "exec sed -u 'p;d'\n");
    let before = live.read("out.txt").lines().count();
    assert_eq!(live.run.restart("work").unwrap(), 2);
    live.wait_for_lines("out.txt", before + 500);
    live.write("enough", "");
    assert_eq!(live.finish().0.outcome, Outcome::Succeeded);
}

fn a_run_that_is_to_end_does_not_wait_for_what_has_fallen() {
    let live = fallen();
    live.run.stop(mpflow::Stop::Drain);
    let (report, _, _) = live.finish();
    let Outcome::Failed { failures } = &report.outcome else { panic!("{report:#?}") };
    assert_eq!(failures[0].stage.as_deref(), Some("work"));
    assert!(failures[0].reason.contains("exited with 3"), "{failures:#?}");
}

fn a_stage_that_falls_after_a_restart_fails() {
    // Nobody has changed anything, and nobody will.
    let one = "command: [sh, work.sh]";
    let live = Live::start_with(&counting(one), &[("work.sh", "exec cat\n")]);
    live.wait_for_lines("out.txt", 500);
    live.write("work.sh", "sleep 0.2; exit 3\n");
    live.run.restart("work").unwrap();
    let (report, _, _) = live.finish();
    assert!(matches!(report.outcome, Outcome::Failed { .. }), "{report:#?}");
}

fn a_pool_is_resized_by_a_reload_and_keeps_its_workers() {
    let live = Live::start(&counting("command: [cat], pool: 2"));
    live.wait_for_lines("out.txt", 500);
    live.wait_until("both are told of", |live| live.living("work").len() == 2);
    let before = live.living("work");
    let reloaded = reload(&live, &counting("command: [cat], pool: 4")).unwrap();
    assert_eq!(reloaded.change.stage("work").unwrap().step, Step::Resize);
    live.wait_until("there are four", |live| live.living("work").len() == 4);
    assert!(before.is_subset(&live.living("work")));
    reload(&live, &counting("command: [cat], pool: 1")).unwrap();
    live.wait_until("one is left", |live| live.living("work").len() == 1);
    assert!(live.living("work").is_subset(&before));
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded);
    all_numbers(&folder);
}

fn a_reload_that_comes_during_another_takes_its_place_and_answers_both() {
    let slow = "command: [cat], ready: {log: never}";
    let live = Live::start(&counting("command: [cat]"));
    live.wait_for_lines("out.txt", 100);
    let (first, last) = (live.pipeline(&counting(slow)), live.pipeline(&counting("command: [cat, -u]")));
    let run = &live.run;
    std::thread::scope(|scope| {
        let never = scope.spawn(move || run.reload(&first, BTreeMap::new()));
        live.wait_until("it comes up", |live| live.started("work") == 2);
        run.reload(&last, BTreeMap::new()).unwrap();
        assert!(never.join().unwrap().is_ok(), "whoever asked for the first gets the answer of the last");
    });
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded);
    all_numbers(&folder);
}

fn a_replaced_source_runs_anew() {
    let text = |word: &str| {
        format!(
            "stages:\n  say: {{command: 'echo {word}; exec sleep 60'}}\n  store: {{command: cat, stdout: out.txt}}\n\
             edges:\n  - queue: say -> store\n"
        )
    };
    let live = Live::start(&text("one"));
    live.wait_for_lines("out.txt", 1);
    reload(&live, &text("two")).unwrap();
    live.wait_for_lines("out.txt", 2);
    assert_eq!(live.read("out.txt"), "one\ntwo\n");
    live.wait_until("the old one is gone", |live| live.living("say").len() == 1);
    live.run.stop(mpflow::Stop::Terminate);
    live.finish();
}

fn a_python_stage_whose_file_has_changed_is_replaced_when_that_is_said() {
    for start_method in ["spawn", "forkserver", "fork"] {
        let text = counting(&format!("python: 'tasks:work', pool: 2, start_method: {start_method}"));
        let live = Live::start_with(&text, &[("tasks.py", "def work(record): return record\n")]);
        live.wait_for_lines("out.txt", 100);
        live.write("tasks.py", "def work(record): return 'new ' + record\n");
        assert!(reload(&live, &text).unwrap().change.is_nothing());
        let touched = BTreeMap::from([("work".to_owned(), "tasks.py has changed".to_owned())]);
        live.run.reload(&live.pipeline(&text), touched).unwrap();
        live.wait_until("the new code works", |live| live.read("out.txt").contains("new "));
        live.write("enough", "");
        let (report, _, folder) = live.finish();
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
        let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        let mut numbers: Vec<u64> =
            text.lines().map(|line| line.trim_start_matches("new ").parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{start_method}");
    }
}

fn what_a_running_pipeline_cannot_take_over_is_refused() {
    let live = Live::start(&counting("command: [cat]"));
    let text = format!("{}shared: {{go: {{event: false}}}}\n", counting("command: [cat]"));
    let error = reload(&live, &text).unwrap_err();
    assert_eq!(error, SteerError::NewRun(vec!["`shared`".to_owned()]));
    live.write("enough", "");
    live.finish();
}

fn a_stage_that_has_finished_stays_finished() {
    let text = |word: &str, slow: &str| {
        format!(
            "stages:\n  say: {{command: 'echo {word}'}}\n  work: {{command: '{slow}'}}\n  store: {{command: cat, stdout: out.txt}}\n\
             edges:\n  - queue: say -> store\n  - queue: work -> store\n"
        )
    };
    let live = Live::start(&text("one", "exec sleep 60"));
    live.wait_until("it has finished", |live| {
        live.seen().iter().any(|event| matches!(event, EventKind::StageFinished { stage } if stage == "say"))
    });
    reload(&live, &text("two", "echo three")).unwrap();
    let (report, events, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let mut lines: Vec<String> =
        std::fs::read_to_string(folder.path().join("out.txt")).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "three"], "{report:#?} {events:#?}");
}

fn what_a_new_source_writes_before_the_old_one_has_left_is_passed_on_after_it() {
    let text = |work: &str| {
        format!(
            "stages:\n  work: {{command: '{work}'}}\n  store: {{command: cat, stdout: out.txt}}\nedges:\n  - queue: work -> store\n"
        )
    };
    let old = r#"trap "until [ -e go ]; do sleep 0.01; done; echo last; exit 0" TERM; echo first; while :; do sleep 0.01; done"#;
    let news =
        ["echo new", "echo new; exec >&-; : > closed; until [ -e go ]; do sleep 0.01; done; sleep 0.1"];
    for new in news {
        let live = Live::start(&text(old));
        live.wait_for_lines("out.txt", 1);
        reload(&live, &text(new)).unwrap();
        live.wait_until("it has written", |live| {
            let ended = |event: &EventKind| matches!(event, EventKind::WorkerEnded { .. });
            live.path("closed").exists() || live.seen().iter().any(ended)
        });
        live.write("go", "");
        let (report, _, folder) = live.finish();
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
        let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["first", "last", "new"], "{new}");
    }
}

fn keys_stay_in_order_when_their_pool_is_replaced() {
    let count =
        "i=0; while [ ! -e enough ]; do for _ in $(seq 100); do i=$((i+1)); echo k$((i%7)) $i; done; done";
    let text = |width: u32, word: &str| {
        format!(
            "stages:\n  count: {{command: '{count}'}}\n  work: {{command: [sed, -u, p;d], mode: map, pool: {width}, env: {{W: {word}}}}}\n  \
             store: {{command: cat, stdout: out.txt}}\nedges:\n  - {{queue: count -> work, partition_by: 1}}\n  - queue: work -> store\n"
        )
    };
    let live = Live::start(&text(3, "a"));
    for (width, word) in [(3, "b"), (2, "b"), (4, "c"), (4, "d")] {
        live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 300);
        reload(&live, &text(width, word)).unwrap();
    }
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 300);
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let text = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let (key, number) = line.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        assert!(last.insert(key, number).is_none_or(|before| before < number), "{key}: {number}");
        assert!(all.insert(number));
    }
    assert!(all.iter().copied().eq(1..=all.len() as u64), "{} of {:?}", all.len(), all.last());
}

fn a_pipe_and_both_its_ends_are_replaced_together() {
    let text = |word: &str| {
        format!(
            "stages:\n  say: {{command: 'while [ ! -e enough ]; do echo {word}; sleep 0.01; done'}}\n  hear: {{command: cat}}\n  \
             store: {{command: cat, stdout: out.txt}}\nedges:\n  - pipe: say -> hear\n  - queue: hear -> store\n"
        )
    };
    let live = Live::start(&text("one"));
    live.wait_for_lines("out.txt", 2);
    let reloaded = reload(&live, &text("two")).unwrap();
    assert_eq!(reloaded.change.stages_to(Step::Replace).collect::<Vec<_>>(), ["say", "hear"]);
    live.wait_until("the new ones speak", |live| live.read("out.txt").contains("two"));
    live.write("enough", "");
    let (report, _, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
}

fn filters_that_fall_over_do_not_end_what_feeds_them() {
    let live = Live::start(&counting("command: [cat], pool: 2"));
    live.wait_for_lines("out.txt", 500);
    // They close their input without having read of it, and end when they have been in effect for a moment, or before.
    let _ = reload(&live, &counting("command: 'exec 0<&-; sleep 0.2; exit 127', pool: 2"));
    live.wait_until("it is taken back", |live| {
        live.seen().iter().any(|event| matches!(event, EventKind::ReloadFailed { .. }))
    });
    live.wait_for_lines("out.txt", live.read("out.txt").lines().count() + 500);
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
}

fn an_exclusive_filter_that_falls_over_does_not_end_what_it_feeds() {
    // There is nobody else whose output is open then.
    let live = Live::start(&counting("command: [cat], exclusive: true"));
    live.wait_for_lines("out.txt", 500);
    live.wait_until("they are told of", |live| live.pids().len() == 3);
    let store = live.pids()["store"].clone();
    for command in ["exit 9", "exec 1>&-; sleep 0.2; exit 9"] {
        reload(&live, &counting(&format!("command: '{command}', exclusive: true"))).unwrap();
        let before = live.read("out.txt").lines().count();
        live.wait_for_lines("out.txt", before + 500);
    }
    assert_eq!(live.pids()["store"], store, "its consumer has kept its worker");
    live.write("enough", "");
    let (report, events, _) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert_eq!(events.iter().filter(|event| is_taken_back(event)).count(), 2);
}

fn what_closes_its_output_after_a_reload_and_lives_on_ends_what_it_feeds() {
    let live = Live::start(&counting("command: [cat]"));
    live.wait_for_lines("out.txt", 500);
    let command = "echo last; exec 1>&-; while [ ! -e over ]; do sleep 0.01; done";
    reload(&live, &counting(&format!("command: '{command}'"))).unwrap();
    live.wait_until("the store has had all", |live| {
        live.seen()
            .iter()
            .any(|event| matches!(event, EventKind::StageFinished { stage } if stage == "store"))
    });
    assert!(live.read("out.txt").ends_with("last\n"));
    live.write("over", "");
    live.write("enough", "");
    assert_eq!(live.finish().0.outcome, Outcome::Succeeded);
}

fn a_document_in_another_order_is_no_change_and_stages_stay_who_they_are() {
    let live = Live::start(&counting("command: [cat]"));
    live.wait_for_lines("out.txt", 500);
    live.wait_until("they are told of", |live| live.pids().len() == 3);
    let before = live.pids();
    let reordered = |work: &str| {
        format!(
            "stages:\n  store: {{command: cat, stdout: out.txt}}\n  work: {{{work}}}\n  count: {{command: '{COUNTS}'}}\n\
             edges:\n  - queue: work -> store\n  - queue: count -> work\n"
        )
    };
    assert!(reload(&live, &reordered("command: [cat]")).unwrap().change.is_nothing());
    let reloaded = reload(&live, &reordered("command: [cat, -u]")).unwrap();
    assert_eq!(reloaded.change.stages_to(Step::Replace).collect::<Vec<_>>(), ["work"]);
    live.wait_until("it has been replaced", |live| live.started("work") == 2);
    for stage in ["count", "store"] {
        assert_eq!(live.pids()[stage], before[stage], "`{stage}` keeps its worker");
    }
    live.write("enough", "");
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    all_numbers(&folder);
}

fn what_an_old_worker_has_not_read_is_the_new_ones() {
    let text = |work: &str| {
        format!(
            "stages:\n  count: {{command: seq 3000}}\n  work: {{command: {work}, stop: {{grace: 200ms}}}}\n  \
             store: {{command: cat, stdout: out.txt}}\nedges:\n  - queue: count -> work -> store\n"
        )
    };
    let live = Live::start(&text("[sleep, 60]"));
    live.wait_until("it is told of", |live| live.started("work") == 1);
    reload(&live, &text("[cat]")).unwrap();
    let (report, _, folder) = live.finish();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let work = report.stages.iter().find(|stage| stage.stage == "work").unwrap();
    assert_eq!((work.records_in, work.records_out), (3000, 3000));
    all_numbers(&folder);
}

fn records_by_key_that_wait_or_are_given_back_are_done_by_a_pool_of_another_width() {
    for mode in ["mode: map, prefetch: 20", "mode: stream"] {
        let text = |pool: u32, command: &str| {
            format!(
                "stages:\n  count: {{command: seq 300}}\n  \
                 work: {{command: {command}, {mode}, pool: {pool}, stop: {{grace: 200ms}}}}\n  \
                 store: {{command: cat, stdout: out.txt}}\nedges:\n  - {{queue: count -> work, partition_by: 1}}\n  \
                 - queue: work -> store\n"
            )
        };
        let live = Live::start(&text(3, "[sleep, 60]"));
        live.wait_until("all that was made is in the queue, or with a worker", |live| {
            live.run.snapshot().unwrap().edges.iter().any(|edge| edge.records_in == 300)
        });
        if mode.contains("map") {
            let held = |live: &Live| {
                let snapshot = live.run.snapshot().unwrap();
                let work = snapshot.stages.into_iter().find(|stage| stage.stage == "work").unwrap();
                work.slots.iter().map(|slot| slot.held).sum::<u64>()
            };
            live.wait_until("each holds all that it may", |live| held(live) == 60);
        }
        reload(&live, &text(2, "[sed, -u, p;d]")).unwrap();
        let (report, _, folder) = live.finish();
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
        let edge = report.edges.iter().find(|edge| edge.edge == "count -> work").unwrap();
        assert_eq!((edge.records_in, edge.delivered, edge.discarded.len()), (300, 300, 0), "{edge:#?}");
        let lines = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        assert_eq!(lines.lines().count(), 300, "{mode}");
        all_numbers(&folder);
    }
}
