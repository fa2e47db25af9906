//! Tells of an endpoint: an event to its tenant and one to the stack's own, and an announcement on
//! a bus. All who tell the same name it the same, so that it is told once.

use std::collections::BTreeMap;

use adapters::acceptance::{Accepted, Incoming};
use adapters::notify_bus::Announcement;
use adapters::telemetry::chain;
use bytes::Bytes;
use domain::event::{Event, EventPage};
use domain::identity::{body_hash, event_record_id, sha256_hex};
use domain::job::JobPage;
use domain::names::OPERATOR;
use domain::schedule::LONGEST_LIFE;
use domain::work::Work;

use crate::context::Context;

/// Why a notice waits whose events the queue does not take.
const NOT_QUEUED: &str = "the queue of events did not take what is told of an endpoint";
/// Why a notice waits whose bus does not answer.
const NO_BUS: &str = "the event bus did not take what is told of an endpoint";

/// Tells what a notice has to tell. What was told already is not told again, except to the bus.
pub(crate) async fn announce(
    context: &Context,
    page: &JobPage,
    announcement: &Announcement,
) -> Result<(), &'static str> {
    let now = context.clock.now();
    let events: Vec<Event> =
        named(page).into_iter().map(|(tenant, id)| event(page, announcement, tenant, id)).collect();
    let incoming = |event: &Event| {
        let page = EventPage { event: event.clone(), deadline: now.after(LONGEST_LIFE), ..EventPage::default() };
        Incoming { work: Work::Event(Box::new(page)), generated: false, refusal: None }
    };
    let accepted = context.acceptor.accept(events.iter().map(incoming).collect(), now).await;
    let mut is_queued = true;
    for (event, accepted) in events.iter().zip(accepted) {
        match accepted {
            // A tenant that is being erased is told nothing.
            Accepted::Queued | Accepted::Known { .. } | Accepted::Erasing => {}
            Accepted::Unavailable => is_queued = false,
            // Somebody used the id, or erased the event. It will not get better.
            Accepted::Conflict | Accepted::Refused | Accepted::Invalid(_) => {
                tracing::error!(tenant = %event.tenant, event_id = %event.id, "an event that tells of an endpoint is not accepted");
            }
        }
    }
    if !is_queued {
        return Err(NOT_QUEUED);
    }
    let Some(bus) = &context.bus else { return Ok(()) };
    bus.announce(announcement).await.map_err(|error| {
        tracing::error!(job_id = %page.id, code = error.code(), error = %chain(&error), "a notice waits");
        NO_BUS
    })
}

/// Who is told, and under which event ids: the tenant, and the stack's own.
fn named(page: &JobPage) -> Vec<(&str, String)> {
    let mut named = vec![(page.tenant.as_str(), page.id.clone())];
    if page.tenant != OPERATOR {
        named.push((OPERATOR, sha256_hex(event_record_id(&page.tenant, &page.id).as_bytes())));
    }
    named
}

/// What two reporters say may differ in a word. It is one event all the same, so its id alone
/// tells it from another body.
fn event(page: &JobPage, announcement: &Announcement, tenant: &str, id: String) -> Event {
    let Announcement { event_type, payload, at } = announcement;
    Event {
        tenant: tenant.to_owned(),
        body_hash: body_hash("", &id, &BTreeMap::new(), Some(event_type), None),
        id,
        event_type: event_type.clone(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        correlation_id: page.correlation_id.clone(),
        accepted_at: *at,
        ..Event::default()
    }
}
