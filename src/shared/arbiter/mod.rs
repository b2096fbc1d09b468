//! Who holds what and who waits for it: a pure state machine.
//!
//! It is told what a client asks, that one is gone, that time has passed, and which workers may still come; it
//! answers with the replies that are due. A client waits for one thing at a time. There is no lock in here: requests
//! have one order, which is that in which they came.
//!
//! # When a barrier breaks
//!
//! 1. A client that waits at it goes away, gives up, or has waited longer than it wanted to.
//! 2. Fewer workers may still come than it has parties, and somebody waits. A worker that runs, or will be started,
//!    counts as many times as it has connections, and once where it has none. A run that has fewer workers than the
//!    barrier has parties from the start is one whose workers come several times: there this rule says nothing.
//! 3. A worker that has waited at it before has failed, and will not be started again.
//!
//! It stays broken until somebody resets it.

mod barrier;
mod crew;
mod dict;
mod permits;
mod refuse;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use barrier::{Arrived, Barrier};
use crew::Crew;
use dict::Dict;
pub(crate) use dict::MOST_DICT_BYTES;
use permits::{Acquired, Permits};
use refuse::{broken, named, word_of};

use super::memory::Layout;
use super::protocol::{Answer, Op, Patience, Refusal, Request};
use crate::model::{SharedKind, SharedObject};

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// What is to be said to a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) to: ClientId,
    /// The number of the request.
    pub(crate) id: Option<u64>,
    pub(crate) answer: Answer,
}

#[derive(Debug)]
struct Client {
    worker: String,
    pid: u32,
    waits: Option<Wait>,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    object: usize,
    id: Option<u64>,
    since: Instant,
    until: Option<Instant>,
}

#[derive(Debug)]
struct Object {
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A value or an array: the engine has no part in it.
    Memory,
    Lock(Permits),
    Semaphore(Permits),
    Event {
        is_set: bool,
        waiting: Vec<ClientId>,
    },
    Barrier(Barrier),
    Dict(Dict),
}

