//! The records of deliveries and events in Redis: `domain::record_rules` as scripts on one key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use domain::identity::{split_event_record_id, split_work_record_id};
use domain::record::{
    Claim, Ending, Grant, Lease, NewRecord, Record, Removal, Reservation, Settlement, SettlementReply,
};
use domain::record_rules::{MAX_CRASHES, OUTCOME_UNKNOWN};
use domain::status::{Lifetimes, Status};
use domain::time::{Millis, whole_ms};
use redis::{FromRedisValue as _, Value};

use super::query::{Query, words};
use super::script::{Args, Script};
use super::transport::Call;

/// How long a reservation lives whose message may never have been queued.
const RESERVATION: Duration = Duration::from_secs(15 * 60);
/// What a record that should have ended long ago still gets.
const SHORTEST_LIFE: Duration = Duration::from_secs(3600);

static RESERVE: Script = Script::new("reserve", include_str!("scripts/reserve.lua"));
static CONFIRM: Script = Script::new("confirm", include_str!("scripts/confirm.lua"));
static FORGET: Script = Script::new("forget", include_str!("scripts/forget.lua"));
static CLAIM: Script = Script::new("claim", include_str!("scripts/claim.lua"));
static SETTLE: Script = Script::new("settle", include_str!("scripts/settle.lua"));
static REMOVE: Script = Script::new("remove", include_str!("scripts/remove.lua"));
static ABANDON: Script = Script::new("abandon", include_str!("scripts/abandon.lua"));
static REDRIVE: Script = Script::new("redrive", include_str!("scripts/redrive.lua"));

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The record.
    pub record: Record,
    /// How long it still lives, in ms; `None` when it has no TTL.
    pub ttl_ms: Option<u64>,
}

/// The record's key. Deliveries to endpoints, whose ids have dots, have keys of their own,
/// and so have events and work in pages.
pub fn key(id: &str) -> String {
    if let Some((kind, of)) = split_work_record_id(id) {
        return ["work:", kind, ":", of].concat();
    }
    match split_event_record_id(id) {
        Some((tenant, event_id)) => ["event:", tenant, ":", event_id].concat(),
        None if id.contains('.') => ["delivery:", id].concat(),
        None => ["webhook_status:", id].concat(),
    }
}

/// How long a record lives, in milliseconds. One of an event or of work in pages has one life,
/// whatever it says.
fn life_of(id: &str, status: Status, lifetimes: Lifetimes) -> u64 {
    let in_pages = split_event_record_id(id).is_some() || split_work_record_id(id).is_some();
    if in_pages { lifetimes.event_ms } else { lifetimes.of(status) }
}

/// `domain::record_rules::reserve` for the delivery `id`.
pub fn reserve(id: &str, new_record: &NewRecord) -> Query<Reservation> {
    let args = Args::new().with(&new_record.body_hash).with(whole_ms(RESERVATION));
    query(&RESERVE, id, with_fields(args, new_record), |words| match words {
        ["reserved", accepted_at] => Some(Reservation::Reserved { accepted_at: Millis(accepted_at.parse().ok()?) }),
        ["conflict"] => Some(Reservation::Conflict),
        ["known", status, correlation_id] => {
            Some(Reservation::Known { status: status.parse().ok()?, correlation_id: (*correlation_id).to_owned() })
        }
        _ => None,
    })
}

/// What [`reserve`] would answer, without reserving anything.
pub fn look_up(id: &str, new_record: &NewRecord) -> Query<Reservation> {
    let new_record = new_record.clone();
    read(id).map(move |stored| {
        let mut copy = stored.map(|stored| stored.record);
        domain::record_rules::reserve(&mut copy, new_record.accepted_at, &new_record)
    })
}

/// `domain::record_rules::confirm` for the delivery `id`.
pub fn confirm(id: &str, new_record: &NewRecord, lifetimes: Lifetimes) -> Query<Status> {
    let args = Args::new().with(&new_record.body_hash).with(life_of(id, Status::Pending, lifetimes));
    query(&CONFIRM, id, with_fields(args, new_record), status)
}

