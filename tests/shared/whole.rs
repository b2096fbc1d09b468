//! The run around them: its report, its folder, its end, and clients that mean ill.

use super::*;

#[test]
fn the_summary_and_the_report_have_the_last_values() {
    let pipeline = "
        shared: {hits: {value: i64}, screen: {lock: true}, round: {barrier: 2}}
        stages:
          all: {command: 'mpflow shared add hits 3; mpflow shared lock screen -- true', stdout: 'null'}
          dies: {command: \"python3 -c 'from mpflow import shared; shared.screen.acquire()'\", depends_on: {all: finished}}";
    let run = scenario(pipeline).run().succeeded();
    assert_eq!(object(&run, "hits"), json!({"name": "hits", "kind": "value", "element": "i64", "value": 3}));
    assert_eq!(object(&run, "screen")["held_by"], "dies");
    run.said(["screen  lock          `dies` ended with it; acquired 2 times", "hits    i64           3"]);
}

#[test]
fn a_run_that_is_asked_says_who_waits_for_what_and_who_holds_it() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}}
        stages:
          holder: {command: 'mpflow shared lock screen -- mpflow shared wait go'}
          next: {command: 'until [ -e now ]; do sleep 0.01; done; mpflow shared lock screen -- true'}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    fs::write(run.path("now"), "").unwrap();
    wait_for_state(&run, "screen", |state| state["waiting"] == 1);
    run.signal(Signal::SIGUSR1);
    run.wait_for_message("lock `screen` is held by worker `holder`");
    run.wait_for_message("worker `next`");
    run.wait_for_message("event `go` is not set; worker `holder`");
    Client::new(&socket(&run), "").on("go", "set");
    run.finish().succeeded();
}

#[test]
fn the_folder_of_a_run_is_private_and_goes_with_it() {
    let pipeline = "
        shared: {go: {event: false}}
        stages: {all: {command: mpflow shared wait go}}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    for folder in path.ancestors().skip(1).take(2) {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700, "{}", folder.display());
    }
    Client::new(&path, "").on("go", "set");
    let run = run.finish().succeeded();
    assert!(fs::read_dir(run.path("runtime")).unwrap().next().is_none(), "the last run leaves nothing");
}

#[test]
fn a_run_that_is_stopped_while_workers_wait_ends() {
    let pipeline = "
        shared: {screen: {lock: true}, round: {barrier: 9}}
        stages:
          holder: {command: python3 hold.py}
          waits: {command: mpflow shared lock screen -- true, pool: 2}
          barrier: {command: mpflow shared wait round}";
    let run = scenario(pipeline).file("hold.py", HOLD).start();
    pid_in(&run, "holder.txt");
    wait_for_state(&run, "round", |state| state["waiting"] == 1);
    run.signal(Signal::SIGTERM);
    let run = run.finish().ended(143);
    assert_eq!(object(&run, "screen")["kind"], "lock");
}

#[test]
fn an_engine_that_is_killed_leaves_only_a_folder_which_the_next_run_removes() {
    let pipeline = "
        shared: {screen: {lock: true}}
        stages: {all: {command: python3 hold.py}}";
    let first = scenario(pipeline).file("hold.py", HOLD).start();
    let holder = pid_in(&first, "holder.txt");
    let left = socket(&first).parent().unwrap().to_owned();
    let runtime = first.path("runtime").to_str().unwrap().to_owned();
    first.signal(Signal::SIGKILL);
    first.wait_until("the end of the holder", || (!support::is_alive(holder)).then_some(()));
    assert!(left.exists());
    // The next run with the same folder: it removes what the dead one left, and nothing of those that live.
    let next = scenario("{shared: {go: {event: true}}, stages: {all: {command: mpflow shared wait go}}}");
    next.env("XDG_RUNTIME_DIR", &runtime).run().succeeded();
    assert!(!left.exists());
    drop(first);
}

