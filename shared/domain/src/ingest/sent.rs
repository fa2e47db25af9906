//! An event as one of the formats gives it, and what the formats of other systems share.

use bytes::Bytes;

use super::foreign;
use crate::event::Foreign;
use crate::fault::refused_by_sqs;
use crate::object::ObjectReader;
use crate::time::Millis;
use crate::trace::Trace;
use crate::webhook::is_queueable;

/// The longest source, id and type of another system, in characters.
const MAX_NAME: usize = 1_024;

/// An event that passed every check of its format.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) event_id: Option<String>,
    pub(super) event_type: String,
    pub(super) payload: Payload<'a>,
    pub(super) expires_at: Option<Millis>,
    pub(super) trace: Option<Trace>,
    pub(super) foreign: Option<Foreign>,
}

/// The JSON text to send.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// It stands in the message.
    Written(&'a str),
    /// It does not.
    Made(String),
}

impl Payload<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Written(text) => text,
            Self::Made(text) => text,
        }
    }

    /// Its bytes, which are a slice of `body` if it stands there.
    pub(super) fn bytes(self, body: &Bytes) -> Bytes {
        match self {
            Self::Written(text) => body.slice_ref(text.as_bytes()),
            Self::Made(text) => Bytes::from(text),
        }
    }

    /// Whether it can be carried. If not, that is noted at the field `name`.
    pub(super) fn is_sound(&self, reader: &mut ObjectReader<'_>, name: &str, max_bytes: usize) -> bool {
        let fits = self.as_str().len() <= max_bytes;
        if !fits {
            reader.fault(name, too_large(self.as_str().len(), max_bytes));
        }
        is_queueable(reader, name, self.as_str()) && fits
    }
}

/// What is wrong with a payload of so many bytes.
pub(super) fn too_large(bytes: usize, max_bytes: usize) -> String {
    format!("the payload has {bytes} bytes; at most {max_bytes} are allowed")
}

/// What another system called an event, and what it is called here.
pub(super) struct Names {
    pub(super) foreign: Foreign,
    pub(super) event_id: String,
    pub(super) event_type: String,
}

/// Reads `source`, `id` and the type, which is in the field `type_field`.
pub(super) fn names(reader: &mut ObjectReader<'_>, type_field: &str) -> Option<Names> {
    let id = name(reader, "id");
    let source = name(reader, "source");
    let foreign_type = name(reader, type_field);
    let event_type = foreign_type.as_deref().and_then(|name| {
        let mapped = foreign::event_type(name);
        if mapped.is_none() {
            reader.fault(type_field, "names that begin with `steadhook.` are reserved");
        }
        mapped
    });
    let foreign = Foreign { source: source?, id: id?, event_type: foreign_type? };
    let event_id = foreign::event_id(&foreign.source, &foreign.id);
    Some(Names { foreign, event_id, event_type: event_type? })
}

fn name(reader: &mut ObjectReader<'_>, field: &str) -> Option<String> {
    reader.required(field)?;
    let is_name = |text: &str| !text.is_empty() && text.chars().count() <= MAX_NAME && refused_by_sqs(text).is_none();
    reader.text_if(field, is_name, "must be 1 to 1024 characters, without control characters and non-characters")
}
