//! What came of a run, for a person to read.

use super::sanitize::{block, for_terminal};
use super::shared;
use super::table::{Cell, Column, Table};
use super::{Colour, Look, bytes, count, duration};
use crate::model::{Exit, Signal};
use crate::report::{EdgeReport, Failure, Outcome, Report, StageReport};

/// So many ways to end are told apart in the summary; the report has them all.
const SHOWN_EXITS: usize = 3;

/// The whole summary: the stages, the edges that lost something, the verdict. Ends with a line's end.
pub fn summary(report: &Report, look: Look) -> String {
    let mut lines = stages(&report.stages, look);
    let losses = losses(&report.edges, look);
    if !losses.is_empty() {
        lines.push(String::new());
        lines.extend(losses);
    }
    let shared = shared::lines(&report.shared, look);
    if !shared.is_empty() {
        lines.push(String::new());
        lines.extend(shared);
    }
    lines.push(String::new());
    lines.extend(verdict(report, look));
    lines.push(String::new());
    lines.join("\n")
}

/// Only what failed, or nothing where nothing did.
pub fn failures(report: &Report, look: Look) -> String {
    let mut lines: Vec<String> = match &report.outcome {
        Outcome::Failed { .. } => verdict(report, look),
        Outcome::Succeeded | Outcome::Stopped { .. } => Vec::new(),
    };
    lines.extend(unbalanced(&report.edges, look));
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.join("\n")
}

fn stages(stages: &[StageReport], look: Look) -> Vec<String> {
    // How each stage ended is worth a column only where they did not all end well.
    let show_state = stages.iter().any(|stage| stage.state != "finished" && !stage.daemon);
    let mut columns = vec![Column::text("stage")];
    if show_state {
        columns.push(Column::text("state"));
    }
    columns.extend([
        Column::number("workers").expendable(4),
        Column::number("in"),
        Column::number("out"),
        Column::number("failed").expendable(1),
        Column::number("restarts").expendable(2),
        Column::number("wall").expendable(5),
        Column::number("cpu").expendable(6),
        Column::number("peak mem").expendable(7),
        Column::text("exits").expendable(3),
    ]);
    let mut table = Table::new(columns);
    for stage in stages {
        table.row(stage_cells(stage, show_state, look));
    }
    table.lines(look)
}

fn stage_cells(stage: &StageReport, show_state: bool, look: Look) -> Vec<Cell> {
    let name = match stage.daemon {
        true => format!("{} (daemon)", stage.stage),
        false => stage.stage.clone(),
    };
    let mut cells = vec![Cell::new(name).colour(Look::name_colour(&stage.stage))];
    if show_state {
        let state = Cell::new(stage.state.replace('_', " "));
        cells.push(match stage.state.as_str() {
            "failed" => state.colour(Colour::Red),
            "finished" => state.colour(Colour::Green),
            _ => state.colour(Colour::Yellow),
        });
    }
    let unused = stage.started == 0;
    let measured = |text: String| if unused { Cell::new("-").colour(Colour::Dim) } else { Cell::new(text) };
    cells.extend([
        Cell::new(stage.workers.to_string()),
        Cell::new(count(stage.records_in)),
        Cell::new(count(stage.records_out)),
        loss(stage.failed, Colour::Red),
        loss(stage.restarts, Colour::Yellow),
        measured(duration(stage.wall)),
        measured(duration(stage.cpu)),
        measured(bytes(stage.peak_memory_bytes)),
        measured(exits(&stage.exits, look)),
    ]);
    cells
}

/// A number that is best 0.
fn loss(number: u64, colour: Colour) -> Cell {
    Cell::new(count(number)).colour(if number == 0 { Colour::Dim } else { colour })
}

/// `0 ×3, -9 (SIGKILL)`: the number as Python writes it, and how many ended so where it was more than one. The most
/// frequent come first, and of many only some.
fn exits(exits: &[(i32, u64)], look: Look) -> String {
    let mut exits = exits.to_vec();
    exits.sort_by_key(|&(exit, processes)| (std::cmp::Reverse(processes), exit));
    let times = if look.unicode { "×" } else { "x" };
    let mut parts: Vec<String> = exits
        .iter()
        .take(SHOWN_EXITS)
        .map(|&(exit, processes)| match processes {
            1 => describe(exit),
            many => format!("{} {times}{}", describe(exit), count(many)),
        })
        .collect();
    if exits.len() > SHOWN_EXITS {
        parts.push(format!("{} others", exits.len() - SHOWN_EXITS));
    }
    parts.join(", ")
}

fn describe(exit: i32) -> String {
    match exit {
        code @ 0.. => Exit::Code(code).to_string(),
        signal => Exit::Signal(Signal(-signal)).to_string(),
    }
}

