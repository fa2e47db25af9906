//! Removes what is no longer wanted and repairs what went wrong: by
//! `POST /webhook-cleanup` and once a day. Work is bounded and goes on where it
//! ended. Removing a record never stops a delivery: of an unfinished one only the
//! view is removed. Once a day it also has `fanout` end what endpoints were owed for too long.

pub mod config;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue, QueueName};
use adapters::clock::Clock;
use adapters::http::answer::{self, Problem};
use adapters::http::entry;
use adapters::http::query::QueryString;
use adapters::redis::indexes::{self, Entry, Finding, Indexes, Kind, Order};
use adapters::redis::query::{QueryError, Replies, ReplyError, Ticket, Trip};
use adapters::redis::records;
use adapters::redis::transport::RedisPort;
use adapters::telemetry::chain;
use domain::fault::listed;
use domain::job::JobPage;
use domain::place::Place;
use domain::record::{Record, Removal};
use domain::status::{Lifetimes, Status};
use domain::time::{Millis, whole_ms};
use lambda_http::Request;
use lambda_http::http::{Response, StatusCode};
use serde::Serialize;
use strum::{IntoEnumIterator as _, VariantNames as _};

use crate::config::Config;

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
    /// Which deliveries: a request is only about direct webhooks.
    kind: Kind,
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
pub struct CleanupReport {
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

/// What one record needs.
enum Need<'a> {
    /// Its index entry is wrong.
    Reindex(Option<&'a Record>),
    /// Its index entry stands in another shard than it is entered in now.
    Misplaced,
    /// It has no TTL.
    Life(&'a Record),
    /// It is not wanted any more.
    Removal(Status),
    /// It was never heard of again.
    Abandonment,
}

/// The handler and what it works with.
pub struct Cleanup {
    redis: Arc<dyn RedisPort>,
    queue: Arc<dyn Queue>,
    clock: Clock,
    lifetimes: Lifetimes,
    indexes: Indexes,
    owed_life: Duration,
}

impl Cleanup {
    /// A handler with these settings.
    pub fn new(config: &Config, redis: Arc<dyn RedisPort>, queue: Arc<dyn Queue>, clock: Clock) -> Self {
        let (lifetimes, indexes, owed_life) = (config.lives.records, config.lives.indexes, config.owed_life);
        Self { redis, queue, clock, lifetimes, indexes, owed_life }
    }

    /// Answers one request, or does the daily work if the event is not a request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        if entry::is_schedule(&request) {
            let (report, complete) = self.daily().await;
            let code = if complete { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            return answer::json(code, &report, &correlation_id);
        }
        let cleaned = match entry::enter(request) {
            Ok(request) => self.clean(request.uri().query().unwrap_or_default()).await,
            Err(problem) => Err(problem),
        };
        match cleaned {
            Ok(report) => answer::json(StatusCode::OK, &report, &correlation_id),
            Err(problem) => problem.response(&correlation_id),
        }
    }

    /// Queues the end of what was owed for too long, repairs indexes and TTLs, and deletes
    /// nothing that its TTL has not. Returns whether it finished.
    pub async fn daily(&self) -> (CleanupReport, bool) {
        let now = self.clock.now();
        let mut report = CleanupReport { complete: true, ..CleanupReport::default() };
        let is_queued = self.expire_owed(now).await;
        let mut error = None;
        for (kind, ends_at) in Kind::ALL.into_iter().zip([now.after(SCHEDULE_TIME / 2), now.after(SCHEDULE_TIME)]) {
            let plan = Plan { kind, walk: Status::iter().collect(), remove: Vec::new(), before: now, dry_run: false };
            let (walked, failed) = self.walk(&plan, None, usize::MAX, ends_at).await;
            report.add(walked);
            error = error.or(failed);
        }
        let shown = serde_json::to_string(&report).unwrap_or_default();
        match error {
            None => tracing::info!(report = %shown, "daily cleanup"),
            Some(ref error) => tracing::error!(report = %shown, error = %chain(error), "daily cleanup ended early"),
        }
        (report, error.is_none() && is_queued)
    }

    /// Queues the walk that ends what endpoints were owed for too long. All of one day are one.
    /// Says whether the queue has it.
    async fn expire_owed(&self, now: Millis) -> bool {
        let before = Millis(now.0.saturating_sub(whole_ms(self.owed_life)));
        let page = JobPage::expiry(before, now);
        let Ok(body) = page.encode() else { return false };
        let message = Outgoing::new(body, page.tenant, 0);
        let sent = self.queue.send(QueueName::Event, vec![message]).await;
        for error in sent.iter().filter_map(|sent| sent.as_ref().err()) {
            tracing::error!(code = error.code(), error = %chain(error), "the end of what is owed for too long is not queued");
        }
        sent.iter().all(Result::is_ok)
    }

    async fn clean(&self, query: &str) -> Result<CleanupReport, Problem> {
        let mut query = QueryString::of(query);
        let statuses = format!("must be {}", listed(Status::VARIANTS));
        let status = query.optional("status", |name| name.parse().ok(), &statuses);
        let days = query.number("older_than_days", 0, 0..=MAX_DAYS);
        let dry_run = query.flag("dry_run");
        let after = query.cursor();
        query.finish()?;
        let now = self.clock.now();
        let age = Duration::from_secs(86_400) * u32::try_from(days).unwrap_or(u32::MAX);
        let before = Millis(now.0.saturating_sub(whole_ms(age)));
        let plan = Plan {
            kind: Kind::Webhooks,
            walk: status.map_or(Status::iter().collect(), |status| vec![status]),
            remove: status.map_or(vec![Status::Delivered, Status::Failed], |status| vec![status]),
            before,
            dry_run,
        };
        let (report, error) = self.walk(&plan, after, REQUEST, now.after(REQUEST_TIME)).await;
        match error {
            None => Ok(report),
            Some(error) => {
                tracing::error!(error = %chain(&error), "cleanup ended early");
                Err(Problem::unavailable("Records cannot be read now; nothing but what was asked for is removed."))
            }
        }
    }

    /// Walks through the indexes, the oldest change first.
    async fn walk(
        &self,
        plan: &Plan,
        after: Option<Place>,
        most: usize,
        until: Millis,
    ) -> (CleanupReport, Option<QueryError>) {
        let by_status = plan.remove.iter().map(|status| (status.as_str(), 0)).collect();
        let mut report = CleanupReport { by_status, dry_run: plan.dry_run, ..CleanupReport::default() };
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

    async fn page(&self, plan: &Plan, after: Option<&Place>) -> Result<(Vec<Entry>, bool), QueryError> {
        indexes::page(plan.kind, &plan.walk, Order::OldestFirst, after, PAGE).run(self.redis.as_ref()).await
    }

    /// Does what the records of a page need: reads them, changes them, and then their
    /// index.
    async fn tidy(&self, plan: &Plan, entries: &[Entry], report: &mut CleanupReport) -> Result<(), QueryError> {
        let mut trip = Trip::default();
        let asked = self.indexes.ask(&mut trip, entries);
        let mut replies = trip.run(self.redis.as_ref()).await?;
        let findings: Vec<Finding> = asked.into_iter().map(|asked| asked.finding(&mut replies)).collect();
        report.scanned += entries.len() as u64;
        let mut needs = Vec::new();
        for (entry, finding) in entries.iter().zip(&findings) {
            needs.extend(self.needs(plan, entry, finding).into_iter().map(|need| (entry, need)));
        }
        if plan.dry_run {
            for (_, need) in &needs {
                report.count(need, true);
            }
            return Ok(());
        }
        let mut trip = Trip::default();
        let mut works = Vec::with_capacity(needs.len());
        for (entry, need) in needs {
            let work = self.begin(plan, entry, &need, &mut trip);
            works.push((entry, need, work));
        }
        let mut replies = trip.run(self.redis.as_ref()).await?;
        let mut index = Trip::default();
        let mut repairs = Vec::new();
        let mut moved = Vec::new();
        for (entry, need, work) in works {
            let done = work.done(&mut replies);
            report.count(&need, done);
            match need {
                Need::Removal(_) if done => repairs.push(index.add(indexes::drop_entry(entry))),
                Need::Abandonment if done => moved.push((entry.place.id.clone(), Status::Failed)),
                Need::Removal(_) | Need::Abandonment | Need::Reindex(_) | Need::Misplaced | Need::Life(_) => {}
            }
        }
        let moving = index.add(self.indexes.move_to(&moved, self.clock.now()));
        let mut replies = index.run(self.redis.as_ref()).await?;
        // A wrong entry is met again by the next cleanup.
        let mut failed: Vec<ReplyError> = moving.take(&mut replies).err().into_iter().collect();
        failed.extend(repairs.into_iter().filter_map(|ticket| ticket.take(&mut replies).err()));
        failed.iter().for_each(not_cleaned);
        Ok(())
    }

    fn needs<'a>(&self, plan: &Plan, entry: &Entry, finding: &'a Finding) -> Vec<Need<'a>> {
        let now = self.clock.now();
        let (record, ttl) = match finding {
            Finding::Right(stored) => (&stored.record, stored.ttl_ms),
            Finding::Gone => return vec![Need::Reindex(None)],
            // Its own index brings it up again.
            Finding::Moved(stored) => return vec![Need::Reindex(Some(&stored.record))],
            Finding::Unreadable => return Vec::new(),
        };
        if plan.remove.contains(&record.status) && record.updated_at <= plan.before {
            return vec![Need::Removal(record.status)];
        }
        let mut needs = Vec::new();
        if self.indexes.is_misplaced(entry) {
            needs.push(Need::Misplaced);
        }
        if ttl.is_none() {
            needs.push(Need::Life(record));
        }
        let unfinished = matches!(record.status, Status::Pending | Status::Retrying);
        // What an endpoint is owed waits for longer than its deadline.
        let waits = record.next_attempt_at.is_some_and(|at| at > now);
        if unfinished && !waits && record.details.expires_at.after(LONG_PAST) < now {
            needs.push(Need::Abandonment);
        }
        needs
    }

