//! Which deliveries have which status: a sorted set a status, scored by the last
//! change. Written beside the records, not with them, so a member may be stale;
//! readers check it against its record, and repair what they find wrong.

use domain::place::Place;
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use redis::{FromRedisValue as _, Value};
use strum::IntoEnumIterator as _;

use super::query::{Query, ReplyError};
use super::records::{self, StoredRecord};
use super::script::{Args, Script};
use super::transport::Call;
use crate::telemetry::chain;

static PAGE: Script = Script::new("page", include_str!("scripts/page.lua"));
static TRIM: Script = Script::new("trim", include_str!("scripts/trim.lua"));
static DROP: Script = Script::new("drop", include_str!("scripts/drop.lua"));

/// Most entries that one write takes from an index. A write enters a hundred at most.
const MOST_TRIMMED: u64 = 200;

/// Whose deliveries an index has. Direct webhooks and deliveries to endpoints never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Direct webhooks.
    Webhooks,
    /// Deliveries to endpoints.
    Deliveries,
    /// Events and work in pages. They have records, and no index has them.
    Events,
}

impl Kind {
    /// Those that have indexes.
    pub const ALL: [Self; 2] = [Self::Webhooks, Self::Deliveries];

    /// Of the record with this id: only the id of a delivery to an endpoint has dots, and only
    /// those of events and of work in pages have tildes.
    fn of(id: &str) -> Self {
        match id {
            id if id.contains('~') => Self::Events,
            id if id.contains('.') => Self::Deliveries,
            _ => Self::Webhooks,
        }
    }
}

/// Which way to walk through an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the last change backwards.
    NewestFirst,
    /// From the oldest change on.
    OldestFirst,
}

/// A member of an index: a delivery that had this status at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose index it stands in.
    pub status: Status,
    /// Where.
    pub place: Place,
}

/// What an entry's record says of it.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The entry is right.
    Right(Box<StoredRecord>),
    /// There is no such record, or none to be seen.
    Gone,
    /// The record has another status than its index says.
    Moved(Box<StoredRecord>),
    /// The record cannot be read now.
    Unreadable,
}

/// The index of one status.
fn key(kind: Kind, status: Status) -> String {
    match kind {
        Kind::Webhooks => format!("webhook_index:{}", status.as_str()),
        Kind::Deliveries => format!("delivery_index:{}", status.as_str()),
        Kind::Events => format!("event_index:{}", status.as_str()),
    }
}

/// Every index.
fn all() -> impl Iterator<Item = (Kind, Status)> {
    Kind::ALL.into_iter().flat_map(|kind| Status::iter().map(move |status| (kind, status)))
}

/// Enters new deliveries, which are in no other index: at most two commands for each
/// kind and status.
pub fn enter(fresh: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Query<()> {
    Query::write("enter index", entering(fresh, now, lifetimes))
}

fn entering(fresh: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let mut calls = Vec::new();
    for (kind, status) in all() {
        let belongs = |(id, other): &&(String, Status)| *other == status && Kind::of(id) == kind;
        let ids: Vec<&str> = fresh.iter().filter(belongs).map(|(id, _)| id.as_str()).collect();
        if ids.is_empty() {
            continue;
        }
        let mut add = redis::cmd("ZADD");
        add.arg(key(kind, status));
        for id in ids {
            add.arg(now.0).arg(id);
        }
        calls.push(add.into());
        calls.push(trim(&key(kind, status), now, lifetimes.of(status)));
    }
    calls
}

/// Takes from the index `key` what was entered longer than `life_ms` ago, some of it
/// if it is much: every write trims more than it enters.
pub(super) fn trim(key: &str, now: Millis, life_ms: u64) -> Call {
    let args = Args::new().with(now.0.saturating_sub(life_ms)).with(MOST_TRIMMED);
    Call::Script { script: &TRIM, key: key.to_owned(), args }
}

/// Moves deliveries to the index of their status and out of the others, and trims
/// what has outlived its record: at most twelve commands for each kind, however many they
/// are.
pub fn move_to(changes: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Query<()> {
    let mut calls = entering(changes, now, lifetimes);
    for (kind, status) in all() {
        let leaves = |(id, other): &&(String, Status)| *other != status && Kind::of(id) == kind;
        let leaving: Vec<&str> = changes.iter().filter(leaves).map(|(id, _)| id.as_str()).collect();
        if !leaving.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(key(kind, status)).arg(leaving);
            calls.push(remove.into());
        }
    }
    Query::write("move in index", calls)
}

/// The entries of these statuses that follow `after`, the first `count` in order, and
/// whether there are more: one command for each status.
pub fn page(
    kind: Kind,
    statuses: &[Status],
    order: Order,
    after: Option<&Place>,
    count: usize,
) -> Query<(Vec<Entry>, bool)> {
    // One more than asked for tells whether there are more.
    let call = |status: &Status| page_of(key(kind, *status), order, after, count + 1);
    let statuses = statuses.to_vec();
    Query::several("page", statuses.iter().map(call).collect(), move |replies| {
        let mut found = Vec::new();
        for (status, value) in statuses.into_iter().zip(replies) {
            found.extend(places(value)?.into_iter().map(|place| Entry { status, place }));
        }
        found.sort_by(|a, b| match order {
            Order::NewestFirst => b.place.cmp(&a.place),
            Order::OldestFirst => a.place.cmp(&b.place),
        });
        let end = end_of(&found, count);
        let more = found.len() > end;
        found.truncate(end);
        Some((found, more))
    })
}

/// Asks a sorted set for the `count` members that follow `after`.
pub(super) fn page_of(key: String, order: Order, after: Option<&Place>, count: usize) -> Call {
    let direction = match order {
        Order::NewestFirst => "newest",
        Order::OldestFirst => "oldest",
    };
    let (score, member) =
        after.map_or((String::new(), String::new()), |place| (place.at.0.to_string(), place.id.clone()));
    Call::Script { script: &PAGE, key, args: Args::new().with(direction).with(score).with(member).with(count) }
}

/// Members of a sorted set, in ascending order.
pub(super) fn places(value: Value) -> Option<Vec<Place>> {
    let members = Vec::<(String, f64)>::from_redis_value(value).ok()?;
    Some(members.into_iter().map(|(id, score)| Place { at: at(score), id }).collect())
}

/// Where a list of about `count` entries ends: a place that stands in two indexes is
/// not torn apart, since the next page begins behind it.
pub fn end_of(entries: &[Entry], count: usize) -> usize {
    let last = count.checked_sub(1).and_then(|last| entries.get(last));
    let same = entries.iter().skip(count).take_while(|entry| last.is_some_and(|last| last.place == entry.place));
    count.min(entries.len()) + same.count()
}

/// How many deliveries of a kind have each status, in the order of the statuses.
pub fn counts(kind: Kind, now: Millis, lifetimes: Lifetimes) -> Query<Vec<u64>> {
    let count = move |status: Status| {
        let mut command = redis::cmd("ZCOUNT");
        command.arg(key(kind, status)).arg(now.0.saturating_sub(lifetimes.of(status))).arg("+inf");
        command.into()
    };
    Query::several("count statuses", Status::iter().map(count).collect(), |replies| {
        replies.into_iter().map(|value| u64::from_redis_value(value).ok()).collect()
    })
}

/// When the oldest direct webhook of one status was entered, if there is one. Deliveries to
/// endpoints may wait for hours, so their age says nothing.
pub fn oldest(status: Status) -> Query<Option<Millis>> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(key(Kind::Webhooks, status)).arg(0).arg(0).arg("WITHSCORES");
    Query::one("oldest entry", command, |value| {
        let members = Vec::<(String, f64)>::from_redis_value(value).ok()?;
        Some(members.first().map(|(_, score)| at(*score)))
    })
}

