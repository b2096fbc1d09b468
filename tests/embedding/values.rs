//! Values in and out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mpflow::report::Outcome;
use mpflow::{EndError, Engine, RecvError, SendError, StartError, Stdio};
use serde::{Deserialize, Serialize};

use super::{Run, end, pipeline, values, within_deadline};
use crate::own_main::Test;

pub(super) const TESTS: &[Test] = crate::tests![
    values_go_in_and_come_out_coded_as_the_edges_say,
    structs_pass_by_json_and_by_msgpack,
    a_single_record_comes_back_without_another_that_pushes_it,
    sending_waits_for_room_and_memory_stays_bounded,
    a_record_that_cannot_be_sent_leaves_the_run_as_it_was,
    dropping_the_last_input_ends_it,
    a_reader_that_goes_ends_the_run_as_a_pipe_would,
    a_run_that_is_killed_wakes_both_ends,
    what_was_sent_before_a_drain_is_delivered,
    failures_come_beside_results_by_another_format,
    a_record_that_is_no_such_value_is_passed_over,
    several_senders_send_into_one_run,
    large_python_results_come_out_of_shared_memory,
    an_end_is_taken_once_and_only_where_there_is_one,
    a_stream_that_nobody_connected_starts_nothing,
    ends_that_are_not_taken_are_ended_by_waiting,
    what_the_reader_did_not_read_is_discarded_in_the_books,
];

const CAT: &str = "
stages: {cat: {command: cat}}
edges: [{queue: stdin -> cat -> stdout}]
";

fn values_go_in_and_come_out_coded_as_the_edges_say() {
    for format in ["lines", "json", "nul", "frames"] {
        let run = values(&format!(
            "stages: {{cat: {{command: cat}}}}\nedges: [{{queue: stdin -> cat -> stdout, format: {format}}}]"
        ));
        let input = run.input::<str>().unwrap();
        let output = run.output::<String>().unwrap();
        let sender =
            thread::spawn(move || (0..10_000).for_each(|n| input.send(&format!("record {n}")).unwrap()));
        let received: Vec<String> = within_deadline(|| output.map(Result::unwrap).collect());
        sender.join().unwrap();
        assert_eq!(received.len(), 10_000);
        assert!(received.iter().enumerate().all(|(n, text)| *text == format!("record {n}")), "{format}");
        let report = end(run);
        assert_eq!(report.outcome, Outcome::Succeeded);
        assert_eq!(report.edges[1].delivered, 10_000);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    name: String,
    at: (f64, f64),
    tags: Option<Vec<u32>>,
}

fn structs_pass_by_json_and_by_msgpack() {
    // Python has the value as a dict by both.
    for format in ["json", "msgpack"] {
        let folder = tempfile::tempdir().unwrap();
        let tasks = "def mirror(point):\n    point['at'] = point['at'][::-1]\n    return point\n";
        std::fs::write(folder.path().join("tasks.py"), tasks).unwrap();
        let run = values(&format!(
            "stages: {{mirror: {{python: '{}:mirror', pool: 2}}}}\nedges: [{{queue: stdin -> mirror -> stdout, format: {format}}}]",
            folder.path().join("tasks.py").display()
        ));
        let input = run.input::<Point>().unwrap();
        let point = |n: u32| Point {
            name: format!("ü{n}\n"),
            at: (f64::from(n), 0.5),
            tags: n.is_multiple_of(2).then(|| vec![n]),
        };
        let sender = thread::spawn(move || (0..3000).for_each(|n| input.send(&point(n)).unwrap()));
        let mut received: Vec<Point> = within_deadline({
            let output = run.output().unwrap();
            move || output.map(Result::unwrap).collect()
        });
        sender.join().unwrap();
        received.sort_by(|one, other| one.at.1.total_cmp(&other.at.1));
        let expected: Vec<Point> = (0..3000).map(|n| Point { at: (0.5, f64::from(n)), ..point(n) }).collect();
        assert!(received == expected, "{format}: {:?}", &received[..3]);
        end(run);
    }
}

fn a_single_record_comes_back_without_another_that_pushes_it() {
    let run = values(CAT);
    let input = run.input::<u64>().unwrap();
    let mut output = run.output::<u64>().unwrap();
    for n in 0..100 {
        input.send(&n).unwrap();
        assert_eq!(output.recv_timeout(super::DEADLINE), Ok(n));
    }
    assert_eq!(output.try_recv(), Err(RecvError::Empty));
    assert_eq!(output.recv_timeout(Duration::from_millis(10)), Err(RecvError::Timeout));
    input.close();
    assert_eq!(output.recv(), Err(RecvError::Ended));
    assert_eq!(output.recv(), Err(RecvError::Ended));
    end(run);
}

fn sending_waits_for_room_and_memory_stays_bounded() {
    // The worker takes nothing: what is taken from the sender is what the parts may hold.
    let run = values(
        "stages: {slow: {command: sleep 1000}}\n\
         edges: [{queue: stdin -> slow, capacity: 10, format: lines}]",
    );
    let input = run.input::<str>().unwrap();
    let record = "x".repeat(100_000);
    let mut sent = 0;
    loop {
        match input.send_timeout(&record, Duration::from_millis(300)) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 200, "it must wait");
    }
    assert_eq!(input.try_send(&record), Err(SendError::Full));
    run.stop(mpflow::Stop::Kill);
    within_deadline(move || while input.send(&record).is_ok() {});
    end(run);
}

