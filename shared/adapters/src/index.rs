//! Which deliveries have which status: a sorted set a status, scored by the last
//! change. Written beside the records, not with them, so a member may be stale;
//! readers check it against its record, and repair what they find wrong.

use domain::ledger::Record;
use domain::place::Place;
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use redis::FromRedisValue as _;

use crate::ledger::{self, LedgerError};
use crate::redis::{Args, Call, Reply, Script};

static PAGE: Script = Script::new(include_str!("scripts/page.lua"));
static TRIM: Script = Script::new(include_str!("scripts/trim.lua"));
static DROP: Script = Script::new(include_str!("scripts/drop.lua"));

/// Most entries that one write takes from an index. A write enters a hundred at most.
const MOST_TRIMMED: u64 = 200;

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
    /// It is right: the record and its TTL in ms, if it has one.
    Right(Box<Record>, Option<u64>),
    /// There is no such record, or none to be seen.
    Gone,
    /// The record has another status than its index says.
    Moved(Box<Record>, Option<u64>),
    /// The record cannot be read now.
    Unreadable,
}

/// The index of one status.
pub fn key(status: Status) -> String {
    format!("webhook_index:{}", status.as_str())
}

/// Enters fresh deliveries, which are in no other index: at most two commands
/// for each status.
pub fn entered(fresh: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let mut calls = Vec::new();
    for status in Status::ALL {
        let ids: Vec<&str> = fresh.iter().filter(|(_, other)| *other == status).map(|(id, _)| id.as_str()).collect();
        if ids.is_empty() {
            continue;
        }
        let mut add = redis::cmd("ZADD");
        add.arg(key(status));
        for id in ids {
            add.arg(now.0).arg(id);
        }
        calls.push(add.into());
        calls.push(trim(&key(status), now, lifetimes.of(status)));
    }
    calls
}

/// Takes from the index `key` what was entered longer than `life_ms` ago, some of it
/// if it is much: every write trims more than it enters.
pub fn trim(key: &str, now: Millis, life_ms: u64) -> Call {
    let args = Args::new().with(now.0.saturating_sub(life_ms)).with(MOST_TRIMMED);
    Call::Script { script: &TRIM, key: key.to_owned(), args }
}

/// Moves deliveries to the index of their status and out of the others, and
/// trims what has outlived its record: at most twelve commands, however many
/// they are.
pub fn moved(changes: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let mut calls = entered(changes, now, lifetimes);
    for status in Status::ALL {
        let leaving: Vec<&str> =
            changes.iter().filter(|(_, other)| *other != status).map(|(id, _)| id.as_str()).collect();
        if !leaving.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(key(status)).arg(leaving);
            calls.push(remove.into());
        }
    }
    calls
}

/// Asks for the entries of these statuses that follow `after`: one call each, `count` of each at most.
pub fn page(statuses: &[Status], order: Order, after: Option<&Place>, count: usize) -> Vec<Call> {
    let (score, member) =
        after.map_or((String::new(), String::new()), |place| (place.at.0.to_string(), place.id.clone()));
    let direction = match order {
        Order::NewestFirst => "newest",
        Order::OldestFirst => "oldest",
    };
    let call = |status: &Status| Call::Script {
        script: &PAGE,
        key: key(*status),
        // One more than asked for tells whether there are more.
        args: Args::new().with(direction).with(&score).with(&member).with(count + 1),
    };
    statuses.iter().map(call).collect()
}

