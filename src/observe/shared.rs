//! The last values of shared objects, for the summary.

use serde_json::Value as Json;

use super::sanitize::for_terminal;
use super::table::{Cell, Column, Table};
use super::{Colour, Look, count};
use crate::report::{SharedReport, SharedState};

/// Elements or entries that are shown.
const SHOWN: usize = 8;

/// A shown value is at most so long.
const LONGEST: usize = 60;

/// A table of all objects; nothing where there are none.
pub(super) fn lines(shared: &[SharedReport], look: Look) -> Vec<String> {
    if shared.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new([Column::text("shared"), Column::text("kind"), Column::text("at the end")]);
    for object in shared {
        let (kind, end, is_bad) = described(&object.state, look);
        let end = Cell::new(look.cut(&for_terminal(&end), LONGEST.max(look.width / 2)));
        let end = if is_bad { end.colour(Colour::Yellow) } else { end };
        table.row([Cell::new(object.name.as_str()), Cell::new(kind), end]);
    }
    table.lines(look)
}

/// What it is, how it was, and whether that was not meant.
fn described(state: &SharedState, look: Look) -> (String, String, bool) {
    match state {
        SharedState::Value { element, value } => (element.clone(), value.to_string(), false),
        SharedState::Array { element, length, values } => {
            let times = if look.unicode { "×" } else { "x" };
            let shown: Vec<String> = values.iter().take(SHOWN).map(Json::to_string).collect();
            let more = if *length > SHOWN as u64 { ", …" } else { "" };
            (format!("{element} {times}{}", count(*length)), format!("[{}{more}]", shown.join(", ")), false)
        }
        SharedState::Lock { held_by, acquired, abandoned } => {
            let end = match held_by {
                Some(worker) => format!("`{worker}` ended with it; {}", times(*acquired, "acquired")),
                None => times(*acquired, "acquired") + &left(*abandoned),
            };
            ("lock".to_owned(), end, held_by.is_some())
        }
        SharedState::Semaphore { permits, held_by, acquired, abandoned } => {
            let end = match held_by.is_empty() {
                true => times(*acquired, "acquired") + &left(*abandoned),
                false => {
                    format!("`{}` ended with it; {}", held_by.join("`, `"), times(*acquired, "acquired"))
                }
            };
            (format!("semaphore of {permits}"), end, !held_by.is_empty())
        }
        SharedState::Event { is_set } => {
            ("event".to_owned(), if *is_set { "set" } else { "not set" }.to_owned(), false)
        }
        SharedState::Barrier { parties, rounds, broken } => {
            let rounds = times(*rounds, "passed");
            let end = match broken {
                Some(why) => format!("broken: {why}; {rounds}"),
                None => rounds,
            };
            (format!("barrier of {parties}"), end, broken.is_some())
        }
        SharedState::Dict { entries } => {
            let shown: Vec<String> =
                entries.iter().take(SHOWN).map(|(key, value)| format!("{key}: {value}")).collect();
            let more = if entries.len() > SHOWN { ", …" } else { "" };
            ("dict".to_owned(), format!("{{{}{more}}}", shown.join(", ")), false)
        }
    }
}

fn times(number: u64, what: &str) -> String {
    match number {
        0 => format!("never {what}"),
        1 => format!("{what} once"),
        many => format!("{what} {} times", count(many)),
    }
}

fn left(abandoned: u64) -> String {
    match abandoned {
        0 => String::new(),
        1 => ", once by one who ended with it".to_owned(),
        many => format!(", {} times by one who ended with it", count(many)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_has_the_last_values() {
        let object = |name: &str, state| SharedReport { name: name.to_owned(), state };
        let lock = |held_by: Option<&str>, acquired, abandoned| SharedState::Lock {
            held_by: held_by.map(ToOwned::to_owned),
            acquired,
            abandoned,
        };
        let entries = json!({"level": 3, "name": "\u{1b}[2Jx"}).as_object().cloned().unwrap();
        let element = "f64".to_owned();
        let values = (0..10).map(|number| json!(f64::from(number) / 2.0)).collect();
        let shared = [
            object("hits", SharedState::Value { element: "i64".to_owned(), value: json!(42) }),
            object("grid", SharedState::Array { element, length: 1024, values }),
            object("screen", lock(Some("work/2"), 1000, 3)),
            object("door", lock(None, 12, 1)),
            object(
                "gpu",
                SharedState::Semaphore {
                    permits: 2,
                    held_by: vec!["a".to_owned()],
                    acquired: 5,
                    abandoned: 1,
                },
            ),
            object("go", SharedState::Event { is_set: true }),
            object(
                "round",
                SharedState::Barrier { parties: 4, rounds: 1, broken: Some("it was aborted".to_owned()) },
            ),
            object("settings", SharedState::Dict { entries }),
        ];
        insta::assert_snapshot!(lines(&shared, Look::PLAIN).join("\n"), @r#"
        shared    kind            at the end
        hits      i64             42
        grid      f64 ×1,024      [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, …]
        screen    lock            `work/2` ended with it; acquired 1,000 times
        door      lock            acquired 12 times, once by one who ended with it
        gpu       semaphore of 2  `a` ended with it; acquired 5 times
        go        event           set
        round     barrier of 4    broken: it was aborted; passed once
        settings  dict            {level: 3, name: "\u001b[2Jx"}
        "#);
    }
}
