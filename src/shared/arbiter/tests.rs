//! Rules one by one, and random sequences of requests, deaths and time against what clients may expect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::shared::protocol::Stored;

/// Arbiter and clock, spoken to in lines as clients do.
struct Talk {
    arbiter: Arbiter,
    now: Instant,
}

fn objects() -> Vec<SharedObject> {
    let object = |name: &str, kind| SharedObject { name: name.to_owned(), kind };
    vec![
        object("screen", SharedKind::Lock),
        object("gpu", SharedKind::Semaphore(2)),
        object("go", SharedKind::Event(false)),
        object("round", SharedKind::Barrier(3)),
        object("settings", SharedKind::Dict(serde_json::from_value(json!({"level": 3})).unwrap())),
        object("hits", SharedKind::Value { element: "i64".to_owned(), initial: json!(0) }),
    ]
}

/// The workers `w/1` to `w/4`.
fn crew() -> BTreeSet<String> {
    (1..=4).map(|number| format!("w/{number}")).collect()
}

impl Talk {
    /// Four workers are there, and have said hello.
    fn new() -> Self {
        let mut talk = Self { arbiter: Arbiter::new(&objects(), crew()), now: Instant::now() };
        for client in 1..=4 {
            let hello = Request::Hello { worker: format!("w/{client}"), pid: 0 };
            assert_eq!(talk.arbiter.request(ClientId(client), None, hello, talk.now).len(), 1);
        }
        talk
    }

    fn on(&mut self, client: u64, name: &str, op: Op) -> Vec<(u64, Answer)> {
        let request = Request::On { name: name.to_owned(), op };
        said(self.arbiter.request(ClientId(client), None, request, self.now))
    }

    fn gone(&mut self, client: u64) -> Vec<(u64, Answer)> {
        said(self.arbiter.gone(ClientId(client)))
    }

    fn after(&mut self, millis: u64) -> Vec<(u64, Answer)> {
        self.now += Duration::from_millis(millis);
        said(self.arbiter.tick(self.now))
    }

    fn dict(&mut self, op: Op) -> String {
        match &self.on(1, "settings", op)[..] {
            [(1, Answer::Done(text))] => text.clone(),
            [(1, Answer::Refused(refusal))] => refusal.code.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn said(replies: Vec<Reply>) -> Vec<(u64, Answer)> {
    replies.into_iter().map(|reply| (reply.to.0, reply.answer)).collect()
}

fn yes(client: u64) -> (u64, Answer) {
    (client, Answer::value(true))
}

fn no(client: u64) -> (u64, Answer) {
    (client, Answer::value(false))
}

fn done(client: u64) -> (u64, Answer) {
    (client, Answer::value(Json::Null))
}

fn millis(millis: u64) -> Patience {
    Patience::For(Duration::from_millis(millis))
}

const FOREVER: Patience = Patience::Forever;
const TRY: Patience = Patience::For(Duration::ZERO);

/// The codes of refusals, by client.
fn codes(replies: &[(u64, Answer)]) -> Vec<(u64, &str)> {
    let code = |answer: &Answer| match answer {
        Answer::Refused(refusal) => refusal.code.clone().leak() as &str,
        Answer::Done(_) | Answer::Memory(_) => "ok",
    };
    replies.iter().map(|(client, answer)| (*client, code(answer))).collect()
}

fn message(replies: &[(u64, Answer)]) -> &str {
    match &replies[0].1 {
        Answer::Refused(refusal) => &refusal.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lock_goes_to_who_has_waited_longest() {
    let mut talk = Talk::new();
    assert_eq!(talk.on(1, "screen", Op::Acquire(FOREVER)), [yes(1)]);
    assert_eq!(talk.on(2, "screen", Op::Acquire(FOREVER)), []);
    assert_eq!(talk.on(3, "screen", Op::Acquire(FOREVER)), []);
    assert_eq!(talk.on(4, "screen", Op::Acquire(TRY)), [no(4)]);
    assert_eq!(talk.on(1, "screen", Op::Release), [yes(2), done(1)]);
    // Whoever comes again stands at the end.
    assert_eq!(talk.on(1, "screen", Op::Acquire(FOREVER)), []);
    assert_eq!(talk.on(2, "screen", Op::Release), [yes(3), done(2)]);
}

#[test]
fn a_dead_holder_releases_and_a_dead_waiter_is_forgotten() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "screen", Op::Acquire(FOREVER));
    for client in 2..=4 {
        assert_eq!(talk.on(client, "screen", Op::Acquire(FOREVER)), []);
    }
    assert_eq!(talk.gone(2), []);
    assert_eq!(talk.gone(1), [yes(3)]);
    assert_eq!(talk.gone(3), [yes(4)]);
    assert_eq!(talk.gone(4), []);
}

#[test]
fn who_holds_a_lock_cannot_wait_for_it_and_who_does_not_cannot_release_it() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "screen", Op::Acquire(FOREVER));
    assert_eq!(codes(&talk.on(1, "screen", Op::Acquire(FOREVER))), [(1, "already_held")]);
    let refused = talk.on(2, "screen", Op::Release);
    assert_eq!(codes(&refused), [(2, "not_held")]);
    assert!(message(&refused).contains("by worker `w/1`"), "{refused:?}");
    // A semaphore may be taken as often as it has permits.
    assert_eq!(talk.on(1, "gpu", Op::Acquire(FOREVER)), [yes(1)]);
    assert_eq!(talk.on(1, "gpu", Op::Acquire(FOREVER)), [yes(1)]);
    assert_eq!(codes(&talk.on(1, "gpu", Op::Acquire(FOREVER))), [(1, "already_held")]);
}

#[test]
fn a_wait_ends_at_its_time_out_and_not_before() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "screen", Op::Acquire(FOREVER));
    assert_eq!(talk.on(2, "screen", Op::Acquire(millis(100))), []);
    assert_eq!(talk.on(3, "go", Op::Wait(millis(50))), []);
    assert_eq!(talk.after(49), []);
    assert_eq!(talk.after(1), [no(3)]);
    assert_eq!(talk.after(50), [no(2)]);
    assert_eq!(talk.arbiter.deadline(), None);
    assert_eq!(talk.on(1, "screen", Op::Release), [done(1)]);
}

