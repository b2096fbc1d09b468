//! What a pipeline promises and needs, for a person to read.

mod words;

use self::words::{
    death, delivery, edge_kind, failing, holds, number, path_delivery, path_order, remedy, resource, round,
    sharing, size, stage_kind, stage_order, when_full,
};
use super::table::{Cell, Column, Table};
use super::{Colour, Look, count};
use crate::explanation::{
    EdgePromise, Explanation, Memory, MemoryPart, Need, Paths, Resource, StagePromise, Warning,
};

/// Wider lines are hard to read.
const MOST_WIDTH: usize = 100;

/// Summands below this part of a sum are told together.
const WORTH_A_LINE: u64 = 50;

/// More summands are told together, even of a large graph.
const MOST_LINES: usize = 16;

/// All of it. Ends with a line's end.
pub fn explanation(explanation: &Explanation, look: Look) -> String {
    let look = Look { width: look.width.min(MOST_WIDTH), ..look };
    let mut page = Page { look, lines: Vec::new() };
    page.head(explanation);
    page.paths(&explanation.paths);
    page.stages(explanation);
    page.edges(&explanation.edges);
    page.memory(&explanation.memory);
    page.needs(&explanation.needs);
    page.warnings(&explanation.warnings);
    page.lines.push(String::new());
    page.lines.join("\n")
}

