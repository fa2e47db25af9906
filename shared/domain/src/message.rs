//! What SQS carries: everything needed to finish one delivery. One versioned
//! JSON schema for all queues; the payload is embedded as it was written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::destination::Destination;
use crate::identity::is_webhook_id;
use crate::ledger::{Birth, Settlement};
use crate::outcome::ErrorClass;
use crate::retry::SQS_DELAY_CAP;
use crate::time::Millis;

/// The schema's version.
pub const VERSION: u8 = 1;
/// How many attempts a history keeps of its beginning, and of its end.
const KEPT: usize = 10;
/// The longest error text kept of one attempt, in characters.
const MAX_ERROR: usize = 200;

/// A delivery under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The webhook id, the same on every attempt.
    pub id: String,
    /// Where to, as the client wrote it.
    pub url: String,
    /// The JSON text to send, byte for byte.
    pub payload: Bytes,
    /// The client's extra headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What kind of event it tells of.
    pub event_type: Option<String>,
    /// What its log lines are found by.
    pub correlation_id: String,
    /// Tells its body from another under the same id; empty if unknown.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is given up.
    pub deadline: Millis,
    /// Failed attempts so far.
    pub attempt: u8,
    /// Grows by one with every successor.
    pub hop: u32,
    /// How often an open breaker refused it.
    pub parked: u32,
    /// Not to be tried earlier.
    pub not_before: Millis,
    /// What happened so far.
    pub history: History,
}

/// What a queue delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A delivery to make.
    Deliver(Box<Message>),
    /// What happened while Redis was away, to be recorded.
    Outcome(Box<Report>),
}

/// What happened to a delivery, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The webhook id.
    pub id: String,
    /// The delivery as it was accepted, in case its record is lost.
    pub birth: Birth,
    /// What happened.
    pub settlement: Settlement,
    /// When it is no longer worth recording.
    pub deadline: Millis,
    /// How often it was queued.
    pub hop: u32,
    /// Not to be tried earlier.
    pub not_before: Millis,
}

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When it began.
    pub at: Millis,
    /// The status code, if an answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The class of its failure; absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What went wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The attempts of a delivery: all of them, or the first and last ten and how
/// many there were, so that a message never outgrows its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How many attempts ended.
    pub count: u32,
    /// Those that are kept, oldest first.
    pub attempts: Vec<Attempt>,
}

impl History {
    /// Adds an attempt.
    pub fn push(&mut self, mut attempt: Attempt) {
        if let Some(error) = &mut attempt.error
            && let Some((end, _)) = error.char_indices().nth(MAX_ERROR)
        {
            error.truncate(end);
        }
        if self.attempts.len() >= 2 * KEPT {
            self.attempts.remove(KEPT);
        }
        self.attempts.push(attempt);
        self.count += 1;
    }
}

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
    pub fn is_from_the_future(&self) -> bool {
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
struct Wire<'a> {
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
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| match serde_json::from_slice(body) {
            // Another version may have other fields.
            Ok(Head { v }) if v != VERSION => Malformed::Version(v),
            _ => shape(&error),
        })?;
        if wire.v != VERSION {
            return Err(Malformed::Version(wire.v));
        }
        if !is_webhook_id(&wire.id) {
            return Err(Malformed::Field("id"));
        }
        match (wire.kind, wire.payload, wire.settlement) {
            (Kind::Deliver, Some(payload), None) => Ok(Self::Deliver(Box::new(Message {
                id: wire.id,
                url: wire.url,
                payload: body.slice_ref(payload.get().as_bytes()),
                headers: wire.headers,
                event_type: wire.event_type,
                correlation_id: wire.correlation_id,
                body_hash: wire.body_hash,
                accepted_at: wire.accepted_at,
                deadline: wire.deadline,
                attempt: wire.attempt,
                hop: wire.hop,
                parked: wire.parked,
                not_before: wire.not_before,
                history: wire.history,
            }))),
            (Kind::Outcome, None, Some(settlement)) => Ok(Self::Outcome(Box::new(Report {
                birth: Birth {
                    url: wire.url,
                    correlation_id: wire.correlation_id,
                    event_type: wire.event_type,
                    body_hash: wire.body_hash,
                    accepted_at: wire.accepted_at,
                    expires_at: wire.expires_at.unwrap_or(wire.deadline),
                    attempts: u32::from(wire.attempt),
                },
                id: wire.id,
                settlement,
                deadline: wire.deadline,
                hop: wire.hop,
                not_before: wire.not_before,
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
    /// The message as SQS carries it.
    ///
    /// # Errors
    /// Never for a message that was decoded or built from a checked webhook:
    /// only when the payload is not JSON text.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let payload: &RawValue = serde_json::from_slice(&self.payload)?;
        serde_json::to_string(&Wire {
            v: VERSION,
            kind: Kind::Deliver,
            id: self.id.clone(),
            url: self.url.clone(),
            event_type: self.event_type.clone(),
            correlation_id: self.correlation_id.clone(),
            body_hash: self.body_hash.clone(),
            accepted_at: self.accepted_at,
            deadline: self.deadline,
            attempt: self.attempt,
            hop: self.hop,
            parked: self.parked,
            not_before: self.not_before,
            history: self.history.clone(),
            headers: self.headers.clone(),
            expires_at: None,
            settlement: None,
            payload: Some(payload),
        })
    }

    /// The delivery as its record begins.
    pub fn birth(&self) -> Birth {
        Birth {
            url: self.url.clone(),
            correlation_id: self.correlation_id.clone(),
            event_type: self.event_type.clone(),
            body_hash: self.body_hash.clone(),
            accepted_at: self.accepted_at,
            expires_at: self.deadline,
            attempts: u32::from(self.attempt),
        }
    }

    /// What SQS is to be fair between; empty when its URL cannot be read.
    pub fn group(&self) -> String {
        self.destination().as_ref().map(Destination::message_group_id).unwrap_or_default()
    }

    /// Where it goes; `None` when its URL cannot be read, which the sender reports.
    pub fn destination(&self) -> Option<Destination> {
        Url::parse(&self.url).ok().map(|url| Destination::of(&url))
    }

    /// The next message of this delivery after a failed attempt, due at `due`.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn retried(&self, attempt: Attempt, due: Millis) -> Self {
        let mut next = self.successor(due);
        next.attempt += 1;
        next.history.push(attempt);
        next
    }

    /// The next message of this delivery after its claim ended without a call.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn successor(&self, due: Millis) -> Self {
        Self { hop: self.hop + 1, not_before: due, ..self.clone() }
    }
}

impl Message {
    /// The next message of this delivery after an open breaker refused it.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn parked(&self, due: Millis) -> Self {
        Self { parked: self.parked.saturating_add(1), ..self.successor(due) }
    }

    /// The next message of this delivery after it was a probe that failed: the
    /// attempt is told, and not spent.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn probed(&self, attempt: Attempt, due: Millis) -> Self {
        let mut next = self.parked(due);
        next.history.push(attempt);
        next
    }
}

