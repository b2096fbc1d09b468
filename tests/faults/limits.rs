//! What runs out: descriptors, processes, the disk, the reader of an output.

mod disk;
mod outputs;
mod starts;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use serde_json::json;

use crate::support::{Running, Scenario, Signal, numbers, status_field};

/// Changes a limit of a living process, as its user: `--nofile=20:` is the soft one, and leaves the hard one as it is.
#[track_caller]
fn limit(pid: i32, what: &str) {
    let user = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let mut command = match nix::unistd::geteuid().as_raw() == user {
        true => Command::new("prlimit"),
        false => {
            let mut command = Command::new("setpriv");
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit"]);
            command
        }
    };
    let status = command.args(["--pid", &pid.to_string(), what]).status();
    assert!(status.unwrap().success(), "prlimit --pid {pid} {what}");
}

/// How many descriptors a process has.
#[track_caller]
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A limit by which a process may open so many descriptors more, and those that it has stay as they are.
#[track_caller]
fn room_for(pid: i32, more: usize) -> String {
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let taken: Vec<usize> =
        numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let free = (0..).filter(|number| !taken.contains(number)).nth(more).unwrap();
    format!("--nofile={free}:")
}

/// A user whom nobody else is, so that the kernel counts the processes of this run alone. `RLIMIT_NPROC` does not bind
/// root. `None`, with a word about it, where this process cannot become somebody else.
fn another_user(scenario: &Scenario) -> Option<String> {
    let user = fastrand::u32(200_000..2_000_000);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can start a run as a user who has no other processes");
        return None;
    }
    chown(scenario.path(""), Some(user), Some(user)).unwrap();
    fs::set_permissions(scenario.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    Some(user.to_string())
}

/// `mpflow` as another user, who may have so many processes; see [`another_user`].
fn with_processes(scenario: Scenario, most: usize) -> Option<Scenario> {
    let user = another_user(&scenario)?;
    let limit = format!("--nproc={most}:{most}");
    Some(scenario.through([
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "prlimit",
        &limit,
    ]))
}

// ---- before the start

#[test]
fn a_pool_that_needs_more_descriptors_than_allowed_is_refused_with_the_sum() {
    let pipeline = "
        stages: {many: {command: 'echo > started; cat', pool: 60}}
        edges: [{queue: stdin -> many -> stdout}]";
    let run = Scenario::new(pipeline).after("ulimit -n 64").stdin(numbers(100)).run().ended(2).said([
        "mpflow::too_many_descriptors",
        "needs up to 212 descriptors, and this process may open 64",
        "60 workers with 3 descriptors each are 180 of them",
        "ulimit -Hn 212",
    ]);
    assert!(!run.has("started") && run.events.is_empty(), "{}", run.told());
}

#[test]
fn a_soft_limit_of_descriptors_is_raised_to_what_is_allowed() {
    let pipeline = "
        stages: {many: {command: cat, pool: 60}}
        edges: [{queue: stdin -> many -> stdout}]";
    let run = Scenario::new(pipeline).after("ulimit -S -n 64").stdin(numbers(100)).run().succeeded();
    run.wrote_lines(1..=100);
}

#[test]
fn the_greatest_limit_of_descriptors_that_there_is_costs_nothing() {
    // Whoever closes all numbers up to the limit is at it for a long time, with each worker.
    let most = fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
    let most = most.trim();
    let pipeline = "
        stages: {work: {command: 'ulimit -n', mode: each, pool: 4}}
        edges: [{queue: stdin -> work -> stdout}]";
    let scenario = Scenario::new(pipeline)
        .after(&format!("ulimit -n {most} 2> /dev/null || ulimit -n \"$(ulimit -H -n)\""))
        .stdin(numbers(300));
    let run = scenario.run().succeeded();
    let lines: Vec<&str> = run.text().lines().collect();
    assert_eq!(lines, vec![lines[0]; 300]);
}

#[test]
fn a_pool_that_needs_more_processes_than_allowed_is_refused_with_the_sum() {
    let pipeline = "
        stages: {many: {command: 'echo > started; cat', pool: 20}}
        edges: [{queue: stdin -> many -> stdout}]";
    let Some(scenario) = with_processes(Scenario::new(pipeline), 15) else { return };
    let run = scenario.stdin(numbers(100)).run().ended(2).said([
        "mpflow::too_many_processes",
        "needs up to 23 processes, and this user may have 15",
        "20 of them are workers of this stage",
        "ulimit -u 23",
    ]);
    assert!(!run.has("started") && run.events.is_empty(), "{}", run.told());
}

