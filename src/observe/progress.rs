//! How far a run has come, stage by stage.

use std::collections::VecDeque;
use std::time::Duration;

use super::table::{Cell, Column, Table};
use super::{Colour, Look, duration, short_count};
use crate::report::{EdgeSnapshot, Snapshot, StageReport, StageSnapshot};

/// A rate is taken over this long, so that it neither jumps nor lags.
const WINDOW: Duration = Duration::from_secs(2);

/// One stage's line.
#[derive(Debug, Clone, PartialEq)]
pub struct StageProgress {
    /// Its name.
    pub stage: String,
    /// As in [`crate::report::StageSnapshot::state`].
    pub state: String,
    /// Living workers.
    pub workers: usize,
    /// As wide as its pool may be.
    pub pool: usize,
    /// Records that its input ports took so far.
    pub records_in: u64,
    /// Records that left its output ports so far.
    pub records_out: u64,
    /// Records per second, in or out, whichever is more.
    pub rate: f64,
    /// Records that wait before it.
    pub queued: u64,
    /// Whether a queue before it is full, so that whoever feeds it waits.
    pub is_full: bool,
    /// Records whose attempts were used up.
    pub failed: u64,
    /// Processes started in the place of one that had ended.
    pub restarts: u64,
}

/// Turns one snapshot after the other into what is shown; it remembers some of them for the rates.
#[derive(Debug, Default)]
pub struct ProgressTable {
    recent: VecDeque<Snapshot>,
}

impl ProgressTable {
    /// Takes the newest snapshot and says what is to be shown, in the order of the document.
    pub fn update(&mut self, snapshot: Snapshot) -> Vec<StageProgress> {
        // The oldest one kept is the youngest that is at least a window old.
        while self.recent.get(1).is_some_and(|second| second.at + WINDOW <= snapshot.at) {
            self.recent.pop_front();
        }
        let stages = (0..snapshot.stages.len())
            .map(|position| stage_progress(&snapshot, self.recent.front(), position))
            .collect();
        self.recent.push_back(snapshot);
        stages
    }
}

/// The same form of a stage in another snapshot, mostly at the same place.
fn same<'a>(stages: &'a [StageSnapshot], place: usize, stage: &StageSnapshot) -> Option<&'a StageSnapshot> {
    let is_it = |other: &&StageSnapshot| (&other.stage, other.in_effect) == (&stage.stage, stage.in_effect);
    stages.get(place).filter(is_it).or_else(|| stages.iter().find(is_it))
}

fn stage_progress(now: &Snapshot, before: Option<&Snapshot>, position: usize) -> StageProgress {
    let stage = &now.stages[position];
    let (before_in, before_out, before_at) =
        match before.and_then(|old| Some((same(&old.stages, position, stage)?, old.at))) {
            Some((old, at)) => (old.records_in, old.records_out, at),
            None => (0, 0, Duration::ZERO),
        };
    let moved = stage.records_in.saturating_sub(before_in).max(stage.records_out.saturating_sub(before_out));
    let passed = now.at.saturating_sub(before_at).as_secs_f64();
    let queues = || now.edges.iter().filter(|edge| stage.in_effect && consumer(edge) == stage.stage);
    StageProgress {
        stage: stage.stage.clone(),
        state: stage.state.clone(),
        workers: stage.workers,
        pool: stage.pool,
        records_in: stage.records_in,
        records_out: stage.records_out,
        rate: if passed > 0.0 { moved as f64 / passed } else { 0.0 },
        queued: queues().map(|edge| edge.records).sum(),
        is_full: queues().any(|edge| edge.is_full),
        failed: stage.failed,
        restarts: stage.restarts,
    }
}

/// The stage that an edge leads to: names of stages hold neither arrows nor dots.
fn consumer(edge: &EdgeSnapshot) -> &str {
    let to = edge.edge.rsplit(" -> ").next().unwrap_or_default();
    to.split('.').next().unwrap_or(to)
}

impl StageProgress {
    /// A stage at the end of its run.
    pub fn of_report(report: &StageReport) -> Self {
        let moved = report.records_in.max(report.records_out) as f64;
        let seconds = report.wall.as_secs_f64();
        Self {
            stage: report.stage.clone(),
            state: report.state.clone(),
            workers: 0,
            pool: report.workers,
            records_in: report.records_in,
            records_out: report.records_out,
            rate: if seconds > 0.0 { moved / seconds } else { 0.0 },
            queued: 0,
            is_full: false,
            failed: report.failed,
            restarts: report.restarts,
        }
    }

    /// All stages in one line, for a log: `5.0 s: numbers out 10; square in 5, out 5, 3/s, queue 2, 4 workers`.
    pub fn line(at: Duration, stages: &[Self]) -> String {
        let stages: Vec<String> = stages.iter().map(Self::words).collect();
        format!("{}: {}", duration(at), stages.join("; "))
    }

    fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.records_in > 0 {
            parts.push(format!("in {}", short_count(self.records_in as f64)));
        }
        if self.records_out > 0 {
            parts.push(format!("out {}", short_count(self.records_out as f64)));
        }
        if self.rate > 0.0 {
            parts.push(format!("{}/s", short_count(self.rate)));
        }
        if self.queued > 0 {
            let full = if self.is_full { " (full)" } else { "" };
            parts.push(format!("queue {}{full}", short_count(self.queued as f64)));
        }
        if self.failed > 0 {
            parts.push(format!("failed {}", short_count(self.failed as f64)));
        }
        if self.restarts > 0 {
            parts.push(format!("restarts {}", self.restarts));
        }
        match self.state.as_str() {
            "running" if self.workers == 1 => parts.push("1 worker".to_owned()),
            "running" => parts.push(format!("{} workers", self.workers)),
            state => parts.push(state.replace('_', " ")),
        }
        format!("{} {}", self.stage, parts.join(", "))
    }

    /// The stages as a table with titles, for a terminal that shows it again and again.
    pub fn table(stages: &[Self], look: Look) -> Vec<String> {
        let mut table = Table::new([
            Column::text("stage").at_least(8),
            Column::text("state").at_least(8).expendable(3),
            Column::number("workers").expendable(2),
            Column::number("in").at_least(5),
            Column::number("out").at_least(5),
            Column::number("rate").at_least(7).expendable(1),
            Column::number("queue").at_least(5),
            Column::number("failed").expendable(4),
            Column::number("restarts").expendable(5),
        ]);
        for stage in stages {
            table.row(stage.cells());
        }
        table.lines(look)
    }

    pub(super) fn cells(&self) -> [Cell; 9] {
        let number = |number: u64| Cell::new(short_count(number as f64));
        let unless_zero = |count: u64, colour| match count {
            0 => number(0).colour(Colour::Dim),
            count => number(count).colour(colour),
        };
        let state = Cell::new(self.state.replace('_', " "));
        let queue = match self.is_full {
            true => number(self.queued).colour(Colour::Yellow),
            false => unless_zero(self.queued, Colour::Bold),
        };
        [
            Cell::new(self.stage.as_str()).colour(Look::name_colour(&self.stage)),
            match self.state.as_str() {
                "failed" => state.colour(Colour::Red),
                "finished" => state.colour(Colour::Green),
                "running" => state,
                _ => state.colour(Colour::Dim),
            },
            Cell::new(format!("{}/{}", self.workers, self.pool)),
            number(self.records_in),
            number(self.records_out),
            Cell::new(format!("{}/s", short_count(self.rate))),
            queue,
            unless_zero(self.failed, Colour::Red),
            unless_zero(self.restarts, Colour::Yellow),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at: u64, records: u64) -> Snapshot {
        let stage = |name: &str, records_in, workers| StageSnapshot {
            stage: name.to_owned(),
            mode: "map".to_owned(),
            state: "running".to_owned(),
            in_effect: true,
            reason: None,
            is_source: false,
            workers,
            pool: 4,
            records_in,
            records_out: records,
            failed: 0,
            restarts: 0,
            slots: Vec::new(),
        };
        let edge = |name: &str, records, is_full| EdgeSnapshot {
            edge: name.to_owned(),
            records,
            capacity: None,
            bytes: 10 * records,
            capacity_bytes: 8 << 20,
            is_full,
            records_in: records,
            dropped: 0,
        };
        Snapshot {
            at: Duration::from_millis(at),
            pipeline: "test".to_owned(),
            state: "running".to_owned(),
            stages: vec![stage("numbers", 0, 1), stage("square", records / 2, 4)],
            edges: vec![
                edge("numbers -> square", 12, false),
                edge("numbers.failed -> square.extra", 3, true),
                edge("square -> stdout", 9, false),
            ],
        }
    }

    #[test]
    fn a_rate_is_taken_over_the_last_two_seconds() {
        let mut table = ProgressTable::default();
        assert_eq!(table.update(snapshot(1000, 500))[0].rate, 500.0);
        for at in 2..10 {
            table.update(snapshot(at * 1000, at * 500));
        }
        assert_eq!(table.update(snapshot(10_000, 8_500))[0].rate, 2250.0);
        assert_eq!(table.recent.len(), 3);
    }

    #[test]
    fn the_queue_of_a_stage_is_all_that_waits_before_it() {
        let stages = ProgressTable::default().update(snapshot(1000, 500));
        assert_eq!((stages[0].queued, stages[1].queued), (0, 15));
        assert!(stages[1].is_full);
    }

    #[test]
    fn a_log_gets_one_line_and_a_terminal_a_table() {
        let stages = ProgressTable::default().update(snapshot(5000, 12_500));
        let shown = [
            vec![StageProgress::line(Duration::from_secs(5), &stages)],
            StageProgress::table(&stages, Look::PLAIN),
        ];
        insta::assert_snapshot!(shown.concat().join("\n"), @r"
        5.00 s: numbers out 12.5k, 2.50k/s, 1 worker; square in 6.25k, out 12.5k, 2.50k/s, queue 15 (full), 4 workers
        stage     state     workers     in    out     rate  queue  failed  restarts
        numbers   running       1/4      0  12.5k  2.50k/s      0       0         0
        square    running       4/4  6.25k  12.5k  2.50k/s     15       0         0
        ");
    }
}
