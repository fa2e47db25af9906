//! A page of an event as JSON: kind `event` of the queues' schema, version 2.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{KindV2, Malformed, VERSION_2, present, read, shape};
use crate::event::{Event, EventPage, Foreign};
use crate::names::{is_endpoint_id, is_event_id, is_event_type, is_tenant_or_operator};
use crate::time::Millis;
use crate::trace::Trace;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EventV2<'a> {
    v: u8,
    kind: KindV2,
    tenant: String,
    event_id: String,
    event_type: String,
    correlation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    foreign: Option<Foreign>,
    body_hash: String,
    accepted_at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Millis>,
    deadline: Millis,
    hop: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(default)]
    matched: u32,
    #[serde(default)]
    owed: u32,
    #[serde(default)]
    waited: u32,
    #[serde(default)]
    not_before: Millis,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

impl EventPage {
    /// Reads a page. The payload is a slice of `body`, not a copy.
    pub(super) fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let fields: EventV2<'_> = read(body).map_err(|error| shape(&error))?;
        for (name, is_right) in [
            ("tenant", is_tenant_or_operator(&fields.tenant)),
            ("event_id", is_event_id(&fields.event_id)),
            ("event_type", is_event_type(&fields.event_type)),
            ("after", fields.after.as_deref().is_none_or(is_endpoint_id)),
            ("trace", fields.trace.as_ref().is_none_or(Trace::is_sound)),
        ] {
            if !is_right {
                return Err(Malformed::Field(name));
            }
        }
        let payload = fields.payload.ok_or(Malformed::Field("payload"))?;
        Ok(Self {
            event: Event {
                tenant: fields.tenant,
                id: fields.event_id,
                event_type: fields.event_type,
                payload: body.slice_ref(payload.get().as_bytes()),
                correlation_id: fields.correlation_id,
                trace: fields.trace,
                foreign: fields.foreign,
                body_hash: fields.body_hash,
                accepted_at: fields.accepted_at,
                expires_at: fields.expires_at,
            },
            deadline: fields.deadline,
            hop: fields.hop,
            after: fields.after,
            matched: fields.matched,
            owed: fields.owed,
            waited: fields.waited,
            not_before: fields.not_before,
        })
    }

    /// The page as a queue carries it.
    ///
    /// # Errors
    /// Only when the payload is not JSON text: never for a page that was decoded or made from
    /// a checked event.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let event = &self.event;
        let payload: &RawValue = serde_json::from_slice(&event.payload)?;
        serde_json::to_string(&EventV2 {
            v: VERSION_2,
            kind: KindV2::Event,
            tenant: event.tenant.clone(),
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            correlation_id: event.correlation_id.clone(),
            trace: event.trace.clone(),
            foreign: event.foreign.clone(),
            body_hash: event.body_hash.clone(),
            accepted_at: event.accepted_at,
            expires_at: event.expires_at,
            deadline: self.deadline,
            hop: self.hop,
            after: self.after.clone(),
            matched: self.matched,
            owed: self.owed,
            waited: self.waited,
            not_before: self.not_before,
            payload: Some(payload),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Envelope;
    use proptest::prelude::*;

    fn page() -> EventPage {
        let event = Event {
            tenant: "acme".into(),
            id: "order-1".into(),
            event_type: "order.paid".into(),
            payload: Bytes::from_static(b"{ \"a\": 1.0 }"),
            correlation_id: "c".into(),
            trace: Trace::of_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            foreign: Some(Foreign { source: "s".into(), id: "i".into(), event_type: "t".into() }),
            body_hash: "h".into(),
            accepted_at: Millis(1),
            expires_at: Some(Millis(9)),
        };
        let after = Some(format!("ep_{}", "a".repeat(22)));
        EventPage { event, deadline: Millis(9), hop: 3, after, matched: 4, owed: 1, waited: 1, not_before: Millis(2) }
    }

    fn decode(text: String) -> Result<Envelope, Malformed> {
        Envelope::decode(&Bytes::from(text))
    }

    #[test]
    fn a_page_is_the_same_after_a_queue() {
        assert_eq!(decode(page().encode().unwrap()), Ok(Envelope::Event(Box::new(page()))));
        let first = EventPage { after: None, ..page() };
        assert_eq!(decode(first.encode().unwrap()), Ok(Envelope::Event(Box::new(first))));
    }

    #[test]
    fn what_is_not_a_page_is_told_by_its_field() {
        let good: serde_json::Value = serde_json::from_str(&page().encode().unwrap()).unwrap();
        let with = |field: &str, value: &str| {
            let mut changed = good.clone();
            changed[field] = value.into();
            decode(changed.to_string()).unwrap_err()
        };
        for (field, value) in [
            ("tenant", "a/b"),
            ("event_id", "a.b"),
            ("event_type", "a..b"),
            ("after", "x"),
            ("trace", "00-0af7651916cd43dd8448eb211c80319c"),
        ] {
            assert_eq!(with(field, value), Malformed::Field(field));
        }
        assert!(matches!(with("other", "x"), Malformed::Shape { .. }));
        assert!(matches!(with("kind", "notice"), Malformed::Shape { .. }));
    }

    proptest! {
        #[test]
        fn a_damaged_page_never_panics(at in 0usize..600, byte: u8) {
            let mut body = page().encode().unwrap().into_bytes();
            let at = at % body.len();
            body[at] = byte;
            drop(Envelope::decode(&Bytes::from(body)));
        }
    }
}
