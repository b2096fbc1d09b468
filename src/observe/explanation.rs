//! What a pipeline promises and needs, for a person to read.

use super::table::{Cell, Column, Table};
use super::{Colour, Look, bytes, count};
use crate::explanation::{
    Death, Delivery, EdgeKind, EdgePromise, Explanation, Full, Holds, Memory, MemoryPart, Need, Order,
    OrderBy, Path, Paths, Resource, Restarts, Sharing, StagePromise, Then, Warning, Weakness,
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

fn number(number: usize, word: &str) -> String {
    format!("{} {word}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

fn size(number: u64) -> String {
    if number == u64::MAX { "no bound".to_owned() } else { bytes(number) }
}

/// A size of the document in a sentence: `8 MiB`.
fn round(number: u64) -> String {
    size(number).replace(".00 ", " ").replace(".0 ", " ")
}

/// `` `a` ``, `` `a` and `b` ``, `` `a`, `b` and `c` ``.
fn names(names: &[String], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((one, [])) => one.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}

fn path_delivery(path: &Path) -> String {
    let mut text = match path.exactly_once {
        true => "exactly once".to_owned(),
        false => {
            let weak: Vec<String> = path.weaknesses.iter().map(weakness).collect();
            format!("exactly once but for {}", weak.join(", and for "))
        }
    };
    if !path.fatal.is_empty() {
        text.push_str(&format!(". The death of a worker of {} fails its stage", names(&path.fatal, "or")));
    }
    text
}

fn weakness(weakness: &Weakness) -> String {
    match weakness {
        Weakness::Drops { edge } => format!("what `{edge}` drops when it is full"),
        Weakness::Unconfirmed { stage } => format!("what a worker of `{stage}` had read when it died"),
        Weakness::Repeats { stage } => format!("what `{stage}` writes again after a restart"),
        Weakness::Skips { stage } => format!("what fails in `{stage}` and is skipped"),
        Weakness::Diverts { stage } => format!("what leaves by `{stage}.failed`"),
        Weakness::Pipe { edge } => format!("what lies in the pipe `{edge}` when a worker dies"),
        Weakness::Daemon { stage } => {
            format!("what the daemon `{stage}` has not read by the end of its grace period")
        }
    }
}

fn path_order(path: &Path) -> String {
    let lost_at = path.order_lost_at.as_deref();
    match (path.order, lost_at) {
        (Order::Kept, _) => "kept".to_owned(),
        (Order::PerKey, _) => "kept for the records of one key".to_owned(),
        (Order::PerWorker, _) => "kept for the records of one worker; those of a pool are mixed".to_owned(),
        (Order::NotKept, Some(stage)) => format!("not kept from `{stage}` on"),
        (Order::NotKept, None) => "not kept".to_owned(),
    }
}

fn stage_kind(stage: &StagePromise) -> String {
    let workers = match stage.workers_min == stage.workers {
        true => number(stage.workers, "worker"),
        false => format!("{} to {} workers", stage.workers_min, stage.workers),
    };
    let mut text = format!("{}, {workers}", stage.mode);
    for (is_so, word) in
        [(stage.is_source, "source"), (stage.daemon, "daemon"), (stage.leased, "records leased")]
    {
        if is_so {
            text.push_str(", ");
            text.push_str(word);
        }
    }
    text
}

fn stage_order(stage: &StagePromise) -> &'static str {
    match (stage.order_by, stage.order) {
        (Some(OrderBy::OneWorker), _) => "kept, since there is one worker",
        (Some(OrderBy::Ordered), _) => "kept over the pool (`ordered`)",
        (Some(OrderBy::PartitionBy), _) => "kept for the records of one key (`partition_by`)",
        (None, Order::PerWorker) => "each worker's own is kept; the workers of the pool are mixed",
        (None, _) if stage.workers == 1 => {
            "not kept: a record that waits for its next attempt is overtaken; `ordered: true` keeps it"
        }
        (None, _) => "not kept: results leave as they are done; `ordered: true` keeps it",
    }
}

fn death(stage: &StagePromise) -> String {
    let mut text = match stage.death {
        Death::StageFails if stage.failure_ends_run => {
            "of a worker fails the stage and ends the run".to_owned()
        }
        Death::StageFails => "of a worker fails the stage; the rest of the run goes on".to_owned(),
        Death::Attempt => {
            let attempts = stage.failing.as_ref().map_or(0, |failing| failing.attempts_by_death);
            let others = if stage.mode == "map" { "; what else it held goes back" } else { "" };
            format!("of a worker costs its record one attempt of {attempts}{others}")
        }
        Death::Unconfirmed => "of a worker loses what it had read and not finished (unconfirmed)".to_owned(),
        Death::Repeats => "of a worker makes its output come again from the beginning".to_owned(),
    };
    if let Some(restarts) = &stage.restarts {
        text.push_str(&how_restarted(restarts));
    }
    text
}

fn how_restarted(restarts: &Restarts) -> String {
    let who = match restarts.scope {
        "stage" => "the whole pool restarts",
        "downstream" => "the stage and all that it feeds restart",
        "pipeline" => "all stages restart",
        _ => "the worker restarts",
    };
    let within = super::duration(std::time::Duration::from_secs_f64(restarts.within_seconds));
    let always = if restarts.policy == "always" { ", also after success" } else { "" };
    format!("; {who}{always}, at most {} times in {}", restarts.max, within.replace(".0 s", " s"))
}

fn failing(stage: &StagePromise) -> Option<String> {
    let failing = stage.failing.as_ref()?;
    let attempts = match failing.attempts {
        1 => "of a record is not tried again".to_owned(),
        attempts => format!("of a record is tried {attempts} times in all"),
    };
    let then = match failing.then {
        Then::StageFails if stage.failure_ends_run => "the stage fails and the run ends".to_owned(),
        Then::StageFails => "the stage fails".to_owned(),
        Then::Skipped => "the record is counted and left out".to_owned(),
        Then::Diverted => format!("the record goes to {}", names(&failing.to, "and")),
    };
    Some(format!("{attempts}; then {then}"))
}

fn edge_kind(edge: &EdgePromise) -> String {
    match edge.kind {
        EdgeKind::Queue => {
            let records =
                edge.capacity.map_or_else(String::new, |records| format!("{} records, ", count(records)));
            let format = edge.format.unwrap_or_default();
            format!("queue of {format}, at most {records}{}", round(edge.capacity_bytes.unwrap_or(0)))
        }
        EdgeKind::Pipe => match edge.capacity_bytes {
            Some(size) => format!("pipe of {} in the kernel", round(size)),
            None => "pipe of the kernel's size (64 KiB)".to_owned(),
        },
        EdgeKind::DuplexPipe => "pair of sockets".to_owned(),
    }
}

fn delivery(edge: &EdgePromise) -> &'static str {
    match edge.delivery {
        Delivery::Leased => "leased: its results appear downstream exactly once, whichever worker dies",
        Delivery::Written => "to standard output once, in whole records",
        Delivery::OnceOrFails => "once; the death of its reader fails the stage",
        Delivery::Unconfirmed => "once; what a worker had read when it died is not given out again",
        Delivery::Nothing => "nothing promised: bytes in the kernel, lost with a worker at either end",
    }
}

fn sharing(edge: &EdgePromise) -> Option<String> {
    let workers = number(edge.consumers, "worker");
    Some(match edge.sharing {
        Sharing::One => return None,
        Sharing::Demand => format!("among {workers} by demand"),
        Sharing::Key => format!("among {workers} by key: those of one key go to one worker, in order"),
        Sharing::All => format!("with all: each of the {workers} gets every record"),
        Sharing::Pairs => format!("in pairs: worker I to worker I, {} pipes", edge.consumers),
    })
}

fn when_full(edge: &EdgePromise) -> &'static str {
    match (edge.when_full, &edge.from) {
        (Full::DropsNewest, _) => "the record that does not fit is dropped and counted",
        (Full::DropsOldest, _) => "the record that has waited longest is dropped and counted",
        (Full::ProducerWaits, None) => "standard input is not read on",
        (Full::ProducerWaits, _) if edge.kind != EdgeKind::Queue => "the producer waits in its write",
        (Full::ProducerWaits, _) if edge.siblings.is_empty() => "the producer waits",
        (Full::ProducerWaits, _) => "the producer waits, and the other queues of its port get nothing either",
    }
}

