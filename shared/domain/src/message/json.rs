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

use super::{Envelope, History, LateOutcome, LateOutcomes, LateReport, Message};
use crate::delivery::{Delivery, EndpointTarget};
use crate::event::EventPage;
use crate::history::Row;
use crate::identity::{delivery_id, is_record_id, is_webhook_id};
use crate::job::JobPage;
use crate::names::{is_endpoint_id, is_event_id, is_tenant_or_operator};
use crate::record::{NewRecord, Settlement};
use crate::time::Millis;
use crate::trace::Trace;

/// The version of deliveries to one URL.
const VERSION: u8 = 1;
/// The version of what 0.1 does not read: its consumers leave it in the queue. So are
/// deliveries to endpoints, which would end at the wrong place there.
pub(super) const VERSION_2: u8 = 2;

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
        matches!(self, Self::Version(version) if *version > VERSION_2)
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

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindV2 {
    Deliver,
    Event,
    Job,
    Outcomes,
}

#[derive(Deserialize)]
struct HeadV2 {
    kind: KindV2,
}

/// How a delivery to an endpoint begins when it is written here.
const DELIVER_V2: &[u8] = br#"{"v":2,"kind":"deliver","#;

/// A delivery to an endpoint. It has no URL and no secret: the endpoint's card has them.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DeliverV2<'a> {
    v: u8,
    kind: KindV2,
    tenant: String,
    endpoint: String,
    event_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<String>,
    origin: String,
    #[serde(default, skip_serializing_if = "is_false")]
    test: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    correlation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
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
    #[serde(default, skip_serializing_if = "is_zero")]
    earlier: u32,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LateOutcomesV2 {
    v: u8,
    kind: KindV2,
    deadline: Millis,
    hop: u32,
    not_before: Millis,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outcomes: Vec<OutcomeV2>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reports: Vec<LateReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Row>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OutcomeV2 {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    correlation_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body_hash: String,
    accepted_at: Millis,
    expires_at: Millis,
    attempts: u32,
    settlement: Settlement,
}

impl From<OutcomeV2> for LateOutcome {
    fn from(fields: OutcomeV2) -> Self {
        let OutcomeV2 { id, tenant, url, event_type, correlation_id, body_hash, accepted_at, .. } = fields;
        let OutcomeV2 { expires_at, attempts, settlement, .. } = fields;
        let new_record =
            NewRecord { tenant, url, correlation_id, event_type, body_hash, accepted_at, expires_at, attempts };
        Self { id, new_record, settlement }
    }
}

impl From<&LateOutcome> for OutcomeV2 {
    fn from(outcome: &LateOutcome) -> Self {
        let LateOutcome { id, new_record, settlement } = outcome.clone();
        let NewRecord { tenant, url, correlation_id, event_type, body_hash, accepted_at, expires_at, attempts } =
            new_record;
        Self { id, tenant, url, event_type, correlation_id, body_hash, accepted_at, expires_at, attempts, settlement }
    }
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
        // Most messages begin as ours do. A look at the beginning spares three readings that only find out what it is.
        if body.starts_with(DELIVER_V2)
            && let Ok(message) = Message::decode_v2(body)
        {
            return Ok(Self::Deliver(Box::new(message)));
        }
        let fields = match read::<MessageV1<'_>>(body) {
            Ok(fields) if fields.v == VERSION => fields,
            Ok(fields) => return Self::decode_other(fields.v, body),
            // Another version may have other fields.
            Err(error) => match read(body) {
                Ok(Head { v }) if v != VERSION => return Self::decode_other(v, body),
                _ => return Err(shape(&error)),
            },
        };
        if !is_webhook_id(&fields.id) {
            return Err(Malformed::Field("id"));
        }
        match (fields.kind, fields.payload, fields.settlement) {
            (Kind::Deliver, Some(payload), None) => Ok(Self::Deliver(Box::new(Message {
                delivery: Delivery {
                    id: fields.id,
                    endpoint: None,
                    url: fields.url,
                    payload: body.slice_ref(payload.get().as_bytes()),
                    headers: fields.headers,
                    event_type: fields.event_type,
                    correlation_id: fields.correlation_id,
                    trace: None,
                    body_hash: fields.body_hash,
                    accepted_at: fields.accepted_at,
                    deadline: fields.deadline,
                },
                attempts: fields.attempt,
                hop: fields.hop,
                parked: fields.parked,
                not_before: fields.not_before,
                history: fields.history,
                earlier: 0,
            }))),
            // Written by 0.1.
            (Kind::Outcome, None, Some(settlement)) => {
                let new_record = NewRecord {
                    tenant: None,
                    url: fields.url,
                    correlation_id: fields.correlation_id,
                    event_type: fields.event_type,
                    body_hash: fields.body_hash,
                    accepted_at: fields.accepted_at,
                    expires_at: fields.expires_at.unwrap_or(fields.deadline),
                    attempts: u32::from(fields.attempt),
                };
                Ok(Self::LateOutcomes(Box::new(LateOutcomes {
                    outcomes: vec![LateOutcome { id: fields.id, new_record, settlement }],
                    reports: Vec::new(),
                    rows: Vec::new(),
                    deadline: fields.deadline,
                    hop: fields.hop,
                    not_before: fields.not_before,
                })))
            }
            (Kind::Deliver, None, _) => Err(Malformed::Field("payload")),
            (Kind::Outcome, _, None) => Err(Malformed::Field("settlement")),
            (Kind::Deliver, _, Some(_)) => Err(Malformed::Field("settlement")),
            (Kind::Outcome, Some(_), _) => Err(Malformed::Field("payload")),
        }
    }
}

