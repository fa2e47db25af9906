//! Which deliveries to an endpoint wait: a sorted set an endpoint, scored by the next attempt.
//! Written beside the records, not with them, so readers check each member against its record,
//! and remove what they find wrong.

use std::collections::BTreeMap;

use domain::place::Place;
use domain::record::Record;
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use redis::FromRedisValue as _;

use super::indexes::{Order, drop_member, page_of, places};
use super::query::{Query, QueryError, Trip};
use super::records::{self, StoredRecord};
use super::transport::RedisPort;
use crate::telemetry::chain;

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Whose it is.
    pub endpoint: &'a str,
    /// Its id.
    pub delivery_id: &'a str,
    /// When it will be tried again; `None` if it is finished.
    pub next_attempt_at: Option<Millis>,
}

/// Deliveries that wait.
#[derive(Debug)]
pub struct Page {
    /// In the order of the next attempt. The place is where each stands in the list.
    pub deliveries: Vec<(Place, StoredRecord)>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Place>,
}

fn key(endpoint: &str) -> String {
    format!("waiting:{endpoint}")
}

/// Enters deliveries that wait and takes out those that do not: at most three commands for each
/// endpoint, however many they are. Of two changes of one delivery the later one counts.
pub fn waits(changes: &[Change<'_>], lifetimes: Lifetimes) -> Query<()> {
    let mut endpoints: BTreeMap<&str, BTreeMap<&str, Option<Millis>>> = BTreeMap::new();
    for change in changes {
        endpoints.entry(change.endpoint).or_default().insert(change.delivery_id, change.next_attempt_at);
    }
    let mut calls = Vec::new();
    for (endpoint, deliveries) in endpoints {
        let finished: Vec<&str> =
            deliveries.iter().filter(|(_, next)| next.is_none()).map(|(delivery_id, _)| *delivery_id).collect();
        if finished.len() < deliveries.len() {
            let mut add = redis::cmd("ZADD");
            add.arg(key(endpoint));
            for (delivery_id, next) in &deliveries {
                if let Some(next) = next {
                    add.arg(next.0).arg(delivery_id);
                }
            }
            let mut expire = redis::cmd("PEXPIRE");
            expire.arg(key(endpoint)).arg(lifetimes.unfinished_ms);
            calls.extend([add.into(), expire.into()]);
        }
        if !finished.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(key(endpoint)).arg(finished);
            calls.push(remove.into());
        }
    }
    Query::write("waits", calls)
}

/// The first `limit` deliveries of an endpoint that wait, behind `after`, in at most three round
/// trips: list, records, repairs. There may be fewer, or none, and more behind them.
///
/// # Errors
/// When Redis is away or gives no usable reply.
pub async fn read(
    redis: &dyn RedisPort,
    endpoint: &str,
    after: Option<&Place>,
    limit: usize,
) -> Result<Page, QueryError> {
    let (found, more) = page(endpoint, after, limit).run(redis).await?;
    let next = found.last().filter(|_| more).cloned();
    let mut trip = Trip::default();
    let tickets = trip.add_all(found.iter().map(|place| records::read(&place.id)));
    let mut replies = trip.run(redis).await?;
    let mut deliveries = Vec::with_capacity(found.len());
    let mut repairs = Trip::default();
    for (place, ticket) in found.into_iter().zip(tickets) {
        match ticket.take(&mut replies) {
            Ok(Some(stored)) if waits_by(&stored.record) => deliveries.push((place, stored)),
            Err(error) if !error.is_answer() => return Err(error.into()),
            Ok(_) => drop(repairs.add(drop_member(key(endpoint), &place))),
            Err(error) => {
                tracing::error!(webhook_id = %place.id, code = error.code(), error = %chain(&error), "a record cannot be read");
                drop(repairs.add(drop_member(key(endpoint), &place)));
            }
        }
    }
    // What is not repaired now is repaired by the next reader.
    drop(repairs.run(redis).await);
    Ok(Page { deliveries, next })
}

/// Whether the list is right about a delivery, by its record.
fn waits_by(record: &Record) -> bool {
    match record.status {
        Status::Pending | Status::Retrying => record.is_shown(),
        Status::Delivered | Status::Failed => false,
    }
}

/// The first `limit` members behind `after`, and whether there are more.
fn page(endpoint: &str, after: Option<&Place>, limit: usize) -> Query<(Vec<Place>, bool)> {
    // One more than asked for tells whether there are more.
    let call = page_of(key(endpoint), Order::OldestFirst, after, limit + 1);
    Query::one("page of waiting", call, move |value| {
        let mut found = places(value)?;
        let more = found.len() > limit;
        found.truncate(limit);
        Some((found, more))
    })
}

/// How many deliveries of an endpoint wait. Some may be finished by now.
pub fn count(endpoint: &str) -> Query<u64> {
    let mut command = redis::cmd("ZCARD");
    command.arg(key(endpoint));
    Query::one("count waiting", command, |value| u64::from_redis_value(value).ok())
}

/// Forgets what waits for an endpoint.
pub fn remove_all(endpoint: &str) -> Query<()> {
    let mut delete = redis::cmd("DEL");
    delete.arg(key(endpoint));
    Query::write("remove waiting", vec![delete.into()])
}
