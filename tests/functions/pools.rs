//! Pools of workers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use mpflow::Functions;
use mpflow::multiprocessing::{Context, Pool, TaskError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::children;

const DEADLINE: Option<Duration> = Some(Duration::from_secs(30));

/// The functions of the pools here.
pub(crate) fn functions(functions: Functions) -> Functions {
    functions
        .map("square", |number: u64| number * number)
        .map("nothing_at_all", |_: u64| ())
        .map("product", |(a, b): (u64, u64)| a * b)
        .try_map("half", |number: u64| {
            assert!(number != 13, "unlucky");
            if number % 2 == 1 { Err(format!("{number} is odd")) } else { Ok(number / 2) }
        })
        .map("die", |number: u64| {
            if number == 7 {
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
            number
        })
        .map("pid", |_: u64| {
            std::thread::sleep(Duration::from_millis(2));
            std::process::id()
        })
        .map("once_there", |path: String| {
            while !path.is_empty() && !std::path::Path::new(&path).exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .map_with("dies_at_start", || kill(Pid::this(), Signal::SIGKILL), |(), number: u64| number)
        .map("for_ever", |_: u64| std::thread::sleep(Duration::from_secs(3600)))
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(|number| number * number).collect()
}

pub(crate) fn a_pool_does_tasks_by_every_start_method() {
    for context in [Context::spawn(), Context::fork(), Context::forkserver()] {
        let pool: Pool<u64, u64> =
            Pool::<u64, u64>::builder("square").width(2).context(context).start().unwrap();
        assert_eq!(pool.apply(12), Ok(144));
        assert_eq!(pool.map(0..1000).unwrap(), squares(1000));
        pool.join().unwrap();
    }
}

pub(crate) fn results_come_in_order_or_as_they_come() {
    let pool = Pool::<u64, u64>::new("square").unwrap();
    let ordered: Vec<u64> = pool.imap(0..50_000).map(Result::unwrap).collect();
    assert!(ordered == squares(50_000));
    let mut unordered: Vec<u64> = pool.imap_unordered(0..50_000).map(Result::unwrap).collect();
    unordered.sort_unstable();
    assert!(unordered == squares(50_000));
    assert_eq!(pool.imap(std::iter::empty()).count(), 0);
    // What is not taken any more harms nobody.
    assert_eq!(pool.imap(0..100_000).take(3).count(), 3);
    assert_eq!(pool.apply(3), Ok(9));
    let many = pool.map_async(0..1000);
    assert_eq!(many.get(DEADLINE).unwrap(), squares(1000));
    let product = Pool::<(u64, u64), u64>::new("product").unwrap();
    assert_eq!(product.map([(2, 3), (4, 5)]).unwrap(), [6, 20]);
    assert_eq!(Pool::<u64, ()>::new("nothing_at_all").unwrap().map(0..3).unwrap(), [(), (), ()]);
}

pub(crate) fn a_callback_is_told_and_may_give_another_task() {
    let (pool, (sender, told)) = (Pool::<u64, u64>::new("square").unwrap(), mpsc::channel());
    let pool = std::sync::Arc::new(pool);
    let (again, next) = (std::sync::Arc::clone(&pool), sender.clone());
    pool.apply_with(5, move |result| {
        sender.send(result).unwrap();
        again.apply_with(6, move |result| next.send(result).unwrap()).unwrap();
    })
    .unwrap();
    assert_eq!(told.recv_timeout(DEADLINE.unwrap()).unwrap(), Ok(25));
    assert_eq!(told.recv_timeout(DEADLINE.unwrap()).unwrap(), Ok(36));
}

pub(crate) fn a_task_that_fails_says_why_and_harms_no_other() {
    let pool = Pool::<u64, u64>::new("half").unwrap();
    assert_eq!(pool.apply(3), Err(TaskError::Failed { error: "3 is odd".into(), kind: String::new() }));
    let Err(TaskError::Failed { error, kind }) = pool.apply(13) else { panic!("it was no failure") };
    assert!(kind == "panic" && error.contains("unlucky, at tests/functions/pools.rs:"), "{error}");
    for _ in 0..3 {
        let results: Vec<_> = pool.imap(0..100).collect();
        for (number, result) in (0..100).zip(results) {
            assert_eq!(result.is_ok(), number % 2 == 0, "{number}: {result:?}");
        }
    }
    assert!(pool.map(0..3).is_err());
}

pub(crate) fn a_task_that_kills_its_workers_fails_alone() {
    let pool = Pool::<u64, u64>::builder("die").width(2).start().unwrap();
    // By itself, so that each worker that dies held nothing else.
    assert!(matches!(pool.apply(7), Err(TaskError::Killed(why)) if why.contains("SIGKILL")));
    let results: Vec<_> = pool.imap(0..100).collect();
    for (number, result) in (0..100).zip(results) {
        match number {
            7 => assert!(
                matches!(&result, Err(TaskError::Killed(why)) if why.contains("SIGKILL")),
                "{result:?}"
            ),
            _ => assert_eq!(result, Ok(number)),
        }
    }
}

/// The workers of the pools of this process: children of launchers, which are children of guardians.
fn workers() -> Vec<i32> {
    let below = |pids: Vec<i32>| pids.into_iter().flat_map(children).collect::<Vec<_>>();
    below(below(children(std::process::id().cast_signed())))
}

pub(crate) fn killing_workers_at_random_loses_and_doubles_no_task() {
    const TASKS: u64 = 100_000;
    let pool = Pool::<u64, u64>::builder("square").width(3).start().unwrap();
    let (is_over, mut killed) = (AtomicBool::new(false), 0);
    let (mut results, mut errors) = (Vec::<u64>::new(), Vec::new());
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while !is_over.load(Ordering::Relaxed) {
                let workers = workers();
                if !workers.is_empty() {
                    let victim = workers[fastrand::usize(..workers.len())];
                    killed += u64::from(kill(Pid::from_raw(victim), Signal::SIGKILL).is_ok());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            killed
        });
        for result in pool.imap_unordered((0..TASKS).inspect(|number| {
            // So that there is time to kill some.
            if number.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(1));
            }
        })) {
            match result {
                Ok(square) => results.push(square),
                Err(error) => errors.push(error),
            }
        }
        is_over.store(true, Ordering::Relaxed);
        killed = killer.join().unwrap();
    });
    assert!(killed > 10, "only {killed} were killed");
    results.sort_unstable();
    assert!(results == squares(TASKS), "{} results, {killed} killed, {:?} …", results.len(), errors.first());
}