impl Envelope {
    fn decode_other(version: u8, body: &Bytes) -> Result<Self, Malformed> {
        if version != VERSION_2 {
            return Err(Malformed::Version(version));
        }
        let head: HeadV2 = read(body).map_err(|error| shape(&error))?;
        match head.kind {
            KindV2::Deliver => Message::decode_v2(body).map(|message| Self::Deliver(Box::new(message))),
            KindV2::Event => EventPage::decode(body).map(|page| Self::Event(Box::new(page))),
            KindV2::Job => JobPage::decode(body).map(|page| Self::Job(Box::new(page))),
            KindV2::Outcomes => LateOutcomes::decode(body).map(|late| Self::LateOutcomes(Box::new(late))),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Reads the text of a message. That it is UTF-8 is found out once, and not for each string in it.
pub(super) fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

pub(crate) fn shape(error: &serde_json::Error) -> Malformed {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "unexpected fields",
        serde_json::error::Category::Eof => "cut short",
    };
    Malformed::Shape { kind, line: error.line(), column: error.column() }
}

impl Message {
    fn decode_v2(body: &Bytes) -> Result<Self, Malformed> {
        let fields: DeliverV2<'_> = read(body).map_err(|error| shape(&error))?;
        for (name, is_right) in [
            ("tenant", is_tenant_or_operator(&fields.tenant)),
            ("endpoint", is_endpoint_id(&fields.endpoint)),
            ("event_id", is_event_id(&fields.event_id)),
            ("life", fields.life.as_deref().is_none_or(is_event_id)),
            ("trace", fields.trace.as_ref().is_none_or(Trace::is_sound)),
        ] {
            if !is_right {
                return Err(Malformed::Field(name));
            }
        }
        let payload = fields.payload.ok_or(Malformed::Field("payload"))?;
        Ok(Self {
            delivery: Delivery {
                id: delivery_id(&fields.event_id, &fields.endpoint, fields.life.as_deref()),
                endpoint: Some(EndpointTarget {
                    tenant: fields.tenant,
                    endpoint: fields.endpoint,
                    event_id: fields.event_id,
                    life: fields.life,
                    origin: fields.origin,
                    is_test: fields.test,
                }),
                url: String::new(),
                payload: body.slice_ref(payload.get().as_bytes()),
                headers: BTreeMap::new(),
                event_type: fields.event_type,
                correlation_id: fields.correlation_id,
                trace: fields.trace,
                body_hash: fields.body_hash,
                accepted_at: fields.accepted_at,
                deadline: fields.deadline,
            },
            attempts: fields.attempt,
            hop: fields.hop,
            parked: fields.parked,
            not_before: fields.not_before,
            history: fields.history,
            earlier: fields.earlier,
        })
    }

    /// The message as a queue carries it.
    ///
    /// # Errors
    /// Never for a message that was decoded or built from a checked webhook:
    /// only when the payload is not JSON text.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let delivery = &self.delivery;
        let payload: &RawValue = serde_json::from_slice(&delivery.payload)?;
        if let Some(target) = &delivery.endpoint {
            return self.encode_v2(target, payload);
        }
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

    fn encode_v2(&self, target: &EndpointTarget, payload: &RawValue) -> Result<String, serde_json::Error> {
        let delivery = &self.delivery;
        serde_json::to_string(&DeliverV2 {
            v: VERSION_2,
            kind: KindV2::Deliver,
            tenant: target.tenant.clone(),
            endpoint: target.endpoint.clone(),
            event_id: target.event_id.clone(),
            life: target.life.clone(),
            origin: target.origin.clone(),
            test: target.is_test,
            event_type: delivery.event_type.clone(),
            correlation_id: delivery.correlation_id.clone(),
            trace: delivery.trace.clone(),
            body_hash: delivery.body_hash.clone(),
            accepted_at: delivery.accepted_at,
            deadline: delivery.deadline,
            attempt: self.attempts,
            hop: self.hop,
            parked: self.parked,
            not_before: self.not_before,
            history: self.history.clone(),
            earlier: self.earlier,
            payload: Some(payload),
        })
    }
}

impl LateOutcomes {
    fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let fields: LateOutcomesV2 = read(body).map_err(|error| shape(&error))?;
        if !fields.outcomes.iter().all(|outcome| is_record_id(&outcome.id)) {
            return Err(Malformed::Field("id"));
        }
        Ok(Self {
            outcomes: fields.outcomes.into_iter().map(LateOutcome::from).collect(),
            reports: fields.reports,
            rows: fields.rows,
            deadline: fields.deadline,
            hop: fields.hop,
            not_before: fields.not_before,
        })
    }

    /// The outcomes as a queue carries them.
    ///
    /// # Errors
    /// Never: all their parts are serializable.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&LateOutcomesV2 {
            v: VERSION_2,
            kind: KindV2::Outcomes,
            deadline: self.deadline,
            hop: self.hop,
            not_before: self.not_before,
            outcomes: self.outcomes.iter().map(OutcomeV2::from).collect(),
            reports: self.reports.clone(),
            rows: self.rows.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::EventPlace;
    use crate::message::ReportedCalls;
    use crate::outcome::HealthSignal;
    use crate::record::Ending;
    use proptest::prelude::*;

    fn message(payload: &'static str) -> Message {
        Message {
            delivery: Delivery {
                id: "order-1".into(),
                endpoint: None,
                url: "https://a.example/x".into(),
                payload: Bytes::from_static(payload.as_bytes()),
                headers: BTreeMap::from([("x-a".into(), "1".into())]),
                event_type: Some("order.paid".into()),
                correlation_id: "c-1".into(),
                trace: None,
                body_hash: "h".into(),
                accepted_at: Millis(1),
                deadline: Millis(2),
            },
            attempts: 1,
            hop: 2,
            parked: 3,
            not_before: Millis(4),
            history: History::default(),
            earlier: 0,
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

    fn to_endpoint(life: Option<&str>, is_test: bool) -> Message {
        let target = EndpointTarget {
            tenant: "acme".into(),
            endpoint: format!("ep_{}", "a1".repeat(11)),
            event_id: "order-1".into(),
            life: life.map(str::to_owned),
            origin: "https://a.example".into(),
            is_test,
        };
        let mut message = message("[1]");
        message.delivery.id = delivery_id(&target.event_id, &target.endpoint, life);
        (message.delivery.url, message.delivery.headers) = (String::new(), BTreeMap::new());
        message.delivery.endpoint = Some(target);
        message.earlier = u32::from(is_test) * 3;
        message
    }

    #[test]
    fn a_delivery_to_an_endpoint_survives_the_queue_as_version_2() {
        for (life, is_test) in [(None, false), (Some("r1"), false), (None, true)] {
            let before = to_endpoint(life, is_test);
            let text = before.encode().unwrap();
            assert!(text.as_bytes().starts_with(DELIVER_V2) && !text.contains("url"));
            assert_eq!(Envelope::decode(&Bytes::from(text)), Ok(Envelope::Deliver(Box::new(before))));
        }
    }

    #[test]
    fn a_delivery_to_an_endpoint_names_it_in_the_right_form() {
        let good: serde_json::Value = serde_json::from_str(&to_endpoint(None, false).encode().unwrap()).unwrap();
        for (name, value) in [("tenant", "a/b"), ("endpoint", "ep_1"), ("event_id", "a.b"), ("life", "")] {
            let mut changed = good.clone();
            changed[name] = value.into();
            assert_eq!(Envelope::decode(&Bytes::from(changed.to_string())), Err(Malformed::Field(name)));
        }
        let mut unpaid = good.clone();
        unpaid.as_object_mut().unwrap().remove("payload");
        assert_eq!(Envelope::decode(&Bytes::from(unpaid.to_string())), Err(Malformed::Field("payload")));
    }

    #[test]
    fn the_payload_is_a_slice_of_the_body() {
        let body = Bytes::from(message("[1,2]").encode().unwrap());
        let Ok(Envelope::Deliver(message)) = Envelope::decode(&body) else { panic!("not a delivery") };
        assert!(body.as_ptr_range().contains(&message.delivery.payload.as_ptr()));
    }

    fn late_outcome() -> LateOutcome {
        let ending = Ending::Delivered { attempts: 1, code: 200, duration_ms: 12 };
        LateOutcome {
            id: "order-1".into(),
            new_record: message("1").new_record(),
            settlement: Settlement { token: "t".into(), hop: 1, ending, log: None },
        }
    }

    #[test]
    fn a_report_survives_the_queue() {
        let report = |calls| LateReport { breaker: "https://a.example".into(), token: "r".into(), epoch: 7, calls };
        let before = LateOutcomes {
            outcomes: vec![late_outcome(), late_outcome()],
            reports: vec![
                report(ReportedCalls::Regular(vec![HealthSignal::Unhealthy, HealthSignal::Throttled])),
                report(ReportedCalls::Probe(HealthSignal::Healthy)),
            ],
            rows: vec![Row {
                partition: "D#a".into(),
                place: "1".into(),
                body: "{\"a\":1}".into(),
                kept_until: Millis(7),
                by_event: Some(EventPlace { event: "I#t#e".into(), place: "x".into() }),
            }],
            deadline: Millis(99),
            hop: 5,
            not_before: Millis(9),
        };
        let body = Bytes::from(before.encode().unwrap());
        assert_eq!(Envelope::decode(&body), Ok(Envelope::LateOutcomes(Box::new(before))));
    }

    #[test]
    fn an_outcome_that_0_1_wrote_is_read() {
        let body = r#"{"v":1,"kind":"outcome","id":"order-1","url":"https://a.example/x","event_type":"order.paid",
            "correlation_id":"c-1","body_hash":"h","accepted_at":1,"deadline":99,"attempt":1,"hop":5,"parked":0,
            "not_before":9,"history":{"count":0,"attempts":[]},"expires_at":2,"settlement":{"token":"t","hop":1,
            "ending":{"delivered":{"attempts":1,"code":200,"duration_ms":12}}}}"#;
        let wanted = LateOutcomes {
            outcomes: vec![late_outcome()],
            reports: Vec::new(),
            rows: Vec::new(),
            deadline: Millis(99),
            hop: 5,
            not_before: Millis(9),
        };
        assert_eq!(Envelope::decode(&Bytes::from(body)), Ok(Envelope::LateOutcomes(Box::new(wanted))));
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
        assert_eq!(with("v", 3.into()), Malformed::Version(3));
        assert!(matches!(with("v", 2.into()), Malformed::Shape { .. }));
        assert_eq!(Envelope::decode(&Bytes::from_static(b"{\"v\":3,\"new\":1}")), Err(Malformed::Version(3)));
        assert!(Malformed::Version(3).is_newer_version() && !Malformed::Version(0).is_newer_version());
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
