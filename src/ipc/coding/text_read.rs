//! Scalars from text.

use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::SeqDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::text::TextError;

pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
    read_as(body, PhantomData::<T>)
}

pub(super) fn read_as<'de, S: DeserializeSeed<'de>>(body: &'de [u8], seed: S) -> Result<S::Value, String> {
    seed.deserialize(Text(body)).map_err(|error| error.0)
}

impl Error for TextError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// One record, read as whatever is asked for.
struct Text<'de>(&'de [u8]);

impl<'de> Text<'de> {
    fn as_str(&self) -> Result<&'de str, TextError> {
        std::str::from_utf8(self.0).map_err(|_| TextError("it is not UTF-8".to_owned()))
    }

    /// A number. Space around it is left out, as programs pad it.
    fn parse<T: FromStr>(&self) -> Result<T, TextError>
    where
        T::Err: std::fmt::Display,
    {
        self.as_str()?.trim().parse().map_err(<TextError as Error>::custom)
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
            visitor.$visit(self.parse()?)
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = TextError;

    /// Whoever takes anything gets text where it is text.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        match std::str::from_utf8(self.0) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor.visit_borrowed_bytes(self.0),
        }
    }

    numbers! {
        deserialize_i8 => visit_i8;
        deserialize_i16 => visit_i16;
        deserialize_i32 => visit_i32;
        deserialize_i64 => visit_i64;
        deserialize_i128 => visit_i128;
        deserialize_u8 => visit_u8;
        deserialize_u16 => visit_u16;
        deserialize_u32 => visit_u32;
        deserialize_u64 => visit_u64;
        deserialize_u128 => visit_u128;
        deserialize_f32 => visit_f32;
        deserialize_f64 => visit_f64;
    }

    /// As Rust writes it, or as Python does.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        match self.as_str()?.trim() {
            "true" | "True" => visitor.visit_bool(true),
            "false" | "False" => visitor.visit_bool(false),
            _ => Err(TextError("it is neither `true` nor `false`".to_owned())),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_borrowed_str(self.as_str()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TextError> {
        visitor.visit_newtype_struct(self)
    }

    /// A `Vec<u8>` asks for a list.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_seq(SeqDeserializer::new(self.0.iter().copied()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TextError> {
        visitor.visit_enum(self.as_str()?.into_deserializer())
    }

    forward_to_deserialize_any! {
        unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}