impl State {
    fn kind(&self, name: &str, layout: &Layout) -> &'static str {
        match self {
            Self::Memory if layout.place(name).is_some_and(|place| place.length.is_some()) => "array",
            Self::Memory => "value",
            Self::Lock(_) => "lock",
            Self::Semaphore(_) => "semaphore",
            Self::Event { .. } => "event",
            Self::Barrier(_) => "barrier",
            Self::Dict(_) => "dict",
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Arbiter {
    objects: Vec<Object>,
    layout: Layout,
    clients: HashMap<ClientId, Client>,
    /// When who has waited long enough.
    deadlines: BTreeSet<(Instant, ClientId)>,
    crew: Crew,
    replies: Vec<Reply>,
    /// The number of the request that is being answered.
    id: Option<u64>,
}

impl Arbiter {
    /// `workers`: the names of all that there may ever be.
    pub(crate) fn new(objects: &[SharedObject], workers: BTreeSet<String>) -> Self {
        let state = |kind: &SharedKind| match kind {
            SharedKind::Value { .. } | SharedKind::Array { .. } => State::Memory,
            SharedKind::Lock => State::Lock(Permits::new(1)),
            SharedKind::Semaphore(permits) => State::Semaphore(Permits::new(*permits)),
            SharedKind::Event(is_set) => State::Event { is_set: *is_set, waiting: Vec::new() },
            SharedKind::Barrier(parties) => State::Barrier(Barrier::new(*parties)),
            SharedKind::Dict(entries) => State::Dict(Dict::new(entries)),
        };
        Self {
            objects: objects
                .iter()
                .map(|object| Object { name: object.name.clone(), state: state(&object.kind) })
                .collect(),
            layout: Layout::new(objects),
            clients: HashMap::new(),
            deadlines: BTreeSet::new(),
            crew: Crew::new(workers),
            replies: Vec::new(),
            id: None,
        }
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// A client asks for something.
    #[must_use = "somebody waits for these"]
    pub(crate) fn request(
        &mut self,
        client: ClientId,
        id: Option<u64>,
        request: Request,
        now: Instant,
    ) -> Vec<Reply> {
        self.id = id;
        if let Some(answer) = self.answer(client, request, now) {
            self.reply(client, id, answer);
        }
        std::mem::take(&mut self.replies)
    }

    /// The connection of this client is closed: what it held is released.
    #[must_use = "somebody waits for these"]
    pub(crate) fn gone(&mut self, client: ClientId) -> Vec<Reply> {
        if let Some(Client { worker, pid, waits }) = self.clients.remove(&client) {
            let who = named(&worker, pid);
            if let Some(wait) = waits {
                self.forget_deadline(client, wait);
                self.leave(client, wait.object, &format!("{who} was waiting at it and is gone"));
            }
            for object in 0..self.objects.len() {
                let (State::Lock(permits) | State::Semaphore(permits)) = &mut self.objects[object].state
                else {
                    continue;
                };
                for next in permits.gone(client, &worker) {
                    self.granted(next);
                }
            }
            self.count_parties();
        }
        std::mem::take(&mut self.replies)
    }

    /// Time has passed.
    #[must_use = "somebody waits for these"]
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Reply> {
        while let Some(&(at, client)) = self.deadlines.first().filter(|&&(at, _)| at <= now) {
            self.deadlines.remove(&(at, client));
            let Some(client_state) = self.clients.get_mut(&client) else { continue };
            let Some(wait) = client_state.waits.take() else { continue };
            let who = named(&client_state.worker, client_state.pid);
            let answer = match &mut self.objects[wait.object].state {
                State::Barrier(barrier) => {
                    barrier.take_out(client);
                    broken(&self.objects[wait.object].name, "its time-out came before the other parties did")
                }
                _ => Answer::value(false),
            };
            self.leave(client, wait.object, &format!("{who} has waited as long as it wanted to"));
            self.reply(client, wait.id, answer);
        }
        std::mem::take(&mut self.replies)
    }

    /// The workers that run or may still be started are these.
    #[must_use = "somebody waits for these"]
    pub(crate) fn set_crew(&mut self, workers: BTreeSet<String>) -> Vec<Reply> {
        self.crew.set(workers);
        self.count_parties();
        std::mem::take(&mut self.replies)
    }

    /// This worker has failed and will not be started again.
    #[must_use = "somebody waits for these"]
    pub(crate) fn failed(&mut self, worker: &str) -> Vec<Reply> {
        for object in 0..self.objects.len() {
            if matches!(&self.objects[object].state, State::Barrier(barrier) if barrier.has_member(worker)) {
                self.break_barrier(
                    object,
                    &format!("worker `{worker}`, one of its members, has failed for good"),
                );
            }
        }
        std::mem::take(&mut self.replies)
    }

    fn reply(&mut self, to: ClientId, id: Option<u64>, answer: Answer) {
        self.replies.push(Reply { to, id, answer });
    }

    /// `None`: it has to wait, or was answered already.
    fn answer(&mut self, client: ClientId, request: Request, now: Instant) -> Option<Answer> {
        let Some(state) = self.clients.get(&client) else {
            return Some(match request {
                Request::Hello { worker, pid } => {
                    self.clients.insert(client, Client { worker, pid, waits: None });
                    self.welcome()
                }
                _ => Answer::Refused(Refusal::request("the first request of a client is `hello`")),
            });
        };
        match (request, state.waits) {
            (Request::Cancel, waits) => {
                if let Some(wait) = waits {
                    self.cancel(client, wait);
                }
                Some(Answer::value(Json::Null))
            }
            (_, Some(wait)) => {
                let name = &self.objects[wait.object].name;
                Some(Answer::refused(
                    "busy",
                    format!("this client waits for `{name}` and has to `cancel` first"),
                ))
            }
            (Request::Hello { .. }, None) => {
                Some(Answer::Refused(Refusal::request("this client has said `hello` already")))
            }
            (Request::Map, None) => Some(Answer::Memory(self.layout.bytes().to_string())),
            (Request::List, None) => Some(self.list()),
            (Request::On { name, op }, None) => match self.find(&name) {
                Ok(object) => self.operate(client, object, op, now),
                Err(refusal) => Some(Answer::Refused(refusal)),
            },
        }
    }

    fn cancel(&mut self, client: ClientId, wait: Wait) {
        self.forget_deadline(client, wait);
        let Some(state) = self.clients.get_mut(&client) else { return };
        state.waits = None;
        let who = named(&state.worker, state.pid);
        if let State::Barrier(barrier) = &mut self.objects[wait.object].state {
            barrier.take_out(client);
        }
        self.leave(client, wait.object, &format!("{who} does not wait any longer"));
        self.reply(client, wait.id, Answer::refused("cancelled", "the wait was cancelled"));
    }

    /// A client does not wait for this object any more, and got nothing of it. `why`: a barrier breaks.
    fn leave(&mut self, client: ClientId, object: usize, why: &str) {
        match &mut self.objects[object].state {
            State::Lock(permits) | State::Semaphore(permits) => permits.give_up(client),
            State::Event { waiting, .. } => waiting.retain(|&other| other != client),
            State::Barrier(barrier) => {
                barrier.take_out(client);
                self.break_barrier(object, why);
            }
            State::Memory | State::Dict(_) => {}
        }
    }

    fn break_barrier(&mut self, object: usize, why: &str) {
        let Object { name, state: State::Barrier(barrier) } = &mut self.objects[object] else { return };
        let answer = broken(name, why);
        for client in barrier.break_since(why) {
            let id = self.end_wait(client);
            self.reply(client, id, answer.clone());
        }
    }

    fn forget_deadline(&mut self, client: ClientId, wait: Wait) {
        if let Some(at) = wait.until {
            self.deadlines.remove(&(at, client));
        }
    }

    /// The number of the request that waited, or of that which never had to.
    fn end_wait(&mut self, client: ClientId) -> Option<u64> {
        match self.clients.get_mut(&client).and_then(|client| client.waits.take()) {
            Some(wait) => {
                self.forget_deadline(client, wait);
                wait.id
            }
            None => self.id,
        }
    }

    fn granted(&mut self, client: ClientId) {
        let id = self.end_wait(client);
        self.reply(client, id, Answer::value(true));
    }

    fn begin_wait(&mut self, client: ClientId, object: usize, patience: Patience, now: Instant) {
        let until = match patience {
            Patience::Forever => None,
            // A time that no clock can show never comes.
            Patience::For(time) => now.checked_add(time),
        };
        if let Some(state) = self.clients.get_mut(&client) {
            state.waits = Some(Wait { object, id: self.id, since: now, until });
        }
        self.deadlines.extend(until.map(|at| (at, client)));
    }

    // ---- what each kind does

    fn operate(&mut self, client: ClientId, object: usize, op: Op, now: Instant) -> Option<Answer> {
        let Object { name, state } = &mut self.objects[object];
        let name = name.clone();
        if op == Op::State {
            return Some(Answer::value(self.state(object)));
        }
        let word = word_of(&op);
        let answer = match (state, op) {
            (State::Lock(_) | State::Semaphore(_), Op::Acquire(patience)) => {
                return self.acquire(client, object, patience, now);
            }
            (State::Lock(permits) | State::Semaphore(permits), Op::Release) => {
                match permits.release(client) {
                    Ok(next) => {
                        if let Some(next) = next {
                            self.granted(next);
                        }
                        Answer::value(Json::Null)
                    }
                    Err(()) => Answer::Refused(self.not_held(object, client)),
                }
            }
            (State::Event { is_set, waiting }, Op::Set) => {
                *is_set = true;
                for next in std::mem::take(waiting) {
                    self.granted(next);
                }
                Answer::value(Json::Null)
            }
            (State::Event { is_set, .. }, Op::Clear) => {
                *is_set = false;
                Answer::value(Json::Null)
            }
            (State::Event { is_set, .. }, Op::IsSet) => Answer::value(*is_set),
            (State::Event { is_set: true, .. }, Op::Wait(_)) => Answer::value(true),
            (State::Event { .. }, Op::Wait(Patience::For(Duration::ZERO))) => Answer::value(false),
            (State::Event { waiting, .. }, Op::Wait(patience)) => {
                waiting.push(client);
                self.begin_wait(client, object, patience, now);
                return None;
            }
            (State::Barrier(_), Op::Wait(patience)) => return self.arrive(client, object, patience, now),
            (State::Barrier(barrier), Op::Reset) => {
                let answer = broken(&name, "it was reset");
                for other in barrier.reset() {
                    let id = self.end_wait(other);
                    self.reply(other, id, answer.clone());
                }
                Answer::value(Json::Null)
            }
            (State::Barrier(_), Op::Abort) => {
                let who = self.name_of(client);
                self.break_barrier(object, &format!("{who} has aborted it"));
                Answer::value(Json::Null)
            }
            (State::Dict(dict), op) => match dict.answer(&name, op) {
                Some(answer) => answer.unwrap_or_else(Answer::Refused),
                None => Answer::Refused(self.wrong_kind(object, word)),
            },
            _ => Answer::Refused(self.wrong_kind(object, word)),
        };
        Some(answer)
    }

    fn acquire(
        &mut self,
        client: ClientId,
        object: usize,
        patience: Patience,
        now: Instant,
    ) -> Option<Answer> {
        let Object { name, state } = &mut self.objects[object];
        let (State::Lock(permits) | State::Semaphore(permits)) = state else { return None };
        match permits.acquire(client, patience != Patience::For(Duration::ZERO)) {
            Acquired::Now => Some(Answer::value(true)),
            Acquired::No => Some(Answer::value(false)),
            Acquired::Waits => {
                self.begin_wait(client, object, patience, now);
                None
            }
            Acquired::HeldByItself => {
                let held = match permits.total() {
                    1 => format!("`{name}` already"),
                    total => format!("all {total} permits of `{name}` already"),
                };
                let refusal = Refusal::new("already_held", format!("whoever asks holds {held}"))
                    .help("it would wait for itself: release it first");
                Some(Answer::Refused(refusal))
            }
        }
    }

    fn arrive(
        &mut self,
        client: ClientId,
        object: usize,
        patience: Patience,
        now: Instant,
    ) -> Option<Answer> {
        let worker = self.clients.get(&client).map(|client| client.worker.clone()).unwrap_or_default();
        let Object { name, state: State::Barrier(barrier) } = &mut self.objects[object] else { return None };
        match barrier.wait(client, &worker) {
            Arrived::Broken(why) => Some(broken(name, &why)),
            Arrived::Complete(all) => {
                for (index, other) in all.into_iter().enumerate() {
                    let id = self.end_wait(other);
                    self.reply(other, id, Answer::value(index));
                }
                None
            }
            Arrived::Waits => {
                self.begin_wait(client, object, patience, now);
                if patience == Patience::For(Duration::ZERO) {
                    let late = self.tick_one(client);
                    self.replies.extend(late);
                }
                self.count_parties();
                None
            }
        }
    }

    /// The time of this client has come, which it is at once where it does not want to wait.
    fn tick_one(&mut self, client: ClientId) -> Vec<Reply> {
        let at = self.clients.get(&client).and_then(|client| client.waits?.until);
        let earlier = std::mem::take(&mut self.replies);
        let late = at.map(|at| self.tick(at)).unwrap_or_default();
        self.replies = earlier;
        late
    }

    /// The second rule of when a barrier breaks.
    fn count_parties(&mut self) {
        for object in 0..self.objects.len() {
            let State::Barrier(barrier) = &self.objects[object].state else { continue };
            if barrier.waiting().is_empty() {
                continue;
            }
            let clients = self.clients.values().map(|client| client.worker.as_str());
            if let Some(why) = self.crew.lacks(barrier.parties(), clients) {
                self.break_barrier(object, &why);
            }
        }
    }

    fn name_of(&self, client: ClientId) -> String {
        self.clients.get(&client).map_or_else(String::new, |client| named(&client.worker, client.pid))
    }
}
