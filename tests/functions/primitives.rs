//! Processes and what they share, without a pipeline.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mpflow::Functions;
use mpflow::multiprocessing::{
    Array, Barrier, Connection, Context, Error, Event, Lock, Process, Queue, RLock, Semaphore, Value, pipe,
};

use crate::support::is_alive;

/// No condition is waited for longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The end of a queue's values.
const END: u64 = u64::MAX;

fn contexts() -> [Context; 3] {
    [Context::spawn(), Context::fork(), Context::forkserver()]
}

/// The functions of the processes here.
pub(crate) fn functions(functions: Functions) -> Functions {
    functions
        .process("put_numbers", |(queue, from, count): (Queue<u64>, u64, u64)| {
            (from..from + count).for_each(|number| queue.put(&number).unwrap());
        })
        .process("relay", |(input, output): (Queue<u64>, Queue<u64>)| {
            while let Ok(number) = input.get() {
                if number == END {
                    break;
                }
                output.put(&(number + 1)).unwrap();
            }
        })
        .process("hold_lock", |(lock, held): (Lock, Event)| {
            let _guard = lock.acquire().unwrap();
            held.set();
            Event::new().unwrap().wait(None);
        })
        .process("hold_permit", |(semaphore, held): (Semaphore, Event)| {
            let _permit = semaphore.acquire().unwrap();
            held.set();
            Event::new().unwrap().wait(None);
        })
        .process("exit_with", |code: i32| std::process::exit(code))
        .process("panic", |text: String| panic!("{text}"))
        .try_process("fail_process", |text: String| Err::<(), _>(text))
        .process("sleep", |(): ()| {
            Event::new().unwrap().wait(None);
        })
        .process("nap", |()| std::thread::sleep(Duration::from_millis(300)))
        .process("shout", |connection: Connection| {
            while let Ok(text) = connection.recv::<String>() {
                connection.send(&text.to_uppercase()).unwrap();
            }
        })
        .process(
            "count_up",
            |(value, array, lock, plain, times): (Value<i64>, Array<u64>, Lock, Value<u64>, u64)| {
                for number in 0..times {
                    value.update(|value| value + 1);
                    array.update(number as usize % array.len(), |element| element + 1);
                    let _guard = lock.acquire().unwrap();
                    plain.set(plain.get() + 1);
                }
            },
        )
        .process("meet", |(barrier, met): (Barrier, Queue<u32>)| {
            for _ in 0..3 {
                met.put(&barrier.wait(Some(DEADLINE)).unwrap()).unwrap();
            }
        })
        .process("wait_for", |(event, told): (Event, Queue<bool>)| {
            told.put(&event.wait(Some(DEADLINE))).unwrap();
        })
        .process("take_and_tell", |(input, output): (Queue<u64>, Queue<(u32, u64)>)| {
            while let Ok(number) = input.get() {
                if number == END {
                    break;
                }
                output.put(&(std::process::id(), number)).unwrap();
                output.flush().unwrap();
            }
        })
}

fn started<A: serde::Serialize>(function: &str, argument: &A) -> Process {
    let mut process = Process::new(function, argument).unwrap();
    process.start().unwrap();
    process
}

#[track_caller]
fn ends_with(process: &Process, code: i32) {
    assert!(process.join(Some(DEADLINE)), "`{}` does not end", process.name());
    assert_eq!(process.exit_code(), Some(code), "`{}`", process.name());
}

pub(crate) fn a_process_calls_its_function_by_every_start_method() {
    for context in contexts() {
        let queue: Queue<u64> = Queue::new().unwrap();
        let mut process = Process::new("put_numbers", &(&queue, 5, 1000)).unwrap().with_context(context);
        assert_eq!((process.pid(), process.exit_code(), process.is_alive()), (None, None, false));
        process.start().unwrap();
        for number in 5..1005 {
            assert_eq!(queue.get_timeout(DEADLINE).unwrap(), number, "{context:?}");
        }
        ends_with(&process, 0);
        assert!(!process.is_alive() && process.pid().is_some());
        assert!(matches!(process.start(), Err(Error::StartedBefore)));
    }
}

