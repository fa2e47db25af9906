//! A job: work that somebody asked for and that is done in pages, as the fan-out of an event
//! is. A page's message carries everything needed to go on.

use serde::{Deserialize, Serialize};

use crate::history::replay::ReplayJob;
use crate::identity::work_record_id;
use crate::record::NewRecord;
use crate::time::Millis;

/// What a job does, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Makes deliveries of an endpoint again.
    Replay(ReplayJob),
    /// Erases the payload of an event, or all that is kept of a tenant.
    Erase(EraseJob),
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
        }
    }
}

impl JobPage {
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
