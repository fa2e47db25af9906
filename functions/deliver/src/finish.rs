//! The way out: what a delivery leaves behind, first in the queues and then in
//! its record.
//!
//! The successor goes to SQS before the record says so: a crash in between
//! leaves two messages, and `claim` drops the older. The other order loses one.

use adapters::breaker;
use adapters::index;
use adapters::ledger;
use adapters::metric::{self, Outcome};
use adapters::sqs::{Lane, Outgoing};
use adapters::telemetry;
use bytes::Bytes;
use domain::dead_letter::{ERROR_CODE, ERROR_MESSAGE, EXHAUSTED_RETRY_CONDITION, RETRY_ATTEMPTS, Reason};
use domain::delivery::{Step, give_up};
use domain::ledger::{Birth, Ending, Settled, Settlement};
use domain::message::{Malformed, Message, Report};
use domain::retry::sqs_delay_s;
use domain::status::Status;
use domain::time::Millis;

use crate::gate::{Called, tell};
use crate::intake::{REPORT_LANE, answered};
use crate::{Batch, Deliver, Work};

/// The longest body of an unreadable message that is kept: with its attributes it
/// must fit into the queue again.
const MAX_MALFORMED: usize = 1_000_000;
/// The longest error text in an attribute, in characters.
const MAX_ERROR_MESSAGE: usize = 1024;

/// What is left to do for one record.
#[derive(Debug)]
pub(crate) struct Finish {
    record: usize,
    /// What a queue must have before anything is recorded.
    send: Option<(Lane, Sending)>,
    /// What is then recorded.
    settle: Option<Settle>,
    /// What its breaker is then told.
    called: Option<Called>,
    /// A report that was recorded; the indexes follow.
    reported: Option<Box<Report>>,
    /// What is counted once the queue has what it must have.
    outcome: Option<Outcome>,
    /// Whether SQS is to keep the message whatever happens.
    keep: bool,
}

#[derive(Debug)]
enum Sending {
    Successor(Box<Message>),
    DeadLetter { reason: Reason, message: Box<Message>, error: String },
    Malformed { body: String, error: String },
    Report(Box<Report>),
}

#[derive(Debug)]
struct Settle {
    id: String,
    birth: Birth,
    settlement: Settlement,
    /// Whether Redis knows of the claim; if not, a release has nothing to release.
    claimed: bool,
}

impl Settle {
    fn of(work: &Work, ending: Ending) -> Self {
        let settlement = Settlement { token: work.token.clone(), hop: work.message.hop, ending };
        Self { id: work.message.id.clone(), birth: work.message.birth(), settlement, claimed: work.claimed }
    }

    fn status(&self) -> Option<Status> {
        match &self.settlement.ending {
            Ending::Delivered { .. } => Some(Status::Delivered),
            Ending::Retrying { attempts, .. } => Some(Status::waiting(*attempts)),
            Ending::Parked { .. } => Some(Status::waiting(self.birth.attempts)),
            Ending::Failed { .. } => Some(Status::Failed),
            Ending::Released => None,
        }
    }
}

impl Finish {
    fn of(record: usize) -> Self {
        Self { record, send: None, settle: None, called: None, reported: None, outcome: None, keep: false }
    }

    /// What an attempt decided.
    pub(crate) fn after(work: Work, step: Step) -> Self {
        let base = Self::of(work.record);
        match step {
            Step::Delivered { ending } => {
                Self { settle: Some(Settle::of(&work, ending)), outcome: Some(Outcome::Delivered), ..base }
            }
            Step::Retry { successor, ending } => Self {
                send: Some((Lane::Retry, Sending::Successor(successor))),
                outcome: Some(if matches!(ending, Ending::Parked { .. }) { Outcome::Parked } else { Outcome::Retried }),
                settle: Some(Settle::of(&work, ending)),
                ..base
            },
            Step::GiveUp { reason, message, ending } => Self::dead(&work, reason, message, Some(ending)),
            Step::Keep => Self { keep: true, ..Self::release(work) },
        }
    }

    /// Adds what the breaker is told.
    pub(crate) fn told(self, called: Called) -> Self {
        Self { called: Some(called), ..self }
    }