#[test]
fn two_hundred_workers_have_their_own_descriptors_each() {
    let pipeline = "
        stages:
          many: {command: 'ls /proc/self/fd | wc -l; cat > /dev/null', pool: 200}
        edges: [{queue: stdin -> many -> stdout}]";
    // `ls` itself opens the folder.
    Scenario::new(pipeline).stdin(numbers(1000)).run().succeeded().wrote("4\n".repeat(200));
}

// ---- while it runs

/// Waits until a start was refused for this, and for a second refusal, so that the wait between them is part of it.
#[track_caller]
fn wait_for_refusals(run: &Running, stage: &str, why: &str) {
    let refused = || {
        let events = run.events();
        let refusals = events.iter().filter(|event| {
            event["event"] == "worker_start_failed"
                && event["stage"] == stage
                && event["error"].as_str().unwrap().contains(why)
        });
        refusals.map(|event| event["generation"].as_u64().unwrap()).max().filter(|&last| last >= 2)
    };
    run.wait_until(&format!("two refusals of `{stage}`: {why}"), refused);
}

/// Two stages that start when a file is there, beside one that goes on.
const LATE: &str = "
    stages:
      other: {command: 'echo other; while [ ! -e end ]; do sleep 0.02; done; echo over'}
      gate: {command: 'while [ ! -e go ]; do sleep 0.02; done'}
      late: {command: 'cat; echo late', pool: 8, depends_on: {gate: finished}}
      last: {command: cat, depends_on: {gate: finished}}
    edges:
      - {queue: stdin -> late -> last -> stdout}
      - {queue: other -> stdout}";

/// Starts [`LATE`], has `spoil` done to the engine and the launcher before the late workers are asked for, and `mend`
/// when they have been refused twice.
#[track_caller]
fn spoiled_and_mended(why: &str, spoil: impl Fn(i32, i32), mend: impl Fn(i32, i32)) {
    let run = Scenario::new(LATE).stdin(numbers(50_000)).start();
    let (engine, launcher) = (run.pid(), run.launcher_pid());
    run.wait_for_event_of("worker_started", "gate");
    run.wait_for_event_of("worker_started", "other");
    let before = descriptors(launcher);
    spoil(engine, launcher);
    fs::write(run.path("go"), "").unwrap();
    wait_for_refusals(&run, "late", why);
    mend(engine, launcher);
    run.wait_until("the late ones' end", || {
        let events = run.events();
        events
            .iter()
            .any(|event| event["event"] == "stage_finished" && event["stage"] == "last")
            .then_some(())
    });
    assert_eq!(descriptors(launcher), before, "the launcher has leaked descriptors");
    let engine_after = descriptors(engine);
    fs::write(run.path("end"), "").unwrap();
    let run = run.finish().succeeded();
    // Standard streams, files of the report and the events, signals, epoll, and the pipes of `other`.
    assert!(engine_after < 32, "the engine has {engine_after} descriptors when all but one worker are gone");
    assert_eq!(run.stage("other")["exits"], json!([[0, 1]]), "the other stage was touched");
    let words = ["late"; 8].map(str::to_owned).into_iter().chain(["other", "over"].map(str::to_owned));
    run.wrote_lines((1..=50_000).map(|number| number.to_string()).chain(words));
}

#[test]
fn an_engine_that_may_open_nothing_more_waits_and_goes_on_when_it_may() {
    let spoil = |engine, _| limit(engine, &room_for(engine, 0));
    let mend = |engine, _| limit(engine, "--nofile=1000:");
    spoiled_and_mended("Too many open files", spoil, mend);
}

#[test]
fn a_launcher_that_may_open_nothing_more_says_so_and_goes_on_when_it_may() {
    let spoil = |_, launcher| limit(launcher, &room_for(launcher, 0));
    let mend = |_, launcher| limit(launcher, "--nofile=1000:");
    spoiled_and_mended("cannot pass the descriptors: Too many open files", spoil, mend);
}

