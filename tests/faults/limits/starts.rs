//! Starts that cannot be: each names the worker, the step that failed and the reason, and leaves nobody.

use rstest::rstest;
use serde_json::json;

use crate::support::Scenario;

#[rstest]
#[case::gone("rm tool", "there is no program `../tool`")]
#[case::not_executable("chmod a-x tool", "is not executable")]
#[case::interpreter(
    "printf '#!/there/is/none\\n' > new; chmod +x new; mv new tool",
    "cannot execute the program: No such file or directory (os error 2); are the program, and the interpreter of its `#!` line, there?"
)]
#[case::no_shebang(
    "echo words > new; chmod +x new; mv new tool",
    "cannot execute the program: Exec format error (os error 8); does the script lack its `#!` line?"
)]
#[case::folder("rm -r home", "cannot enter the working directory")]
#[case::folder_is_a_file("rm -r home; echo > home", "cannot enter the working directory")]
fn what_goes_wrong_between_the_check_and_the_start_is_told_with_its_step(
    #[case] spoil: &str,
    #[case] said: &str,
) {
    let pipeline = "
        stages:
          spoil: {command: [sh, spoil.sh]}
          bad: {command: [../tool], cwd: home, depends_on: {spoil: finished}, on_failure: continue}
          other: {command: 'echo other', depends_on: {spoil: finished}}";
    let scenario = Scenario::new(pipeline).program("tool", "#!/bin/sh\necho tool\n").file("spoil.sh", spoil);
    std::fs::create_dir(scenario.path("home")).unwrap();
    let run = scenario.run().ended(1).said(["cannot start worker `bad`: "]).wrote("other\n");
    let reason = run.failure()["reason"].as_str().unwrap();
    assert!(reason.contains(said), "`{said}` is not in: {reason}");
    assert_eq!((&run.stage("bad")["started"], run.events_of("worker_start_failed").len()), (&json!(0), 1));
}

#[rstest]
#[case::gone("rm tool", "cannot execute the program: No such file or directory (os error 2)")]
#[case::not_executable("chmod a-x tool", "cannot execute the program: Permission denied (os error 13)")]
#[case::folder("rm -r home", "cannot enter the working directory: No such file or directory (os error 2)")]
fn what_goes_wrong_between_one_start_and_the_next_fails_the_records_alone(
    #[case] spoil: &str,
    #[case] said: &str,
) {
    let pipeline = "
        stages: {work: {mode: each, command: [../tool, '{}'], cwd: home, on_error: skip}}
        edges: [{queue: stdin -> work -> stdout}]";
    let tool = "#!/bin/sh\ntest $1 != 2 || sh ../spoil.sh\necho $1\n";
    let scenario = Scenario::new(pipeline).program("tool", tool).file("spoil.sh", format!("cd ..; {spoil}"));
    std::fs::create_dir(scenario.path("home")).unwrap();
    let run = scenario.stdin("1\n2\n3\n4\n").run().succeeded().wrote("1\n2\n");
    let errors: Vec<&str> =
        run.events_of("record_failed").iter().map(|event| event["error"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|error| error.contains(said)), "`{said}` is not in: {errors:?}");
}

#[test]
fn arguments_that_are_too_long_fail_their_record_alone() {
    // The kernel takes 128 KiB for one argument, execve(2).
    let pipeline = "
        stages: {work: {mode: each, command: [/bin/echo, '{}'], on_error: skip}}
        edges: [{queue: stdin -> work -> stdout}]";
    let input = format!("before\n{}\nafter\n", "x".repeat(200_000));
    let run = Scenario::new(pipeline).stdin(input).run().succeeded().wrote("before\nafter\n");
    let run = run.said([
        "its process cannot be started: cannot execute the program: Argument list too long",
        "too long",
    ]);
    assert_eq!(run.stage("work")["failed"], 1);
}

#[test]
fn a_request_that_is_too_long_for_the_launchers_socket_arrives_all_the_same() {
    let pipeline = "
        stages: {work: {mode: each, command: [/bin/echo, '{}']}}
        edges: [{queue: stdin -> work -> stdout}]";
    let record = "x".repeat(100_000);
    Scenario::new(pipeline).stdin(record.clone()).run().succeeded().wrote(record + "\n");
}

#[test]
fn a_program_that_is_being_written_is_waited_for() {
    // ETXTBSY: somebody has it open for writing, and will not for long.
    let pipeline = "
        stages:
          write: {command: 'exec 3>> tool; echo held; while [ ! -e go ]; do sleep 0.02; done', daemon: true, ready: {log: held}}
          work: {command: [./tool], depends_on: {write: ready}}";
    let scenario = Scenario::new(pipeline);
    std::fs::copy("/bin/echo", scenario.path("tool")).unwrap();
    let run = scenario.start();
    run.wait_for("worker_start_failed", |event| event["error"].as_str().unwrap().contains("Text file busy"));
    std::fs::write(run.path("go"), "").unwrap();
    run.finish().succeeded().wrote_lines(["held", ""]);
}

#[test]
fn a_limit_of_descriptors_just_high_enough_for_its_own_lets_a_worker_start() {
    let pipeline = "
        stages: {work: {command: 'ulimit -n; cat', limits: {open_files: 4}}}
        edges: [{queue: stdin -> work -> stdout}]";
    Scenario::new(pipeline).stdin("x\n").run().succeeded().wrote("4\nx\n");
}
