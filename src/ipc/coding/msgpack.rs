//! MessagePack: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeSeed};

/// A struct is a map and what serde calls human-readable is used, so that a value looks to another language as it
/// does in JSON.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> Result<(), String> {
    let mut serializer = rmp_serde::Serializer::new(into).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|error| error.to_string())
}

pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
    read_as(body, PhantomData::<T>)
}

pub(super) fn read_as<'de, S: DeserializeSeed<'de>>(body: &'de [u8], seed: S) -> Result<S::Value, String> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body).with_human_readable();
    seed.deserialize(&mut deserializer).map_err(|error| error.to_string())
}

/// Bytes of the mark and of the number of an `array 32`.
pub(super) const ARRAY_HEADER_BYTES: usize = 5;

/// The beginning of an array of so many elements.
pub(super) fn array_header(elements: u32) -> [u8; ARRAY_HEADER_BYTES] {
    let [a, b, c, d] = elements.to_be_bytes();
    [0xdd, a, b, c, d]
}

/// Where the elements of the array at the front of `bytes` begin, and how many they are.
pub(super) fn array(bytes: &[u8]) -> Option<(usize, u32)> {
    match *bytes.first()? {
        mark @ 0x90..=0x9f => Some((1, u32::from(mark & 0x0f))),
        0xdc => Some((3, number(bytes, 1, 2)?)),
        0xdd => Some((5, number(bytes, 1, 4)?)),
        _ => None,
    }
}

/// The length of the value at the front of `bytes`, with all that it holds; `None` where it is not whole.
pub(super) fn value_bytes(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Values that are still to come: counting them needs no stack, however deep they are nested.
    let mut open: u64 = 1;
    while open > 0 {
        let rest = bytes.get(at..)?;
        let (length, within) = step(rest)?;
        if length > rest.len() {
            return None;
        }
        at += length;
        open = open - 1 + within;
    }
    Some(at)
}

/// The bytes of one value without the values in it, and how many those are.
fn step(bytes: &[u8]) -> Option<(usize, u64)> {
    let size = |width: usize| Some(number(bytes, 1, width)? as usize);
    Some(match *bytes.first()? {
        0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => (1, 0),
        mark @ 0x80..=0x8f => (1, 2 * u64::from(mark & 0x0f)),
        mark @ 0x90..=0x9f => (1, u64::from(mark & 0x0f)),
        mark @ 0xa0..=0xbf => (1 + usize::from(mark & 0x1f), 0),
        0xc4 | 0xd9 => (2 + size(1)?, 0),
        0xc5 | 0xda => (3 + size(2)?, 0),
        0xc6 | 0xdb => (5 + size(4)?, 0),
        0xc7 => (3 + size(1)?, 0),
        0xc8 => (4 + size(2)?, 0),
        0xc9 => (6 + size(4)?, 0),
        0xcc | 0xd0 => (2, 0),
        0xcd | 0xd1 => (3, 0),
        0xca | 0xce | 0xd2 => (5, 0),
        0xcb | 0xcf | 0xd3 => (9, 0),
        mark @ 0xd4..=0xd8 => (2 + (1 << (mark - 0xd4)), 0),
        0xdc => (3, size(2)? as u64),
        0xdd => (5, size(4)? as u64),
        0xde => (3, 2 * size(2)? as u64),
        0xdf => (5, 2 * size(4)? as u64),
    })
}

/// A big-endian number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9f64..1e9).prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            "x{30,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                proptest::collection::hash_map("[a-z]{1,4}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_it_was_written_to(value in value(), after in any::<[u8; 3]>()) {
            let mut bytes = Vec::new();
            write(&value, &mut bytes).unwrap();
            let length = bytes.len();
            prop_assert_eq!(value_bytes(&bytes[..length - 1]), None);
            bytes.extend(after);
            prop_assert_eq!(value_bytes(&bytes), Some(length));
        }
    }

    #[test]
    fn an_array_says_how_many_elements_it_has() {
        assert_eq!(array(&array_header(70_000)), Some((5, 70_000)));
        assert_eq!(array(&[0x93, 1, 2, 3]), Some((1, 3)));
        assert_eq!(array(&[0xdc, 1, 0]), Some((3, 256)));
        assert_eq!((array(&[]), array(&[0xc0]), array(&[0xdd, 0])), (None, None, None));
    }

    #[test]
    fn a_value_that_claims_more_than_there_is_has_no_end() {
        assert_eq!(value_bytes(&[0xdf, 255, 255, 255, 255]), None);
        assert_eq!(value_bytes(&[0xc6, 255, 255, 255, 255, 0]), None);
        assert_eq!(value_bytes(&vec![0x91; 1 << 20]), None);
    }
}
