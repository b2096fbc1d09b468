//! Runs as whoever looks at them from outside sees them: a list of them, and one in full.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::sanitize::one_line;
use super::table::{Cell, Column, Table};
use super::{Colour, Look, ProgressTable, StageProgress, bytes, duration, short_count};
use crate::report::{EdgeSnapshot, LogLine, RunInfo, SlotSnapshot, Status};

/// An id is shown in so many characters at least.
const SHORTEST_ID: usize = 8;

/// The shortest beginning of each id that is no other's, at least eight characters.
pub fn short_ids(runs: &[RunInfo]) -> Vec<String> {
    let common = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let shortest = |info: &RunInfo| {
        let others = runs.iter().filter(|other| other.id != info.id);
        let needed = others.map(|other| common(&info.id, &other.id) + 1).max().unwrap_or(0);
        info.id.chars().take(needed.max(SHORTEST_ID)).collect()
    };
    runs.iter().map(shortest).collect()
}

/// Runs as a table with titles.
pub fn runs(runs: &[RunInfo], look: Look) -> Vec<String> {
    let mut table = Table::new([
        Column::text("run"),
        Column::text("pipeline"),
        Column::text("state"),
        Column::number("stages").expendable(3),
        Column::number("workers").expendable(2),
        Column::number("up"),
        Column::number("pid").expendable(1),
        Column::text("file").expendable(4),
    ]);
    for (info, id) in runs.iter().zip(short_ids(runs)) {
        let file = info.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        table.row([
            Cell::new(id),
            Cell::new(one_line(&info.pipeline)).colour(Colour::Bold),
            state(&info.state),
            Cell::new(info.stage_count.to_string()),
            Cell::new(info.worker_count.to_string()),
            Cell::new(duration(whole(info.up))),
            Cell::new(info.pid.to_string()),
            Cell::new(one_line(&file)).colour(Colour::Dim),
        ]);
    }
    table.lines(look)
}

/// A line of a worker's standard error, after its name.
pub fn log_line(line: &LogLine, look: Look) -> String {
    if !look.is_terminal {
        return format!("{} | {}", line.worker, line.line);
    }
    let prefix = look.paint(Look::name_colour(&line.worker), &format!("{} |", line.worker));
    format!("{prefix} {}", super::sanitize::for_terminal(&line.line))
}

/// Turns one status after the other into what is shown; it remembers some for the rates.
#[derive(Debug, Default)]
pub struct StatusTable {
    progress: ProgressTable,
    before: Option<Status>,
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    status: Status,
    stages: Vec<StageProgress>,
    /// Processors that each process has used since the last look, by its number.
    cpus: HashMap<i32, f64>,
}

impl StatusTable {
    /// Takes the newest look.
    pub fn update(&mut self, status: Status) {
        let stages = self.progress.update(status.snapshot.clone());
        let cpus =
            slots(&status).filter_map(|(_, slot)| Some((slot.pid?, self.cpus_of(&status, slot)?))).collect();
        self.before = Some(status.clone());
        self.shown = Some(Shown { status, stages, cpus });
    }

    /// Processors that a worker has used since the last look, or since the start of the run where there was none.
    fn cpus_of(&self, now: &Status, slot: &SlotSnapshot) -> Option<f64> {
        let used = slot.usage?.cpu;
        let before = self.before.as_ref().and_then(|before| {
            let old = slots(before).find(|(_, old)| old.pid == slot.pid)?.1.usage?.cpu;
            Some((old, before.snapshot.at))
        });
        let (old, at) = before.unwrap_or_default();
        let passed = now.snapshot.at.saturating_sub(at).as_secs_f64();
        Some(if passed > 0.0 { used.saturating_sub(old).as_secs_f64() / passed } else { 0.0 })
    }

    /// The last look as JSON: as the run gave it, with the rates that only two looks show.
    pub fn json(&self) -> Value {
        let Some(shown) = &self.shown else { return Value::Null };
        let mut value = serde_json::to_value(&shown.status).unwrap_or(Value::Null);
        for (stage, progress) in list(&mut value["stages"]).zip(&shown.stages) {
            stage["rate"] = json!((progress.rate * 10.0).round() / 10.0);
            stage["queued"] = json!(progress.queued);
            for slot in list(&mut stage["slots"]) {
                let pid = slot["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                if let Some(cpus) = pid.and_then(|pid| shown.cpus.get(&pid)) {
                    slot["usage"]["cpus"] = json!((cpus * 1000.0).round() / 1000.0);
                }
            }
        }
        value
    }

    /// The last look for people: the run, its stages, its workers and its queues, line by line.
    pub fn lines(&self, look: Look) -> Vec<String> {
        let Some(shown) = &self.shown else { return Vec::new() };
        let mut lines = vec![shown.title(look), String::new()];
        lines.extend(shown.stage_table(look));
        lines.extend(shown.reasons(look));
        lines.push(String::new());
        lines.extend(shown.worker_table(look));
        if !shown.status.snapshot.edges.is_empty() {
            lines.push(String::new());
            lines.extend(edge_table(&shown.status.snapshot.edges, look));
        }
        lines
    }
}

impl Shown {
    fn title(&self, look: Look) -> String {
        let info = &self.status.run;
        let id: String = info.id.chars().take(SHORTEST_ID).collect();
        let file = info.file.as_ref().map(|file| format!(", {}", file.display())).unwrap_or_default();
        format!(
            "{} {}, {}, run {id}, pid {}{}",
            look.paint(Colour::Bold, &one_line(&info.pipeline)),
            info.state.replace('_', " "),
            duration(whole(info.up)),
            info.pid,
            one_line(&file),
        )
    }

