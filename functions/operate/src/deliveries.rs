//! `GET /tenants/{tenant}/events/{event}/deliveries/{endpoint}`: one event's delivery to one
//! endpoint, with its attempts.

use adapters::http::answer::Problem;
use adapters::redis::records::{self, StoredRecord};
use domain::identity::{delivery_id, event_webhook_id};
use domain::message::{Attempt, History};
use domain::time::Millis;
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::delivery_names;
use crate::known::with_known;
use crate::statuses::unreadable;

impl Operate {
    /// One delivery, as Redis knows it.
    pub(crate) async fn delivery(&self, tenant: &str, event: &str, endpoint: &str) -> Result<Value, Problem> {
        let [tenant, event, endpoint] = delivery_names(tenant, event, endpoint)?;
        let id = delivery_id(&event, &endpoint, None);
        let stored = records::read(&id).run(self.redis.as_ref()).await.map_err(|error| unreadable(&error))?;
        // An endpoint belongs to one tenant. Another one learns nothing of its deliveries.
        let stored = stored
            .filter(|stored| stored.record.is_shown())
            .filter(|stored| stored.record.details.tenant.as_ref() == Some(&tenant))
            .ok_or_else(|| Problem::not_found("There is no such delivery, or its record has expired."))?;
        let names = [
            ("delivery_id", json!(id)),
            ("event_id", json!(event)),
            ("endpoint_id", json!(endpoint)),
            ("webhook_id", json!(event_webhook_id(&tenant, &event))),
        ];
        let names = names.into_iter().map(|(name, value)| (name, Some(value)));
        Ok(with_known(view(&stored, self.clock.now()), names))
    }
}

/// A record as the API shows it. What is not known is left out.
fn view(stored: &StoredRecord, now: Millis) -> Value {
    let StoredRecord { record, ttl_ms } = stored;
    let history: History = record.log.as_deref().and_then(|log| serde_json::from_str(log).ok()).unwrap_or_default();
    let view = json!({
        "tenant": record.details.tenant,
        "status": record.status,
        "attempts": history.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "attempt_count": history.count,
        "accepted_at": record.details.accepted_at.to_string(),
        "updated_at": record.updated_at.to_string(),
        "expires_at": record.details.expires_at.to_string(),
        "correlation_id": record.details.correlation_id,
        "in_flight": record.lease.as_ref().is_some_and(|lease| lease.until > now),
    });
    let known = [
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
        ("event_type", record.details.event_type.as_ref().map(|kind| json!(kind))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
    ];
    with_known(view, known)
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