/// `domain::record_rules::forget` for the delivery `id`.
pub fn forget(id: &str, new_record: &NewRecord) -> Query<bool> {
    query(&FORGET, id, Args::new().with(&new_record.body_hash), |words| match words {
        ["0"] => Some(false),
        ["1"] => Some(true),
        _ => None,
    })
}

/// `domain::record_rules::claim` for the delivery `id`.
pub fn claim(id: &str, claim: &Claim, lifetimes: Lifetimes) -> Query<Grant> {
    let new_record = &claim.new_record;
    let args = Args::new()
        .with(&claim.token)
        .with(claim.hop)
        .with(claim.lease_ms)
        .with(&new_record.body_hash)
        .with(MAX_CRASHES)
        .with(life_of(id, Status::Pending, lifetimes))
        .with(Status::waiting(new_record.attempts).as_str())
        .with(new_record.attempts)
        .with(new_record.expires_at.0);
    query(&CLAIM, id, with_fields(args, new_record), |words| match words {
        ["granted"] => Some(Grant::Granted),
        ["crashed"] => Some(Grant::Crashed),
        ["done"] => Some(Grant::Done),
        ["stale"] => Some(Grant::Stale),
        ["foreign"] => Some(Grant::Foreign),
        ["busy", ms] => Some(Grant::Busy(Duration::from_millis(ms.parse().ok()?))),
        _ => None,
    })
}

/// `domain::record_rules::settle` for the delivery `id`.
pub fn settle(
    id: &str,
    new_record: &NewRecord,
    settlement: &Settlement,
    lifetimes: Lifetimes,
) -> Query<SettlementReply> {
    let (ending, mut fields) = view(&settlement.ending);
    fields.extend(settlement.log.as_deref().map(|log| (field::LOG, log.into())));
    let ttl = life_of(id, settlement.ending.final_status().unwrap_or(Status::Pending), lifetimes);
    let mut args = Args::new()
        .with(&settlement.token)
        .with(settlement.hop)
        .with(ending)
        .with(&new_record.body_hash)
        .with(ttl)
        .with(fields.len() * 2);
    for (field, value) in &fields {
        args.push_str(field);
        args.push_str(value);
    }
    query(&SETTLE, id, with_fields(args, new_record), |words| match words {
        ["recorded"] => Some(SettlementReply::Recorded),
        ["stale"] => Some(SettlementReply::Stale),
        ["foreign"] => Some(SettlementReply::Foreign),
        _ => None,
    })
}

/// `domain::record_rules::remove` for the delivery `id`.
pub fn remove(id: &str, before: Millis) -> Query<Removal> {
    query(&REMOVE, id, Args::new().with(before.0), |words| match words {
        ["kept"] => Some(Removal::Kept),
        ["deleted"] => Some(Removal::Deleted),
        ["hidden"] => Some(Removal::Hidden),
        _ => None,
    })
}

/// `domain::record_rules::abandon` for the delivery `id`: whether it is given up now.
pub fn abandon(id: &str, before: Millis, lifetimes: Lifetimes) -> Query<bool> {
    let args = Args::new().with(before.0).with(OUTCOME_UNKNOWN).with(lifetimes.unfinished_ms);
    query(&ABANDON, id, args, |words| match words {
        ["kept"] => Some(false),
        ["abandoned"] => Some(true),
        _ => None,
    })
}

/// `domain::record_rules::redrive` for the delivery `id`: its status.
pub fn redrive(id: &str, new_record: &NewRecord, hop: u32, due: Millis, lifetimes: Lifetimes) -> Query<Status> {
    let args = Args::new()
        .with(hop)
        .with(due.0)
        .with(&new_record.body_hash)
        .with(life_of(id, Status::Pending, lifetimes))
        .with(new_record.expires_at.0);
    query(&REDRIVE, id, with_fields(args, new_record), status)
}

/// Gives a record that has no TTL what is left of its life, an hour at least. Says
/// whether it had none.
pub fn set_missing_ttl(id: &str, record: &Record, now: Millis, lifetimes: Lifetimes) -> Query<bool> {
    let age = record.updated_at.until(now);
    let life = Duration::from_millis(life_of(id, record.status, lifetimes));
    let left = life.saturating_sub(age).max(SHORTEST_LIFE);
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(key(id)).arg(whole_ms(left)).arg("NX");
    Query::one("set missing ttl", expire, |value| Some(value == Value::Int(1)))
}

