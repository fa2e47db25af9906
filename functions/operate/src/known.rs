//! Answers show what is known, and leave out the rest.

use serde_json::Value;

/// The object with those of the fields that are known.
pub(crate) fn with_known(mut object: Value, fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    for (name, value) in fields {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    object
}
