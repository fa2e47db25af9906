//! What a client asks for: one event, read from JSON with every fault named at once and the
//! payload's bytes kept as they were written.

use serde_json::value::RawValue;

use crate::fault::{Fault, Faults};
use crate::names::{is_event_id, is_event_type, is_reserved_event_type};
use crate::object::ObjectReader;
use crate::time::Millis;
use crate::webhook::{self, Rejection};

/// The fields of an event.
const FIELDS: &[&str] = &["event_type", "payload", "event_id", "expires_at"];

/// An event that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRequest<'a> {
    /// The client's own id for it.
    pub event_id: Option<String>,
    /// What kind of event it is.
    pub event_type: String,
    /// The JSON to send, byte for byte.
    pub payload: &'a str,
    /// When it is no longer worth delivering.
    pub expires_at: Option<Millis>,
    /// The fault of an event whose `expires_at` has passed. A request that is repeated may
    /// come so late. It is taken as the duplicate of an event that is known, and for nothing
    /// else.
    pub expired: Option<Fault>,
}

/// The events of a batch request, each still to be read.
///
/// # Errors
/// Every fault of the envelope.
pub fn read_batch(raw: &RawValue) -> Result<Vec<&RawValue>, Faults> {
    webhook::read_items("events", raw)
}

/// Reads one event, whose payload may have so many bytes. Faults point below `base`, `""`
/// when it is the request. One that has an id and whose only fault is that it has expired is
/// given with that fault.
///
/// # Errors
/// [`Rejection::Invalid`] with every fault; [`Rejection::TooLarge`] when the payload's size is
/// the only one.
pub fn read<'a>(
    base: &str,
    raw: &'a RawValue,
    now: Millis,
    max_payload_bytes: usize,
) -> Result<EventRequest<'a>, Rejection> {
    let mut reader =
        ObjectReader::open(base, raw, FIELDS, "an event").map_err(|fault| Rejection::Invalid(fault.into()))?;
    reader.required("event_type");
    let event_type = event_type(&mut reader);
    let payload = webhook::payload(&mut reader);
    let event_id = reader.text_if("event_id", is_event_id, "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen");
    let expires_at = webhook::expires_at(&mut reader, now);
    let expired = expires_at.and_then(|at| webhook::expired(base, at, now));
    match (event_type, payload) {
        (Some(event_type), Some(payload)) if reader.is_sound() => {
            let is_too_large = payload.len() > max_payload_bytes;
            match expired {
                // An id that is made now is not known.
                Some(fault) if event_id.is_none() || is_too_large => Err(Rejection::Invalid(fault.into())),
                None if is_too_large => Err(Rejection::TooLarge { bytes: payload.len() }),
                expired => Ok(EventRequest { event_id, event_type, payload, expires_at, expired }),
            }
        }
        _ => {
            expired.into_iter().for_each(|fault| reader.faults(fault));
            Err(Rejection::Invalid(reader.finish()))
        }
    }
}

fn event_type(reader: &mut ObjectReader<'_>) -> Option<String> {
    const WANTS: &str = "must be words of A-Z, a-z, 0-9, underscore and hyphen with dots between them, at most 128 \
                         characters";
    let event_type = reader.text_if("event_type", is_event_type, WANTS)?;
    if is_reserved_event_type(&event_type) {
        reader.fault("event_type", "names that begin with `steadhook.` are reserved");
        return None;
    }
    Some(event_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn read_text(text: &str) -> Result<EventRequest<'_>, Rejection> {
        read("", serde_json::from_str(text).unwrap(), NOW, 64)
    }

    fn pointers(text: &str) -> Vec<String> {
        let Err(Rejection::Invalid(faults)) = read_text(text) else { panic!("no faults") };
        faults.told().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn the_payload_is_kept_byte_for_byte() {
        let event =
            read_text(r#"{"event_type":"order.paid","payload": { "b":1.0,  "a":[ ] } ,"event_id":"o-1"}"#).unwrap();
        assert_eq!(event.payload, r#"{ "b":1.0,  "a":[ ] }"#);
        assert_eq!((event.event_type.as_str(), event.event_id.as_deref()), ("order.paid", Some("o-1")));
        assert_eq!(read_text(r#"{"event_type":"a","payload":null}"#).unwrap().payload, "null");
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(pointers("{}"), ["/event_type", "/payload"]);
        let text = r#"{"event_type":"a..b","event_id":"a.b","expires_at":"2001-01-01T00:00:00Z","webhook_url":"x"}"#;
        assert_eq!(pointers(text), ["/webhook_url", "/event_type", "/payload", "/event_id", "/expires_at"]);
        assert_eq!(pointers(r#"{"event_type":"steadhook.endpoint.disabled","payload":1}"#), ["/event_type"]);
        assert_eq!(pointers("[]"), [""]);
        assert_eq!(pointers(r#"{"event_type":1,"payload":1}"#), ["/event_type"]);
    }

    #[test]
    fn an_event_that_has_expired_is_only_taken_as_a_duplicate() {
        let event = |id: &str| format!(r#"{{"event_type":"a","payload":1,"expires_at":"2001-01-01T00:00:00Z"{id}}}"#);
        assert_eq!(pointers(&event("")), ["/expires_at"]);
        assert!(read_text(&event(r#","event_id":"a""#)).unwrap().expired.is_some());
    }

    #[test]
    fn size_is_counted_in_the_payloads_bytes() {
        let event = |length: usize| format!(r#"{{"event_type":"a","payload":"{}"}}"#, "x".repeat(length));
        assert!(read_text(&event(62)).is_ok());
        assert_eq!(read_text(&event(63)), Err(Rejection::TooLarge { bytes: 65 }));
    }

    #[test]
    fn a_batch_has_1_to_100_events() {
        let batch = |text: &str| read_batch(serde_json::from_str(text).unwrap()).map(|items| items.len());
        assert_eq!(batch(r#"{"events":[1,{}]}"#), Ok(2));
        for text in [r#"{"events":[]}"#, r#"{"webhooks":[1]}"#, &format!(r#"{{"events":[{}1]}}"#, "1,".repeat(100))] {
            assert!(batch(text).is_err());
        }
    }
}
