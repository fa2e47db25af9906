//! The envelope in which Amazon EventBridge sends events.
//!
//! <https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html>

use serde_json::value::RawValue;

use super::sent::{Names, Payload, Sent, names};
use crate::fault::Faults;
use crate::object::ObjectReader;

/// Reads an event. Its payload is its `detail`.
pub(super) fn read<'a>(mut reader: ObjectReader<'a>, max_payload_bytes: usize) -> Result<Sent<'a>, Faults> {
    reader.text_if("version", |version| version == "0", "must be \"0\"");
    let names = names(&mut reader, "detail-type");
    let payload = reader.required("detail").map(RawValue::get).map(Payload::Written);
    let payload = payload.filter(|payload| payload.is_sound(&mut reader, "detail", max_payload_bytes));
    match (names, payload) {
        (Some(Names { foreign, event_id, event_type }), Some(payload)) if reader.is_sound() => Ok(Sent {
            event_id: Some(event_id),
            event_type,
            payload,
            expires_at: None,
            trace: None,
            foreign: Some(foreign),
        }),
        _ => Err(reader.finish()),
    }
}
