//! Errors and panics of functions, as the protocol tells them.

use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::panic::{self, AssertUnwindSafe};

use serde::{Deserialize, Serialize};

/// What a function's error may be: anything that becomes a boxed error, `&str` and `String` among it.
pub(crate) type Boxed = Box<dyn Error + Send + Sync>;

/// Texts in it are cut here, so that a frame stays below the protocol's limit.
const MOST_BYTES: usize = 64 << 10;

/// Why a record, or a worker's whole stream, has failed: the payload of FAILED and ERROR.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) r#type: String,
    pub(crate) traceback: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) record: Option<serde_json::Value>,
    /// The function did not return: what it has in memory may be half done.
    #[serde(skip)]
    pub(crate) is_panic: bool,
    /// Its record is answered all the same: whoever gave the task is told by the answer.
    #[serde(skip)]
    pub(crate) is_answered: bool,
}

impl Failure {
    /// A record that its format cannot carry, or that is not what the function takes.
    pub(crate) fn coding(kind: &str, error: impl Into<String>) -> Self {
        Self {
            error: cut(error.into()),
            r#type: kind.to_owned(),
            traceback: String::new(),
            record: None,
            is_panic: false,
            is_answered: false,
        }
    }

    pub(crate) fn undecodable(error: impl Into<String>) -> Self {
        Self::coding("Undecodable", error)
    }

    pub(crate) fn uncodable(error: impl Into<String>) -> Self {
        Self::coding("Uncodable", error)
    }

    /// An error of type `E` that a function returned, with its causes.
    pub(crate) fn returned<E: Into<Boxed>>(error: E) -> Self {
        let name = type_name(std::any::type_name::<E>());
        let error: Boxed = error.into();
        let mut texts = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
        let mut traceback = String::new();
        if texts.len() > 1 {
            traceback = format!("{}\n\ncaused by:\n", texts[0]);
            for text in &texts[1..] {
                traceback.push_str(&format!("  {text}\n"));
            }
        }
        Self {
            error: cut(texts.join(": ")),
            r#type: name,
            traceback: cut(traceback),
            record: None,
            is_panic: false,
            is_answered: false,
        }
    }
}

/// `ParseIntError` of `core::num::error::ParseIntError`; nothing of the types that say nothing.
fn type_name(name: &str) -> String {
    let plain = name.split('<').next().unwrap_or(name);
    let last = plain.rsplit("::").next().unwrap_or(plain);
    match last {
        "Box" | "String" | "&str" | "Error" if last != "Error" || plain.starts_with("anyhow") => {
            String::new()
        }
        "Error" => plain.to_owned(),
        last => last.to_owned(),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MOST_BYTES {
        let end = (0..=MOST_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

thread_local! {
    /// Where the last panic of this thread was, and from where it was called.
    static PLACE: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Has panics of functions told by the protocol, not on standard error; those of other threads go where they went.
pub(crate) fn keep_places() {
    let before = panic::take_hook();
    let worker = std::thread::current().id();
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() != worker {
            return before(info);
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        // Only where it is asked for, by RUST_BACKTRACE: it takes milliseconds.
        let backtrace = std::backtrace::Backtrace::capture();
        let trace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
            _ => String::new(),
        };
        PLACE.with(|cell| *cell.borrow_mut() = Some((place, trace)));
    }));
}

/// Calls a function that may panic.
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result,
        Err(panic) => match panic.downcast::<Failure>() {
            // Not a panic: the way out of a function that reads a record which cannot be read.
            Ok(failure) => Err(*failure),
            Err(panic) => Err(of_panic(panic.as_ref())),
        },
    }
}

fn of_panic(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned());
    let (place, trace) = PLACE.with(|cell| cell.borrow_mut().take()).unwrap_or_default();
    let error = if place.is_empty() { message } else { format!("{message}, at {place}") };
    let traceback = match trace.is_empty() {
        true => format!("panicked: {error}\n"),
        false => format!("panicked: {error}\n{trace}"),
    };
    Failure {
        error: cut(error),
        r#type: "panic".to_owned(),
        traceback: cut(traceback),
        record: None,
        is_panic: true,
        is_answered: false,
    }
}

/// Ends the call that this runs in with a failure, wherever in the function's own code it was made.
pub(crate) fn leave_with(failure: Failure) -> ! {
    panic::resume_unwind(Box::new(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the page")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn an_error_is_told_with_its_type_and_its_causes() {
        let failure = Failure::returned(Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(failure.r#type, "Outer");
        assert_eq!(failure.error, "cannot read the page: invalid digit found in string");
        assert!(failure.traceback.contains("caused by:\n  invalid digit"), "{}", failure.traceback);
        let plain = Failure::returned("no".to_owned());
        assert_eq!((plain.r#type.as_str(), plain.error.as_str()), ("", "no"));
        assert_eq!(Failure::returned("x").r#type, "");
        assert_eq!(Failure::returned(std::io::Error::other("y")).r#type, "std::io::error::Error");
        assert_eq!(Failure::returned::<Boxed>("z".into()).r#type, "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let failure = Failure::returned("é".repeat(MOST_BYTES));
        assert!(failure.error.len() <= MOST_BYTES + '…'.len_utf8() && failure.error.ends_with('…'));
    }
}
