//! Which deliveries have which status: a sorted set a status, scored by the last
//! change. Written beside the records, not with them, so a member may be stale;
//! readers check it against its record, and repair what they find wrong. Every batch writes
//! to them, so each may be split into shards, which are keys of their own. Readers look into
//! every shard that there may be: only where something is written follows the setting.

use std::collections::BTreeMap;

use domain::place::Place;
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use redis::{FromRedisValue as _, Value};
use strum::IntoEnumIterator as _;

use super::query::{Query, Replies, ReplyError, Ticket, Trip};
use super::records::{self, StoredRecord};
use super::script::{Args, Script};
use super::transport::Call;
use crate::telemetry::chain;

static PAGE: Script = Script::new("page", include_str!("scripts/page.lua"));
static TRIM: Script = Script::new("trim", include_str!("scripts/trim.lua"));
static DROP: Script = Script::new("drop", include_str!("scripts/drop.lua"));

/// Most entries that one write takes from an index. A write enters a hundred at most.
const MOST_TRIMMED: u64 = 200;
/// Over how many keys an index may be split.
pub const MOST_SHARDS: u8 = 8;

/// Whose deliveries an index has. Direct webhooks and deliveries to endpoints never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Which shard of it.
    pub shard: u8,
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

/// What is asked about an entry.
pub struct AskedEntry<'e> {
    entry: &'e Entry,
    record: Ticket<Option<StoredRecord>>,
    /// Whether the delivery is entered where it belongs, if this entry is misplaced.
    again: Option<Ticket<bool>>,
}

impl AskedEntry<'_> {
    /// What the answers say of the entry.
    pub fn finding(self, replies: &mut Replies) -> Finding {
        match self.again.map(|again| again.take(replies)) {
            // The later entry tells where it stands.
            Some(Ok(true)) => Finding::Gone,
            Some(Ok(false) | Err(_)) | None => compare(self.entry, self.record.take(replies)),
        }
    }
}

/// One shard of the index of one status. The first one has the name of an index that is whole.
fn key(kind: Kind, status: Status, shard: u8) -> String {
    let whole = match kind {
        Kind::Webhooks => format!("webhook_index:{}", status.as_str()),
        Kind::Deliveries => format!("delivery_index:{}", status.as_str()),
        Kind::Events => format!("event_index:{}", status.as_str()),
    };
    if shard == 0 { whole } else { format!("{whole}:{shard}") }
}

/// The shard of so many that has this delivery: FNV-1a, the same in every version.
fn shard_of(id: &str, shards: u8) -> u8 {
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u8::try_from(hash % u32::from(shards.max(1))).unwrap_or_default()
}

/// Deliveries and their statuses by kind and shard.
type ByShard<'d> = BTreeMap<(Kind, u8), Vec<(&'d str, Status)>>;

/// The ids of those whose status is wanted.
fn ids<'d>(members: &[(&'d str, Status)], is_wanted: impl Fn(Status) -> bool) -> Vec<&'d str> {
    members.iter().filter(|(_, status)| is_wanted(*status)).map(|(id, _)| *id).collect()
}

/// The indexes of one stack.
#[derive(Clone, Copy, Debug)]
pub struct Indexes {
    /// Over how many keys each is split.
    shards: u8,
    lifetimes: Lifetimes,
}

impl Indexes {
    /// Indexes over so many keys each, of records that live so long.
    pub fn new(shards: u8, lifetimes: Lifetimes) -> Self {
        Self { shards: shards.clamp(1, MOST_SHARDS), lifetimes }
    }

    fn shard_of(self, id: &str) -> u8 {
        if self.shards == 1 { 0 } else { shard_of(id, self.shards) }
    }

    /// Where a delivery with this status belongs.
    fn key_of(self, id: &str, status: Status) -> String {
        key(Kind::of(id), status, self.shard_of(id))
    }

    /// Enters new deliveries, which are in no other index: at most two commands for each key.
    pub fn enter(self, fresh: &[(String, Status)], now: Millis) -> Query<()> {
        Query::write("enter index", self.entering(&self.by_shard(fresh), now))
    }

