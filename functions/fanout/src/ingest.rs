//! Events of other systems: what the IngestQueue brings is accepted as a request is. It is
//! reserved, queued as an event of a tenant, confirmed, and only then acknowledged.

use adapters::acceptance::{Accepted, Incoming};
use adapters::aws::sqs_event::Received;
use domain::event::{Event, EventPage};
use domain::identity::is_correlation_id;
use domain::ingest::{self, Ingested};
use domain::names::is_event_id;
use domain::schedule::LONGEST_LIFE;
use domain::time::Millis;
use domain::work::Work;

use crate::context::Context;
use crate::decision::{Decided, Decision};
use crate::read::malformed;

/// Accepts what is an event, and decides what becomes of everything else.
pub(crate) async fn accept(context: &Context, records: &[(usize, &Received)], decided: &mut Vec<Decided>) {
    let now = context.clock.now();
    let mut pages = Vec::new();
    for (record, received) in records {
        // Whether it has expired is judged by when it was sent: it may be received again.
        let sent_at = received.sent_at.unwrap_or(now);
        match ingest::read(&received.body, &context.ingest, sent_at) {
            Ok(ingested) => pages.push((*record, *received, Box::new(page(ingested, received, sent_at)))),
            Err(why) => {
                let decision = malformed(received, &why.to_string());
                decided.push(Decided { record: *record, decision });
            }
        }
    }
    if pages.is_empty() {
        return;
    }
    let incoming =
        |page: &EventPage| Incoming { work: Work::Event(Box::new(page.clone())), generated: false, refusal: None };
    let incoming = pages.iter().map(|(_, _, page)| incoming(page)).collect();
    let accepted = context.acceptor.accept(incoming, now).await;
    for ((record, received, page), accepted) in pages.into_iter().zip(accepted) {
        let decision = match accepted {
            // Its own message carries it on.
            Accepted::Queued | Accepted::Known { .. } => Decision::Superseded,
            Accepted::Conflict => Decision::ReusedId(Work::Event(page)),
            Accepted::Refused => malformed(received, "the queue of events does not take it"),
            // A tenant that is being erased can be made anew.
            Accepted::Unavailable | Accepted::Erasing => Decision::Keep,
            // It was read without faults.
            Accepted::Invalid(_) => malformed(received, "not an event"),
        };
        decided.push(Decided { record, decision });
    }
}

/// The first page of an event. Whatever its message does not say comes from what SQS says of
/// it, so that a message that is received twice is one event.
fn page(ingested: Ingested, received: &Received, accepted_at: Millis) -> EventPage {
    let Ingested { tenant, event_id, event_type, payload, expires_at, trace, foreign, body_hash } = ingested;
    let message_id = &received.message_id;
    let event = Event {
        tenant,
        id: event_id.unwrap_or_else(|| id_of(message_id)),
        event_type,
        payload,
        correlation_id: if is_correlation_id(message_id) { message_id.clone() } else { id_of(message_id) },
        trace,
        foreign,
        body_hash,
        accepted_at,
        expires_at,
    };
    let deadline = expires_at.unwrap_or_else(|| accepted_at.after(LONGEST_LIFE));
    EventPage { event, deadline, ..EventPage::default() }
}

/// The id of an event that has none. SQS's ids of messages are UUIDs.
fn id_of(message_id: &str) -> String {
    if is_event_id(message_id) { message_id.to_owned() } else { domain::identity::sha256_hex(message_id.as_bytes()) }
}
