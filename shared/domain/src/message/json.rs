//! A message as JSON: one versioned schema for all queues. The payload stands in it
//! as the client wrote it, since it is signed.
//!
//! This is one struct with optional fields and not a tagged enum: serde copies the
//! content of a tagged enum before it knows the variant, and the payload must stay a
//! slice of the body.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Envelope, History, LateOutcome, Message};
use crate::delivery::Delivery;
use crate::identity::is_webhook_id;
use crate::record::{NewRecord, Settlement};
use crate::time::Millis;

/// The schema's version.
pub const VERSION: u8 = 1;

/// Why a queue's message cannot be read. It never shows the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or fields are missing, unknown or of the wrong type.
    #[error("not a message of this schema ({kind}, line {line}, column {column})")]
    Shape {
        /// What the parser stumbled over.
        kind: &'static str,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// Written by another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// A field's value cannot be.
    #[error("the field `{0}` has an impossible value")]
    Field(&'static str),
}

impl Malformed {
    /// Whether a newer consumer can read it, so that it should be left for one.
    pub fn is_newer_version(&self) -> bool {
        matches!(self, Self::Version(version) if *version > VERSION)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Deliver,
    Outcome,
}

#[derive(Deserialize)]
struct Head {
    v: u8,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MessageV1<'a> {
    v: u8,
    kind: Kind,
    id: String,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    correlation_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body_hash: String,
    accepted_at: Millis,
    deadline: Millis,
    attempt: u8,
    hop: u32,
    #[serde(default)]
    parked: u32,
    #[serde(default)]
    not_before: Millis,
    #[serde(default)]
    history: History,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settlement: Option<Settlement>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

/// A payload of `null` is a payload: only a missing field is `None`.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Envelope {
    /// Reads what a queue delivered. The payload is a slice of `body`, not a copy.
    ///
    /// # Errors
    /// [`Malformed`] when it is not a message of this schema and version.
    pub fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let fields: MessageV1<'_> =
            serde_json::from_slice(body).map_err(|error| match serde_json::from_slice(body) {
                // Another version may have other fields.
                Ok(Head { v }) if v != VERSION => Malformed::Version(v),
                _ => shape(&error),
            })?;
        if fields.v != VERSION {
            return Err(Malformed::Version(fields.v));
        }
        if !is_webhook_id(&fields.id) {
            return Err(Malformed::Field("id"));
        }
        match (fields.kind, fields.payload, fields.settlement) {
            (Kind::Deliver, Some(payload), None) => Ok(Self::Deliver(Box::new(Message {
                delivery: Delivery {
                    id: fields.id,
                    url: fields.url,
                    payload: body.slice_ref(payload.get().as_bytes()),
                    headers: fields.headers,
                    event_type: fields.event_type,
                    correlation_id: fields.correlation_id,
                    body_hash: fields.body_hash,
                    accepted_at: fields.accepted_at,
                    deadline: fields.deadline,
                },
                attempts: fields.attempt,
                hop: fields.hop,
                parked: fields.parked,
                not_before: fields.not_before,
                history: fields.history,
            }))),
            (Kind::Outcome, None, Some(settlement)) => Ok(Self::LateOutcome(Box::new(LateOutcome {
                new_record: NewRecord {
                    url: fields.url,
                    correlation_id: fields.correlation_id,
                    event_type: fields.event_type,
                    body_hash: fields.body_hash,
                    accepted_at: fields.accepted_at,
                    expires_at: fields.expires_at.unwrap_or(fields.deadline),
                    attempts: u32::from(fields.attempt),
                },
                id: fields.id,
                settlement,
                deadline: fields.deadline,
                hop: fields.hop,
                not_before: fields.not_before,
            }))),
            (Kind::Deliver, None, _) => Err(Malformed::Field("payload")),
            (Kind::Outcome, _, None) => Err(Malformed::Field("settlement")),
            (Kind::Deliver, _, Some(_)) => Err(Malformed::Field("settlement")),
            (Kind::Outcome, Some(_), _) => Err(Malformed::Field("payload")),
        }
    }
}

fn shape(error: &serde_json::Error) -> Malformed {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "unexpected fields",
        serde_json::error::Category::Eof => "cut short",
    };
    Malformed::Shape { kind, line: error.line(), column: error.column() }
}

impl Message {
    /// The message as a queue carries it.
    ///
    /// # Errors
    /// Never for a message that was decoded or built from a checked webhook:
    /// only when the payload is not JSON text.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let delivery = &self.delivery;
        let payload: &RawValue = serde_json::from_slice(&delivery.payload)?;
        serde_json::to_string(&MessageV1 {
            v: VERSION,
            kind: Kind::Deliver,
            id: delivery.id.clone(),
            url: delivery.url.clone(),
            event_type: delivery.event_type.clone(),
            correlation_id: delivery.correlation_id.clone(),
            body_hash: delivery.body_hash.clone(),
            accepted_at: delivery.accepted_at,
            deadline: delivery.deadline,
            attempt: self.attempts,
            hop: self.hop,
            parked: self.parked,
            not_before: self.not_before,
            history: self.history.clone(),
            headers: delivery.headers.clone(),
            expires_at: None,
            settlement: None,
            payload: Some(payload),
        })
    }
}

