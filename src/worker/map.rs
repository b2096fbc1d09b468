//! `map` mode: leased records in, answers out.

use super::context::Worker;
use super::cursor::Cursor;
use super::failure::{Failure, caught};
use super::functions::Call;
use super::input::Inlet;
use crate::ipc::RecordsHeader;
use crate::model::Format;

/// The exit of a worker whose function has panicked: what Rust programs end with then.
pub(super) const PANICKED: i32 = 101;

/// Answers records until there are no more.
pub(super) fn run(
    worker: &'static Worker,
    inlet: &mut Inlet,
    function: &mut Call,
    is_batch: bool,
) -> Result<(), Failure> {
    let format = inlet.format;
    loop {
        let unread = inlet.unread();
        let header = RecordsHeader::read(unread);
        match header.filter(|header| header.bytes <= unread.len()) {
            Some(header) => {
                let frame = &unread[header.body..header.bytes];
                if !work(worker, format, frame, header, function, is_batch)? {
                    worker.post().leaving();
                    inlet.exhaust(worker.control());
                    std::process::exit(PANICKED);
                }
                inlet.pass(header.bytes);
            }
            None => {
                inlet.wait(worker.control());
                let more = inlet.read(header.map_or(0, |header| header.bytes)).map_err(|error| {
                    Failure::undecodable(format!("cannot read the leased records: {error}"))
                })?;
                if !more {
                    // Half a frame is all that is left of an engine that was killed.
                    return if inlet.unread().is_empty() { Ok(()) } else { std::process::exit(1) };
                }
            }
        }
    }
}

/// Works on one frame. `false`: the function has panicked, and is not to be called again.
fn work(
    worker: &'static Worker,
    format: Format,
    frame: &[u8],
    header: RecordsHeader,
    function: &mut Call,
    is_batch: bool,
) -> Result<bool, Failure> {
    let post = worker.post();
    let mut cursor = Cursor::new(format, frame);
    if cursor.len() != header.records as usize {
        return Err(Failure::undecodable(format!(
            "{} records came where {} were announced",
            cursor.len(),
            header.records
        )));
    }
    while !cursor.is_at_end() {
        let at = cursor.position();
        // Should this be its last attempt, and end with the worker, nobody else could say what it was.
        if header.is_alone || header.attempt > 1 {
            post.about(&cursor.shown(at));
        }
        match caught(|| function(&mut cursor)) {
            Ok(()) if is_batch => post.batch_done(header.records),
            Ok(()) => post.record_done(!cursor.is_at_end()),
            Err(failure) if failure.is_answered => {
                post.record_done(false);
                return Ok(false);
            }
            Err(mut failure) => {
                failure.record = Some(cursor.shown(at));
                post.record_failed(&failure);
                if failure.is_panic {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}