#[test]
fn an_event_lets_all_go_who_wait_and_all_who_come_until_it_is_cleared() {
    let mut talk = Talk::new();
    assert_eq!(talk.on(1, "go", Op::Wait(FOREVER)), []);
    assert_eq!(talk.on(2, "go", Op::Wait(FOREVER)), []);
    assert_eq!(talk.on(3, "go", Op::Set), [yes(1), yes(2), done(3)]);
    assert_eq!(talk.on(1, "go", Op::Wait(FOREVER)), [yes(1)]);
    assert_eq!(talk.on(1, "go", Op::Clear), [done(1)]);
    assert_eq!(talk.on(1, "go", Op::Wait(TRY)), [no(1)]);
}

#[test]
fn a_barrier_lets_its_parties_go_together_round_after_round() {
    let mut talk = Talk::new();
    let index = |client: u64, index: u64| (client, Answer::value(index));
    for round in [[1, 2, 3], [4, 3, 1]] {
        assert_eq!(talk.on(round[0], "round", Op::Wait(FOREVER)), []);
        assert_eq!(talk.on(round[1], "round", Op::Wait(FOREVER)), []);
        let together = [index(round[0], 0), index(round[1], 1), index(round[2], 2)];
        assert_eq!(talk.on(round[2], "round", Op::Wait(FOREVER)), together);
    }
}

#[test]
fn a_barrier_breaks_for_all_when_one_who_waits_is_gone_and_stays_so_until_it_is_reset() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "round", Op::Wait(FOREVER));
    let _ = talk.on(2, "round", Op::Wait(FOREVER));
    let replies = talk.gone(2);
    assert_eq!(codes(&replies), [(1, "broken_barrier")]);
    assert!(message(&replies).contains("worker `w/2` was waiting at it and is gone"), "{replies:?}");
    assert_eq!(codes(&talk.on(3, "round", Op::Wait(FOREVER))), [(3, "broken_barrier")]);
    assert_eq!(talk.on(3, "round", Op::Reset), [done(3)]);
    assert_eq!(talk.on(3, "round", Op::Wait(FOREVER)), []);
    assert_eq!(codes(&talk.on(1, "round", Op::Reset)), [(3, "broken_barrier"), (1, "ok")]);
}

