//! Reads each record of a batch by itself: what is due goes on, everything else is decided
//! here.

use adapters::aws::sqs_event::Received;
use domain::message::Envelope;
use domain::time::Millis;
use domain::work::Work;

use crate::decision::{Decided, Decision};

/// What of a batch is work, each with its record of the batch.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Pages of events and jobs that are due.
    pub(crate) due: Vec<(usize, Work)>,
    /// Those that are not. They go back to their queue unless they were erased.
    pub(crate) waiting: Vec<(usize, Work)>,
}

/// Reads a batch.
pub(crate) fn read(records: &[(usize, &Received)], now: Millis, decided: &mut Vec<Decided>) -> Read {
    let mut read = Read::default();
    for (record, received) in records {
        let work = match Envelope::decode(&received.body) {
            Ok(Envelope::Event(page)) => Ok(Work::Event(page)),
            Ok(Envelope::Job(page)) => Ok(Work::Job(page)),
            Ok(Envelope::Deliver(_) | Envelope::LateOutcomes(_)) => Err(malformed(received, "no event and no job")),
            // While versions change, old and new consumers run side by side.
            Err(why) if why.is_newer_version() => {
                tracing::warn!(message_id = %received.message_id, error = %why, outcome = "left", "left for a newer consumer");
                Err(Decision::Keep)
            }
            Err(why) => Err(malformed(received, &why.to_string())),
        };
        match work {
            // The hop stays the same, because nothing was claimed.
            Ok(work) if work.due() > now => read.waiting.push((*record, work)),
            Ok(work) => read.due.push((*record, work)),
            Err(decision) => decided.push(Decided { record: *record, decision }),
        }
    }
    read
}

/// A message that cannot be read.
pub(crate) fn malformed(received: &Received, why: &str) -> Decision {
    tracing::error!(message_id = %received.message_id, error = why, outcome = "malformed", "unreadable message");
    Decision::Malformed { body: received.text_to_keep(), error: why.to_owned() }
}