    fn stage_table(&self, look: Look) -> Vec<String> {
        let mut table = Table::new([
            Column::text("stage").at_least(8),
            Column::text("state").at_least(8),
            Column::number("workers"),
            Column::number("in").at_least(5),
            Column::number("out").at_least(5),
            Column::number("rate").at_least(7).expendable(1),
            Column::number("queue").at_least(5),
            Column::number("failed").expendable(4),
            Column::number("restarts").expendable(5),
            Column::number("memory").at_least(8).expendable(2),
            Column::number("cpu").at_least(5).expendable(3),
        ]);
        for (progress, stage) in self.stages.iter().zip(&self.status.snapshot.stages) {
            let used = || stage.slots.iter().filter_map(|slot| slot.usage);
            let memory = used().map(|usage| usage.memory_bytes).sum();
            let cpus = stage.slots.iter().filter_map(|slot| self.cpus.get(&slot.pid?)).sum();
            let mut cells = progress.cells().to_vec();
            cells.push(memory_cell(used().next().map(|_| memory)));
            cells.push(cpu_cell(used().next().map(|_| cpus)));
            table.row(cells);
        }
        table.lines(look)
    }

    /// Why stages are as they are, where that is worth a line.
    fn reasons(&self, look: Look) -> Vec<String> {
        let with_reason = |stage: &crate::report::StageSnapshot| {
            let reason = stage.reason.as_ref()?;
            let text = format!("{} {}: {}", stage.stage, stage.state, one_line(reason));
            Some(look.paint(
                if ["failed", "fallen"].contains(&stage.state.as_str()) { Colour::Red } else { Colour::Dim },
                &text,
            ))
        };
        self.status.snapshot.stages.iter().filter_map(with_reason).collect()
    }

    fn worker_table(&self, look: Look) -> Vec<String> {
        let mut table = Table::new([
            Column::text("worker").at_least(8),
            Column::text("state").at_least(8),
            Column::number("pid").at_least(7),
            Column::number("given").at_least(5),
            Column::number("held").expendable(2),
            Column::number("generation").expendable(3),
            Column::number("memory").at_least(8),
            Column::number("cpu").at_least(5),
            Column::text("doing").expendable(1),
        ]);
        let mut idle = 0;
        for (_, slot) in slots(&self.status) {
            // Places of a wide pool that nobody needs say nothing.
            if slot.pid.is_none() && matches!(slot.state.as_str(), "vacant" | "done") {
                idle += 1;
                continue;
            }
            let number = |number: u64| Cell::new(short_count(number as f64));
            let pid = slot.pid.map(|pid| pid.to_string()).unwrap_or_else(|| "-".to_owned());
            let cpus = slot.pid.and_then(|pid| self.cpus.get(&pid).copied());
            table.row([
                Cell::new(slot.worker.as_str()).colour(Look::name_colour(&slot.worker)),
                state(&slot.state),
                Cell::new(pid),
                number(slot.given),
                number(slot.held),
                number(slot.generation),
                memory_cell(slot.usage.map(|usage| usage.memory_bytes)),
                cpu_cell(cpus),
                Cell::new(one_line(slot.reason.as_deref().unwrap_or(""))).colour(Colour::Dim),
            ]);
        }
        let mut lines = table.lines(look);
        if idle > 0 {
            let places = if idle == 1 { "place has" } else { "places have" };
            lines.push(look.paint(Colour::Dim, &format!("{idle} more {places} no worker now")));
        }
        lines
    }
}

fn edge_table(edges: &[EdgeSnapshot], look: Look) -> Vec<String> {
    let mut table = Table::new([
        Column::text("edge").at_least(8),
        Column::number("in").at_least(5),
        Column::number("waiting").at_least(7),
        Column::number("bytes").at_least(8).expendable(1),
        Column::number("dropped").expendable(2),
        // The last, so that nothing moves when it comes and goes.
        Column::text(""),
    ]);
    for edge in edges {
        let number = |number: u64| Cell::new(short_count(number as f64));
        let dropped = number(edge.dropped);
        table.row([
            Cell::new(edge.edge.as_str()),
            number(edge.records_in),
            number(edge.records),
            Cell::new(bytes(edge.bytes)),
            if edge.dropped > 0 { dropped.colour(Colour::Yellow) } else { dropped.colour(Colour::Dim) },
            Cell::new(if edge.is_full { "full" } else { "" }).colour(Colour::Yellow),
        ]);
    }
    table.lines(look)
}

fn slots(status: &Status) -> impl Iterator<Item = (&str, &SlotSnapshot)> {
    let stages = status.snapshot.stages.iter();
    stages.flat_map(|stage| stage.slots.iter().map(|slot| (stage.stage.as_str(), slot)))
}

fn list(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

fn state(state: &str) -> Cell {
    let cell = Cell::new(state.replace('_', " "));
    match state {
        "failed" | "failing" | "killed" => cell.colour(Colour::Red),
        "finished" => cell.colour(Colour::Green),
        "running" => cell,
        "backing_off" | "terminate" | "kill" => cell.colour(Colour::Yellow),
        _ => cell.colour(Colour::Dim),
    }
}

fn memory_cell(memory: Option<u64>) -> Cell {
    memory.map_or_else(|| Cell::new("-").colour(Colour::Dim), |memory| Cell::new(bytes(memory)))
}

/// As `top` has it: 100% is one processor.
fn cpu_cell(cpus: Option<f64>) -> Cell {
    cpus.map_or_else(|| Cell::new("-").colour(Colour::Dim), |cpus| Cell::new(format!("{:.0}%", cpus * 100.0)))
}

/// Whole seconds, once there are many: hundredths only flicker.
fn whole(time: Duration) -> Duration {
    if time.as_secs() < 10 { time } else { Duration::from_secs(time.as_secs()) }
}
