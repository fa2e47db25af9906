//! What becomes of one record of a batch. A decision says what is to be queued, recorded
//! and reported; it does nothing itself.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::metrics::DeliveryResult;
use domain::breaker::Pass;
use domain::history::Row;
use domain::history::delivery::EndedDelivery;
use domain::live_state::LiveState;
use domain::message::{LateOutcomes, Message};
use domain::next_step::GivenUp;
use domain::outcome::{HealthSignal, Outcome, Watched};
use domain::record::{Ending, NewRecord, Settlement};
use domain::time::Millis;

/// A record of the batch and what becomes of it.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) decision: Decision,
    /// The call, if one was made.
    pub(crate) call: Option<Call>,
    /// What became of its passes, for the breakers that gave them.
    pub(crate) reports: Vec<BreakerReport>,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Who was called, as the live state names it.
    pub(crate) receiver: Receiver,
    pub(crate) outcome: Outcome,
    /// How long it took, in milliseconds.
    pub(crate) ms: u64,
    /// How long the receiver asks for no other call, after a 429.
    pub(crate) block: Option<Duration>,
}

/// Who a delivery goes to, and what was known of it.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// The name of its live state: an endpoint's id, or the origin of a direct webhook.
    pub(crate) name: String,
    /// What was known of it when the delivery was claimed.
    pub(crate) live: LiveState,
    /// The endpoint's card that the call went by.
    pub(crate) endpoint: Option<CalledEndpoint>,
}

/// The endpoint that was called.
#[derive(Clone, Debug)]
pub(crate) struct CalledEndpoint {
    pub(crate) tenant: String,
    pub(crate) version: u64,
    /// Whether it was called with an event that Steadhook tells by itself.
    pub(crate) is_own_event: bool,
}

/// What becomes of a record. Whatever is queued is queued before anything is recorded.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Acknowledge it: a later message carries the delivery on.
    Superseded,
    /// Acknowledge it: the delivery is finished. History may have missed that.
    Finished(Box<Message>),
    /// Acknowledge it: its event was erased. Nothing of it is kept, and the record of this id
    /// is deleted.
    Erased { id: String, accepted_at: Millis },
    /// The message stays in its queue. There is no lease to give back.
    Keep,
    /// The message stays in its queue, and its lease is given back.
    Release(HeldClaim),
    /// It is not due yet, and is queued again.
    Wait(Box<Message>),
    /// The receiver has it.
    Delivered { claim: HeldClaim, ending: Ending, ended: Option<Box<EndedDelivery>> },
    /// The attempt failed, and a successor is queued.
    Retry { claim: HeldClaim, successor: Box<Message>, ending: Ending },
    /// No attempt was counted: it has to wait, and a successor is queued. Where, goes by when
    /// that is due, unless `to` names a queue.
    Park { claim: HeldClaim, successor: Box<Message>, ending: Ending, to: Option<QueueName> },
    /// Its endpoint is paused or disabled, and is owed it: a row has the message.
    Owe { claim: HeldClaim, message: Box<Message>, ending: Ending },
    /// The one call of a test failed. Its record says so, and nothing else is queued.
    TestFailed { claim: HeldClaim, ending: Ending },
    /// It is given up, and the dead-letter queue gets it.
    GiveUp { claim: HeldClaim, given_up: GivenUp },
    /// Its id belongs to another body, whose record must not be touched. The
    /// dead-letter queue gets it.
    ReusedId(Box<Message>),
    /// It cannot be read, and the dead-letter queue gets its text.
    Malformed { body: String, error: String },
    /// Late outcomes: index entries follow for those that are `recorded`, and what is
    /// `left` is queued again. The `rows` of history are written before that.
    Late {
        recorded: Box<LateOutcomes>,
        left: Option<Box<LateOutcomes>>,
        rows: Vec<Row>,
        /// Records of what was erased, each with its acceptance. They are deleted again.
        erased: Vec<(String, Millis)>,
    },
}

/// A claim that this invocation holds, as its settlement names it.
#[derive(Clone, Debug)]
pub(crate) struct HeldClaim {
    /// The webhook id.
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) hop: u32,
    /// The delivery as its record begins, in case that is lost.
    pub(crate) new_record: NewRecord,
    /// Whether Redis knows of the claim; if not, there is no lease to give back.
    pub(crate) is_known: bool,
    /// The attempts so far, for the record of a delivery to an endpoint.
    pub(crate) log: Option<String>,
}

impl HeldClaim {
    /// The settlement of this claim.
    pub(crate) fn settlement(&self, ending: Ending) -> Settlement {
        Settlement { token: self.token.clone(), hop: self.hop, ending, log: self.log.clone() }
    }
}

