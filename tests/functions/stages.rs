//! Stages with `function: name`.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Scenario, numbers, path_with_python};

const METHODS: [&str; 3] = ["spawn", "fork", "forkserver"];
const THROUGH: &str = "{queue: stdin -> work -> stdout}";

/// A pipeline, run by this program.
fn pipeline(text: &str) -> Scenario {
    Scenario::new(text).by(std::env::current_exe().unwrap()).env("PATH", &path_with_python())
}

/// One stage `work` that calls this function.
fn work(function: &str, keys: &str, edges: &str) -> Scenario {
    pipeline(&format!("{{stages: {{work: {{function: {function}{keys}}}}}, edges: [{edges}]}}"))
}

pub(crate) fn a_function_is_called_for_each_record() {
    let run = work("double", ", pool: 3, ordered: true", THROUGH).stdin(numbers(10_000)).run().succeeded();
    let expected: String = (1..=10_000).map(|number| format!("{}\n", number * 2)).collect();
    run.wrote(expected);
    work("sink", "", THROUGH).stdin("a\nb\n").run().succeeded().wrote("");
}

pub(crate) fn every_format_carries_records() {
    for format in ["json", "msgpack"] {
        let text = format!(
            "{{stages: {{a: {{function: same}}, b: {{function: same}}}}, edges: [
              {{queue: stdin -> a, format: json}}, {{queue: a -> b, format: {format}}}, {{queue: b -> stdout, format: json}}]}}"
        );
        let lines = "{\"a\":[1,2.5,null]}\n\"ä\"\n-1\n18446744073709551615\n[]\n";
        pipeline(&text).stdin(lines).run().succeeded().wrote(lines);
    }
    for (format, end) in [("lines", "\n"), ("nul", "\0")] {
        let edges = format!("{{queue: stdin -> work -> stdout, format: {format}}}");
        let text = format!("abc{end}{end}de{end}");
        work("bytes", "", &edges).stdin(text).run().succeeded().wrote(format!("cba{end}{end}ed{end}"));
    }
    let edges = "{queue: stdin -> work -> stdout, format: frames}";
    work("bytes", "", edges).stdin(*b"\x02\0\0\0\xff\n").run().succeeded().wrote(*b"\x02\0\0\0\n\xff");
}

pub(crate) fn all_start_methods_are_alike() {
    for method in METHODS {
        let keys = format!(", pool: 2, ordered: true, start_method: {method}");
        let run = work("double", &keys, THROUGH).stdin(numbers(1000)).run().succeeded();
        run.wrote((1..=1000).map(|number| format!("{}\n", number * 2)).collect::<String>());
    }
}

pub(crate) fn a_forked_worker_has_what_the_program_had_before_init() {
    for (method, has) in [("spawn", false), ("fork", true), ("forkserver", false)] {
        let run = work("kept", &format!(", start_method: {method}"), "").run().succeeded();
        assert_eq!(run.text().trim() != "0", has, "{method}: {}", run.text());
        assert!(run.stderr.contains("printed, and no record"), "{}", run.stderr);
    }
}

pub(crate) fn a_worker_may_be_limited_and_ranked() {
    for method in METHODS {
        let keys = format!(
            ", pool: 2, start_method: {method}, cwd: sub, limits: {{open_files: 99}}, env: {{COLOUR: 'red-${{{{ worker.rank }}}}'}}"
        );
        let scenario = work("who", &keys, "");
        std::fs::create_dir(scenario.path("sub")).unwrap();
        let lines = ["work/0 0 2 work red-0 99 true sub", "work/1 1 2 work red-1 99 true sub"];
        scenario.run().succeeded().wrote_lines(lines);
    }
}

pub(crate) fn a_worker_has_its_own_descriptors_and_no_others() {
    for method in METHODS {
        let run = work("open", &format!(", start_method: {method}"), THROUGH).stdin("x\n").run().succeeded();
        // The null device, two ends of the log, the records, the answers and the control connection, twice.
        let own = "/dev/null pipe pipe pipe pipe socket socket\n";
        if method == "fork" {
            // And what the program had itself, here what whoever started the tests has left open.
            let has = |kind: &str| run.text().matches(kind).count() - own.matches(kind).count();
            assert!(["/dev/null", "pipe", "socket"].map(has)[2] == 0, "{}", run.text());
            continue;
        }
        run.wrote(own);
    }
}

