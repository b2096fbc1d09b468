//! Formats: what a record is, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Scenario, need_python};

const COPY: &str = "
    stages: {copy: {command: cat, pool: 1}}
    edges: [{queue: stdin -> copy -> stdout}]";

#[test]
fn lines_pass_byte_for_byte() {
    let nasty: &[&[u8]] = &[
        b"\n",
        b"\n\n\n",
        b"one\r\ntwo\r\n",
        b"\r\n\r",
        b"nul \0 inside\n\0\n\0",
        b"\xff\xfe invalid \xc3\x28\n\x80",
        b"no newline",
        "äöü – 漢字 🦀\n".as_bytes(),
        b"   \n\t\n leading\n",
        b"",
    ];
    for bytes in nasty {
        Scenario::new(COPY).stdin(*bytes).run().succeeded().wrote(bytes);
    }
}

#[test]
fn a_line_of_fifty_megabytes_passes_whole() {
    let mut bytes = vec![b'x'; 50 << 20];
    for (position, byte) in bytes.iter_mut().enumerate().step_by(4099) {
        *byte = b'a' + u8::try_from(position % 23).unwrap();
    }
    bytes.extend_from_slice(b"\nshort\n");
    let pipeline = "
        stages: {copy: {command: cat, pool: 2}}
        edges: [{queue: stdin -> copy -> stdout}]";
    let run = Scenario::new(pipeline).stdin(bytes.clone()).run().succeeded();
    let short = b"short\n";
    let expected_last = [&bytes[..], b""].concat();
    let other_order = [short, &bytes[..bytes.len() - short.len()]].concat();
    assert!(run.stdout == expected_last || run.stdout == other_order, "{} bytes came", run.stdout.len());
}

#[test]
fn nul_records_may_hold_newlines() {
    let pipeline = r#"
        stages:
          count: {command: 'tr "\n\0" "+\n"', pool: 1}
        edges:
          - {queue: stdin -> count, format: nul}
          - {queue: count -> stdout, format: lines}"#;
    let run = Scenario::new(pipeline).stdin("a\nb\0\0c\0").run().succeeded().wrote("a+b\n\nc\n");
    assert_eq!(run.edge("stdin -> count")["in"], 3);
}

#[test]
fn nul_records_reach_a_pool_whole() {
    let pipeline = r#"
        stages:
          copy: {command: cat, pool: 3}
        edges: [{queue: stdin -> copy -> stdout, format: nul}]"#;
    let records: Vec<String> = (0..5000).map(|i| format!("{i}\n{i}")).collect();
    let run = Scenario::new(pipeline).stdin(records.join("\0")).run().succeeded();
    let mut found: Vec<&str> = run.text().split('\0').filter(|record| !record.is_empty()).collect();
    let mut expected: Vec<&str> = records.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Reads frames, and writes them back reversed.
const REVERSE_FRAMES: &str = r#"
import struct, sys
source, sink = sys.stdin.buffer, sys.stdout.buffer
while head := source.read(4):
    (length,) = struct.unpack("<I", head)
    body = source.read(length)
    assert len(body) == length, (len(body), length)
    sink.write(struct.pack("<I", length) + body[::-1])
"#;

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

#[test]
fn frames_carry_any_bytes() {
    need_python();
    let pipeline = "
        stages: {reverse: {command: [python3, reverse.py], pool: 1}}
        edges: [{queue: stdin -> reverse -> stdout, format: frames}]";
    let bodies: Vec<Vec<u8>> =
        (0..2000usize).map(|i| (0..i % 300).map(|j| (i * j % 256) as u8).collect()).collect();
    let sent: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    let expected: Vec<u8> =
        bodies.iter().flat_map(|body| frame(&body.iter().rev().copied().collect::<Vec<_>>())).collect();
    let run = Scenario::new(pipeline).file("reverse.py", REVERSE_FRAMES).stdin(sent).run().succeeded();
    assert_eq!(run.edge("stdin -> reverse")["in"], 2000);
    run.wrote(expected);
}

#[test]
fn frames_are_never_torn_between_the_workers_of_a_pool() {
    need_python();
    let pipeline = "
        stages: {reverse: {command: [python3, reverse.py], pool: 3}}
        edges: [{queue: stdin -> reverse -> stdout, format: frames}]";
    let bodies: Vec<Vec<u8>> = (0..3000usize).map(|i| vec![b'0' + (i % 10) as u8; i % 700]).collect();
    let sent: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    let run = Scenario::new(pipeline).file("reverse.py", REVERSE_FRAMES).stdin(sent).run().succeeded();
    let (mut found, mut rest) = (Vec::new(), &run.stdout[..]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        found.push(rest[4..4 + length].to_vec());
        rest = &rest[4 + length..];
    }
    let mut expected = bodies;
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} frames came", found.len());
}

#[test]
fn output_that_ends_within_a_frame_fails_its_stage() {
    let pipeline = r#"
        stages: {torn: {command: [printf, "\\003\\000\\000\\000abc\\005\\000\\000\\000ab"]}, sink: {command: cat}}
        edges: [{queue: torn -> sink, format: frames}]"#;
    let run = Scenario::new(pipeline).run().ended(1).said(["stage `torn`", "frame"]);
    assert_eq!(run.failure()["stage"], "torn");
}

#[test]
fn standard_input_that_ends_within_a_frame_fails_the_run() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout, format: frames}]";
    let sent = [frame(b"whole"), b"\x09\0\0\0part".to_vec()].concat();
    Scenario::new(pipeline).stdin(sent).run().ended(1).said(["frame"]);
}

#[test]
fn json_documents_pass_as_they_are_written() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout, format: json}]";
    let text = "{\"a\":  1}\n[1,2 , 3]\n\"x\"\nnull\n1e3\n{\"u\":\"\\u00e4ä\"}\n";
    Scenario::new(pipeline).stdin(text).run().succeeded().wrote(text);
}

#[test]
fn a_record_that_is_no_json_fails_the_stage_that_wrote_it_and_is_shown() {
    let pipeline = r#"
        stages:
          bad: {command: [printf, '{"a": 1}\n{"a": oops}\n']}
          sink: {command: cat}
        edges: [{queue: bad -> sink, format: json}]"#;
    let run = Scenario::new(pipeline).run().ended(1).said(["stage `bad`", r#"{"a": oops}"#, "JSON"]);
    assert_eq!(run.failure()["stage"], "bad");
}

#[test]
fn standard_input_that_is_no_json_fails_the_run_and_is_shown() {
    let pipeline = "
        stages: {copy: {command: cat}}
        edges: [{queue: stdin -> copy -> stdout, format: json}]";
    Scenario::new(pipeline).stdin("{}\nnot json\n").run().ended(1).said(["not json", "JSON"]);
}

#[test]
fn the_answers_of_a_map_stage_are_checked_as_json() {
    let pipeline = r#"
        stages:
          bad: {command: [sed, -u, 's/2/oops/'], mode: map}
        edges: [{queue: stdin -> bad -> stdout, format: json}]"#;
    let run = Scenario::new(pipeline).stdin("1\n2\n3\n").run().ended(1).said(["stage `bad`", "oops"]);
    assert_eq!(run.failure()["stage"], "bad");
}