/// Reads the record of the delivery `id`, if it exists.
pub fn read(id: &str) -> Query<Option<StoredRecord>> {
    let mut get = redis::cmd("HGETALL");
    get.arg(key(id));
    let mut ttl = redis::cmd("PTTL");
    ttl.arg(key(id));
    Query::several("read record", vec![get.into(), ttl.into()], |replies| {
        let [get, ttl] = <[Value; 2]>::try_from(replies).ok()?;
        let fields = BTreeMap::<String, String>::from_redis_value(get).ok()?;
        let ttl_ms = u64::try_from(i64::from_redis_value(ttl).ok()?).ok();
        Some(from_fields(&fields).map(|record| StoredRecord { record, ttl_ms }))
    })
}

pub(super) fn query<T: 'static>(
    script: &'static Script,
    id: &str,
    args: Args,
    read: fn(&[&str]) -> Option<T>,
) -> Query<T> {
    let call = Call::Script { script, key: key(id), args };
    Query::one(script.name(), call, move |value| {
        let words = words(value)?;
        read(&words.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

fn status(words: &[&str]) -> Option<Status> {
    let [name] = words else { return None };
    name.parse().ok()
}

/// An ending's name and the fields that it sets; an empty value removes its field.
fn view(ending: &Ending) -> (&'static str, Vec<(&'static str, Cow<'_, str>)>) {
    let text = |value: &Option<u16>| Cow::from(value.map(|code| code.to_string()).unwrap_or_default());
    match ending {
        Ending::Delivered { attempts, code, duration_ms } => (
            "delivered",
            vec![
                (field::STATUS, Status::Delivered.as_str().into()),
                (field::ATTEMPTS, attempts.to_string().into()),
                (field::LAST_STATUS_CODE, code.to_string().into()),
                (field::ERROR_CLASS, "".into()),
                (field::ERROR, "".into()),
                (field::NEXT_ATTEMPT_AT, "".into()),
                (field::DURATION_MS, duration_ms.to_string().into()),
            ],
        ),
        Ending::Retrying { attempts, code, class, error, duration_ms, next_attempt_at } => (
            "retrying",
            vec![
                (field::STATUS, Status::waiting(*attempts).as_str().into()),
                (field::ATTEMPTS, attempts.to_string().into()),
                (field::LAST_STATUS_CODE, text(code)),
                (field::ERROR_CLASS, class.as_str().into()),
                (field::ERROR, error.as_str().into()),
                (field::NEXT_ATTEMPT_AT, next_attempt_at.0.to_string().into()),
                (field::DURATION_MS, duration_ms.to_string().into()),
            ],
        ),
        Ending::Parked { error, next_attempt_at } => (
            "parked",
            vec![(field::ERROR, error.as_str().into()), (field::NEXT_ATTEMPT_AT, next_attempt_at.0.to_string().into())],
        ),
        Ending::Failed { attempts, code, class, error, duration_ms } => (
            "failed",
            vec![
                (field::STATUS, Status::Failed.as_str().into()),
                (field::ATTEMPTS, attempts.to_string().into()),
                (field::LAST_STATUS_CODE, text(code)),
                (field::ERROR_CLASS, class.map_or("", |class| class.as_str()).into()),
                (field::ERROR, error.as_str().into()),
                (field::NEXT_ATTEMPT_AT, "".into()),
                (field::DURATION_MS, duration_ms.map(|ms| ms.to_string()).unwrap_or_default().into()),
            ],
        ),
        // To the script, a page is an attempt that another follows.
        Ending::Continued { matched, owed } => ("retrying", progress(Status::Retrying, *matched, *owed)),
        Ending::FannedOut { matched, owed } => ("fanned_out", progress(Status::Delivered, *matched, *owed)),
        Ending::Released => ("released", Vec::new()),
    }
}

/// What the record of an event says after a page.
fn progress(status: Status, matched: u32, owed: u32) -> Vec<(&'static str, Cow<'static, str>)> {
    vec![
        (field::STATUS, status.as_str().into()),
        (field::ERROR, "".into()),
        (field::NEXT_ATTEMPT_AT, "".into()),
        (field::MATCHED, matched.to_string().into()),
        (field::OWED, owed.to_string().into()),
    ]
}

/// What a script may need of a new record: when it was accepted, and its fields as JSON, names and
/// values in turn.
fn with_fields(args: Args, new_record: &NewRecord) -> Args {
    args.with(new_record.accepted_at.0).with_json(begin_fields(new_record))
}

/// Names of the record's fields in Redis.
pub(super) mod field {
    #![allow(missing_docs, reason = "each name is its meaning")]
    pub(crate) const STATUS: &str = "status";
    pub(crate) const WEBHOOK_URL: &str = "webhook_url";
    pub(crate) const ATTEMPTS: &str = "attempts";
    pub(crate) const CREATED_AT: &str = "created_at";
    pub(crate) const UPDATED_AT: &str = "updated_at";
    pub(crate) const EXPIRES_AT: &str = "expires_at";
    pub(crate) const CORRELATION_ID: &str = "correlation_id";
    pub(crate) const EVENT_TYPE: &str = "event_type";
    pub(crate) const BODY_HASH: &str = "body_hash";
    pub(crate) const LAST_STATUS_CODE: &str = "last_status_code";
    pub(crate) const ERROR_CLASS: &str = "error_class";
    pub(crate) const ERROR: &str = "error";
    pub(crate) const NEXT_ATTEMPT_AT: &str = "next_attempt_at";
    pub(crate) const DURATION_MS: &str = "duration_ms";
    pub(crate) const HOP: &str = "hop";
    pub(crate) const RESERVED: &str = "reserved";
    pub(crate) const LEASE: &str = "lease";
    pub(crate) const LEASE_UNTIL: &str = "lease_until";
    pub(crate) const CLAIMED: &str = "claimed";
    pub(crate) const FIRM: &str = "firm";
    pub(crate) const CRASHES: &str = "crashes";
    pub(crate) const SETTLED: &str = "settled";
    pub(crate) const UNKNOWN: &str = "unknown";
    pub(crate) const TENANT: &str = "tenant";
    pub(crate) const LOG: &str = "log";
    pub(crate) const MATCHED: &str = "matched";
    pub(crate) const OWED: &str = "owed";
    pub(crate) const ERASED: &str = "erased";
}

/// The fields that a record begins with.
fn begin_fields(new_record: &NewRecord) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
    let given = [(field::WEBHOOK_URL, new_record.url.as_str()), (field::BODY_HASH, new_record.body_hash.as_str())];
    let always = [
        (field::STATUS, Cow::from(Status::waiting(new_record.attempts).as_str())),
        (field::ATTEMPTS, Cow::from(new_record.attempts.to_string())),
        (field::CREATED_AT, Cow::from(new_record.accepted_at.0.to_string())),
        (field::EXPIRES_AT, Cow::from(new_record.expires_at.0.to_string())),
        (field::CORRELATION_ID, Cow::from(&new_record.correlation_id)),
    ];
    let known = given.into_iter().filter(|(_, value)| !value.is_empty());
    let known = known.chain(new_record.event_type.as_deref().map(|event_type| (field::EVENT_TYPE, event_type)));
    let known = known.chain(new_record.tenant.as_deref().map(|tenant| (field::TENANT, tenant)));
    always.into_iter().chain(known.map(|(name, value)| (name, Cow::from(value))))
}

/// The record as a Redis hash.
pub fn fields(record: &Record) -> BTreeMap<&'static str, String> {
    let mut fields: BTreeMap<_, _> =
        begin_fields(&record.details).map(|(name, value)| (name, value.into_owned())).collect();
    let mut set = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    };
    set(field::STATUS, Some(record.status.as_str().to_owned()));
    set(field::UPDATED_AT, Some(record.updated_at.0.to_string()));
    set(field::HOP, (record.hop > 0).then(|| record.hop.to_string()));
    set(field::RESERVED, record.reserved.then(|| "1".to_owned()));
    set(field::LEASE, record.lease.as_ref().map(|lease| lease.token.clone()));
    set(field::LEASE_UNTIL, record.lease.as_ref().map(|lease| lease.until.0.to_string()));
    set(field::FIRM, record.lease.as_ref().is_some_and(|lease| lease.firm).then(|| "1".to_owned()));
    set(field::CLAIMED, record.claimed.map(|hop| hop.to_string()));
    set(field::CRASHES, (record.crashes > 0).then(|| record.crashes.to_string()));
    set(field::SETTLED, record.settled.clone());
    set(field::UNKNOWN, record.unknown.then(|| "1".to_owned()));
    set(field::LAST_STATUS_CODE, record.last_status_code.map(|code| code.to_string()));
    set(field::ERROR_CLASS, record.error_class.map(|class| class.as_str().to_owned()));
    set(field::ERROR, record.error.clone());
    set(field::NEXT_ATTEMPT_AT, record.next_attempt_at.map(|at| at.0.to_string()));
    set(field::DURATION_MS, record.duration_ms.map(|ms| ms.to_string()));
    set(field::LOG, record.log.clone());
    set(field::MATCHED, record.matched.map(|count| count.to_string()));
    set(field::OWED, record.owed.map(|count| count.to_string()));
    set(field::ERASED, record.erased.map(|at| at.0.to_string()));
    fields
}

/// Reads a record from a Redis hash; `None` when it lacks what every record
/// has. Fields that cannot be read count as unknown.
pub fn from_fields(fields: &BTreeMap<String, String>) -> Option<Record> {
    let text = |name: &str| fields.get(name).cloned();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    let small = |name: &str| number(name).and_then(|value| u32::try_from(value).ok());
    Some(Record {
        status: fields.get(field::STATUS)?.parse().ok()?,
        details: NewRecord {
            tenant: text(field::TENANT),
            url: text(field::WEBHOOK_URL).unwrap_or_default(),
            correlation_id: text(field::CORRELATION_ID).unwrap_or_default(),
            event_type: text(field::EVENT_TYPE),
            body_hash: text(field::BODY_HASH).unwrap_or_default(),
            accepted_at: Millis(number(field::CREATED_AT)?),
            expires_at: Millis(number(field::EXPIRES_AT).unwrap_or_default()),
            attempts: small(field::ATTEMPTS).unwrap_or_default(),
        },
        updated_at: Millis(number(field::UPDATED_AT)?),
        hop: small(field::HOP).unwrap_or_default(),
        reserved: fields.contains_key(field::RESERVED),
        lease: text(field::LEASE).zip(number(field::LEASE_UNTIL)).map(|(token, until)| Lease {
            token,
            until: Millis(until),
            firm: fields.contains_key(field::FIRM),
        }),
        claimed: small(field::CLAIMED),
        crashes: small(field::CRASHES).unwrap_or_default(),
        settled: text(field::SETTLED),
        last_status_code: number(field::LAST_STATUS_CODE).and_then(|code| u16::try_from(code).ok()),
        error_class: fields.get(field::ERROR_CLASS).and_then(|name| name.parse().ok()),
        error: text(field::ERROR),
        next_attempt_at: number(field::NEXT_ATTEMPT_AT).map(Millis),
        duration_ms: number(field::DURATION_MS),
        unknown: fields.contains_key(field::UNKNOWN),
        log: text(field::LOG),
        matched: small(field::MATCHED),
        owed: small(field::OWED),
        erased: number(field::ERASED).map(Millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::outcome::ErrorClass;
    use domain::record_rules::{claim, settle};

    fn claim_of(token: &str, hop: u32) -> Claim {
        let new_record = NewRecord { url: "https://a.example/".into(), body_hash: "h".into(), ..NewRecord::default() };
        Claim { token: token.into(), hop, lease_ms: 100, new_record }
    }

    #[test]
    fn a_record_survives_redis() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 3));
        let ending = Ending::Retrying {
            attempts: 1,
            code: Some(500),
            class: ErrorClass::ServerError,
            error: "500".into(),
            duration_ms: 5,
            next_attempt_at: Millis(900),
        };
        let settlement = Settlement { token: "a".into(), hop: 3, ending, log: Some("[]".into()) };
        settle(&mut record, Millis(1), &claim_of("a", 3).new_record, &settlement);
        claim(&mut record, Millis(2), &claim_of("b", 4));
        let fields = fields(record.as_ref().unwrap()).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!(from_fields(&fields), record);
    }
}
