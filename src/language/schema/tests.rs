use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::schema;
use crate::language::decode::keys;

fn validator() -> Validator {
    jsonschema::draft7::new(&schema()).unwrap()
}

#[test]
fn the_schema_in_the_repository_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/pipeline.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("MPFLOW_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{} is not current: MPFLOW_UPDATE=1 cargo test", path.display());
}

#[test]
fn the_schema_has_the_keys_of_the_reader_and_describes_each() {
    let schema = schema();
    let (defaults, top) = (keys::defaults(), keys::TOP.to_vec());
    let objects: [(&str, Vec<&str>); 14] = [
        ("", top),
        ("Defaults", defaults),
        ("Stage", keys::STAGE.to_vec()),
        ("Queue", keys::QUEUE.to_vec()),
        ("Pipe", keys::PIPE.to_vec()),
        ("Pool", keys::POOL.to_vec()),
        ("Batch", keys::BATCH.to_vec()),
        ("Retry", keys::RETRY.to_vec()),
        ("Restart", keys::RESTART.to_vec()),
        ("Backoff", keys::BACKOFF.to_vec()),
        ("Stop", keys::STOP.to_vec()),
        ("Limits", keys::LIMITS.to_vec()),
        ("Ready", keys::READY.to_vec()),
        ("Shared", keys::SHARED.to_vec()),
    ];
    for (name, keys) in objects {
        let object = if name.is_empty() { &schema } else { &schema["definitions"][name] };
        assert_eq!(object["additionalProperties"], json!(false), "{name}");
        let properties = object["properties"].as_object().unwrap_or_else(|| panic!("no {name}"));
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(described, keys.into_iter().collect(), "{name}");
        for (key, property) in properties {
            assert!(property["description"].is_string(), "{name}.{key} has no description");
        }
    }
    let definitions = schema["definitions"].as_object().unwrap();
    assert_eq!(definitions.len(), 14, "{:?}", definitions.keys().collect::<Vec<_>>());
}

fn document(stage: Value) -> Value {
    json!({"stages": {"a": stage}})
}

#[test]
fn right_documents_are_valid() {
    let validator = validator();
    for stage in [
        json!({"command": "cat"}),
        json!({"command": ["seq", 1, 2.5, true]}),
        json!({"command": "${{ vars.c }}", "pool": "${{ vars.n }}", "timeout": "${{ vars.n }}s"}),
        json!({"command": "c", "pool": {"min": 1, "max": "auto"}, "stdin": null, "stderr": "null"}),
        json!({"python": "lib/tasks.py:run", "batch": {"bytes": "1MiB"}, "retry": {"delay": "1h30m"}}),
        json!({"function": "f", "depends_on": {"b": "ready"}, "success_exit": [0, -15, "TERM"]}),
    ] {
        let found: Vec<String> =
            validator.iter_errors(&document(stage.clone())).map(|error| error.to_string()).collect();
        assert!(found.is_empty(), "{stage}: {found:?}");
    }
}

#[test]
fn wrong_documents_are_not() {
    let validator = validator();
    for stage in [
        json!({}),
        json!("cat"),
        json!({"command": "cat", "python": "m:f"}),
        json!({"comand": "cat"}),
        json!({"command": []}),
        json!({"command": "c", "pool": 0}),
        json!({"command": "c", "pool": "many"}),
        json!({"command": "c", "timeout": 30}),
        json!({"command": "c", "timeout": "30"}),
        json!({"command": "c", "limits": {"memory": "64K"}}),
        json!({"command": "c", "daemon": "yes"}),
        json!({"command": "c", "mode": "maps"}),
        json!({"command": "c", "ready": {"tcp": "h:1", "log": "x"}}),
        json!({"command": "c", "restart": {"backoff": {"jitter": 2}}}),
        json!({"command": "c", "env": {"MPFLOW_RANK": "1"}}),
        json!({"command": "c", "success_exit": [300]}),
        json!({"python": "tasks"}),
    ] {
        assert!(!validator.is_valid(&document(stage.clone())), "{stage}");
    }
    for wrong in [
        json!({"stages": {}}),
        json!({"name": "x"}),
        json!({"stages": {"stdin": {"command": "c"}}}),
        json!({"stages": {"a b": {"command": "c"}}}),
        json!({"stages": {"a": {"command": "c"}}, "edges": [{"queue": "a"}]}),
        json!({"stages": {"a": {"command": "c"}}, "edges": ["a -> b"]}),
        json!({"stages": {"a": {"command": "c"}}, "edges": [{"pipe": "a -> b", "capacity": 3}]}),
        json!({"stages": {"a": {"command": "c"}}, "shared": {"x": {"lock": true, "event": true}}}),
        json!({"stages": {"a": {"command": "c"}}, "defaults": {"command": "c"}}),
        json!({"stages": {"a": {"command": "c"}}, "version": 2}),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}
