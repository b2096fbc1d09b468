//! Queues between any number of processes.
//!
//! # Theory of operation
//!
//! Values travel in packets ([`packet`](super::packet)), several in one where they are many: a put is some ten
//! nanoseconds then, and not a system call. What is put is kept back only while the kernel's queue has something else
//! for its readers; when a reader finds nothing it says so in shared memory, and what was kept back is sent by a thread that
//! waits for that. How much one packet has is measured by whoever reads: as many values as it is through with in
//! half a millisecond, so that slow readers get one by one and share evenly.
//!
//! The counters in shared memory steer; what was sent is in the kernel, and no death of a process loses or doubles it.
//!
//! | file | part |
//! |---|---|
//! | `handle` | what a program has of it, by the type of its values |
//! | `shared` | the descriptors and the counters that all its processes share |
//! | `sending` | coded values into packets, and packets into the kernel |
//! | `receiving` | packets from the kernel, and the values in them |

mod handle;
mod receiving;
mod sending;
mod shared;

pub use handle::Queue;
