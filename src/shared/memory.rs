//! Where values and arrays lie: 8 bytes for each element, in one memory file of the run.
//!
//! Every object begins at a multiple of 64 bytes, so that no two are in one cache line. Numbers are in the machine's
//! own byte order; `false` is 0 and `true` is 1.

use std::io;

use serde_json::Value as Json;

use super::protocol::{ObjectInfo, Refusal};
use crate::model::{SharedKind, SharedObject};

/// Bytes of one element.
pub(super) const WORD: u64 = 8;

/// Objects begin at multiples of this.
const ALIGNMENT: u64 = 64;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    I64,
    U64,
    F64,
    Bool,
}

impl Element {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "i64" => Self::I64,
            "u64" => Self::U64,
            "f64" => Self::F64,
            "bool" => Self::Bool,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F64 => "f64",
            Self::Bool => "bool",
        }
    }

    /// A number that JSON has no word for is a text: `"NaN"`, `"inf"`, `"-inf"`.
    pub(super) fn to_json(self, word: u64) -> Json {
        match self {
            Self::I64 => word.cast_signed().into(),
            Self::U64 => word.into(),
            Self::Bool => (word != 0).into(),
            Self::F64 => {
                let number = f64::from_bits(word);
                match serde_json::Number::from_f64(number) {
                    Some(number) => number.into(),
                    None => number.to_string().into(),
                }
            }
        }
    }

    /// The word of a value, or what it should have been.
    pub(super) fn to_word(self, value: &Json) -> Result<u64, Refusal> {
        let word = match (self, value) {
            (Self::I64, value) => value.as_i64().map(i64::cast_unsigned),
            (Self::U64, value) => value.as_u64(),
            (Self::Bool, value) => value.as_bool().map(u64::from),
            (Self::F64, Json::String(text)) => text.parse().ok().map(f64::to_bits),
            (Self::F64, value) => value.as_f64().map(f64::to_bits),
        };
        word.ok_or_else(|| self.wrong(value))
    }

    fn wrong(self, value: &Json) -> Refusal {
        let wanted = match self {
            Self::I64 => "a whole number of 64 bits",
            Self::U64 => "a whole number of 64 bits that is not negative",
            Self::F64 => "a number",
            Self::Bool => "`true` or `false`",
        };
        Refusal::new("wrong_value", format!("`{value}` is no `{}`", self.name()))
            .help(format!("write {wanted}"))
    }

    /// The sum, where it can be held.
    pub(super) fn add(self, word: u64, by: &Json) -> Result<u64, Refusal> {
        let refused = |message: &str| Err(Refusal::new("wrong_value", message));
        let by = match self {
            // To add a negative number to an unsigned one is to subtract.
            Self::U64 => match (by.as_u64(), by.as_i64()) {
                (Some(by), _) => word.checked_add(by),
                (None, Some(by)) => word.checked_add_signed(by),
                (None, None) => return Err(Self::I64.wrong(by)),
            },
            Self::I64 => {
                word.cast_signed().checked_add(Self::I64.to_word(by)?.cast_signed()).map(i64::cast_unsigned)
            }
            Self::F64 => {
                let by = f64::from_bits(Self::F64.to_word(by)?);
                Some((f64::from_bits(word) + by).to_bits())
            }
            Self::Bool => return refused("nothing can be added to a `bool`"),
        };
        by.map_or_else(|| refused(&format!("the sum does not fit an `{}`", self.name())), Ok)
    }
}

/// One value or array in the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) element: Element,
    /// In bytes.
    pub(super) offset: u64,
    /// Elements; `None` of a value, which is one.
    pub(super) length: Option<u64>,
}

