use proptest::prelude::*;

use super::*;
use crate::language::diagnostic::Finding;

fn tree(text: &str) -> Node {
    let mut findings = Vec::new();
    let node = parse(text, &mut findings);
    assert!(findings.is_empty(), "{findings:?}");
    node.unwrap()
}

fn findings(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    parse(text, &mut findings);
    findings
}

fn assert_both_parsers_agree(text: &str) {
    let theirs: serde_json::Value = serde_yaml::from_str(text).unwrap();
    assert_eq!(tree(text).to_json(), theirs, "{text}");
}

#[test]
fn both_parsers_see_the_same_tree() {
    for text in [
        "a: 1\nb: [x, 'y', \"z\\n\", ~, null, true, 1.5, -3, 0x1f, 0o17, +4]\n",
        "text: |\n  one\n    two\n\n  three\nfolded: >-\n  one\n  two\n\n  three\n",
        "a: &x {k: v, n: [1, 2]}\nb: *x\nc:\n- *x\n- k\n",
        "plain: this is\n  continued\nquoted: \"so is\n  this\"\nempty:\n'': nokey\n",
        "url: http://host:80/path#x\nyes: no\non: off\ninf: .inf is text\ndate: 2024-01-02\n",
        "--- # comment\n- !!str 4\n- !!int '4'\n- 1e3\n- 6.\n- .5\n- 1_000\n...\n",
        "- - a\n  - b\n-\n  c: d\n",
        "[]",
        "plain",
        "{a: b, c: {d: [e]}}",
        "\u{feff}a: b",
        "a: é\r\nb: \"\\u00e9\"\r\n",
    ] {
        assert_both_parsers_agree(text);
    }
}

#[test]
fn merge_keys_are_merged_and_own_keys_win() {
    let text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nuse:\n  b: 0\n  <<: [*base, *more]\n";
    let root = tree(text).to_json();
    assert_eq!(root["use"], serde_json::json!({"a": 1, "b": 0, "c": 4}));
}

#[test]
fn keys_and_values_know_their_places() {
    let text = "# é\nstages:\n  a: {pool: 'x'}\n  b: |\n    text\nlast:\n";
    let root = tree(text);
    let Kind::Map(top) = &root.kind else { panic!() };
    let Kind::Map(stages) = &top[0].value.kind else { panic!() };
    let Kind::Map(a) = &stages[0].value.kind else { panic!() };
    assert_eq!(top[0].key_span.of(text), "stages");
    assert_eq!(stages[0].value.span.of(text), "{pool: 'x'}");
    assert_eq!(a[0].key_span.of(text), "pool");
    assert_eq!(a[0].value.span.of(text), "'x'");
    assert_eq!(stages[1].value.span.fitted(text).of(text), "text");
    assert_eq!(top[1].value.span.of(text), "last");

    // The mark at the beginning counts: miette counts it too.
    let text = "\u{feff}key: value";
    let Kind::Map(top) = &tree(text).kind.clone() else { panic!() };
    assert_eq!((top[0].key_span.of(text), top[0].value.span.of(text)), ("key", "value"));
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert_eq!(findings(&text).len(), 1);
    assert!(format!("{:?}", findings(&text)).contains("alias_bomb"));
    assert!(format!("{:?}", findings("a: &a [*a]")).contains("unknown_alias"));
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(5000),
        "{a: ".repeat(5000),
        "- ".repeat(5000),
        (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
    ] {
        assert!(format!("{:?}", findings(&text)).contains("too_deep"), "{:?}", findings(&text));
    }
    // Each step is shallow, the whole is not.
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..100 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(format!("{:?}", findings(&text)).contains("too_deep"));
}

fn any_yaml() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e6..1e6f64).prop_map(Into::into),
        "[a-z0-9 :#{}\\[\\],&*!|>'\"%@`\\-\n\\\\é~.]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map("[a-z~0-9 :.-]{1,6}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn both_parsers_see_the_same_tree_in_random_documents(value in any_yaml()) {
        let text = serde_yaml::to_string(&value).unwrap();
        assert_both_parsers_agree(&text);
    }

    #[test]
    fn random_text_never_panics_and_no_span_leaves_the_text(text in "[ a-z\\-:{}\\[\\],&*!|>'\"#%@~<\t\r\n$é]{0,60}") {
        let mut findings = Vec::new();
        let mut open: Vec<Node> = parse(&text, &mut findings).into_iter().collect();
        while let Some(node) = open.pop() {
            prop_assert!(node.span.end <= text.len() && text.is_char_boundary(node.span.start));
            prop_assert!(text.is_char_boundary(node.span.end));
            open.extend(node.children().cloned());
        }
    }
}
