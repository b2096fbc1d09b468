//! Pools of workers.
//!
//! A pool is a run of one stage, and its tasks are records: what is leased to a worker that dies goes to another, once
//! more and not twice. A task travels with a number, and its result or its error comes back with that; a task that has killed
//! every worker that was given it comes back by the stage's `failed`. One thread takes what comes back and gives it to
//! whoever waits for it.
//!
//! | file | part |
//! |---|---|
//! | `workers` | the pool itself: tasks on their way to the workers |
//! | `start` | what a pool is to be, and the run that it is |
//! | `waiting` | who waits for which results |
//! | `dispatcher` | the thread that takes results |
//! | `reply` | what comes back for a task |
//! | `tasks` | an iterator that gives tasks and takes their results |
//! | `unfinished` | a result that may still be on its way |

mod dispatcher;
mod reply;
mod start;
mod tasks;
mod unfinished;
mod waiting;
mod workers;

pub use reply::TaskError;
pub use start::PoolBuilder;
pub use tasks::Tasks;
pub use unfinished::Unfinished;
pub use workers::Pool;
