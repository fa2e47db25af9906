//! A JSON object taken apart into its fields with their exact bytes, so that a
//! payload can be passed on as it was written and every fault be named.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's fields in the order they were written, values unparsed.
/// A name that stands twice is kept twice.
#[derive(Debug)]
pub struct Fields<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Whether `text` is one well-formed JSON value; if not, why.
///
/// # Errors
/// The parser's own words, with line and column.
pub fn well_formed(text: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes_and_doubles_are_kept() {
        let fields: Fields<'_> =
            serde_json::from_str(r#"{ "a" : {"z" : 1.50 , "b":[ ]}, "a":9007199254740993 }"#).unwrap();
        let seen: Vec<_> = fields.0.iter().map(|(name, raw)| (name.as_str(), raw.get())).collect();
        assert_eq!(seen, [("a", r#"{"z" : 1.50 , "b":[ ]}"#), ("a", "9007199254740993")]);
    }

    #[test]
    fn depth_alone_is_no_fault() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(well_formed(&deep).is_ok());
    }
}
