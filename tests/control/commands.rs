//! `mpflow ps`, `status`, `logs`, `tap` and `stop`.

use super::*;

#[test]
fn a_run_is_listed_as_long_as_it_goes_on() {
    let run = scenario(ECHO).start();
    let own = id(&run);
    let listed =
        |ps: &Value| ps["runs"].as_array().unwrap().iter().find(|run| run["id"] == own.as_str()).cloned();
    let info = listed(&json(&run, &["ps"])).unwrap();
    assert_eq!(info["pipeline"], "pipeline");
    assert_eq!((&info["pid"], &info["state"]), (&run.pid().into(), &"running".into()));
    assert_eq!(info["file"], run.path("pipeline.yaml").canonicalize().unwrap().to_string_lossy().as_ref());
    assert!(says(&run, &["ps"]).lines().any(|line| line.contains(&own[..8]) && line.contains("running")));
    finishes_its_work(run);
}

#[test]
fn a_run_is_named_by_the_beginning_of_its_id_or_by_its_pipeline() {
    let name = format!("only-{:x}", fastrand::u64(..));
    let run = scenario(&format!("name: {name}\n{ECHO}")).start();
    let own = id(&run);
    for wanted in [&own[..], &own[..18], &own.replace('-', "")[..20], &name] {
        assert_eq!(json(&run, &["status", wanted])["run"]["id"], own.as_str(), "{wanted}");
    }
    let nobody = mpflow(&run, &["status", "no-such-run"]);
    assert_eq!(nobody.status.code(), Some(2));
    let message = String::from_utf8(nobody.stderr).unwrap();
    assert!(message.contains("no run that goes on is called `no-such-run`"), "{message}");
    assert!(message.contains(&name), "{message}");
    finishes_its_work(run);
}

#[test]
fn a_run_whose_pipeline_has_got_another_name_is_called_that() {
    let [old, new] = ["old", "new"].map(|word| format!("{word}-{:x}", fastrand::u64(..)));
    let run = scenario(&format!("name: {old}\n{ECHO}")).start();
    let own = id(&run);
    assert_eq!(json(&run, &["status", &old])["run"]["id"], own.as_str());
    std::fs::write(run.path("pipeline.yaml"), format!("name: {new}\n{ECHO}")).unwrap();
    json(&run, &["reload", &own]);
    assert_eq!(json(&run, &["status", &new])["run"]["id"], own.as_str());
    assert_eq!(mpflow(&run, &["status", &old]).status.code(), Some(2));
    finishes_its_work(run);
}

#[test]
fn several_runs_of_one_name_are_listed_for_a_choice() {
    let name = format!("twins-{:x}", fastrand::u64(..));
    let runs = [(); 2].map(|()| scenario(&format!("name: {name}\n{ECHO}")));
    // One folder for both.
    let folder = runs[0].path("").to_string_lossy().into_owned();
    let runs = runs.map(|run| run.env("XDG_RUNTIME_DIR", &folder).start());
    let ids = [id(&runs[0]), id(&runs[1])];
    let both = |path: &PathBuf| ids.iter().all(|id| path.join(id).join("control").exists()).then_some(());
    runs[0].wait_until("both sockets", || both(&runs[0].path("mpflow")));
    let output = mpflow(&runs[0], &["status", &name]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&format!("2 runs go on that are called `{name}`")), "{message}");
    // As `mpflow ps` lists them: which is which is said by where it is.
    for run in &runs {
        let file = run.path("pipeline.yaml").canonicalize().unwrap().to_string_lossy().into_owned();
        let own = message.lines().find(|line| line.ends_with(&file));
        assert!(own.is_some_and(|line| line.contains(&format!(" {} ", run.pid()))), "{message}");
    }
    let option = mpflow(&runs[0], &["logs", "--run", &name]);
    assert!(String::from_utf8(option.stderr).unwrap().contains("name one with `--run` by its id"));
    // Each by as much of its id as is its own alone.
    for own in &ids {
        let shown =
            message.lines().find(|line| own.starts_with(line.split_whitespace().next().unwrap_or("-")));
        let shown = shown.unwrap().split_whitespace().next().unwrap();
        assert_eq!(json(&runs[0], &["status", shown])["run"]["id"], own.as_str());
    }
    runs.into_iter().for_each(finishes_its_work);
}