pub(crate) fn an_exit_code_is_written_as_python_writes_it() {
    for context in contexts() {
        let run = |process: Process| {
            let mut process = process.with_context(context);
            process.start().unwrap();
            process
        };
        ends_with(&run(Process::new("exit_with", &3).unwrap()), 3);
        ends_with(&run(Process::new("panic", "on purpose").unwrap()), 101);
        ends_with(&run(Process::new("fail_process", "on purpose").unwrap()), 1);
        ends_with(&run(Process::new("exit_with", "no number").unwrap()), 1);
        ends_with(&run(Process::command(["/bin/sh", "-c", "exit 7"])), 7);
        for (end, code) in [(Process::terminate as fn(&Process), -15), (Process::kill, -9)] {
            let process = run(Process::new("sleep", &()).unwrap());
            assert!(!process.join(Some(Duration::from_millis(20))) && process.is_alive());
            end(&process);
            ends_with(&process, code);
        }
    }
}

pub(crate) fn a_process_that_cannot_be_says_why() {
    let unknown = Process::new("put_number", &()).unwrap_err().to_string();
    assert!(unknown.contains("did you mean `put_numbers`?"), "{unknown}");
    let map = Process::new("double", &1).unwrap_err().to_string();
    assert!(map.contains("Functions::process"), "{map}");
    let missing = Process::command(["no-such-program"]).start().unwrap_err().to_string();
    assert!(missing.contains("there is no program `no-such-program`"), "{missing}");
    let outside = serde_json::to_string(&Queue::<u64>::new().unwrap()).unwrap_err().to_string();
    assert!(outside.contains("only in what a `Process` is started with"), "{outside}");
}

pub(crate) fn a_queue_has_many_writers_and_many_readers() {
    const EACH: u64 = 20_000;
    let (input, output) = (Queue::new().unwrap(), Queue::new().unwrap());
    let relays: Vec<_> = (0..2).map(|_| started("relay", &(&input, &output))).collect();
    let writers: Vec<_> = (0..3).map(|n| started("put_numbers", &(&input, n * EACH, EACH))).collect();
    let mut came: Vec<u64> = (0..3 * EACH).map(|_| output.get_timeout(DEADLINE).unwrap()).collect();
    came.sort_unstable();
    assert!(came.into_iter().eq(1..=3 * EACH));
    writers.iter().for_each(|writer| ends_with(writer, 0));
    relays.iter().for_each(|_| input.put(&END).unwrap());
    relays.iter().for_each(|relay| ends_with(relay, 0));
    assert!(matches!(output.try_get(), Err(Error::Empty)));
}

pub(crate) fn a_queue_holds_as_many_values_as_its_capacity() {
    let queue = Queue::with_capacity(3).unwrap();
    assert_eq!((queue.capacity(), queue.len()), (Some(3), 0));
    (0..3).for_each(|number| queue.try_put(&number).unwrap());
    assert_eq!(queue.len(), 3);
    assert!(matches!(queue.try_put(&9), Err(Error::Full)));
    let began = Instant::now();
    assert!(matches!(queue.put_timeout(&9, Duration::from_millis(150)), Err(Error::Full)));
    assert!(began.elapsed() >= Duration::from_millis(150));
    let got: Vec<u64> = (0..3).map(|_| queue.get().unwrap()).collect();
    assert_eq!((got, queue.len()), (vec![0, 1, 2], 0));
    assert!(matches!(queue.get_timeout(Duration::from_millis(10)), Err(Error::Empty)));
    // One that waits for room goes on when there is some.
    let writer = started("put_numbers", &(&queue, 0, 1000));
    (0..1000).for_each(|number| assert_eq!(queue.get_timeout(DEADLINE).unwrap(), number));
    ends_with(&writer, 0);
}

pub(crate) fn a_queue_carries_values_of_any_size() {
    let queue: Queue<Vec<String>> = Queue::new().unwrap();
    for length in [0, 1, 1000, 60_000, 70_000, 5_000_000] {
        let value = vec!["x".repeat(length), "ä".to_owned()];
        queue.put(&value).unwrap();
        assert!(queue.get_timeout(DEADLINE).unwrap() == value, "{length}");
    }
}

