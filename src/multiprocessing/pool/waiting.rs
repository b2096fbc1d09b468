//! Who waits for which results.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reply::TaskError;

/// Takes the results of the tasks that were given together, each by its place among them.
pub(super) type Taker<Out> = Box<dyn FnMut(u32, Result<Out, TaskError>) + Send>;

/// A task's number, by its job and its place there.
pub(super) fn number(job: u32, place: u32) -> u64 {
    u64::from(job) << 32 | u64::from(place)
}

/// Tasks that were given together.
struct Job<Out> {
    taker: Taker<Out>,
    /// Given and not answered.
    open: usize,
    /// No more will be given.
    is_whole: bool,
}

impl<Out> Job<Out> {
    fn is_done(&self) -> bool {
        self.is_whole && self.open == 0
    }
}

struct State<Out> {
    jobs: HashMap<u32, Job<Out>>,
    next: u32,
    /// Why there will be no more results.
    ended: Option<String>,
}

impl<Out> State<Out> {
    fn change(&mut self, job: u32, change: impl FnOnce(&mut Job<Out>)) {
        if let Some(changed) = self.jobs.get_mut(&job) {
            change(changed);
            if changed.is_done() {
                self.jobs.remove(&job);
            }
        }
    }
}

/// All that waits for results.
pub(super) struct Waiting<Out>(Mutex<State<Out>>);

impl<Out> Waiting<Out> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { jobs: HashMap::new(), next: 0, ended: None }))
    }

    fn lock(&self) -> MutexGuard<'_, State<Out>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job of which no task was given yet. `is_whole`: of one task, which is given next.
    pub(super) fn begin(&self, taker: Taker<Out>, is_whole: bool) -> Result<u32, TaskError> {
        let mut state = self.lock();
        if let Some(why) = &state.ended {
            return Err(TaskError::Ended(why.clone()));
        }
        while state.jobs.contains_key(&state.next) {
            state.next = state.next.wrapping_add(1);
        }
        let job = state.next;
        state.next = state.next.wrapping_add(1);
        state.jobs.insert(job, Job { taker, open: 0, is_whole });
        Ok(job)
    }

    /// A task of this job is about to be given.
    pub(super) fn count(&self, job: u32) -> Result<(), TaskError> {
        let mut state = self.lock();
        let ended = state.ended.clone().unwrap_or_default();
        state.jobs.get_mut(&job).ok_or(TaskError::Ended(ended))?.open += 1;
        Ok(())
    }

    /// It was not given after all.
    pub(super) fn take_back(&self, job: u32) {
        self.lock().change(job, |job| job.open = job.open.saturating_sub(1));
    }

    /// No more tasks will be given for this job.
    pub(super) fn whole(&self, job: u32) {
        self.lock().change(job, |job| job.is_whole = true);
    }

    /// Nobody wants what is still to come of this job.
    pub(super) fn forget(&self, job: u32) {
        self.lock().jobs.remove(&job);
    }

    /// Why there will be no more results.
    pub(super) fn ended(&self) -> Option<String> {
        self.lock().ended.clone()
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Hands a result to whoever waits for it, if anybody does.
    pub(super) fn answer(&self, number: u64, result: Result<Out, TaskError>) {
        let (key, place) = ((number >> 32) as u32, number as u32);
        let mut state = self.lock();
        let Some(job) = state.jobs.get_mut(&key) else { return };
        job.open = job.open.saturating_sub(1);
        if !job.is_done() {
            return (job.taker)(place, result);
        }
        let last = state.jobs.remove(&key);
        // A callback may give the pool another task.
        drop(state);
        if let Some(mut job) = last {
            (job.taker)(place, result);
        }
    }

    /// Nothing more will come: whoever waits is told why, and whoever comes later.
    pub(super) fn end(&self, why: &str) {
        let mut state = self.lock();
        state.ended = Some(why.to_owned());
        let jobs: Vec<Job<Out>> = state.jobs.drain().map(|(_, job)| job).collect();
        drop(state);
        for mut job in jobs {
            for _ in 0..job.open {
                (job.taker)(u32::MAX, Err(TaskError::Ended(why.to_owned())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    type Told = mpsc::Receiver<(u32, Result<char, TaskError>)>;

    fn job(waiting: &Waiting<char>, is_whole: bool, tasks: usize) -> (u32, Told) {
        let (sender, told) = mpsc::channel();
        let job = waiting
            .begin(Box::new(move |place, result| sender.send((place, result)).unwrap()), is_whole)
            .unwrap();
        (0..tasks).for_each(|_| waiting.count(job).unwrap());
        (job, told)
    }

    #[test]
    fn each_result_goes_to_its_job_until_that_has_all() {
        let waiting = Waiting::new();
        let ((first, told), (second, other)) = (job(&waiting, false, 2), job(&waiting, true, 1));
        waiting.answer(number(second, 0), Ok('x'));
        waiting.answer(number(first, 1), Ok('b'));
        waiting.whole(first);
        assert_eq!(waiting.len(), 1);
        waiting.answer(number(first, 0), Ok('a'));
        assert_eq!(waiting.len(), 0);
        // The takers are gone, so that both ends are known.
        assert_eq!(told.iter().collect::<Vec<_>>(), [(1, Ok('b')), (0, Ok('a'))]);
        assert_eq!(other.iter().collect::<Vec<_>>(), [(0, Ok('x'))]);
    }

    #[test]
    fn a_task_that_could_not_be_given_is_not_waited_for() {
        let waiting = Waiting::new();
        let (whole, told) = job(&waiting, true, 1);
        waiting.take_back(whole);
        assert_eq!((waiting.len(), told.iter().count()), (0, 0));
        let (open, _told) = job(&waiting, false, 1);
        waiting.take_back(open);
        assert_eq!(waiting.len(), 1, "more may be given");
        waiting.forget(open);
        assert!(waiting.count(open).is_err());
    }

    #[test]
    fn the_last_result_finds_the_pool_unlocked() {
        let waiting = Arc::new(Waiting::new());
        let again = Arc::clone(&waiting);
        let taker: Taker<char> = Box::new(move |_, _| assert_eq!(again.len(), 0));
        let only = waiting.begin(taker, true).unwrap();
        waiting.count(only).unwrap();
        waiting.answer(number(only, 0), Ok('x'));
    }

    #[test]
    fn the_end_is_told_for_each_task_and_to_whoever_comes_later() {
        let waiting = Waiting::new();
        let (_, told) = job(&waiting, false, 3);
        waiting.end("it burns");
        let ended = || TaskError::Ended("it burns".to_owned());
        assert!(told.iter().map(|(_, result)| result).eq(vec![Err(ended()); 3]));
        assert_eq!(waiting.begin(Box::new(|_, _| ()), true), Err(ended()));
        assert_eq!(waiting.ended().unwrap(), "it burns");
    }
}
