//! Supervision: exits, restarts, dependencies, environment and limits.

mod support;

use rstest::rstest;
use serde_json::json;
use support::{Scenario, Signal, numbers};

// ---- exits

#[rstest]
#[case::its_own_code("exit 3", 3, "exited with 3")]
#[case::killed("kill -9 $$", -9, "SIGKILL (-9)")]
#[case::terminated("kill -15 $$", -15, "SIGTERM (-15)")]
#[case::crashed("kill -SEGV $$", -11, "SIGSEGV (-11)")]
#[case::highest("exit 255", 255, "exited with 255")]
fn a_failing_stage_is_told_with_its_worker_and_its_exit(
    #[case] command: &str,
    #[case] exit: i32,
    #[case] said: &str,
) {
    let pipeline =
        format!("stages: {{bad: {{command: 'echo first words >&2; echo last words >&2; {command}'}}}}");
    let run = Scenario::new(pipeline).run().ended(1);
    let run = run.said(["stage `bad`", "worker `bad`", said, "first words", "last words"]);
    assert_eq!((&run.failure()["worker"], &run.failure()["exit"]), (&json!("bad"), &json!(exit)));
    assert_eq!(run.failure()["stderr"], json!(["first words", "last words"]));
    assert_eq!(run.stage("bad")["exits"], json!([[exit, 1]]));
}

#[test]
fn a_failure_that_ends_the_run_is_told_once() {
    for progress in ["auto", "plain", "none"] {
        let pipeline = "stages: {bad: {command: 'exit 3'}}";
        let run = Scenario::new(pipeline).args(["--progress", progress]).run().ended(1);
        assert_eq!(run.stderr.matches("worker `bad` exited with 3").count(), 1, "{progress}: {}", run.stderr);
    }
}

#[test]
fn a_failure_is_told_at_once_where_the_run_goes_on() {
    let pipeline = "
        stages:
          bad: {command: 'exit 3', on_failure: continue}
          other: {command: 'while [ ! -e go ]; do sleep 0.02; done'}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_message("stage `bad` failed: worker `bad` exited with 3");
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().ended(1);
}

#[test]
fn a_worker_of_a_pool_is_named_by_its_rank() {
    let pipeline = "stages: {bad: {command: 'test $MPFLOW_RANK != 2', pool: 4}}";
    let run = Scenario::new(pipeline).run().ended(1).said(["worker `bad/2` exited with 1"]);
    assert_eq!(run.failure()["worker"], "bad/2");
}

#[test]
fn a_failure_stops_the_whole_pipeline() {
    let pipeline = "
        stages:
          bad: {command: 'while [ ! -e up ]; do sleep 0.02; done; exit 1'}
          other: {command: 'echo > up; sleep 1000'}";
    let run = Scenario::new(pipeline).run().ended(1);
    assert_eq!(
        (&run.stage("bad")["state"], &run.stage("other")["state"]),
        (&json!("failed"), &json!("stopped"))
    );
    assert_eq!(run.stage("other")["exits"], json!([[-15, 1]]));
}

#[test]
fn on_failure_continue_lets_the_rest_finish() {
    let pipeline = "
        stages:
          bad: {command: 'exit 1', on_failure: continue}
          other: {command: 'while [ ! -e go ]; do sleep 0.02; done; echo done'}";
    let run = Scenario::new(pipeline).start();
    run.wait_for_event_of("stage_failed", "bad");
    std::fs::write(run.path("go"), "").unwrap();
    let run = run.finish().ended(1).wrote("done\n");
    assert_eq!(run.stage("other")["state"], "finished");
}

#[test]
fn success_exit_names_codes_and_signals() {
    let pipeline = "
        stages:
          code: {command: 'exit 7', success_exit: [0, 7]}
          signal: {command: 'kill -TERM $$', success_exit: [SIGTERM]}";
    Scenario::new(pipeline).run().succeeded();
}

#[test]
fn what_a_failed_stage_made_before_is_passed_on() {
    let pipeline = "
        stages:
          bad: {command: 'seq 1000; while [ ! -e got ]; do sleep 0.02; done; exit 1', on_failure: continue}
          sink: {command: 'tail -n 1 > last; cat last; : '}
          watch: {command: 'head -n 1000 > /dev/null; echo > got; cat'}
        edges:
          - queue: bad -> sink -> stdout
          - queue: bad -> watch";
    Scenario::new(pipeline).run().ended(1).wrote("1000\n");
}

