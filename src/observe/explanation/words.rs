//! What each part of an explanation is in words.

use crate::explanation::{
    Death, Delivery, EdgeKind, EdgePromise, Full, Holds, Need, Order, OrderBy, Path, Resource, Restarts,
    Sharing, StagePromise, Then, Weakness,
};
use crate::observe::{bytes, count};

pub(super) fn number(number: usize, word: &str) -> String {
    format!("{} {word}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

pub(super) fn size(number: u64) -> String {
    if number == u64::MAX { "no bound".to_owned() } else { bytes(number) }
}

/// A size of the document in a sentence: `8 MiB`.
pub(super) fn round(number: u64) -> String {
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

pub(super) fn path_delivery(path: &Path) -> String {
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

pub(super) fn path_order(path: &Path) -> String {
    let lost_at = path.order_lost_at.as_deref();
    match (path.order, lost_at) {
        (Order::Kept, _) => "kept".to_owned(),
        (Order::PerKey, _) => "kept for the records of one key".to_owned(),
        (Order::PerWorker, _) => "kept for the records of one worker; those of a pool are mixed".to_owned(),
        (Order::NotKept, Some(stage)) => format!("not kept from `{stage}` on"),
        (Order::NotKept, None) => "not kept".to_owned(),
    }
}

pub(super) fn stage_kind(stage: &StagePromise) -> String {
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

pub(super) fn stage_order(stage: &StagePromise) -> &'static str {
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

pub(super) fn death(stage: &StagePromise) -> String {
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
    let within = crate::observe::duration(std::time::Duration::from_secs_f64(restarts.within_seconds));
    let always = if restarts.policy == "always" { ", also after success" } else { "" };
    format!("; {who}{always}, at most {} times in {}", restarts.max, within.replace(".0 s", " s"))
}

pub(super) fn failing(stage: &StagePromise) -> Option<String> {
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

pub(super) fn edge_kind(edge: &EdgePromise) -> String {
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

pub(super) fn delivery(edge: &EdgePromise) -> &'static str {
    match edge.delivery {
        Delivery::Leased => "leased: its results appear downstream exactly once, whichever worker dies",
        Delivery::Written => "to standard output once, in whole records",
        Delivery::OnceOrFails => "once; the death of its reader fails the stage",
        Delivery::Unconfirmed => "once; what a worker had read when it died is not given out again",
        Delivery::Nothing => "nothing promised: bytes in the kernel, lost with a worker at either end",
    }
}

pub(super) fn sharing(edge: &EdgePromise) -> Option<String> {
    let workers = number(edge.consumers, "worker");
    Some(match edge.sharing {
        Sharing::One => return None,
        Sharing::Demand => format!("among {workers} by demand"),
        Sharing::Key => format!("among {workers} by key: those of one key go to one worker, in order"),
        Sharing::All => format!("with all: each of the {workers} gets every record"),
        Sharing::Pairs => format!("in pairs: worker I to worker I, {} pipes", edge.consumers),
    })
}

pub(super) fn when_full(edge: &EdgePromise) -> &'static str {
    match (edge.when_full, &edge.from) {
        (Full::DropsNewest, _) => "the record that does not fit is dropped and counted",
        (Full::DropsOldest, _) => "the record that has waited longest is dropped and counted",
        (Full::ProducerWaits, None) => "standard input is not read on",
        (Full::ProducerWaits, _) if edge.kind != EdgeKind::Queue => "the producer waits in its write",
        (Full::ProducerWaits, _) if edge.siblings.is_empty() => "the producer waits",
        (Full::ProducerWaits, _) => "the producer waits, and the other queues of its port get nothing either",
    }
}

pub(super) fn holds(holds: Holds) -> &'static str {
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

pub(super) fn resource(what: Resource) -> &'static str {
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
pub(super) fn remedy(need: &Need) -> String {
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