fn at(score: f64) -> Millis {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores are whole milliseconds")]
    Millis(score.max(0.0) as u64)
}

/// The statuses whose index has an entry of this delivery.
pub fn entered_in(id: &str) -> Query<Vec<Status>> {
    let score = |status: Status| {
        let mut command = redis::cmd("ZSCORE");
        command.arg(key(Kind::of(id), status)).arg(id);
        command.into()
    };
    Query::several("index entries", Status::iter().map(score).collect(), |replies| {
        let entered = Status::iter().zip(replies).filter(|(_, value)| *value != Value::Nil);
        Some(entered.map(|(status, _)| status).collect())
    })
}

/// The records of entries, one query each.
pub fn records(entries: &[Entry]) -> impl Iterator<Item = Query<Option<StoredRecord>>> {
    entries.iter().map(|entry| records::read(&entry.place.id))
}

/// Compares an entry with its record.
pub fn compare(entry: &Entry, found: Result<Option<StoredRecord>, ReplyError>) -> Finding {
    match found {
        Ok(Some(stored)) if !stored.record.is_shown() => Finding::Gone,
        Ok(Some(stored)) if stored.record.status == entry.status => Finding::Right(Box::new(stored)),
        Ok(Some(stored)) => Finding::Moved(Box::new(stored)),
        Ok(None) => Finding::Gone,
        Err(error) => {
            tracing::error!(webhook_id = %entry.place.id, code = error.code(), error = %chain(&error), "a record cannot be read");
            // A key of another kind is no record; no answer is no finding.
            if error.is_answer() { Finding::Gone } else { Finding::Unreadable }
        }
    }
}

/// Takes an entry out of its index, unless it was entered again meanwhile. Says
/// whether it did.
pub fn drop_entry(entry: &Entry) -> Query<bool> {
    drop_member(key(Kind::of(&entry.place.id), entry.status), &entry.place)
}

/// Takes a member out of a sorted set, unless it has another score by now. Says whether it did.
pub(super) fn drop_member(key: String, place: &Place) -> Query<bool> {
    let call = Call::Script { script: &DROP, key, args: Args::new().with(&place.id).with(place.at.0) };
    Query::one("drop entry", call, |value| Some(value == Value::Int(1)))
}

/// Enters a delivery where its entry was lost; changes nothing where it is. Says
/// whether it was lost.
pub fn enter_lost(status: Status, place: &Place) -> Query<bool> {
    let mut add = redis::cmd("ZADD");
    add.arg(key(Kind::of(&place.id), status)).arg("NX").arg(place.at.0).arg(&place.id);
    Query::one("enter lost entry", add, |value| Some(value == Value::Int(1)))
}
