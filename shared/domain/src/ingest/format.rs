//! Which format an event has. A field that only one format requires tells: `event_type` is our
//! own schema, `specversion` CloudEvents, and `detail-type` EventBridge.

use serde_json::value::RawValue;

use super::sent::{Payload, Sent, too_large};
use super::{cloud_events, event_bridge};
use crate::event_request::{self, EventRequest};
use crate::fault::{Fault, Faults};
use crate::object::ObjectReader;
use crate::time::Millis;
use crate::webhook::Rejection;

/// Most fields of an event, extensions of a CloudEvent included.
const MAX_FIELDS: usize = 100;

/// What may be an event.
pub(super) struct Candidate<'a> {
    base: &'static str,
    raw: &'a RawValue,
    fields: ObjectReader<'a>,
}

impl<'a> Candidate<'a> {
    /// Takes it apart. Faults point below `base`.
    pub(super) fn open(base: &'static str, raw: &'a RawValue) -> Result<Self, Fault> {
        if raw.get().starts_with('[') {
            return Err(Fault::at(base, "a JSON array; send every event of a batch in a message of its own"));
        }
        Ok(Self { base, raw, fields: ObjectReader::open_any(base, raw, MAX_FIELDS, "an event")? })
    }

    fn has(&self, name: &str) -> bool {
        self.fields.raw(name).is_some()
    }

    /// Whether it is no event but `{"tenant": …, "event": …}`. A CloudEvent may have extensions
    /// of these names.
    pub(super) fn names_tenant(&self) -> bool {
        let is_event = self.has("event_type") || self.has("specversion") || self.has("detail-type");
        !is_event && (self.has("tenant") || self.has("event"))
    }

    /// Reads the event.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(self, max_payload_bytes: usize, now: Millis) -> Result<Sent<'a>, Faults> {
        // Each of these alone may be an extension of another system.
        if self.has("v") && self.has("kind") {
            let why = "a message with `v` and `kind` is one of the stack's own queues, and not taken from outside";
            return Err(Fault::at(format!("{}/v", self.base), why).into());
        }
        match (self.has("event_type"), self.has("specversion"), self.has("detail-type")) {
            (true, false, false) => own(self.base, self.raw, max_payload_bytes, now),
            (false, true, false) => cloud_events::read(self.fields, max_payload_bytes),
            (false, false, true) => event_bridge::read(self.fields, max_payload_bytes),
            (false, false, false) => Err(Fault::at(
                self.base,
                "none of `event_type`, `specversion` (CloudEvents) and `detail-type` (EventBridge) is there",
            )
            .into()),
            _ => Err(Fault::at(
                self.base,
                "only one of `event_type`, `specversion` (CloudEvents) and `detail-type` (EventBridge) may be there",
            )
            .into()),
        }
    }
}

