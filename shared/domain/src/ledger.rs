//! One delivery's record: who may attempt it now, and what became of it.
//!
//! These rules stand twice on purpose. Here they are plain Rust, the
//! specification; in `adapters` they are Lua, so that Redis applies them
//! atomically. A property test with random histories holds the two equal.
//!
//! A record moves by *hops*: every message of a delivery has one, its successor
//! the next. The record's hop is the highest that was claimed or sent, so a
//! lower one is stale, and a higher one proves that the attempt before it ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::ErrorClass;
use crate::status::Status;
use crate::time::Millis;

/// After this many leases ran out at one hop, the delivery is given up as
/// [`Reason::Crashed`](crate::dead_letter::Reason::Crashed).
pub const MAX_CRASHES: u32 = 4;

/// The longest error text in a record, in characters.
pub const MAX_ERROR: usize = 256;

/// A delivery as its record begins, carried by every message so that a lost
/// record can be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// Where to.
    pub url: String,
    /// What its log lines are found by.
    pub correlation_id: String,
    /// What kind of event it tells of.
    pub event_type: Option<String>,
    /// Tells its body from another under the same id; empty if unknown.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is given up.
    pub expires_at: Millis,
    /// Failed calls so far.
    pub attempts: u32,
}

/// The right to attempt a delivery, until it runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The holder: random for every receive of a message.
    pub token: String,
    /// When it runs out.
    pub until: Millis,
    /// Whether this hop was claimed before. The earlier attempt may have sent a
    /// successor that nobody recorded, so a higher hop must wait for this one.
    pub firm: bool,
}

/// A delivery's record, `webhook_status:<id>` in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub status: Status,
    /// The delivery as it was accepted; `attempts` counts the calls so far.
    pub birth: Birth,
    /// The last change, by the server's clock.
    pub updated_at: Millis,
    /// The highest hop that was claimed or sent.
    pub hop: u32,
    /// Whether its message is not known to be queued yet.
    pub reserved: bool,
    /// The hop that was claimed last.
    pub claimed: Option<u32>,
    /// Who is attempting it.
    pub lease: Option<Lease>,
    /// Leases that ran out since the last attempt that ended.
    pub crashes: u32,
    /// The token of the last settlement, so that a re-sent one changes nothing. A
    /// delivered one needs none: nothing changes it.
    pub settled: Option<String>,
    /// The last answer's status code.
    pub last_status_code: Option<u16>,
    /// The last failure's class.
    pub error_class: Option<ErrorClass>,
    /// The last failure, for a person.
    pub error: Option<String>,
    /// When it will be tried again.
    pub next_attempt_at: Option<Millis>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Whether it was given up long after its deadline without being heard of: a
    /// message of it may still come.
    pub unknown: bool,
}

/// What `remove` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing: it is not there, changed lately, or is being attempted.
    Kept,
    /// The record is gone.
    Deleted,
    /// The delivery is unfinished, so its lease, hop and hash stay, unseen.
    Hidden,
}

/// What `reserve` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The id was free, or an earlier request reserved it for the same body and
    /// did not get its message into the queue: send it.
    Reserved,
    /// It is queued, or further.
    Known {
        /// Where it stands.
        status: Status,
        /// What its log lines are found by.
        correlation_id: String,
    },
    /// Another body has this id.
    Conflict,
}

/// A consumer's wish to attempt a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Random for every receive of a message, the same when the command is re-sent.
    pub token: String,
    /// The message's hop.
    pub hop: u32,
    /// How long the caller can live, in milliseconds.
    pub lease_ms: u64,
    /// The delivery, in case its record is lost.
    pub birth: Birth,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Attempt it.
    Granted,
    /// Its consumers died again and again: give it up.
    Crashed,
    /// Somebody else is attempting it, for this long at most.
    Busy(Duration),
    /// It is finished.
    Done,
    /// A later message of it exists.
    Stale,
    /// The id belongs to another body.
    Foreign,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The claim's token.
    pub token: String,
    /// The message's hop.
    pub hop: u32,
    /// How it ended.
    pub ending: Ending,
}

