//! A run that becomes another pipeline.

use std::collections::{BTreeMap, BTreeSet};

use mpflow::change::{SteerError, Step};
use mpflow::event::EventKind;
use mpflow::report::Outcome;

use crate::live::Live;
use crate::own_main::Test;
use crate::steer::{COUNTS, all_numbers};

pub(super) const TESTS: &[Test] =
    crate::tests![a_changed_stage_is_replaced_under_load_and_nothing_is_lost_or_doubled,];

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