#[test]
fn a_suspended_run_is_there_and_does_not_answer() {
    let name = format!("asleep-{:x}", fastrand::u64(..));
    let run = scenario(&format!("name: {name}\n{ECHO}")).start();
    let own = id(&run);
    socket(&run);
    run.signal(support::Signal::SIGSTOP);
    let silent = run.wait_until("the run to be silent", || {
        let silent = json(&run, &["ps"])["silent"].clone();
        silent.as_array()?.iter().find(|run| run["id"] == own.as_str()).cloned()
    });
    let file = run.path("pipeline.yaml").canonicalize().unwrap();
    let expected = serde_json::json!({"id": own, "pid": run.pid(), "pipeline": name, "file": file});
    assert_eq!(silent, expected);
    let what = format!("`{name}` ({own}, pid {}) does not answer", run.pid());
    assert!(says(&run, &["ps"]).contains(&format!("{what}: it may be suspended\n")));
    for args in [vec!["status", &name], vec!["stop", &own[..18]], vec!["logs", "--run", &name]] {
        let output = mpflow(&run, &args);
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(&what) && message.contains("SIGCONT"), "{args:?}: {message}");
    }
    let other = mpflow(&run, &["status", "no-such-run"]);
    assert!(String::from_utf8(other.stderr).unwrap().contains(&what));
    run.signal(support::Signal::SIGCONT);
    finishes_its_work(run);
}

#[test]
fn the_status_tells_of_each_stage_worker_and_queue() {
    let mut run = scenario(
        "
stages:
  half: {command: 'while read x; do echo $((x / 2)); done', pool: 2, mode: map}
  wait: {command: cat, depends_on: {half: finished}}
edges:
  - queue: stdin -> half
  - {queue: half -> wait, capacity: 100, capacity_bytes: 64KiB}
  - queue: wait -> stdout
",
    )
    .start();
    run.stdin.as_mut().unwrap().write_all(support::numbers(10).as_bytes()).unwrap();
    let own = id(&run);
    let status = run.wait_until("ten records", || {
        let status = json(&run, &["status", &own]);
        (status["stages"][0]["records_out"] == 10).then_some(status)
    });
    let (half, wait) = (&status["stages"][0], &status["stages"][1]);
    assert_eq!(
        (&half["state"], &half["mode"], &half["workers"]),
        (&"running".into(), &"map".into(), &2.into())
    );
    assert_eq!((&wait["state"], &wait["reason"]), (&"waiting".into(), &"`half` has not finished".into()));
    let slots = half["slots"].as_array().unwrap();
    assert_eq!(slots.iter().map(|slot| slot["given"].as_u64().unwrap()).sum::<u64>(), 10);
    for slot in slots {
        assert!(support::is_alive(i32::try_from(slot["pid"].as_i64().unwrap()).unwrap()));
        assert!(slot["usage"]["memory_bytes"].as_u64().unwrap() > 1 << 16, "{slot}");
        assert_eq!((&slot["state"], &slot["held"]), (&"running".into(), &0.into()));
    }
    let edge = &status["edges"][1];
    assert_eq!(
        (&edge["edge"], &edge["in"], &edge["records"]),
        (&"half -> wait".into(), &10.into(), &10.into())
    );
    assert_eq!((&edge["capacity"], &edge["capacity_bytes"]), (&100.into(), &65_536.into()));
    assert_eq!(status["edges"][0]["capacity"], Value::Null);
    let text = says(&run, &["status", &own]);
    for expected in ["half/0", "half/1", "wait waiting: `half` has not finished", "half -> wait"] {
        assert!(text.contains(expected), "`{expected}` is missing:\n{text}");
    }
    drop(run.stdin.take());
    run.finish().succeeded();
}

