//! The delivery record in Redis: `domain::ledger` as scripts on one key.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ledger::{
    Birth, Claim, Ending, Grant, MAX_CRASHES, OUTCOME_UNKNOWN, Record, Removal, Reservation, Settled, Settlement, field,
};
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use redis::{FromRedisValue as _, RedisError, Value};

use crate::redis::{Args, Call, Reply, Script};

/// How long a reservation lives whose message may never have been queued, in ms.
const RESERVATION_MS: u64 = 15 * 60 * 1000;

/// What a record that should have ended long ago still gets.
const SHORTEST_LIFE: Duration = Duration::from_secs(3600);

static RESERVE: Script = Script::new(include_str!("scripts/reserve.lua"));
static CONFIRM: Script = Script::new(include_str!("scripts/confirm.lua"));
static FORGET: Script = Script::new(include_str!("scripts/forget.lua"));
static CLAIM: Script = Script::new(include_str!("scripts/claim.lua"));
static SETTLE: Script = Script::new(include_str!("scripts/settle.lua"));
static REMOVE: Script = Script::new(include_str!("scripts/remove.lua"));
static ABANDON: Script = Script::new(include_str!("scripts/abandon.lua"));
static REDRIVE: Script = Script::new(include_str!("scripts/redrive.lua"));

/// An answer of Redis that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Redis refused the command.
    #[error("redis refused `{0}`")]
    Refused(&'static str, #[source] RedisError),
    /// Redis answered something else than the script does.
    #[error("redis answered `{0}` with something else than its script does")]
    Unexpected(&'static str),
}

impl LedgerError {
    /// Whether Redis did answer.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Refused(_, error) => matches!(error.kind(), redis::ErrorKind::Server(_)),
            Self::Unexpected(_) => true,
        }
    }

    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(..) => "ledger_refused",
            Self::Unexpected(_) => "ledger_unexpected",
        }
    }
}

/// The record's key.
pub fn key(id: &str) -> String {
    format!("webhook_status:{id}")
}

/// `domain::ledger::reserve` for the delivery `id`.
pub fn reserve(id: &str, birth: &Birth) -> Call {
    let args = Args::new().with(&birth.body_hash).with(RESERVATION_MS);
    Call::Script { script: &RESERVE, key: key(id), args: with_fields(args, birth) }
}

/// Reads the answer to [`reserve`].
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn reserved(reply: Reply) -> Result<Reservation, LedgerError> {
    let words = words("reserve", reply)?;
    match (words.first().map(String::as_str), words.get(1), words.get(2)) {
        (Some("reserved"), None, None) => Ok(Reservation::Reserved),
        (Some("conflict"), None, None) => Ok(Reservation::Conflict),
        (Some("known"), Some(status), Some(correlation_id)) => Ok(Reservation::Known {
            status: Status::named(status).ok_or(LedgerError::Unexpected("reserve"))?,
            correlation_id: correlation_id.clone(),
        }),
        _ => Err(LedgerError::Unexpected("reserve")),
    }
}

/// `domain::ledger::confirm` for the delivery `id`.
pub fn confirm(id: &str, birth: &Birth, lifetimes: Lifetimes) -> Call {
    let args = Args::new().with(&birth.body_hash).with(lifetimes.unfinished_ms);
    Call::Script { script: &CONFIRM, key: key(id), args: with_fields(args, birth) }
}

/// `domain::ledger::forget` for the delivery `id`.
pub fn forget(id: &str, birth: &Birth) -> Call {
    Call::Script { script: &FORGET, key: key(id), args: Args::new().with(&birth.body_hash) }
}

/// `domain::ledger::claim` for the delivery `id`.
pub fn claim(id: &str, claim: &Claim, lifetimes: Lifetimes) -> Call {
    let birth = &claim.birth;
    let args = Args::new()
        .with(&claim.token)
        .with(claim.hop)
        .with(claim.lease_ms)
        .with(&birth.body_hash)
        .with(MAX_CRASHES)
        .with(lifetimes.unfinished_ms)
        .with(Status::waiting(birth.attempts).as_str())
        .with(birth.attempts)
        .with(birth.expires_at.0);
    Call::Script { script: &CLAIM, key: key(id), args: with_fields(args, birth) }
}

