//! What is spoken on the socket.

use super::*;

/// A part of the document between these lines.
fn documented(of: &str, from: &str, to: &str) -> Vec<String> {
    let part = of.split(from).nth(1).unwrap().split(to).next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

#[test]
fn every_method_is_documented_and_every_documented_method_is_there() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/control.md")).unwrap();
    let documented = documented(&text, "## Methods", "## ");
    assert_eq!(documented, mpflow::control::METHODS);
    let run = scenario(ECHO).start();
    let mut peer = Peer::connect(&run);
    for method in &documented {
        let answer = peer.ask(method, r#"{"no such parameter": 1}"#);
        assert_eq!(answer["error"]["code"], -32602, "{method}: {answer}");
    }
    assert_eq!(peer.ask("dance", "{}")["error"]["data"]["reason"], "unknown_method");
    finishes_its_work(run);
}

#[test]
fn every_key_of_a_status_is_documented() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/control.md")).unwrap();
    let run = scenario(ECHO).start();
    run.wait_for_event("worker_started");
    let status = json(&run, &["status", &id(&run)]);
    let objects = [
        &status,
        &status["run"],
        &status["stages"][0],
        &status["stages"][0]["slots"][0],
        &status["stages"][0]["slots"][0]["usage"],
        &status["edges"][0],
    ];
    for key in objects.iter().flat_map(|object| object.as_object().unwrap().keys()) {
        assert!(text.contains(&format!("`{key}`")), "`{key}`");
    }
    finishes_its_work(run);
}

#[test]
fn several_requests_of_one_connection_are_answered_in_their_order() {
    let run = scenario(ECHO).start();
    let mut peer = Peer::connect(&run);
    let request = |id: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"describe\"}}\n");
    assert!(peer.send(["1", "\"two\"", "3"].map(request).concat()));
    for expected in [Value::from(1), Value::from("two"), Value::from(3)] {
        let answer = peer.read().unwrap();
        assert_eq!((&answer["id"], &answer["jsonrpc"]), (&expected, &Value::from("2.0")));
        assert_eq!(answer["result"]["id"], id(&run));
        assert_eq!(answer["result"]["pid"], run.pid());
    }
    finishes_its_work(run);
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let run = scenario(ECHO).start();
    let mut peer = Peer::connect(&run);
    let refused = [
        ("", -32700),
        ("garbage \u{1}\u{2}", -32700),
        ("[]", -32600),
        ("{}", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"status","params":[1]}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"how":"softly"}}"#, -32602),
    ];
    for (line, code) in refused {
        assert!(peer.send(format!("{line}\n")));
        let answer = peer.read().unwrap();
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    assert_eq!(peer.ask("describe", "{}")["result"]["state"], "running");
    finishes_its_work(run);
}

#[test]
fn a_pool_that_no_document_may_have_is_refused_and_the_run_goes_on() {
    let run = scenario(ECHO).start();
    let mut peer = Peer::connect(&run);
    for (workers, reason) in
        [(0, "no_workers"), (32_769, "too_many_workers"), (100_000_000, "too_many_workers")]
    {
        let answer = peer.ask("scale", &format!("{{\"stage\": \"echo\", \"workers\": {workers}}}"));
        assert_eq!(answer["error"]["data"]["reason"], reason, "{workers}: {answer}");
    }
    finishes_its_work(run);
}

#[test]
fn whoever_waits_is_told_how_the_run_has_ended() {
    let run = scenario(ECHO).start();
    let (mut waits, mut follows) = (Peer::connect(&run), Peer::connect(&run));
    assert_eq!(follows.ask("logs", r#"{"follow": true}"#)["result"]["lines"], Value::Array(Vec::new()));
    assert!(waits.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"wait\"}\n"));
    finishes_its_work(run);
    assert_eq!(waits.read().unwrap()["result"]["outcome"]["result"], "succeeded");
    let last = follows.read().unwrap();
    assert_eq!(
        (&last["method"], &last["params"]["outcome"]["result"]),
        (&"ended".into(), &"succeeded".into())
    );
    assert!(waits.read().is_none() && follows.read().is_none());
}
