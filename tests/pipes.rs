//! `pipe` edges: kernel byte streams straight from one process to the other.

mod support;

use support::{Scenario, need_python};

#[test]
fn binary_data_passes_a_pipe_with_the_same_checksum() {
    let pipeline = "
        stages:
          random: {command: 'head -c 50000000 /dev/urandom | tee >(cksum > sent.txt)'}
          sum: {command: cksum}
        edges: [{pipe: random -> sum}]";
    let pipeline = pipeline.replace("'head", "[bash, -c, 'head").replace("sent.txt)'", "sent.txt)']");
    let run = Scenario::new(pipeline).start();
    let sent = run.wait_for_file("sent.txt");
    run.finish().succeeded().wrote(sent);
}

#[test]
fn a_pipe_has_no_engine_in_between() {
    // The two ends are one pipe of the kernel's, and nobody else has it.
    let pipeline = "
        stages:
          from: {command: 'readlink /proc/self/fd/3 3>&1 > from.txt; echo x'}
          to: {command: 'readlink /proc/self/fd/0; cat'}
        edges: [{pipe: from -> to}]";
    let run = Scenario::new(pipeline).run().succeeded();
    assert_eq!(run.text(), format!("{}x\n", run.read("from.txt")));
    assert!(run.text().starts_with("pipe:"));
}

#[test]
fn workers_of_a_pipe_are_joined_rank_by_rank() {
    let pipeline = "
        stages:
          from: {command: 'echo from $MPFLOW_RANK', pool: 4}
          to: {command: 'read -r line; echo \"$line to $MPFLOW_RANK\"', pool: 4}
        edges: [{pipe: from -> to}]";
    let run = Scenario::new(pipeline).run().succeeded();
    run.wrote_lines((0..4).map(|rank| format!("from {rank} to {rank}")));
}

#[test]
fn a_chain_of_pipes_is_a_shell_pipe() {
    let pipeline = "
        stages:
          a: {command: seq 100000}
          b: {command: [grep, '7']}
          c: {command: [wc, -l]}
        edges: [{pipe: a -> b -> c}]";
    Scenario::new(pipeline).run().succeeded().wrote("40951\n");
}

#[test]
fn a_reader_that_ends_early_ends_its_writer() {
    let pipeline = "
        stages:
          endless: {command: [yes]}
          few: {command: [head, -n, '3']}
        edges: [{pipe: endless -> few}]";
    Scenario::new(pipeline).run().succeeded().wrote("y\ny\ny\n");
}

#[test]
fn a_pipe_may_have_a_size() {
    need_python();
    let pipeline = "
        stages:
          from: {command: [python3, -c, 'import fcntl; print(fcntl.fcntl(1, 1032))']}
          to: {command: cat}
        edges: [{pipe: from -> to, size: 256KiB}]";
    Scenario::new(pipeline).run().succeeded().wrote("262144\n");
}

#[test]
fn a_pipe_between_custom_ports_is_told_by_number() {
    let pipeline = "
        stages:
          from: {command: 'echo side >&$MPFLOW_OUT_side; echo main'}
          to: {command: 'cat <&$MPFLOW_IN_extra'}
        edges:
          - pipe: from.side -> to.extra
          - queue: from -> stdout
          - queue: to -> stdout";
    Scenario::new(pipeline).run().succeeded().wrote_lines(["main", "side"]);
}

const CLIENT: &str = "
import os, socket
s = socket.socket(fileno=int(os.environ['MPFLOW_PIPE_server']))
f = s.makefile('rw')
total = 0
for i in range(200):
    f.write(f'{i}\\n'); f.flush()
    total += int(f.readline())
print(os.environ['MPFLOW_RANK'], total)
";

const SERVER: &str = "
import os, socket
s = socket.socket(fileno=int(os.environ['MPFLOW_PIPE_client']))
f = s.makefile('rw')
for line in f:
    f.write(f'{int(line) * 2}\\n'); f.flush()
print('server', os.environ['MPFLOW_RANK'], 'done')
";

#[test]
fn a_duplex_pair_talks_both_ways() {
    need_python();
    let pipeline = "
        stages:
          client: {command: [python3, client.py], pool: 2}
          server: {command: [python3, server.py], pool: 2}
        edges: [{pipe: client -> server, duplex: true}]";
    let run = Scenario::new(pipeline).file("client.py", CLIENT).file("server.py", SERVER).run().succeeded();
    run.wrote_lines(["0 39800", "1 39800", "server 0 done", "server 1 done"]);
}

#[test]
fn a_duplex_pair_may_send_more_than_fits_both_ways() {
    need_python();
    let both = "
import os, socket, sys, threading
other, = [name for name in os.environ if name.startswith('MPFLOW_PIPE_')]
s = socket.socket(fileno=int(os.environ[other]))
def send():
    s.sendall(b'x' * 20_000_000); s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send); thread.start()
count = 0
while part := s.recv(1 << 20):
    count += len(part)
thread.join()
print(count)
";
    let pipeline = "
        stages:
          a: {command: [python3, both.py]}
          b: {command: [python3, both.py]}
        edges: [{pipe: a -> b, duplex: true}]";
    let run = Scenario::new(pipeline).file("both.py", both).run().succeeded();
    run.wrote("20000000\n20000000\n");
}

#[test]
fn pipes_and_queues_meet_in_one_stage() {
    let pipeline = "
        stages:
          a: {command: seq 1000}
          b: {command: cat}
          c: {command: cat, pool: 2}
          d: {command: [sort, -n]}
        edges:
          - pipe: a -> b
          - queue: b -> c -> d -> stdout";
    Scenario::new(pipeline).run().succeeded().wrote(support::numbers(1000));
}

#[test]
fn a_failing_end_of_a_pipe_ends_the_run() {
    let pipeline = "
        stages:
          a: {command: [yes]}
          b: {command: 'head -n 1; exit 3'}
        edges: [{pipe: a -> b}]";
    let run = Scenario::new(pipeline).run().ended(1).said(["stage `b`", "exited with 3"]);
    assert_eq!(run.report["outcome"]["failures"].as_array().unwrap().len(), 1, "{}", run.told());
}