/// Reads an event in our own schema. Nobody waits for an answer, so one that has expired is
/// no use even as a duplicate.
fn own<'a>(base: &str, raw: &'a RawValue, max_payload_bytes: usize, now: Millis) -> Result<Sent<'a>, Faults> {
    match event_request::read(base, raw, now, max_payload_bytes) {
        Ok(EventRequest { expired: Some(fault), .. }) => Err(fault.into()),
        Ok(EventRequest { event_id, event_type, payload, expires_at, expired: None }) => Ok(Sent {
            event_id,
            event_type,
            payload: Payload::Written(payload),
            expires_at,
            trace: None,
            foreign: None,
        }),
        Err(Rejection::Invalid(faults)) => Err(faults),
        Err(Rejection::TooLarge { bytes }) => {
            Err(Fault::at(format!("{base}/payload"), too_large(bytes, max_payload_bytes)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::samples::{CLOUD_EVENT, EVENT_BRIDGE, FORMATS, OWN, with};

    const NOW: Millis = Millis(1_700_000_000_000);

    fn taken(text: &str) -> Result<Sent<'_>, Faults> {
        Candidate::open("", serde_json::from_str(text).unwrap())?.read(1_000, NOW)
    }

    fn refused(text: &str) -> Vec<String> {
        taken(text).expect_err(text).told().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn what_has_no_format_or_several_is_refused_as_a_whole() {
        let mixed = with(OWN, "specversion", Some("\"1.0\""));
        for text in
            ["{}", "1", "null", "[]", r#"{"payload":1}"#, r#"{"tenant":"a"}"#, &mixed, &format!("[{CLOUD_EVENT}]")]
        {
            assert_eq!(refused(text), [""], "{text}");
        }
        assert!(taken(&format!("[{CLOUD_EVENT}]")).unwrap_err().told()[0].message.contains("batch"));
        let many: String = (0..200).map(|i| format!("\"x{i}\":1,")).collect();
        assert_eq!(refused(&CLOUD_EVENT.replacen('{', &format!("{{{many}"), 1)), [""]);
    }

    #[test]
    fn messages_of_our_queues_are_refused() {
        for text in FORMATS {
            let like = with(&with(text, "v", Some("2")), "kind", Some("\"notice\""));
            assert_eq!(refused(&like), ["/v"]);
        }
        assert_eq!(refused(r#"{"v":2,"kind":"notice"}"#), ["/v"]);
    }

    #[test]
    fn every_required_field_is_named_when_it_is_missing_or_wrong() {
        let cases = [
            (OWN, &["payload"][..]),
            (CLOUD_EVENT, &["id", "source", "type"]),
            (EVENT_BRIDGE, &["id", "source", "detail"]),
        ];
        for (text, fields) in cases {
            for field in fields {
                assert_eq!(refused(&with(text, field, None)), [format!("/{field}")]);
            }
        }
        let long = format!("\"{}\"", "x".repeat(1025));
        for (text, fields) in [
            (CLOUD_EVENT, ["id", "source", "type", "specversion"]),
            (EVENT_BRIDGE, ["id", "source", "detail-type", "version"]),
        ] {
            for field in fields {
                for value in ["null", "1", "\"\"", "{}", &long, "\"\\u0001\"", "\"\\uffff\"", "\"\\ud800\""] {
                    assert_eq!(refused(&with(text, field, Some(value))), [format!("/{field}")], "{value}");
                }
            }
        }
        let long = format!("\"{}\"", "é".repeat(1024));
        let longest = with(&with(CLOUD_EVENT, "id", Some(&long)), "type", Some(&long));
        assert_eq!(taken(&longest).unwrap().foreign.unwrap().id.chars().count(), 1024);
        let nothing = r#"{"specversion":"1.1","id":"","type":"steadhook.a","data":1,"data":2,"data_base64":""}"#;
        assert_eq!(refused(nothing), ["/data", "/specversion", "/id", "/source", "/type", "/data_base64"]);
    }

    #[test]
    fn unknown_fields_are_refused_in_our_own_schema_alone() {
        for field in ["tenant", "v", "kind", "id", "source"] {
            assert_eq!(refused(&with(OWN, field, Some("1"))), [format!("/{field}")]);
        }
        for text in [CLOUD_EVENT, EVENT_BRIDGE] {
            assert!(taken(&with(text, "extra", Some("{}"))).is_ok());
        }
    }

    #[test]
    fn duplicate_fields_are_refused_in_every_format() {
        for (text, field) in
            [(OWN, "payload"), (CLOUD_EVENT, "id"), (CLOUD_EVENT, "comexample"), (EVENT_BRIDGE, "detail")]
        {
            let twice = with(text, field, Some("\"1\"")).replacen('{', &format!("{{\"{field}\":\"1\","), 1);
            assert_eq!(refused(&twice), [format!("/{field}")]);
        }
    }

    #[test]
    fn nobody_may_send_events_of_ours() {
        for name in ["\"steadhook\"", "\"steadhook.endpoint.disabled\"", "\"steadhook.é\""] {
            for (text, field) in [(OWN, "event_type"), (CLOUD_EVENT, "type"), (EVENT_BRIDGE, "detail-type")] {
                assert_eq!(refused(&with(text, field, Some(name))), [format!("/{field}")]);
            }
        }
    }

    #[test]
    fn payloads_that_cannot_be_carried_are_refused() {
        let large = format!("\"{}\"", "x".repeat(999));
        for (text, field) in [(OWN, "payload"), (CLOUD_EVENT, "data"), (EVENT_BRIDGE, "detail")] {
            assert_eq!(refused(&with(text, field, Some(&large))), [format!("/{field}")]);
            assert_eq!(refused(&with(text, field, Some("\"\u{ffff}\""))), [format!("/{field}")]);
            assert!(taken(&with(text, field, Some(&large.replacen('x', "", 1)))).is_ok());
        }
    }

    #[test]
    fn an_event_that_has_expired_is_refused_with_that_word() {
        let expired = with(OWN, "expires_at", Some("\"2001-01-01T00:00:00Z\""));
        for text in [expired.clone(), with(&expired, "event_id", None)] {
            let fault = Fault::at("/expires_at", "lies in the past: it has expired");
            assert_eq!(taken(&text).unwrap_err(), fault.into());
        }
    }
}
