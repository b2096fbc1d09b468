//! Ports: standard error, and ports of the user's own by descriptor number.

mod support;

use support::Scenario;

#[test]
fn standard_error_can_be_a_port() {
    let pipeline = "
        stages:
          both: {command: 'echo out; echo err >&2'}
          errors: {command: [sed, 's/^/E: /']}
        edges:
          - queue: both -> stdout
          - queue: both.stderr -> errors
          - queue: errors -> stdout";
    Scenario::new(pipeline).run().succeeded().wrote_lines(["out", "E: err"]).never_said(["both | err"]);
}

#[test]
fn standard_error_goes_to_mpflows_line_by_line_after_the_workers_name() {
    let pipeline = "
        stages:
          loud: {command: 'echo \"one $MPFLOW_RANK\" >&2; printf \"last %s\" $MPFLOW_RANK >&2', pool: 2}";
    let run = Scenario::new(pipeline).run().succeeded();
    let run = run.said(["loud/0 | one 0\n", "loud/1 | one 1\n", "loud/0 | last 0\n", "loud/1 | last 1\n"]);
    assert_eq!(run.events_of("log").len(), 4);
}

#[test]
fn a_port_of_the_users_is_told_by_its_descriptors_number() {
    let pipeline = "
        stages:
          split:
            pool: 2
            command: |
              while read -r n; do
                if [ $((n % 2)) = 0 ]; then echo $n >&$MPFLOW_OUT_even; else echo $n >&\"$MPFLOW_OUT_odd\"; fi
              done
          even: {command: [sed, 's/^/even /']}
          odd: {command: [sed, 's/^/odd /']}
        edges:
          - queue: stdin -> split
          - queue: split.even -> even -> stdout
          - queue: split.odd -> odd -> stdout";
    let run = Scenario::new(pipeline).stdin(support::numbers(500)).run().succeeded();
    assert_eq!(run.edge("split.even -> even")["delivered"], 250);
    run.wrote_lines((1..=500).map(|n| format!("{} {n}", if n % 2 == 0 { "even" } else { "odd" })));
}

#[test]
fn a_stage_may_read_from_a_second_port() {
    let pipeline = "
        stages:
          words: {command: \"printf 'a\\\\nb\\\\nc\\\\n'\"}
          numbers: {command: seq 3}
          join: {command: 'paste -d : - /dev/fd/$MPFLOW_IN_right'}
        edges:
          - queue: words -> join
          - queue: numbers -> join.right
          - queue: join -> stdout";
    Scenario::new(pipeline).run().succeeded().wrote("a:1\nb:2\nc:3\n");
}

#[test]
fn the_other_end_of_a_duplex_pipe_is_named_with_underscores() {
    let pipeline = "
        stages:
          the-client: {command: 'echo question >&$MPFLOW_PIPE_the_server; read -r line <&$MPFLOW_PIPE_the_server; echo $line'}
          the-server: {command: 'read -r line <&$MPFLOW_PIPE_the_client; echo \"$line and answer\" >&$MPFLOW_PIPE_the_client'}
        edges: [{pipe: the-client -> the-server, duplex: true}]";
    Scenario::new(pipeline).run().succeeded().wrote("question and answer\n");
}

#[test]
fn a_port_that_a_worker_closes_ends_its_queue_while_the_worker_goes_on() {
    let pipeline = "
        stages:
          from: {command: [bash, from.sh]}
          to: {command: 'cat > got; echo end > seen'}
        edges:
          - queue: from.a -> to
          - queue: from -> stdout";
    let script = "
        echo x >&$MPFLOW_OUT_a
        eval \"exec $MPFLOW_OUT_a>&-\"
        while [ ! -e seen ]; do sleep 0.02; done
        echo y";
    let run = Scenario::new(pipeline).file("from.sh", script).run().succeeded().wrote("y\n");
    assert_eq!(run.read("got"), "x\n");
}

#[test]
fn two_queues_from_one_custom_port_are_two_subscriptions() {
    let pipeline = "
        stages:
          from: {command: 'seq 100 >&$MPFLOW_OUT_n'}
          a: {command: [tail, -n, '1'], stdout: a.txt}
          b: {command: [tail, -n, '1'], stdout: b.txt}
        edges:
          - queue: from.n -> a
          - queue: from.n -> b";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!((run.read("a.txt").as_str(), run.read("b.txt").as_str()), ("100\n", "100\n"));
}

#[test]
fn output_of_a_further_port_is_held_back_in_each_mode_too() {
    let pipeline = "
        stages:
          work:
            mode: each
            on_error: skip
            command: 'echo main {}; echo side {} >&$MPFLOW_OUT_side; test {} != b'
        edges:
          - queue: stdin -> work -> stdout
          - queue: work.side -> stdout";
    let run = Scenario::new(pipeline).stdin("a\nb\nc\n").run().succeeded();
    run.wrote_lines(["main a", "side a", "main c", "side c"]);
}

#[test]
fn standard_streams_may_be_files() {
    let pipeline = "
        stages:
          copy: {command: 'cat; echo err >&2', stdin: in.txt, stdout: out.txt, stderr: err.txt}
          quiet: {command: 'echo nothing; echo nothing >&2', stdout: 'null', stderr: 'null'}";
    let pipeline = pipeline.replace("'null'", "null");
    let run = Scenario::new(pipeline)
        .file("in.txt", "hello\n")
        .file("out.txt", "old and longer\n")
        .run()
        .succeeded();
    assert_eq!((run.read("out.txt").as_str(), run.read("err.txt").as_str()), ("hello\n", "err\n"));
    run.wrote("").never_said(["nothing"]);
}

#[test]
fn the_workers_of_a_pool_append_to_one_file() {
    let pipeline = "
        stages: {work: {command: 'for i in 1 2 3; do echo $MPFLOW_RANK; done', pool: 3, stdout: out.txt}}";
    let run = Scenario::new(pipeline).run().succeeded();
    let mut lines: Vec<String> = run.read("out.txt").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines.concat(), "000111222");
}
