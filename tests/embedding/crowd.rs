//! Many runs at once, in a program that has descriptors of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Barrier};
use std::thread;

use mpflow::report::Outcome;
use mpflow::{Engine, Stdio};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{end, pipeline, within_deadline};
use crate::own_main::Test;

pub(super) const TESTS: &[Test] = crate::tests![
    of_sixty_four_threads_that_start_a_thousand_workers_each_worker_has_its_own_descriptors_only
];

const THREADS: usize = 64;
const STAGES: usize = 16;

fn of_sixty_four_threads_that_start_a_thousand_workers_each_worker_has_its_own_descriptors_only() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(1 << 14)), hard).unwrap();
    // Inheritable ones of the program's own, above the numbers of old limits too.
    let file = File::open("/dev/null").unwrap();
    let [low, high] =
        [50, 1500].map(|from| fcntl(file.as_fd(), FcntlArg::F_DUPFD(from)).unwrap_or(file.as_raw_fd()));
    assert!(low >= 50 && high >= 1500, "the machine's limit of open files is too low for this test");

    let mut yaml = "stages:\n".to_owned();
    for stage in 0..STAGES {
        yaml += &format!("  s{stage}: {{command: [ls, /proc/self/fd]}}\n");
    }
    yaml += "edges:\n";
    for stage in 0..STAGES {
        yaml += &format!("  - queue: s{stage} -> stdout\n");
    }
    let pipeline = Arc::new(pipeline(&yaml));
    let start = Arc::new(Barrier::new(THREADS));
    let run = move || {
        let (pipeline, start) = (Arc::clone(&pipeline), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            let run = Engine::new().stdout(Stdio::Bytes).start(&pipeline).unwrap();
            let mut text = String::new();
            run.take_stdout().unwrap().read_to_string(&mut text).unwrap();
            (text, end(run).outcome)
        })
    };
    let ended = within_deadline(move || {
        let threads: Vec<_> = (0..THREADS).map(|_| run()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (text, outcome) in ended {
        assert_eq!(outcome, Outcome::Succeeded);
        let mut numbers = BTreeMap::new();
        for number in text.lines() {
            *numbers.entry(number).or_insert(0) += 1;
        }
        // Its standard streams, and the folder that it lists.
        assert_eq!(numbers, ["0", "1", "2", "3"].map(|number| (number, STAGES)).into());
    }
}
