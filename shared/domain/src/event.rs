//! An event: what a tenant is told. Its fan-out makes a delivery for every endpoint that
//! wants it, in pages. A page's message carries everything needed to go on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use crate::identity::{event_record_id, event_webhook_id};
use crate::record::{NewRecord, Record};
use crate::status::Status;
use crate::time::Millis;
use crate::trace::Trace;

/// An event as it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The tenant that is told.
    pub tenant: String,
    /// Its id, unique in the tenant.
    pub id: String,
    /// What kind of event it is.
    pub event_type: String,
    /// The JSON text to send, byte for byte.
    pub payload: Bytes,
    /// The id that its log lines share with those of its deliveries.
    pub correlation_id: String,
    /// The client's trace.
    pub trace: Option<Trace>,
    /// What another system called it.
    pub foreign: Option<Foreign>,
    /// Tells its body from another under the same id.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is no longer worth delivering, if the client said so.
    pub expires_at: Option<Millis>,
}

/// What another system called an event that it sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    /// Where it comes from.
    pub source: String,
    /// Its id there.
    pub id: String,
    /// Its type there.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// One page of an event's fan-out: the endpoints after the last one that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The event.
    pub event: Event,
    /// When its fan-out is given up.
    pub deadline: Millis,
    /// Counts its pages, and whatever else made a new message of it.
    pub hop: u32,
    /// The last endpoint that was looked at.
    pub after: Option<String>,
    /// How many endpoints matched on earlier pages.
    pub matched: u32,
    /// How many of them are owed their deliveries.
    pub owed: u32,
    /// How often in a row it had to wait for the registry.
    pub waited: u32,
    /// Not to be worked on earlier.
    pub not_before: Millis,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumIter, EnumString, IntoStaticStr, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventStatus {
    /// It is queued.
    Accepted,
    /// Some of its endpoints may have their deliveries.
    FanningOut,
    /// All endpoints that want it have their deliveries queued.
    FannedOut,
    /// Its fan-out was given up; there is a dead letter.
    Failed,
}

impl EventStatus {
    /// What an event's record says.
    pub fn of(record: &Record) -> Self {
        let is_begun = record.claimed.is_some() || record.hop > 0;
        if record.status == Status::Pending && is_begun { Self::FanningOut } else { Self::from(record.status) }
    }
}

impl From<Status> for EventStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Accepted,
            Status::Retrying => Self::FanningOut,
            Status::Delivered => Self::FannedOut,
            Status::Failed => Self::Failed,
        }
    }
}

impl Event {
    /// What its record is named by.
    pub fn record_id(&self) -> String {
        event_record_id(&self.tenant, &self.id)
    }

    /// The `webhook-id` that receivers see.
    pub fn webhook_id(&self) -> String {
        event_webhook_id(&self.tenant, &self.id)
    }
}

impl EventPage {
    /// The event as its record begins.
    pub fn new_record(&self) -> NewRecord {
        NewRecord {
            tenant: Some(self.event.tenant.clone()),
            url: String::new(),
            correlation_id: self.event.correlation_id.clone(),
            event_type: Some(self.event.event_type.clone()),
            body_hash: self.event.body_hash.clone(),
            accepted_at: self.event.accepted_at,
            expires_at: self.deadline,
            attempts: 0,
        }
    }

    /// The page after this one, which begins after the endpoint `after`. `matched` more
    /// endpoints have their deliveries, `owed` of them as owed.
    #[must_use = "a continuation that is not sent loses the rest of the event"]
    pub fn continued(&self, after: &str, matched: u32, owed: u32) -> Self {
        Self {
            after: Some(after.to_owned()),
            matched: self.matched.saturating_add(matched),
            owed: self.owed.saturating_add(owed),
            hop: self.hop + 1,
            waited: 0,
            not_before: Millis(0),
            ..self.clone()
        }
    }

    /// The same page again, not earlier than `due`.
    #[must_use = "a successor that is not sent loses the event"]
    pub fn delayed(&self, due: Millis) -> Self {
        Self { hop: self.hop + 1, waited: self.waited.saturating_add(1), not_before: due, ..self.clone() }
    }

    /// The same page, not to be worked on earlier than `due`.
    #[must_use]
    pub fn not_before(self, due: Millis) -> Self {
        Self { not_before: due, ..self }
    }

    /// When it is to be worked on: an instant beyond the deadline is the deadline, where it
    /// expires.
    pub fn due(&self) -> Millis {
        self.not_before.min(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> EventPage {
        let event = Event {
            tenant: "acme".into(),
            id: "order-1".into(),
            event_type: "order.paid".into(),
            payload: Bytes::from_static(b"{}"),
            accepted_at: Millis(5),
            ..Event::default()
        };
        EventPage { event, deadline: Millis(900), hop: 2, matched: 7, owed: 2, waited: 3, ..EventPage::default() }
    }

    #[test]
    fn every_message_of_an_event_is_one_hop_further() {
        let next = page().continued("ep_1", 3, 1);
        assert_eq!(
            (next.hop, next.matched, next.owed, next.waited, next.after.as_deref()),
            (3, 10, 3, 0, Some("ep_1"))
        );
        let again = next.delayed(Millis(50));
        assert_eq!((again.hop, again.waited, again.due(), again.after.as_deref()), (4, 1, Millis(50), Some("ep_1")));
    }
}
