//! Nothing outlives a run, whoever is killed whenever: engine, launcher, and children of every unpleasant kind.
//!
//! That nothing is left is checked at the end of every run, by `support`: see `support/census.rs`.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::{kill, killpg};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{Running, Scenario, Signal, children, is_alive, need_python, numbers, status_field};

/// Workers of every unpleasant kind: one that hears no polite signal, one with members of its group that it does not wait
/// for, one whose grandchild has left its group, its session, its parent and its environment, one that forks
/// without end, and a process for each record.
const UNPLEASANT: &str = "
stages:
  source: {command: [yes]}
  deaf: {command: \"trap '' TERM INT HUP; echo up > deaf; while :; do sleep 1000; done\", pool: 2}
  background: {command: 'sleep 1000 & sleep 1000 & echo up > background; wait'}
  escaped: {command: \"setsid sh -c 'env -i sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > escaped'; sleep 1000\"}
  forking: {command: \"trap '' TERM; while :; do sleep 1000 & echo up > forking; sleep 0.005; done\"}
  each: {mode: each, pool: 2, command: 'sleep 0.01 & wait; : {}'}
edges: [{queue: source -> each}]
";

/// Starts the next of its kind, in a session of its own, and ends: whoever is killed was not the last. It ends by
/// itself after some thousands, so that one which is not caught does not burn for ever.
const COMET: &str = "
[ $1 -gt 0 ] || exit
setsid sh comet.sh $(($1 - 1)) < /dev/null > /dev/null 2>&1 &
echo up > comet
";

fn unpleasant() -> Running {
    Scenario::new(UNPLEASANT).start()
}

fn comet() -> Running {
    let pipeline = "
        stages: {comet: {command: 'sh comet.sh 3000; sleep 1000'}}";
    let run = Scenario::new(pipeline).file("comet.sh", COMET).start();
    run.wait_for_file("comet");
    run
}

/// Waits until all are there, and gives the one that no variable and no group tells.
fn wait_for_all(run: &Running) -> i32 {
    run.wait_for_file("deaf");
    run.wait_for_file("background");
    run.wait_for_file("forking");
    run.wait_for_event_of("worker_ended", "each/0");
    run.wait_for_file("escaped").trim().parse().unwrap()
}

/// Where a run is in its life when somebody is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Starting,
    Running,
    Draining,
    Stopping,
}

/// Rounds for each of the four moments: fifty in all, and two.
const ROUNDS: usize = 13;

/// Some time at this moment.
fn reach(run: &Running, moment: Moment) {
    let longest = match moment {
        Moment::Starting => 40_000,
        Moment::Running => 5000,
        Moment::Draining | Moment::Stopping => {
            wait_for_all(run);
            let (signal, said) = match moment {
                Moment::Draining => (Signal::SIGINT, "Ctrl-C again to send"),
                _ => (Signal::SIGTERM, "terminated"),
            };
            run.signal(signal).wait_for_message(said);
            3000
        }
    };
    if matches!(moment, Moment::Running) {
        wait_for_all(run);
    }
    // Not to wait for anything: this is the randomness of the moment.
    std::thread::sleep(Duration::from_micros(fastrand::u64(..longest)));
}

fn send(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What the end of a run without a launcher is.
#[track_caller]
fn ends_for_want_of_a_launcher(run: Running) {
    let reason = "the launcher process was killed, and all workers with it";
    let run = run.finish().ended(1).said([reason]).never_said(["stage `mpflow`"]);
    assert_eq!(run.failure()["reason"], reason);
    assert_eq!(run.failure()["stage"], Value::Null);
    assert_eq!(run.events_of("launcher_lost")[0]["reason"], reason);
}

// ---- the suite's own eyes

#[test]
fn each_means_of_the_census_sees_what_it_can() {
    let run = unpleasant();
    let escaped = wait_for_all(&run);
    let engine = run.pid();
    let (guardian, launcher) = (run.guardian_pid(), run.launcher_pid());
    let deaf = run.wait_for_event_of("worker_started", "deaf/0")["pid"].as_i64().unwrap() as i32;
    run.wait_until("the loss of the environment", || (!run.census().marked.contains(&escaped)).then_some(()));
    let census = run.census();
    for pid in [engine, guardian, launcher, deaf, escaped] {
        assert!(census.descendants.contains(&pid), "{pid} in {census:?}");
    }
    for pid in [guardian, launcher, deaf] {
        assert!(census.grouped.contains(&pid) && census.marked.contains(&pid), "{pid} in {census:?}");
    }
    assert!(!census.grouped.contains(&escaped), "{escaped} in {census:?}");
    run.signal(Signal::SIGKILL);
    drop(run.finish());
}

// ---- the engine, the launcher and its guardian

#[rstest]
#[case::starting(Moment::Starting)]
#[case::running(Moment::Running)]
#[case::draining(Moment::Draining)]
#[case::stopping(Moment::Stopping)]
fn nothing_is_left_whenever_the_engine_is_killed(#[case] moment: Moment) {
    for _ in 0..ROUNDS {
        let run = unpleasant();
        reach(&run, moment);
        run.signal(Signal::SIGKILL);
        drop(run.finish());
    }
}

#[rstest]
#[case::starting(Moment::Starting)]
#[case::running(Moment::Running)]
#[case::draining(Moment::Draining)]
#[case::stopping(Moment::Stopping)]
fn whenever_the_launcher_is_killed_the_run_says_so_and_nothing_is_left(#[case] moment: Moment) {
    for _ in 0..ROUNDS {
        let run = unpleasant();
        let launcher = run.launcher_pid();
        reach(&run, moment);
        send(launcher, Signal::SIGKILL);
        ends_for_want_of_a_launcher(run);
    }
}

/// Whom a test kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Engine,
    Guardian,
    Launcher,
}

use Whom::{Engine, Guardian, Launcher};

fn kill_all(run: &Running, whom: &[Whom]) {
    let pid = |whom| match whom {
        Engine => run.pid(),
        Guardian => run.guardian_pid(),
        Launcher => run.launcher_pid(),
    };
    let pids: Vec<i32> = whom.iter().map(|&whom| pid(whom)).collect();
    // As near to the same instant as one process can.
    pids.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
}

#[rstest]
#[case([Engine, Launcher])]
#[case([Launcher, Engine])]
#[case([Engine, Guardian])]
#[case([Guardian, Engine])]
#[case([Guardian, Launcher])]
#[case([Launcher, Guardian])]
fn nothing_is_left_as_long_as_one_of_engine_guardian_and_launcher_lives(#[case] whom: [Whom; 2]) {
    for moment in [Moment::Starting, Moment::Running, Moment::Draining, Moment::Stopping] {
        let run = unpleasant();
        run.launcher_pid();
        reach(&run, moment);
        kill_all(&run, &whom);
        if whom.contains(&Engine) {
            drop(run.finish());
        } else {
            ends_for_want_of_a_launcher(run);
        }
    }
    let run = comet();
    kill_all(&run, &whom);
    drop(run.finish());
}

#[test]
fn where_all_three_are_killed_the_workers_end_and_what_they_started_may_stay() {
    let run = unpleasant();
    wait_for_all(&run);
    let started = run.events().into_iter().filter(|event| event["event"] == "worker_started");
    let workers: Vec<i32> = started.map(|event| event["pid"].as_i64().unwrap() as i32).collect();
    kill_all(&run, &[Guardian, Launcher, Engine]);
    run.wait_until("the end of the workers", || workers.iter().all(|&pid| !is_alive(pid)).then_some(()));
    // The rest is the test's to kill: `drop` does.
}

#[test]
fn a_run_whose_guardian_is_killed_goes_on_to_its_end() {
    let pipeline = "
        stages:
          each: {mode: each, command: 'echo {}', pool: 2}
          map: {command: cat, mode: map}
        edges: [{queue: stdin -> each -> map -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(300)).start();
    run.wait_for_lines(10);
    kill_all(&run, &[Guardian]);
    run.finish().succeeded().wrote_lines(1..=300);
}

#[test]
fn what_a_killed_launcher_leaves_ends_though_nobody_reads_the_output_of_the_run() {
    let pipeline = UNPLEASANT.replace("edges: [", "edges: [{queue: source -> stdout}, ");
    let mut run = Scenario::new(pipeline).hold_stdout().start();
    wait_for_all(&run);
    let engine = run.pid();
    send(run.launcher_pid(), Signal::SIGKILL);
    run.wait_until_all_are_gone_but(engine);
    assert!(is_alive(engine), "it waits for whoever reads");
    drop(run.stdout.take());
    ends_for_want_of_a_launcher(run);
}

#[test]
fn a_launcher_that_stands_still_outlives_no_engine() {
    let run = unpleasant();
    wait_for_all(&run);
    let launcher = run.launcher_pid();
    send(launcher, Signal::SIGSTOP);
    run.wait_until("the stop", || status_field(launcher, "State").starts_with('T').then_some(()));
    run.signal(Signal::SIGKILL);
    drop(run.finish());
}

#[rstest]
#[case::abort(Signal::SIGABRT)]
#[case::segmentation_fault(Signal::SIGSEGV)]
#[case::bus_error(Signal::SIGBUS)]
#[case::illegal_instruction(Signal::SIGILL)]
fn nothing_is_left_of_an_engine_that_crashes(#[case] signal: Signal) {
    let run = Scenario::new(UNPLEASANT).after("ulimit -c 0").start();
    wait_for_all(&run);
    // Rust's own handler takes the first of a SIGSEGV that no fault is behind, and gives up its place.
    let engine = run.pid();
    run.wait_until("the crash", || {
        run.signal(signal);
        (!is_alive(engine)).then_some(())
    });
    let run = run.finish();
    assert_eq!(run.status.signal(), Some(signal as i32));
}

#[rstest]
#[case::engine(Engine)]
#[case::launcher(Launcher)]
fn no_process_is_left_half_born(#[case] whom: Whom) {
    let pipeline = "
        stages: {work: {mode: each, pool: 8, command: ['true', '{}']}}
        edges: [{queue: stdin -> work}]";
    for _ in 0..20 {
        let run = Scenario::new(pipeline).stdin(numbers(100_000)).start();
        run.wait_for_event("worker_ended");
        std::thread::sleep(Duration::from_micros(fastrand::u64(..20_000)));
        kill_all(&run, &[whom]);
        drop(run.finish());
    }
}

// ---- unpleasant children

/// From the stop signal to the kill, by the events.
#[track_caller]
fn grace_of(run: &crate::support::Finished) -> f64 {
    let at = |kind| run.events_of(kind)[0]["t"].as_f64().unwrap();
    at("worker_killed") - at("worker_stopping")
}

#[rstest]
#[case::leader("trap '' TERM; echo up; while :; do sleep 0.02; done")]
#[case::member_that_outlives_its_leader("(trap '' TERM; echo up; while :; do sleep 0.02; done) & exit 0")]
#[case::member_of_a_leader_that_hears_it(
    "(trap '' TERM; echo up; while :; do sleep 0.02; done) & trap 'exit 0' TERM; wait"
)]
fn one_that_ignores_sigterm_is_killed_at_its_grace_and_not_before(#[case] command: &str) {
    let pipeline = format!("stages: {{work: {{command: {}, stop: {{grace: 400ms}}}}}}", json!(command));
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert!(grace_of(&run) >= 0.4, "killed after {} s", grace_of(&run));
}

#[test]
fn a_stopped_child_that_ignores_sigterm_is_killed_at_its_grace() {
    let pipeline = "
        stages: {work: {command: \"trap '' TERM; echo up; sleep 1000 & wait\", stop: {grace: 300ms}}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    killpg(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert!(grace_of(&run) >= 0.3, "killed after {} s", grace_of(&run));
}

#[test]
fn a_stopped_child_outlives_no_engine() {
    let run = Scenario::new("stages: {work: {command: 'echo up; sleep 1000 & wait'}}").start();
    run.wait_for_lines(1);
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    killpg(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    run.signal(Signal::SIGKILL);
    drop(run.finish());
}

const SLEEP: &str = "sleep 1000 < /dev/null > /dev/null 2>&1";

#[rstest]
#[case::own_group(
    "python3 -c 'import os, sys; os.setpgid(0, 0); os.execvp(sys.argv[1], sys.argv[1:])' SLEEP &"
)]
#[case::own_session("setsid SLEEP &")]
#[case::forked_twice("setsid sh -c 'SLEEP & exit' &")]
#[case::without_environment("setsid sh -c 'exec env -i SLEEP' &")]
#[case::deaf("setsid sh -c \"trap '' TERM HUP INT; SLEEP; SLEEP\" &")]
fn a_grandchild_that_goes_its_own_way_ends_with_the_run(
    #[case] leave: &str,
    #[values("exit 0", "echo up; sleep 1000")] then: &str,
) {
    need_python();
    let command = json!(format!("{}\n{then}", leave.replace("SLEEP", SLEEP)));
    let run = Scenario::new(format!("stages: {{work: {{command: {command}}}}}")).start();
    if then != "exit 0" {
        run.wait_for_lines(1);
        run.signal(Signal::SIGTERM);
    }
    let code = if then == "exit 0" { 0 } else { 143 };
    run.finish().ended(code);
}

#[test]
fn the_commands_of_a_shell_line_end_with_it() {
    let run = Scenario::new("stages: {work: {command: 'sleep 1000 & sleep 2000'}}").start();
    let shell = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    run.wait_until("both commands", || (children(shell).len() == 2).then_some(()));
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}

#[rstest]
#[case::that_hears_it("echo up; while :; do sleep 0.05 & sleep 0.002; done")]
#[case::that_ignores_it("trap '' TERM; echo up; while :; do sleep 0.05 & sleep 0.002; done")]
#[case::in_a_tight_loop("trap '' TERM; echo up; while :; do (exit 0) & done")]
fn a_child_that_forks_while_it_is_stopped_ends_with_all_its_children(#[case] command: &str) {
    let pipeline = format!("stages: {{bomb: {{command: {}, stop: {{grace: 200ms}}}}}}", json!(command));
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
}

#[test]
fn a_number_that_has_become_another_process_is_not_signalled() {
    // Processes that end by themselves, that are killed, and that leave a member of their group behind for a moment, by
    // the hundred, among some that must not be touched.
    let pipeline = "
        stages:
          churn:
            mode: each
            pool: 8
            command: 'sleep 0.01 & case {} in *7) sleep 1000;; esac; echo {}'
            record_timeout: 400ms
            on_error: skip
          innocent: {command: cat, mode: map, pool: 20}
        edges: [{queue: stdin -> churn -> innocent -> stdout}]";
    let Some(scenario) = Scenario::new(pipeline).stdin(numbers(400)).where_pids_are_few() else {
        // Told, since it cannot be tried: `cargo test -- --nocapture` shows it.
        return eprintln!("this machine allows no PID namespace: reuse of pids is not tested");
    };
    let run = scenario.run().succeeded();
    assert_eq!(run.stage("innocent")["exits"], json!([[0, 20]]));
    // On a busy machine some that are innocent take too long as well: each that was killed was told so.
    let failed = run.events_of("record_failed");
    let kills = failed.len() as u64;
    assert!(kills >= 40, "{kills} were killed");
    assert!(
        failed.iter().all(|event| event["error"].as_str().unwrap().contains("record_timeout")),
        "{failed:#?}"
    );
    // Of one whose leader had ended when the time was over, only a member was killed.
    let (killed, ended) = (&run.stage("churn")["exits"][0], &run.stage("churn")["exits"][1]);
    assert_eq!((&killed[0], &ended[0]), (&json!(-9), &json!(0)));
    let (killed, ended) = (killed[1].as_u64().unwrap(), ended[1].as_u64().unwrap());
    assert!((40..=kills).contains(&killed) && killed + ended == 400, "{killed} killed, {ended} ended");
    let pids: Vec<_> = run.events_of("worker_started").iter().map(|event| event["pid"].as_i64()).collect();
    let distinct: std::collections::BTreeSet<_> = pids.iter().collect();
    eprintln!("{} processes had {} numbers", pids.len(), distinct.len());
    let failed: Vec<String> =
        failed.iter().map(|event| event["record"].as_str().unwrap().to_owned()).collect();
    let others: Vec<String> = (1..=400).map(|number: u64| number.to_string()).collect();
    let others: Vec<String> = others.into_iter().filter(|number| !failed.contains(number)).collect();
    run.wrote_lines(others);
}

#[test]
fn nobody_outruns_the_end_of_the_run_by_forking_into_ever_new_sessions() {
    let run = comet();
    run.signal(Signal::SIGTERM);
    run.finish().ended(143);
    for _ in 0..5 {
        let run = comet();
        run.signal(Signal::SIGKILL);
        drop(run.finish());
    }
}