#[test]
fn a_wrong_pipeline_starts_nothing() {
    let pipeline = "
        stages:
          good: {command: 'echo > started'}
          bad: {command: [there-is-no-such-program]}";
    let run =
        Scenario::new(pipeline).run().ended(2).said(["mpflow::missing_program", "there-is-no-such-program"]);
    assert!(!run.has("started"));
    assert!(!run.has("report.json"));
}

#[test]
fn of_a_working_directory_that_is_missing_only_that_is_said() {
    let pipeline = "stages: {a: {command: [true], cwd: nowhere}}";
    let run = Scenario::new(pipeline).run().ended(2).said(["mpflow::cwd", "nowhere"]);
    run.never_said(["mpflow::missing_program"]);
}

#[test]
fn a_program_that_cannot_be_executed_starts_nothing() {
    let pipeline = "
        stages:
          good: {command: 'echo > started'}
          bad: {command: [./plain.txt]}";
    let run = Scenario::new(pipeline).file("plain.txt", "text\n").run().ended(2).said(["is not executable"]);
    assert!(!run.has("started"));
}

#[test]
fn a_start_that_fails_only_in_the_kernel_names_the_step() {
    let pipeline = "stages: {bad: {command: [./strange]}}";
    let run = Scenario::new(pipeline).program("strange", "#!/there/is/no/interpreter\n").run().ended(1);
    run.said(["cannot start worker `bad`"]);
}

// ---- restarts

#[test]
fn a_stream_worker_is_not_restarted_unless_it_says_so() {
    let pipeline = "stages: {bad: {command: 'echo x >> starts; exit 1'}}";
    let run = Scenario::new(pipeline).run().ended(1);
    assert_eq!(run.read("starts"), "x\n");
}

#[test]
fn on_failure_restarts_until_it_succeeds() {
    let pipeline = "
        stages:
          flaky:
            command: 'echo x >> starts; test $(wc -l < starts) -ge 3 && echo fine'
            restart: {policy: on-failure, backoff: {initial: 10ms}}";
    let run = Scenario::new(pipeline).run().succeeded().wrote("fine\n");
    assert_eq!(run.read("starts"), "x\nx\nx\n");
    assert_eq!(run.stage("flaky")["restarts"], 2);
    assert_eq!(run.events_of("worker_restarting").len(), 2);
}

#[test]
fn more_restarts_than_max_fail_the_stage() {
    let pipeline = "
        stages:
          bad:
            command: 'echo x >> starts; exit 5'
            restart: {policy: on-failure, max: 3, backoff: {initial: 5ms}}";
    let run = Scenario::new(pipeline).run().ended(1).said(["exited with 5", "3 restarts"]);
    assert_eq!(run.read("starts"), "x\n".repeat(4));
}

#[test]
fn always_restarts_a_success_too() {
    let pipeline = "
        stages:
          again:
            command: 'echo x >> starts; exit 0'
            restart: {policy: always, max: 2, backoff: {initial: 5ms}}";
    let run = Scenario::new(pipeline).run().ended(1);
    assert_eq!(run.read("starts"), "x\n".repeat(3));
}

#[test]
fn the_wait_before_a_restart_grows() {
    let pipeline = "
        stages:
          bad:
            command: 'exit 1'
            restart: {policy: on-failure, max: 4, backoff: {initial: 20ms, factor: 3, max: 100ms, jitter: 0}}";
    let run = Scenario::new(pipeline).run().ended(1);
    let waits: Vec<f64> =
        run.events_of("worker_restarting").iter().map(|event| event["backoff"].as_f64().unwrap()).collect();
    assert_eq!(waits, [0.02, 0.06, 0.1, 0.1]);
}

