//! Dictionaries: sorted keys, values that the engine keeps as text.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::Value as Json;

use crate::shared::protocol::{Answer, LONGEST_LINE, Op, Refusal, Stored};

/// What a dictionary holds at most, keys and values and [`ENTRY_BYTES`] for each.
pub(crate) const MOST_DICT_BYTES: u64 = 16 << 20;

/// The books of one entry.
const ENTRY_BYTES: usize = 96;

/// Keys or items in one reply, so that it stays well below the longest line. One entry may be longer.
const PAGE_BYTES: usize = LONGEST_LINE / 4;

#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: BTreeMap<String, Stored>,
    bytes: usize,
}

impl Dict {
    pub(super) fn new(entries: &serde_json::Map<String, Json>) -> Self {
        let mut dict = Self::default();
        for (key, value) in entries {
            dict.insert(key.clone(), Stored::json(value));
        }
        dict
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// `None`: a dictionary has no such operation.
    pub(super) fn answer(&mut self, name: &str, op: Op) -> Option<Result<Answer, Refusal>> {
        let found = |value: Option<&Stored>| Answer::Done(value.map_or("null".to_owned(), Stored::to_text));
        Some(Ok(match op {
            Op::Get { key } => found(self.entries.get(&key)),
            Op::Contains { key } => Answer::value(self.entries.contains_key(&key)),
            Op::Len => Answer::value(self.entries.len()),
            Op::Put { key, value } => return Some(self.put(name, key, value)),
            Op::Delete { key } => Answer::value(self.remove(&key).is_some()),
            Op::Pop { key } => found(self.remove(&key).as_ref()),
            Op::SetDefault { key, value } => {
                if !self.entries.contains_key(&key)
                    && let Err(refusal) = self.put(name, key.clone(), value)
                {
                    return Some(Err(refusal));
                }
                found(self.entries.get(&key))
            }
            Op::Keys { after } => self.page(after, |key, _| Json::from(key).to_string()),
            Op::Items { after } => {
                self.page(after, |key, value| format!("[{},{}]", Json::from(key), value.to_text()))
            }
            Op::Update { entries } => return Some(self.update(name, entries)),
            Op::Clear => {
                *self = Self::default();
                Answer::value(Json::Null)
            }
            Op::Add { key, by } => return Some(self.add(name, &key, &by)),
            Op::CompareAndSet { key, expected, value } => {
                if self.entries.get(&key) != expected.as_ref() {
                    return Some(Ok(Answer::value(false)));
                }
                match value {
                    Some(value) => return Some(self.put(name, key, value).map(|_| Answer::value(true))),
                    None => drop(self.remove(&key)),
                }
                Answer::value(true)
            }
            Op::Acquire(_)
            | Op::Release
            | Op::Set
            | Op::IsSet
            | Op::Wait(_)
            | Op::Reset
            | Op::Abort
            | Op::State => return None,
        }))
    }

    fn put(&mut self, name: &str, key: String, value: Stored) -> Result<Answer, Refusal> {
        self.has_room(name, [(&key, &value)].into_iter())?;
        self.insert(key, value);
        Ok(Answer::value(Json::Null))
    }

    /// All or nothing.
    fn update(&mut self, name: &str, entries: Vec<(String, Stored)>) -> Result<Answer, Refusal> {
        self.has_room(name, entries.iter().map(|(key, value)| (key, value)))?;
        for (key, value) in entries {
            self.insert(key, value);
        }
        Ok(Answer::value(Json::Null))
    }

    fn add(&mut self, name: &str, key: &str, by: &Json) -> Result<Answer, Refusal> {
        let refused = |code, message: String| Err(Refusal::new(code, message));
        let before = match self.entries.get(key) {
            None => Json::from(0),
            Some(Stored::Json(text)) => serde_json::from_str(text).unwrap_or_default(),
            Some(Stored::Pickle(_)) => Json::Null,
        };
        let (Some(left), Some(right)) = (before.as_f64(), by.as_f64()) else {
            let which = if before.is_number() { format!("`{by}`") } else { format!("`{name}[{key}]`") };
            return refused("not_a_number", format!("{which} is not a number, so that nothing can be added"));
        };
        let sum = match (before.as_i64(), by.as_i64()) {
            (Some(left), Some(right)) => left.checked_add(right).map(Json::from),
            _ => serde_json::Number::from_f64(left + right).map(Json::from),
        };
        let Some(sum) = sum else {
            return refused("not_a_number", format!("the sum in `{name}[{key}]` is too large for a number"));
        };
        self.put(name, key.to_owned(), Stored::json(&sum))?;
        Ok(Answer::value(sum))
    }

    fn insert(&mut self, key: String, value: Stored) {
        self.bytes += cost(&key, &value);
        if let Some((key, old)) = self.entries.remove_entry(&key) {
            self.bytes -= cost(&key, &old);
        }
        self.entries.insert(key, value);
    }

    fn remove(&mut self, key: &str) -> Option<Stored> {
        let (key, value) = self.entries.remove_entry(key)?;
        self.bytes -= cost(&key, &value);
        Some(value)
    }

    /// What they replace is not taken off: it is there still when they come.
    fn has_room<'a>(
        &self,
        name: &str,
        entries: impl Iterator<Item = (&'a String, &'a Stored)>,
    ) -> Result<(), Refusal> {
        let more: usize = entries.map(|(key, value)| cost(key, value)).sum();
        if (self.bytes + more) as u64 <= MOST_DICT_BYTES {
            return Ok(());
        }
        let most = MOST_DICT_BYTES >> 20;
        Err(Refusal::new("too_large", format!("dict `{name}` would hold more than {most} MiB"))
            .help("a dict is for settings and counters; let data travel over an edge, or lie in an `array`"))
    }

    /// `{"page": […], "more": bool}`: those after this key, as many as fit.
    fn page(&self, after: Option<String>, text: impl Fn(&str, &Stored) -> String) -> Answer {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = String::from("{\"page\":[");
        let mut more = false;
        for (number, (key, value)) in self.entries.range::<String, _>((from, Bound::Unbounded)).enumerate() {
            if number > 0 && page.len() + value.bytes() + 2 * key.len() > PAGE_BYTES {
                more = true;
                break;
            }
            if number > 0 {
                page.push(',');
            }
            page.push_str(&text(key, value));
        }
        page.push_str(&format!("],\"more\":{more}}}"));
        Answer::Done(page)
    }
}

fn cost(key: &str, value: &Stored) -> usize {
    key.len() + value.bytes() + ENTRY_BYTES
}