/// How a claim ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ending {
    /// The receiver has it.
    Delivered {
        /// Calls made, this one included.
        attempts: u32,
        /// The answer's status code.
        code: u16,
        /// How long the attempt took.
        duration_ms: u64,
    },
    /// The attempt failed and a successor is queued.
    Retrying {
        /// Calls made that count.
        attempts: u32,
        /// The answer's status code, if one came.
        code: Option<u16>,
        /// The failure's class.
        class: ErrorClass,
        /// The failure, for a person.
        error: String,
        /// How long the attempt took.
        duration_ms: u64,
        /// When the successor is due.
        next_attempt_at: Millis,
    },
    /// No attempt was made and a successor is queued.
    Parked {
        /// Why, for a person.
        error: String,
        /// When the successor is due.
        next_attempt_at: Millis,
    },
    /// Given up, and the dead-letter queue has it.
    Failed {
        /// Calls made.
        attempts: u32,
        /// The last answer's status code, if one came.
        code: Option<u16>,
        /// The last failure's class, if there was one.
        class: Option<ErrorClass>,
        /// Why, for a person.
        error: String,
        /// How long the last attempt took, if one was made.
        duration_ms: Option<u64>,
    },
    /// Nothing was sent; the message stays in its queue.
    Released,
}

impl Ending {
    /// When the successor is due, if there is one.
    pub fn next_attempt_at(&self) -> Option<Millis> {
        match self {
            Self::Retrying { next_attempt_at, .. } | Self::Parked { next_attempt_at, .. } => Some(*next_attempt_at),
            Self::Delivered { .. } | Self::Failed { .. } | Self::Released => None,
        }
    }
}

/// The answer to a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded, now or by an earlier sending of the same command.
    Recorded,
    /// The record knows better.
    Stale,
    /// The id belongs to another body.
    Foreign,
}

impl Record {
    fn born(birth: &Birth, now: Millis) -> Self {
        Self {
            status: Status::waiting(birth.attempts),
            birth: birth.clone(),
            updated_at: now,
            hop: 0,
            reserved: false,
            claimed: None,
            lease: None,
            crashes: 0,
            settled: None,
            last_status_code: None,
            error_class: None,
            error: None,
            next_attempt_at: None,
            duration_ms: None,
            unknown: false,
        }
    }

    /// Whether it is to be seen. A removed record of an unfinished delivery is
    /// not, until the delivery moves on.
    pub fn is_shown(&self) -> bool {
        !self.birth.url.is_empty()
    }

    fn show(&mut self, birth: &Birth) {
        if !self.is_shown() {
            self.birth.url.clone_from(&birth.url);
            self.birth.event_type.clone_from(&birth.event_type);
        }
    }

    fn is_leased(&self, now: Millis) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now)
    }

    /// Whether the record belongs to another body. An unknown hash fits any.
    fn is_foreign(&self, birth: &Birth) -> bool {
        let (ours, theirs) = (&self.birth.body_hash, &birth.body_hash);
        !ours.is_empty() && !theirs.is_empty() && ours != theirs
    }
}

/// Reserves an id for a new delivery. The record tells a repeated request from
/// another body under the same id. A record without `reserved` is queued.
pub fn reserve(record: &mut Option<Record>, now: Millis, birth: &Birth) -> Reservation {
    match record {
        None => {
            *record = Some(Record { reserved: true, ..Record::born(birth, now) });
            Reservation::Reserved
        }
        Some(found) if found.is_foreign(birth) => Reservation::Conflict,
        Some(found) if found.reserved => Reservation::Reserved,
        Some(found) => Reservation::Known { status: found.status, correlation_id: found.birth.correlation_id.clone() },
    }
}

/// Notes that the delivery's first message is queued. Says where it stands:
/// a consumer may have been faster.
pub fn confirm(record: &mut Option<Record>, now: Millis, birth: &Birth) -> Status {
    let found = record.get_or_insert_with(|| Record::born(birth, now));
    if !found.is_foreign(birth) {
        found.reserved = false;
    }
    found.status
}

/// Takes back a reservation whose message was refused by the queue. Anything
/// that a consumer has touched since stays. Says whether it was taken back.
pub fn forget(record: &mut Option<Record>, birth: &Birth) -> bool {
    let untouched = record.as_ref().is_some_and(|found| found.reserved && !found.is_foreign(birth));
    if untouched {
        *record = None;
    }
    untouched
}

