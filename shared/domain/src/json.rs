//! JSON taken apart one level deep, each part with its exact bytes, so that a payload can be
//! passed on as it was written and every fault be named. Nothing is collected that has no
//! bound: a small text can have a great many fields.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

/// A field's name: a part of the text, unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Hands over an object's fields in the order they were written, values unparsed. A name
/// that stands twice is handed over twice.
///
/// # Errors
/// When it is no object.
pub fn each_field<'a>(raw: &'a RawValue, each: impl FnMut(&str, &'a RawValue)) -> Result<(), serde_json::Error> {
    struct Object<F>(F);
    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Object<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
            while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                self.0(&name, value);
            }
            Ok(())
        }
    }
    Deserializer::from_str(raw.get()).deserialize_map(Object(each))
}

/// The first `most` elements of an array, unparsed, and how many it has.
///
/// # Errors
/// When it is no array.
pub fn elements(raw: &RawValue, most: usize) -> Result<(Vec<&RawValue>, usize), serde_json::Error> {
    struct Array(usize);
    impl<'de> Visitor<'de> for Array {
        type Value = (Vec<&'de RawValue>, usize);
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
            let mut first = Vec::new();
            while first.len() < self.0 {
                let Some(element) = seq.next_element()? else { break };
                first.push(element);
            }
            let mut count = first.len();
            while seq.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok((first, count))
        }
    }
    Deserializer::from_str(raw.get()).deserialize_seq(Array(most))
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
        let raw: &RawValue =
            serde_json::from_str(r#"{ "a" : {"z" : 1.50 , "b":[ ]}, "\u0061":9007199254740993 }"#).unwrap();
        let mut seen = Vec::new();
        each_field(raw, |name, raw| seen.push((name.to_owned(), raw.get()))).unwrap();
        assert_eq!(seen, [("a".to_owned(), r#"{"z" : 1.50 , "b":[ ]}"#), ("a".to_owned(), "9007199254740993")]);
        assert!(elements(raw, 9).is_err());
    }

    #[test]
    fn an_array_is_counted_and_its_beginning_kept() {
        let raw: &RawValue = serde_json::from_str("[ 1.0 ,[2],3,{}]").unwrap();
        for (most, wanted) in [(0, vec![]), (2, vec!["1.0", "[2]"]), (4, vec!["1.0", "[2]", "3", "{}"])] {
            let (first, count) = elements(raw, most).unwrap();
            assert_eq!((first.iter().map(|raw| raw.get()).collect::<Vec<_>>(), count), (wanted, 4));
        }
        assert!(each_field(raw, |_, _| ()).is_err());
    }

    #[test]
    fn depth_alone_is_no_fault() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(well_formed(&deep).is_ok());
    }
}