pub(crate) fn signals_are_as_a_new_program_has_them() {
    let mut told = Vec::new();
    for method in METHODS {
        let run = work("tell", &format!(", start_method: {method}"), "").run().succeeded();
        told.push(run.text().to_owned());
    }
    // SIGPIPE alone is ignored, as in every Rust program.
    assert_eq!(told[0], "0000000000000000\n0000000000001000\n");
    assert!(told.iter().all(|lines| *lines == told[0]), "{told:?}");
}

pub(crate) fn exit_codes_are_those_of_the_function() {
    for method in METHODS {
        for (function, record, exit) in [("exit", "3", 3), ("kill", "x", -9)] {
            let keys = format!(", start_method: {method}, restart: never");
            let run = work(function, &keys, THROUGH).stdin(format!("{record}\n")).run().ended(1);
            assert_eq!(run.stage("work")["exits"], json!([[exit, 1]]), "{method}: {}", run.report);
        }
    }
}

pub(crate) fn a_worker_that_ends_well_with_its_last_record_in_hand_is_missed() {
    // It exits with 0, which is no end of its work: nobody else has the record.
    let run = work("exit", ", restart: never", THROUGH).stdin("0\n").run().ended(1);
    assert_eq!(run.stage("work")["exits"], json!([[0, 1]]));
    let run = work("exit", ", on_error: skip, restart: {backoff: {initial: 1ms}}", THROUGH)
        .stdin("0\n")
        .run()
        .succeeded();
    assert_eq!(run.stage("work")["failed"], 1);
}

pub(crate) fn streams_and_sources_are_called_once() {
    work("sum", ", mode: stream", THROUGH).stdin(numbers(1000)).run().succeeded().wrote("500500\n");
    work("upper", ", mode: stream", THROUGH).stdin("a\nb").run().succeeded().wrote("A\nB\n");
    work("numbers", ", args: [3]", "").run().succeeded().wrote("0\n1\n2\n");
    let run = work("up_to_three", ", mode: stream", THROUGH).stdin(numbers(9)).run().ended(1);
    let run = run.wrote("1\n2\n3\n");
    assert!(run.stderr.contains("more than three"), "{}", run.stderr);
}

pub(crate) fn an_error_fails_its_record_with_its_causes() {
    let text = "{stages: {work: {function: parse}}, edges: [{queue: stdin -> work -> stdout}, {queue: work.failed -> stdout}]}";
    let text = text
        .replace("{queue: work.failed -> stdout}", "{queue: work.failed -> cat}")
        .replace("{work: {function: parse}}", "{work: {function: parse}, cat: {command: 'cat >&2'}}");
    let run = pipeline(&text).stdin("1\nx\n3\n").run().succeeded();
    let run = run.wrote("1\n3\n");
    let line = run.stderr.lines().find(|line| line.contains("{")).unwrap();
    let failed: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    assert_eq!(failed["record"], "x");
    assert_eq!(failed["error"], "Useless: cannot use the line: invalid digit found in string");
    assert!(failed["traceback"].as_str().unwrap().contains("caused by:"), "{failed}");
}

pub(crate) fn a_panic_fails_its_record_and_replaces_the_worker() {
    for method in METHODS {
        let keys = format!(", on_error: skip, ordered: true, start_method: {method}");
        let run = work("divide", &keys, THROUGH).stdin("50\n0\n20\n").run().succeeded();
        let run = run.wrote("2\n5\n");
        let events = run.events_of("record_failed");
        let error = events[0]["error"].as_str().unwrap();
        assert!(error.contains("attempt to divide by zero, at tests/functions/registered.rs:"), "{error}");
        assert!(error.starts_with("panic: "), "{error}");
        assert_eq!(run.stage("work")["exits"], json!([[0, 1], [101, 1]]));
    }
}

pub(crate) fn a_panic_charges_no_other_record() {
    // Far more panics than restarts are allowed, and no record but the guilty is tried twice.
    let input: String = (0..2000).map(|number| format!("{}\n", number % 20)).collect();
    let keys = ", pool: 2, on_error: skip, ordered: true, restart: {max: 2}";
    let run = work("divide", keys, THROUGH).stdin(input).run().succeeded();
    let expected: String = (0..2000)
        .map(|number| number % 20)
        .filter(|&number| number > 0)
        .map(|number| format!("{}\n", 100 / number))
        .collect();
    let run = run.wrote(expected);
    assert_eq!(run.events_of("record_failed").len(), 100);
}

