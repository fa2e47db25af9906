//! Events that outsiders put into a queue: in our own schema, as CloudEvents 1.0, or in the
//! envelope of Amazon EventBridge.

mod cloud_events;
mod event_bridge;
mod foreign;
mod format;
mod refusal;
#[cfg(test)]
mod samples;
mod sent;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use self::format::Candidate;
pub use self::refusal::NotAnEvent;
use self::sent::Sent;
use crate::event::Foreign;
use crate::fault::{Fault, Faults};
use crate::identity::body_hash;
use crate::names::is_tenant;
use crate::object::ObjectReader;
use crate::time::Millis;
use crate::trace::Trace;

/// What a message is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestRules {
    /// The tenant of every event whose message names none.
    pub tenant: String,
    /// Whether a message may name the tenant. Then every producer can speak for every tenant.
    pub trusts_tenant: bool,
    /// The longest payload, in bytes.
    pub max_payload_bytes: usize,
}

/// An event as another system sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// The tenant that is told.
    pub tenant: String,
    /// Its id; only our own schema may leave it out.
    pub event_id: Option<String>,
    /// What kind of event it is.
    pub event_type: String,
    /// The JSON text to send: a slice of the message, unless it was base64 or there is none.
    pub payload: Bytes,
    /// When it is no longer worth delivering.
    pub expires_at: Option<Millis>,
    /// The producer's trace.
    pub trace: Option<Trace>,
    /// What another system called it; `None` in our own schema.
    pub foreign: Option<Foreign>,
    /// Tells its body from another under the same id. Two sources that use one id have two
    /// bodies, and an event in our own schema has the body of the same request over HTTP.
    pub body_hash: String,
}

/// Reads a message.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(body: &Bytes, rules: &IngestRules, now: Millis) -> Result<Ingested, NotAnEvent> {
    let (tenant, sent) = message(body, rules, now)?;
    let source = sent.foreign.as_ref().map_or("", |foreign| &foreign.source);
    let body_hash = body_hash(source, sent.payload.as_str(), &BTreeMap::new(), Some(&sent.event_type), sent.expires_at);
    Ok(Ingested {
        tenant,
        event_id: sent.event_id,
        event_type: sent.event_type,
        payload: sent.payload.bytes(body),
        expires_at: sent.expires_at,
        trace: sent.trace,
        foreign: sent.foreign,
        body_hash,
    })
}