pub(crate) fn a_worker_of_a_pool_is_replaced_after_so_many_tasks() {
    let pool = Pool::<u64, u32>::builder("pid").width(1).max_tasks_per_child(5).start().unwrap();
    let pids = pool.map(0..20).unwrap();
    let different: HashSet<u32> = pids.iter().copied().collect();
    assert_eq!(different.len(), 4, "{pids:?}");
}

pub(crate) fn a_long_task_holds_up_no_other_where_tasks_are_given_one_by_one() {
    let pool = Pool::<String, ()>::builder("once_there").width(2).prefetch(1).start().unwrap();
    let small = |count: usize| std::iter::repeat_n(String::new(), count);
    // After so many small ones, blocks of them would go to each worker.
    pool.map(small(20_000)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let long = pool.apply_async(go.to_str().unwrap().to_owned());
    assert_eq!(pool.map_async(small(2000)).get(DEADLINE).unwrap().len(), 2000);
    assert!(!long.is_ready());
    std::fs::write(go, "").unwrap();
    long.get(DEADLINE).unwrap();
}

pub(crate) fn a_pool_that_is_terminated_fails_what_is_not_done() {
    let mut pool = Pool::<u64, ()>::builder("for_ever").width(1).start().unwrap();
    let unfinished = pool.apply_async(1);
    assert_eq!(unfinished.get(Some(Duration::from_millis(20))), Err(TaskError::TimedOut));
    pool.terminate();
    assert!(matches!(unfinished.get(DEADLINE), Err(TaskError::Ended(_))));
    assert!(matches!(pool.apply(2), Err(TaskError::Ended(_))));
    drop(pool);
    assert!(workers().is_empty(), "{:?}", workers());
}

pub(crate) fn a_pool_whose_workers_never_live_to_do_a_task_ends() {
    let pool = Pool::<u64, u64>::builder("dies_at_start").width(2).start().unwrap();
    let Err(TaskError::Ended(why)) = pool.apply_async(1).get(DEADLINE) else { panic!("it did not end") };
    assert!(why.contains("was killed by SIGKILL (-9), after 50 restarts"), "{why}");
    assert!(pool.join().is_err());
}

pub(crate) fn a_pool_that_cannot_be_says_why() {
    let unknown = Pool::<u64, u64>::new("sqare").unwrap_err().to_string();
    assert!(unknown.contains("did you mean `square`?"), "{unknown}");
    // Its workers cannot make their state: no task waits for ever.
    let pool = Pool::<String, String>::new("no_state").unwrap();
    let Err(TaskError::Ended(why)) = pool.apply("x".to_owned()) else { panic!("it did not end") };
    assert!(why.contains("there is no model"), "{why}");
    let pool = Pool::<u64, String>::new("square").unwrap();
    let Err(TaskError::Ended(why)) = pool.apply(2) else { panic!("it did not end") };
    let expected =
        "a result is no `alloc::string::String`, as this pool's are: invalid type: integer `4`, expected";
    assert!(why.contains(expected), "{why}");
}