/// The edges on which not all that went in was delivered, or it is not known whether it was.
fn losses(edges: &[EdgeReport], look: Look) -> Vec<String> {
    let lossy: Vec<&EdgeReport> =
        edges.iter().filter(|edge| edge.delivered != edge.records_in || edge.unconfirmed > 0).collect();
    if lossy.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new([
        Column::text("edge"),
        Column::number("in"),
        Column::number("delivered").expendable(2),
        Column::number("unconfirmed").expendable(1),
        Column::number("failed"),
        Column::number("dropped"),
        Column::text("discarded"),
    ]);
    for edge in lossy {
        table.row([
            Cell::new(edge.edge.as_str()),
            Cell::new(count(edge.records_in)),
            Cell::new(count(edge.delivered)),
            loss(edge.unconfirmed, Colour::Yellow),
            loss(edge.failed, Colour::Red),
            loss(edge.dropped, Colour::Yellow),
            discarded(edge),
        ]);
    }
    let mut lines = table.lines(look);
    lines.extend(unbalanced(edges, look));
    lines
}

fn discarded(edge: &EdgeReport) -> Cell {
    let parts: Vec<String> =
        edge.discarded.iter().map(|part| format!("{} ({})", count(part.records), part.reason)).collect();
    if parts.is_empty() { loss(0, Colour::Dim) } else { Cell::new(parts.join(", ")).colour(Colour::Yellow) }
}

/// A fault of the engine's own, and so never left out.
fn unbalanced(edges: &[EdgeReport], look: Look) -> Vec<String> {
    edges
        .iter()
        .filter(|edge| !edge.balances())
        .map(|edge| {
            let text =
                format!("the books of edge `{}` do not balance; this is a fault of mpflow itself", edge.edge);
            look.paint(Colour::Red, &text)
        })
        .collect()
}

fn verdict(report: &Report, look: Look) -> Vec<String> {
    let name = look.paint(Colour::Bold, &report.pipeline);
    let wall = duration(report.wall);
    match &report.outcome {
        Outcome::Succeeded => {
            vec![format!("{name}: {} in {wall}", look.paint(Colour::Green, "succeeded"))]
        }
        Outcome::Stopped { level } => {
            let how = match level.as_str() {
                "drain" => "what was in flight was drained",
                "terminate" => "its workers were sent their stop signal",
                "kill" => "its workers were killed",
                _ => "from outside",
            };
            vec![format!("{name}: {} after {wall}: {how}", look.paint(Colour::Yellow, "stopped"))]
        }
        Outcome::Failed { failures } => {
            let mut lines = vec![format!("{name}: {} after {wall}", look.paint(Colour::Red, "failed"))];
            for failure in failures {
                lines.extend(failure_lines(failure, look));
            }
            lines
        }
    }
}