#[test]
fn a_worker_that_holds_one_record_holds_no_records() {
    let mut run = scenario(
        "
stages:
  hold: {command: 'read x; sleep 1000', mode: map}
edges:
  - queue: stdin -> hold
",
    )
    .start();
    run.stdin.as_mut().unwrap().write_all(b"1\n").unwrap();
    let own = id(&run);
    run.wait_until("the record to be held", || {
        let reason = json(&run, &["status", &own])["stages"][0]["slots"][0]["reason"].clone();
        (reason == "holds 1 record that it has not answered").then_some(())
    });
    says(&run, &["stop", "--kill", &own]);
    run.finish().ended(143);
}

#[test]
fn the_log_is_kept_by_worker_and_followed_to_its_end() {
    let mut run = scenario(
        "
stages:
  loud: {command: 'while read x; do echo loud $x >&2; done'}
  other: {command: 'while read x; do echo other $x >&2; done', pool: 2}
edges:
  - {queue: stdin -> loud}
  - {queue: stdin -> other, to_each: true}
",
    )
    .start();
    run.stdin.as_mut().unwrap().write_all(b"1\n2\n").unwrap();
    let own = id(&run);
    run.wait_until("six lines", || (says(&run, &["logs", "--run", &own]).lines().count() == 6).then_some(()));
    assert_eq!(says(&run, &["logs", "loud", "--run", &own]), "loud | loud 1\nloud | loud 2\n");
    assert_eq!(says(&run, &["logs", "other", "--run", &own]).lines().count(), 4);
    assert_eq!(says(&run, &["logs", "other/1", "-n", "1", "--run", &own]), "other/1 | other 2\n");
    let line = json(&run, &["logs", "loud", "-n", "1", "--run", &own]);
    assert_eq!((&line["worker"], &line["line"]), (&"loud".into(), &"loud 2".into()));
    let wrong = mpflow(&run, &["logs", "luod", "--run", &own]);
    assert_eq!(wrong.status.code(), Some(2));
    let shown = String::from_utf8(wrong.stderr).unwrap();
    assert!(shown.contains("did you mean `loud`? there are `loud`, `other`"), "{shown}");

    let follower = command(&run, &["logs", "loud", "--follow", "-n", "1", "--run", &own])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut follower = Guard(follower);
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "loud | loud 2");
    run.stdin.as_mut().unwrap().write_all(b"3\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "loud | loud 3");
    drop(run.stdin.take());
    run.finish().succeeded();
    assert!(lines.next().is_none());
    assert!(follower.0.wait().unwrap().success());
}

/// A process that does not outlive its test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn a_tap_shows_some_records_counts_the_others_and_changes_nothing() {
    const RECORDS: u64 = 200_000;
    let mut run = scenario(ECHO).start();
    let mut peer = Peer::connect(&run);
    assert_eq!(peer.ask("tap", r#"{"edge": "stdin  ->  echo"}"#)["result"], serde_json::json!({}));
    let mut stdin = run.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(support::numbers(RECORDS).as_bytes()).unwrap());
    let mut told = 0;
    loop {
        let line = peer.read().unwrap();
        if line["method"] == "ended" {
            break;
        }
        let records = line["params"]["records"].as_array().unwrap();
        assert!(records.len() <= 20);
        for record in records {
            assert!((1..=RECORDS).contains(&record["text"].as_str().unwrap().parse().unwrap()));
        }
        told += records.len() as u64 + line["params"]["not_shown"].as_u64().unwrap();
    }
    // What passed since the last sample is not told of at the end.
    assert!(told > 0 && told <= RECORDS, "{told}");
    writer.join().unwrap();
    run.finish().succeeded().wrote(support::numbers(RECORDS));
}

#[test]
fn a_tap_ends_after_as_many_records_as_are_wanted_and_knows_pipes_from_queues() {
    let run = scenario(
        "
stages:
  make: {command: 'while echo x; do sleep 0.01; done'}
  take: {command: cat}
  eat: {command: 'cat > /dev/null'}
edges:
  - queue: make -> take
  - pipe: take -> eat
",
    )
    .start();
    let own = id(&run);
    assert_eq!(says(&run, &["tap", "make -> take", "-n", "3", "--run", &own]), "x\nx\nx\n");
    let pipe = mpflow(&run, &["tap", "take -> eat", "--run", &own]);
    assert_eq!(pipe.status.code(), Some(2));
    assert!(String::from_utf8(pipe.stderr).unwrap().contains("is a pipe"));
    assert!(says(&run, &["stop", "--now", &own]).contains("has ended"));
    run.finish().ended(143);
}