pub(crate) fn a_queue_is_joined_when_each_value_is_done() {
    let queue = Queue::new().unwrap();
    assert!(queue.join(Some(Duration::ZERO)));
    (0..3_u64).for_each(|number| queue.put(&number).unwrap());
    for _ in 0..3 {
        assert!(!queue.join(Some(Duration::ZERO)));
        queue.get().unwrap();
        queue.task_done();
    }
    assert!(queue.join(Some(DEADLINE)));
}

pub(crate) fn a_queue_goes_on_when_its_readers_are_killed() {
    let (input, output) = (Queue::with_capacity(4).unwrap(), Queue::<(u32, u64)>::new().unwrap());
    for round in 0..10_u64 {
        let reader = started("take_and_tell", &(&input, &output));
        (0..4).for_each(|number| input.put_timeout(&(round * 10 + number), DEADLINE).unwrap());
        let (pid, _) = output.get_timeout(DEADLINE).unwrap();
        assert_eq!(Some(pid.cast_signed()), reader.pid());
        reader.kill();
        ends_with(&reader, -9);
        // What it had taken along is gone, and its places are free.
        while output.try_get().is_ok() {}
        // What is kept back here would come later than it is waited for on a busy machine.
        input.flush().unwrap();
        while input.get_timeout(Duration::from_millis(1)).is_ok() {}
    }
    // One that was killed in the very moment of counting may have made it smaller until it is empty for a while.
    for number in 0..20 {
        input.put_timeout(&number, DEADLINE).unwrap();
        assert_eq!(input.get_timeout(DEADLINE).unwrap(), number);
    }
}

pub(crate) fn the_lock_of_a_dead_holder_is_free() {
    for context in contexts() {
        let (lock, held) = (Lock::new().unwrap(), Event::new().unwrap());
        let mut holder = Process::new("hold_lock", &(&lock, &held)).unwrap().with_context(context);
        holder.start().unwrap();
        assert!(held.wait(Some(DEADLINE)));
        assert!(lock.try_acquire(Duration::from_millis(50)).unwrap().is_none());
        holder.kill();
        let guard = lock.try_acquire(DEADLINE).unwrap().unwrap();
        assert!(guard.is_inherited());
        assert!(matches!(lock.acquire(), Err(Error::HeldByThisThread)));
        drop(guard);
        assert!(!lock.acquire().unwrap().is_inherited());
    }
    let again = RLock::new().unwrap();
    let _both = (again.acquire().unwrap(), again.acquire().unwrap());
}

pub(crate) fn the_permits_of_dead_holders_are_free() {
    let semaphore = Semaphore::new(2).unwrap();
    let holders: Vec<_> = (0..2)
        .map(|_| {
            let held = Event::new().unwrap();
            let holder = started("hold_permit", &(&semaphore, &held));
            assert!(held.wait(Some(DEADLINE)));
            holder
        })
        .collect();
    assert!(semaphore.try_acquire(Duration::from_millis(50)).unwrap().is_none());
    holders[0].kill();
    let one = semaphore.try_acquire(DEADLINE).unwrap().unwrap();
    assert!(semaphore.try_acquire(Duration::ZERO).unwrap().is_none());
    holders[1].kill();
    let _other = semaphore.acquire().unwrap();
    drop(one);
    let _again = semaphore.try_acquire(Duration::ZERO).unwrap().unwrap();
}

pub(crate) fn values_and_arrays_are_changed_in_one_step() {
    let (value, array) = (Value::new(-5_i64).unwrap(), Array::new(7, 0_u64).unwrap());
    let (lock, plain) = (Lock::new().unwrap(), Value::new(0_u64).unwrap());
    let argument = (&value, &array, &lock, &plain, 7000);
    let processes: Vec<_> = (0..3).map(|_| started("count_up", &argument)).collect();
    processes.iter().for_each(|process| ends_with(process, 0));
    assert_eq!((value.get(), plain.get()), (-5 + 3 * 7000, 3 * 7000));
    assert_eq!(array.to_vec(), [3000; 7]);
    assert!(Value::new(true).unwrap().get() && Array::new(2, 0.5_f64).unwrap().to_vec() == [0.5, 0.5]);
    assert!(Array::new(0, 1_u64).unwrap().is_empty());
}

