//! `GET /webhook-statuses` and `GET /webhook-statuses/{id}`.

use adapters::history::{Direction, HistoryError, Part};
use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::indexes::{self, Entry, Finding, Kind, Order};
use adapters::redis::query::{QueryError, Replies, Ticket, Trip};
use adapters::redis::records::{self, StoredRecord};
use adapters::telemetry::chain;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::history::names;
use domain::place::Place;
use domain::record::Record;
use domain::status::Status;
use domain::time::Millis;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::Operate;
use crate::history;
use crate::known::with_known;
use crate::lives;
use crate::request::{MAX_PAGE, PAGE, STATUSES};

/// Ends of one webhook that are looked at.
const ENDS: usize = 20;

/// What a page was made from: entries in order, and what their records say.
struct Page {
    entries: Vec<Entry>,
    findings: Vec<Finding>,
    /// Whether the indexes go on behind these entries.
    more: bool,
    counts: Vec<u64>,
}

impl Page {
    /// Ends the page before it could show more than `limit` records: the next one
    /// begins there.
    fn cut(&mut self, limit: usize, wanted: Option<Status>) {
        let takes_room = |finding: &Finding| match finding {
            Finding::Right(..) | Finding::Unreadable => true,
            Finding::Moved(..) => wanted.is_none(),
            Finding::Gone => false,
        };
        let mut fitting = self.findings.iter().enumerate().filter(|(_, finding)| takes_room(finding)).skip(limit);
        if let Some((end, _)) = fitting.next() {
            let end = indexes::end_of(&self.entries, end);
            self.more |= end < self.entries.len();
            self.entries.truncate(end);
            self.findings.truncate(end);
        }
    }
}

impl Operate {
    /// One record. What Redis no longer has may be in history.
    pub(crate) async fn status(&self, id: &str) -> Result<Value, Problem> {
        match self.recorded_status(id).await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => {
                let unknown = || Problem::not_found("There is no webhook with this id, or its record has expired.");
                self.past_status(id).await.map_err(|error| history::unreadable(&error))?.ok_or_else(unknown)
            }
            Err(problem) => self.past_status(id).await.ok().flatten().ok_or(problem),
        }
    }

    async fn recorded_status(&self, id: &str) -> Result<Option<Value>, Problem> {
        let mut trip = Trip::default();
        let stored = trip.add(records::read(id));
        let entered = trip.add(indexes::entered_in(id));
        let mut replies = self.round_trip(trip).await?;
        let stored = stored.take(&mut replies).map_err(|error| unreadable(&error.into()))?;
        let Some(stored) = stored.filter(|stored| stored.record.is_shown()) else { return Ok(None) };
        if entered.take(&mut replies).is_ok_and(|entered| !entered.contains(&stored.record.status)) {
            self.enter_unlisted(id, &stored.record).await;
        }
        Ok(Some(view(id, &stored, self.clock.now())))
    }

    /// How it ended. The webhook that was accepted last under this id counts; of its ends,
    /// delivered outranks every other.
    async fn past_status(&self, id: &str) -> Result<Option<Value>, HistoryError> {
        let newest = Part { direction: Direction::Backwards, limit: ENDS, ..Part::of(names::webhook(id)) };
        let slice = self.history.part(&newest, self.clock.now()).await?;
        let ends = slice.rows.iter().filter_map(history::read::<EndedDelivery>);
        let last = ends.max_by_key(|end| (end.accepted_at, end.is_delivered(), end.hop));
        Ok(last.map(|end| past(&end)))
    }

    /// Enters a record that stands in no listing: a Redis that was full, or restored from a
    /// snapshot, may have it without its index entry, and a listing cannot find that out.
    async fn enter_unlisted(&self, id: &str, record: &Record) {
        let place = Place { at: record.updated_at, id: id.to_owned() };
        let entered = self.indexes.enter_lost(record.status, &place).run(self.redis.as_ref()).await;
        match entered {
            Ok(_) => tracing::info!(webhook_id = %id, "a record that was in no listing is entered"),
            Err(error) => {
                tracing::warn!(webhook_id = %id, code = error.code(), error = %chain(&error), "a record is in no listing");
            }
        }
    }

    /// A page of records, newest first, in at most three round trips: indexes,
    /// records, repairs.
    pub(crate) async fn statuses(&self, query: &str) -> Result<Value, Problem> {
        let mut query = QueryString::of(query);
        let wanted = query.optional("status", |name| name.parse().ok(), &STATUSES);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let after = query.cursor();
        query.finish()?;

        let page = self.page(wanted, limit, after.as_ref()).await?;
        let lost = self.repair(&page, wanted).await;
        let now = self.clock.now();
        let mut shown = Vec::with_capacity(limit);
        for (at, (entry, finding)) in page.entries.iter().zip(&page.findings).enumerate() {
            match finding {
                Finding::Right(stored) => shown.push(view(&entry.place.id, stored, now)),
                Finding::Moved(stored) if lost.contains(&at) => shown.push(view(&entry.place.id, stored, now)),
                Finding::Gone | Finding::Moved(..) => {}
                Finding::Unreadable => return Err(away()),
            }
        }
        let counts: serde_json::Map<String, Value> =
            Status::iter().zip(&page.counts).map(|(status, count)| (status.as_str().into(), json!(count))).collect();
        let next = page.entries.last().filter(|_| page.more).map(|entry| entry.place.cursor());
        Ok(json!({ "webhooks": shown, "next_cursor": next, "counts": counts }))
    }

    async fn page(&self, wanted: Option<Status>, limit: usize, after: Option<&Place>) -> Result<Page, Problem> {
        let (now, order) = (self.clock.now(), Order::NewestFirst);
        let statuses: Vec<Status> = Status::iter().filter(|status| wanted.is_none_or(|w| w == *status)).collect();
        // A few more than asked for, since some entries may be stale.
        let count = limit + limit / 4 + 10;
        let mut trip = Trip::default();
        let entries = trip.add(indexes::page(Kind::Webhooks, &statuses, order, after, count));
        let counts = trip.add(self.indexes.counts(Kind::Webhooks, now));
        let mut replies = self.round_trip(trip).await?;
        let (entries, more) = entries.take(&mut replies).map_err(|error| unreadable(&error.into()))?;
        let counts = counts.take(&mut replies).map_err(|error| unreadable(&error.into()))?;

        let mut trip = Trip::default();
        let asked = self.indexes.ask(&mut trip, &entries);
        let mut replies = self.round_trip(trip).await?;
        let findings = asked.into_iter().map(|asked| asked.finding(&mut replies)).collect();
        let mut page = Page { entries, findings, more, counts };
        page.cut(limit, wanted);
        Ok(page)
    }

    /// Repairs what the page found wrong. Names the entries whose delivery stood in
    /// no right index and now stands where this listing has been already: they
    /// belong on this page.
    async fn repair(&self, page: &Page, wanted: Option<Status>) -> Vec<usize> {
        let mut trip = Trip::default();
        let mut entered = Vec::new();
        let end = page.entries.last().map(|entry| entry.place.clone());
        for (at, (entry, finding)) in page.entries.iter().zip(&page.findings).enumerate() {
            match finding {
                Finding::Gone => drop(trip.add(indexes::drop_entry(entry))),
                Finding::Moved(stored) => {
                    let record = &stored.record;
                    let place = Place { at: record.updated_at, id: entry.place.id.clone() };
                    // Not behind this page, where it will be met again.
                    let passed = !page.more || end.as_ref().is_some_and(|end| place >= *end);
                    // An entry in a shard of an earlier number of shards has been shown.
                    let elsewhere = trip.add(self.indexes.is_in_other_shard(&place.id, record.status));
                    let was_lost = trip.add(self.indexes.enter_lost(record.status, &place));
                    entered.extend((wanted.is_none() && passed).then_some((at, was_lost, elsewhere)));
                    drop(trip.add(indexes::drop_entry(entry)));
                }
                Finding::Right(..) | Finding::Unreadable => {}
            }
        }
        // What is not repaired now is repaired by the next reader.
        let Ok(mut replies) = self.round_trip(trip).await else { return Vec::new() };
        let mut is = |ticket: Ticket<bool>| ticket.take(&mut replies).is_ok_and(|answer| answer);
        let lost = |(at, was_lost, elsewhere)| (is(was_lost) && !is(elsewhere)).then_some(at);
        entered.into_iter().filter_map(lost).collect()
    }

    async fn round_trip(&self, trip: Trip) -> Result<Replies, Problem> {
        trip.run(self.redis.as_ref()).await.map_err(|error| unreadable(&error.into()))
    }
}

