//! A stop, by every signal that asks for one, in every state that a worker can be in.

use std::io::Write;
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::support::{Finished, Running, Scenario, Signal, is_alive};

/// How a run is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presses {
    Once,
    Twice,
    Thrice,
    Terminated,
}

use Presses::{Once, Terminated, Thrice, Twice};

impl Presses {
    /// Sends the signals, each when the one before has been heard, unless the run is over by then.
    #[track_caller]
    fn send(self, run: &Running) {
        let said = match self {
            Once => &["interrupted: "][..],
            Twice => &["interrupted: ", "interrupted again"],
            Thrice => &["interrupted: ", "interrupted again", "interrupted a third time"],
            Terminated => &["terminated: "],
        };
        let signal = if self == Terminated { Signal::SIGTERM } else { Signal::SIGINT };
        for said in said {
            run.signal(signal);
            run.wait_until(&format!("`{said}`, or the end"), || {
                (run.messages().contains(said) || !is_alive(run.pid())).then_some(())
            });
        }
    }

    #[track_caller]
    fn end(self, run: Running) -> Finished {
        self.send(&run);
        run.finish().ended(if self == Terminated { 143 } else { 130 })
    }

    /// A worker that ends at its stop signal, or one that only SIGKILL ends, where that is what comes.
    fn waits(self) -> &'static str {
        match self {
            Once | Twice | Terminated => "while :; do sleep 0.02; done",
            Thrice => "trap '' TERM; echo deaf >&2; while :; do sleep 0.02; done",
        }
    }
}

/// Nobody of this stage was started after the run was asked to end.
#[track_caller]
fn assert_no_start_after_the_stop(run: &Finished) {
    // A further signal ends `mpflow` also while it writes the last events of a run that is over.
    let Some(stop) = run.events.iter().position(|event| event["event"] == "stopping") else { return };
    // The launcher may have started already what it tells of only now, but for those that were asked for later.
    let late: Vec<_> =
        run.events[stop..].iter().filter(|event| event["event"] == "worker_restarting").collect();
    assert!(late.is_empty(), "{late:#?}");
}

#[rstest]
fn while_it_runs(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    let pipeline = format!("stages: {{work: {{command: \"{}\", stop: {{grace: 1h}}}}}}", presses.waits());
    let run = Scenario::new(pipeline).start();
    run.wait_for_event("worker_started");
    if presses == Thrice {
        run.wait_for_message("deaf");
    }
    assert_no_start_after_the_stop(&presses.end(run));
}

#[rstest]
fn while_the_launcher_has_been_asked_for_it(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    let pipeline = "
        stages: {work: {mode: each, command: 'echo {} >> ran; cat', stop: {grace: 1h}}}
        edges: [{queue: stdin -> work -> stdout}]";
    let mut run = Scenario::new(pipeline).open_stdin().start();
    let mut stdin = run.stdin.take().unwrap();
    run.wait_for_event("run_started");
    let launcher = nix::unistd::Pid::from_raw(run.launcher_pid());
    // Its session is made when it is ready to be asked.
    run.wait_until("a launcher that serves", || {
        (nix::unistd::getsid(Some(launcher)) == Ok(launcher)).then_some(())
    });
    nix::sys::signal::kill(launcher, Signal::SIGSTOP).unwrap();
    stdin.write_all(b"1\n2\n3\n").unwrap();
    presses.send(&run);
    nix::sys::signal::kill(launcher, Signal::SIGCONT).unwrap();
    let run = run.finish().ended(if presses == Terminated { 143 } else { 130 });
    // One by one: the first may have been on its way, and a drain does all that had come.
    let started = run.events_of("worker_started").len();
    match presses {
        Once => assert_eq!(started as u64, run.edge("stdin -> work")["in"].as_u64().unwrap()),
        Twice | Thrice | Terminated => assert!(started <= 1, "{started} were started"),
    }
}

