//! `GET /tenants/{tenant}/events/{event}/deliveries/{endpoint}`: one event's delivery to one
//! endpoint, with every life and every attempt.

use std::cmp::Ordering;

use adapters::history::{HistoryError, Part};
use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::query::{QueryError, Trip};
use adapters::redis::records::{self, StoredRecord};
use domain::history::delivery::{EndedDelivery, EndedTarget};
use domain::history::names;
use domain::names::is_event_id;
use domain::status::Status;
use domain::time::Millis;
use futures_util::future::join;
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::delivery_names;
use crate::history;
use crate::known::with_known;
use crate::lives::{self, LifeName};
use crate::statuses::unreadable;

/// Most ends of one delivery.
const MAX_ENDS: usize = 200;
/// Most queries for them.
const MAX_QUERIES: usize = 4;

/// A life and its record.
type Recorded = (LifeName, StoredRecord);
/// A life and how it ended.
type Ended = (EndedTarget, EndedDelivery);

impl Operate {
    /// One delivery, as Redis and history know it.
    pub(crate) async fn delivery(
        &self,
        tenant: &str,
        event: &str,
        endpoint: &str,
        query: &str,
    ) -> Result<Value, Problem> {
        let [tenant, event, endpoint] = delivery_names(tenant, event, endpoint)?;
        let mut query = QueryString::of(query);
        let read = |text: &str| is_event_id(text).then(|| text.to_owned());
        let life = query.optional("life", read, "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen");
        query.finish()?;
        let first = LifeName { tenant, event, endpoint, life: None };
        let other = life.map(|life| LifeName { life: Some(life), ..first.clone() });
        let named = std::iter::once(first.clone()).chain(other).collect();
        let (recorded, ended) = join(self.recorded(named), self.ends(&first)).await;
        let recorded = recorded.map_err(|error| unreadable(&error));
        let ended = ended.map_err(|error| history::unreadable(&error));
        let (recorded, missing) = recorded.map_or_else(|problem| (Vec::new(), Some(problem)), |found| (found, None));
        let (ended, missing) = match ended {
            Ok(found) => (found, missing),
            Err(problem) => (Vec::new(), missing.or(Some(problem))),
        };
        whole(&first, &recorded, &ended, self.clock.now()).ok_or_else(|| {
            missing.unwrap_or_else(|| Problem::not_found("There is no such delivery, or it is no longer kept."))
        })
    }

    /// Those of the lives that Redis knows, in one round trip.
    async fn recorded(&self, names: Vec<LifeName>) -> Result<Vec<Recorded>, QueryError> {
        let mut trip = Trip::default();
        let tickets = trip.add_all(names.iter().map(|name| records::read(&name.delivery_id())));
        let mut replies = trip.run(self.redis.as_ref()).await?;
        let mut found = Vec::new();
        for (name, ticket) in names.into_iter().zip(tickets) {
            // An endpoint belongs to one tenant. Another one learns nothing of its deliveries.
            let stored = ticket
                .take(&mut replies)?
                .filter(|stored| stored.record.is_shown())
                .filter(|stored| stored.record.details.tenant.as_ref() == Some(&name.tenant));
            found.extend(stored.map(|stored| (name, stored)));
        }
        Ok(found)
    }

    /// How it ended in all its lives, as they ended.
    async fn ends(&self, name: &LifeName) -> Result<Vec<Ended>, HistoryError> {
        let prefix = format!("{}#", name.endpoint);
        let mut part = Part {
            by_event: true,
            after: Some(prefix.clone()),
            before: Some(names::end_of(&prefix)),
            limit: MAX_ENDS,
            ..Part::of(names::event(&name.tenant, &name.event))
        };
        let mut ends: Vec<EndedDelivery> = Vec::new();
        for _ in 0..MAX_QUERIES {
            let slice = self.history.part(&part, self.clock.now()).await?;
            ends.extend(slice.rows.iter().filter_map(history::read));
            match slice.next {
                Some(next) if ends.len() < MAX_ENDS => part.after = Some(next),
                Some(_) | None => break,
            }
        }
        ends.sort_by_key(|end| end.ended_at);
        Ok(ends.into_iter().filter_map(|end| Some((end.target.clone()?, end))).collect())
    }
}

/// The delivery with all its lives; `None` if none is known.
fn whole(first: &LifeName, recorded: &[Recorded], ended: &[Ended], now: Millis) -> Option<Value> {
    let view = match (recorded.first(), last_of(first, ended)) {
        (Some((name, stored)), last) if last.is_none_or(|last| tells_more(name, stored, last)) => {
            view(name, stored, now)
        }
        (_, last) => past(last?),
    };
    let unended = recorded.iter().filter(|life| !is_among(life, ended));
    let unended = unended.map(|(name, stored)| lives::recorded(name, stored, now));
    let lives = ended.iter().map(|(target, end)| lives::ended(target, end)).chain(unended);
    Some(with_known(view, [("lives", Some(json!(lives.collect::<Vec<_>>())))]))
}

/// Whether a record says more of where the delivery stands than its last end does. An id that
/// was used again, and a record that was restored, do not.
fn tells_more(name: &LifeName, stored: &StoredRecord, (target, end): &Ended) -> bool {
    if name.life != target.life {
        return name.life.is_none();
    }
    let record = &stored.record;
    let is_outranked = end.is_delivered() && record.status != Status::Delivered;
    match record.details.accepted_at.cmp(&end.accepted_at) {
        Ordering::Greater => true,
        Ordering::Equal => !is_outranked,
        Ordering::Less => false,
    }
}

/// Whether history has what a record says.
fn is_among((name, stored): &Recorded, ended: &[Ended]) -> bool {
    let record = &stored.record;
    ended.iter().any(|(target, end)| {
        let is_that = target.life == name.life && end.accepted_at == record.details.accepted_at;
        let is_delivered = end.is_delivered() && record.status == lives::status_of(end.result);
        is_that && (end.hop >= record.hop || is_delivered)
    })
}

/// The last end of the first life, or of any if the first one is not known. Delivered outranks
/// every other.
fn last_of<'e>(first: &LifeName, ended: &'e [Ended]) -> Option<&'e Ended> {
    ended.iter().max_by_key(|(target, end)| {
        let accepted_at = end.accepted_at;
        (target.life == first.life, accepted_at, end.is_delivered(), end.hop, end.ended_at)
    })
}

/// A record as the API shows it. What is not known is left out.
fn view(name: &LifeName, stored: &StoredRecord, now: Millis) -> Value {
    let StoredRecord { record, ttl_ms } = stored;
    let known = [
        ("tenant", Some(json!(name.tenant))),
        ("updated_at", Some(json!(record.updated_at.to_string()))),
        ("expires_at", Some(json!(record.details.expires_at.to_string()))),
        ("in_flight", Some(json!(lives::is_in_flight(stored, now)))),
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
    ];
    with_known(without(lives::recorded(name, stored, now)), known)
}

/// The same of one that only history knows.
fn past((target, end): &Ended) -> Value {
    let known = [
        ("tenant", Some(json!(target.tenant))),
        ("updated_at", Some(json!(end.ended_at.to_string()))),
        ("in_flight", Some(json!(false))),
    ];
    with_known(without(lives::ended(target, end)), known)
}

/// The delivery tells of its state, and its lives of the rest.
fn without(mut life: Value) -> Value {
    if let Some(fields) = life.as_object_mut() {
        for name in ["life", "hop", "result", "ended_at"] {
            fields.remove(name);
        }
    }
    life
}
