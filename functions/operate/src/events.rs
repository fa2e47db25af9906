//! `GET /tenants/{tenant}/events/{event}`: where an event stands.

use adapters::http::answer::Problem;
use adapters::redis::records::{self, StoredRecord};
use domain::event::EventStatus;
use domain::identity::{event_record_id, event_webhook_id};
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::event_names;
use crate::known::with_known;
use crate::statuses::unreadable;

impl Operate {
    /// One event, as Redis knows it.
    pub(crate) async fn event(&self, tenant: &str, event: &str) -> Result<Value, Problem> {
        let (tenant, event) = event_names(tenant, event)?;
        let id = event_record_id(&tenant, &event);
        let stored = records::read(&id).run(self.redis.as_ref()).await.map_err(|error| unreadable(&error))?;
        // What is only reserved may never have been queued. Its client got no 202.
        let stored = stored.filter(|stored| !stored.record.reserved);
        let stored = stored.ok_or_else(|| Problem::not_found("There is no such event, or its record has expired."))?;
        Ok(view(&tenant, &event, &stored))
    }
}

/// A record as the API shows it. What is not known is left out.
fn view(tenant: &str, event: &str, stored: &StoredRecord) -> Value {
    let StoredRecord { record, ttl_ms } = stored;
    let matched = record.matched.unwrap_or_default();
    let view = json!({
        "tenant": tenant,
        "event_id": event,
        "webhook_id": event_webhook_id(tenant, event),
        "status": EventStatus::of(record),
        "matched": matched,
        "queued": matched,
        "accepted_at": record.details.accepted_at.to_string(),
        "updated_at": record.updated_at.to_string(),
        "expires_at": record.details.expires_at.to_string(),
        "correlation_id": record.details.correlation_id,
    });
    let known = [
        ("event_type", record.details.event_type.as_ref().map(|kind| json!(kind))),
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
    ];
    with_known(view, known)
}
