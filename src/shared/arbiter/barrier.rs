//! Barriers: so many parties wait for each other, round after round.

use std::collections::BTreeSet;

use super::ClientId;

/// A barrier, as Python's `threading.Barrier` is.
#[derive(Debug)]
pub(super) struct Barrier {
    parties: u64,
    /// Rounds that were completed.
    rounds: u64,
    /// In the order of their arrival.
    waiting: Vec<ClientId>,
    /// Why, from when it broke until it is reset.
    broken: Option<String>,
    /// The workers that have waited at it.
    members: BTreeSet<String>,
}

/// What came of an arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It was the last: all of these go on, in the order of their arrival.
    Complete(Vec<ClientId>),
    Waits,
    Broken(String),
}

impl Barrier {
    pub(super) fn new(parties: u64) -> Self {
        Self { parties, rounds: 0, waiting: Vec::new(), broken: None, members: BTreeSet::new() }
    }

    pub(super) fn parties(&self) -> u64 {
        self.parties
    }

    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    pub(super) fn waiting(&self) -> &[ClientId] {
        &self.waiting
    }

    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(super) fn has_member(&self, worker: &str) -> bool {
        self.members.contains(worker)
    }

    pub(super) fn wait(&mut self, client: ClientId, worker: &str) -> Arrived {
        if let Some(why) = &self.broken {
            return Arrived::Broken(why.clone());
        }
        if !self.members.contains(worker) {
            self.members.insert(worker.to_owned());
        }
        self.waiting.push(client);
        if (self.waiting.len() as u64) < self.parties {
            return Arrived::Waits;
        }
        self.rounds += 1;
        Arrived::Complete(std::mem::take(&mut self.waiting))
    }

    /// Takes one out that is told by other means.
    pub(super) fn take_out(&mut self, client: ClientId) {
        self.waiting.retain(|&other| other != client);
    }

    /// Breaks it, and says whom this concerns.
    pub(super) fn break_since(&mut self, why: &str) -> Vec<ClientId> {
        self.broken.get_or_insert_with(|| why.to_owned());
        std::mem::take(&mut self.waiting)
    }

    /// Makes it whole again; those who wait at it now do so in vain.
    pub(super) fn reset(&mut self) -> Vec<ClientId> {
        self.broken = None;
        std::mem::take(&mut self.waiting)
    }
}
