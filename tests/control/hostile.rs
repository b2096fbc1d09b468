//! Whatever a client does, the run does its work, and others are answered.

use super::*;

#[test]
fn a_frame_without_end_costs_its_client_the_connection() {
    let run = scenario(ECHO).start();
    let mut hostile = Peer::connect(&run);
    let chunk = vec![b'x'; 1 << 20];
    while hostile.send(&chunk) {}
    assert_eq!(json(&run, &["status", &id(&run)])["state"], "running");
    finishes_its_work(run);
}

#[test]
fn documents_nested_without_end_and_binary_garbage_are_refused() {
    let run = scenario(ECHO).start();
    let mut hostile = Peer::connect(&run);
    let mut garbage: Vec<u8> = (0..60_000).map(|i: u32| (i * 7919 % 251) as u8).collect();
    garbage.retain(|&byte| byte != b'\n');
    for mut line in ["[".repeat(60_000).into_bytes(), "{\"a\":".repeat(10_000).into_bytes(), garbage] {
        line.push(b'\n');
        assert!(hostile.send(&line));
        assert_eq!(hostile.read().unwrap()["error"]["code"], -32700);
    }
    finishes_its_work(run);
}

#[test]
fn half_a_request_holds_nobody_up() {
    let run = scenario(ECHO).start();
    let mut halves: Vec<Peer> = (0..20).map(|_| Peer::connect(&run)).collect();
    for half in &mut halves {
        assert!(half.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"meth"));
    }
    assert_eq!(json(&run, &["status", &id(&run)])["state"], "running");
    finishes_its_work(run);
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let run = scenario(ECHO).start();
    let mut hostile = Peer::connect(&run);
    hostile.stream.get_ref().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let requests = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n".repeat(1000);
    // Until the run reads no more, since its answers are not read.
    while hostile.send(&requests) {}
    assert_eq!(json(&run, &["status", &id(&run)])["state"], "running");
    finishes_its_work(run);
}

/// Follows by this request, and never reads what comes.
fn a_follower_that_never_reads(method: &str, params: &str) {
    const RECORDS: u64 = 300_000;
    let mut run = scenario(
        "
stages:
  loud: {command: 'tee /dev/stderr'}
edges:
  - queue: stdin -> loud -> stdout
",
    )
    .start();
    let mut hostile = Peer::connect(&run);
    assert!(hostile.ask(method, params)["result"].is_object());
    let mut stdin = run.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(support::numbers(RECORDS).as_bytes()).unwrap());
    assert_eq!(json(&run, &["status", &id(&run)])["run"]["state"], "running");
    writer.join().unwrap();
    run.finish().succeeded().wrote(support::numbers(RECORDS));
    drop(hostile);
}

#[test]
fn whoever_follows_the_log_and_never_reads_holds_nobody_up() {
    a_follower_that_never_reads("logs", r#"{"follow": true}"#);
}

#[test]
fn whoever_taps_an_edge_and_never_reads_holds_nobody_up() {
    a_follower_that_never_reads("tap", r#"{"edge": "stdin -> loud"}"#);
}

/// Opens the way to the socket, as far as modes go, and asks as another user.
#[test]
fn another_user_is_not_answered_even_where_the_folders_let_them_in() {
    const OTHER: &str = "65534";
    let may = Command::new("setpriv").args(["--reuid", OTHER, "--clear-groups", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let run = scenario(ECHO).start();
    let socket = socket(&run);
    let as_other = |script: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", OTHER, "--clear-groups", "python3", "-c", script]).arg(&socket);
        command.env("PATH", support::path_with_python());
        command.output().unwrap()
    };
    let ask = "import socket, sys
peer = socket.socket(socket.AF_UNIX)
try:
    peer.connect(sys.argv[1])
    peer.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stop\"}\\n')
    print('answered' if peer.recv(100) else 'closed')
except PermissionError:
    print('kept out')
except OSError:
    print('closed')
";
    let says = |output: Output| String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(says(as_other(ask)), "kept out");
    for folder in socket.ancestors().take_while(|path| *path != Path::new("/tmp") && *path != Path::new("/"))
    {
        let open = if folder == socket { 0o666 } else { 0o755 };
        fs::set_permissions(folder, fs::Permissions::from_mode(open)).unwrap();
    }
    assert_eq!(says(as_other(ask)), "closed");
    finishes_its_work(run);
}

#[test]
fn a_thousand_connections_that_say_nothing_keep_nobody_out() {
    let run = scenario(ECHO).start();
    let path = socket(&run);
    let before = fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap().count();
    let mut idle: Vec<UnixStream> = Vec::new();
    while idle.len() < 1000 {
        idle.push(UnixStream::connect(&path).unwrap());
        if idle.len().is_multiple_of(250) {
            assert_eq!(json(&run, &["status", &id(&run)])["state"], "running");
        }
    }
    let held = || fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap().count();
    run.wait_until("few descriptors for so many", || (held() < before + 80).then_some(()));
    drop(idle);
    run.wait_until("all of them are let go", || (held() <= before + 1).then_some(()));
    finishes_its_work(run);
}

#[test]
fn those_who_follow_are_bounded_and_leave_room_for_those_who_look() {
    let run = scenario(ECHO).start();
    let mut followers = Vec::new();
    let refusal = loop {
        let mut peer = Peer::connect(&run);
        let answer = peer.ask("tap", r#"{"edge": "stdin -> echo"}"#);
        if answer["error"].is_object() {
            break answer;
        }
        followers.push(peer);
        assert!(followers.len() < 100);
    };
    assert_eq!(refusal["error"]["data"]["reason"], "too_many");
    assert_eq!(json(&run, &["status", &id(&run)])["state"], "running");
    finishes_its_work(run);
}

#[test]
fn what_a_killed_run_leaves_is_recognised_and_removed() {
    let run = scenario(ECHO).start();
    let (id, socket) = (id(&run), socket(&run));
    run.signal(support::Signal::SIGKILL);
    run.wait_until("the end of the engine", || (!support::is_alive(run.pid())).then_some(()));
    assert!(socket.exists());
    // Its lock is released when the last of its threads has ended.
    run.wait_until("its folder to be removed", || {
        let ps = json(&run, &["ps"]);
        assert!(ps["runs"].as_array().unwrap().iter().all(|run| run["id"] != id.as_str()), "{ps}");
        (!socket.parent().unwrap().exists()).then_some(())
    });
    assert!(run.finish().status.code().is_none());
}