fn holds(holds: Holds) -> &'static str {
    match holds {
        Holds::Engine => "itself",
        Holds::Workers => "books, stderr",
        Holds::Queue => "full queue",
        Holds::Read => "waiting read",
        Holds::Unfinished => "unfinished record",
        Holds::Given => "given, unread",
        Holds::Leases => "leases",
        Holds::Results => "held results",
        Holds::Delayed => "delayed retries",
        Holds::Reorder => "reorder buffer",
        Holds::Failed => "failed records",
        Holds::Shared => "shared objects",
        Holds::Clients => "shared clients",
    }
}

fn resource(what: Resource) -> &'static str {
    match what {
        Resource::Descriptors => "open descriptors (RLIMIT_NOFILE, hard)",
        Resource::Processes => "processes (RLIMIT_NPROC)",
        Resource::Memory => "memory, short records",
        Resource::PipePages => "pipe pages at first (pipe-user-pages-soft)",
        Resource::LargePipePages => "pipe pages at most (pipe-user-pages-soft)",
        Resource::PipeSize => "largest pipe (pipe-max-size)",
    }
}

/// What comes of it, and what helps.
fn remedy(need: &Need) -> String {
    let largest = need.parts.iter().max_by_key(|part| part.sum());
    let most = largest.map_or_else(String::new, |part| {
        format!(" Most of it is `{}`: {} of {} each.", part.of, count(part.times), count(part.each))
    });
    match need.what {
        Resource::Descriptors => format!(
            "Descriptors: the run is refused.{most} Make the pool narrower, or raise the limit: `ulimit -Hn {}`, as root.",
            need.needed
        ),
        Resource::Processes => format!(
            "Processes: {} of this user run already, threads counted.{most} Make the pool narrower, or raise the limit: \
             `ulimit -u {}`.",
            count(need.in_use),
            need.needed.saturating_add(need.in_use)
        ),
        Resource::Memory => "Memory: lower the keys of the greatest parts above.".to_owned(),
        Resource::PipePages => {
            "Pipe pages: some pipes get a page or two instead of 16; slower, but nothing is lost.".to_owned()
        }
        Resource::LargePipePages => {
            "Pipe pages at most: not all pipes can be made 1 MiB large; slower, but nothing is lost."
                .to_owned()
        }
        Resource::PipeSize => {
            format!("Largest pipe: the kernel refuses that size.{most} It keeps its own, 64 KiB.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explanation::{Machine, NeedPart};

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
