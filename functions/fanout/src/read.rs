//! Reads each record of a batch by itself: what is due goes on, everything else is decided
//! here.

use domain::event::EventPage;
use domain::message::Envelope;
use domain::time::Millis;

use crate::decision::{Decided, Decision};
use crate::event::Received;

/// The longest body of an unreadable message that is kept: with its attributes it must fit
/// into the queue again.
const MAX_MALFORMED: usize = 1_000_000;

/// Reads a batch. Gives the pages that are due, each with its record of the batch.
pub(crate) fn read(
    records: &[(usize, &Received)],
    now: Millis,
    decided: &mut Vec<Decided>,
) -> Vec<(usize, Box<EventPage>)> {
    let mut due = Vec::new();
    for (record, received) in records {
        let decision = match Envelope::decode(&received.body) {
            // The hop stays the same, because nothing was claimed.
            Ok(Envelope::Event(page)) if page.due() > now => Decision::Wait(page),
            Ok(Envelope::Event(page)) => {
                due.push((*record, page));
                continue;
            }
            Ok(Envelope::Deliver(_) | Envelope::LateOutcomes(_)) => malformed(received, "not an event"),
            // While versions change, old and new consumers run side by side.
            Err(why) if why.is_newer_version() => {
                tracing::warn!(message_id = %received.message_id, error = %why, outcome = "left", "left for a newer consumer");
                Decision::Keep
            }
            Err(why) => malformed(received, &why.to_string()),
        };
        decided.push(Decided { record: *record, decision });
    }
    due
}

/// A message that cannot be read.
pub(crate) fn malformed(received: &Received, why: &str) -> Decision {
    tracing::error!(message_id = %received.message_id, error = why, outcome = "malformed", "unreadable message");
    let text = String::from_utf8_lossy(&received.body);
    let body = text.get(..text.floor_char_boundary(MAX_MALFORMED)).unwrap_or_default().to_owned();
    Decision::Malformed { body, error: why.to_owned() }
}