/// A pass that a breaker gave.
#[derive(Clone, Debug)]
pub(crate) struct HeldPass {
    /// What the breaker watches over.
    pub(crate) watched: Watched,
    /// The breaker's name.
    pub(crate) breaker: String,
    pub(crate) pass: Pass,
}

impl HeldPass {
    /// What a call came to, for this breaker.
    pub(crate) fn used(self, outcome: Outcome) -> BreakerReport {
        let signal = outcome.health_signal(self.watched);
        BreakerReport { breaker: self.breaker, pass: self.pass, signal }
    }

    /// No call was made with it. A probe gives its place back by that.
    pub(crate) fn unused(self) -> BreakerReport {
        BreakerReport { breaker: self.breaker, pass: self.pass, signal: HealthSignal::Neutral }
    }
}

/// What became of a pass, for the breaker that gave it.
#[derive(Clone, Debug)]
pub(crate) struct BreakerReport {
    /// The breaker's name.
    pub(crate) breaker: String,
    pub(crate) pass: Pass,
    pub(crate) signal: HealthSignal,
}

impl Decided {
    /// A decision without a call.
    pub(crate) fn new(record: usize, decision: Decision) -> Self {
        Self { record, decision, call: None, reports: Vec::new() }
    }

    /// The same, after a queue did not take what it must have: the message stays where
    /// it is, and its lease is given back.
    pub(crate) fn not_queued(&mut self) {
        let decision = std::mem::replace(&mut self.decision, Decision::Keep);
        self.decision = match decision {
            Decision::Release(claim)
            | Decision::Delivered { claim, .. }
            | Decision::Retry { claim, .. }
            | Decision::Park { claim, .. }
            | Decision::Owe { claim, .. }
            | Decision::TestFailed { claim, .. }
            | Decision::GiveUp { claim, .. } => Decision::Release(claim),
            Decision::Superseded
            | Decision::Finished(_)
            | Decision::Erased { .. }
            | Decision::Keep
            | Decision::Wait(_)
            | Decision::ReusedId(_)
            | Decision::Malformed { .. }
            | Decision::Late { .. } => Decision::Keep,
        };
    }
}

impl Decision {
    /// A delivery is given up. Of a test only its record is told.
    pub(crate) fn give_up(claim: HeldClaim, given_up: GivenUp) -> Self {
        if given_up.message.delivery.is_test() {
            Self::TestFailed { claim, ending: given_up.ending }
        } else {
            Self::GiveUp { claim, given_up }
        }
    }

    /// Whether SQS is to keep the message.
    pub(crate) fn keeps(&self) -> bool {
        match self {
            Self::Keep | Self::Release(_) => true,
            Self::Superseded
            | Self::Finished(_)
            | Self::Erased { .. }
            | Self::Wait(_)
            | Self::Delivered { .. }
            | Self::Retry { .. }
            | Self::Park { .. }
            | Self::Owe { .. }
            | Self::TestFailed { .. }
            | Self::GiveUp { .. }
            | Self::ReusedId(_)
            | Self::Malformed { .. }
            | Self::Late { .. } => false,
        }
    }

    /// The result that is counted once the queues have what they must have.
    pub(crate) fn result(&self) -> Option<DeliveryResult> {
        match self {
            Self::Superseded | Self::Finished(_) => Some(DeliveryResult::Duplicate),
            Self::Delivered { .. } => Some(DeliveryResult::Delivered),
            Self::Retry { .. } => Some(DeliveryResult::Retried),
            Self::Park { .. } | Self::Owe { .. } => Some(DeliveryResult::Parked),
            Self::GiveUp { .. } | Self::ReusedId(_) | Self::Malformed { .. } => Some(DeliveryResult::DeadLettered),
            Self::Erased { .. }
            | Self::Keep
            | Self::Release(_)
            | Self::Wait(_)
            | Self::TestFailed { .. }
            | Self::Late { .. } => None,
        }
    }

    /// The claim and the ending that its record gets.
    pub(crate) fn ending(&self) -> Option<(&HeldClaim, Ending)> {
        match self {
            Self::Delivered { claim, ending, .. }
            | Self::TestFailed { claim, ending }
            | Self::Retry { claim, ending, .. }
            | Self::Park { claim, ending, .. }
            | Self::Owe { claim, ending, .. } => Some((claim, ending.clone())),
            Self::GiveUp { claim, given_up } => Some((claim, given_up.ending.clone())),
            Self::Release(claim) => claim.is_known.then_some((claim, Ending::Released)),
            Self::Superseded
            | Self::Finished(_)
            | Self::Erased { .. }
            | Self::Keep
            | Self::Wait(_)
            | Self::ReusedId(_)
            | Self::Malformed { .. }
            | Self::Late { .. } => None,
        }
    }
}