/// The event of a message, and whose it is.
fn message<'a>(body: &'a [u8], rules: &IngestRules, now: Millis) -> Result<(String, Sent<'a>), Faults> {
    let raw: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let candidate = Candidate::open("", raw)?;
    if !candidate.names_tenant() {
        return Ok((rules.tenant.clone(), candidate.read(rules.max_payload_bytes, now)?));
    }
    if !rules.trusts_tenant {
        let why = "producers may not name a tenant, unless the parameter `IngestTrustsTenant` is true";
        return Err(Fault::at("/tenant", why).into());
    }
    let mut reader = ObjectReader::open("", raw, &["tenant", "event"], "a message")?;
    reader.required("tenant");
    let wants = "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen, and begin with a letter or digit";
    let tenant = reader.text_if("tenant", is_tenant, wants);
    let event = reader.required("event").and_then(|raw| {
        let candidate = Candidate::open("/event", raw).map_err(Faults::from);
        let event = candidate.and_then(|candidate| candidate.read(rules.max_payload_bytes, now));
        event.map_err(|faults| reader.faults(faults)).ok()
    });
    match (tenant, event) {
        (Some(tenant), Some(event)) if reader.is_sound() => Ok((tenant, event)),
        _ => Err(reader.finish()),
    }
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault::at("", format!("the body is not JSON (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::samples::{CLOUD_EVENT, EVENT_BRIDGE, FORMATS, OWN, with};
    use super::*;
    use crate::event::{Event, EventPage};
    use crate::fault::refused_by_sqs;
    use crate::message::Envelope;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn rules(trusts_tenant: bool) -> IngestRules {
        IngestRules { tenant: "acme".into(), trusts_tenant, max_payload_bytes: 1_000 }
    }

    fn taken(text: &str) -> Result<Ingested, NotAnEvent> {
        super::read(&Bytes::copy_from_slice(text.as_bytes()), &rules(true), NOW)
    }

    fn refused(text: &str) -> Vec<String> {
        let refusal = taken(text).expect_err(text);
        refusal.faults().told().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in ["", "{", "\u{1}", "{\"event_type\":}", "1 2"] {
            assert_eq!(refused(body), [""]);
            assert!(taken(body).unwrap_err().to_string().contains("not JSON"));
        }
        assert!(super::read(&Bytes::from_static(b"{\"event_type\":\"\xff\"}"), &rules(true), NOW).is_err());
    }

    #[test]
    fn the_payload_of_every_format_is_a_slice_of_the_body() {
        for text in FORMATS {
            for text in [text.to_owned(), format!(r#"{{"event":{text} , "tenant":"other"}}"#)] {
                let body = Bytes::from(text);
                let event = super::read(&body, &rules(true), NOW).unwrap();
                assert_eq!(event.payload, r#"{ "b":1.0,  "a":[ ] }"#);
                assert!(body.as_ptr_range().contains(&event.payload.as_ptr()));
            }
        }
    }

    #[test]
    fn our_own_schema_is_that_of_the_http_request() {
        let event = taken(&with(OWN, "expires_at", Some(r#""2023-11-15T00:00:00Z""#))).unwrap();
        assert_eq!((event.tenant.as_str(), event.event_id.as_deref()), ("acme", Some("o-1")));
        assert_eq!((event.event_type.as_str(), event.trace, event.foreign), ("order.paid", None, None));
        let payload = std::str::from_utf8(&event.payload).unwrap();
        let hash = body_hash("", payload, &BTreeMap::new(), Some("order.paid"), event.expires_at);
        assert!(event.expires_at.is_some());
        assert_eq!(event.body_hash, hash);
        assert_eq!(taken(&with(OWN, "event_id", None)).unwrap().event_id, None);
    }

    #[test]
    fn an_event_of_another_system_says_what_it_was_called_there() {
        let event = taken(CLOUD_EVENT).unwrap();
        let foreign = |source: &str, id: &str, event_type: &str| Foreign {
            source: source.into(),
            id: id.into(),
            event_type: event_type.into(),
        };
        assert_eq!(event.foreign, Some(foreign("/shop", "A/1", "com.example/order paid")));
        assert_eq!(event.event_type, "com.example_order_paid");
        assert!(event.event_id.unwrap().starts_with("h_"));
        assert!(event.trace.is_some());

        let event = taken(EVENT_BRIDGE).unwrap();
        let id = "6a7e8feb-b491-4cf7-a9f1-bf3703467718";
        assert_eq!(event.foreign, Some(foreign("shop.orders", id, "Order Placed")));
        assert_eq!((event.event_type.as_str(), event.event_id.as_deref()), ("Order_Placed", Some(id)));
    }

    #[test]
    fn two_sources_with_one_id_have_two_bodies() {
        for text in [CLOUD_EVENT, EVENT_BRIDGE] {
            let of = |source: &str| taken(&with(&with(text, "source", Some(source)), "id", Some("\"1\""))).unwrap();
            let events = [of("\"a\""), of("\"b\"")];
            assert_eq!(events[0].event_id, events[1].event_id);
            assert_ne!(events[0].body_hash, events[1].body_hash);
            assert_eq!(events[0].body_hash, of("\"a\"").body_hash);
        }
    }

    #[test]
    fn a_trusted_producer_may_name_the_tenant_and_nobody_else() {
        for text in FORMATS {
            let named = format!(r#"{{"tenant":"other","event":{text}}}"#);
            assert_eq!(taken(&named).unwrap().tenant, "other");
            assert_eq!(taken(text).unwrap().tenant, "acme");
            let refusal = super::read(&Bytes::from(named), &rules(false), NOW).unwrap_err();
            assert_eq!(refusal.faults().told()[0].pointer, "/tenant");
            assert!(refusal.to_string().contains("IngestTrustsTenant"));
            assert_eq!(super::read(&Bytes::from(text), &rules(false), NOW).unwrap().tenant, "acme");

            for tenant in [r#""_operator""#, r#""""#, r#""a/b""#, "null", "1"] {
                assert_eq!(refused(&format!(r#"{{"tenant":{tenant},"event":{text}}}"#)), ["/tenant"]);
            }
            let twice = format!(r#"{{"tenant":"a","event":{{"tenant":"b","event":{text}}}}}"#);
            assert_eq!(refused(&twice), ["/event"]);
        }
        assert_eq!(refused(r#"{"tenant":"_operator","event":[],"x":1}"#), ["/x", "/tenant", "/event"]);
        assert_eq!(refused(r#"{"tenant":"a"}"#), ["/event"]);
        assert_eq!(refused(r#"{"event":{"event_type":"a"}}"#), ["/tenant", "/event/payload"]);
        assert_eq!(refused(r#"{"tenant":"a","tenant":"b","event":{"event_type":"a","payload":1}}"#), ["/tenant"]);
    }

    #[test]
    fn a_refusal_repeats_no_value() {
        let text = r#"{"event_type":"secret value","payload":"secret","event_id":"secret.","expires_at":"secret","x":"secret"}"#;
        for text in [text.to_owned(), text.replace("event_type", "detail-type"), "secret".to_owned()] {
            assert!(!taken(&text).unwrap_err().to_string().contains("secret"));
        }
    }

    #[test]
    fn depth_overflows_no_stack() {
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for payload in [deep("[", "]"), deep("{\"a\":", "}")] {
            let rules = IngestRules { max_payload_bytes: usize::MAX, ..rules(true) };
            for (text, field) in [(OWN, "payload"), (CLOUD_EVENT, "data"), (EVENT_BRIDGE, "detail")] {
                let body = Bytes::from(with(text, field, Some(&payload)));
                assert_eq!(super::read(&body, &rules, NOW).unwrap().payload, payload);
            }
            for (text, field) in [(OWN, "event_type"), (CLOUD_EVENT, "id"), (EVENT_BRIDGE, "extra")] {
                drop(taken(&with(text, field, Some(&payload))));
            }
        }
        assert_eq!(refused(&deep("{\"tenant\":\"a\",\"event\":", "}")), ["/event"]);
        assert_eq!(refused(&deep("[", "]")), [""]);
    }

    /// Some JSON text whose parts are arbitrary strings.
    fn any_event() -> impl Strategy<Value = String> {
        let names = proptest::collection::vec(".{0,80}|[\\x00-\\x20\u{fffe}a.-]{1,9}|a", 4);
        (names, 0..3usize).prop_map(|(names, format)| {
            let [id, source, event_type, data] = &names[..] else { panic!("four names") };
            let value = match format {
                0 => serde_json::json!({"event_type": "a", "payload": data, "event_id": "a"}),
                1 => serde_json::json!({"specversion": "1.0", "id": id, "source": source, "type": event_type, "data": data}),
                _ => serde_json::json!({"id": id, "source": source, "detail-type": event_type, "detail": data}),
            };
            value.to_string()
        })
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(super::read(&Bytes::from(bytes), &rules(true), NOW).is_err());
        }

        #[test]
        fn a_damaged_event_never_panics(
            format in 0..3usize, named: bool, at in 0..500usize, put in "[\\[\\]{}:,\"$*\\\\a.>=<0-9é -]{0,3}", cut in 0..4usize
        ) {
            let text = if named { format!(r#"{{"tenant":"a","event":{}}}"#, FORMATS[format]) } else { FORMATS[format].to_owned() };
            let all: Vec<char> = text.chars().collect();
            let (before, after) = all.split_at(at % all.len());
            let broken: String = before.iter().copied().chain(put.chars()).chain(after.iter().skip(cut).copied()).collect();
            if let Err(refusal) = taken(&broken) {
                let text = refusal.to_string();
                prop_assert!(text.chars().count() <= 1000 && refused_by_sqs(&text).is_none());
            }
        }

        #[test]
        fn what_is_taken_can_be_carried_by_our_queues(text in any_event()) {
            let Ok(event) = taken(&text) else { return Ok(()) };
            let event = Event {
                tenant: event.tenant,
                id: event.event_id.unwrap(),
                event_type: event.event_type,
                payload: event.payload,
                foreign: event.foreign,
                ..Event::default()
            };
            let page = EventPage { event, ..EventPage::default() };
            let text = page.encode().unwrap();
            prop_assert_eq!(refused_by_sqs(&text), None);
            prop_assert_eq!(Envelope::decode(&Bytes::from(text)), Ok(Envelope::Event(Box::new(page))));
        }
    }
}
