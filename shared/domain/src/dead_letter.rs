//! A dead letter: a delivery or an event that was given up, with everything needed to send
//! it again. The names of the message attributes are those that Amazon EventBridge uses.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::delivery::{Delivery, EndpointTarget};
use crate::destination::Destination;
use crate::event::{Event, EventPage, Foreign};
use crate::identity::hex;
use crate::job::JobPage;
use crate::message::json::present;
use crate::message::{History, Message};
use crate::outcome::ErrorClass;
use crate::place::Place;
use crate::reason::Reason;
use crate::time::Millis;
use crate::trace::Trace;
use crate::work::Work;

/// Message attribute: the [`Reason`].
pub const ERROR_CODE: &str = "ERROR_CODE";
/// Message attribute: the last error, for a person.
pub const ERROR_MESSAGE: &str = "ERROR_MESSAGE";
/// Message attribute: how many calls were made after the first one.
pub const RETRY_ATTEMPTS: &str = "RETRY_ATTEMPTS";
/// Message attribute: which limit ended it.
pub const EXHAUSTED_RETRY_CONDITION: &str = "EXHAUSTED_RETRY_CONDITION";

/// The longest error text in an attribute, in characters.
const MAX_ERROR_MESSAGE: usize = 1024;

/// The longest body of an unreadable message that is kept, in bytes as JSON writes
/// it: DynamoDB takes 400 KB an item.
pub const MAX_BODY: usize = 300_000;

/// A delivery that was given up, with everything needed to send it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeadLetter {
    /// What it is filed under: the webhook id, or a made-up one where that is
    /// unknown or belongs to another body.
    pub webhook_id: String,
    /// The webhook id that belongs to another body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_id: Option<String>,
    /// Why.
    pub reason: Option<Reason>,
    /// The last error, for a person.
    pub error: String,
    /// When it was given up.
    pub failed_at: Millis,
    /// Calls that were made.
    pub attempts: u32,
    /// The last answer's status code, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status_code: Option<u16>,
    /// The last failure's class, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// What its log lines are found by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub correlation_id: String,
    /// The endpoint that it is for. It has no URL then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointTarget>,
    /// The event whose fan-out was given up. Then nothing else says where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<GivenUpEvent>,
    /// The job that was given up. It has no payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobPage>,
    /// The client's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Where to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub webhook_url: String,
    /// The receiver's origin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// What kind of event it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The client's extra headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Tells its body from another under the same id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_hash: String,
    /// When it was accepted.
    #[serde(default)]
    pub accepted_at: Millis,
    /// The hop of its last message.
    #[serde(default)]
    pub hop: u32,
    /// Its attempts.
    #[serde(default)]
    pub history: History,
    /// The JSON that was to be sent, byte for byte; `null` is a payload, too.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// The text of a message that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Whether that text was too long to be kept whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
}

/// An event whose fan-out was given up, and how far that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpEvent {
    /// The tenant.
    pub tenant: String,
    /// Its id.
    pub event_id: String,
    /// What another system called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// The last endpoint that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many endpoints have their deliveries, or are owed them.
    pub matched: u32,
    /// How many of them are owed theirs.
    #[serde(default)]
    pub owed: u32,
}

/// A dead letter as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is filed under.
    pub webhook_id: String,
    /// Why it was given up.
    pub reason: Option<Reason>,
    /// Where to; empty if unknown.
    pub webhook_url: String,
    /// Calls that were made.
    pub attempts: u32,
    /// The last answer's status code, if one came.
    pub last_status_code: Option<u16>,
    /// The last failure's class, if there was one.
    pub error_class: Option<ErrorClass>,
    /// The last error, for a person.
    pub error: String,
    /// When it was given up.
    pub failed_at: Millis,
    /// What its log lines are found by; empty if unknown.
    pub correlation_id: String,
    /// When it was sent again.
    pub redriven_at: Option<Millis>,
}

impl Summary {
    /// Where it stands in a list.
    pub fn place(&self) -> Place {
        Place { at: self.failed_at, id: self.webhook_id.clone() }
    }
}

/// Which dead letters are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those given up for this reason.
    pub reason: Option<Reason>,
    /// Those for this destination.
    pub destination: Option<String>,
    /// Those given up then or later.
    pub since: Option<Millis>,
    /// Those given up before.
    pub until: Option<Millis>,
    /// Only those that can be redriven: readable, and not redriven yet.
    pub redrivable: bool,
}

