//! A job: work that somebody asked for and that is done in pages, as the fan-out of an event
//! is. A page's message carries everything needed to go on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::StateReason;
use crate::history::names;
use crate::history::replay::ReplayJob;
use crate::identity::work_record_id;
use crate::names::OPERATOR;
use crate::reason::Reason;
use crate::record::NewRecord;
use crate::time::{Millis, whole_ms};

/// A minute, in milliseconds.
const MINUTE_MS: u64 = 60_000;
/// How long a job that begins by itself is tried.
const LONGEST_JOB: Duration = Duration::from_secs(7 * 86_400);

/// What a job does, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Makes deliveries of an endpoint again.
    Replay(ReplayJob),
    /// Erases the payload of an event, or all that is kept of a tenant.
    Erase(EraseJob),
    /// Queues what an endpoint was owed, once it is enabled again.
    CatchUp(CatchUpJob),
    /// Ends what was owed for too long.
    Expire(ExpireJob),
    /// Tells of an endpoint: that it must be disabled, or that a delivery to it was given up.
    Notice(Notice),
}

/// What an endpoint is owed. Nobody starts it by hand: whoever writes an owed row, and whoever
/// enables the endpoint, queues a wake-up of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatchUpJob {
    /// The endpoint.
    pub endpoint: String,
    /// The row that it has come to. Those before it are done with, or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Deliveries that were queued so far.
    #[serde(default)]
    pub queued: u64,
}

/// A walk through all endpoints for what they were owed for too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireJob {
    /// What was owed since before then ends.
    pub before: Millis,
    /// The tenant that the walk has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The last endpoint of that tenant that is done with, or the one that it has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The row of that endpoint that it has come to, if it is not done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Deliveries that it has ended.
    #[serde(default)]
    pub expired: u64,
}

/// What is told of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The endpoint.
    pub endpoint: String,
    /// What happened.
    pub what: Noticed,
}

/// What happened to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noticed {
    /// It is gone, or failed for too long: it is disabled if its card still has this version.
    MustDisable {
        /// Why.
        reason: StateReason,
        /// The version of the card that the deliveries went by.
        version: u64,
        /// When it began to fail.
        failing_since: Millis,
        /// Failures since.
        failures: u64,
    },
    /// A delivery was given up.
    DeliveryFailed {
        /// The delivery.
        delivery_id: String,
        /// Its event.
        event_id: String,
        /// The type of that event.
        event_type: Option<String>,
        /// Why it was given up.
        reason: Reason,
        /// Why, for a person.
        error: String,
    },
}

/// What is erased and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseJob {
    /// The event whose payload is erased; `None` for all that is kept of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// What was accepted until then is erased.
    pub before: Millis,
    /// How many times everything was gone through. What was being written the first time is
    /// met the second time.
    pub sweep: u8,
    /// How far this sweep is, as the erasing itself names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// One page of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPage {
    /// The tenant that it is for.
    pub tenant: String,
    /// Its id, `[A-Za-z0-9_-]{1,64}`.
    pub id: String,
    /// What it does.
    pub job: Job,
    /// What its log lines are found by.
    pub correlation_id: String,
    /// When it was asked for.
    pub accepted_at: Millis,
    /// When it is given up.
    pub deadline: Millis,
    /// Counts its pages, and whatever else made a new message of it.
    pub hop: u32,
    /// How often in a row it had to wait for something that was away.
    #[serde(default)]
    pub waited: u32,
    /// Not to be worked on earlier.
    #[serde(default)]
    pub not_before: Millis,
}

impl Job {
    /// The name of its kind, in messages, records and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Replay(_) => "replay",
            Self::Erase(_) => "erase",
            Self::CatchUp(_) => "catch_up",
            Self::Expire(_) => "expire",
            Self::Notice(_) => "notice",
        }
    }

    /// Whether nobody asks for it long after it is done: it begins by itself, every minute
    /// perhaps, so its record should not stay for days.
    pub fn is_brief(&self) -> bool {
        match self {
            Self::CatchUp(_) | Self::Notice(Notice { what: Noticed::DeliveryFailed { .. }, .. }) => true,
            Self::Replay(_)
            | Self::Erase(_)
            | Self::Expire(_)
            | Self::Notice(Notice { what: Noticed::MustDisable { .. }, .. }) => false,
        }
    }

    /// The endpoint that it is about, if it is about one.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Replay(job) => Some(&job.request.endpoint),
            Self::CatchUp(job) => Some(&job.endpoint),
            Self::Notice(notice) => Some(&notice.endpoint),
            Self::Expire(job) => job.endpoint.as_deref(),
            Self::Erase(_) => None,
        }
    }
}