    /// Begins what one record needs.
    fn begin(&self, plan: &Plan, entry: &Entry, need: &Need<'_>, trip: &mut Trip) -> Work {
        let (id, now) = (&entry.place.id, self.clock.now());
        match need {
            Need::Reindex(None) => Work::of(trip.add(indexes::drop_entry(entry))),
            Need::Reindex(Some(record)) => {
                let place = Place { at: record.updated_at, id: id.clone() };
                let entered = trip.add(self.indexes.enter_lost(record.status, &place));
                Work { dropped: Some(trip.add(indexes::drop_entry(entry))), ..Work::of(entered) }
            }
            Need::Misplaced => {
                let entered = trip.add(self.indexes.enter_lost(entry.status, &entry.place));
                Work { dropped: Some(trip.add(indexes::drop_entry(entry))), ..Work::of(entered) }
            }
            Need::Life(record) => Work::of(trip.add(records::set_missing_ttl(id, record, now, self.lifetimes))),
            Need::Removal(_) => Work::of(trip.add(records::remove(id, plan.before).map(|done| done != Removal::Kept))),
            Need::Abandonment => {
                let before = Millis(now.0.saturating_sub(whole_ms(LONG_PAST)));
                Work::of(trip.add(records::abandon(id, before, self.lifetimes)))
            }
        }
    }
}

