//! An event as history keeps it, and its line in the list of a day's events.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Row, names};
use crate::event::{Event, Foreign};
use crate::message::json::present;
use crate::time::Millis;
use crate::trace::Trace;

/// An event, kept with its payload until that is erased.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptEvent {
    /// The tenant that is told.
    pub tenant: String,
    /// Its id.
    pub event_id: String,
    /// What kind of event it is.
    pub event_type: String,
    /// What its log lines are found by.
    pub correlation_id: String,
    /// The client's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// What another system called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// Tells its body from another under the same id.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is no longer worth delivering, if the client said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// When its payload was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Millis>,
    /// The JSON that was to be sent, byte for byte; `null` is a payload, too.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

/// An event in the list of a day. It has no payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEvent {
    /// Its id.
    pub event_id: String,
    /// What kind of event it is.
    pub event_type: String,
    /// When it was accepted.
    pub accepted_at: Millis,
}

impl KeptEvent {
    /// An event as it was accepted.
    ///
    /// # Errors
    /// Only when its payload is not JSON text.
    pub fn of(event: &Event) -> Result<Self, serde_json::Error> {
        Ok(Self {
            tenant: event.tenant.clone(),
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            correlation_id: event.correlation_id.clone(),
            trace: event.trace.clone(),
            foreign: event.foreign.clone(),
            body_hash: event.body_hash.clone(),
            accepted_at: event.accepted_at,
            expires_at: event.expires_at,
            erased_at: None,
            payload: Some(serde_json::from_slice(&event.payload)?),
        })
    }

    /// The event, to be sent again; `None` after its payload was erased.
    pub fn event(&self) -> Option<Event> {
        Some(Event {
            tenant: self.tenant.clone(),
            id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            payload: Bytes::copy_from_slice(self.payload.as_ref()?.get().as_bytes()),
            correlation_id: self.correlation_id.clone(),
            trace: self.trace.clone(),
            foreign: self.foreign.clone(),
            body_hash: self.body_hash.clone(),
            accepted_at: self.accepted_at,
            expires_at: self.expires_at,
        })
    }

    /// The same without its payload.
    #[must_use]
    pub fn erased(self, at: Millis) -> Self {
        Self { payload: None, erased_at: Some(self.erased_at.unwrap_or(at)), ..self }
    }

    /// Its row, kept from its acceptance on.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn row(&self, kept_for: Duration) -> Result<Row, serde_json::Error> {
        Ok(Row {
            partition: names::event(&self.tenant, &self.event_id),
            place: names::sortable(self.accepted_at),
            body: serde_json::to_string(self)?,
            kept_until: self.accepted_at.after(kept_for),
            by_event: None,
        })
    }

    /// Its row in the list of its day.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn listed_row(&self, kept_for: Duration) -> Result<Row, serde_json::Error> {
        let listed = ListedEvent {
            event_id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            accepted_at: self.accepted_at,
        };
        Ok(Row {
            partition: names::events(&self.tenant, &names::day(self.accepted_at)),
            place: names::listed(self.accepted_at, &self.event_id),
            body: serde_json::to_string(&listed)?,
            kept_until: self.accepted_at.after(kept_for),
            by_event: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            tenant: "acme".into(),
            id: "order-1".into(),
            event_type: "order.paid".into(),
            payload: Bytes::from_static(b"{ \"a\": 1.0 }"),
            accepted_at: Millis(86_400_000),
            ..Event::default()
        }
    }

    #[test]
    fn a_kept_event_has_its_payload_byte_for_byte() {
        let row = KeptEvent::of(&event()).unwrap().row(Duration::from_secs(1)).unwrap();
        let kept: KeptEvent = serde_json::from_str(&row.body).unwrap();
        assert_eq!(kept.event(), Some(event()));
        assert_eq!((row.event(), row.kept_until), (Some(("acme", "order-1")), Millis(86_401_000)));
    }

    #[test]
    fn null_is_a_payload_and_erased_is_none() {
        let null = Event { payload: Bytes::from_static(b"null"), ..event() };
        let read =
            |kept: KeptEvent| -> KeptEvent { serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap() };
        let kept = read(KeptEvent::of(&null).unwrap());
        assert_eq!(kept.event(), Some(null));
        let erased = read(kept.erased(Millis(9)));
        assert_eq!((erased.event(), erased.erased_at), (None, Some(Millis(9))));
        assert_eq!(erased.erased(Millis(10)).erased_at, Some(Millis(9)));
    }

    #[test]
    fn a_line_in_a_list_is_short() {
        let long = Event { id: "x".repeat(64), event_type: "t".repeat(128), tenant: "a".repeat(64), ..event() };
        let row = KeptEvent::of(&long).unwrap().listed_row(Duration::ZERO).unwrap();
        assert!(row.partition.len() + row.place.len() + row.body.len() <= 500, "{row:?}");
        assert_eq!(row.event(), Some((long.tenant.as_str(), long.id.as_str())));
        assert!(row.partition.ends_with("#19700102"));
    }
}
