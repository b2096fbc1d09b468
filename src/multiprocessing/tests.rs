//! Handles that were made up: what a process is started with may come from a program of another build.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;

use super::*;
use crate::ipc::{decode, encode, giving, taking};
use crate::model::Format;

/// This argument, with these descriptors instead of its own.
fn came<T: DeserializeOwned>(argument: &impl serde::Serialize, fds: Vec<OwnedFd>) -> Result<T, String> {
    let mut coded = Vec::new();
    giving(|| encode(Format::Msgpack, argument, &mut coded)).0.unwrap();
    taking(fds, || decode(Format::Msgpack, &coded)).map_err(|error| error.to_string())
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Memory that whoever made it could cut short.
fn unsealed() -> OwnedFd {
    let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(4096).unwrap();
    file.into()
}

/// Sealed memory with room for so many words.
fn memory(words: u64) -> OwnedFd {
    crate::sys::words::create(words * 8).unwrap().into()
}

#[test]
fn a_handle_whose_descriptors_are_something_else_is_refused() {
    let event = Event::new().unwrap();
    let array = Array::new(3, 1_u64).unwrap();
    let lock = Lock::new().unwrap();
    let barrier = Barrier::new(2).unwrap();
    for make in [null, unsealed] {
        assert!(came::<Event>(&event, vec![make()]).is_err());
        assert!(came::<Array<u64>>(&array, vec![make()]).is_err());
        assert!(came::<Lock>(&lock, vec![make()]).is_err());
        assert!(came::<Barrier>(&barrier, vec![make()]).is_err());
    }
    assert!(came::<Lock>(&lock, vec![memory(2)]).unwrap_err().contains("too short to hold a lock"));
    assert!(came::<Barrier>(&barrier, vec![memory(2)]).is_err());
    assert!(came::<Value<u64>>(&event, vec![memory(1)]).is_err());
    let queue: Queue<u64> = Queue::new().unwrap();
    assert!(came::<Queue<u64>>(&queue, vec![memory(7), null(), null()]).unwrap_err().contains("no queue's"));
    assert!(came::<Queue<u64>>(&queue, vec![memory(7)]).unwrap_err().contains("did not come"));
    let (one, _other) = pipe(true).unwrap();
    assert!(came::<Connection>(&one, vec![null()]).is_err());
}

#[test]
fn a_handle_that_nothing_came_with_is_refused() {
    let mut coded = Vec::new();
    let event = Event::new().unwrap();
    giving(|| encode(Format::Msgpack, &event, &mut coded)).0.unwrap();
    let error = decode::<Event>(Format::Msgpack, &coded).unwrap_err().to_string();
    assert!(error.contains("no descriptors came"), "{error}");
    assert!(encode(Format::Msgpack, &event, &mut coded).is_err());
}

#[test]
fn two_handles_of_one_argument_do_not_take_each_others_descriptors() {
    let (first, second) = (Value::new(1_u64).unwrap(), Value::new(2_u64).unwrap());
    let mut coded = Vec::new();
    let (_, fds) = giving(|| encode(Format::Msgpack, &(&first, &second, &first), &mut coded));
    type Three = (Value<u64>, Value<u64>, Value<u64>);
    let (a, b, c): Three = taking(fds, || decode(Format::Msgpack, &coded)).unwrap();
    first.set(7);
    assert_eq!((a.get(), b.get(), c.get()), (7, 2, 7));
}

#[test]
fn a_packet_that_is_torn_is_said_to_be() {
    let queue: Queue<u64> = Queue::new().unwrap();
    // Somebody else's bytes: a length beyond the end, and no length at all.
    for packet in [&[1_u8, 9, 0, 0, 0, 1][..], &[1, 1]] {
        let mut coded = Vec::new();
        let (_, fds) = giving(|| encode(Format::Msgpack, &queue, &mut coded));
        crate::sys::message::send(std::os::fd::AsFd::as_fd(&fds[1]), packet, &[], false).unwrap();
        assert!(matches!(queue.get(), Err(Error::Garbled)));
    }
    queue.put(&5).unwrap();
    assert_eq!(queue.get().unwrap(), 5);
}
