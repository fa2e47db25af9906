//! `GET /webhook-statuses` and `GET /webhook-statuses/{id}`.

use adapters::api::Problem;
use adapters::index::{self, Entry, Finding, Order};
use adapters::ledger::{self, LedgerError};
use adapters::query::Query;
use adapters::redis::{Call, Reply};
use domain::ledger::Record;
use domain::place::Place;
use domain::status::Status;
use domain::time::Millis;
use redis::FromRedisValue as _;
use serde_json::{Value, json};

use crate::Operate;

/// Records in a page, unless the request says otherwise.
const PAGE: usize = 50;
/// Most records in a page.
const MAX_PAGE: usize = 200;

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
            let end = index::end_of(&self.entries, end);
            self.more |= end < self.entries.len();
            self.entries.truncate(end);
            self.findings.truncate(end);
        }
    }
}

impl Operate {
    /// One record.
    pub(crate) async fn status(&self, id: &str) -> Result<Value, Problem> {
        let replies = self.ask(&ledger::read(id)).await?;
        let [get, ttl] = <[_; 2]>::try_from(replies).map_err(|_| away())?;
        let (record, ttl_ms) = ledger::record(get, ttl)
            .map_err(|error| refused(&error))?
            .filter(|(record, _)| record.is_shown())
            .ok_or_else(|| Problem::not_found("There is no webhook with this id, or its record has expired."))?;
        Ok(view(id, &record, ttl_ms, self.clock.now()))
    }

    /// A page of records, newest first, in at most three round trips: indexes,
    /// records, repairs.
    pub(crate) async fn statuses(&self, query: &str) -> Result<Value, Problem> {
        let mut query = Query::of(query);
        let wanted = query.optional("status", Status::named, "must be pending, retrying, delivered or failed");
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let after = query.cursor();
        query.finish()?;

        let page = self.page(wanted, limit, after.as_ref()).await?;
        let lost = self.repair(&page, wanted).await;
        let now = self.clock.now();
        let mut shown = Vec::with_capacity(limit);
        for (at, (entry, finding)) in page.entries.iter().zip(&page.findings).enumerate() {
            match finding {
                Finding::Right(record, ttl_ms) => shown.push(view(&entry.place.id, record, *ttl_ms, now)),
                Finding::Moved(record, ttl_ms) if lost.contains(&at) => {
                    shown.push(view(&entry.place.id, record, *ttl_ms, now));
                }
                Finding::Gone | Finding::Moved(..) => {}
                Finding::Unreadable => return Err(away()),
            }
        }
        let counts: serde_json::Map<String, Value> = Status::ALL
            .iter()
            .zip(&page.counts)
            .map(|(status, count)| (status.as_str().into(), json!(count)))
            .collect();
        let next = page.entries.last().filter(|_| page.more).map(|entry| entry.place.cursor());
        Ok(json!({ "webhooks": shown, "next_cursor": next, "counts": counts }))
    }

    async fn page(&self, wanted: Option<Status>, limit: usize, after: Option<&Place>) -> Result<Page, Problem> {
        let (now, order) = (self.clock.now(), Order::NewestFirst);
        let statuses: Vec<Status> =
            Status::ALL.into_iter().filter(|status| wanted.is_none_or(|w| w == *status)).collect();
        // A few more than asked for, since some entries may be stale.
        let count = limit + limit / 4 + 10;
        let mut calls = index::page(&statuses, order, after, count);
        calls.extend(index::counts(now, self.lifetimes));
        let mut replies = self.ask(&calls).await?.into_iter();
        let pages = replies.by_ref().take(statuses.len()).collect::<Vec<Reply>>().into_iter();
        let (entries, more) = index::entries(&statuses, order, count, pages).map_err(|error| refused(&error))?;
        let counts = replies.map(|reply| u64::from_redis_value(reply?).map_err(Into::into)).collect::<Result<_, _>>();
        let counts = counts.map_err(|error| refused(&LedgerError::Refused("count", error)))?;
        let findings = index::findings(&entries, self.ask(&index::records(&entries)).await?);
        let mut page = Page { entries, findings, more, counts };
        page.cut(limit, wanted);
        Ok(page)
    }

    /// Repairs what the page found wrong. Names the entries whose delivery stood in
    /// no right index and now stands where this listing has been already: they
    /// belong on this page.
    async fn repair(&self, page: &Page, wanted: Option<Status>) -> Vec<usize> {
        let mut calls: Vec<Call> = Vec::new();
        let mut entered = Vec::new();
        let end = page.entries.last().map(|entry| entry.place.clone());
        for (at, (entry, finding)) in page.entries.iter().zip(&page.findings).enumerate() {
            match finding {
                Finding::Gone => calls.push(index::drop_entry(entry)),
                Finding::Moved(record, _) => {
                    let place = Place { at: record.updated_at, id: entry.place.id.clone() };
                    // Not behind this page, where it will be met again.
                    let passed = !page.more || end.as_ref().is_some_and(|end| place >= *end);
                    if wanted.is_none() && passed {
                        entered.push((at, calls.len()));
                    }
                    calls.push(index::enter_lost(record.status, &place));
                    calls.push(index::drop_entry(entry));
                }
                Finding::Right(..) | Finding::Unreadable => {}
            }
        }
        let Ok(replies) = self.ask(&calls).await else { return Vec::new() };
        let was_lost = |call: usize| matches!(replies.get(call), Some(Ok(redis::Value::Int(1))));
        entered.into_iter().filter(|(_, call)| was_lost(*call)).map(|(at, _)| at).collect()
    }

    async fn ask(&self, calls: &[Call]) -> Result<Vec<Reply>, Problem> {
        self.redis.wave(calls).await.map_err(|error| {
            tracing::error!(code = error.code(), error = ?error, "statuses cannot be read");
            away()
        })
    }
}

fn away() -> Problem {
    Problem::unavailable("Statuses cannot be read now; deliveries go on.")
}

fn refused(error: &LedgerError) -> Problem {
    tracing::error!(code = error.code(), error = ?error, "statuses cannot be read");
    away()
}

/// A record as the API shows it. What is not known is left out.
fn view(id: &str, record: &Record, ttl_ms: Option<u64>, now: Millis) -> Value {
    let mut view = json!({
        "webhook_id": id,
        "status": record.status,
        "webhook_url": record.birth.url,
        "attempts": record.birth.attempts,
        "created_at": record.birth.accepted_at.to_string(),
        "updated_at": record.updated_at.to_string(),
        "expires_at": record.birth.expires_at.to_string(),
        "correlation_id": record.birth.correlation_id,
        "in_flight": record.lease.as_ref().is_some_and(|lease| lease.until > now),
    });
    let known = [
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
        ("event_type", record.birth.event_type.as_ref().map(|kind| json!(kind))),
        ("last_status_code", record.last_status_code.map(|code| json!(code))),
        ("error_class", record.error_class.map(|class| json!(class))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
        ("duration_ms", record.duration_ms.map(|ms| json!(ms))),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            view[name] = value;
        }
    }
    view
}
