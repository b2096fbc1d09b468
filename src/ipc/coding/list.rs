//! Several records as one value: a list of them.

use serde::de::value::Error;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{CodeError, msgpack, text_read};
use crate::model::Format;

/// Reads all of these records as one value, a list.
///
/// # Errors
///
/// The records are no such list.
pub(crate) fn decode_list<'de, T: Deserialize<'de>>(
    format: Format,
    bodies: &[&'de [u8]],
) -> Result<T, CodeError> {
    T::deserialize(List { format, bodies: bodies.iter() }).map_err(|error| {
        CodeError::undecodable::<T>(format, bodies.first().copied().unwrap_or_default(), error.to_string())
    })
}

struct List<'l, 'de> {
    format: Format,
    bodies: std::slice::Iter<'l, &'de [u8]>,
}

impl<'de> SeqAccess<'de> for List<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(body) = self.bodies.next() else { return Ok(None) };
        let value = match self.format {
            Format::Json => {
                let mut json = serde_json::Deserializer::from_slice(body);
                let value = seed.deserialize(&mut json).map_err(Error::custom)?;
                json.end().map_err(Error::custom)?;
                value
            }
            Format::Msgpack => msgpack::read_as(body, seed).map_err(Error::custom)?,
            Format::Lines | Format::Nul | Format::Frames | Format::Pickle => {
                text_read::read_as(body, seed).map_err(Error::custom)?
            }
        };
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.bodies.len())
    }
}

impl<'de> Deserializer<'de> for List<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'de>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_format_are_read_as_a_list() {
        for format in [Format::Lines, Format::Nul, Format::Frames, Format::Json, Format::Msgpack] {
            let mut coded = [Vec::new(), Vec::new()];
            coded
                .iter_mut()
                .zip(1u8..)
                .for_each(|(body, number)| super::super::encode(format, &number, body).unwrap());
            let bodies: Vec<&[u8]> = coded.iter().map(Vec::as_slice).collect();
            assert_eq!(decode_list::<Vec<u32>>(format, &bodies).unwrap(), [1, 2]);
            assert!(decode_list::<Vec<bool>>(format, &bodies).is_err());
            assert!(decode_list::<u32>(format, &bodies).is_err());
        }
    }
}
