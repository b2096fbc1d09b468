//! Processes, queues, pipes, locks and what else Python's `multiprocessing` has, without a pipeline.
//!
//! | Python | here |
//! |---|---|
//! | `get_context("spawn")` | [`Context::spawn`], [`Context::fork`], [`Context::forkserver`] |
//! | `Process(target=f, args=(x,), name=…, daemon=…)` | [`Process::new`]`("f", &x)`, of a function registered by [`Functions::process`](crate::Functions::process), or [`Process::command`] |
//! | `start`, `join(timeout)`, `is_alive`, `pid`, `exitcode`, `terminate`, `kill` | the same, `exit_code` |
//! | `Queue(maxsize)`, `JoinableQueue` | [`Queue`] |
//! | `Pipe(duplex)` | [`pipe`], two [`Connection`]s |
//! | `Lock`, `RLock`, `Semaphore` | [`Lock`], [`RLock`], [`Semaphore`], by guards; a dead holder's are free again |
//! | `Pool(width, initializer, …, maxtasksperchild)` | [`Pool::builder`]`("f").width(4)`, of one registered function; what its state is made by is the initializer |
//! | `apply`, `map`, `imap`, `imap_unordered`, `map_async` | the same |
//! | `apply_async(f, args, callback=…)` | [`Pool::apply_async`], or [`Pool::apply_with`] a callback |
//! | `starmap` | `map`, of a function that takes a tuple |
//! | `chunksize` | chosen while the tasks are done; [`PoolBuilder::prefetch`] |
//! | `AsyncResult.get(timeout)`, `ready()` | [`Unfinished::get`], [`Unfinished::is_ready`] |
//! | `close`, `terminate`, `join` of a pool | the same |
//! | `Event`, `Barrier` | [`Event`], [`Barrier`] |
//! | `Value`, `Array` | [`Value`], [`Array`] |
//!
//! The program calls [`init`](crate::init) with its functions first thing in `main`. A queue, a lock or any other handle
//! reaches a process as part of its argument, as in Python:
//!
//! ```no_run
//! use mpflow::multiprocessing::{Process, Queue};
//! use mpflow::Functions;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let functions = Functions::new().process("squares", |(queue, count): (Queue<u64>, u64)| {
//!         (0..count).for_each(|number| queue.put(&(number * number)).expect("somebody reads"));
//!     });
//!     mpflow::init(&functions);
//!
//!     let queue = Queue::<u64>::new()?;
//!     let mut process = Process::new("squares", &(&queue, 10))?;
//!     process.start()?;
//!     for _ in 0..10 {
//!         println!("{}", queue.get()?);
//!     }
//!     process.join(None);
//!     assert_eq!(process.exit_code(), Some(0));
//!     Ok(())
//! }
//! ```
//!
//! All processes are started by one launcher for each start method, as those of a run are: nothing that they or their own
//! children do outlives this program, however it ends.

mod barrier;
mod connection;
mod context;
mod error;
mod event;
mod lock;
mod memory;
mod packet;
mod pool;
mod process;
mod queue;
mod starter;
#[cfg(test)]
mod tests;
mod value;

pub use barrier::{Barrier, BarrierError};
pub use connection::{Connection, pipe};
pub use context::Context;
pub use error::Error;
pub use event::Event;
pub use lock::{Guard, Lock, RLock, Semaphore};
pub use pool::{Pool, PoolBuilder, TaskError, Tasks, Unfinished};
pub use process::Process;
pub use queue::Queue;
pub use value::{Array, Number, Value};
