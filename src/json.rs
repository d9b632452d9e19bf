//! Decodes JSON. serde makes the code of a type again for each kind of reader, so that all of it is
//! read as text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

/// Decodes a value. Bytes that are not UTF-8 are replaced by U+FFFD.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_str(&text_of(bytes))
}

/// Returns the text of these bytes. Bytes that are not UTF-8 are replaced by U+FFFD.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    // Faster than the function that replaces them.
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// The members of an object, from which several structures take what is theirs, and leave the rest
/// undecoded. (With `flatten`, serde would decode unknown fields, and refuse an object for what a
/// newer version wrote there.)
pub(crate) struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    pub(crate) fn parse(text: &'a str) -> serde_json::Result<Self> {
        Ok(Self(serde_json::from_str(text)?))
    }

    /// Returns the text of a member, unless it is null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let text = self.0.get(name)?.get();
        if text == "null" { None } else { Some(text) }
    }
}

impl<'de> Deserializer<'de> for &Members<'de> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let members: Vec<(&str, &RawValue)> =
            names.iter().filter_map(|name| Some((*name, *self.0.get(*name)?))).collect();
        visitor.visit_map(MapDeserializer::new(members.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let members = self.0.iter().map(|(name, value)| (&**name, *value));
        visitor.visit_map(MapDeserializer::new(members))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
