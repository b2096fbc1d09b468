//! What is said of the objects: to clients, to whoever asks why a run stands still, and at its end.

use std::time::Instant;

use serde_json::{Value as Json, json};

use super::{Answer, Arbiter, ClientId, Object, Permits, State, named};
use crate::report::{SharedReport, SharedState};
use crate::shared::memory::{Place, Words};
use crate::shared::protocol::{ObjectInfo, Stored, VERSION};

/// Elements of an array in the report at most; that there are more is seen from its length.
const MOST_REPORTED: u64 = 1 << 16;

/// Waiting clients that are named.
const MOST_NAMED: usize = 4;

impl Arbiter {
    pub(super) fn welcome(&self) -> Answer {
        let objects: Vec<ObjectInfo> = self.objects.iter().map(|object| self.info(object)).collect();
        Answer::Done(json!({"protocol": VERSION, "objects": objects}).to_string())
    }

    fn info(&self, object: &Object) -> ObjectInfo {
        let place = self.layout.place(&object.name);
        ObjectInfo {
            name: object.name.clone(),
            kind: object.state.kind(&object.name, &self.layout).to_owned(),
            element: place.map(|place| place.element.name().to_owned()),
            offset: place.map(|place| place.offset),
            length: place.and_then(|place| place.length),
        }
    }

    pub(super) fn list(&self) -> Answer {
        Answer::value((0..self.objects.len()).map(|object| self.state(object)).collect::<Vec<_>>())
    }

    /// What an object is and how it stands, but for what lies in memory and in dictionaries.
    pub(super) fn state(&self, object: usize) -> Json {
        let object = &self.objects[object];
        let mut state = json!({
            "name": object.name,
            "kind": object.state.kind(&object.name, &self.layout),
        });
        let more = match &object.state {
            State::Memory => {
                let place = self.layout.place(&object.name);
                json!({"element": place.map(|place| place.element.name()), "length": place.and_then(|place| place.length)})
            }
            State::Lock(permits) | State::Semaphore(permits) => json!({
                "permits": permits.total(),
                "free": permits.free(),
                "held_by": permits.holders().map(|(client, _)| self.worker_of(client)).collect::<Vec<_>>(),
                "waiting": permits.queue().count(),
            }),
            State::Event { is_set, waiting } => json!({"is_set": is_set, "waiting": waiting.len()}),
            State::Barrier(barrier) => json!({
                "parties": barrier.parties(),
                "waiting": barrier.waiting().len(),
                "rounds": barrier.rounds(),
                "broken": barrier.broken(),
            }),
            State::Dict(dict) => json!({"len": dict.entries().count()}),
        };
        if let (Json::Object(state), Json::Object(more)) = (&mut state, more) {
            state.extend(more.into_iter().filter(|(key, value)| key == "broken" || !value.is_null()));
        }
        state
    }

    fn worker_of(&self, client: ClientId) -> &str {
        self.clients.get(&client).map_or("", |client| client.worker.as_str())
    }

    /// Who holds what and who waits for it; a line for each object of which there is something to say.
    pub(crate) fn explain(&self, now: Instant) -> Vec<String> {
        self.objects.iter().filter_map(|object| self.explain_object(object, now)).collect()
    }

    fn explain_object(&self, object: &Object, now: Instant) -> Option<String> {
        let name = &object.name;
        let waits = |clients: Vec<ClientId>| {
            let verb = if clients.len() == 1 { "waits" } else { "wait" };
            (!clients.is_empty()).then(|| format!("{} {verb}", self.named_with_time(&clients, now)))
        };
        match &object.state {
            State::Memory | State::Dict(_) => None,
            State::Lock(permits) | State::Semaphore(permits) => {
                let waiting = waits(permits.queue().collect()).map(|waiting| format!(" {waiting} for it"));
                if waiting.is_none() && permits.free() == permits.total() {
                    return None;
                }
                let kind = object.state.kind(name, &self.layout);
                let holders = self.holders(permits);
                let waiting = waiting.map(|waiting| format!(";{waiting}")).unwrap_or_default();
                Some(match &object.state {
                    State::Lock(_) => format!("{kind} `{name}` is held by {holders}{waiting}"),
                    _ => {
                        let (free, total) = (permits.free(), permits.total());
                        format!(
                            "{kind} `{name}` has {free} of {total} permits free, held by {holders}{waiting}"
                        )
                    }
                })
            }
            State::Event { is_set, waiting } => {
                let state = if *is_set { "is set" } else { "is not set" };
                waits(waiting.clone()).map(|waiting| format!("event `{name}` {state}; {waiting} for it"))
            }
            State::Barrier(barrier) => {
                let parties = barrier.parties();
                let waiting = barrier.waiting();
                match barrier.broken() {
                    Some(why) => Some(format!("barrier `{name}` is broken: {why}")),
                    None => waits(waiting.to_vec()).map(|text| {
                        format!(
                            "barrier `{name}` has {} of {parties} parties: {text} for the others",
                            waiting.len()
                        )
                    }),
                }
            }
        }
    }