fn a_record_that_cannot_be_sent_leaves_the_run_as_it_was() {
    let run =
        values("stages: {cat: {command: cat}}\nedges: [{queue: stdin -> cat -> stdout, max_record: 10B}]");
    let input = run.input::<serde_json::Value>().unwrap();
    let error = input.send(&serde_json::json!({"a": 1})).unwrap_err();
    assert!(matches!(&error, SendError::Code(_)), "{error}");
    assert!(error.to_string().contains("format: json"), "{error}");
    let error = input.send(&"eleven long".into()).unwrap_err();
    assert_eq!(error, SendError::TooLarge { bytes: 11, max_record: 10 });
    input.send(&"short".into()).unwrap();
    drop(input);
    let received: Vec<String> = run.output().unwrap().map(Result::unwrap).collect();
    assert_eq!(received, ["short"]);
    assert_eq!(end(run).outcome, Outcome::Succeeded);
}

fn dropping_the_last_input_ends_it() {
    let run = values("stages: {count: {command: wc -l}}\nedges: [{queue: stdin -> count -> stdout}]");
    let input = run.input::<u32>().unwrap();
    let other = input.clone();
    input.send(&1).unwrap();
    drop(input);
    other.send(&2).unwrap();
    drop(other);
    let mut output = run.output::<u64>().unwrap();
    assert_eq!(output.recv(), Ok(2), "numbers are read as programs pad them");
    end(run);
}

fn a_reader_that_goes_ends_the_run_as_a_pipe_would() {
    let run = values("stages: {endless: {command: 'yes'}}\nedges: [{queue: endless -> stdout}]");
    let mut output = run.output::<String>().unwrap();
    assert_eq!(output.recv().unwrap(), "y");
    drop(output);
    let report = end(run);
    assert_eq!(report.outcome, Outcome::Succeeded, "a producer that is not read any more has not failed");
}

fn what_the_reader_did_not_read_is_discarded_in_the_books() {
    let run = values("stages: {cat: {command: cat}}\nedges: [{queue: stdin -> cat -> stdout}]");
    let input = run.input::<u32>().unwrap();
    let mut output = run.output::<u32>().unwrap();
    for n in 0..100 {
        input.send(&n).unwrap();
    }
    assert_eq!(output.recv(), Ok(0));
    drop(output);
    // The rest of what came and all that comes later.
    drop(input);
    let report = end(run);
    let edge = &report.edges[1];
    let discarded: u64 = edge.discarded.iter().map(|part| part.records).sum();
    assert_eq!(edge.delivered + discarded, edge.records_in);
    assert!(edge.delivered < 100 && edge.delivered >= 1, "{edge:?}");
}

fn a_run_that_is_killed_wakes_both_ends() {
    let run = values(
        "stages: {stuck: {command: sleep 1000}}\nedges: [{queue: stdin -> stuck, capacity: 1}, {queue: stuck -> stdout}]",
    );
    let input = run.input::<str>().unwrap();
    let mut output = run.output::<String>().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let sender = thread::spawn(move || {
        let record = "x".repeat(1 << 20);
        while input.send(&record).is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let receiver = thread::spawn(move || output.recv());
    while sent.load(Ordering::Relaxed) < 1 {
        thread::yield_now();
    }
    run.stop(mpflow::Stop::Kill);
    end(run);
    within_deadline(move || sender.join().unwrap());
    assert_eq!(within_deadline(move || receiver.join().unwrap()), Err(RecvError::Ended));
}

fn what_was_sent_before_a_drain_is_delivered() {
    let run = values(CAT);
    let input = run.input::<u32>().unwrap();
    (0..1000).for_each(|n| input.send(&n).unwrap());
    run.stop(mpflow::Stop::Drain);
    let received: Vec<u32> = within_deadline({
        let output = run.output().unwrap();
        move || output.map(Result::unwrap).collect()
    });
    assert_eq!(received, (0..1000).collect::<Vec<_>>());
    within_deadline(move || while input.send(&0).is_ok() {});
    assert_eq!(end(run).outcome, Outcome::Stopped { level: "drain".to_owned() });
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Answer {
    Number(u64),
    Failed { record: u64, error: String },
}

fn failures_come_beside_results_by_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = "def half(n):\n    if n % 2: raise ValueError('odd')\n    return n // 2\n";
    std::fs::write(folder.path().join("tasks.py"), tasks).unwrap();
    let run = values(&format!(
        "stages: {{half: {{python: '{}:half'}}}}\n\
         edges: [{{queue: stdin -> half -> stdout, format: msgpack}}, {{queue: half.failed -> stdout}}]",
        folder.path().join("tasks.py").display()
    ));
    let input = run.input::<u64>().unwrap();
    (0..10).for_each(|n| input.send(&n).unwrap());
    drop(input);
    let answers: Vec<Answer> = within_deadline({
        let output = run.output().unwrap();
        move || output.map(Result::unwrap).collect()
    });
    let failed: Vec<u64> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Failed { record, error } => {
                assert!(error.contains("odd"), "{error}");
                Some(*record)
            }
            Answer::Number(_) => None,
        })
        .collect();
    assert_eq!(failed, [1, 3, 5, 7, 9]);
    assert_eq!(answers.len(), 10);
    end(run);
}