#[test]
fn a_time_out_breaks_a_barrier_as_in_python() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "round", Op::Wait(FOREVER));
    let _ = talk.on(2, "round", Op::Wait(millis(10)));
    assert_eq!(codes(&talk.after(10)), [(1, "broken_barrier"), (2, "broken_barrier")]);
    let _ = talk.on(1, "round", Op::Reset);
    assert_eq!(codes(&talk.on(1, "round", Op::Wait(TRY))), [(1, "broken_barrier")]);
}

#[test]
fn a_barrier_breaks_when_too_few_workers_may_still_come() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "round", Op::Wait(FOREVER));
    let three: BTreeSet<String> = ["w/1", "w/2", "w/3"].map(ToOwned::to_owned).into();
    assert_eq!(said(talk.arbiter.set_crew(three)), []);
    // Its connection counts though its worker has ended.
    let one = BTreeSet::from(["w/1".to_owned()]);
    assert_eq!(said(talk.arbiter.set_crew(one)), []);
    assert_eq!(talk.gone(4), []);
    let replies = talk.gone(3);
    assert_eq!(codes(&replies), [(1, "broken_barrier")]);
    let why = "needs 3 parties, and only 2 may still come; `w/2`, `w/3` have ended for good";
    assert!(message(&replies).contains(why), "{replies:?}");
}

#[test]
fn in_a_run_of_fewer_workers_than_parties_a_worker_may_come_several_times() {
    let workers = BTreeSet::from(["only".to_owned()]);
    let mut arbiter = Arbiter::new(&objects(), workers.clone());
    let hello = Request::Hello { worker: "only".to_owned(), pid: 0 };
    let _ = arbiter.request(ClientId(1), None, hello, Instant::now());
    let wait = Request::On { name: "round".to_owned(), op: Op::Wait(FOREVER) };
    assert_eq!(arbiter.request(ClientId(1), None, wait, Instant::now()), []);
    assert_eq!(arbiter.set_crew(workers), []);
}

#[test]
fn a_member_that_has_failed_for_good_breaks_its_barrier_and_no_other_worker_does() {
    let mut talk = Talk::new();
    for client in 1..=3 {
        let _ = talk.on(client, "round", Op::Wait(FOREVER));
    }
    let _ = talk.on(1, "round", Op::Wait(FOREVER));
    assert_eq!(said(talk.arbiter.failed("w/4")), []);
    let replies = said(talk.arbiter.failed("w/3"));
    assert!(message(&replies).contains("`w/3`, one of its members, has failed for good"), "{replies:?}");
}

#[test]
fn a_client_waits_for_one_thing_at_a_time_and_may_give_up() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "screen", Op::Acquire(FOREVER));
    let _ = talk.on(2, "screen", Op::Acquire(FOREVER));
    assert_eq!(codes(&talk.on(2, "go", Op::Set)), [(2, "busy")]);
    let cancelled = said(talk.arbiter.request(ClientId(2), None, Request::Cancel, talk.now));
    assert_eq!(codes(&cancelled), [(2, "cancelled"), (2, "ok")]);
    assert_eq!(talk.on(1, "screen", Op::Release), [done(1)]);
}

#[test]
fn a_wrong_name_or_operation_is_refused_with_the_right_one() {
    let mut talk = Talk::new();
    let refusal = |replies: Vec<(u64, Answer)>| match replies.into_iter().next() {
        Some((_, Answer::Refused(refusal))) => refusal,
        other => panic!("{other:?}"),
    };
    let wrong = refusal(talk.on(1, "scren", Op::Release));
    assert_eq!(wrong.help.as_deref(), Some("did you mean `screen`?"));
    let wrong = refusal(talk.on(1, "go", Op::Acquire(FOREVER)));
    assert_eq!(wrong.message, "`go` is an event, for which there is no `acquire`");
    let wrong = refusal(talk.on(1, "hits", Op::Acquire(FOREVER)));
    assert_eq!(wrong.message, "`hits` is a value, for which there is no `acquire`");
}

