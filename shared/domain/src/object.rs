//! A JSON object, read field by field. Everything that is wrong with it is gathered, so
//! that all faults can be told at once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::fault::{Fault, Faults, pointer_token};
use crate::json::each_field;

/// The fields of an object that were not taken yet, and its faults so far.
#[derive(Debug)]
pub struct ObjectReader<'a> {
    base: String,
    fields: BTreeMap<String, &'a RawValue>,
    faults: Faults,
}

impl<'a> ObjectReader<'a> {
    /// Begins to read the object `raw`, which may have the fields `known`. Faults point
    /// below `base`, `""` when the object is the request.
    ///
    /// # Errors
    /// `what` must be a JSON object.
    pub fn open(base: &str, raw: &'a RawValue, known: &[&str], what: &str) -> Result<Self, Fault> {
        let mut reader = Self::empty(base);
        let read = each_field(raw, |name, value| {
            if known.contains(&name) {
                reader.keep(name, value);
            } else {
                reader.fault(name, "unknown field");
            }
        });
        read.map_err(|_| no_object(base, what))?;
        Ok(reader)
    }

    /// Begins to read the object `raw`, which may have any fields, at most `most`.
    ///
    /// # Errors
    /// `what` must be a JSON object, and not have more fields.
    pub fn open_any(base: &str, raw: &'a RawValue, most: usize, what: &str) -> Result<Self, Fault> {
        let mut reader = Self::empty(base);
        let mut count = 0;
        let read = each_field(raw, |name, value| {
            count += 1;
            if count <= most {
                reader.keep(name, value);
            }
        });
        read.map_err(|_| no_object(base, what))?;
        if count > most {
            return Err(Fault::at(base, format!("{what} has at most {most} fields")));
        }
        Ok(reader)
    }

    fn empty(base: &str) -> Self {
        Self { base: base.to_owned(), fields: BTreeMap::new(), faults: Faults::default() }
    }

    fn keep(&mut self, name: &str, value: &'a RawValue) {
        if self.fields.contains_key(name) {
            self.fault(name, "duplicate field");
        } else {
            self.fields.insert(name.to_owned(), value);
        }
    }

    /// Notes what is wrong with a field.
    pub fn fault(&mut self, name: &str, message: impl Into<String>) {
        let base = &self.base;
        self.faults.add(|| Fault::at(format!("{base}/{}", pointer_token(name)), message));
    }

    /// Notes faults that were found deeper in a field.
    pub fn faults(&mut self, faults: impl Into<Faults>) {
        self.faults.append(faults.into());
    }

    /// A field's value as it was written.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.get(name).copied()
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &str) -> Option<&'a RawValue> {
        let value = self.raw(name);
        if value.is_none() {
            self.fault(name, "the field is missing");
        }
        value
    }

    /// A field as `read` understands it; `wants` says what that is.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&'a RawValue) -> Option<T>, wants: &str) -> Option<T> {
        let read = read(self.raw(name)?);
        if read.is_none() {
            self.fault(name, wants);
        }
        read
    }

    /// A field that is a string.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.optional(name, parsed, "must be a string")
    }

    /// A field that is a string which `ok` accepts; `wants` says which are.
    pub fn text_if(&mut self, name: &str, ok: impl FnOnce(&str) -> bool, wants: &str) -> Option<String> {
        let text = self.text(name)?;
        if ok(&text) {
            return Some(text);
        }
        self.fault(name, wants);
        None
    }

    /// A field that is `true` or `false`, the default.
    pub fn flag(&mut self, name: &str) -> bool {
        self.optional(name, parsed, "must be true or false").unwrap_or(false)
    }

    /// A field that is a whole number from 1 to `most`.
    pub fn number(&mut self, name: &str, most: u64) -> Option<u64> {
        let read = |raw| parsed::<u64>(raw).filter(|number| (1..=most).contains(number));
        self.optional(name, read, &format!("must be a whole number from 1 to {most}"))
    }

    /// Whether nothing is wrong so far.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Ends the reading: every fault.
    #[must_use = "an object with faults must not be used"]
    pub fn finish(self) -> Faults {
        self.faults
    }
}

fn no_object(base: &str, what: &str) -> Fault {
    Fault::at(base, format!("{what} must be a JSON object"))
}

/// A value of this type, if it is one.
pub fn parsed<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_duplicate_and_wrong_fields_are_all_named() {
        let text = r#"{"a":1,"x/y":2,"b":0,"a":3,"c":"no"}"#;
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut reader = ObjectReader::open("/f", raw, &["a", "b", "c", "d"], "it").unwrap();
        assert_eq!(reader.text("a"), None);
        assert_eq!(reader.number("b", 9), None);
        assert!(!reader.flag("c"));
        assert!(reader.required("d").is_none() && reader.raw("b").is_some());
        let faults = reader.finish();
        let faults: Vec<_> = faults.told().iter().map(|fault| (fault.pointer.clone(), fault.message.clone())).collect();
        let named = |pointer: &str, message: &str| (pointer.to_owned(), message.to_owned());
        assert_eq!(
            faults,
            [
                named("/f/x~1y", "unknown field"),
                named("/f/a", "duplicate field"),
                named("/f/a", "must be a string"),
                named("/f/b", "must be a whole number from 1 to 9"),
                named("/f/c", "must be true or false"),
                named("/f/d", "the field is missing"),
            ]
        );
        let array: &RawValue = serde_json::from_str("[]").unwrap();
        assert_eq!(ObjectReader::open("", array, &[], "it").unwrap_err(), Fault::at("", "it must be a JSON object"));
    }

    #[test]
    fn an_object_of_any_fields_has_a_bound_and_no_duplicates() {
        let raw: &RawValue = serde_json::from_str(r#"{"a":1,"x/y":2,"a":3}"#).unwrap();
        let reader = ObjectReader::open_any("/f", raw, 3, "it").unwrap();
        assert_eq!(reader.raw("x/y").map(RawValue::get), Some("2"));
        assert_eq!(reader.finish().told(), [Fault::at("/f/a", "duplicate field")]);
        let too_many = ObjectReader::open_any("/f", raw, 2, "it").unwrap_err();
        assert_eq!(too_many, Fault::at("/f", "it has at most 2 fields"));
    }
}
