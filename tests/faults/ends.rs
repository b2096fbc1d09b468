//! Ends of workers and of runs: a thousand at once, ten thousand restarts, storms of signals, a stop in every state.

mod exits;
mod many;
mod stops;
mod storms;
