//! Scalars as text: what a record of `lines`, `nul` and `frames` can be.

use std::fmt;
use std::io::Write as _;

use serde::ser::{Error, Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};

use crate::ipc::Framing;
use crate::model::Format;

pub(super) fn write<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    let start = into.len();
    value.serialize(Text { into }).map_err(|error| error.0)?;
    match Framing::of(format).end() {
        Some(end) if memchr::memchr(end, &into[start..]).is_some() => {
            Err("it holds the byte that ends a record; give the queue `format: frames`, `json` or `msgpack`"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Why something is no text.
#[derive(Debug)]
pub(super) struct TextError(pub(super) String);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

impl Error for TextError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Methods of a serializer whose values are no text, and as what they are told.
macro_rules! refused {
    ($($method:ident($($type:ty),*) -> $result:ty: $what:literal;)*) => {
        $(fn $method(self, $(_: $type),*) -> Result<$result, TextError> {
            refused($what)
        })*
    };
}

/// Methods whose values are written as people see them.
macro_rules! displayed {
    ($($method:ident($type:ty),)*) => {
        $(fn $method(self, value: $type) -> Written {
            self.put(value)
        })*
    };
}

/// Writes one scalar.
struct Text<'a> {
    into: &'a mut Vec<u8>,
}

type Written = Result<(), TextError>;

fn refused<T>(what: &str) -> Result<T, TextError> {
    Err(TextError(format!("{what} is no text; give the queue `format: json` or `msgpack`")))
}

impl Text<'_> {
    fn put(self, value: impl fmt::Display) -> Written {
        write!(self.into, "{value}").map_err(Error::custom)
    }
}

impl<'a> Serializer for Text<'a> {
    type Ok = ();
    type Error = TextError;
    type SerializeSeq = Octets<'a>;
    type SerializeTuple = Octets<'a>;
    type SerializeTupleStruct = Impossible<(), TextError>;
    type SerializeTupleVariant = Impossible<(), TextError>;
    type SerializeMap = Impossible<(), TextError>;
    type SerializeStruct = Impossible<(), TextError>;
    type SerializeStructVariant = Impossible<(), TextError>;

    displayed! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char),
    }

    // `Debug` keeps the point of a whole number, as Python's `str` does.
    fn serialize_f32(self, value: f32) -> Written {
        self.put(format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Written {
        self.put(format_args!("{value:?}"))
    }

    fn serialize_str(self, value: &str) -> Written {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.into.extend_from_slice(value);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        refused("a variant with a value")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Octets<'a>, TextError> {
        Ok(Octets { into: self.into })
    }

    fn serialize_tuple(self, _: usize) -> Result<Octets<'a>, TextError> {
        Ok(Octets { into: self.into })
    }

    refused! {
        serialize_none() -> (): "nothing";
        serialize_unit() -> (): "nothing";
        serialize_unit_struct(&'static str) -> (): "nothing";
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct: "a tuple";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant:
            "a variant with values";
        serialize_map(Option<usize>) -> Self::SerializeMap: "a map";
        serialize_struct(&'static str, usize) -> Self::SerializeStruct: "a struct";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant:
            "a variant with values";
    }
}

/// A list of bytes, which is how serde sees a `Vec<u8>`: bytes as they are.
struct Octets<'a> {
    into: &'a mut Vec<u8>,
}

impl Octets<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        // Nothing but a `u8` writes itself as one byte of this kind, so that a list of small numbers of another type
        // is not taken for bytes.
        value.serialize(Octet { into: self.into })
    }
}

impl SerializeSeq for Octets<'_> {
    type Ok = ();
    type Error = TextError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.push(value)
    }

    fn end(self) -> Written {
        Ok(())
    }
}

impl SerializeTuple for Octets<'_> {
    type Ok = ();
    type Error = TextError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.push(value)
    }

    fn end(self) -> Written {
        Ok(())
    }
}

/// One byte of a list of them.
struct Octet<'a> {
    into: &'a mut Vec<u8>,
}

impl Serializer for Octet<'_> {
    type Ok = ();
    type Error = TextError;
    type SerializeSeq = Impossible<(), TextError>;
    type SerializeTuple = Impossible<(), TextError>;
    type SerializeTupleStruct = Impossible<(), TextError>;
    type SerializeTupleVariant = Impossible<(), TextError>;
    type SerializeMap = Impossible<(), TextError>;
    type SerializeStruct = Impossible<(), TextError>;
    type SerializeStructVariant = Impossible<(), TextError>;

    fn serialize_u8(self, value: u8) -> Written {
        self.into.push(value);
        Ok(())
    }

    refused! {
        serialize_bool(bool) -> (): "a list";
        serialize_i8(i8) -> (): "a list";
        serialize_i16(i16) -> (): "a list";
        serialize_i32(i32) -> (): "a list";
        serialize_i64(i64) -> (): "a list";
        serialize_u16(u16) -> (): "a list";
        serialize_u32(u32) -> (): "a list";
        serialize_u64(u64) -> (): "a list";
        serialize_f32(f32) -> (): "a list";
        serialize_f64(f64) -> (): "a list";
        serialize_char(char) -> (): "a list";
        serialize_str(&str) -> (): "a list";
        serialize_bytes(&[u8]) -> (): "a list";
        serialize_none() -> (): "a list";
        serialize_unit() -> (): "a list";
        serialize_unit_struct(&'static str) -> (): "a list";
        serialize_unit_variant(&'static str, u32, &'static str) -> (): "a list";
        serialize_seq(Option<usize>) -> Self::SerializeSeq: "a list";
        serialize_tuple(usize) -> Self::SerializeTuple: "a list";
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct: "a list";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant: "a list";
        serialize_map(Option<usize>) -> Self::SerializeMap: "a list";
        serialize_struct(&'static str, usize) -> Self::SerializeStruct: "a list";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant: "a list";
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Written {
        refused("a list")
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        refused("a list")
    }
}