pub(crate) fn a_panic_in_a_stream_fails_the_stage() {
    let run = work("panics_at_two", ", mode: stream", THROUGH).stdin(numbers(3)).run().ended(1);
    assert!(run.stderr.contains("panicked: two, at tests/functions/registered.rs:"), "{}", run.stderr);
    assert_eq!(run.stage("work")["exits"], json!([[101, 1]]));
}

pub(crate) fn a_worker_that_is_killed_loses_and_doubles_nothing() {
    for method in METHODS {
        let keys = format!(
            ", pool: 2, ordered: true, restart: {{max: 100, backoff: {{initial: 1ms}}}}, start_method: {method}"
        );
        let run = work("killed_once", &keys, THROUGH).stdin(numbers(1000)).run().succeeded();
        run.wrote(numbers(1000));
    }
}

pub(crate) fn state_is_made_once_in_each_worker() {
    for method in METHODS {
        let run = work("state", &format!(", start_method: {method}"), THROUGH)
            .stdin(numbers(100))
            .run()
            .succeeded();
        run.wrote("work 0\n".repeat(100));
    }
}

pub(crate) fn state_that_cannot_be_made_fails_the_stage() {
    let run = work("no_state", "", THROUGH).stdin("x\n").run().ended(2);
    assert!(run.stderr.contains("cannot call `no_state`: there is no model"), "{}", run.stderr);
    assert!(run.stderr.contains("pipeline.yaml:1:"), "{}", run.stderr);
}

pub(crate) fn a_function_asks_its_worker_for_the_arguments_of_its_stage() {
    let edges = "{queue: stdin -> work -> stdout, format: json}";
    let run = work("scaled", ", kwargs: {factor: 2.5}, args: [abc]", edges).stdin("3\n").run().succeeded();
    run.wrote("[7.5,{\"Ok\":\"abc\"}]\n");
    let run = work("scaled", ", kwargs: {factor: 2}", edges).stdin("3\n").run().succeeded();
    run.wrote("[6.0,{\"Err\":\"stage `work` has 0 `args`, and number 0 was asked for\"}]\n");
    for (keys, why) in [
        ("", "stage `work` has no `factor` in its `kwargs`"),
        (", kwargs: {factor: much}", "invalid type: string \"much\", expected f64"),
    ] {
        let run = work("scaled", keys, edges).stdin("3\n").run().ended(2);
        // Wrapped by whoever shows it.
        let said = run.stderr.replace("\n  │", "");
        assert!(said.contains("cannot call `scaled`: ") && said.contains(why), "{}", run.stderr);
    }
}

pub(crate) fn a_batch_is_one_call() {
    let run = work("join", ", batch: 3", THROUGH).stdin(numbers(7)).run().succeeded();
    run.wrote("3:1+2+3\n3:4+5+6\n1:7\n");
}

pub(crate) fn functions_emit_on_further_ports() {
    let text = "
        stages: {work: {function: ports}, cat: {command: 'sed s/^/even-/'}}
        edges: [{queue: stdin -> work -> stdout}, {queue: work.even -> cat -> stdout}]";
    let run = pipeline(text).stdin(numbers(6)).run().succeeded();
    run.wrote_lines(["1", "3", "5", "even-2", "even-4", "even-6"]);
    let run = work("no_port", "", THROUGH).stdin("x\n").run().succeeded();
    run.wrote("there is no output port `evn`: this stage has `stdout`\n");
}

pub(crate) fn results_of_a_slow_function_leave_at_once() {
    // Both are leased in one frame; the second lasts until the first has come out.
    let mut run = work("slow", ", prefetch: 2", THROUGH).stdin("quick\nwait\n").hold_stdout().start();
    let mut stdout = std::io::BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "quick\n");
    std::fs::write(run.path("go"), "").unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "quick\nwait\n");
    run.finish().succeeded();
}

pub(crate) fn a_record_of_many_results_is_not_held_in_memory() {
    let run = work("many", ", limits: {memory: 64MiB}", THROUGH).stdin("3000000\n").run().succeeded();
    assert_eq!(run.text().lines().count(), 3_000_000);
}