    fn entering(self, fresh: &ByShard<'_>, now: Millis) -> Vec<Call> {
        let mut calls = Vec::new();
        for (&(kind, shard), members) in fresh {
            for status in Status::iter() {
                let ids = ids(members, |other| other == status);
                if ids.is_empty() {
                    continue;
                }
                let key = key(kind, status, shard);
                let mut add = redis::cmd("ZADD");
                add.arg(&key);
                for id in ids {
                    add.arg(now.0).arg(id);
                }
                calls.push(add.into());
                calls.push(trim(&key, now, self.lifetimes.of(status)));
            }
        }
        calls
    }

    /// Deliveries by the shard that has them. What has no index is left out.
    fn by_shard(self, all: &[(String, Status)]) -> ByShard<'_> {
        let mut by_shard = ByShard::new();
        for (id, status) in all {
            let kind = Kind::of(id);
            if Kind::ALL.contains(&kind) {
                by_shard.entry((kind, self.shard_of(id))).or_default().push((id, *status));
            }
        }
        by_shard
    }

    /// Moves deliveries to the index of their status and out of the others, and trims
    /// what has outlived its record: at most twelve commands for each kind and shard, however
    /// many they are.
    pub fn move_to(self, changes: &[(String, Status)], now: Millis) -> Query<()> {
        let by_shard = self.by_shard(changes);
        let mut calls = self.entering(&by_shard, now);
        for (&(kind, shard), members) in &by_shard {
            for status in Status::iter() {
                let leaving = ids(members, |other| other != status);
                if !leaving.is_empty() {
                    let mut remove = redis::cmd("ZREM");
                    remove.arg(key(kind, status, shard)).arg(leaving);
                    calls.push(remove.into());
                }
            }
        }
        Query::write("move in index", calls)
    }

    /// How many deliveries of a kind have each status, in the order of the statuses.
    pub fn counts(self, kind: Kind, now: Millis) -> Query<Vec<u64>> {
        let count = |(status, shard): (Status, u8)| {
            let mut command = redis::cmd("ZCOUNT");
            command.arg(key(kind, status, shard)).arg(now.0.saturating_sub(self.lifetimes.of(status))).arg("+inf");
            command.into()
        };
        let keys = Status::iter().flat_map(|status| (0..MOST_SHARDS).map(move |shard| (status, shard)));
        Query::several("count statuses", keys.map(count).collect(), |replies| {
            let counts: Option<Vec<u64>> = replies.into_iter().map(|value| u64::from_redis_value(value).ok()).collect();
            Some(counts?.chunks(usize::from(MOST_SHARDS)).map(|shards| shards.iter().sum()).collect())
        })
    }

    /// Over how many keys each is split.
    pub fn shards(self) -> u8 {
        self.shards
    }

    /// Whether an entry stands in another shard than its delivery is entered in now.
    pub fn is_misplaced(self, entry: &Entry) -> bool {
        entry.shard != self.shard_of(&entry.place.id)
    }

    /// Asks for the records of entries, and whether those that are misplaced have been entered
    /// where they belong since.
    pub fn ask<'e>(self, trip: &mut Trip, entries: &'e [Entry]) -> Vec<AskedEntry<'e>> {
        let asked = |entry: &'e Entry| AskedEntry {
            entry,
            record: trip.add(records::read(&entry.place.id)),
            again: self.is_misplaced(entry).then(|| trip.add(self.is_entered(entry))),
        };
        entries.iter().map(asked).collect()
    }

    fn is_entered(self, entry: &Entry) -> Query<bool> {
        let id = &entry.place.id;
        let score = score(id, entry.status, self.shard_of(id));
        Query::several("index entry", vec![score], |replies| Some(*replies.first()? != Value::Nil))
    }

    /// Whether a shard that is not its own has an entry of this delivery: an earlier number of
    /// shards left it there.
    pub fn is_in_other_shard(self, id: &str, status: Status) -> Query<bool> {
        let others = (0..MOST_SHARDS).filter(|shard| *shard != self.shard_of(id));
        let scores = others.map(|shard| score(id, status, shard)).collect();
        Query::several("entries in other shards", scores, |replies| {
            Some(replies.iter().any(|value| *value != Value::Nil))
        })
    }

    /// Enters a delivery where its entry was lost; changes nothing where it is. Says
    /// whether it was lost.
    pub fn enter_lost(self, status: Status, place: &Place) -> Query<bool> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.key_of(&place.id, status)).arg("NX").arg(place.at.0).arg(&place.id);
        Query::one("enter lost entry", add, |value| Some(value == Value::Int(1)))
    }
}