/// `failed: stage `x`: why`, and the last that its worker said; or why where it was no stage.
fn failure_lines(failure: &Failure, look: Look) -> Vec<String> {
    let stage = failure.stage.as_ref().map(|stage| format!("stage `{stage}`: ")).unwrap_or_default();
    let mut lines = vec![format!("{} {stage}{}", look.paint(Colour::Red, "failed:"), block(&failure.reason))];
    let name = failure.worker.as_deref().or(failure.stage.as_deref()).unwrap_or_default();
    let prefix = look.paint(Look::name_colour(name), &format!("{name} |"));
    lines.extend(failure.stderr.iter().map(|line| format!("    {prefix} {}", for_terminal(line))));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Discarded;

    fn stage(name: &str, workers: usize, records_in: u64, records_out: u64) -> StageReport {
        StageReport {
            stage: name.to_owned(),
            mode: "stream".to_owned(),
            state: "finished".to_owned(),
            daemon: false,
            workers,
            records_in,
            records_out,
            failed: 0,
            retried: 0,
            restarts: 0,
            started: workers as u64,
            wall: Duration::from_millis(1234),
            cpu: Duration::from_micros(4100),
            peak_memory_bytes: 2 << 20,
            exits: vec![(0, workers as u64)],
        }
    }

    fn edge(name: &str, records_in: u64, delivered: u64) -> EdgeReport {
        EdgeReport {
            edge: name.to_owned(),
            records_in,
            delivered,
            failed: 0,
            dropped: 0,
            discarded: Vec::new(),
            unconfirmed: 0,
            bytes: 10 * records_in,
            peak_records: 100,
        }
    }

    fn succeeded() -> Report {
        Report {
            pipeline: "squares".to_owned(),
            run_id: "id".to_owned(),
            outcome: Outcome::Succeeded,
            wall: Duration::from_millis(1240),
            stages: vec![stage("numbers", 1, 0, 1_000_000), stage("square", 4, 1_000_000, 1_000_000)],
            shared: Vec::new(),
            edges: vec![edge("numbers -> square", 1_000_000, 1_000_000)],
        }
    }

    fn failed() -> Report {
        let mut report = succeeded();
        report.stages[1].state = "failed".to_owned();
        report.stages[1].failed = 2;
        report.stages[1].restarts = 3;
        report.stages[1].exits = vec![(-9, 1), (0, 3)];
        report.stages.push(StageReport {
            state: "not_started".to_owned(),
            daemon: true,
            started: 0,
            exits: Vec::new(),
            ..stage("store", 0, 0, 0)
        });
        let discarded = vec![Discarded { reason: "stage failed".to_owned(), records: 998 }];
        report.edges[0] =
            EdgeReport { failed: 2, dropped: 1, discarded, ..edge("numbers -> square", 1_000_000, 998_999) };
        report.outcome = Outcome::Failed {
            failures: vec![Failure {
                problem: None,
                stage: Some("square".to_owned()),
                worker: Some("square/2".to_owned()),
                exit: Some(-9),
                reason: "worker `square/2` exited with -9 (SIGKILL)".to_owned(),
                stderr: vec!["reading tasks".to_owned(), "out of \x1b[2Jmemory".to_owned()],
            }],
        };
        report
    }

    #[test]
    fn a_run_that_went_well_is_a_table_and_a_line() {
        insta::assert_snapshot!(summary(&succeeded(), Look::PLAIN), @r"
        stage    workers         in        out  failed  restarts    wall      cpu  peak mem  exits
        numbers        1          0  1,000,000       0         0  1.23 s  4.10 ms  2.00 MiB  0
        square         4  1,000,000  1,000,000       0         0  1.23 s  4.10 ms  2.00 MiB  0 ×4

        squares: succeeded in 1.24 s
        ");
        assert_eq!(failures(&succeeded(), Look::PLAIN), "");
    }

    #[test]
    fn a_failure_says_who_where_and_what_was_lost() {
        insta::assert_snapshot!(summary(&failed(), Look { width: 130, ..Look::PLAIN }), @r"
        stage           state        workers         in        out  failed  restarts    wall      cpu  peak mem  exits
        numbers         finished           1          0  1,000,000       0         0  1.23 s  4.10 ms  2.00 MiB  0
        square          failed             4  1,000,000  1,000,000       2         3  1.23 s  4.10 ms  2.00 MiB  0 ×3, -9 (SIGKILL)
        store (daemon)  not started        0          0          0       0         0       -        -         -  -

        edge                      in  delivered  unconfirmed  failed  dropped  discarded
        numbers -> square  1,000,000    998,999            0       2        1  998 (stage failed)

        squares: failed after 1.24 s
        failed: stage `square`: worker `square/2` exited with -9 (SIGKILL)
            square/2 | reading tasks
            square/2 | out of memory
        ");
        assert!(failures(&failed(), Look::PLAIN).starts_with("squares: failed after"));
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        insta::assert_snapshot!(summary(&failed(), Look { width: 60, unicode: false, ..Look::PLAIN }), @r"
        stage           state               in        out  failed
        numbers         finished             0  1,000,000       0
        square          failed       1,000,000  1,000,000       2
        store (daemon)  not started          0          0       0

        edge                 in  failed  dropped  discarded
        number~quare  1,000,000       2        1  998 (stage failed)

        squares: failed after 1.24 s
        failed: stage `square`: worker `square/2` exited with -9 (SIGKILL)
            square/2 | reading tasks
            square/2 | out of memory
        ");
    }

    #[test]
    fn books_that_do_not_balance_are_told_in_every_case() {
        let mut report = succeeded();
        report.edges[0].delivered -= 1;
        assert!(
            summary(&report, Look::PLAIN).contains("the books of edge `numbers -> square` do not balance")
        );
        assert!(failures(&report, Look::PLAIN).contains("do not balance"));
    }

    #[test]
    fn of_many_ways_to_end_the_most_frequent_are_shown() {
        let many = [(-9, 1), (-6, 1), (0, 99), (1, 3), (2, 3)];
        assert_eq!(exits(&many, Look::PLAIN), "0 ×99, 1 ×3, 2 ×3, 2 others");
    }

    #[test]
    fn a_run_that_was_stopped_says_how() {
        let report = Report { outcome: Outcome::Stopped { level: "drain".to_owned() }, ..succeeded() };
        assert!(
            summary(&report, Look::PLAIN)
                .ends_with("squares: stopped after 1.24 s: what was in flight was drained\n")
        );
    }
}