#[test]
fn a_run_that_is_stopped_from_outside_drains_by_default() {
    let run = scenario(
        "
stages:
  make: {command: 'i=0; while true; do i=$((i + 1)); echo $i; sleep 0.001; done'}
  pass: {command: cat, pool: 2}
edges:
  - queue: make -> pass -> stdout
",
    )
    .start();
    run.wait_for_lines(10);
    let stopped = json(&run, &["stop", &id(&run)]);
    run.wait_for_message("asked to stop by `mpflow stop`: finishing what is in flight");
    assert_eq!(stopped["outcome"]["result"], "stopped");
    let finished = run.finish().ended(143);
    let mut lines: Vec<u64> = finished.text().lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert!(lines.iter().copied().eq(1..=lines.len() as u64), "each record came out once");
}

#[test]
fn stop_kill_ends_workers_that_ignore_their_stop_signal() {
    let run = scenario(
        "stages: {deaf: {command: \"trap '' TERM; echo up >&2; while true; do sleep 0.1; done\", stop: {grace: 1h}}}",
    )
    .start();
    run.wait_for_event("log");
    let own = id(&run);
    says(&run, &["stop", "--now", "--no-wait", &own]);
    run.wait_for_event("worker_stopping");
    let state = json(&run, &["status", &own])["stages"][0]["slots"][0]["state"].clone();
    assert_eq!(state, "stopping");
    says(&run, &["stop", "--kill", &own]);
    run.finish().ended(143);
}

#[test]
fn a_stage_is_scaled_and_restarted_from_outside() {
    let run = scenario(
        "
stages:
  work: {command: 'while read x; do echo $x; done', mode: map, pool: 2}
edges:
  - queue: stdin -> work -> stdout
",
    )
    .start();
    let own = id(&run);
    run.wait_for_event("worker_started");
    assert_eq!(says(&run, &["scale", "work=4", "--run", &own]), "work has 4 workers now\n");
    let slots =
        |run: &Running| json(run, &["status", &own])["stages"][0]["slots"].as_array().unwrap().clone();
    let pids = |run: &Running| -> std::collections::BTreeSet<i64> {
        slots(run).iter().filter_map(|slot| slot["pid"].as_i64()).collect()
    };
    let before = pids(&run);
    assert_eq!(before.len(), 4);
    // Nothing has failed: these are processes, and not restarts.
    assert!(slots(&run).iter().all(|slot| slot["generation"] == 1));
    assert_eq!(json(&run, &["restart", "work", "--run", &own])["replaced"], 4);
    run.wait_until("four new workers", || (pids(&run).len() == 4).then_some(()));
    assert!(pids(&run).is_disjoint(&before));
    let status = json(&run, &["status", &own]);
    assert_eq!((&status["stages"][0]["restarts"], &slots(&run)[0]["generation"]), (&0.into(), &2.into()));
    let text = says(&run, &["status", &own]);
    let workers = text.lines().find(|line| line.starts_with("worker ")).unwrap();
    assert!(workers.contains("generation") && !workers.contains("restarts"), "{text}");
    for wrong in [["scale", "wrok=4"], ["restart", "wrok"]] {
        let refused = mpflow(&run, &[&wrong[..], &["--run", &own]].concat());
        assert_eq!(refused.status.code(), Some(2));
        let shown = String::from_utf8(refused.stderr).unwrap();
        assert!(shown.contains("did you mean `work`?"), "{shown}");
        assert!(shown.contains("there is `work`") || shown.contains("there are `"), "{shown}");
    }
    let mut run = run;
    run.stdin.as_mut().unwrap().write_all(support::numbers(1000).as_bytes()).unwrap();
    drop(run.stdin.take());
    run.finish().succeeded().wrote_lines(1..=1000);
}