/// Takes from the index `key` what was entered longer than `life_ms` ago, some of it
/// if it is much: every write trims more than it enters.
pub(super) fn trim(key: &str, now: Millis, life_ms: u64) -> Call {
    let args = Args::new().with(now.0.saturating_sub(life_ms)).with(MOST_TRIMMED);
    Call::Script { script: &TRIM, key: key.to_owned(), args }
}

/// The entries of these statuses that follow `after`, the first `count` in order, and
/// whether there are more: one command for each key.
pub fn page(
    kind: Kind,
    statuses: &[Status],
    order: Order,
    after: Option<&Place>,
    count: usize,
) -> Query<(Vec<Entry>, bool)> {
    let keys: Vec<_> = statuses.iter().flat_map(|status| (0..MOST_SHARDS).map(|shard| (*status, shard))).collect();
    // One more than asked for tells whether there are more.
    let call = |&(status, shard): &(Status, u8)| page_of(key(kind, status, shard), order, after, count + 1);
    let calls = keys.iter().map(call).collect();
    Query::several("page", calls, move |replies| {
        let mut found = Vec::new();
        for ((status, shard), value) in keys.into_iter().zip(replies) {
            found.extend(places(value)?.into_iter().map(|place| Entry { status, shard, place }));
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

/// When the oldest direct webhook of one status was entered, if there is one. Deliveries to
/// endpoints may wait for hours, so their age says nothing. What is misplaced does not count: it
/// may have been entered elsewhere since.
pub fn oldest(shards: u8, status: Status) -> Query<Option<Millis>> {
    let first = |shard| {
        let mut command = redis::cmd("ZRANGE");
        command.arg(key(Kind::Webhooks, status, shard)).arg(0).arg(0).arg("WITHSCORES");
        command.into()
    };
    Query::several("oldest entry", (0..shards).map(first).collect(), move |replies| {
        let mut oldest = Vec::new();
        for (shard, value) in (0..).zip(replies) {
            oldest.extend(places(value)?.into_iter().filter(|place| shard_of(&place.id, shards) == shard));
        }
        Some(oldest.iter().map(|place| place.at).min())
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

fn at(score: f64) -> Millis {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores are whole milliseconds")]
    Millis(score.max(0.0) as u64)
}

/// Asks for the entry of a delivery in one shard of the index of a status.
fn score(id: &str, status: Status, shard: u8) -> Call {
    let mut command = redis::cmd("ZSCORE");
    command.arg(key(Kind::of(id), status, shard)).arg(id);
    command.into()
}

/// The statuses whose index has an entry of this delivery.
pub fn entered_in(id: &str) -> Query<Vec<Status>> {
    let keys = Status::iter().flat_map(|status| (0..MOST_SHARDS).map(move |shard| (status, shard)));
    let scores = keys.map(|(status, shard)| score(id, status, shard)).collect();
    Query::several("index entries", scores, |replies| {
        let shards = replies.chunks(usize::from(MOST_SHARDS));
        let entered = Status::iter().zip(shards).filter(|(_, shards)| shards.iter().any(|value| *value != Value::Nil));
        Some(entered.map(|(status, _)| status).collect())
    })
}

/// Compares an entry with its record.
fn compare(entry: &Entry, found: Result<Option<StoredRecord>, ReplyError>) -> Finding {
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
    drop_member(key(Kind::of(&entry.place.id), entry.status, entry.shard), &entry.place)
}

/// Takes a member out of a sorted set, unless it has another score by now. Says whether it did.
pub(super) fn drop_member(key: String, place: &Place) -> Query<bool> {
    let call = Call::Script { script: &DROP, key, args: Args::new().with(&place.id).with(place.at.0) };
    Query::one("drop entry", call, |value| Some(value == Value::Int(1)))
}