/// Asks to attempt a delivery.
pub fn claim(record: &mut Option<Record>, now: Millis, claim: &Claim) -> Grant {
    let found = record.get_or_insert_with(|| Record::born(&claim.birth, now));
    if found.is_foreign(&claim.birth) {
        return Grant::Foreign;
    }
    let verdict = |crashes: u32| if crashes >= MAX_CRASHES { Grant::Crashed } else { Grant::Granted };
    if found.lease.as_ref().is_some_and(|lease| lease.token == claim.token) {
        return verdict(found.crashes);
    }
    match found.status {
        Status::Delivered => return Grant::Done,
        Status::Failed if found.hop >= claim.hop && !found.unknown => return Grant::Done,
        Status::Failed | Status::Pending | Status::Retrying => {}
    }
    if found.hop > claim.hop {
        return Grant::Stale;
    }
    if let Some(lease) = &found.lease {
        // A successor is only sent when its attempt has ended, so a higher hop
        // voids the lease, unless that hop was claimed twice, or belongs to an
        // earlier life of this id that is redriven now.
        let earlier_life = found.birth.accepted_at != claim.birth.accepted_at;
        if lease.until > now && (found.hop == claim.hop || lease.firm || earlier_life) {
            return Grant::Busy(now.until(lease.until));
        }
        if found.hop == claim.hop {
            found.crashes += 1;
        }
    }
    if claim.hop > found.hop {
        // A redrive begins anew; a record that missed a hop catches up.
        if found.status == Status::Failed {
            found.crashes = 0;
            found.error = None;
            found.error_class = None;
        }
        found.birth.expires_at = claim.birth.expires_at;
        found.birth.attempts = claim.birth.attempts;
        found.status = Status::waiting(claim.birth.attempts);
        found.updated_at = now;
        found.hop = claim.hop;
    }
    if found.unknown {
        found.unknown = false;
        found.status = Status::waiting(found.birth.attempts);
    }
    found.show(&claim.birth);
    found.reserved = false;
    found.next_attempt_at = None;
    let firm = found.claimed == Some(claim.hop);
    found.claimed = Some(claim.hop);
    let until = now.after(Duration::from_millis(claim.lease_ms));
    found.lease = Some(Lease { token: claim.token.clone(), until, firm });
    verdict(found.crashes)
}

/// Records how a claim ended.
pub fn settle(record: &mut Option<Record>, now: Millis, birth: &Birth, settlement: &Settlement) -> Settled {
    let Settlement { token, hop, ending } = settlement;
    let found = match record {
        Some(found) => found,
        None if *ending == Ending::Released => return Settled::Stale,
        // Its successor is out and says more, or its record has lived its life.
        None if ending.next_attempt_at().is_some_and(|due| due <= now) => return Settled::Stale,
        None => record.insert(Record::born(birth, now)),
    };
    if found.is_foreign(birth) {
        return Settled::Foreign;
    }
    if found.settled.as_ref() == Some(token) {
        return Settled::Recorded;
    }
    let held = found.lease.as_ref().is_some_and(|lease| lease.token == *token);
    if *ending == Ending::Released {
        if held {
            found.lease = None;
        }
        return if held { Settled::Recorded } else { Settled::Stale };
    }
    if found.status == Status::Delivered {
        let repeated = matches!(ending, Ending::Delivered { .. });
        return if repeated { Settled::Recorded } else { Settled::Stale };
    }
    // A 2xx is a fact whoever reports it; anything else may be old news.
    let others = !held && found.lease.as_ref().is_some_and(|lease| lease.until > now);
    let outdated = found.hop > *hop
        || (found.hop == *hop && others)
        || (found.hop == *hop
            && found.status == Status::Failed
            && !found.unknown
            && matches!(ending, Ending::Failed { .. }));
    if outdated && !matches!(ending, Ending::Delivered { .. }) {
        return Settled::Stale;
    }
    apply(found, *hop, ending);
    found.show(birth);
    found.unknown = false;
    found.updated_at = now;
    found.settled = (found.status != Status::Delivered).then(|| token.clone());
    found.lease = None;
    found.reserved = false;
    Settled::Recorded
}