pub(crate) fn a_barrier_lets_all_parties_go_together() {
    let (barrier, met) = (Barrier::new(3).unwrap(), Queue::new().unwrap());
    let processes: Vec<_> = (0..3).map(|_| started("meet", &(&barrier, &met))).collect();
    processes.iter().for_each(|process| ends_with(process, 0));
    let mut came: Vec<u32> = (0..9).map(|_| met.get_timeout(DEADLINE).unwrap()).collect();
    came.sort_unstable();
    assert_eq!(came, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    assert!(barrier.wait(Some(Duration::from_millis(20))).is_err() && barrier.is_broken());
    assert!(barrier.wait(None).is_err());
    barrier.reset();
    assert!(!barrier.is_broken() && barrier.waiting() == 0);
}

pub(crate) fn an_event_wakes_all_who_wait() {
    let (event, told) = (Event::new().unwrap(), Queue::<bool>::new().unwrap());
    let waiting: Vec<_> = (0..3).map(|_| started("wait_for", &(&event, &told))).collect();
    assert!(!event.wait(Some(Duration::from_millis(20))));
    event.set();
    (0..3).for_each(|_| assert!(told.get_timeout(DEADLINE).unwrap()));
    waiting.iter().for_each(|process| ends_with(process, 0));
    event.clear();
    assert!(!event.is_set());
}

pub(crate) fn a_pipe_connects_two_ends() {
    let (ours, theirs) = pipe(true).unwrap();
    let echo = started("shout", &theirs);
    drop(theirs);
    for text in ["a".to_owned(), "b".repeat(1_000_000)] {
        ours.send(&text).unwrap();
        assert!(ours.poll(Some(DEADLINE)).unwrap());
        assert!(ours.recv::<String>().unwrap() == text.to_uppercase());
    }
    assert!(!ours.poll(Some(Duration::from_millis(10))).unwrap());
    echo.kill();
    assert!(matches!(ours.recv::<String>(), Err(Error::Closed)));
    assert!(matches!(ours.send("x"), Err(Error::Closed)));
    ends_with(&echo, -9);
    let (receiving, sending) = pipe(false).unwrap();
    sending.send_bytes(b"\x00\xff").unwrap();
    sending.send_bytes(b"").unwrap();
    assert_eq!(receiving.recv_bytes().unwrap(), b"\x00\xff");
    assert_eq!(receiving.recv_bytes().unwrap(), b"");
    assert!(matches!(receiving.send(&1), Err(Error::Direction(_))));
    assert!(matches!(sending.recv::<u8>(), Err(Error::Direction(_))));
    drop(sending);
    assert!(matches!(receiving.recv_bytes(), Err(Error::Closed)));
}

/// A program that has started processes: what [`nothing_outlives_the_program`] starts. Says which, and goes on as asked.
pub(crate) fn leave_behind(how: &str) {
    let mut daemon = Process::new("sleep", &()).unwrap().daemon(true);
    daemon.start().unwrap();
    let mut napping = Process::new("nap", &()).unwrap().with_context(Context::fork());
    napping.start().unwrap();
    println!("{} {}", daemon.pid().unwrap(), napping.pid().unwrap());
    if how == "wait" {
        Event::new().unwrap().wait(None);
    }
}

pub(crate) fn nothing_outlives_the_program() {
    for how in ["wait", "return"] {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["leave-behind", how])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert!(is_alive(pids[0]) && pids.len() == 2);
        if how == "wait" {
            program.kill().unwrap();
        }
        let status = program.wait().unwrap();
        // It has waited for what is no daemon; nothing has killed that.
        assert_eq!(status.success(), how == "return");
        assert!(how == "wait" || !is_alive(pids[1]));
        let until = Instant::now() + DEADLINE;
        while pids.iter().any(|&pid| is_alive(pid)) {
            assert!(Instant::now() < until, "{pids:?} live on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