#[test]
fn whoever_starts_a_source_anew_is_told_that_its_records_may_come_twice() {
    let run = scenario(
        "
stages:
  make: {command: 'while echo x; do sleep 0.01; done', pool: 2}
  take: {command: 'cat > /dev/null'}
edges:
  - queue: make -> take
",
    )
    .start();
    let own = id(&run);
    run.wait_for_event("worker_started");
    let told = |args: &[&str]| {
        let output = mpflow(&run, &[args, &["--run", &own]].concat());
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let it = "mpflow: `make` is a source: it began anew, and its records may come twice\n";
    assert_eq!(told(&["restart", "make/1"]), it);
    let new = "mpflow: `make` is a source: its new workers began anew, and its records may come twice\n";
    assert_eq!(told(&["scale", "make=3"]), new);
    assert_eq!(told(&["scale", "make=1"]), "");
    assert_eq!(told(&["restart", "make"]), it);
    assert_eq!(told(&["restart", "take"]), "");
    assert_eq!(json(&run, &["restart", "make", "--run", &own])["began_anew"], true);
    says(&run, &["stop", "--kill", &own]);
    run.finish().ended(143);
}

#[test]
fn top_looks_again_and_again_until_the_run_has_ended() {
    let mut run = scenario(ECHO).start();
    let own = id(&run);
    let mut top = Guard(
        command(&run, &["top", &own, "--every", "50ms", "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut looks = BufReader::new(top.0.stdout.take().unwrap()).lines();
    let mut look = || -> Option<Value> { Some(serde_json::from_str(&looks.next()?.unwrap()).unwrap()) };
    let first = look().unwrap();
    assert_eq!((&first["run"]["id"], &first["stages"][0]["records_in"]), (&own.as_str().into(), &0.into()));
    run.stdin.as_mut().unwrap().write_all(b"1\n2\n3\n").unwrap();
    while look().unwrap()["stages"][0]["records_in"] != 3 {}
    drop(run.stdin.take());
    run.finish().succeeded();
    while look().is_some() {}
    assert!(top.0.wait().unwrap().success());
}

#[test]
fn top_goes_on_when_others_have_taken_its_place() {
    let mut run = scenario(ECHO).start();
    let own = id(&run);
    let mut top =
        Guard(command(&run, &["top", &own, "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut looks = BufReader::new(top.0.stdout.take().unwrap()).lines();
    let mut look = || -> Option<Value> { Some(serde_json::from_str(&looks.next()?.unwrap()).unwrap()) };
    assert_eq!(look().unwrap()["run"]["id"], own.as_str());
    // It is the one that has been idle longest.
    let others: Vec<Peer> = (0..40).map(|_| Peer::connect(&run)).collect();
    run.stdin.as_mut().unwrap().write_all(b"1\n2\n3\n").unwrap();
    while look().expect("the run goes on")["stages"][0]["records_in"] != 3 {}
    drop(others);
    drop(run.stdin.take());
    run.finish().succeeded();
    while look().is_some() {}
    assert!(top.0.wait().unwrap().success());
}

#[test]
fn all_who_watch_a_run_say_the_same_when_it_is_killed() {
    let run = scenario(
        "
stages:
  make: {command: 'echo up >&2; while echo x; do sleep 0.01; done'}
  take: {command: 'cat > /dev/null'}
edges:
  - queue: make -> take
",
    )
    .start();
    let own = id(&run);
    let watching = [
        vec!["top", &own, "--every", "50ms", "--format", "json"],
        vec!["logs", "--follow", "--run", &own],
        vec!["tap", "make -> take", "--run", &own],
    ];
    run.wait_for_event("log");
    let mut watchers: Vec<(Guard, _)> = Vec::new();
    for args in &watching {
        let mut command = command(&run, args);
        let mut child = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut shown = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(shown.next().is_some(), "{args:?}");
        // What comes further is read, so that nobody waits.
        watchers.push((child, std::thread::spawn(move || shown.count())));
    }
    run.signal(support::Signal::SIGKILL);
    for ((mut child, reader), args) in watchers.into_iter().zip(&watching) {
        let mut said = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "error: the connection is lost: the run was killed\n", "{args:?}");
        assert_eq!(child.0.wait().unwrap().code(), Some(1), "{args:?}");
        reader.join().unwrap();
    }
    assert!(run.finish().status.code().is_none());
}
