//! An iterator that gives tasks and takes their results.

use std::collections::HashMap;
use std::fmt;

use crossbeam_channel::{Receiver, unbounded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reply::TaskError;
use super::workers::Pool;

/// Tasks that an iterator of results is ahead of whoever takes them.
const AHEAD: usize = 1 << 14;

/// The results of many tasks: see [`Pool::imap`]. Dropped, it takes no more of them; those that were given are done all the
/// same.
pub struct Tasks<'p, I, In, Out> {
    pool: &'p Pool<In, Out>,
    tasks: Option<I>,
    job: Result<u32, TaskError>,
    came: Receiver<(u32, Result<Out, TaskError>)>,
    /// How many, modulo 2³²: nobody holds so many at once.
    given: u32,
    taken: u32,
    /// Results that came before their turn; `None` where each is taken when it comes.
    early: Option<HashMap<u32, Result<Out, TaskError>>>,
}

impl<'p, I, In, Out> Tasks<'p, I, In, Out>
where
    I: Iterator<Item = In>,
    In: Serialize,
    Out: DeserializeOwned + Send + 'static,
{
    pub(super) fn new(pool: &'p Pool<In, Out>, tasks: I, is_ordered: bool) -> Self {
        let (sender, came) = unbounded();
        let job = pool.begin(Box::new(move |place, result| drop(sender.send((place, result)))), false);
        let early = is_ordered.then(HashMap::new);
        Self { pool, tasks: Some(tasks), job, came, given: 0, taken: 0, early }
    }

    /// Gives tasks ahead. An error stands for the task that could not be given, which is the last.
    fn feed(&mut self, job: u32) -> Result<(), TaskError> {
        let ahead = self.given.wrapping_sub(self.taken) as usize;
        if ahead > AHEAD / 2 {
            return Ok(());
        }
        for _ in ahead..AHEAD {
            let Some(tasks) = &mut self.tasks else { return Ok(()) };
            let Some(task) = tasks.next() else {
                self.end(job);
                return Ok(());
            };
            if let Err(error) = self.pool.give(job, self.given, task) {
                self.end(job);
                return Err(error);
            }
            self.given = self.given.wrapping_add(1);
        }
        Ok(())
    }

    fn end(&mut self, job: u32) {
        self.tasks = None;
        self.pool.waiting.whole(job);
    }
}

impl<I, In, Out> Iterator for Tasks<'_, I, In, Out>
where
    I: Iterator<Item = In>,
    In: Serialize,
    Out: DeserializeOwned + Send + 'static,
{
    type Item = Result<Out, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let job = match &self.job {
            Ok(job) => *job,
            Err(error) => {
                let error = error.clone();
                return self.tasks.take().map(|_| Err(error));
            }
        };
        if let Err(error) = self.feed(job) {
            return Some(Err(error));
        }
        if self.taken == self.given {
            return None;
        }
        let next = self.taken;
        self.taken = self.taken.wrapping_add(1);
        loop {
            if let Some(early) = &mut self.early
                && let Some(result) = early.remove(&next)
            {
                return Some(result);
            }
            match (self.came.recv(), &mut self.early) {
                (Err(_), _) => {
                    let why = self.pool.waiting.ended();
                    return Some(Err(TaskError::Ended(why.unwrap_or_default())));
                }
                (Ok((place, result)), Some(early)) if place != next => drop(early.insert(place, result)),
                (Ok((_, result)), _) => return Some(result),
            }
        }
    }
}

impl<I, In, Out> Drop for Tasks<'_, I, In, Out> {
    fn drop(&mut self) {
        if let (Ok(job), Some(_)) = (&self.job, &self.tasks) {
            self.pool.waiting.forget(*job);
        }
    }
}

impl<I, In, Out> fmt::Debug for Tasks<'_, I, In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("given", &self.given)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