fn a_record_that_is_no_such_value_is_passed_over() {
    let run =
        values("stages: {three: {command: 'printf \"1\\ntwo\\n3\\n\"'}}\nedges: [{queue: three -> stdout}]");
    let mut output = run.output::<u8>().unwrap();
    assert_eq!(output.recv(), Ok(1));
    let error = output.recv().unwrap_err();
    assert!(error.to_string().starts_with("the record `two` of `lines` is no `u8`"), "{error}");
    assert_eq!(output.recv(), Ok(3));
    assert_eq!(output.recv(), Err(RecvError::Ended));
    end(run);
}

fn several_senders_send_into_one_run() {
    let run =
        values("stages: {cat: {command: cat}}\nedges: [{queue: stdin -> cat -> stdout, capacity: 100}]");
    let input = run.input::<u64>().unwrap();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let input = input.clone();
            thread::spawn(move || (0..5000).for_each(|n| input.send(&(sender * 5000 + n)).unwrap()))
        })
        .collect();
    drop(input);
    let mut received: Vec<u64> = within_deadline({
        let output = run.output().unwrap();
        move || output.map(Result::unwrap).collect()
    });
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let of_one: Vec<u64> = received.iter().copied().filter(|n| n / 5000 == 2).collect();
    assert!(of_one.is_sorted(), "what one sends stays in order");
    received.sort_unstable();
    assert!(received == (0..20_000).collect::<Vec<_>>());
    end(run);
}

fn large_python_results_come_out_of_shared_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tasks.py"), "def large(n):\n    return [n, 'x' * n]\n").unwrap();
    let run = values(&format!(
        "stages: {{large: {{python: '{}:large', pool: 2}}}}\nedges: [{{queue: stdin -> large -> stdout, format: msgpack}}]",
        folder.path().join("tasks.py").display()
    ));
    let input = run.input::<usize>().unwrap();
    let sizes = [10, 100_000, 3_000_000];
    let sender = thread::spawn(move || (0..60).for_each(|n| input.send(&sizes[n % 3]).unwrap()));
    let output = run.output::<(usize, String)>().unwrap();
    let received: Vec<(usize, String)> = within_deadline(|| output.map(Result::unwrap).collect());
    sender.join().unwrap();
    assert_eq!(received.len(), 60);
    assert!(received.iter().all(|(size, text)| text.len() == *size && text.bytes().all(|byte| byte == b'x')));
    end(run);
}

fn an_end_is_taken_once_and_only_where_there_is_one() {
    let run = values(CAT);
    let _input = run.input::<str>().unwrap();
    assert_eq!(run.input::<str>().unwrap_err(), EndError::Taken("stdin"));
    drop(run);
    let run = values("stages: {a: {command: 'true', stdout: 'null'}}");
    let error = run.output::<String>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no edge of the pipeline uses `stdout`: add `queue: STAGE -> stdout` to it"
    );
    end(run);
    let run = Engine::new().stdin(Stdio::Null).stdout(Stdio::Null).start(&pipeline(CAT)).unwrap();
    assert_eq!(run.input::<str>().unwrap_err(), EndError::NotValues("stdin"));
    end(run);
}

fn a_stream_that_nobody_connected_starts_nothing() {
    let error = Engine::new().start(&pipeline(CAT)).map(drop).unwrap_err();
    assert!(matches!(&error, StartError::Unconnected { stream: "stdin", .. }), "{error}");
    let error = Engine::new().stdin(Stdio::Null).start(&pipeline(CAT)).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("edge `cat -> stdout` needs to know what `stdout` is"), "{text}");
    // Nobody has asked for the output of this stage.
    let run = Engine::new().start(&pipeline("stages: {hello: {command: echo hello}}")).unwrap();
    assert_eq!(end(run).outcome, Outcome::Succeeded);
    let msgpack =
        "stages: {p: {python: 'json:dumps'}}\nedges: [{queue: stdin -> p -> stdout, format: msgpack}]";
    let error = Engine::new()
        .stdin(Stdio::Values)
        .stdout(Stdio::Bytes)
        .start(&pipeline(msgpack))
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, StartError::Values { stream: "stdout", .. }));
}

fn ends_that_are_not_taken_are_ended_by_waiting() {
    let report = end(values(CAT));
    assert_eq!(report.outcome, Outcome::Succeeded);
    let endless: Run = values("stages: {endless: {command: 'yes'}}\nedges: [{queue: endless -> stdout}]");
    assert_eq!(end(endless).outcome, Outcome::Succeeded);
}