fn apply(found: &mut Record, at_hop: u32, ending: &Ending) {
    match ending {
        Ending::Delivered { attempts, code, duration_ms } => {
            found.status = Status::Delivered;
            found.birth.attempts = *attempts;
            found.hop = found.hop.max(at_hop);
            found.claimed = None;
            found.crashes = 0;
            found.last_status_code = Some(*code);
            found.error_class = None;
            found.error = None;
            found.next_attempt_at = None;
            found.duration_ms = Some(*duration_ms);
        }
        Ending::Retrying { attempts, code, class, error, duration_ms, next_attempt_at } => {
            found.status = Status::waiting(*attempts);
            found.birth.attempts = *attempts;
            found.hop = at_hop + 1;
            found.crashes = 0;
            found.last_status_code = *code;
            found.error_class = Some(*class);
            found.error = Some(error.clone());
            found.next_attempt_at = Some(*next_attempt_at);
            found.duration_ms = Some(*duration_ms);
        }
        Ending::Parked { error, next_attempt_at } => {
            found.status = Status::waiting(found.birth.attempts);
            found.hop = at_hop + 1;
            found.error = Some(error.clone());
            found.next_attempt_at = Some(*next_attempt_at);
        }
        Ending::Failed { attempts, code, class, error, duration_ms } => {
            found.status = Status::Failed;
            found.birth.attempts = *attempts;
            found.hop = at_hop;
            found.crashes = 0;
            found.last_status_code = *code;
            found.error_class = *class;
            found.error = Some(error.clone());
            found.next_attempt_at = None;
            found.duration_ms = *duration_ms;
        }
        Ending::Released => {}
    }
}

/// What an abandoned delivery's record says.
pub const OUTCOME_UNKNOWN: &str = "outcome unknown";

/// Removes a record that did not change after `before`. Work goes on without it:
/// of an unfinished delivery only the view is removed.
pub fn remove(record: &mut Option<Record>, now: Millis, before: Millis) -> Removal {
    let Some(found) = record else { return Removal::Kept };
    if found.updated_at > before {
        return Removal::Kept;
    }
    match found.status {
        Status::Delivered | Status::Failed if found.is_leased(now) => Removal::Kept,
        Status::Delivered | Status::Failed => {
            *record = None;
            Removal::Deleted
        }
        Status::Pending | Status::Retrying if !found.is_shown() => Removal::Kept,
        Status::Pending | Status::Retrying => {
            found.birth.url.clear();
            found.birth.event_type = None;
            found.last_status_code = None;
            found.error_class = None;
            found.error = None;
            found.next_attempt_at = None;
            found.duration_ms = None;
            Removal::Hidden
        }
    }
}

/// Marks a delivery as failed whose deadline passed before `before` and which
/// nobody is attempting. A message of it that comes after all is not dropped.
pub fn abandon(record: &mut Option<Record>, now: Millis, before: Millis) -> bool {
    let Some(found) = record else { return false };
    let unfinished = matches!(found.status, Status::Pending | Status::Retrying);
    if !unfinished || !found.is_shown() || found.birth.expires_at >= before || found.is_leased(now) {
        return false;
    }
    found.status = Status::Failed;
    found.error = Some(OUTCOME_UNKNOWN.to_owned());
    found.unknown = true;
    found.next_attempt_at = None;
    found.lease = None;
    found.updated_at = now;
    true
}

/// Notes that a dead letter was sent again, as `hop`, due at `due`. Says where
/// the delivery stands: a consumer may have been faster.
pub fn redrive(record: &mut Option<Record>, now: Millis, birth: &Birth, hop: u32, due: Millis) -> Status {
    let known = record.is_some();
    let found = record.get_or_insert_with(|| Record::born(birth, now));
    if !known || (found.status == Status::Failed && found.hop < hop && !found.is_foreign(birth)) {
        found.status = Status::Pending;
        found.birth.attempts = 0;
        found.birth.expires_at = birth.expires_at;
        found.show(birth);
        found.hop = hop;
        found.crashes = 0;
        found.lease = None;
        found.error = None;
        found.error_class = None;
        found.next_attempt_at = Some(due);
        found.unknown = false;
        found.updated_at = now;
    }
    found.status
}

/// Cuts an error text to what a record keeps.
pub fn short_error(text: &str) -> String {
    text.chars().take(MAX_ERROR).collect()
}

