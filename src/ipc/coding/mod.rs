//! Values of Rust programs as records, by serde: one meaning for each format, whoever is at the other end.
//!
//! | format | a record is | a Rust value |
//! |---|---|---|
//! | `lines`, `nul`, `frames` | text or bytes | text, bytes, a number, a truth value, the name of a variant without fields |
//! | `json` | one document | any |
//! | `msgpack` | one element of a chunk's array; a struct is a map, as in JSON | any |
//!
//! [`encode`] writes the body of one record and [`Packer`] gathers bodies to blocks; [`bodies`] finds them again and
//! [`decode`] reads one. `pickle` is Python's alone.

mod bodies;
mod error;
mod list;
mod msgpack;
mod pack;
mod text;
mod text_read;

use serde::Serialize;
use serde::de::Deserialize;

pub(crate) use bodies::{Bodies, bodies};
pub use error::CodeError;
pub(crate) use list::decode_list;
pub(crate) use pack::Packer;

use crate::model::Format;

/// Appends the body of one record, without the marks around it.
///
/// # Errors
///
/// The value is none that this format can carry; `into` is as it was.
pub(crate) fn encode<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), CodeError> {
    let start = into.len();
    let result = match format {
        Format::Lines | Format::Nul | Format::Frames => text::write(format, value, into),
        Format::Json => serde_json::to_writer(&mut *into, value).map_err(|error| error.to_string()),
        Format::Msgpack => msgpack::write(value, into),
        Format::Pickle => Err("only Python reads and writes it".to_owned()),
    };
    result.map_err(|reason| {
        into.truncate(start);
        CodeError::uncodable::<T>(format, reason)
    })
}

/// Reads one record from its body.
///
/// # Errors
///
/// The record is not such a value.
pub(crate) fn decode<'de, T: Deserialize<'de>>(format: Format, body: &'de [u8]) -> Result<T, CodeError> {
    let result = match format {
        Format::Lines | Format::Nul | Format::Frames => text_read::read(body),
        Format::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        Format::Msgpack => msgpack::read(body),
        Format::Pickle => Err("only Python reads and writes it".to_owned()),
    };
    result.map_err(|reason| CodeError::undecodable::<T>(format, body, reason))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    const ALL: [Format; 5] = [Format::Lines, Format::Nul, Format::Frames, Format::Json, Format::Msgpack];

    fn through<T: Serialize + DeserializeOwned>(format: Format, values: &[T]) -> Vec<T> {
        let mut packer = Packer::new(format, u64::MAX);
        for value in values {
            let mut body = Vec::new();
            encode(format, value, &mut body).unwrap();
            packer.push(&body);
        }
        let block = packer.take();
        assert_eq!(block.records, values.len() as u64);
        bodies(format, &block.data).map(|body| decode(format, body).unwrap()).collect()
    }

    fn assert_survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(formats: &[Format], value: T) {
        for &format in formats {
            let mut body = Vec::new();
            encode(format, &value, &mut body).unwrap();
            let read: T = decode(format, &body).unwrap();
            assert_eq!(read, value, "{format}: {body:?}");
        }
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Task {
        id: u64,
        name: String,
        scale: Option<f64>,
        tags: Vec<String>,
        kind: Kind,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Sized(u32),
        Named { key: String },
    }

    fn task(id: u64) -> Task {
        let kind = [Kind::Plain, Kind::Sized(7), Kind::Named { key: "k".into() }][id as usize % 3].clone();
        Task {
            id,
            name: format!("task {id}\n"),
            scale: id.is_multiple_of(2).then_some(0.1),
            tags: vec![],
            kind,
        }
    }

    #[test]
    fn scalars_and_text_pass_by_every_format() {
        assert_survives(&ALL, "grün".to_owned());
        assert_survives(&ALL, 42u8);
        assert_survives(&ALL, -7i64);
        assert_survives(&ALL, u64::MAX);
        assert_survives(&ALL, 0.1f64);
        assert_survives(&ALL, true);
        assert_survives(&ALL, 'x');
        assert_survives(&ALL, Kind::Plain);
        assert_survives(&ALL, Some("text".to_owned()));
        assert_survives(&ALL, vec![1u8, 255, 3]);
    }

    #[test]
    fn structs_pass_by_json_and_msgpack_and_are_maps_to_others() {
        assert_survives(&[Format::Json, Format::Msgpack], vec![task(1), task(2)]);
        let mut body = Vec::new();
        encode(Format::Msgpack, &BTreeMap::from([("id", 3)]), &mut body).unwrap();
        #[derive(Deserialize)]
        struct Id {
            id: u64,
        }
        assert_eq!(decode::<Id>(Format::Msgpack, &body).unwrap().id, 3);
    }

    #[test]
    fn what_a_format_cannot_carry_is_said_with_the_way_out() {
        let mut body = b"before".to_vec();
        let error = encode(Format::Lines, &task(1), &mut body).unwrap_err();
        assert_eq!(body, b"before");
        let text = error.to_string();
        assert!(text.contains("Task` cannot be a record of `lines`: a struct is no text"), "{text}");
        assert!(text.contains("format: json"), "{text}");
        let error = encode(Format::Lines, "two\nlines", &mut body).unwrap_err().to_string();
        assert!(error.contains("holds the byte that ends a record"), "{error}");
        let error = encode(Format::Lines, &None::<u8>, &mut body).unwrap_err().to_string();
        assert!(error.contains("nothing is no text"), "{error}");
        assert!(encode(Format::Frames, "two\nlines\0", &mut body).is_ok());
        let error = decode::<u32>(Format::Lines, b"twelve").unwrap_err().to_string();
        assert!(error.starts_with("the record `twelve` of `lines` is no `u32`: "), "{error}");
        let error = decode::<String>(Format::Nul, b"\xff").unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
        assert!(decode::<Task>(Format::Msgpack, b"\x93\x01").is_err());
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, text) in [(1.0f64, "1.0"), (0.1, "0.1"), (-2.5, "-2.5")] {
            let mut body = Vec::new();
            encode(Format::Lines, &value, &mut body).unwrap();
            assert_eq!(body, text.as_bytes());
        }
        assert!(decode::<bool>(Format::Lines, b"True").unwrap());
        assert_eq!(decode::<i32>(Format::Lines, b" 12 ").unwrap(), 12, "as `wc -l` pads it");
    }

    proptest! {
        #[test]
        fn many_values_come_back_in_order(ids in proptest::collection::vec(any::<u64>(), 0..50)) {
            let tasks: Vec<Task> = ids.iter().map(|&id| task(id)).collect();
            for format in [Format::Json, Format::Msgpack] {
                prop_assert_eq!(&through(format, &tasks), &tasks);
            }
            for format in ALL {
                prop_assert_eq!(&through(format, &ids), &ids);
            }
        }

        #[test]
        fn bytes_that_are_no_record_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for format in ALL {
                let _ = decode::<Task>(format, &bytes);
                let _ = decode::<serde_json::Value>(format, &bytes);
                let _ = bodies(format, &bytes).count();
            }
        }
    }
}