impl Place {
    /// From what the engine says of an object.
    pub(super) fn of(info: &ObjectInfo) -> Option<Self> {
        Some(Self {
            name: info.name.clone(),
            element: Element::of(info.element.as_deref()?)?,
            offset: info.offset?,
            length: info.length,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.length.unwrap_or(1)
    }

    /// The position of an element among all words.
    pub(super) fn word(&self, index: u64) -> Result<u64, Refusal> {
        match self.length {
            Some(length) if index >= length => Err(Refusal::new(
                "out_of_range",
                format!("array `{}` has no element {index}: it has {length}, counted from 0", self.name),
            )),
            _ => Ok(self.offset / WORD + index),
        }
    }
}

/// Somewhere that words can be read.
pub(crate) trait Words {
    fn word(&self, position: u64) -> io::Result<u64>;
}

/// All places, and the first values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    pub(super) places: Vec<Place>,
    bytes: u64,
}

impl Layout {
    pub(crate) fn new(objects: &[SharedObject]) -> Self {
        let mut layout = Self::default();
        for object in objects {
            let (element, length) = match &object.kind {
                SharedKind::Value { element, .. } => (element, None),
                SharedKind::Array { element, length } => (element, Some(*length)),
                SharedKind::Lock
                | SharedKind::Semaphore(_)
                | SharedKind::Event(_)
                | SharedKind::Barrier(_)
                | SharedKind::Dict(_) => continue,
            };
            let Some(element) = Element::of(element) else { continue };
            let offset = layout.bytes;
            layout.places.push(Place { name: object.name.clone(), element, offset, length });
            let bytes = length.unwrap_or(1).saturating_mul(WORD);
            layout.bytes =
                offset.saturating_add(bytes).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        }
        layout
    }

    /// The size of the memory; 0 where nothing lies in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }

    /// The words that are not zero at the start, and where in bytes.
    pub(crate) fn initial(&self, objects: &[SharedObject]) -> Vec<(u64, u64)> {
        let of = |object: &SharedObject| {
            let SharedKind::Value { initial, .. } = &object.kind else { return None };
            let place = self.place(&object.name)?;
            Some((place.offset, place.element.to_word(initial).ok()?))
        };
        objects.iter().filter_map(of).filter(|&(_, word)| word != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_begin_at_cache_lines_and_elements_take_eight_bytes() {
        let value = |element: &str| SharedKind::Value { element: element.into(), initial: json!(1) };
        let object = |name: &str, kind| SharedObject { name: name.into(), kind };
        let objects = [
            object("a", value("i64")),
            object("screen", SharedKind::Lock),
            object("b", SharedKind::Array { element: "f64".into(), length: 9 }),
            object("c", value("u64")),
        ];
        let layout = Layout::new(&objects);
        assert_eq!(layout.places.iter().map(|place| place.offset).collect::<Vec<_>>(), [0, 64, 192]);
        assert_eq!(layout.bytes(), 256);
        assert_eq!(layout.initial(&objects), [(0, 1), (192, 1)]);
        assert_eq!(layout.place("b").unwrap().word(8), Ok(16));
        assert_eq!(layout.place("b").unwrap().word(9).unwrap_err().code, "out_of_range");
    }

    #[test]
    fn numbers_become_words_and_words_numbers() {
        for (element, value) in [
            (Element::I64, json!(-1)),
            (Element::U64, json!(u64::MAX)),
            (Element::F64, json!(0.1)),
            (Element::F64, json!("NaN")),
            (Element::F64, json!("-inf")),
            (Element::Bool, json!(true)),
        ] {
            assert_eq!(element.to_json(element.to_word(&value).unwrap()), value);
        }
        for (element, value) in [
            (Element::I64, json!(1.5)),
            (Element::U64, json!(-1)),
            (Element::F64, json!("much")),
            (Element::Bool, json!(1)),
        ] {
            assert_eq!(element.to_word(&value).unwrap_err().code, "wrong_value");
        }
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_changes_nothing() {
        assert_eq!(Element::I64.add(5, &json!(-7)), Ok((-2_i64).cast_unsigned()));
        assert_eq!(Element::U64.add(5, &json!(-5)), Ok(0));
        assert!(Element::U64.add(5, &json!(-6)).is_err());
        assert!(Element::I64.add(i64::MAX.cast_unsigned(), &json!(1)).is_err());
        assert!(Element::U64.add(5, &json!(0.5)).is_err());
        assert!(Element::Bool.add(0, &json!(1)).is_err());
        assert_eq!(Element::F64.add(0.5_f64.to_bits(), &json!(1)), Ok(1.5_f64.to_bits()));
    }
}