#[test]
fn a_restarted_stream_worker_gets_the_records_that_its_predecessor_had_not_read() {
    // The first process reads one record and dies; what lay in its pipe goes to the next.
    let pipeline = "
        stages:
          work:
            command: 'if mkdir first 2>/dev/null; then read -r a; echo $a; kill -9 $$; fi; cat'
            restart: {policy: on-failure, backoff: {initial: 5ms}}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(5000)).run().succeeded().wrote(numbers(5000));
    let edge = run.edge("stdin -> work");
    assert_eq!((&edge["delivered"], &edge["unconfirmed"]), (&json!(5000), &json!(1)));
}

#[test]
fn a_stream_worker_that_dies_leaves_its_records_unconfirmed() {
    let pipeline = "
        stages:
          work: {command: 'read -r a; read -r b; kill -9 $$', on_failure: continue}
        edges: [{queue: stdin -> work}]";
    let run = Scenario::new(pipeline).stdin("a\nb\n").run().ended(1).said(["-9"]);
    assert_eq!(run.edge("stdin -> work")["unconfirmed"], 2);
}

// ---- dependencies and time

#[test]
fn depends_on_finished_waits_for_success() {
    let pipeline = "
        stages:
          first: {command: 'sleep 0.2; echo made > made'}
          second: {command: 'cat made', depends_on: {first: finished}}";
    Scenario::new(pipeline).run().succeeded().wrote("made\n");
}

#[test]
fn depends_on_started_waits_for_the_start() {
    let pipeline = "
        stages:
          second: {command: 'echo second', depends_on: [first]}
          first: {command: 'echo first; sleep 0.1'}";
    let run = Scenario::new(pipeline).run().succeeded();
    let order: Vec<&str> =
        run.events_of("worker_started").iter().map(|event| event["stage"].as_str().unwrap()).collect();
    assert_eq!(order, ["first", "second"]);
}

#[test]
fn a_dependency_that_fails_fails_its_dependants_and_is_named() {
    let pipeline = "
        stages:
          first: {command: 'exit 1', on_failure: continue}
          second: {command: 'echo > ran', depends_on: {first: finished}, on_failure: continue}
          third: {command: 'echo > ran', depends_on: {second: finished}}";
    let run = Scenario::new(pipeline).run().ended(1);
    let run = run.said([
        "stage `first` that it depends on has failed",
        "stage `second` that it depends on has failed",
    ]);
    assert!(!run.has("ran"));
    assert_eq!(run.stage("third")["started"], 0);
}

#[test]
fn a_stage_has_at_most_its_timeout() {
    let pipeline = "stages: {slow: {command: 'sleep 1000', timeout: 300ms}}";
    let run = Scenario::new(pipeline).run().ended(1).said(["stage `slow`", "timeout of 300ms"]);
    assert!(run.report["wall_seconds"].as_f64().unwrap() >= 0.3);
}

// ---- environment

#[test]
fn workers_know_who_they_are() {
    let pipeline = "
        name: who
        stages: {work: {command: 'echo $MPFLOW_PIPELINE $MPFLOW_STAGE $MPFLOW_WORKER $MPFLOW_RANK $MPFLOW_POOL $MPFLOW_RUN_ID', pool: 2}}";
    let run = Scenario::new(pipeline).run().succeeded();
    let id = run.report["run_id"].as_str().unwrap().to_owned();
    run.wrote_lines([0, 1].map(|rank| format!("who work work/{rank} {rank} 2 {id}")));
}

#[test]
fn environments_add_up_the_nearest_last() {
    let pipeline = "
        env_file: base.env
        env: {B: pipeline, C: pipeline}
        stages: {work: {command: 'echo $OUTER $A $B $C', env: {C: stage}}}";
    let scenario = Scenario::new(pipeline).file("base.env", "A=file\nB=file\nC=file\n").env("OUTER", "outer");
    scenario.env("C", "outer").run().succeeded().wrote("outer file pipeline stage\n");
}

#[test]
fn inherit_env_false_leaves_only_what_is_declared() {
    let pipeline = "stages: {work: {command: [env], inherit_env: false, env: {OWN: mine}}}";
    let run = Scenario::new(pipeline).env("SECRET", "outer").run().succeeded();
    let names: Vec<&str> = run
        .text()
        .lines()
        .filter_map(|line| line.split('=').next())
        .filter(|name| !name.starts_with("MPFLOW_"))
        .collect();
    assert!(names.contains(&"OWN") && names.contains(&"PATH"));
    assert!(names.iter().all(|name| ["OWN", "PATH", "HOME", "LANG", "TMPDIR"].contains(name)), "{names:?}");
}