impl LateOutcome {
    /// The outcome as a queue carries it.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let new_record = &self.new_record;
        serde_json::to_string(&MessageV1 {
            v: VERSION,
            kind: Kind::Outcome,
            id: self.id.clone(),
            url: new_record.url.clone(),
            event_type: new_record.event_type.clone(),
            correlation_id: new_record.correlation_id.clone(),
            body_hash: new_record.body_hash.clone(),
            accepted_at: new_record.accepted_at,
            deadline: self.deadline,
            attempt: u8::try_from(new_record.attempts).unwrap_or(u8::MAX),
            hop: self.hop,
            parked: 0,
            not_before: self.not_before,
            history: History::default(),
            headers: BTreeMap::new(),
            expires_at: Some(new_record.expires_at),
            settlement: Some(self.settlement.clone()),
            payload: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ending;
    use proptest::prelude::*;

    fn message(payload: &'static str) -> Message {
        Message {
            delivery: Delivery {
                id: "order-1".into(),
                url: "https://a.example/x".into(),
                payload: Bytes::from_static(payload.as_bytes()),
                headers: BTreeMap::from([("x-a".into(), "1".into())]),
                event_type: Some("order.paid".into()),
                correlation_id: "c-1".into(),
                body_hash: "h".into(),
                accepted_at: Millis(1),
                deadline: Millis(2),
            },
            attempts: 1,
            hop: 2,
            parked: 3,
            not_before: Millis(4),
            history: History::default(),
        }
    }

    #[test]
    fn a_message_survives_the_queue_byte_for_byte() {
        for payload in ["null", "{ \"b\":1.0,  \"a\" : 12345678901234567890123 ,\"é\":\"\\ud800\"}", "[ ]"] {
            let before = message(payload);
            let body = Bytes::from(before.encode().unwrap());
            assert_eq!(Envelope::decode(&body), Ok(Envelope::Deliver(Box::new(before))));
        }
    }

    #[test]
    fn the_payload_is_a_slice_of_the_body() {
        let body = Bytes::from(message("[1,2]").encode().unwrap());
        let Ok(Envelope::Deliver(message)) = Envelope::decode(&body) else { panic!("not a delivery") };
        assert!(body.as_ptr_range().contains(&message.delivery.payload.as_ptr()));
    }

    #[test]
    fn a_report_survives_the_queue() {
        let before = LateOutcome {
            id: "order-1".into(),
            new_record: message("1").new_record(),
            settlement: Settlement {
                token: "t".into(),
                hop: 1,
                ending: Ending::Delivered { attempts: 1, code: 200, duration_ms: 12 },
            },
            deadline: Millis(99),
            hop: 5,
            not_before: Millis(9),
        };
        let body = Bytes::from(before.encode().unwrap());
        assert_eq!(Envelope::decode(&body), Ok(Envelope::LateOutcome(Box::new(before))));
    }

    #[test]
    fn what_is_not_a_message_is_told_without_showing_it() {
        let good: serde_json::Value = serde_json::from_str(&message("1").encode().unwrap()).unwrap();
        let with = |field: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            changed[field] = value;
            Envelope::decode(&Bytes::from(changed.to_string())).unwrap_err()
        };
        let without = |field: &str| {
            let mut changed = good.clone();
            changed.as_object_mut().unwrap().remove(field);
            Envelope::decode(&Bytes::from(changed.to_string())).unwrap_err()
        };
        assert_eq!(with("v", 2.into()), Malformed::Version(2));
        assert_eq!(Envelope::decode(&Bytes::from_static(b"{\"v\":3,\"new\":1}")), Err(Malformed::Version(3)));
        assert!(Malformed::Version(2).is_newer_version() && !Malformed::Version(0).is_newer_version());
        assert_eq!(with("id", "a.b".into()), Malformed::Field("id"));
        assert_eq!(without("payload"), Malformed::Field("payload"));
        for error in [with("attempt", "secret".into()), with("extra", 1.into()), without("url"), without("v")] {
            assert!(matches!(error, Malformed::Shape { .. }));
            assert!(!error.to_string().contains("secret"));
        }
        for body in ["", "{", "null", "\u{0}"] {
            assert!(Envelope::decode(&Bytes::from_static(body.as_bytes())).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Envelope::decode(&Bytes::from(bytes)).is_err());
        }

        #[test]
        fn a_damaged_message_never_panics(at in 0usize..300, byte: u8) {
            let mut body = message("{\"a\":1}").encode().unwrap().into_bytes();
            let at = at % body.len();
            body[at] = byte;
            drop(Envelope::decode(&Bytes::from(body)));
        }
    }
}