/// Reads the answer to [`claim`].
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn granted(reply: Reply) -> Result<Grant, LedgerError> {
    let words = words("claim", reply)?;
    match (words.first().map(String::as_str), words.get(1)) {
        (Some("granted"), None) => Ok(Grant::Granted),
        (Some("crashed"), None) => Ok(Grant::Crashed),
        (Some("done"), None) => Ok(Grant::Done),
        (Some("stale"), None) => Ok(Grant::Stale),
        (Some("foreign"), None) => Ok(Grant::Foreign),
        (Some("busy"), Some(ms)) => {
            let ms = ms.parse().map_err(|_| LedgerError::Unexpected("claim"))?;
            Ok(Grant::Busy(Duration::from_millis(ms)))
        }
        _ => Err(LedgerError::Unexpected("claim")),
    }
}

/// `domain::ledger::settle` for the delivery `id`.
pub fn settle(id: &str, birth: &Birth, settlement: &Settlement, lifetimes: Lifetimes) -> Call {
    let (name, fields) = view(&settlement.ending);
    let ttl = if name == "delivered" { lifetimes.delivered_ms } else { lifetimes.unfinished_ms };
    let mut args = Args::new()
        .with(&settlement.token)
        .with(settlement.hop)
        .with(name)
        .with(&birth.body_hash)
        .with(ttl)
        .with(fields.len() * 2);
    for (field, value) in &fields {
        args.push_str(field);
        args.push_str(value);
    }
    Call::Script { script: &SETTLE, key: key(id), args: with_fields(args, birth) }
}

/// Reads the answer to [`settle`].
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn settled(reply: Reply) -> Result<Settled, LedgerError> {
    let words = words("settle", reply)?;
    match words.first().map(String::as_str) {
        Some("recorded") => Ok(Settled::Recorded),
        Some("stale") => Ok(Settled::Stale),
        Some("foreign") => Ok(Settled::Foreign),
        _ => Err(LedgerError::Unexpected("settle")),
    }
}

/// `domain::ledger::remove` for the delivery `id`.
pub fn remove(id: &str, before: Millis) -> Call {
    Call::Script { script: &REMOVE, key: key(id), args: Args::new().with(before.0) }
}

/// Reads the answer to [`remove`].
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn removed(reply: Reply) -> Result<Removal, LedgerError> {
    match words("remove", reply)?.first().map(String::as_str) {
        Some("kept") => Ok(Removal::Kept),
        Some("deleted") => Ok(Removal::Deleted),
        Some("hidden") => Ok(Removal::Hidden),
        _ => Err(LedgerError::Unexpected("remove")),
    }
}

/// `domain::ledger::abandon` for the delivery `id`.
pub fn abandon(id: &str, before: Millis, lifetimes: Lifetimes) -> Call {
    let args = Args::new().with(before.0).with(OUTCOME_UNKNOWN).with(lifetimes.unfinished_ms);
    Call::Script { script: &ABANDON, key: key(id), args }
}

/// Reads the answer to [`abandon`]: whether it is given up now.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn abandoned(reply: Reply) -> Result<bool, LedgerError> {
    match words("abandon", reply)?.first().map(String::as_str) {
        Some("kept") => Ok(false),
        Some("abandoned") => Ok(true),
        _ => Err(LedgerError::Unexpected("abandon")),
    }
}

/// `domain::ledger::redrive` for the delivery `id`.
pub fn redrive(id: &str, birth: &Birth, hop: u32, due: Millis, lifetimes: Lifetimes) -> Call {
    let args =
        Args::new().with(hop).with(due.0).with(&birth.body_hash).with(lifetimes.unfinished_ms).with(birth.expires_at.0);
    Call::Script { script: &REDRIVE, key: key(id), args: with_fields(args, birth) }
}

/// Reads the answer to [`redrive`]: where the delivery stands.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn redriven(reply: Reply) -> Result<Status, LedgerError> {
    let words = words("redrive", reply)?;
    words.first().and_then(|name| Status::named(name)).ok_or(LedgerError::Unexpected("redrive"))
}

