//! Claims every delivery of a batch and looks at its receiver and breakers, in one round trip.
//! Late outcomes are recorded in the same one.

use std::collections::{BTreeMap, BTreeSet};

use adapters::redis::query::{Query, Ticket, Trip, usable};
use adapters::redis::{heartbeats, marks, records};
use domain::delivery::EndpointTarget;
use domain::identity::event_record_id;
use domain::message::Message;
use domain::record::{Claim, Grant};
use domain::time::{Millis, whole_ms};

use crate::claimed::Claimed;
use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::judge::judge;
use crate::late::LateTickets;
use crate::questions::Questions;
use crate::read::Due;
use crate::route::key_of;

/// A delivery whose claim is under way.
struct Asked {
    grant: Ticket<Grant>,
    erased: Option<Ticket<Option<Millis>>>,
    claimed: Claimed,
}

/// Claims what is due. Without Redis every delivery is granted: its attempts are
/// counted in the message.
pub(crate) async fn claim(context: &Context, batch: &mut Batch, due: Due, decided: &mut Vec<Decided>) -> Vec<Claimed> {
    let Due { deliveries, waiting, late_outcomes } = due;
    if deliveries.is_empty() && waiting.is_empty() && late_outcomes.is_empty() {
        return Vec::new();
    }
    let now = context.clock.now();
    let lease_ms = whole_ms(batch.lease(now));
    let (mut trip, mut questions) = (Trip::default(), Questions::default());
    let (mut endpoints, mut tested) = (BTreeSet::new(), BTreeSet::new());
    let mut asked = Vec::with_capacity(deliveries.len());
    for arrived in deliveries {
        if let Some(target) = &arrived.message.delivery.endpoint {
            endpoints.insert(key_of(target));
            tested.extend(target.is_test.then(|| key_of(target)));
        }
        let claimed = Claimed::of(context, arrived);
        let HeldClaim { id, token, hop, new_record, .. } = claimed.claim.clone();
        let grant = trip.add(records::claim(&id, &Claim { token, hop, lease_ms, new_record }, context.lifetimes));
        let erased = claimed.message.delivery.endpoint.as_ref().map(|target| trip.add(erased_at(target)));
        questions.ask(&mut trip, &claimed);
        questions.ask_of_tenant(&mut trip, &claimed.message);
        asked.push(Asked { grant, erased, claimed });
    }
    let waiting: Vec<_> = waiting
        .into_iter()
        .filter_map(|(record, message)| {
            let ticket = trip.add(erased_at(message.delivery.endpoint.as_ref()?));
            questions.ask_of_tenant(&mut trip, &message);
            Some((record, message, ticket))
        })
        .collect();
    let late: Vec<_> = late_outcomes
        .into_iter()
        .map(|(record, outcomes)| (record, LateTickets::begin(context, &mut trip, *outcomes, now)))
        .collect();
    let heartbeat = trip.add(heartbeats::beat("deliver", now));
    let (mut replies, ()) = tokio::join!(batch.round_trip(context, trip), context.cards.read(endpoints, &tested, now));

    let answers = questions.take(&mut replies);
    for (record, tickets) in late {
        decided.push(Decided::new(record, tickets.end(&mut replies, now)));
    }
    for (record, message, ticket) in waiting {
        let marked_at = usable(ticket.take(&mut replies), &message.delivery.id).flatten();
        let is_erased = is_erased(&message, marked_at, &answers.erased_before);
        let decision = if is_erased { dropped(&message) } else { Decision::Wait(message) };
        decided.push(Decided::new(record, decision));
    }
    usable(heartbeat.take(&mut replies), "heartbeat");
    let mut claimed = Vec::with_capacity(asked.len());
    for Asked { grant, erased, claimed: mut next } in asked {
        let grant = usable(grant.take(&mut replies), &next.claim.id);
        let marked_at = erased.and_then(|erased| usable(erased.take(&mut replies), &next.claim.id)).flatten();
        if is_erased(&next.message, marked_at, &answers.erased_before) {
            tracing::info!(
                webhook_id = %next.claim.id,
                correlation_id = %next.message.delivery.correlation_id,
                outcome = "erased",
                "its event was erased"
            );
            decided.push(Decided::new(next.record, dropped(&next.message)));
            continue;
        }
        next.claim.is_known = grant.is_some();
        answers.tell(&mut next);
        claimed.extend(judge(context, batch, grant.unwrap_or(Grant::Granted), next, decided));
    }
    claimed
}

/// When the event of a delivery was erased.
fn erased_at(target: &EndpointTarget) -> Query<Option<Millis>> {
    marks::erased_at(&event_record_id(&target.tenant, &target.event_id))
}

/// A delivery of what was erased.
fn dropped(message: &Message) -> Decision {
    Decision::Erased { id: message.delivery.id.clone(), accepted_at: message.delivery.accepted_at }
}

/// Whether the event of a delivery was erased, alone or with its tenant. One that was accepted
/// later is not.
fn is_erased(message: &Message, marked_at: Option<Millis>, erased_before: &BTreeMap<String, Millis>) -> bool {
    let with_tenant = message.tenant().and_then(|tenant| erased_before.get(tenant));
    let is_before = |at: &Millis| message.delivery.accepted_at <= *at;
    marked_at.as_ref().is_some_and(is_before) || with_tenant.is_some_and(is_before)
}