pub(crate) fn python_and_rust_understand_each_other() {
    let text = "
        stages:
          make: {python: 'tasks:make'}
          work: {function: mirror, pool: 2, ordered: true}
          show: {python: 'tasks:show'}
        edges: [{queue: make -> work -> show -> stdout}]";
    let tasks = "
def make():
    for number in range(1000): yield {'x': number, 'y': -1}
def show(point): return f\"{point['x']} {point['y']} {point['by']}\"";
    let run = pipeline(text).file("tasks.py", tasks).run().succeeded();
    run.wrote((0..1000).map(|number| format!("-1 {number} Rust\n")).collect::<String>());
}

pub(crate) fn large_values_pass_from_python_through_rust_and_back() {
    // Python's larger bodies lie in segments, of which a worker in Rust knows nothing.
    let text = "
        stages:
          make: {python: 'tasks:make'}
          turn: {function: turn, pool: 2, ordered: true}
          show: {python: 'tasks:show'}
        edges: [{queue: make -> turn -> show -> stdout}]";
    let tasks = "
SIZES = [0, 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1] * 5
def make():
    for number, size in enumerate(SIZES):
        bytes_ = (number.to_bytes(4, 'little') * (size // 4 + 1))[:size]
        yield {'text': f'{number}ä' * (size // 4), 'bytes': bytes_}
expected = make()
def show(turned):
    made = next(expected)
    same = turned == {'text': made['text'][::-1], 'bytes': made['bytes'][::-1]}
    return f\"{len(made['bytes'])} {same}\"";
    let run = pipeline(text).file("tasks.py", tasks).run().succeeded();
    let sizes = [0, 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1].repeat(5);
    run.wrote(sizes.iter().map(|size| format!("{size} True\n")).collect::<String>());
    // And as a stream, which is not leased.
    let text = "
        stages:
          make: {python: 'tasks:make'}
          upper: {function: upper, mode: stream}
          show: {python: 'tasks:show'}
        edges: [{queue: make -> upper -> show -> stdout}]";
    let tasks = "
def make():
    for number in range(20): yield chr(97 + number) * (1 << 20)
def show(text): return f'{text[0]} {len(text)} {len(set(text))}'";
    let run = pipeline(text).file("tasks.py", tasks).run().succeeded();
    run.wrote(('A'..='T').map(|letter| format!("{letter} 1048576 1\n")).collect::<String>());
}

pub(crate) fn a_record_that_is_something_else_fails() {
    let run = work("double", ", on_error: skip", THROUGH).stdin("1\nx\n3\n").run().succeeded();
    let run = run.wrote("2\n6\n");
    let error = run.events_of("record_failed")[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("`x` of `lines` is no `u64`"), "{error}");
}

pub(crate) fn a_function_that_is_not_there_is_shown_with_its_place() {
    let refused = |function: &str, keys: &str, edges: &str| {
        let run = work(function, keys, edges).stdin("x\n").run().ended(2).stderr;
        assert!(run.contains("pipeline.yaml:1:"), "{run}");
        run
    };
    let shown = refused("doubel", "", THROUGH);
    assert!(
        shown.contains("mpflow::unknown_function") && shown.contains("did you mean `double`?"),
        "{shown}"
    );
    let shown = refused("sum", "", THROUGH);
    assert!(
        shown.contains("was registered as a function of a stream") && shown.contains("mode: stream"),
        "{shown}"
    );
    let shown = refused("double", ", mode: stream", THROUGH);
    assert!(shown.contains("was registered as a function of one record"), "{shown}");
    let shown = refused("double", "", "");
    assert!(shown.contains("Functions::source"), "{shown}");
    let shown = refused("numbers", "", THROUGH);
    assert!(shown.contains("was registered as a source"), "{shown}");
    let shown = refused("double", "", "{queue: stdin -> work -> stdout, format: pickle}");
    assert!(shown.contains("a Rust function"), "{shown}");
}

pub(crate) fn the_plain_program_says_who_must_run_the_file() {
    let run =
        Scenario::new("{stages: {work: {function: double}}, edges: [{queue: stdin -> work -> stdout}]}")
            .run()
            .ended(2)
            .stderr;
    assert!(run.contains("mpflow::no_functions") && run.contains("mpflow::init(&functions)"), "{run}");
}

pub(crate) fn a_worker_keeps_to_the_protocol() {
    for format in ["lines", "nul", "json", "frames", "msgpack"] {
        let output = Command::new(env!("CARGO_BIN_EXE_mpflow"))
            .args(["conformance", "--timeout", "60s", "--records", format, "--target-prefix", "", "--"])
            .arg(std::env::current_exe().unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{format}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