    /// An open breaker refused it until `due`.
    pub(crate) fn parked(work: Work, due: Millis) -> Self {
        let error = "waiting: the circuit breaker of its destination is open".to_owned();
        Self {
            send: Some((Lane::Retry, Sending::Successor(Box::new(work.message.parked(due))))),
            settle: Some(Settle::of(&work, Ending::Parked { error, next_attempt_at: due })),
            outcome: Some(Outcome::Parked),
            ..Self::of(work.record)
        }
    }

    fn dead(work: &Work, reason: Reason, message: Box<Message>, ending: Option<Ending>) -> Self {
        let error = match &ending {
            Some(Ending::Failed { error, .. }) => error.clone(),
            _ => String::new(),
        };
        Self {
            send: Some((Lane::DeadLetter, Sending::DeadLetter { reason, message, error })),
            settle: ending.map(|ending| Settle::of(work, ending)),
            outcome: Some(Outcome::DeadLettered),
            ..Self::of(work.record)
        }
    }

    fn given_up(work: &Work, reason: Reason, why: &str) -> Self {
        match give_up(&work.message, reason, why) {
            Step::GiveUp { reason, message, ending } => Self::dead(work, reason, message, Some(ending)),
            Step::Delivered { .. } | Step::Retry { .. } | Step::Keep => Self::of(work.record),
        }
    }

    /// Its deadline has passed.
    pub(crate) fn expired(work: Work) -> Self {
        Self::given_up(&work, Reason::Expired, "the deadline passed before the next attempt")
    }

    /// Its consumers died again and again.
    pub(crate) fn crashed(work: Work) -> Self {
        Self::given_up(&work, Reason::Crashed, "outcome unknown: its consumer ended in mid-attempt again and again")
    }

    /// Its id belongs to another body, whose record must not be touched.
    pub(crate) fn reused_id(work: Work) -> Self {
        let message = Box::new(work.message.clone());
        let error = "id reused with another body".to_owned();
        let sending = Sending::DeadLetter { reason: Reason::Validation, message, error };
        Self { send: Some((Lane::DeadLetter, sending)), outcome: Some(Outcome::DeadLettered), ..Self::of(work.record) }
    }

    /// Nothing was sent; the lease is given back.
    pub(crate) fn release(work: Work) -> Self {
        let settle = work.claimed.then(|| Settle::of(&work, Ending::Released));
        Self { settle, ..Self::of(work.record) }
    }

    /// It cannot be read.
    pub(crate) fn malformed(record: usize, body: &Bytes, why: &Malformed) -> Self {
        let text = String::from_utf8_lossy(body);
        let body = text.get(..text.floor_char_boundary(MAX_MALFORMED)).unwrap_or_default().to_owned();
        let sending = Sending::Malformed { body, error: why.to_string() };
        Self { send: Some((Lane::DeadLetter, sending)), outcome: Some(Outcome::DeadLettered), ..Self::of(record) }
    }

    /// It is not due yet: one send cannot wait long enough. The hop stays, because
    /// nothing was claimed: a higher hop would void the lease of another message
    /// of this delivery that is due already.
    pub(crate) fn not_yet(record: usize, message: Box<Message>) -> Self {
        Self { send: Some((Lane::Retry, Sending::Successor(message))), ..Self::of(record) }
    }

    /// Redis is still away, or the report is not due yet.
    pub(crate) fn report_again(record: usize, report: Report) -> Self {
        Self { send: Some((REPORT_LANE, Sending::Report(Box::new(report)))), ..Self::of(record) }
    }

    /// A report is recorded; the indexes follow.
    pub(crate) fn reported(record: usize, report: Report) -> Self {
        let reported = final_status(&report.settlement.ending).map(|_| Box::new(report));
        Self { reported, ..Self::of(record) }
    }

    fn count(&self, now: Millis) {
        let Some(outcome) = self.outcome else { return };
        metric::delivery(outcome);
        if let (Outcome::Delivered, Some(settle)) = (outcome, &self.settle) {
            metric::end_to_end(settle.birth.accepted_at.until(now));
        }
    }