#[test]
fn the_working_directory_is_that_of_the_pipeline_or_as_declared() {
    let pipeline = "
        stages:
          here: {command: 'test -e pipeline.yaml && echo here'}
          there: {command: 'basename $PWD; pwd -P | xargs basename', cwd: sub/dir}";
    let scenario = Scenario::new(pipeline);
    std::fs::create_dir_all(scenario.path("sub/dir")).unwrap();
    scenario.run().succeeded().wrote_lines(["here", "dir", "dir"]);
}

// ---- limits

#[test]
fn limits_hold_for_each_worker() {
    let pipeline = "
        stages:
          files: {command: 'ulimit -n', limits: {open_files: 77}}
          nice: {command: 'nice', limits: {nice: 7}}
          cpus: {command: 'grep Cpus_allowed_list /proc/self/status | cut -f 2', limits: {cpus: [0]}}
          memory: {command: 'ulimit -v', limits: {memory: 1GiB}}
          time: {command: 'ulimit -t', limits: {cpu_time: 9s}}";
    Scenario::new(pipeline).run().succeeded().wrote_lines(["77", "7", "0", "1048576", "9"]);
}

#[test]
fn a_worker_over_its_processor_time_is_killed_by_the_kernel() {
    let pipeline = "stages: {busy: {command: 'while :; do :; done', limits: {cpu_time: 1s}}}";
    Scenario::new(pipeline).run().ended(1).said(["stage `busy`", "was killed by"]);
}

// ---- deaths

#[test]
fn a_worker_that_can_do_nothing_does_not_start_for_ever() {
    let pipeline = "
        stages: {bad: {command: 'echo x >> starts; exit 1', mode: map, restart: {policy: on-failure, backoff: {initial: 5ms}}}}
        edges: [{queue: stdin -> bad -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(100_000)).run().ended(1).said(["stage `bad`"]);
    assert!(run.read("starts").lines().count() <= 6);
}

#[test]
fn a_worker_may_say_that_it_is_ready_before_the_run_knows_that_it_runs() {
    // With so many started at once, some have spoken before the launcher is heard.
    let names: Vec<String> = (0..30).map(|number| format!("d{number}")).collect();
    let daemon = |name: &String| {
        format!("  {name}: {{command: 'echo up >&2; exec sleep 1000', daemon: true, ready: {{log: up}}}}\n")
    };
    let stages: String = names.iter().map(daemon).collect();
    let wanted = names.join(": ready, ");
    let job = format!("  job: {{command: echo done, depends_on: {{{wanted}: ready}}}}\n");
    Scenario::new(format!("stages:\n{stages}{job}")).run().succeeded().wrote("done\n");
}

/// Answers all that it gets, and does not end then.
const LINGERING: &str = "while read -r x; do echo $x; done; echo up > idle; while :; do sleep 0.02; done";

#[test]
fn a_map_worker_that_is_killed_after_its_work_was_done_fails_nothing() {
    let pipeline = format!(
        "stages: {{work: {{command: '{LINGERING}', mode: map}}}}\nedges: [{{queue: stdin -> work -> stdout}}]"
    );
    let run = Scenario::new(pipeline).stdin(numbers(100)).start();
    run.wait_for_file("idle");
    let pid = run.wait_for_event("worker_started")["pid"].as_i64().unwrap() as i32;
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let run = run.finish().succeeded().wrote(numbers(100));
    assert_eq!(run.stage("work")["exits"], json!([[-9, 1]]));
    run.said(["worker `work` was killed by SIGKILL (-9), after its work was done"]);
}

#[test]
fn a_map_worker_that_ends_badly_by_itself_after_its_work_was_done_fails_its_stage() {
    let pipeline = "
        stages: {work: {command: 'cat; exit 3', mode: map}}
        edges: [{queue: stdin -> work -> stdout}]";
    let run = Scenario::new(pipeline).stdin(numbers(100)).run().ended(1).wrote(numbers(100));
    assert_eq!(run.failure()["reason"], "worker `work` exited with 3");
}
