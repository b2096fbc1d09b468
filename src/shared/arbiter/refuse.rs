//! Why something is not done, in words: what was wrong, where, and what to do.

use super::{Arbiter, ClientId, Object, State};
use crate::model::nearest;
use crate::shared::protocol::{Answer, Op, Refusal};

impl Arbiter {
    pub(super) fn find(&self, name: &str) -> Result<usize, Refusal> {
        self.objects.iter().position(|object| object.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.objects.iter().map(|object| object.name.as_str()).collect();
            let help = match nearest(name, names.iter().copied()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("this run has `{}`", names.join("`, `")),
            };
            Refusal::new("unknown_object", format!("there is no shared object `{name}`")).help(help)
        })
    }

    pub(super) fn not_held(&self, object: usize, client: ClientId) -> Refusal {
        let Object { name, state } = &self.objects[object];
        let holders: Vec<String> = match state {
            State::Lock(permits) | State::Semaphore(permits) => {
                permits.holders().map(|(holder, _)| self.name_of(holder)).collect()
            }
            _ => Vec::new(),
        };
        let message = match holders.is_empty() {
            true => format!("`{name}` is not held by anybody"),
            false => format!(
                "`{name}` is not held by whoever releases it ({}), but by {}",
                self.name_of(client),
                holders.join(", ")
            ),
        };
        Refusal::new("not_held", message)
            .help("only the thread or command that has acquired it can release it")
    }

    pub(super) fn wrong_kind(&self, object: usize, word: &str) -> Refusal {
        let Object { name, state } = &self.objects[object];
        let kind = state.kind(name, &self.layout);
        let (article, can) = match state {
            State::Memory => ("a", "lies in memory: it can be got, set and added to"),
            State::Lock(_) | State::Semaphore(_) => ("a", "can be acquired and released"),
            State::Event { .. } => ("an", "can be set, cleared and waited for"),
            State::Barrier(_) => ("a", "can be waited at and reset"),
            State::Dict(_) => ("a", "has keys and values"),
        };
        let article = if kind == "array" { "an" } else { article };
        Refusal::new("wrong_kind", format!("`{name}` is {article} {kind}, for which there is no `{word}`"))
            .help(format!("{article} {kind} {can}"))
    }
}

/// ``worker `work/2` (pid 4711)``.
pub(super) fn named(worker: &str, pid: u32) -> String {
    match (worker, pid) {
        ("", 0) => "a client without a name".to_owned(),
        ("", pid) => format!("process {pid}"),
        (worker, 0) => format!("worker `{worker}`"),
        (worker, pid) => format!("worker `{worker}` (pid {pid})"),
    }
}

pub(super) fn broken(name: &str, why: &str) -> Answer {
    Answer::Refused(
        Refusal::new("broken_barrier", format!("barrier `{name}` is broken: {why}"))
            .help("who can go on without the others resets it; until then it stays broken"),
    )
}

/// What the operation is called in requests.
pub(super) fn word_of(op: &Op) -> &'static str {
    match op {
        Op::Acquire(_) => "acquire",
        Op::Release => "release",
        Op::Set => "set",
        Op::IsSet => "is_set",
        Op::Wait(_) => "wait",
        Op::Reset => "reset",
        Op::Abort => "abort",
        Op::Clear => "clear",
        Op::State => "state",
        Op::Get { .. } => "get",
        Op::Put { .. } => "put",
        Op::Delete { .. } => "delete",
        Op::Pop { .. } => "pop",
        Op::SetDefault { .. } => "setdefault",
        Op::Contains { .. } => "contains",
        Op::Keys { .. } => "keys",
        Op::Items { .. } => "items",
        Op::Update { .. } => "update",
        Op::Len => "len",
        Op::Add { .. } => "add",
        Op::CompareAndSet { .. } => "compare_and_set",
    }
}
