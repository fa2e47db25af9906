//! What the queues must have before anything is recorded: successors, dead letters, and
//! late outcomes with rows that history missed.
//!
//! The successor goes to SQS before the record says so: a crash in between leaves two
//! messages, and `claim` drops the older. The other order would lose the delivery.

use adapters::aws::sqs::{Outgoing, QueueName, delay_s, is_far, retry_group};
use adapters::telemetry::chain;
use domain::dead_letter::attributes;
use domain::message::{LateOutcome, LateOutcomes, Message};
use domain::next_step::GivenUp;
use domain::reason::Reason;
use domain::time::Millis;

use crate::context::Context;
use crate::decision::{Decided, Decision};

/// Where a late outcome waits for Redis.
const LATE_OUTCOME_QUEUE: QueueName = QueueName::Retry;

/// Sends what must be queued. A record whose message was not taken is kept, and its
/// lease given back instead of its ending recorded.
pub(crate) async fn send(context: &Context, decided: &mut [Decided]) {
    let now = context.clock.now();
    let (mut retries, mut waiting, mut slow, mut dead) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, next) in decided.iter_mut().enumerate() {
        match outgoing(&next.decision, now) {
            None => {}
            Some(Ok((QueueName::DeadLetter, message))) => dead.push((place, message)),
            Some(Ok((QueueName::Wait, message))) => waiting.push((place, message)),
            Some(Ok((QueueName::Slow, message))) => slow.push((place, message)),
            Some(Ok((QueueName::Delivery | QueueName::Retry | QueueName::Event, message))) => {
                retries.push((place, message))
            }
            Some(Err(error)) => {
                tracing::error!(error = %chain(&error), "a message cannot be written");
                next.not_queued();
            }
        }
    }
    let refused = tokio::join!(
        send_to(context, QueueName::Retry, retries),
        send_to(context, QueueName::Wait, waiting),
        send_to(context, QueueName::Slow, slow),
        send_to(context, QueueName::DeadLetter, dead)
    );
    let (retried, waited, moved, buried) = refused;
    for place in retried.into_iter().chain(waited).chain(moved).chain(buried) {
        decided[place].not_queued();
    }
}

/// Queues what could not be recorded. Trouble here never causes a second call: what
/// cannot be queued either is logged and let go.
pub(crate) async fn queue_late_outcomes(context: &Context, late: Vec<LateOutcomes>) {
    let now = context.clock.now();
    let mut messages = Vec::with_capacity(late.len());
    for (place, outcomes) in late.iter().enumerate() {
        match late_outcomes(outcomes, now) {
            Ok(message) => messages.push((place, message)),
            Err(error) => tracing::error!(error = %chain(&error), "late outcomes cannot be written"),
        }
    }
    for place in send_to(context, LATE_OUTCOME_QUEUE, messages).await {
        for row in &late[place].rows {
            tracing::error!(partition = %row.partition, outcome = "unrecorded", "neither history nor the queue took a row");
        }
        for LateOutcome { id, new_record, .. } in &late[place].outcomes {
            tracing::error!(
                webhook_id = %id,
                correlation_id = %new_record.correlation_id,
                outcome = "unrecorded",
                "neither Redis nor the queue took an outcome"
            );
        }
    }
}

/// Sends messages, each with its place, and gives the places of those that the queue
/// did not take.
async fn send_to(context: &Context, queue_name: QueueName, messages: Vec<(usize, Outgoing)>) -> Vec<usize> {
    if messages.is_empty() {
        return Vec::new();
    }
    let (places, messages): (Vec<usize>, Vec<Outgoing>) = messages.into_iter().unzip();
    let results = context.queue.send(queue_name, messages).await;
    let mut refused = Vec::new();
    for (place, result) in places.into_iter().zip(results) {
        if let Err(error) = result {
            tracing::error!(queue = queue_name.as_str(), code = error.code(), error = %chain(&error), "not queued");
            refused.push(place);
        }
    }
    refused
}

type Addressed = (QueueName, Outgoing);

/// What a decision queues, and where.
fn outgoing(decision: &Decision, now: Millis) -> Option<Result<Addressed, serde_json::Error>> {
    let addressed = match decision {
        Decision::Wait(message) => successor(message, now).map(|(_, message)| (QueueName::Wait, message)),
        Decision::Retry { successor: message, .. } => successor(message, now),
        Decision::Park { successor: message, to, .. } => {
            successor(message, now).map(|(by_due, message)| (to.unwrap_or(by_due), message))
        }
        Decision::GiveUp { given_up: GivenUp { reason, message, error, .. }, .. } => {
            dead_letter(message, *reason, error)
        }
        Decision::ReusedId(message) => dead_letter(message, Reason::Validation, "id reused with another body"),
        Decision::Malformed { body, error } => Ok((
            QueueName::DeadLetter,
            Outgoing {
                attributes: attributes(Reason::Malformed, error, 0),
                ..Outgoing::new(body.clone(), String::new(), 0)
            },
        )),
        Decision::Late { left: Some(left), .. } => {
            late_outcomes(left, now).map(|message| (LATE_OUTCOME_QUEUE, message))
        }
        Decision::Superseded
        | Decision::Finished(_)
        | Decision::Erased { .. }
        | Decision::Keep
        | Decision::Release(_)
        | Decision::Delivered { .. }
        | Decision::TestFailed { .. }
        // Its row has the message.
        | Decision::Owe { .. }
        | Decision::Late { left: None, .. } => return None,
    };
    Some(addressed)
}

fn successor(message: &Message, now: Millis) -> Result<Addressed, serde_json::Error> {
    let due = message.due();
    let outgoing = Outgoing::new(message.encode()?, retry_group(&message.delivery), delay_s(now, due));
    let queue_name = if is_far(now, due) { QueueName::Wait } else { QueueName::Retry };
    Ok((queue_name, outgoing))
}

fn dead_letter(message: &Message, reason: Reason, error: &str) -> Result<Addressed, serde_json::Error> {
    let outgoing = Outgoing::new(message.encode()?, retry_group(&message.delivery), 0);
    let attributes = attributes(reason, error, message.attempts);
    Ok((QueueName::DeadLetter, Outgoing { attributes, ..outgoing }))
}

fn late_outcomes(late: &LateOutcomes, now: Millis) -> Result<Outgoing, serde_json::Error> {
    Ok(Outgoing::new(late.encode()?, String::new(), delay_s(now, late.not_before)))
}