impl JobPage {
    /// The wake-up of a catch-up that begins at `due`. All of one minute and endpoint are the
    /// same work, so that only one of them is done. Therefore `due` must be a minute ahead at
    /// least: what a wake-up is queued for is there before the first one of its minute begins.
    pub fn wake_up(tenant: &str, endpoint: &str, due: Millis) -> Self {
        let minute = due.0 / MINUTE_MS;
        let job = Job::CatchUp(CatchUpJob { endpoint: endpoint.to_owned(), after: None, queued: 0 });
        Self::begun(tenant, format!("{endpoint}-{minute}"), job, Millis(minute * MINUTE_MS), due)
    }

    /// What is told of an endpoint at `now`. All who tell the same of one version, or that a
    /// delivery was given up in one minute, tell it once.
    pub fn notice(tenant: &str, notice: Notice, now: Millis) -> Self {
        let minute = now.0 / MINUTE_MS;
        let endpoint = &notice.endpoint;
        let id = match &notice.what {
            Noticed::MustDisable { version, .. } => format!("{endpoint}-d{version}"),
            Noticed::DeliveryFailed { .. } => format!("{endpoint}-f{minute}"),
        };
        // Those who tell of one version must agree on when.
        let accepted_at = match &notice.what {
            Noticed::MustDisable { .. } => Millis(0),
            Noticed::DeliveryFailed { .. } => Millis(minute * MINUTE_MS),
        };
        let page = Self::begun(tenant, id, Job::Notice(notice), accepted_at, Millis(0));
        Self { deadline: now.after(LONGEST_JOB), ..page }
    }

    /// The walk through all endpoints for what has been owed since `before`. All of one day are
    /// the same work.
    pub fn expiry(before: Millis, now: Millis) -> Self {
        let day = names::day(now);
        let job = Job::Expire(ExpireJob { before, tenant: None, endpoint: None, place: None, expired: 0 });
        let begins_at = Millis(now.0 - now.0 % whole_ms(names::DAY));
        Self::begun(OPERATOR, format!("ex_{day}"), job, begins_at, Millis(0))
    }

    fn begun(tenant: &str, id: String, job: Job, accepted_at: Millis, due: Millis) -> Self {
        Self {
            tenant: tenant.to_owned(),
            correlation_id: id.clone(),
            id,
            job,
            accepted_at,
            deadline: accepted_at.after(LONGEST_JOB),
            hop: 0,
            waited: 0,
            not_before: due,
        }
    }

    /// What its record is named by.
    pub fn record_id(&self) -> String {
        work_record_id(self.job.kind(), &self.id)
    }

    /// What its record begins with.
    pub fn new_record(&self) -> NewRecord {
        NewRecord {
            tenant: Some(self.tenant.clone()),
            url: String::new(),
            correlation_id: self.correlation_id.clone(),
            event_type: None,
            body_hash: String::new(),
            accepted_at: self.accepted_at,
            expires_at: self.deadline,
            attempts: 0,
        }
    }

    /// The page after this one.
    #[must_use = "a continuation that is not sent loses the rest of the job"]
    pub fn continued(&self, job: Job, due: Millis) -> Self {
        Self { job, hop: self.hop + 1, waited: 0, not_before: due, ..self.clone() }
    }

    /// The same page again, not earlier than `due`.
    #[must_use = "a successor that is not sent loses the job"]
    pub fn delayed(&self, due: Millis) -> Self {
        Self { hop: self.hop + 1, waited: self.waited.saturating_add(1), not_before: due, ..self.clone() }
    }

    /// The page that resumes a job which was given up.
    #[must_use]
    pub fn resumed(&self, due: Millis, deadline: Millis) -> Self {
        Self { hop: self.hop + 1, waited: 0, not_before: due, deadline, ..self.clone() }
    }

    /// When it is to be worked on: an instant beyond the deadline is the deadline, where it
    /// is given up.
    pub fn due(&self) -> Millis {
        self.not_before.min(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_of_one_minute_are_the_same_work() {
        let page = |due| JobPage::wake_up("acme", "ep_1", Millis(due));
        assert_eq!(page(60_000).record_id(), page(119_999).record_id());
        assert_eq!(page(60_000).new_record(), page(119_999).new_record());
        assert_ne!(page(119_999).record_id(), page(120_000).record_id());
        assert_eq!(page(119_999).due(), Millis(119_999));
    }

    #[test]
    fn a_day_has_one_walk_for_what_is_owed_for_too_long() {
        let page = |now| JobPage::expiry(Millis(1), Millis(now));
        assert_eq!(page(86_400_000).new_record(), page(172_799_999).new_record());
        assert_eq!((page(86_400_000).id.as_str(), page(172_800_000).id.as_str()), ("ex_19700102", "ex_19700103"));
    }
}