#[rstest]
fn while_its_probe_has_not_said_that_it_is_ready(
    #[values(Once, Twice, Thrice, Terminated)] presses: Presses,
) {
    let pipeline = format!(
        "
        stages:
          server: {{command: \"echo up; {}\", ready: {{command: 'echo >> looks; exit 1', interval: 20ms}}, stop: {{grace: 1h}}}}
          client: {{command: 'echo > ran', depends_on: {{server: ready}}}}",
        presses.waits()
    );
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    run.wait_for_file("looks");
    if presses == Thrice {
        run.wait_for_message("deaf");
    }
    let run = presses.end(run);
    assert!(!run.has("ran"));
    assert_eq!(run.stage("client")["state"], "not_started");
}

#[rstest]
fn while_it_waits_for_another(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    // The other becomes ready by being stopped, and nobody cares any more.
    let pipeline = "
        stages:
          first: {command: \"trap 'echo ready; exit 0' TERM; echo up; while :; do sleep 0.02; done\", ready: {log: ready}}
          second: {command: 'echo > ran', depends_on: {first: ready}}
          third: {command: 'echo > ran', depends_on: {first: finished}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let run = presses.end(run);
    assert!(!run.has("ran"));
    for stage in ["second", "third"] {
        assert_eq!(run.stage(stage)["state"], "not_started");
    }
}

#[rstest]
#[case::alone("worker")]
#[case::with_others("pipeline")]
fn while_it_waits_to_be_started_again(
    #[case] scope: &str,
    #[values(Once, Twice, Thrice, Terminated)] presses: Presses,
) {
    let pipeline = format!(
        "
        stages:
          bad:
            command: 'echo x >> starts; exit 1'
            restart: {{policy: on-failure, backoff: {{initial: 1h, max: 1h}}, scope: {scope}}}
          beside: {{command: \"echo x >> beside; {}\", stop: {{grace: 1h}}}}",
        presses.waits().replace("trap '' TERM; echo deaf >&2; ", "")
    );
    let run = Scenario::new(pipeline).start();
    run.wait_for_event("worker_restarting");
    if scope == "pipeline" {
        run.wait_for_event_of("worker_ended", "beside");
    }
    let run = presses.end(run);
    assert_eq!(run.read("starts"), "x\n");
    assert_no_start_after_the_stop(&run);
}

#[test]
fn a_drain_that_needs_a_worker_in_its_back_off_says_that_it_waits_for_it() {
    let pipeline = "
        stages:
          work:
            mode: map
            command: 'if mkdir first 2> /dev/null; then exit 1; fi; cat'
            restart: {policy: on-failure, backoff: {initial: 2s, jitter: 0}}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).open_stdin().start();
    run.wait_for_event("worker_restarting");
    run.signal(Signal::SIGINT);
    let run = run.finish().ended(130);
    run.said(["waiting for `work` (to be started again in 1s)"]);
}

#[rstest]
fn while_its_output_is_held_by_somebody_else(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    let pipeline = "
        stages: {work: {command: 'setsid sleep 1000 & echo up'}, stays: {command: 'while :; do sleep 0.02; done'}}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    presses.end(run);
}

#[rstest]
fn while_it_has_been_asked_to_end(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    // It has been asked by the failure of another stage.
    let pipeline = "
        stages:
          deaf: {command: \"trap '' TERM; echo up; while :; do sleep 0.02; done\", stop: {grace: 700ms}}
          bad: {command: 'while [ ! -e go ]; do sleep 0.02; done; exit 1'}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let before = Instant::now();
    std::fs::write(run.path("go"), "").unwrap();
    run.wait_for_event_of("worker_stopping", "deaf");
    presses.send(&run);
    // A failure stays one if the run is also stopped.
    let run = run.finish().ended(1);
    assert_eq!(run.events_of("worker_killed").len(), 1, "{}", run.told());
    let lasted = before.elapsed();
    assert!(presses == Thrice || lasted >= Duration::from_millis(700), "killed after {lasted:?}");
}

#[rstest]
fn while_it_works_off_what_came_before_the_stop(#[values(Once, Twice, Thrice, Terminated)] presses: Presses) {
    let pipeline = "
        stages:
          source: {command: 'seq 40; sleep 1000'}
          work: {mode: map, command: 'while read -r line; do sleep 0.02; echo $line; done', stop: {grace: 1h}}
        edges: [{queue: source -> work -> stdout}]";
    let run = Scenario::new(pipeline).start();
    run.wait_for_lines(1);
    let run = presses.end(run);
    let lines = run.text().lines().count();
    assert!(presses != Once || lines == 40, "{lines} of 40 records after a drain");
}

#[rstest]
#[case::int(Signal::SIGINT, 130)]
#[case::term(Signal::SIGTERM, 143)]
fn at_any_moment_of_the_start_of_a_run(#[case] signal: Signal, #[case] code: i32) {
    let pipeline = "
        stages:
          source: {command: 'sleep 1000'}
          work: {command: cat, pool: 3}
        edges: [{queue: source -> work -> stdout}]";
    for attempt in 0..12 {
        let run = Scenario::new(pipeline).start();
        match attempt % 4 {
            0 => drop(run.wait_for_event("run_started")),
            1 => drop(run.wait_for_event("worker_started")),
            2 => drop(run.wait_for_event_of("worker_started", "work/1")),
            _ => drop(run.wait_for_event_of("stage_ready", "work")),
        }
        run.signal(signal);
        run.finish().ended(code).wrote("");
    }
}
