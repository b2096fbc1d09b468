//! `edges`.

use super::endpoint::Link;
use super::fields::Fields;
use super::keys;
use super::reader::Reader;
use super::words::{FORMATS, WHEN_FULL};
use crate::language::diagnostic::{Finding, code};
use crate::language::places::Places;
use crate::language::tree::{Entry, Kind, Node};
use crate::model::{Edge, EdgeKind, PartitionKey, PipeOptions, Place, QueueOptions};

/// Reads all edges. A queue that names no format has that of `defaults`, if there is one.
pub(super) fn read_all(
    reader: Reader<'_>,
    node: &Node,
    default_format: Option<&Entry>,
    places: &mut Places,
) -> Vec<Edge> {
    let mut edges = Vec::new();
    for item in reader.list("`edges`", node).unwrap_or_default() {
        let Some((links, kind, fields)) = read(reader, &item, default_format) else { continue };
        for link in links {
            note_places(places, edges.len(), &link, &fields, default_format);
            edges.push(Edge { from: link.from, to: link.to, kind: kind.clone() });
        }
    }
    edges
}

fn read(
    reader: Reader<'_>,
    node: &Node,
    default_format: Option<&Entry>,
) -> Option<(Vec<Link>, EdgeKind, Fields)> {
    let item = reader.resolve(node)?;
    if let Kind::Text(text) | Kind::Evaluated(text) = &item.kind {
        return reader.mistake(
            code::WRONG_TYPE,
            "an edge must be a map",
            item.span,
            "found text",
            format!("write `queue: {}`", text.trim()),
        );
    }
    let fields = reader.fields("an edge", &item, &keys::edge())?;
    let entry = fields.one_of(reader, "an edge", item.span, &["queue", "pipe"], code::CONFLICTING_KEYS)?;
    let is_queue = entry.key == "queue";
    let links = reader.chain(&format!("`{}`", entry.key), &entry.value);
    refuse_others(reader, &fields, is_queue);
    let kind = if is_queue {
        EdgeKind::Queue(queue_options(reader, &fields, default_format))
    } else {
        EdgeKind::Pipe(pipe_options(reader, &fields))
    };
    Some((links?, kind, fields))
}

/// Reports options that belong to the other kind of edge.
fn refuse_others(reader: Reader<'_>, fields: &Fields, is_queue: bool) {
    let (kind, other, foreign) =
        if is_queue { ("queue", "pipe", keys::PIPE) } else { ("pipe", "queue", keys::QUEUE) };
    for entry in &fields.entries {
        if entry.key != other && foreign.contains(&entry.key.as_str()) {
            let finding = Finding::error(code::WRONG_OPTION, format!("a {kind} has no `{}`", entry.key))
                .at(entry.key_span, format!("this is an option of a {other}"))
                .help(format!("remove it, or make the edge a `{other}`"));
            reader.report(finding);
        }
    }
}

fn queue_options(reader: Reader<'_>, fields: &Fields, default_format: Option<&Entry>) -> QueueOptions {
    let unset = QueueOptions::default();
    let format = fields.get("format").or(default_format);
    let options = QueueOptions {
        format: format.and_then(|entry| reader.word("`format`", &entry.value, &FORMATS)),
        capacity: fields.read("capacity", |what, node| reader.count(what, node)),
        capacity_bytes: fields
            .read("capacity_bytes", |what, node| reader.size(what, node))
            .unwrap_or(unset.capacity_bytes),
        max_record: fields
            .read("max_record", |what, node| reader.size(what, node))
            .unwrap_or(unset.max_record),
        when_full: fields
            .read("when_full", |what, node| reader.word(what, node, &WHEN_FULL))
            .unwrap_or(unset.when_full),
        partition_by: fields.read("partition_by", |what, node| reader.partition_key(what, node)),
        to_each: fields.read("to_each", |what, node| reader.truth(what, node)).unwrap_or(unset.to_each),
    };
    if options.to_each
        && let (Some(partition), Some(to_each)) = (fields.get("partition_by"), fields.get("to_each"))
    {
        reader.report(
            Finding::error(code::CONFLICTING_KEYS, "`partition_by` and `to_each` exclude each other")
                .at(partition.key_span, "this chooses one worker for a record")
                .at(to_each.key_span, "this gives every record to all of them")
                .help("keep one of the two"),
        );
    }
    options
}

fn pipe_options(reader: Reader<'_>, fields: &Fields) -> PipeOptions {
    PipeOptions {
        duplex: fields.read("duplex", |what, node| reader.truth(what, node)).unwrap_or_default(),
        size: fields.read("size", |what, node| reader.size(what, node)),
    }
}

impl Reader<'_> {
    /// A JSON pointer or the number of a field.
    fn partition_key(self, what: &str, node: &Node) -> Option<PartitionKey> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Integer(..) => self.count(what, &node).map(PartitionKey::Field),
            Kind::Text(text) | Kind::Evaluated(text) if is_pointer(text) => {
                Some(PartitionKey::Pointer(text.clone()))
            }
            Kind::Text(_) | Kind::Evaluated(_) => self.mistake(
                code::INVALID_VALUE,
                format!("{what} must be a JSON pointer or the number of a field"),
                node.span,
                "a JSON pointer begins with `/`, and in it `~` is followed by `0` or `1`",
                "write `/user/id` for JSON records, or `1` for the first field of a line",
            ),
            _ => self.wrong_type(what, "a JSON pointer or an integer of at least 1", &node),
        }
    }
}

/// RFC 6901, without the empty pointer, which would be the whole record.
fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
        && text.match_indices('~').all(|(index, _)| text[index + 1..].starts_with(['0', '1']))
}

fn note_places(
    places: &mut Places,
    number: usize,
    link: &Link,
    fields: &Fields,
    default_format: Option<&Entry>,
) {
    places.put(Place::Edge(number), link.arrow_span);
    places.put(Place::EdgeFrom(number), link.from_span);
    places.put(Place::EdgeTo(number), link.to_span);
    if let Some(format) = default_format {
        places.put(Place::EdgeKey(number, keys::FORMAT), format.value.span);
    }
    for key in keys::edge() {
        if let Some(entry) = fields.get(key) {
            places.put(Place::EdgeKey(number, key), entry.value.span);
        }
    }
}
