//! Handles that were made up: what a process is started with may come from a program of another build.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

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
fn a_program_without_init_is_told_the_line_to_add_and_not_that_its_function_is_unknown() {
    let line = "call `mpflow::init(&functions)` first thing in `main`";
    let pool = Pool::<u64, u64>::new("square").unwrap_err().to_string();
    let process = Process::new("square", &1).unwrap_err().to_string();
    assert!(pool.contains(line) && process.contains(line), "{pool}; {process}");
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

/// Puts values of 4 KiB until the kernel's queue is full, which nobody gets from.
fn full() -> Queue<String> {
    let queue: Queue<String> = Queue::new().unwrap();
    let value = "x".repeat(4 << 10);
    while queue.try_put(&value).is_ok() {}
    queue
}

#[test]
fn whoever_waits_at_a_queue_holds_up_nobody_with_less_patience() {
    let queue: Queue<u64> = Queue::new().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| queue.get().unwrap());
        while !queue.is_awaited() {
            std::thread::yield_now();
        }
        assert!(matches!(queue.try_get(), Err(Error::Empty)));
        let soon = Duration::from_millis(10);
        assert!(matches!(queue.get_timeout(soon), Err(Error::Empty)));
        queue.put(&7).unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
    let queue = full();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| queue.put(&"y".repeat(40 << 10)));
        // What was put and has no room yet is sent by a thread of its own, which waits as well.
        assert!(matches!(
            queue.put_timeout(&"z".repeat(40 << 10), Duration::from_millis(10)),
            Err(Error::Full)
        ));
        while let Ok(value) = queue.get_timeout(Duration::from_secs(1)) {
            if value.starts_with('y') {
                break;
            }
        }
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn each_of_many_threads_that_wait_gets_a_value() {
    let queue: Queue<u64> = Queue::new().unwrap();
    for round in 0..50 {
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| queue.get().unwrap())).collect();
            // Often in one packet: then one thread takes it, and the others learn of what is left in it.
            (0..4).for_each(|number| queue.put(&(round * 4 + number)).unwrap());
            let mut got: Vec<u64> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
            got.sort_unstable();
            assert_eq!(got, (round * 4..round * 4 + 4).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_full_queue_that_nobody_else_has_is_dropped_without_waiting() {
    let queue = full();
    // Neither does the argument of a process wait for room.
    let mut coded = Vec::new();
    drop(giving(|| encode(Format::Msgpack, &queue, &mut coded)));
    drop(queue.clone());
    drop(queue);
}

#[test]
fn waiting_for_a_queue_to_be_done_ends_in_time_where_it_is_full() {
    assert!(!full().join(Some(Duration::from_millis(10))));
}
