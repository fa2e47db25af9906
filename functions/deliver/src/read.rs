//! Reads each record of a batch by itself: what is due goes on, everything else is
//! decided here.

use std::collections::BTreeSet;

use adapters::aws::sqs::{QueueName, QueueUrls};
use adapters::aws::sqs_event::Received;
use domain::message::{Envelope, LateOutcomes, Message};
use domain::time::Millis;

use crate::decision::{Decided, Decision};

/// How many messages of late outcomes a batch records. The others are queued again: together
/// they could be more than the time limit of a round trip allows.
const MOST_LATE: usize = 10;

/// What of a batch is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Deliveries.
    pub(crate) deliveries: Vec<Arrived>,
    /// Deliveries to endpoints that are not due, each with its record of the batch. They go back
    /// to their queue unless their event was erased.
    pub(crate) waiting: Vec<(usize, Box<Message>)>,
    /// Late outcomes, each with its record of the batch.
    pub(crate) late_outcomes: Vec<(usize, Box<LateOutcomes>)>,
}

impl Due {
    /// The records that are deliveries to endpoints.
    pub(crate) fn to_endpoints(&self) -> BTreeSet<usize> {
        let deliveries = self.deliveries.iter().map(|arrived| (arrived.record, &arrived.message));
        let waiting = self.waiting.iter().map(|(record, message)| (*record, message));
        let of_endpoints = deliveries.chain(waiting).filter(|(_, message)| message.delivery.endpoint.is_some());
        of_endpoints.map(|(record, _)| record).collect()
    }
}

/// A delivery that is due.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    /// Whether it comes from the queue of slow receivers.
    pub(crate) is_among_slow: bool,
}

/// Reads a batch.
pub(crate) fn read(queues: &QueueUrls, records: &[Received], now: Millis, decided: &mut Vec<Decided>) -> Due {
    let mut due = Due::default();
    for (record, received) in records.iter().enumerate() {
        let mut decide = |decision| decided.push(Decided::new(record, decision));
        match Envelope::decode(&received.body) {
            // While versions change, old and new consumers run side by side.
            Err(why) if why.is_newer_version() => {
                tracing::warn!(message_id = %received.message_id, error = %why, outcome = "left", "left for a newer consumer");
                decide(Decision::Keep);
            }
            Err(why) => {
                tracing::error!(message_id = %received.message_id, error = %why, outcome = "malformed", "unreadable message");
                decide(malformed(received, &why.to_string()));
            }
            // The hop stays the same, because nothing was claimed: a higher hop would void
            // the lease of another message of this delivery that is due already.
            Ok(Envelope::Deliver(message)) if message.due() > now && message.delivery.endpoint.is_some() => {
                due.waiting.push((record, message));
            }
            Ok(Envelope::Deliver(message)) if message.due() > now => decide(Decision::Wait(message)),
            Ok(Envelope::Deliver(message)) => {
                let is_among_slow = queues.is_arn_of(&received.source, QueueName::Slow);
                due.deliveries.push(Arrived { record, message, is_among_slow });
            }
            // Nothing puts one here. The archive keeps it, to be sent to its own queue.
            Ok(Envelope::Event(_) | Envelope::Job(_)) => {
                tracing::error!(message_id = %received.message_id, outcome = "malformed", "no delivery");
                decide(malformed(received, "an event or a job among deliveries"));
            }
            // Whatever the size of a batch, it records no more of what was missed than one of ten.
            Ok(Envelope::LateOutcomes(late))
                if late.not_before.min(late.deadline) > now || due.late_outcomes.len() >= MOST_LATE =>
            {
                decide(Decision::Late {
                    recorded: Box::new(late.emptied()),
                    left: Some(late),
                    rows: Vec::new(),
                    erased: Vec::new(),
                });
            }
            Ok(Envelope::LateOutcomes(late)) => due.late_outcomes.push((record, late)),
        }
    }
    due
}

fn malformed(received: &Received, why: &str) -> Decision {
    Decision::Malformed { body: received.text_to_keep(), error: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn queues() -> QueueUrls {
        let [delivery, retry, wait, slow, event, dead_letter] =
            ["delivery", "retry", "wait", "slow", "event", "dead"].map(|name| format!("http://localhost/{name}"));
        QueueUrls { delivery, retry, wait, slow, event, dead_letter }
    }

    fn is_due(late: &LateOutcomes, now: u64) -> bool {
        let body = Bytes::from(late.encode().unwrap());
        let received = Received { message_id: "m".into(), body, source: String::new(), sent_at: None };
        !read(&queues(), &[received], Millis(now), &mut Vec::new()).late_outcomes.is_empty()
    }

    #[test]
    fn a_late_outcome_never_waits_beyond_its_deadline() {
        let mut late = LateOutcomes::empty(Millis(0));
        (late.not_before, late.deadline) = (Millis(9_000), Millis(500));
        assert!(!is_due(&late, 499));
        assert!(is_due(&late, 500));
    }
}