/// Gives a record that has no TTL what is left of its life, an hour at least.
pub fn mortal(id: &str, record: &Record, now: Millis, lifetimes: Lifetimes) -> Call {
    let age = record.updated_at.until(now);
    let life = Duration::from_millis(lifetimes.of(record.status));
    let left = life.saturating_sub(age).max(SHORTEST_LIFE);
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(key(id)).arg(domain::time::whole_ms(left)).arg("NX");
    expire.into()
}

/// Reads the delivery's record and its TTL in ms: two calls, in this order.
pub fn read(id: &str) -> [Call; 2] {
    let mut get = redis::cmd("HGETALL");
    get.arg(key(id));
    let mut ttl = redis::cmd("PTTL");
    ttl.arg(key(id));
    [get.into(), ttl.into()]
}

/// Reads the answers to [`read`]: the record and its TTL in ms, if it exists.
///
/// # Errors
/// When Redis refused a command or answered nonsense.
pub fn record(get: Reply, ttl: Reply) -> Result<Option<(Record, Option<u64>)>, LedgerError> {
    let refused = |error| LedgerError::Refused("read", error);
    let fields = BTreeMap::<String, String>::from_redis_value(get.map_err(refused)?)
        .map_err(|_| LedgerError::Unexpected("read"))?;
    let ttl = i64::from_redis_value(ttl.map_err(refused)?).map_err(|_| LedgerError::Unexpected("read"))?;
    Ok(Record::from_fields(&fields).map(|record| (record, u64::try_from(ttl).ok())))
}

/// An ending's name and the fields that it sets; an empty value removes its field.
fn view(ending: &Ending) -> (&'static str, Vec<(&'static str, String)>) {
    let text = |value: &Option<u16>| value.map(|code| code.to_string()).unwrap_or_default();
    match ending {
        Ending::Delivered { attempts, code, duration_ms } => (
            "delivered",
            vec![
                (field::STATUS, Status::Delivered.as_str().to_owned()),
                (field::ATTEMPTS, attempts.to_string()),
                (field::LAST_STATUS_CODE, code.to_string()),
                (field::ERROR_CLASS, String::new()),
                (field::ERROR, String::new()),
                (field::NEXT_ATTEMPT_AT, String::new()),
                (field::DURATION_MS, duration_ms.to_string()),
            ],
        ),
        Ending::Retrying { attempts, code, class, error, duration_ms, next_attempt_at } => (
            "retrying",
            vec![
                (field::STATUS, Status::waiting(*attempts).as_str().to_owned()),
                (field::ATTEMPTS, attempts.to_string()),
                (field::LAST_STATUS_CODE, text(code)),
                (field::ERROR_CLASS, class.as_str().to_owned()),
                (field::ERROR, error.clone()),
                (field::NEXT_ATTEMPT_AT, next_attempt_at.0.to_string()),
                (field::DURATION_MS, duration_ms.to_string()),
            ],
        ),
        Ending::Parked { error, next_attempt_at } => {
            ("parked", vec![(field::ERROR, error.clone()), (field::NEXT_ATTEMPT_AT, next_attempt_at.0.to_string())])
        }
        Ending::Failed { attempts, code, class, error, duration_ms } => (
            "failed",
            vec![
                (field::STATUS, Status::Failed.as_str().to_owned()),
                (field::ATTEMPTS, attempts.to_string()),
                (field::LAST_STATUS_CODE, text(code)),
                (field::ERROR_CLASS, class.map(|class| class.as_str().to_owned()).unwrap_or_default()),
                (field::ERROR, error.clone()),
                (field::NEXT_ATTEMPT_AT, String::new()),
                (field::DURATION_MS, duration_ms.map(|ms| ms.to_string()).unwrap_or_default()),
            ],
        ),
        Ending::Released => ("released", Vec::new()),
    }
}

fn with_fields(mut args: Args, birth: &Birth) -> Args {
    for (field, value) in birth.fields() {
        args.push_str(field);
        args.push_str(&value);
    }
    args
}

/// A script's answer: one word, or several.
pub(crate) fn words(doing: &'static str, reply: Reply) -> Result<Vec<String>, LedgerError> {
    let value = reply.map_err(|error| LedgerError::Refused(doing, error))?;
    let values = if let Value::Array(values) = value { values } else { vec![value] };
    values
        .into_iter()
        .map(|value| String::from_redis_value(value).map_err(|_| LedgerError::Unexpected(doing)))
        .collect()
}
