//! `shared`.

use serde_json::Value as Json;

use super::fields::Fields;
use super::keys;
use super::reader::Reader;
use super::words::ELEMENTS;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Entry, Node};
use crate::model::{SharedKind, SharedObject};

/// Reads all shared objects.
pub(super) fn read_all(reader: Reader<'_>, node: &Node) -> Vec<SharedObject> {
    let mut objects = Vec::new();
    for entry in reader.entries("`shared`", node).unwrap_or_default() {
        let name = reader.identifier("a shared object", &entry.key, entry.key_span);
        let kind = read(reader, &entry);
        if let (Some(()), Some(kind)) = (name, kind) {
            objects.push(SharedObject { name: entry.key, kind });
        }
    }
    objects
}

fn read(reader: Reader<'_>, entry: &Entry) -> Option<SharedKind> {
    let what = format!("shared object `{}`", entry.key);
    let fields = reader.fields(&what, &entry.value, keys::SHARED)?;
    let kind = fields.one_of(reader, &what, entry.key_span, keys::SHARED_KINDS, code::CONFLICTING_KEYS)?;
    for (option, owner) in [("initial", "value"), ("length", "array")] {
        if let Some(option) = fields.get(option).filter(|_| kind.key != owner) {
            let message = format!("`{}` has no effect on a `{}`", option.key, kind.key);
            let label = format!("this belongs to `{owner}`");
            reader.report(Finding::error(code::KEY_WITHOUT_EFFECT, message).at(option.key_span, label));
        }
    }
    let value = &kind.value;
    match kind.key.as_str() {
        "value" => value_object(reader, &fields, value),
        "array" => array(reader, &what, entry, &fields, value),
        "lock" => lock(reader, value),
        "semaphore" => reader
            .integer("`semaphore`", value, 1..=i128::from(i32::MAX))
            .and_then(|permits| u64::try_from(permits).ok())
            .map(SharedKind::Semaphore),
        "event" => reader.truth("`event`", value).map(SharedKind::Event),
        "barrier" => reader.count("`barrier`", value).map(SharedKind::Barrier),
        _ => dict(reader, value),
    }
}

fn value_object(reader: Reader<'_>, fields: &Fields, node: &Node) -> Option<SharedKind> {
    let element = reader.word("`value`", node, &ELEMENTS)?;
    let initial = match fields.get("initial") {
        Some(entry) => initial(reader, element, &entry.value)?,
        None if element == "bool" => Json::Bool(false),
        None if element == "f64" => 0.0.into(),
        None => 0.into(),
    };
    Some(SharedKind::Value { element: element.to_owned(), initial })
}

fn initial(reader: Reader<'_>, element: &str, node: &Node) -> Option<Json> {
    let what = "`initial`";
    match element {
        "bool" => reader.truth(what, node).map(Json::Bool),
        "f64" => reader.number(what, node, f64::MIN..=f64::MAX).map(Json::from),
        "u64" => {
            let value = reader.integer(what, node, 0..=i128::from(u64::MAX))?;
            u64::try_from(value).ok().map(Json::from)
        }
        _ => {
            let value = reader.integer(what, node, i128::from(i64::MIN)..=i128::from(i64::MAX))?;
            i64::try_from(value).ok().map(Json::from)
        }
    }
}

fn array(reader: Reader<'_>, what: &str, entry: &Entry, fields: &Fields, node: &Node) -> Option<SharedKind> {
    let element = reader.word("`array`", node, &ELEMENTS);
    if fields.get("length").is_none() {
        let message = format!("{what} has no `length`");
        let help = "write `{array: f64, length: 1024}`";
        return reader.mistake(code::MISSING_KEY, message, entry.key_span, "how many elements?", help);
    }
    let length = fields.read("length", |what, node| {
        reader.integer(what, node, 1..=1 << 40).and_then(|length| u64::try_from(length).ok())
    })?;
    Some(SharedKind::Array { element: element?.to_owned(), length })
}

fn lock(reader: Reader<'_>, node: &Node) -> Option<SharedKind> {
    if reader.truth("`lock`", node)? {
        return Some(SharedKind::Lock);
    }
    let help = "write `lock: true`, or remove the object";
    reader.mistake(code::INVALID_VALUE, "`lock` can only be `true`", node.span, "this asks for nothing", help)
}

fn dict(reader: Reader<'_>, node: &Node) -> Option<SharedKind> {
    let node = reader.resolve(node)?;
    match reader.json("`dict`", &node)? {
        Json::Object(entries) => Some(SharedKind::Dict(entries)),
        Json::Null => Some(SharedKind::Dict(serde_json::Map::new())),
        _ => reader.wrong_type("`dict`", "a map", &node),
    }
}
