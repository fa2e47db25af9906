//! A life of a delivery as the API shows it: ended, as history has it, or as its record says.

use adapters::redis::records::StoredRecord;
use domain::history::delivery::{DeliveryEnd, EndedDelivery, EndedTarget};
use domain::identity::{delivery_id, event_webhook_id};
use domain::message::{Attempt, History};
use domain::status::Status;
use domain::time::Millis;
use serde_json::{Value, json};

use crate::known::with_known;

/// Which life of which delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LifeName {
    pub(crate) tenant: String,
    pub(crate) event: String,
    pub(crate) endpoint: String,
    /// `None` is the first one.
    pub(crate) life: Option<String>,
}

impl LifeName {
    /// The delivery of a tenant that an id names.
    pub(crate) fn of_id(tenant: &str, id: &str) -> Option<Self> {
        let (event, rest) = id.split_once('.')?;
        let (endpoint, life) = match rest.split_once('.') {
            Some((endpoint, life)) => (endpoint, Some(life.to_owned())),
            None => (rest, None),
        };
        Some(Self { tenant: tenant.to_owned(), event: event.to_owned(), endpoint: endpoint.to_owned(), life })
    }

    /// The delivery's id.
    pub(crate) fn delivery_id(&self) -> String {
        delivery_id(&self.event, &self.endpoint, self.life.as_deref())
    }

    fn view(&self) -> Value {
        json!({
            "delivery_id": self.delivery_id(),
            "life": self.life,
            "event_id": self.event,
            "endpoint_id": self.endpoint,
            "webhook_id": event_webhook_id(&self.tenant, &self.event),
        })
    }
}

/// How a delivery ended.
pub(crate) fn status_of(end: DeliveryEnd) -> Status {
    match end {
        DeliveryEnd::Delivered => Status::Delivered,
        DeliveryEnd::GivenUp(_) => Status::Failed,
    }
}

/// One that ended.
pub(crate) fn ended(target: &EndedTarget, ended: &EndedDelivery) -> Value {
    let EndedTarget { tenant, endpoint, event_id, life } = target.clone();
    let known = [
        ("status", Some(json!(status_of(ended.result)))),
        ("result", Some(json!(ended.result))),
        ("hop", Some(json!(ended.hop))),
        ("accepted_at", Some(json!(ended.accepted_at.to_string()))),
        ("ended_at", Some(json!(ended.ended_at.to_string()))),
        ("correlation_id", Some(json!(ended.correlation_id))),
        ("attempts", Some(json!(attempts(&ended.history)))),
        ("attempt_count", Some(json!(ended.history.count))),
        ("event_type", ended.event_type.as_ref().map(|kind| json!(kind))),
        ("error", ended.error.as_ref().map(|error| json!(error))),
    ];
    with_known(LifeName { tenant, event: event_id, endpoint, life }.view(), known)
}

/// One of which history does not know, as its record has it.
pub(crate) fn recorded(name: &LifeName, stored: &StoredRecord, now: Millis) -> Value {
    let record = &stored.record;
    let history = log(stored);
    let is_ended = match record.status {
        Status::Delivered | Status::Failed => true,
        Status::Pending | Status::Retrying => false,
    };
    let known = [
        ("status", Some(json!(record.status))),
        ("hop", Some(json!(record.hop))),
        ("accepted_at", Some(json!(record.details.accepted_at.to_string()))),
        ("ended_at", is_ended.then(|| json!(record.updated_at.to_string()))),
        ("correlation_id", Some(json!(record.details.correlation_id))),
        ("attempts", Some(json!(attempts(&history)))),
        ("attempt_count", Some(json!(history.count))),
        ("event_type", record.details.event_type.as_ref().map(|kind| json!(kind))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
        ("in_flight", (!is_ended).then(|| json!(is_in_flight(stored, now)))),
    ];
    with_known(name.view(), known)
}

/// The attempts that a record keeps.
pub(crate) fn log(stored: &StoredRecord) -> History {
    stored.record.log.as_deref().and_then(|log| serde_json::from_str(log).ok()).unwrap_or_default()
}

/// Whether an attempt is being made.
pub(crate) fn is_in_flight(stored: &StoredRecord, now: Millis) -> bool {
    stored.record.lease.as_ref().is_some_and(|lease| lease.until > now)
}

/// Attempts as the API shows them. What is not known is left out.
pub(crate) fn attempts(history: &History) -> Vec<Value> {
    history.attempts.iter().map(attempt).collect()
}

fn attempt(attempt: &Attempt) -> Value {
    let view = json!({ "at": attempt.at.to_string(), "duration_ms": attempt.ms });
    let known = [
        ("status_code", attempt.code.map(|code| json!(code))),
        ("error_class", attempt.class.map(|class| json!(class))),
        ("error", attempt.error.as_ref().map(|error| json!(error))),
        ("answer", attempt.answer.as_ref().map(|answer| json!(answer))),
    ];
    with_known(view, known)
}
