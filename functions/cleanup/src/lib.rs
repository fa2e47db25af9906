//! Removes what is no longer wanted and repairs what went wrong: by
//! `POST /webhook-cleanup` and once a day. Work is bounded and goes on where it
//! ended. Removing a record never stops a delivery: of an unfinished one only the
//! view is removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapters::api::{self, Problem};
use adapters::clock::Clock;
use adapters::config::CleanupConfig;
use adapters::index::{self, Entry, Finding, Order};
use adapters::ledger::{self, LedgerError};
use adapters::query::Query;
use adapters::redis::{Call, Reply, Unavailable, Wire};
use domain::ledger::{Record, Removal};
use domain::place::Place;
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use lambda_http::http::{Response, StatusCode};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};
use serde::Serialize;

/// Entries that are looked at together.
const PAGE: usize = 250;
/// Most entries that one request looks at.
const REQUEST: usize = 5_000;
/// When a request's work ends, done or not: the gateway gives it 30 s.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// When the daily work ends, done or not: its function has 300 s.
const SCHEDULE_TIME: Duration = Duration::from_secs(240);
/// Oldest age that can be asked for, in days.
const MAX_DAYS: usize = 3650;
/// A delivery whose deadline is past by this is not heard of any more.
const LONG_PAST: Duration = Duration::from_secs(3600);

/// What is to be removed.
#[derive(Clone, Debug)]
struct Plan {
    /// Whose indexes are walked through.
    walk: Vec<Status>,
    /// Records of these statuses are removed.
    remove: Vec<Status>,
    /// Only those that did not change since.
    before: Millis,
    dry_run: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    deleted: u64,
    scanned: u64,
    by_status: BTreeMap<&'static str, u64>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    index_entries_removed: u64,
    index_entries_added: u64,
    ttl_set: u64,
    outcome_unknown: u64,
    dry_run: bool,
}