#[test]
fn a_dictionary_does_what_pythons_does() {
    let mut talk = Talk::new();
    let key = || "level".to_owned();
    let json = |text: &str| Stored::Json(text.into());
    assert_eq!(talk.dict(Op::Get { key: key() }), r#"{"json":3}"#);
    assert_eq!(talk.dict(Op::Add { key: key(), by: json!(4) }), "7");
    assert_eq!(talk.dict(Op::Add { key: "new".into(), by: json!(0.5) }), "0.5");
    assert_eq!(talk.dict(Op::Put { key: "name".into(), value: json("\"x\"") }), "null");
    assert_eq!(talk.dict(Op::Add { key: "name".into(), by: json!(1) }), "not_a_number");
    assert_eq!(talk.dict(Op::SetDefault { key: key(), value: json("1") }), r#"{"json":7}"#);
    assert_eq!(talk.dict(Op::Keys { after: None }), r#"{"page":["level","name","new"],"more":false}"#);
    assert_eq!(talk.dict(Op::Keys { after: Some("name".into()) }), r#"{"page":["new"],"more":false}"#);
    assert_eq!(talk.dict(Op::Pop { key: "name".into() }), r#"{"json":"x"}"#);
    assert_eq!(talk.dict(Op::Pop { key: "name".into() }), "null");
    assert_eq!(talk.dict(Op::Delete { key: "new".into() }), "true");
    assert_eq!(talk.dict(Op::Len), "1");
    let swap = |expected, value| Op::CompareAndSet { key: key(), expected, value };
    assert_eq!(talk.dict(swap(Some(json("6")), Some(json("9")))), "false");
    assert_eq!(talk.dict(swap(None, Some(json("9")))), "false");
    assert_eq!(talk.dict(swap(Some(json("7")), Some(json("9")))), "true");
    assert_eq!(talk.dict(swap(Some(json("9")), None)), "true");
    assert_eq!(talk.dict(Op::Contains { key: key() }), "false");
    let entries = vec![("a".to_owned(), json("1")), ("b".to_owned(), Stored::Pickle("gAQ=".into()))];
    assert_eq!(talk.dict(Op::Update { entries }), "null");
    let items = r#"{"page":[["a",{"json":1}],["b",{"pickle":"gAQ="}]],"more":false}"#;
    assert_eq!(talk.dict(Op::Items { after: None }), items);
    assert_eq!(talk.dict(Op::Clear), "null");
    assert_eq!(talk.dict(Op::Len), "0");
}

#[test]
fn a_dictionary_is_bounded_and_read_in_pages() {
    let mut talk = Talk::new();
    let value = || Stored::Json(format!("\"{}\"", "x".repeat(100_000)).into());
    let mut taken = 0;
    while talk.dict(Op::Put { key: format!("k{taken:04}"), value: value() }) == "null" {
        taken += 1;
    }
    assert_eq!(talk.dict(Op::Put { key: "more".into(), value: value() }), "too_large");
    assert!((150..168).contains(&taken), "{taken}");
    let (mut seen, mut after) = (0, None);
    loop {
        let page: Json = serde_json::from_str(&talk.dict(Op::Items { after })).unwrap();
        let entries = page["page"].as_array().unwrap();
        assert!(!entries.is_empty() && page.to_string().len() < super::super::LONGEST_LINE);
        seen += entries.len();
        after = entries.last().unwrap()[0].as_str().map(ToOwned::to_owned);
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, taken + 1);
    // What is removed makes room.
    assert_eq!(talk.dict(Op::Delete { key: "k0000".into() }), "true");
    assert_eq!(talk.dict(Op::Delete { key: "k0001".into() }), "true");
    assert_eq!(talk.dict(Op::Put { key: "more".into(), value: value() }), "null");
}

#[test]
fn who_waits_for_what_and_who_holds_it_is_told_in_words() {
    let mut talk = Talk::new();
    let _ = talk.on(1, "screen", Op::Acquire(FOREVER));
    let _ = talk.on(2, "screen", Op::Acquire(FOREVER));
    let _ = talk.on(3, "round", Op::Wait(FOREVER));
    let _ = talk.on(4, "go", Op::Wait(FOREVER));
    talk.now += Duration::from_secs(3);
    insta::assert_snapshot!(talk.arbiter.explain(talk.now).join("\n"), @r"
    lock `screen` is held by worker `w/1`; worker `w/2` since 3 s waits for it
    event `go` is not set; worker `w/4` since 3 s waits for it
    barrier `round` has 1 of 3 parties: worker `w/3` since 3 s waits for the others
    ");
}

// ---- random sequences

#[derive(Debug, Clone)]
enum Act {
    Acquire(u64, bool, Option<u64>),
    Release(u64, bool),
    WaitEvent(u64, Option<u64>),
    SetEvent(u64, bool),
    WaitBarrier(u64, Option<u64>),
    Reset(u64),
    Cancel(u64),
    Gone(u64),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = || 1..=5_u64;
    let patience = || proptest::option::of(0..40_u64);
    let act = prop_oneof![
        6 => (client(), any::<bool>(), patience()).prop_map(|(who, lock, time)| Act::Acquire(who, lock, time)),
        6 => (client(), any::<bool>()).prop_map(|(who, lock)| Act::Release(who, lock)),
        2 => (client(), patience()).prop_map(|(who, time)| Act::WaitEvent(who, time)),
        2 => (client(), any::<bool>()).prop_map(|(who, set)| Act::SetEvent(who, set)),
        3 => (client(), patience()).prop_map(|(who, time)| Act::WaitBarrier(who, time)),
        1 => client().prop_map(Act::Reset),
        1 => client().prop_map(Act::Cancel),
        2 => client().prop_map(Act::Gone),
        3 => (0..30_u64).prop_map(Act::Pass),
    ];
    proptest::collection::vec(act, 1..120)
}

/// What the clients know, from what they asked and what they were told.
#[derive(Default)]
struct Known {
    /// By object (`screen`, `gpu`) and client: permits.
    held: BTreeMap<(&'static str, u64), u64>,
    /// What each waits for, and until when.
    waits: BTreeMap<u64, (&'static str, Option<Instant>)>,
    /// By object: in the order in which they came.
    queues: BTreeMap<&'static str, VecDeque<u64>>,
    event: bool,
}

impl Known {
    fn begin(&mut self, client: u64, name: &'static str, until: Option<Instant>) {
        assert!(self.waits.insert(client, (name, until)).is_none());
        self.queues.entry(name).or_default().push_back(client);
    }

    fn end(&mut self, client: u64) -> Option<&'static str> {
        let (name, _) = self.waits.remove(&client)?;
        self.queues.get_mut(name).unwrap().retain(|&other| other != client);
        Some(name)
    }

    /// A reply to somebody that waits. `asker` is told other things too.
    fn hear(&mut self, client: u64, answer: &Answer, now: Instant) {
        let (name, until) = self.waits[&client];
        let first = self.queues[name].front() == Some(&client);
        if *answer == Answer::value(true) && matches!(name, "screen" | "gpu") {
            assert!(first, "client {client} has overtaken another at `{name}`");
            *self.held.entry((name, client)).or_default() += 1;
        }
        if *answer == Answer::value(false) {
            assert!(until.is_some_and(|until| until <= now), "a wait for `{name}` ended before its time");
        }
        self.end(client);
    }

    fn check(&self, arbiter: &Arbiter, now: Instant) {
        for (name, total) in [("screen", 1), ("gpu", 2)] {
            let held: u64 = self.held.iter().filter(|((of, _), _)| *of == name).map(|(_, held)| held).sum();
            assert!(held <= total, "{held} hold `{name}`");
            let object = arbiter.find(name).unwrap();
            let (State::Lock(permits) | State::Semaphore(permits)) = &arbiter.objects[object].state else {
                unreachable!()
            };
            assert_eq!(permits.free() + held, total, "permits of `{name}` got lost");
            let waiting: VecDeque<u64> = permits.queue().map(|client| client.0).collect();
            assert_eq!(waiting, self.queues.get(name).cloned().unwrap_or_default(), "at `{name}`");
            assert!(waiting.is_empty() || permits.free() == 0, "somebody waits for the free `{name}`");
        }
        assert!(
            !self.event || self.queues.get("go").is_none_or(VecDeque::is_empty),
            "a set event is waited for"
        );
        assert!(self.queues.get("round").is_none_or(|queue| queue.len() < 3), "a full barrier waits");
        for (client, (name, until)) in &self.waits {
            assert!(until.is_none_or(|until| until > now), "client {client} still waits for `{name}`");
        }
        let next = self.waits.values().filter_map(|&(_, until)| until).min();
        assert_eq!(arbiter.deadline(), next);
    }
}

/// Does one thing as one client and hands out what is said. Whoever waits says nothing but `cancel`.
fn act(talk: &mut Talk, known: &mut Known, act: &Act) {
    let (client, name, op) = match *act {
        Act::Acquire(client, lock, time) => {
            (client, if lock { "screen" } else { "gpu" }, Op::Acquire(time.map_or(FOREVER, millis)))
        }
        Act::Release(client, lock) => (client, if lock { "screen" } else { "gpu" }, Op::Release),
        Act::WaitEvent(client, time) => (client, "go", Op::Wait(time.map_or(FOREVER, millis))),
        Act::SetEvent(client, set) => (client, "go", if set { Op::Set } else { Op::Clear }),
        Act::WaitBarrier(client, time) => (client, "round", Op::Wait(time.map_or(FOREVER, millis))),
        Act::Reset(client) => (client, "round", Op::Reset),
        Act::Cancel(client) => {
            let replies = said(talk.arbiter.request(ClientId(client), None, Request::Cancel, talk.now));
            let mut own = 0;
            for (to, answer) in &replies {
                match known.waits.contains_key(to) {
                    true => known.hear(*to, answer, talk.now),
                    false => own += usize::from(*to == client),
                }
            }
            assert_eq!(own, 1, "a cancelled wait and the cancelling are both answered");
            return;
        }
        Act::Gone(client) => {
            known.end(client);
            known.held.retain(|&(_, holder), _| holder != client);
            for (to, answer) in talk.gone(client) {
                known.hear(to, &answer, talk.now);
            }
            let hello = Request::Hello { worker: format!("w/{client}"), pid: 0 };
            let _ = talk.arbiter.request(ClientId(client), None, hello, talk.now);
            return;
        }
        Act::Pass(time) => {
            for (to, answer) in talk.after(time) {
                known.hear(to, &answer, talk.now);
            }
            return;
        }
    };
    if known.waits.contains_key(&client) {
        return assert_eq!(codes(&talk.on(client, name, op)), [(client, "busy")]);
    }
    let replies = talk.on(client, name, op.clone());
    if op == Op::Release && replies.contains(&done(client)) {
        let held = known.held.get_mut(&(name, client)).expect("only who holds it can release it");
        *held -= 1;
        known.held.retain(|_, held| *held > 0);
    }
    match op {
        Op::Set => known.event = true,
        Op::Clear => known.event = false,
        _ => {}
    }
    let is_answered = replies.iter().any(|(to, _)| *to == client);
    if !is_answered {
        let time = match op {
            Op::Acquire(Patience::For(time)) | Op::Wait(Patience::For(time)) => Some(talk.now + time),
            _ => None,
        };
        known.begin(client, name, time);
    }
    for (to, answer) in &replies {
        if *to != client {
            known.hear(*to, answer, talk.now);
        } else if matches!(op, Op::Acquire(_)) && *answer == Answer::value(true) {
            assert!(known.queues.get(name).is_none_or(VecDeque::is_empty), "nobody overtakes those who wait");
            *known.held.entry((name, client)).or_default() += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_nothing_is_held_twice_and_nobody_is_forgotten_or_overtaken(sequence in acts()) {
        let mut talk = Talk::new();
        let hello = Request::Hello { worker: "w/5".to_owned(), pid: 0 };
        let _ = talk.arbiter.request(ClientId(5), None, hello, talk.now);
        let mut known = Known::default();
        for step in &sequence {
            act(&mut talk, &mut known, step);
            known.check(&talk.arbiter, talk.now);
        }
        // When all are gone, all is free.
        for client in 1..=5 {
            act(&mut talk, &mut known, &Act::Gone(client));
            known.check(&talk.arbiter, talk.now);
        }
        prop_assert!(known.held.is_empty() && known.waits.is_empty());
    }
}
