//! What becomes of one message of the queue. Pure: `finish` carries it out.

use domain::event::EventPage;
use domain::job::JobPage;
use domain::reason::Reason;
use domain::record::{Ending, NewRecord, Settlement};
use domain::status::Lifetimes;
use domain::time::Millis;
use domain::work::Work;

/// A claim that is held on an event or a job, and what its record is to learn.
#[derive(Clone, Debug)]
pub(crate) struct HeldClaim {
    /// What its record is named by.
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) hop: u32,
    pub(crate) new_record: NewRecord,
    /// How long its record lives.
    pub(crate) lifetimes: Lifetimes,
    /// Whether Redis has it.
    pub(crate) is_known: bool,
}

impl HeldClaim {
    /// How it ended, as its record is told.
    pub(crate) fn settlement(&self, ending: Ending) -> Settlement {
        Settlement { token: self.token.clone(), hop: self.hop, ending, log: None }
    }
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is finished, or carried on by another message.
    Superseded,
    /// It was erased with its tenant: nothing of it is kept, and the record of this id is
    /// deleted.
    Erased { id: String, accepted_at: Millis },
    /// SQS is to keep it.
    Keep,
    /// SQS is to keep it, and its lease is given back.
    Release(HeldClaim),
    /// It is not due: the same hop is queued again.
    Wait(Work),
    /// A successor carries it on.
    Continue { claim: HeldClaim, successor: Work, ending: Ending },
    /// All endpoints have their deliveries.
    FannedOut { claim: HeldClaim, page: Box<EventPage>, matched: u32, owed: u32 },
    /// A job is done.
    JobDone { claim: HeldClaim, page: Box<JobPage> },
    /// A job had nothing to do yet. Its record is deleted, so that the next one of its name is
    /// worked on.
    JobIdle(HeldClaim),
    /// The dead-letter queue gets it.
    GiveUp { claim: HeldClaim, work: Work, reason: Reason, error: &'static str },
    /// Its id belongs to another body: the dead-letter queue gets it.
    ReusedId(Work),
    /// It cannot be read: the dead-letter queue gets it.
    Malformed { body: String, error: String },
}

/// What becomes of one record of the batch.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Which record.
    pub(crate) record: usize,
    pub(crate) decision: Decision,
}

impl Decision {
    /// What is to be done instead when a queue did not take what it must have.
    pub(crate) fn not_queued(self) -> Self {
        match self {
            Self::Release(claim)
            | Self::JobIdle(claim)
            | Self::Continue { claim, .. }
            | Self::FannedOut { claim, .. }
            | Self::JobDone { claim, .. }
            | Self::GiveUp { claim, .. } => Self::Release(claim),
            Self::Superseded
            | Self::Erased { .. }
            | Self::Keep
            | Self::Wait(_)
            | Self::ReusedId(_)
            | Self::Malformed { .. } => Self::Keep,
        }
    }

    /// Whether SQS is to keep the message.
    pub(crate) fn keeps(&self) -> bool {
        match self {
            Self::Keep | Self::Release(_) => true,
            Self::Superseded
            | Self::Erased { .. }
            | Self::Wait(_)
            | Self::Continue { .. }
            | Self::FannedOut { .. }
            | Self::JobDone { .. }
            | Self::JobIdle(_)
            | Self::GiveUp { .. }
            | Self::ReusedId(_)
            | Self::Malformed { .. } => false,
        }
    }

    /// The claim, and the ending that its record gets.
    pub(crate) fn ending(&self) -> Option<(&HeldClaim, Ending)> {
        match self {
            Self::Continue { claim, ending, .. } => Some((claim, ending.clone())),
            Self::FannedOut { claim, matched, owed, .. } => {
                Some((claim, Ending::FannedOut { matched: *matched, owed: *owed }))
            }
            // To its record, a job is an event without endpoints.
            Self::JobDone { claim, .. } => Some((claim, Ending::FannedOut { matched: 0, owed: 0 })),
            Self::GiveUp { claim, error, .. } => {
                let error = (*error).to_owned();
                Some((claim, Ending::Failed { attempts: 0, code: None, class: None, error, duration_ms: None }))
            }
            Self::Release(claim) => claim.is_known.then_some((claim, Ending::Released)),
            Self::Superseded
            | Self::Erased { .. }
            | Self::JobIdle(_)
            | Self::Keep
            | Self::Wait(_)
            | Self::ReusedId(_)
            | Self::Malformed { .. } => None,
        }
    }
}