/// The attributes of a dead letter's message, after so many calls. None may be empty: SQS
/// refuses that.
pub fn attributes(reason: Reason, error: &str, calls: u8) -> Vec<(&'static str, String)> {
    let message = match error {
        "" => reason.as_str().to_owned(),
        error => error.chars().take(MAX_ERROR_MESSAGE).collect(),
    };
    vec![
        (ERROR_CODE, reason.as_str().to_owned()),
        (ERROR_MESSAGE, message),
        (RETRY_ATTEMPTS, calls.saturating_sub(1).to_string()),
        (EXHAUSTED_RETRY_CONDITION, reason.exhausted_condition().to_owned()),
    ]
}

/// How many bytes JSON needs for a character in a string (RFC 8259 §7).
fn written_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if u32::from(c) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl DeadLetter {
    /// The dead letter of a delivery.
    ///
    /// # Errors
    /// Never for a message that was decoded: only when its payload is not JSON.
    pub fn of(message: &Message, reason: Reason, error: &str, failed_at: Millis) -> Result<Self, serde_json::Error> {
        let delivery = &message.delivery;
        let last = message.history.attempts.last();
        Ok(Self {
            webhook_id: delivery.id.clone(),
            reused_id: None,
            reason: Some(reason),
            error: error.to_owned(),
            failed_at,
            attempts: u32::from(message.attempts),
            last_status_code: last.and_then(|attempt| attempt.code),
            error_class: last.and_then(|attempt| attempt.class),
            correlation_id: delivery.correlation_id.clone(),
            endpoint: delivery.endpoint.clone(),
            event: None,
            job: None,
            trace: delivery.trace.clone(),
            webhook_url: delivery.url.clone(),
            destination: delivery.destination().map_or_else(String::new, |to| Destination::as_str(&to).to_owned()),
            event_type: delivery.event_type.clone(),
            headers: delivery.headers.clone(),
            body_hash: delivery.body_hash.clone(),
            accepted_at: delivery.accepted_at,
            hop: message.hop,
            history: message.history.clone(),
            payload: Some(serde_json::from_slice(&delivery.payload)?),
            body: None,
            truncated: false,
        })
    }

    /// The dead letter of an event.
    ///
    /// # Errors
    /// Never for a page that was decoded: only when its payload is not JSON.
    pub fn of_event(
        page: &EventPage,
        reason: Reason,
        error: &str,
        failed_at: Millis,
    ) -> Result<Self, serde_json::Error> {
        let event = &page.event;
        Ok(Self {
            webhook_id: event.record_id(),
            reason: Some(reason),
            error: error.to_owned(),
            failed_at,
            correlation_id: event.correlation_id.clone(),
            event: Some(GivenUpEvent {
                tenant: event.tenant.clone(),
                event_id: event.id.clone(),
                foreign: event.foreign.clone(),
                after: page.after.clone(),
                matched: page.matched,
                owed: page.owed,
            }),
            trace: event.trace.clone(),
            event_type: Some(event.event_type.clone()),
            body_hash: event.body_hash.clone(),
            accepted_at: event.accepted_at,
            hop: page.hop,
            payload: Some(serde_json::from_slice(&event.payload)?),
            ..Self::default()
        })
    }

    /// The dead letter of a job.
    pub fn of_job(page: &JobPage, reason: Reason, error: &str, failed_at: Millis) -> Self {
        Self {
            webhook_id: page.record_id(),
            reason: Some(reason),
            error: error.to_owned(),
            failed_at,
            correlation_id: page.correlation_id.clone(),
            job: Some(page.clone()),
            accepted_at: page.accepted_at,
            hop: page.hop,
            ..Self::default()
        }
    }

    /// The dead letter of a message that could not be read.
    pub fn malformed(message_id: &str, body: &str, error: &str, failed_at: Millis) -> Self {
        let mut written = 0;
        let end = body.char_indices().find(|(_, c)| {
            written += written_len(*c);
            written > MAX_BODY
        });
        let kept = end.and_then(|(end, _)| body.get(..end)).unwrap_or(body);
        Self {
            webhook_id: format!("malformed-{message_id}"),
            reason: Some(Reason::Malformed),
            error: error.to_owned(),
            failed_at,
            body: Some(kept.to_owned()),
            truncated: kept.len() < body.len(),
            ..Self::default()
        }
    }

    /// What its record is named by: the webhook id that it was sent with, and is sent with
    /// again.
    pub fn delivery_id(&self) -> &str {
        self.reused_id.as_deref().unwrap_or(&self.webhook_id)
    }

    /// What a list shows of it.
    pub fn summary(&self, redriven_at: Option<Millis>) -> Summary {
        Summary {
            webhook_id: self.webhook_id.clone(),
            reason: self.reason,
            webhook_url: self.webhook_url.clone(),
            attempts: self.attempts,
            last_status_code: self.last_status_code,
            error_class: self.error_class,
            error: self.error.clone(),
            failed_at: self.failed_at,
            correlation_id: self.correlation_id.clone(),
            redriven_at,
        }
    }

    /// What sends it again: the next hop with a fresh budget and a new deadline, the same id
    /// and the same bytes. An event goes on after the last endpoint that it came to. `None`
    /// where nothing could be read, or the payload was erased.
    pub fn redriven(&self, due: Millis, deadline: Millis) -> Option<Work> {
        if let Some(page) = &self.job {
            return Some(Work::Job(Box::new(page.resumed(due, deadline))));
        }
        let payload = Bytes::copy_from_slice(self.payload.as_ref()?.get().as_bytes());
        Some(match &self.event {
            None => Work::Delivery(Box::new(self.redriven_delivery(payload, due, deadline))),
            Some(event) => Work::Event(Box::new(self.redriven_event(event, payload, due, deadline))),
        })
    }

    fn redriven_delivery(&self, payload: Bytes, due: Millis, deadline: Millis) -> Message {
        let delivery = Delivery {
            id: self.delivery_id().to_owned(),
            endpoint: self.endpoint.clone(),
            url: self.webhook_url.clone(),
            payload,
            headers: self.headers.clone(),
            event_type: self.event_type.clone(),
            correlation_id: self.correlation_id.clone(),
            trace: self.trace.clone(),
            body_hash: self.body_hash.clone(),
            accepted_at: self.accepted_at,
            deadline,
        };
        Message { delivery, hop: self.hop + 1, not_before: due, ..Message::default() }
    }

    /// Whoever sends an event again wants it although it may have expired.
    fn redriven_event(&self, given_up: &GivenUpEvent, payload: Bytes, due: Millis, deadline: Millis) -> EventPage {
        let event = Event {
            tenant: given_up.tenant.clone(),
            id: given_up.event_id.clone(),
            event_type: self.event_type.clone().unwrap_or_default(),
            payload,
            correlation_id: self.correlation_id.clone(),
            trace: self.trace.clone(),
            foreign: given_up.foreign.clone(),
            body_hash: self.body_hash.clone(),
            accepted_at: self.accepted_at,
            expires_at: None,
        };
        EventPage {
            event,
            deadline,
            hop: self.hop + 1,
            after: given_up.after.clone(),
            matched: given_up.matched,
            owed: given_up.owed,
            waited: 0,
            not_before: due,
        }
    }

    /// Whether it is of a delivery of its own, and not of an endpoint, an event or a job.
    pub fn is_direct(&self) -> bool {
        self.endpoint.is_none() && self.event.is_none() && self.job.is_none()
    }

    /// Whether it is of a delivery to an endpoint.
    pub fn is_to_endpoint(&self) -> bool {
        self.endpoint.is_some()
    }

    /// The tenant and the event that it is about.
    pub fn of_tenant(&self) -> Option<(&str, &str)> {
        let endpoint = self.endpoint.as_ref().map(|target| (target.tenant.as_str(), target.event_id.as_str()));
        endpoint.or_else(|| self.event.as_ref().map(|event| (event.tenant.as_str(), event.event_id.as_str())))
    }

    /// The same, filed apart because its id belongs to another body.
    #[must_use]
    pub fn apart(self) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(self.webhook_id.as_bytes());
        hash.update(&[0]);
        hash.update(self.body_hash.as_bytes());
        let id = format!("reused-{}", hex(&hash.finish().as_ref()[..16]));
        Self { reused_id: Some(self.webhook_id), webhook_id: id, ..self }
    }

    /// Whether this takes the place of `filed`, which has the same id. One of the same body
    /// does so if it says more recent things. A repeated one does not, so it cannot undo
    /// what happened since. One of another body does so if it was accepted later and nobody
    /// needs the filed one any more, because that was redriven.
    pub fn takes_place_of(&self, filed: &Self, was_redriven: bool) -> bool {
        if self.body_hash == filed.body_hash {
            (self.accepted_at, self.hop) > (filed.accepted_at, filed.hop)
        } else {
            was_redriven && self.accepted_at > filed.accepted_at
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_body_fits_the_table_however_it_is_written() {
        for text in ["x", "é", "\"", "\\", "{\"k\":\"v\",", "\u{1}"] {
            let body = text.repeat(1_000_000 / text.len());
            let letter = DeadLetter::malformed("m", &body, "why", Millis(0));
            let written = serde_json::to_string(&letter).unwrap().len();
            assert!(letter.truncated && (299_000..301_000).contains(&written), "{text}: {written}");
        }
        assert!(!DeadLetter::malformed("m", "short", "why", Millis(0)).truncated);
    }
}