/// What was begun for one record.
struct Work {
    /// Says whether it changed something.
    changed: Ticket<bool>,
    /// The wrong entry, where another one is entered.
    dropped: Option<Ticket<bool>>,
}

impl Work {
    fn of(changed: Ticket<bool>) -> Self {
        Self { changed, dropped: None }
    }

    /// Whether it changed something. What failed is logged.
    fn done(self, replies: &mut Replies) -> bool {
        if let Some(error) = self.dropped.and_then(|ticket| ticket.take(replies).err()) {
            not_cleaned(&error);
        }
        self.changed.take(replies).unwrap_or_else(|error| {
            not_cleaned(&error);
            false
        })
    }
}

fn not_cleaned(error: &ReplyError) {
    tracing::error!(code = error.code(), error = %chain(error), "a record is not cleaned up");
}

impl CleanupReport {
    /// Adds what another walk did. The whole is complete if every walk was.
    fn add(&mut self, other: Self) {
        self.complete &= other.complete;
        self.deleted += other.deleted;
        self.scanned += other.scanned;
        self.index_entries_removed += other.index_entries_removed;
        self.index_entries_added += other.index_entries_added;
        self.ttl_set += other.ttl_set;
        self.outcome_unknown += other.outcome_unknown;
    }

    fn count(&mut self, need: &Need<'_>, done: bool) {
        let one = u64::from(done);
        match need {
            Need::Reindex(None) => self.index_entries_removed += one,
            Need::Reindex(Some(_)) | Need::Misplaced => {
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