#[test]
fn a_launcher_that_may_open_too_few_starts_no_worker_with_a_part_of_its_descriptors() {
    let spoil = |_, launcher| limit(launcher, &room_for(launcher, 2));
    let mend = |_, launcher| limit(launcher, "--nofile=1000:");
    spoiled_and_mended("cannot pass the descriptors: Too many open files", spoil, mend);
}

/// All but the first hundred wait until a file is there: more than are looked for, since while it is not known that others
/// wait, some are overtaken.
const GATED: &str = "read -r n; until [ $n -le 100 ] || [ -e go ]; do sleep 0.02; done; echo $n";

#[test]
fn an_each_stage_loses_no_record_to_a_shortage_of_descriptors() {
    let pipeline = format!(
        "
        stages: {{work: {{mode: each, pool: 4, command: '{GATED}'}}}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run = Scenario::new(&pipeline).stdin(numbers(300)).start();
    run.wait_for_lines(20);
    // Fewer than it has for itself: what ends makes no room.
    limit(run.pid(), "--nofile=8:");
    fs::write(run.path("go"), "").unwrap();
    wait_for_refusals(&run, "work", "Too many open files");
    limit(run.pid(), "--nofile=1000:");
    let run = run.finish().succeeded();
    assert_eq!((&run.stage("work")["failed"], &run.stage("work")["retried"]), (&json!(0), &json!(0)));
    run.wrote_lines(1..=300);
}

/// What a run as another user prints, whose launcher may make no process for a while, or `None` where there is none.
fn without_processes(pipeline: &str, stage: &str) -> Option<crate::support::Finished> {
    let run = with_processes(Scenario::new(pipeline), 200)?.stdin(numbers(300)).start();
    run.wait_for_lines(20);
    let launcher = run.launcher_pid();
    limit(launcher, "--nproc=1:");
    fs::write(run.path("go"), "").unwrap();
    wait_for_refusals(&run, stage, "cannot make a process: Resource temporarily unavailable");
    limit(launcher, "--nproc=200:");
    Some(run.finish().succeeded())
}

#[test]
fn an_each_stage_loses_no_record_to_a_shortage_of_processes() {
    let pipeline = format!(
        "
        stages:
          other: {{command: 'while [ ! -e go ]; do sleep 0.02; done', daemon: true}}
          work: {{mode: each, pool: 4, command: '{GATED}'}}
        edges: [{{queue: stdin -> work -> stdout}}]"
    );
    let Some(run) = without_processes(&pipeline, "work") else { return };
    assert_eq!((&run.stage("work")["failed"], &run.stage("work")["retried"]), (&json!(0), &json!(0)));
    run.wrote_lines(1..=300);
}

#[test]
fn a_pool_that_finds_no_process_waits_by_the_backoff_and_touches_nobody() {
    // It is wider than it may be restarted, and starts all the same.
    let pipeline = "
        stages:
          gate: {command: 'cat; while [ ! -e go ]; do sleep 0.02; done'}
          late: {command: 'echo late', pool: 20, depends_on: {gate: finished}}
          other: {command: 'cat; while [ ! -e go ]; do sleep 0.02; done; sleep 1; echo other'}
        edges:
          - queue: stdin -> gate -> stdout
          - queue: stdin -> other -> stdout";
    let Some(run) = without_processes(pipeline, "late") else { return };
    assert_eq!(
        (&run.stage("other")["exits"], &run.stage("late")["exits"]),
        (&json!([[0, 1]]), &json!([[0, 20]]))
    );
    let of_the_first = |kind: &str| {
        run.events_of(kind)
            .into_iter()
            .filter(|event| event["worker"] == "late/0")
            .cloned()
            .collect::<Vec<_>>()
    };
    let waits =
        of_the_first("worker_restarting").iter().map(|event| event["backoff"].as_f64().unwrap()).sum::<f64>();
    let started = of_the_first("worker_started")[0]["t"].as_f64().unwrap();
    assert!(started >= waits, "started at {started} s after waits of {waits} s");
    assert_eq!(run.text().lines().filter(|&line| line == "late").count(), 20);
}

#[test]
fn a_pool_that_cannot_grow_for_want_of_processes_does_its_work_with_those_it_has() {
    let pipeline = "
        stages: {work: {mode: map, pool: {min: 1, max: 8}, command: 'while read -r line; do sleep 0.01; echo $line; done'}}
        edges: [{queue: stdin -> work -> stdout, capacity: 4}]";
    let scenario = Scenario::new(pipeline).open_stdin();
    let Some(scenario) = with_processes(scenario, 200) else { return };
    let mut run = scenario.start();
    let mut stdin = run.stdin.take().unwrap();
    use std::io::Write;
    stdin.write_all(b"first\n").unwrap();
    run.wait_for_lines(1);
    limit(run.launcher_pid(), "--nproc=1:");
    // The shell's own `sleep` is bound by its own limit, which it has had from its start.
    stdin.write_all(numbers(100).as_bytes()).unwrap();
    drop(stdin);
    run.wait_for_event("worker_start_failed");
    let run = run.finish().succeeded();
    assert_eq!(run.stage("work")["workers"], 1);
    run.wrote_lines(["first".to_owned()].into_iter().chain((1..=100).map(|number| number.to_string())));
}

#[test]
fn a_probe_that_finds_no_thread_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pipeline = "
        stages:
          gate: {command: 'echo gate; while [ ! -e go ]; do sleep 0.02; done'}
          server:
            command: 'echo up; exec sleep 1000'
            daemon: true
            depends_on: {gate: finished}
            ready: {tcp: 'ADDRESS', interval: 50ms}
          job: {command: 'echo job', depends_on: {server: ready}}";
    let pipeline = pipeline.replace("ADDRESS", &listener.local_addr().unwrap().to_string());
    let Some(scenario) = with_processes(Scenario::new(pipeline), 200) else { return };
    let run = scenario.start();
    run.wait_for_lines(1);
    limit(run.pid(), "--nproc=1:");
    fs::write(run.path("go"), "").unwrap();
    run.wait_for_message("cannot probe worker `server` yet: Resource temporarily unavailable");
    limit(run.pid(), "--nproc=200:");
    run.finish().succeeded().wrote_lines(["gate", "up", "job"]);
}

#[test]
fn a_run_that_is_short_of_something_can_be_stopped() {
    let run = Scenario::new(LATE).stdin(numbers(10)).start();
    run.wait_for_event_of("worker_started", "other");
    limit(run.pid(), &room_for(run.pid(), 0));
    fs::write(run.path("go"), "").unwrap();
    wait_for_refusals(&run, "late", "Too many open files");
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert_eq!(run.stage("late")["started"], 0);
}

#[test]
fn closed_standard_streams_of_mpflow_are_no_hindrance() {
    let pipeline = "
        stages: {work: {command: 'echo made > made; cat; echo x; echo y >&2'}}";
    let run = Scenario::new(pipeline).after("exec <&- >&- 2>&-").run();
    assert!(run.has("made"), "{}", run.told());
}

#[test]
fn an_engine_at_its_limit_of_descriptors_takes_back_what_a_dead_worker_had_not_read() {
    // It reads one record and dies when it is told to; the others wait in its pipe.
    let pipeline = "
        stages:
          work:
            command: 'if mkdir first 2>/dev/null; then read -r a; echo $a; while [ ! -e go ]; do sleep 0.02; done; kill -9 $$; fi; cat'
            restart: {policy: on-failure, backoff: {initial: 300ms}}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(5000)).start();
    run.wait_for_lines(1);
    let engine = run.pid();
    limit(engine, &room_for(engine, 0));
    fs::write(run.path("go"), "").unwrap();
    run.wait_for_event("worker_ended");
    limit(engine, "--nofile=1000:");
    let run = run.finish().succeeded().wrote(numbers(5000));
    let edge = run.edge("stdin -> work");
    assert_eq!((&edge["delivered"], &edge["unconfirmed"]), (&json!(5000), &json!(1)));
}

#[test]
fn threads_of_the_engine_are_as_few_as_its_limit_says() {
    // What the sum of processes counts for the engine itself, and threads are processes to the kernel.
    let run = Scenario::new("stages: {idle: {command: 'echo up; sleep 1000', pool: 3}}").start();
    run.wait_for_lines(3);
    let threads: usize = status_field(run.pid(), "Threads").parse().unwrap();
    // The main one, signals, console, events, the run's, and two of the control socket while nobody is connected.
    assert!(threads <= 7, "{threads} threads");
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}
