//! The record of a delivery or an event: its status, who may work on it now, and what that
//! came to last. How a record changes is in `record_rules`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::is_another_body;
use crate::outcome::ErrorClass;
use crate::status::Status;
use crate::time::Millis;

/// The longest error text in a record, in characters.
pub const MAX_ERROR: usize = 256;
/// How long the mark of an erased event lives: longer than any queue keeps a message.
pub const ERASED_LIFE: Duration = Duration::from_secs(15 * 24 * 3600);
/// What the mark of an erased event says.
pub const ERASED: &str = "erased";

/// A delivery as its record begins, carried by every message so that a lost
/// record can be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The tenant of a delivery to an endpoint.
    pub tenant: Option<String>,
    /// Where to: a URL, or an endpoint's origin.
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

/// A delivery's record, `webhook_status:<id>` or `delivery:<id>` in Redis, or an event's,
/// `event:<tenant>:<event>`. An event is *delivered* when it is fanned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub status: Status,
    /// The delivery as it was accepted; `attempts` counts the calls so far.
    pub details: NewRecord,
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
    /// The attempts so far, as JSON, of a delivery to an endpoint.
    pub log: Option<String>,
    /// How many endpoints have a delivery of it or are owed one, of an event.
    pub matched: Option<u32>,
    /// How many of them were owed theirs, of an event.
    pub owed: Option<u32>,
    /// What was accepted at this time or before is erased. Without a later life the record
    /// is only this mark.
    pub erased: Option<Millis>,
}

/// What `erase` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// What was accepted at this time or before is erased.
    pub at: Millis,
    /// Whether the record was such a mark already.
    pub again: bool,
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
    Reserved {
        /// When the delivery was accepted: what every message of the reservation says.
        accepted_at: Millis,
    },
    /// It is queued, or further.
    Known {
        /// Where it stands.
        status: Status,
        /// What its log lines are found by.
        correlation_id: String,
    },
    /// Another body has this id, or it is the id of an erased event.
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
    pub new_record: NewRecord,
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
    /// It is finished, or erased.
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
    /// The attempts so far, as JSON, of a delivery to an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
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
    /// A page of an event is fanned out, and the next one is queued.
    Continued {
        /// How many endpoints have their deliveries so far, or are owed them.
        matched: u32,
        /// How many of them are owed theirs.
        owed: u32,
    },
    /// An event is fanned out.
    FannedOut {
        /// How many endpoints have their deliveries, or are owed them.
        matched: u32,
        /// How many of them are owed theirs.
        owed: u32,
    },
    /// Nothing was sent; the message stays in its queue.
    Released,
}

impl Ending {
    /// When the successor is due, if there is one.
    pub fn next_attempt_at(&self) -> Option<Millis> {
        match self {
            Self::Retrying { next_attempt_at, .. } | Self::Parked { next_attempt_at, .. } => Some(*next_attempt_at),
            Self::Delivered { .. }
            | Self::Failed { .. }
            | Self::Continued { .. }
            | Self::FannedOut { .. }
            | Self::Released => None,
        }
    }

    /// How long its attempt took, if one was made.
    pub fn duration_ms(&self) -> Option<u64> {
        match self {
            Self::Delivered { duration_ms, .. } | Self::Retrying { duration_ms, .. } => Some(*duration_ms),
            Self::Failed { duration_ms, .. } => *duration_ms,
            Self::Parked { .. } | Self::Continued { .. } | Self::FannedOut { .. } | Self::Released => None,
        }
    }

    /// The status that nothing follows, if this ending has one.
    pub fn final_status(&self) -> Option<Status> {
        match self {
            Self::Delivered { .. } | Self::FannedOut { .. } => Some(Status::Delivered),
            Self::Failed { .. } => Some(Status::Failed),
            Self::Retrying { .. } | Self::Parked { .. } | Self::Continued { .. } | Self::Released => None,
        }
    }
}

/// The answer to a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementReply {
    /// It is recorded, now or by an earlier sending of the same command.
    Recorded,
    /// The record is newer; nothing changed.
    Stale,
    /// The id belongs to another body.
    Foreign,
}

/// Cuts an error text to what a record keeps.
pub fn short_error(text: &str) -> String {
    text.chars().take(MAX_ERROR).collect()
}

impl Record {
    pub(crate) fn begun(new_record: &NewRecord, now: Millis) -> Self {
        Self {
            status: Status::waiting(new_record.attempts),
            details: new_record.clone(),
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
            log: None,
            matched: None,
            owed: None,
            erased: None,
        }
    }

    /// Whether what was accepted at this time is erased.
    pub fn erases(&self, accepted_at: Millis) -> bool {
        self.erased.is_some_and(|erased| accepted_at <= erased)
    }

    /// Whether it is only the mark of an erased event.
    pub fn is_erased(&self) -> bool {
        self.erases(self.details.accepted_at)
    }

    /// Whether it is to be seen. A removed record of an unfinished delivery is
    /// not, until the delivery moves on, and a mark of an erased event never is.
    pub fn is_shown(&self) -> bool {
        !self.details.url.is_empty()
    }

    pub(crate) fn show(&mut self, new_record: &NewRecord) {
        if !self.is_shown() {
            self.details.url.clone_from(&new_record.url);
            self.details.event_type.clone_from(&new_record.event_type);
        }
    }

    pub(crate) fn is_leased(&self, now: Millis) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now)
    }

    /// Whether the record belongs to another body. An unknown hash fits any.
    pub(crate) fn is_foreign(&self, new_record: &NewRecord) -> bool {
        is_another_body(&self.details.body_hash, &new_record.body_hash)
    }
}