impl Report {
    /// The next message of this report, due after a wait that grows with every
    /// one: 5 s, doubled up to 15 minutes.
    #[must_use = "a report that is not sent leaves its status untrue"]
    pub fn delayed(&self, now: Millis) -> Self {
        let wait = Duration::from_secs(5 << self.hop.min(8)).min(SQS_DELAY_CAP);
        Self { hop: self.hop.saturating_add(1), not_before: now.after(wait), ..self.clone() }
    }
    /// The report as SQS carries it.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let birth = &self.birth;
        serde_json::to_string(&Wire {
            v: VERSION,
            kind: Kind::Outcome,
            id: self.id.clone(),
            url: birth.url.clone(),
            event_type: birth.event_type.clone(),
            correlation_id: birth.correlation_id.clone(),
            body_hash: birth.body_hash.clone(),
            accepted_at: birth.accepted_at,
            deadline: self.deadline,
            attempt: u8::try_from(birth.attempts).unwrap_or(u8::MAX),
            hop: self.hop,
            parked: 0,
            not_before: self.not_before,
            history: History::default(),
            headers: BTreeMap::new(),
            expires_at: Some(birth.expires_at),
            settlement: Some(self.settlement.clone()),
            payload: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ending;
    use proptest::prelude::*;

    fn message(payload: &'static str) -> Message {
        Message {
            id: "order-1".into(),
            url: "https://a.example/x".into(),
            payload: Bytes::from_static(payload.as_bytes()),
            headers: BTreeMap::from([("x-a".into(), "1".into())]),
            event_type: Some("order.paid".into()),
            correlation_id: "c-1".into(),
            body_hash: "h".into(),
            accepted_at: Millis(1),
            deadline: Millis(2),
            attempt: 1,
            hop: 2,
            parked: 3,
            not_before: Millis(4),
            history: History::default(),
        }
    }

    fn attempt(at: u64) -> Attempt {
        Attempt { at: Millis(at), code: Some(500), class: Some(ErrorClass::ServerError), ms: 7, error: None }
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
        assert!(body.as_ptr_range().contains(&message.payload.as_ptr()));
    }

    #[test]
    fn a_report_survives_the_queue() {
        let before = Report {
            id: "order-1".into(),
            birth: message("1").birth(),
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
        assert_eq!(Envelope::decode(&body), Ok(Envelope::Outcome(Box::new(before))));
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
        assert!(Malformed::Version(2).is_from_the_future() && !Malformed::Version(0).is_from_the_future());
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

    #[test]
    fn a_history_keeps_its_ends_and_its_count() {
        let mut history = History::default();
        (0..50).for_each(|at| history.push(attempt(at)));
        let kept: Vec<_> = history.attempts.iter().map(|a| a.at.0).collect();
        assert_eq!(history.count, 50);
        assert_eq!(kept, (0..10).chain(40..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let mut history = History::default();
        history.push(Attempt { error: Some("é".repeat(500)), ..attempt(0) });
        assert_eq!(history.attempts[0].error.as_ref().unwrap().chars().count(), MAX_ERROR);
    }

    #[test]
    fn successors_grow_by_one_hop_and_only_failures_cost_an_attempt() {
        let before = message("1");
        let retried = before.retried(attempt(5), Millis(100));
        assert_eq!((retried.hop, retried.attempt, retried.not_before), (3, 2, Millis(100)));
        assert_eq!(retried.history.count, 1);
        let waited = before.successor(Millis(200));
        assert_eq!((waited.hop, waited.attempt, waited.history.count), (3, 1, 0));
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