fn away() -> Problem {
    Problem::unavailable("Statuses cannot be read now; deliveries go on.")
}

pub(crate) fn unreadable(error: &QueryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(error), "statuses cannot be read");
    away()
}

/// A record as the API shows it. What is not known is left out.
fn view(id: &str, stored: &StoredRecord, now: Millis) -> Value {
    let StoredRecord { record, ttl_ms } = stored;
    let view = json!({
        "webhook_id": id,
        "status": record.status,
        "webhook_url": record.details.url,
        "attempts": record.details.attempts,
        "created_at": record.details.accepted_at.to_string(),
        "updated_at": record.updated_at.to_string(),
        "expires_at": record.details.expires_at.to_string(),
        "correlation_id": record.details.correlation_id,
        "in_flight": record.lease.as_ref().is_some_and(|lease| lease.until > now),
    });
    let known = [
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
        ("event_type", record.details.event_type.as_ref().map(|kind| json!(kind))),
        ("last_status_code", record.last_status_code.map(|code| json!(code))),
        ("error_class", record.error_class.map(|class| json!(class))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
        ("duration_ms", record.duration_ms.map(|ms| json!(ms))),
    ];
    with_known(view, known)
}

/// The same of one that only history knows.
fn past(end: &EndedDelivery) -> Value {
    let reason = match end.result {
        DeliveryEnd::Delivered => None,
        DeliveryEnd::GivenUp(reason) => Some(reason),
    };
    let last = end.history.attempts.last();
    let view = json!({
        "webhook_id": end.webhook_id,
        "status": lives::status_of(end.result),
        "webhook_url": end.url,
        "attempts": end.attempts,
        "created_at": end.accepted_at.to_string(),
        "updated_at": end.ended_at.to_string(),
        "correlation_id": end.correlation_id,
        "in_flight": false,
        "from_history": true,
        "history": lives::attempts(&end.history),
        "history_count": end.history.count,
    });
    let known = [
        ("event_type", end.event_type.as_ref().map(|kind| json!(kind))),
        ("reason", reason.map(|reason| json!(reason))),
        ("last_status_code", last.and_then(|last| last.code).map(|code| json!(code))),
        ("error_class", last.and_then(|last| last.class).map(|class| json!(class))),
        ("error", end.error.as_ref().map(|error| json!(error))),
        ("duration_ms", last.map(|last| json!(last.ms))),
    ];
    with_known(view, known)
}