    fn holders(&self, permits: &Permits) -> String {
        let holders: Vec<String> = permits
            .holders()
            .take(MOST_NAMED)
            .map(|(client, count)| match count {
                1 => self.name_of(client),
                count => format!("{} ×{count}", self.name_of(client)),
            })
            .collect();
        let more = permits.holders().count() - holders.len();
        let end = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{end}", holders.join(", "))
    }

    fn named_with_time(&self, clients: &[ClientId], now: Instant) -> String {
        let name = |&client: &ClientId| {
            let client = self.clients.get(&client)?;
            let since = now.saturating_duration_since(client.waits?.since).as_secs();
            let who = named(&client.worker, client.pid);
            Some(if since > 0 { format!("{who} since {since} s") } else { who })
        };
        let mut names: Vec<String> = clients.iter().take(MOST_NAMED).filter_map(name).collect();
        if clients.len() > MOST_NAMED {
            names.push(format!("{} more", clients.len() - MOST_NAMED));
        }
        names.join(", ")
    }

    // ---- the end

    /// The last values. Everybody is gone, or treated as if.
    pub(crate) fn report(&mut self, memory: &dyn Words) -> Vec<SharedReport> {
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            // Nobody is left to be told.
            let _ = self.gone(client);
        }
        let state = |object: &Object| match &object.state {
            State::Memory => self.layout.place(&object.name).map(|place| numbers(place, memory)),
            State::Lock(permits) => Some(SharedState::Lock {
                held_by: permits.left_by().next().map(ToOwned::to_owned),
                acquired: permits.acquired(),
                abandoned: permits.abandoned(),
            }),
            State::Semaphore(permits) => Some(SharedState::Semaphore {
                permits: permits.total(),
                held_by: permits.left_by().map(ToOwned::to_owned).collect(),
                acquired: permits.acquired(),
                abandoned: permits.abandoned(),
            }),
            State::Event { is_set, .. } => Some(SharedState::Event { is_set: *is_set }),
            State::Barrier(barrier) => Some(SharedState::Barrier {
                parties: barrier.parties(),
                rounds: barrier.rounds(),
                broken: barrier.broken().map(ToOwned::to_owned),
            }),
            State::Dict(dict) => Some(SharedState::Dict {
                entries: dict.entries().map(|(key, value)| (key.to_owned(), reported(value))).collect(),
            }),
        };
        self.objects
            .iter()
            .filter_map(|object| Some(SharedReport { name: object.name.clone(), state: state(object)? }))
            .collect()
    }
}

fn numbers(place: &Place, memory: &dyn Words) -> SharedState {
    let element = place.element.name().to_owned();
    let read = |index: u64| {
        let word = place.word(index).ok().and_then(|position| memory.word(position).ok());
        word.map_or(Json::Null, |word| place.element.to_json(word))
    };
    match place.length {
        None => SharedState::Value { element, value: read(0) },
        Some(length) => {
            SharedState::Array { element, length, values: (0..length.min(MOST_REPORTED)).map(read).collect() }
        }
    }
}

fn reported(value: &Stored) -> Json {
    match value {
        Stored::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        Stored::Pickle(text) => json!({"pickle_bytes": text.len() / 4 * 3}),
    }
}
