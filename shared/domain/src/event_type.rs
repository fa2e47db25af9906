//! Event types: what the operator of a stack tells its tenants that they can get. The catalogue
//! describes them, and a schema in it is what payloads of the type are held against.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fault::{Fault, Faults};
use crate::json_schema::JsonSchema;
use crate::time::Millis;

/// The largest definition, in bytes of the request that gives it.
pub const MAX_DEFINITION: usize = 64 * 1024;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 512;

/// A JSON value as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// The text of a value.
    pub fn of(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a value that is passed on; `None` if somebody else wrote it, and it is no JSON.
    pub fn raw(&self) -> Option<&RawValue> {
        serde_json::from_str(&self.0).ok()
    }
}

/// What an event type is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A payload as an example. It fits the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<JsonText>,
    /// The JSON Schema of its payloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<JsonText>,
    /// Whether nobody should begin to use it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
}

impl Definition {
    /// The schema of its payloads, compiled, if it has one.
    ///
    /// # Errors
    /// What is wrong with it. A definition that was read from a request has a schema that compiles.
    pub fn compiled(&self) -> Result<Option<JsonSchema>, Faults> {
        let Some(text) = &self.schema else { return Ok(None) };
        let raw = text.raw().ok_or_else(|| Fault::at("", "must be JSON"))?;
        JsonSchema::read("", raw).map(Some)
    }
}

/// An event type as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name, such as `invoice.paid`.
    pub name: String,
    /// What it is.
    pub definition: Definition,
    /// When it was made.
    pub created_at: Millis,
    /// When it was written last.
    pub updated_at: Millis,
}