/// Names of the record's fields in Redis.
pub mod field {
    #![allow(missing_docs, reason = "each name is its meaning")]
    pub const STATUS: &str = "status";
    pub const WEBHOOK_URL: &str = "webhook_url";
    pub const ATTEMPTS: &str = "attempts";
    pub const CREATED_AT: &str = "created_at";
    pub const UPDATED_AT: &str = "updated_at";
    pub const EXPIRES_AT: &str = "expires_at";
    pub const CORRELATION_ID: &str = "correlation_id";
    pub const EVENT_TYPE: &str = "event_type";
    pub const BODY_HASH: &str = "body_hash";
    pub const LAST_STATUS_CODE: &str = "last_status_code";
    pub const ERROR_CLASS: &str = "error_class";
    pub const ERROR: &str = "error";
    pub const NEXT_ATTEMPT_AT: &str = "next_attempt_at";
    pub const DURATION_MS: &str = "duration_ms";
    pub const HOP: &str = "hop";
    pub const RESERVED: &str = "reserved";
    pub const LEASE: &str = "lease";
    pub const LEASE_UNTIL: &str = "lease_until";
    pub const CLAIMED: &str = "claimed";
    pub const FIRM: &str = "firm";
    pub const CRASHES: &str = "crashes";
    pub const SETTLED: &str = "settled";
    pub const UNKNOWN: &str = "unknown";
}

impl Birth {
    /// The fields that a record begins with.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let given = [(field::WEBHOOK_URL, self.url.as_str()), (field::BODY_HASH, self.body_hash.as_str())];
        let always = [
            (field::STATUS, Cow::from(Status::waiting(self.attempts).as_str())),
            (field::ATTEMPTS, Cow::from(self.attempts.to_string())),
            (field::CREATED_AT, Cow::from(self.accepted_at.0.to_string())),
            (field::EXPIRES_AT, Cow::from(self.expires_at.0.to_string())),
            (field::CORRELATION_ID, Cow::from(&self.correlation_id)),
        ];
        let known = given.into_iter().filter(|(_, value)| !value.is_empty());
        let known = known.chain(self.event_type.as_deref().map(|event_type| (field::EVENT_TYPE, event_type)));
        always.into_iter().chain(known.map(|(name, value)| (name, Cow::from(value))))
    }
}