/// Reads the answers to [`page`]: the first `count` entries in order, and whether there are more.
///
/// # Errors
/// When Redis refused a command or answered nonsense.
pub fn entries(
    statuses: &[Status],
    order: Order,
    count: usize,
    replies: impl Iterator<Item = Reply>,
) -> Result<(Vec<Entry>, bool), LedgerError> {
    let mut found = Vec::new();
    for (&status, reply) in statuses.iter().zip(replies) {
        let value = reply.map_err(|error| LedgerError::Refused("page", error))?;
        let members = Vec::<(String, f64)>::from_redis_value(value).map_err(|_| LedgerError::Unexpected("page"))?;
        let entry = |(id, score)| Entry { status, place: Place { at: at(score), id } };
        found.extend(members.into_iter().map(entry));
    }
    found.sort_by(|a, b| match order {
        Order::NewestFirst => b.place.cmp(&a.place),
        Order::OldestFirst => a.place.cmp(&b.place),
    });
    let end = end_of(&found, count);
    let more = found.len() > end;
    found.truncate(end);
    Ok((found, more))
}

/// Where a list of about `count` entries ends: a place that stands in two indexes is
/// not torn apart, since the next page begins behind it.
pub fn end_of(entries: &[Entry], count: usize) -> usize {
    let last = count.checked_sub(1).and_then(|last| entries.get(last));
    let same = entries.iter().skip(count).take_while(|entry| last.is_some_and(|last| last.place == entry.place));
    count.min(entries.len()) + same.count()
}

/// Asks how many deliveries have each status, in the order of [`Status::ALL`].
pub fn counts(now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let count = |status: Status| {
        let mut command = redis::cmd("ZCOUNT");
        command.arg(key(status)).arg(now.0.saturating_sub(lifetimes.of(status))).arg("+inf");
        command.into()
    };
    Status::ALL.into_iter().map(count).collect()
}

/// Asks for the oldest entry of one status.
pub fn oldest(status: Status) -> Call {
    let mut command = redis::cmd("ZRANGE");
    command.arg(key(status)).arg(0).arg(0).arg("WITHSCORES");
    command.into()
}

/// Reads the answer to [`oldest`]: when it was entered, if there is one.
pub fn oldest_at(reply: Reply) -> Option<Millis> {
    let members = Vec::<(String, f64)>::from_redis_value(reply.ok()?).ok()?;
    members.first().map(|(_, score)| at(*score))
}

fn at(score: f64) -> Millis {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores are whole milliseconds")]
    Millis(score.max(0.0) as u64)
}

/// Asks for the records of entries: two calls each.
pub fn records(entries: &[Entry]) -> Vec<Call> {
    entries.iter().flat_map(|entry| ledger::read(&entry.place.id)).collect()
}

/// Reads the answers to [`records`].
pub fn findings(entries: &[Entry], replies: Vec<Reply>) -> Vec<Finding> {
    let mut replies = replies.into_iter();
    let judge = |entry: &Entry| match replies.next().zip(replies.next()).map(|(get, ttl)| ledger::record(get, ttl)) {
        Some(Ok(Some((record, _)))) if !record.is_shown() => Finding::Gone,
        Some(Ok(Some((record, ttl)))) if record.status == entry.status => Finding::Right(Box::new(record), ttl),
        Some(Ok(Some((record, ttl)))) => Finding::Moved(Box::new(record), ttl),
        Some(Ok(None)) => Finding::Gone,
        Some(Err(error)) => {
            tracing::error!(webhook_id = %entry.place.id, code = error.code(), error = ?error, "a record cannot be read");
            // A key of another kind is no record; no answer is no finding.
            if error.is_answer() { Finding::Gone } else { Finding::Unreadable }
        }
        None => Finding::Unreadable,
    };
    entries.iter().map(judge).collect()
}

/// Takes an entry out of its index, unless it was entered again meanwhile.
pub fn drop_entry(entry: &Entry) -> Call {
    let args = Args::new().with(&entry.place.id).with(entry.place.at.0);
    Call::Script { script: &DROP, key: key(entry.status), args }
}

/// Enters a delivery where its entry was lost; changes nothing where it is. The
/// answer is 1 if it was lost.
pub fn enter_lost(status: Status, place: &Place) -> Call {
    let mut add = redis::cmd("ZADD");
    add.arg(key(status)).arg("NX").arg(place.at.0).arg(&place.id);
    add.into()
}