/// Labels and what is to be said under them.
type Body = Vec<(&'static str, String)>;

struct Page {
    look: Look,
    lines: Vec<String>,
}

impl Page {
    fn title(&mut self, text: &str) {
        self.lines.push(String::new());
        self.lines.push(self.look.paint(Colour::Bold, text));
    }

    /// `    label     text`, the text wrapped beside its label.
    fn entry(&mut self, label: &str, text: &str) {
        let lines = self.labelled(label, text);
        self.lines.extend(lines);
    }

    fn labelled(&self, label: &str, text: &str) -> Vec<String> {
        let lines = wrap(text.split(' '), self.look.width.saturating_sub(14));
        let label_of = |number: usize| format!("{:<10}", if number == 0 { label } else { "" });
        lines
            .into_iter()
            .enumerate()
            .map(|(number, line)| format!("    {}{line}", self.look.paint(Colour::Dim, &label_of(number))))
            .collect()
    }

    /// Entries under their names, each with its kind; those of which the same is to be said stand together.
    fn groups(&mut self, entries: impl IntoIterator<Item = (String, String, Body)>) {
        let mut groups: Vec<(Vec<String>, String, Body)> = Vec::new();
        for (name, kind, body) in entries {
            match groups.iter_mut().find(|(_, other, same)| *other == kind && *same == body) {
                Some((names, ..)) => names.push(name),
                None => groups.push((vec![name], kind, body)),
            }
        }
        for (mut names, kind, body) in groups {
            let last = names.len() - 1;
            names[..last].iter_mut().for_each(|name| name.push(','));
            names[last].push(':');
            let lines = wrap(names.iter().map(String::as_str), self.look.width.saturating_sub(2));
            let painted = lines.iter().map(|line| format!("  {}", self.look.paint(Colour::Bold, line)));
            self.lines.extend(painted);
            let width = lines.last().map_or(0, |line| line.chars().count());
            match self.lines.last_mut() {
                Some(line) if width + kind.chars().count() + 3 <= self.look.width => {
                    *line += &format!(" {kind}")
                }
                _ => self.lines.push(format!("    {kind}")),
            }
            body.iter().for_each(|(label, text)| self.entry(label, text));
        }
    }

    fn head(&mut self, explanation: &Explanation) {
        let workers: usize = explanation.stages.iter().map(|stage| stage.workers).sum();
        let least: usize = explanation.stages.iter().map(|stage| stage.workers_min).sum();
        let range = if least == workers { String::new() } else { format!("{least} to ") };
        self.lines.push(format!(
            "{}: {}, {}, {range}{}",
            self.look.paint(Colour::Bold, &explanation.pipeline),
            number(explanation.stages.len(), "stage"),
            number(explanation.edges.len(), "edge"),
            number(workers, "worker")
        ));
    }

    fn paths(&mut self, paths: &Paths) {
        self.title("Paths");
        if paths.listed.is_empty() {
            let text = format!(
                "There are {}, too many to list. Each stage and each edge says below what it promises; a path \
                 promises as much as the weakest on it.",
                if paths.count == u64::MAX { "very many".to_owned() } else { count(paths.count) }
            );
            self.lines.extend(
                wrap(text.split(' '), self.look.width - 2).into_iter().map(|line| format!("  {line}")),
            );
        }
        for path in &paths.listed {
            let name = self.look.paint(Colour::Bold, &path.through.join(" -> "));
            self.lines.push(format!("  {name}"));
            self.entry("delivery", &path_delivery(path));
            self.entry("order", &path_order(path));
        }
    }

    fn stages(&mut self, explanation: &Explanation) {
        self.title("Stages");
        let body = |stage: &StagePromise| {
            let mut body = Vec::new();
            if explanation.edges.iter().any(|edge| edge.from.as_ref() == Some(&stage.stage)) {
                body.push(("order", stage_order(stage).to_owned()));
            }
            body.push(("death", death(stage)));
            body.extend(failing(stage).map(|text| ("failure", text)));
            body
        };
        self.groups(
            explanation.stages.iter().map(|stage| (stage.stage.clone(), stage_kind(stage), body(stage))),
        );
    }

    fn edges(&mut self, edges: &[EdgePromise]) {
        self.title("Edges");
        let body = |edge: &EdgePromise| {
            let mut body = vec![("delivery", delivery(edge).to_owned())];
            body.extend(sharing(edge).map(|text| ("shared", text)));
            body.push(("full", when_full(edge).to_owned()));
            body
        };
        self.groups(edges.iter().map(|edge| (edge.edge.clone(), edge_kind(edge), body(edge))));
    }

    fn memory(&mut self, memory: &Memory) {
        self.title("Memory of the engine at most, all places full at once");
        let short = format!("records to {}", round(memory.short_record_bytes));
        self.entry(&size(memory.short_bytes), &format!("with {short}"));
        if memory.most_bytes > memory.short_bytes {
            self.entry(
                &size(memory.most_bytes),
                "should every place be taken by a record as long as `max_record` allows",
            );
        }
        let mut table = Table::new([
            Column::text("of"),
            Column::text("holds"),
            Column::number("short"),
            Column::number("longest"),
            Column::text("lowered by").expendable(1),
        ]);
        let is_shown = |part: &&MemoryPart| {
            part.short_bytes >= memory.short_bytes / WORTH_A_LINE
                || part.most_bytes >= memory.most_bytes / WORTH_A_LINE
        };
        let shown: Vec<_> = memory.parts.iter().filter(is_shown).take(MOST_LINES).collect();
        for part in &shown {
            let times = match (part.times, self.look.unicode) {
                (1, _) => String::new(),
                (times, true) => format!(" ×{times}"),
                (times, false) => format!(" x{times}"),
            };
            table.row([
                Cell::new(part.of.as_str()),
                Cell::new(format!("{}{times}", holds(part.holds))),
                Cell::new(size(part.short_bytes)),
                Cell::new(size(part.most_bytes)),
                Cell::new(part.lowered_by.join(", ")).colour(Colour::Dim),
            ]);
        }
        let rest = memory.parts.len() - shown.len();
        if rest > 0 {
            let sum =
                |of: fn(&MemoryPart) -> u64| shown.iter().map(|part| of(part)).fold(0, u64::saturating_add);
            table.row([
                Cell::new("other"),
                Cell::new(number(rest, "smaller part")),
                Cell::new(size(memory.short_bytes.saturating_sub(sum(|part| part.short_bytes)))),
                Cell::new(size(memory.most_bytes.saturating_sub(sum(|part| part.most_bytes)))),
                Cell::new(""),
            ]);
        }
        self.table(&table);
    }

    fn table(&mut self, table: &Table) {
        let look = Look { width: self.look.width.saturating_sub(2), ..self.look };
        self.lines.extend(table.lines(look).into_iter().map(|line| format!("  {line}")));
    }

    fn needs(&mut self, needs: &[Need]) {
        self.title("Needed of this machine");
        let mut table = Table::new([
            Column::text("what"),
            Column::number("needed"),
            Column::number("limit"),
            Column::text(""),
        ]);
        let is_shown = |need: &&Need| {
            let is_basic = matches!(need.what, Resource::Descriptors | Resource::Processes);
            is_basic || need.limit.is_some()
        };
        let shown: Vec<&Need> = needs.iter().filter(is_shown).collect();
        for need in &shown {
            let is_size = matches!(need.what, Resource::Memory | Resource::PipeSize);
            let show = |number: u64| if is_size { size(number) } else { count(number) };
            table.row([
                Cell::new(resource(need.what)),
                Cell::new(show(need.needed)),
                Cell::new(need.limit.map_or_else(|| "none".to_owned(), show)),
                match need.fits {
                    true => Cell::new("fits").colour(Colour::Green),
                    false => Cell::new("does not fit").colour(Colour::Red),
                },
            ]);
        }
        self.table(&table);
        for need in shown.into_iter().filter(|need| !need.fits) {
            for line in wrap(remedy(need).split(' '), self.look.width - 2) {
                self.lines.push(format!("  {line}"));
            }
        }
    }

    fn warnings(&mut self, warnings: &[Warning]) {
        if warnings.is_empty() {
            return;
        }
        self.title("Weak promises");
        for warning in warnings {
            let text = format!("{} {}", warning.message, warning.help);
            for (number, line) in wrap(text.split(' '), self.look.width - 4).into_iter().enumerate() {
                let mark = if number == 0 { self.look.paint(Colour::Yellow, "!") } else { " ".to_owned() };
                self.lines.push(format!("  {mark} {line}"));
            }
        }
    }
}

/// Lines of at most `width` characters, broken between words.
fn wrap<'a>(words: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().expect("never empty");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explanation::{
        Death, Delivery, EdgeKind, Full, Holds, Machine, NeedPart, Order, Restarts, Sharing,
    };

    fn sample() -> Explanation {
        let part = |of: &str, holds, times, short_bytes, most_bytes, lowered_by| MemoryPart {
            of: of.to_owned(),
            holds,
            times,
            short_bytes,
            most_bytes,
            lowered_by,
        };
        let edge = EdgePromise {
            edge: "a -> b".to_owned(),
            kind: EdgeKind::Queue,
            format: Some("lines"),
            capacity_bytes: Some(8 << 20),
            capacity: Some(1000),
            from: Some("a".to_owned()),
            to: Some("b".to_owned()),
            delivery: Delivery::Unconfirmed,
            order: Order::Kept,
            sharing: Sharing::Demand,
            consumers: 2000,
            when_full: Full::ProducerWaits,
            siblings: vec!["a -> c".to_owned()],
        };
        Explanation {
            pipeline: "sample".to_owned(),
            paths: Paths { count: u64::MAX, listed: Vec::new() },
            stages: vec![StagePromise {
                stage: "b".to_owned(),
                mode: "stream",
                workers_min: 1,
                workers: 2000,
                daemon: true,
                is_source: false,
                leased: false,
                order: Order::PerWorker,
                order_by: None,
                death: Death::Unconfirmed,
                restarts: Some(Restarts { policy: "always", max: 5, within_seconds: 60.0, scope: "downstream" }),
                failing: None,
                failure_ends_run: true,
            }],
            edges: vec![EdgePromise { edge: "a -> c".to_owned(), ..edge.clone() }, edge],
            memory: Memory {
                short_record_bytes: 64 << 10,
                short_bytes: 200 << 20,
                most_bytes: u64::MAX,
                parts: vec![
                    part("b", Holds::Given, 2000, 190 << 20, u64::MAX, &["pool", "max_record"]),
                    part("mpflow", Holds::Engine, 1, 9 << 20, 9 << 20, &[]),
                    part("b", Holds::Workers, 2000, 1 << 20, 1 << 20, &["pool"]),
                ],
            },
            needs: vec![Need {
                what: Resource::Descriptors,
                needed: 4032,
                limit: Some(1024),
                in_use: 0,
                fits: false,
                parts: vec![NeedPart { of: "b".to_owned(), times: 2000, each: 2 }],
            }],
            machine: Machine {
                open_files_soft: Some(1024),
                open_files_hard: Some(1024),
                processes: None,
                processes_in_use: 0,
                pipe_max_bytes: None,
                pipe_user_pages: None,
                memory_bytes: None,
            },
            warnings: vec![Warning {
                code: "x",
                message: "`b` goes on when a worker dies, and that is a sentence that is longer than one line of text."
                    .to_owned(),
                help: "Do something.".to_owned(),
            }],
        }
    }

    #[test]
    fn what_is_the_same_is_said_once_and_what_does_not_fit_is_said_with_a_remedy() {
        insta::assert_snapshot!(explanation(&sample(), Look { width: 80, ..Look::PLAIN }));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [60, 80, 100, 200] {
            let text = explanation(&sample(), Look { width, ..Look::PLAIN });
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width.min(100), "{widest} of {width}\n{text}");
        }
    }
}
