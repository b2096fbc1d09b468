//! Locks and semaphores: permits, whoever holds them, and whoever waits, first come, first served.

use std::collections::{BTreeMap, VecDeque};

use super::ClientId;

/// A lock is a semaphore of one permit.
#[derive(Debug)]
pub(super) struct Permits {
    total: u64,
    free: u64,
    /// How many each holds, never 0.
    holders: BTreeMap<ClientId, u64>,
    queue: VecDeque<ClientId>,
    acquired: u64,
    abandoned: u64,
    /// Whose permits came back since they were gone, and were not taken again.
    left_by: VecDeque<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquired {
    Now,
    /// It stands in the queue.
    Waits,
    /// It did not want to wait.
    No,
    /// It holds all permits itself: it would wait for ever.
    HeldByItself,
}

impl Permits {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            free: total,
            holders: BTreeMap::new(),
            queue: VecDeque::new(),
            acquired: 0,
            abandoned: 0,
            left_by: VecDeque::new(),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn acquired(&self) -> u64 {
        self.acquired
    }

    pub(super) fn abandoned(&self) -> u64 {
        self.abandoned
    }

    pub(super) fn left_by(&self) -> impl Iterator<Item = &str> {
        self.left_by.iter().map(String::as_str)
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = (ClientId, u64)> {
        self.holders.iter().map(|(&client, &count)| (client, count))
    }

    pub(super) fn queue(&self) -> impl Iterator<Item = ClientId> {
        self.queue.iter().copied()
    }

    pub(super) fn acquire(&mut self, client: ClientId, may_wait: bool) -> Acquired {
        if self.holders.get(&client) == Some(&self.total) {
            return Acquired::HeldByItself;
        }
        // Nobody overtakes those who wait.
        if self.free > 0 && self.queue.is_empty() {
            self.grant(client);
            return Acquired::Now;
        }
        if !may_wait {
            return Acquired::No;
        }
        self.queue.push_back(client);
        Acquired::Waits
    }

    /// Gives one permit back, and says who has got it; `Err`: this client holds none.
    pub(super) fn release(&mut self, client: ClientId) -> Result<Option<ClientId>, ()> {
        let held = self.holders.get_mut(&client).ok_or(())?;
        *held -= 1;
        if *held == 0 {
            self.holders.remove(&client);
        }
        self.free += 1;
        Ok(self.pass_on())
    }

    /// Does not wait any more.
    pub(super) fn give_up(&mut self, client: ClientId) {
        self.queue.retain(|&other| other != client);
    }

    /// Neither waits nor holds any more; says who has got what it held.
    pub(super) fn gone(&mut self, client: ClientId, who: &str) -> Vec<ClientId> {
        self.give_up(client);
        let held = self.holders.remove(&client).unwrap_or(0);
        self.free += held;
        self.abandoned += held;
        self.left_by.extend((0..held).map(|_| who.to_owned()));
        (0..held).filter_map(|_| self.pass_on()).collect()
    }

    fn pass_on(&mut self) -> Option<ClientId> {
        let next = self.queue.pop_front()?;
        self.grant(next);
        Some(next)
    }

    fn grant(&mut self, client: ClientId) {
        self.free -= 1;
        self.acquired += 1;
        self.left_by.pop_front();
        *self.holders.entry(client).or_default() += 1;
    }
}
