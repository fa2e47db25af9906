//! Reads each record of a batch by itself: what is due goes on, everything else is decided
//! here.

use domain::message::Envelope;
use domain::time::Millis;
use domain::work::Work;

use crate::decision::{Decided, Decision};
use crate::event::Received;

/// The longest body of an unreadable message that is kept: with its attributes it must fit
/// into the queue again.
const MAX_MALFORMED: usize = 1_000_000;

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
    let text = String::from_utf8_lossy(&received.body);
    let body = text.get(..text.floor_char_boundary(MAX_MALFORMED)).unwrap_or_default().to_owned();
    Decision::Malformed { body, error: why.to_owned() }
}