    /// The record, if SQS is to keep its message.
    pub(crate) fn keeps(&self) -> Option<usize> {
        self.keep.then_some(self.record)
    }
}

impl Deliver {
    /// Queues, then records. What a queue does not take stays where it is.
    pub(crate) async fn finish(&self, mut finishes: Vec<Finish>, batch: &mut Batch) {
        if finishes.is_empty() {
            return;
        }
        // What the calls came to is told even if this process ends here.
        telemetry::flush();
        self.send_all(&mut finishes, batch).await;
        finishes.iter().for_each(|finish| finish.count(self.clock.now()));

        let now = self.clock.now();
        let mut calls = Vec::with_capacity(finishes.len() + 6);
        let mut moved = Vec::new();
        let settles: Vec<&Settle> = finishes.iter().filter_map(|finish| finish.settle.as_ref()).collect();
        for settle in &settles {
            calls.push(ledger::settle(&settle.id, &settle.birth, &settle.settlement, self.lifetimes));
            moved.extend(settle.status().map(|status| (settle.id.clone(), status)));
        }
        let reported: Vec<&Report> = finishes.iter().filter_map(|finish| finish.reported.as_deref()).collect();
        for report in &reported {
            moved.extend(final_status(&report.settlement.ending).map(|status| (report.id.clone(), status)));
        }
        let called: Vec<Called> = finishes.iter().filter_map(|finish| finish.called.clone()).collect();
        let (reports, touched) = self.reports(&called);
        calls.extend(reports.iter().map(|(_, call)| call.clone()));
        calls.extend(breaker::touched(touched.iter().map(String::as_str), now));
        let before_indexes = calls.len();
        calls.extend(index::moved(&moved, now, self.lifetimes));
        let replies = self.wave(&calls, batch).await.unwrap_or_default();
        // A Redis that is full takes out of an index and puts nothing in. What is final
        // would be in no index for good, so it is reported as if it were not recorded.
        let entered = replies.len() >= calls.len() && replies[before_indexes..].iter().all(Result::is_ok);
        let mut replies = replies.into_iter();

        let mut unrecorded = Vec::new();
        for settle in settles {
            match answered(replies.next(), ledger::settled, &settle.id) {
                Some(Settled::Recorded) if !entered && final_status(&settle.settlement.ending).is_some() => {
                    unrecorded.extend(report_of(settle, now));
                }
                Some(Settled::Recorded) => {}
                Some(Settled::Stale | Settled::Foreign) => {
                    tracing::info!(webhook_id = %settle.id, hop = settle.settlement.hop, "the record knows better");
                }
                None => unrecorded.extend(report_of(settle, now)),
            }
        }
        for (destination, _) in &reports {
            tell(destination, replies.next());
        }
        if !entered {
            // Not for ever: an index may be broken, and a late report revives its record.
            let living = reported.into_iter().filter(|report| now < report.deadline);
            unrecorded.extend(living.map(|report| report.delayed(now)));
        }
        self.report(unrecorded, now).await;
    }

    /// Sends what must be queued. A record whose message was not taken is kept,
    /// and its lease given back instead of its ending recorded.
    async fn send_all(&self, finishes: &mut [Finish], batch: &mut Batch) {
        let now = self.clock.now();
        let mut retries = (Vec::new(), Vec::new());
        let mut dead = (Vec::new(), Vec::new());
        for (i, finish) in finishes.iter_mut().enumerate() {
            let Some((lane, sending)) = finish.send.take() else { continue };
            match sending.outgoing(now) {
                Ok(outgoing) => {
                    let (at, messages) = if lane == Lane::DeadLetter { &mut dead } else { &mut retries };
                    at.push(i);
                    messages.push(outgoing);
                }
                Err(error) => {
                    tracing::error!(%error, "a message cannot be written");
                    not_sent(finish, batch);
                }
            }
        }
        let (to_retry, to_dead) =
            tokio::join!(self.send_lane(Lane::Retry, retries.1), self.send_lane(Lane::DeadLetter, dead.1));
        let sent = retries.0.into_iter().zip(to_retry).chain(dead.0.into_iter().zip(to_dead));
        for (i, taken) in sent {
            if !taken {
                not_sent(&mut finishes[i], batch);
            }
        }
    }