#[test]
fn hostile_clients_harm_nobody() {
    let pipeline = "
        shared: {screen: {lock: true}, go: {event: false}, hits: {value: i64}, settings: {dict: {}}}
        stages:
          all: {command: 'mpflow shared wait go; mpflow shared lock screen -- mpflow shared add hits 1'}";
    let run = scenario(pipeline).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    let connect = || UnixStream::connect(&path).unwrap();
    // What is no request is answered, and changes nothing.
    let mut garbage = connect();
    garbage.write_all(b"\n\x00\xff\n{\"op\": \"set\", \"name\": \"go\"}\n[]\n").unwrap();
    // Half a request, and then nothing.
    let mut half = connect();
    half.write_all(b"{\"op\": \"hel").unwrap();
    // A line without end: the connection is closed, at the latest when the buffers are full.
    let mut endless = connect();
    while endless.write_all(&[b'x'; 4096]).is_ok() {}
    // Requests without reading the replies: after some of them the run stops to read.
    let mut deaf = Client::new(&path, "deaf");
    let large = json!({"op": "put", "name": "settings", "key": "k", "value": {"json": "x".repeat(500_000)}});
    assert_eq!(deaf.ask(&large), json!({"ok": null}));
    deaf.stream.set_nonblocking(true).unwrap();
    let get = format!("{}\n", json!({"op": "get", "name": "settings", "key": "k"}));
    while deaf.stream.write_all(get.as_bytes()).is_ok() {}
    // Many that only come, and many that come and go.
    let _idle: Vec<UnixStream> = (0..50).map(|_| connect()).collect();
    for _ in 0..200 {
        drop(connect());
    }
    // One that has said all and does not wait for the answer.
    let mut brief = Client::new(&path, "brief");
    brief.send(&json!({"op": "acquire", "name": "screen"}));
    drop(brief);
    // The engine's memory has not grown by what they sent.
    let memory = support::status_field(run.pid(), "VmRSS");
    let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 64 << 10, "{memory}");
    Client::new(&path, "").on("go", "set");
    let run = run.finish().succeeded().wrote("1\n");
    assert_eq!(object(&run, "hits")["value"], 1);
    drop((garbage, half, deaf));
}

#[test]
fn a_client_that_comes_when_the_run_takes_no_more_is_told_so() {
    let pipeline = "
        shared: {go: {event: false}}
        stages: {all: {command: mpflow shared wait go}}";
    let run = scenario(pipeline).through(["prlimit", "--nofile=100:100"]).start();
    wait_for_state(&run, "go", |state| state["waiting"] == 1);
    let path = socket(&run);
    let mut all: Vec<Client> = Vec::new();
    let refused = loop {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(b"{\"op\": \"hello\", \"protocol\": 1}\n");
        let mut client = Client { stream, unread: Vec::new() };
        let said = client.hear();
        if said.get("error").is_some() {
            break said;
        }
        all.push(client);
        assert!(all.len() < 100);
    };
    assert_eq!(refused["error"]["code"], "too_many");
    assert!(all.len() >= 16, "{}", all.len());
    all[0].on("go", "set");
    run.finish().succeeded();
}

#[test]
fn arrays_that_no_memory_holds_are_refused_before_anything_starts() {
    let pipeline = "
        shared: {grid: {array: f64, length: 1000000000000}}
        stages: {all: {command: 'true'}}";
    let run = scenario(pipeline).run().ended(2);
    run.said(["mpflow::too_much_shared_memory", "7.3 TiB"]);
}

#[test]
fn a_worker_that_is_restarted_finds_what_it_held_released() {
    let pipeline = "
        shared: {screen: {lock: true}, tries: {value: i64}}
        stages: {all: {command: python3 again.py, restart: on-failure}}";
    let again = "
import os, signal
from mpflow import shared
assert shared.screen.acquire(timeout=60)
if shared.tries.add(1) < 4: os.kill(os.getpid(), signal.SIGKILL)
print('done')
";
    let run = scenario(pipeline).file("again.py", again).run().succeeded().wrote("done\n");
    let screen = object(&run, "screen");
    assert_eq!((&screen["acquired"], &screen["abandoned"]), (&json!(4), &json!(4)));
    assert_eq!(object(&run, "tries")["value"], 4);
}

#[test]
fn python_functions_share_with_each_other_and_with_commands_whatever_their_start_method() {
    let pipeline = "
        shared: {hits: {value: i64}, door: {lock: true}, inside: {value: i64}, names: {dict: {}}}
        stages:
          numbers: {command: seq 1 60}
          spawned: {python: 'tasks:count', pool: 2}
          forked: {python: 'tasks:count', pool: 2, start_method: fork}
          served: {python: 'tasks:count', pool: 2, start_method: forkserver}
          shell: {command: \"while read -r n; do mpflow shared add hits 1; done > /dev/null\"}
        edges:
          - {queue: numbers -> spawned -> shell}
          - {queue: numbers -> forked -> shell}
          - {queue: numbers -> served -> shell}";
    let tasks = "
from mpflow import shared, worker
def count(number):
    with shared.door:
        assert shared.inside.add(1) == 1
        shared.hits.add(1)
        shared.inside.add(-1)
    shared.names[worker.name] = (number,)
    return number
";
    let run = scenario(pipeline).file("tasks.py", tasks).run().succeeded();
    assert_eq!(object(&run, "hits")["value"], 3 * 60 * 2);
    assert_eq!(object(&run, "door")["acquired"], 3 * 60);
}