impl Record {
    /// The record as a Redis hash.
    pub fn fields(&self) -> BTreeMap<&'static str, String> {
        let mut fields: BTreeMap<_, _> = self.birth.fields().map(|(name, value)| (name, value.into_owned())).collect();
        let mut set = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                fields.insert(name, value);
            }
        };
        set(field::STATUS, Some(self.status.as_str().to_owned()));
        set(field::UPDATED_AT, Some(self.updated_at.0.to_string()));
        set(field::HOP, (self.hop > 0).then(|| self.hop.to_string()));
        set(field::RESERVED, self.reserved.then(|| "1".to_owned()));
        set(field::LEASE, self.lease.as_ref().map(|lease| lease.token.clone()));
        set(field::LEASE_UNTIL, self.lease.as_ref().map(|lease| lease.until.0.to_string()));
        set(field::FIRM, self.lease.as_ref().is_some_and(|lease| lease.firm).then(|| "1".to_owned()));
        set(field::CLAIMED, self.claimed.map(|hop| hop.to_string()));
        set(field::CRASHES, (self.crashes > 0).then(|| self.crashes.to_string()));
        set(field::SETTLED, self.settled.clone());
        set(field::UNKNOWN, self.unknown.then(|| "1".to_owned()));
        set(field::LAST_STATUS_CODE, self.last_status_code.map(|code| code.to_string()));
        set(field::ERROR_CLASS, self.error_class.map(|class| class.as_str().to_owned()));
        set(field::ERROR, self.error.clone());
        set(field::NEXT_ATTEMPT_AT, self.next_attempt_at.map(|at| at.0.to_string()));
        set(field::DURATION_MS, self.duration_ms.map(|ms| ms.to_string()));
        fields
    }

    /// Reads a record from a Redis hash; `None` when it lacks what every record
    /// has. Fields that cannot be read count as unknown.
    pub fn from_fields(fields: &BTreeMap<String, String>) -> Option<Self> {
        let text = |name: &str| fields.get(name).cloned();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
        let small = |name: &str| number(name).and_then(|value| u32::try_from(value).ok());
        Some(Self {
            status: Status::named(fields.get(field::STATUS)?)?,
            birth: Birth {
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
            error_class: fields
                .get(field::ERROR_CLASS)
                .and_then(|name| ErrorClass::ALL.into_iter().find(|class| class.as_str() == name)),
            error: text(field::ERROR),
            next_attempt_at: number(field::NEXT_ATTEMPT_AT).map(Millis),
            duration_ms: number(field::DURATION_MS),
            unknown: fields.contains_key(field::UNKNOWN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth() -> Birth {
        Birth { url: "https://a.example/".into(), body_hash: "h".into(), ..Birth::default() }
    }

    fn claim_of(token: &str, hop: u32) -> Claim {
        Claim { token: token.into(), hop, lease_ms: 100, birth: birth() }
    }

    fn settle_of(token: &str, hop: u32, ending: Ending) -> Settlement {
        Settlement { token: token.into(), hop, ending }
    }

    fn delivered() -> Ending {
        Ending::Delivered { attempts: 1, code: 200, duration_ms: 5 }
    }

    fn retrying() -> Ending {
        Ending::Retrying {
            attempts: 1,
            code: Some(500),
            class: ErrorClass::ServerError,
            error: "500".into(),
            duration_ms: 5,
            next_attempt_at: Millis(900),
        }
    }

    fn failed() -> Ending {
        Ending::Failed {
            attempts: 1,
            code: Some(404),
            class: Some(ErrorClass::ClientError),
            error: "404".into(),
            duration_ms: None,
        }
    }

    #[test]
    fn a_delivery_is_claimed_by_one_and_then_done() {
        let mut record = None;
        assert_eq!(claim(&mut record, Millis(0), &claim_of("a", 0)), Grant::Granted);
        assert_eq!(claim(&mut record, Millis(40), &claim_of("b", 0)), Grant::Busy(Duration::from_millis(60)));
        assert_eq!(settle(&mut record, Millis(50), &birth(), &settle_of("a", 0, delivered())), Settled::Recorded);
        assert_eq!(claim(&mut record, Millis(60), &claim_of("b", 0)), Grant::Done);
    }

    #[test]
    fn a_re_sent_claim_gets_the_same_answer() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        let before = record.clone();
        assert_eq!(claim(&mut record, Millis(500), &claim_of("a", 0)), Grant::Granted);
        assert_eq!(record, before);
    }

    #[test]
    fn a_re_sent_settlement_changes_nothing() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &birth(), &settle_of("a", 0, retrying()));
        claim(&mut record, Millis(2), &claim_of("b", 1));
        let before = record.clone();
        assert_eq!(settle(&mut record, Millis(3), &birth(), &settle_of("a", 0, retrying())), Settled::Recorded);
        assert_eq!(record, before);
    }

    #[test]
    fn a_lower_hop_is_stale_and_a_higher_one_voids_the_lease() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        assert_eq!(claim(&mut record, Millis(1), &claim_of("b", 1)), Grant::Granted);
        assert_eq!(claim(&mut record, Millis(2), &claim_of("c", 0)), Grant::Stale);
        assert_eq!(settle(&mut record, Millis(3), &birth(), &settle_of("a", 0, failed())), Settled::Stale);
    }

    #[test]
    fn a_hop_that_was_claimed_twice_makes_a_higher_one_wait() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &birth(), &settle_of("a", 0, Ending::Released));
        claim(&mut record, Millis(2), &claim_of("b", 0));
        assert_eq!(claim(&mut record, Millis(3), &claim_of("c", 1)), Grant::Busy(Duration::from_millis(99)));
        assert_eq!(claim(&mut record, Millis(102), &claim_of("c", 1)), Grant::Granted);
    }

    #[test]
    fn the_fourth_lease_that_runs_out_ends_it() {
        let mut record = None;
        let grants: Vec<_> =
            (0..6).map(|n| claim(&mut record, Millis(n * 100), &claim_of(&n.to_string(), 0))).collect();
        let (granted, crashed) = (Grant::Granted, Grant::Crashed);
        assert_eq!(grants, [granted, granted, granted, granted, crashed, crashed]);
    }

    #[test]
    fn a_released_lease_is_no_crash() {
        let mut record = None;
        for n in 0..9 {
            let token = n.to_string();
            assert_eq!(claim(&mut record, Millis(n), &claim_of(&token, 0)), Grant::Granted);
            assert_eq!(
                settle(&mut record, Millis(n), &birth(), &settle_of(&token, 0, Ending::Released)),
                Settled::Recorded
            );
        }
    }

    #[test]
    fn delivered_overrides_everything_and_nothing_overrides_it() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &birth(), &settle_of("a", 0, failed()));
        assert_eq!(settle(&mut record, Millis(2), &birth(), &settle_of("b", 0, delivered())), Settled::Recorded);
        assert_eq!(settle(&mut record, Millis(3), &birth(), &settle_of("c", 7, failed())), Settled::Stale);
        assert_eq!(record.unwrap().status, Status::Delivered);
    }

    #[test]
    fn nothing_but_a_success_settles_over_anothers_live_lease() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        claim(&mut record, Millis(100), &claim_of("b", 0));
        for ending in [retrying(), failed()] {
            assert_eq!(settle(&mut record, Millis(101), &birth(), &settle_of("a", 0, ending)), Settled::Stale);
        }
        assert_eq!(settle(&mut record, Millis(101), &birth(), &settle_of("a", 0, delivered())), Settled::Recorded);
    }

    #[test]
    fn an_old_retry_does_not_bring_a_forgotten_record_back() {
        let mut record = None;
        assert_eq!(settle(&mut record, Millis(900), &birth(), &settle_of("a", 0, retrying())), Settled::Stale);
        assert_eq!(record, None);
        assert_eq!(settle(&mut record, Millis(899), &birth(), &settle_of("a", 0, retrying())), Settled::Recorded);
    }

    #[test]
    fn a_redrive_begins_anew() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &birth(), &settle_of("a", 0, failed()));
        assert_eq!(claim(&mut record, Millis(2), &claim_of("b", 0)), Grant::Done);
        assert_eq!(claim(&mut record, Millis(2), &claim_of("b", 1)), Grant::Granted);
        let record = record.unwrap();
        assert_eq!((record.status, record.birth.attempts, record.error), (Status::Pending, 0, None));
    }

    #[test]
    fn another_body_under_the_same_id_touches_nothing() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        let before = record.clone();
        let other = Birth { body_hash: "other".into(), ..birth() };
        assert_eq!(claim(&mut record, Millis(9), &Claim { birth: other.clone(), ..claim_of("b", 9) }), Grant::Foreign);
        assert_eq!(settle(&mut record, Millis(9), &other, &settle_of("b", 9, delivered())), Settled::Foreign);
        assert_eq!(reserve(&mut record, Millis(9), &other), Reservation::Conflict);
        assert_eq!(record, before);
    }

    #[test]
    fn a_reservation_is_resumed_until_it_is_queued() {
        let mut record = None;
        assert_eq!(reserve(&mut record, Millis(0), &birth()), Reservation::Reserved);
        assert_eq!(reserve(&mut record, Millis(1), &birth()), Reservation::Reserved);
        assert_eq!(confirm(&mut record, Millis(2), &birth()), Status::Pending);
        assert!(matches!(reserve(&mut record, Millis(3), &birth()), Reservation::Known { .. }));
        assert!(!forget(&mut record, &birth()), "a queued delivery is never forgotten");
    }

    #[test]
    fn a_claim_proves_that_the_message_was_queued() {
        let mut record = None;
        reserve(&mut record, Millis(0), &birth());
        claim(&mut record, Millis(1), &claim_of("a", 0));
        assert!(matches!(reserve(&mut record, Millis(2), &birth()), Reservation::Known { .. }));
        assert!(!forget(&mut record, &birth()));
    }

    #[test]
    fn a_record_survives_redis() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 3));
        settle(&mut record, Millis(1), &birth(), &settle_of("a", 3, retrying()));
        claim(&mut record, Millis(2), &claim_of("b", 4));
        let fields = record.as_ref().unwrap().fields().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!(Record::from_fields(&fields), record);
    }
}
