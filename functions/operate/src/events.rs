//! `GET /tenants/{tenant}/events` and `GET /tenants/{tenant}/events/{event}`: what a tenant was
//! told, and where an event stands.

use std::time::Duration;

use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::records::{self, StoredRecord};
use domain::event::EventStatus;
use domain::history::event::{KeptEvent, ListedEvent};
use domain::history::names;
use domain::history::page::{Window, merged};
use domain::identity::{event_record_id, event_webhook_id};
use domain::names::{is_event_type_pattern, selects_event_type};
use domain::time::Millis;
use futures_util::future::join;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::{event_names, tenant_name};
use crate::history::{self, Scope};
use crate::known::with_known;
use crate::request::{MAX_PAGE, PAGE};
use crate::statuses::unreadable;

/// Days that one page looks at: a query each.
const DAYS: usize = 4;
/// Events of a day that are looked at for a filter.
const FILTERED: usize = 500;
/// What a filter is, for a person.
const EVENT_TYPE: &str = "must be an event type, such as order.paid, or those below a name, such as order.*";

/// An event in whole. Its payload's bytes are as the client wrote them.
#[derive(Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    view: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
}

impl Operate {
    /// A page of a tenant's events, newest first.
    pub(crate) async fn events(&self, tenant: &str, query: &str) -> Result<Value, Problem> {
        let tenant = tenant_name(tenant)?;
        let mut query = QueryString::of(query);
        let (since, until) = (query.time("since"), query.time("until"));
        let read = |text: &str| is_event_type_pattern(text).then(|| text.to_owned());
        let wanted = query.optional("event_type", read, EVENT_TYPE);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let whole = self.window(since, until, Duration::ZERO);
        let scope = Scope::new(["events", &tenant, wanted.as_deref().unwrap_or_default()]).within(since, until);
        let goes_on = scope.read(&mut query, |place| whole.from(place));
        query.finish()?;

        let window = goes_on.unwrap_or(whole);
        let days = window.days(DAYS);
        let partitions = days.iter().map(|day| names::events(&tenant, &names::day(*day)));
        let looked_at = if wanted.is_some() { FILTERED } else { limit };
        let runs = self.runs(partitions, &window, looked_at).await?;
        let page = merged(runs, limit, |row| {
            let event: ListedEvent = history::read(row)?;
            let is_wanted = wanted.as_ref().is_none_or(|pattern| selects_event_type(pattern, &event.event_type));
            is_wanted.then(|| listed(&tenant, &event))
        });
        let next = page.next.or_else(|| window.next(&days));
        Ok(json!({ "events": page.items, "next_cursor": next.map(|place| scope.cursor(&place)) }))
    }

    /// The part of a list that is asked for. It goes back as far as history keeps what ended
    /// `late` after its acceptance.
    pub(crate) fn window(&self, since: Option<Millis>, until: Option<Millis>, late: Duration) -> Window {
        let now = self.clock.now();
        let oldest = match self.history_life {
            Some(life) => Millis(now.0.saturating_sub(domain::time::whole_ms(life + late))),
            None => now.after(names::DAY),
        };
        Window::new(since, until, oldest, now)
    }

    /// One event, as Redis and history know it.
    pub(crate) async fn event(&self, tenant: &str, event: &str) -> Result<Whole, Problem> {
        let (tenant, event) = event_names(tenant, event)?;
        let id = event_record_id(&tenant, &event);
        let reading = records::read(&id).run(self.redis.as_ref());
        let (stored, kept) = join(reading, self.kept_event(&tenant, &event)).await;
        let stored = stored.map_err(|error| unreadable(&error));
        let kept = kept.map_err(|error| history::unreadable(&error));
        let erased = stored.as_ref().ok().and_then(|stored| stored.as_ref()?.record.erased);
        // What is only reserved may never have been queued. Its client got no 202.
        let is_known = |stored: &StoredRecord| !stored.record.reserved && !stored.record.is_erased();
        let (stored, missing) = match stored {
            Ok(stored) => (stored.filter(is_known), None),
            Err(problem) => (None, Some(problem)),
        };
        let (kept, missing) = match kept {
            Ok(kept) => (kept, missing),
            Err(problem) => (None, missing.or(Some(problem))),
        };
        // An id may be used again. The later event counts.
        let accepted_at = |stored: &StoredRecord| stored.record.details.accepted_at;
        let newest = stored.as_ref().map(accepted_at).max(kept.as_ref().map(|kept| kept.accepted_at));
        let stored = stored.filter(|stored| Some(accepted_at(stored)) == newest);
        let kept = kept.filter(|kept| Some(kept.accepted_at) == newest);
        let view = match (&stored, &kept) {
            (Some(stored), _) => view(&tenant, &event, stored),
            (None, Some(kept)) => past(kept),
            (None, None) => {
                let unknown = || Problem::not_found("There is no such event, or it is no longer kept.");
                return Err(missing.unwrap_or_else(unknown));
            }
        };
        let Some(kept) = kept else { return Ok(Whole { view, payload: None }) };
        // What is to be erased may still be in the table.
        let erased = kept.erased_at.or(erased.filter(|erased| kept.accepted_at <= *erased));
        let view = with_known(view, [("erased_at", erased.map(|at| json!(at.to_string())))]);
        Ok(Whole { view, payload: kept.payload.filter(|_| erased.is_none()) })
    }
}

/// A record as the API shows it. What is not known is left out.
fn view(tenant: &str, event: &str, stored: &StoredRecord) -> Value {
    let StoredRecord { record, ttl_ms } = stored;
    let (matched, owed) = (record.matched.unwrap_or_default(), record.owed.unwrap_or_default());
    let view = json!({
        "tenant": tenant,
        "event_id": event,
        "webhook_id": event_webhook_id(tenant, event),
        "status": EventStatus::of(record),
        "matched": matched,
        "queued": matched.saturating_sub(owed),
        "owed": owed,
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

/// An event of which only history knows: how far its fan-out came is not kept.
fn past(kept: &KeptEvent) -> Value {
    let view = json!({
        "tenant": kept.tenant,
        "event_id": kept.event_id,
        "webhook_id": event_webhook_id(&kept.tenant, &kept.event_id),
        "event_type": kept.event_type,
        "accepted_at": kept.accepted_at.to_string(),
        "correlation_id": kept.correlation_id,
    });
    with_known(view, [("expires_at", kept.expires_at.map(|at| json!(at.to_string())))])
}

/// An event in a list.
fn listed(tenant: &str, event: &ListedEvent) -> Value {
    json!({
        "event_id": event.event_id,
        "event_type": event.event_type,
        "accepted_at": event.accepted_at.to_string(),
        "webhook_id": event_webhook_id(tenant, &event.event_id),
    })
}