/// Why work ended early. What was done stays done.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error(transparent)]
    Away(#[from] Unavailable),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What one record needs.
enum Need<'a> {
    /// Its index entry is wrong.
    Reindex(Option<&'a Record>),
    /// It has no TTL.
    Life(&'a Record),
    /// It is not wanted any more.
    Removal(Status),
    /// It was never heard of again.
    Abandonment,
}

/// The handler and what it works with.
pub struct Cleanup {
    redis: Arc<dyn Wire>,
    clock: Clock,
    lifetimes: Lifetimes,
}

impl Cleanup {
    /// A handler with these settings.
    pub fn new(config: &CleanupConfig, redis: Arc<dyn Wire>, clock: Clock) -> Self {
        Self { redis, clock, lifetimes: config.lifetimes }
    }

    /// Answers one request, or does the daily work if the event is not a request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = api::correlation_id(request.headers());
        if matches!(request.request_context_ref(), Some(RequestContext::PassThrough)) {
            let (report, complete) = self.daily().await;
            let code = if complete { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            return api::json(code, &report, &correlation_id);
        }
        match self.clean(request.uri().query().unwrap_or_default()).await {
            Ok(report) => api::json(StatusCode::OK, &report, &correlation_id),
            Err(problem) => problem.response(&correlation_id),
        }
    }

    /// Repairs indexes and TTLs, and deletes nothing that its TTL has not.
    /// Says whether it came to its end.
    pub async fn daily(&self) -> (Report, bool) {
        let now = self.clock.now();
        let plan = Plan { walk: Status::ALL.to_vec(), remove: Vec::new(), before: now, dry_run: false };
        let (report, error) = self.walk(&plan, None, usize::MAX, now.after(SCHEDULE_TIME)).await;
        let shown = serde_json::to_string(&report).unwrap_or_default();
        match error {
            None => tracing::info!(report = %shown, "daily cleanup"),
            Some(ref error) => tracing::error!(report = %shown, error = ?error, "daily cleanup ended early"),
        }
        (report, error.is_none())
    }

    async fn clean(&self, query: &str) -> Result<Report, Problem> {
        let mut query = Query::of(query);
        let status = query.optional("status", Status::named, "must be pending, retrying, delivered or failed");
        let days = query.number("older_than_days", 0, 0..=MAX_DAYS);
        let dry_run = query.flag("dry_run");
        let after = query.cursor();
        query.finish()?;
        let now = self.clock.now();
        let age = Duration::from_secs(86_400) * u32::try_from(days).unwrap_or(u32::MAX);
        let before = Millis(now.0.saturating_sub(domain::time::whole_ms(age)));
        let plan = Plan {
            walk: status.map_or(Status::ALL.to_vec(), |status| vec![status]),
            remove: status.map_or(vec![Status::Delivered, Status::Failed], |status| vec![status]),
            before,
            dry_run,
        };
        let (report, error) = self.walk(&plan, after, REQUEST, now.after(REQUEST_TIME)).await;
        match error {
            None => Ok(report),
            Some(error) => {
                tracing::error!(error = ?error, "cleanup ended early");
                Err(Problem::unavailable("Records cannot be read now; nothing but what was asked for is removed."))
            }
        }
    }

    /// Walks through the indexes, the oldest change first.
    async fn walk(&self, plan: &Plan, after: Option<Place>, most: usize, until: Millis) -> (Report, Option<WalkError>) {
        let by_status = plan.remove.iter().map(|status| (status.as_str(), 0)).collect();
        let mut report = Report { by_status, dry_run: plan.dry_run, ..Report::default() };
        let mut after = after;
        let mut seen = 0;
        loop {
            let (entries, more) = match self.page(plan, after.as_ref()).await {
                Ok(page) => page,
                Err(error) => return (report, Some(error)),
            };
            if let Err(error) = self.tidy(plan, &entries, &mut report).await {
                return (report, Some(error));
            }
            seen += entries.len();
            after = entries.last().map(|entry| entry.place.clone()).or(after);
            if !more {
                report.complete = true;
                return (report, None);
            }
            if seen >= most || self.clock.now() >= until {
                report.cursor = after.as_ref().map(Place::cursor);
                return (report, None);
            }
        }
    }

    async fn page(&self, plan: &Plan, after: Option<&Place>) -> Result<(Vec<Entry>, bool), WalkError> {
        let replies = self.redis.wave(&index::page(&plan.walk, Order::OldestFirst, after, PAGE)).await?;
        Ok(index::entries(&plan.walk, Order::OldestFirst, PAGE, replies.into_iter())?)
    }

    /// Does what the records of a page need: reads them, changes them, and then
    /// their index.
    async fn tidy(&self, plan: &Plan, entries: &[Entry], report: &mut Report) -> Result<(), WalkError> {
        let findings = index::findings(entries, self.redis.wave(&index::records(entries)).await?);
        report.scanned += entries.len() as u64;
        let mut needs = Vec::new();
        for (entry, finding) in entries.iter().zip(&findings) {
            needs.extend(self.needs(plan, finding).into_iter().map(|need| (entry, need)));
        }
        let calls: Vec<Call> = needs.iter().flat_map(|(entry, need)| self.calls(plan, entry, need)).collect();
        if plan.dry_run {
            for (_, need) in &needs {
                report.count(need, true);
            }
            return Ok(());
        }
        let mut replies = self.redis.wave(&calls).await?.into_iter();
        let mut index_calls = Vec::new();
        for (entry, need) in &needs {
            let Some(reply) = replies.next() else { break };
            let done = self.done(need, reply);
            if matches!(need, Need::Reindex(Some(_))) {
                replies.next();
            }
            report.count(need, done);
            match need {
                Need::Removal(_) if done => index_calls.push(index::drop_entry(entry)),
                Need::Abandonment if done => {
                    index_calls.extend(index::moved(
                        &[(entry.place.id.clone(), Status::Failed)],
                        self.clock.now(),
                        self.lifetimes,
                    ));
                }
                Need::Removal(_) | Need::Abandonment | Need::Reindex(_) | Need::Life(_) => {}
            }
        }
        self.redis.wave(&index_calls).await?;
        Ok(())
    }

    fn needs<'a>(&self, plan: &Plan, finding: &'a Finding) -> Vec<Need<'a>> {
        let now = self.clock.now();
        let (record, ttl) = match finding {
            Finding::Right(record, ttl) => (record, ttl),
            Finding::Gone => return vec![Need::Reindex(None)],
            // Its own index brings it up again.
            Finding::Moved(record, _) => return vec![Need::Reindex(Some(record))],
            Finding::Unreadable => return Vec::new(),
        };
        if plan.remove.contains(&record.status) && record.updated_at <= plan.before {
            return vec![Need::Removal(record.status)];
        }
        let mut needs = Vec::new();
        if ttl.is_none() {
            needs.push(Need::Life(record));
        }
        let unfinished = matches!(record.status, Status::Pending | Status::Retrying);
        if unfinished && record.birth.expires_at.after(LONG_PAST) < now {
            needs.push(Need::Abandonment);
        }
        needs
    }

    fn calls(&self, plan: &Plan, entry: &Entry, need: &Need<'_>) -> Vec<Call> {
        let id = &entry.place.id;
        match need {
            Need::Reindex(None) => vec![index::drop_entry(entry)],
            Need::Reindex(Some(record)) => {
                let place = Place { at: record.updated_at, id: id.clone() };
                vec![index::enter_lost(record.status, &place), index::drop_entry(entry)]
            }
            Need::Life(record) => vec![ledger::mortal(id, record, self.clock.now(), self.lifetimes)],
            Need::Removal(_) => vec![ledger::remove(id, plan.before)],
            Need::Abandonment => {
                let before = Millis(self.clock.now().0.saturating_sub(domain::time::whole_ms(LONG_PAST)));
                vec![ledger::abandon(id, before, self.lifetimes)]
            }
        }
    }

    fn done(&self, need: &Need<'_>, reply: Reply) -> bool {
        let done = match need {
            Need::Reindex(_) | Need::Life(_) => {
                reply.map(|value| value == redis::Value::Int(1)).map_err(|error| LedgerError::Refused("repair", error))
            }
            Need::Removal(_) => ledger::removed(reply).map(|removal| removal != Removal::Kept),
            Need::Abandonment => ledger::abandoned(reply),
        };
        done.unwrap_or_else(|error| {
            tracing::error!(code = error.code(), error = ?error, "a record is not cleaned up");
            false
        })
    }
}

impl Report {
    fn count(&mut self, need: &Need<'_>, done: bool) {
        let one = u64::from(done);
        match need {
            Need::Reindex(None) => self.index_entries_removed += one,
            Need::Reindex(Some(_)) => {
                self.index_entries_removed += 1;
                self.index_entries_added += one;
            }
            Need::Life(_) => self.ttl_set += one,
            Need::Removal(status) => {
                self.deleted += one;
                *self.by_status.entry(status.as_str()).or_default() += one;
            }
            Need::Abandonment => self.outcome_unknown += one,
        }
    }
}