    async fn send_lane(&self, lane: Lane, messages: Vec<Outgoing>) -> Vec<bool> {
        if messages.is_empty() {
            return Vec::new();
        }
        let results = self.queue.send(lane, messages).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            tracing::error!(?lane, code = error.code(), %error, "not queued");
        }
        results.iter().map(Result::is_ok).collect()
    }

    /// Queues what could not be recorded. Trouble here never causes a second
    /// call: what cannot be queued either is logged and let go.
    async fn report(&self, reports: Vec<Report>, now: Millis) {
        let mut messages = Vec::with_capacity(reports.len());
        for report in &reports {
            match Sending::Report(Box::new(report.clone())).outgoing(now) {
                Ok(outgoing) => messages.push(outgoing),
                Err(error) => tracing::error!(webhook_id = %report.id, %error, "an outcome cannot be written"),
            }
        }
        for (report, taken) in reports.iter().zip(self.send_lane(REPORT_LANE, messages).await) {
            if !taken {
                tracing::error!(
                    webhook_id = %report.id,
                    correlation_id = %report.birth.correlation_id,
                    outcome = "unrecorded",
                    "neither redis nor the queue took an outcome"
                );
            }
        }
    }
}

/// The status that nothing follows, if this ending has one.
fn final_status(ending: &Ending) -> Option<Status> {
    match ending {
        Ending::Delivered { .. } => Some(Status::Delivered),
        Ending::Failed { .. } => Some(Status::Failed),
        Ending::Retrying { .. } | Ending::Parked { .. } | Ending::Released => None,
    }
}

fn not_sent(finish: &mut Finish, batch: &mut Batch) {
    batch.failed.insert(finish.record);
    finish.outcome = None;
    finish.settle = finish.settle.take().filter(|settle| settle.claimed);
    if let Some(settle) = &mut finish.settle {
        settle.settlement.ending = Ending::Released;
    }
}

/// What is to be recorded later. A successor records itself when it is claimed,
/// but until then its record would say less than we know.
fn report_of(settle: &Settle, now: Millis) -> Option<Report> {
    if settle.settlement.ending == Ending::Released {
        return None;
    }
    let report = Report {
        id: settle.id.clone(),
        birth: settle.birth.clone(),
        settlement: settle.settlement.clone(),
        deadline: now.after(domain::webhook::MAX_LIFE),
        hop: 0,
        not_before: now,
    };
    Some(report.delayed(now))
}

impl Sending {
    fn outgoing(self, now: Millis) -> Result<Outgoing, serde_json::Error> {
        match self {
            Self::Successor(message) => {
                Ok(Outgoing::new(message.encode()?, message.group(), sqs_delay_s(now, message.not_before)))
            }
            Self::Report(report) => {
                Ok(Outgoing::new(report.encode()?, String::new(), sqs_delay_s(now, report.not_before)))
            }
            Self::DeadLetter { reason, message, error } => Ok(Outgoing {
                attributes: attributes(reason, &error, message.attempt),
                ..Outgoing::new(message.encode()?, message.group(), 0)
            }),
            Self::Malformed { body, error } => Ok(Outgoing {
                attributes: attributes(Reason::Malformed, &error, 0),
                ..Outgoing::new(body, String::new(), 0)
            }),
        }
    }
}

/// The attributes of a dead letter. None may be empty: SQS refuses that.
fn attributes(reason: Reason, error: &str, calls: u8) -> Vec<(&'static str, String)> {
    let message = match error {
        "" => reason.as_str().to_owned(),
        error => error.chars().take(MAX_ERROR_MESSAGE).collect(),
    };
    vec![
        (ERROR_CODE, reason.as_str().to_owned()),
        (ERROR_MESSAGE, message),
        (RETRY_ATTEMPTS, calls.saturating_sub(1).to_string()),
        (EXHAUSTED_RETRY_CONDITION, reason.exhausted_condition().to_owned()),
    ]
}
