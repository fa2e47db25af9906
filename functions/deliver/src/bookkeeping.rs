//! What Redis is told after the queues have what they must have: settlements, breaker
//! reports and index entries, all in one round trip.

use std::collections::BTreeMap;

use adapters::metrics;
use adapters::redis::query::{Query, Ticket, Trip};
use adapters::redis::{breakers, indexes, records};
use domain::breaker::{Pass, State};
use domain::message::LateOutcome;
use domain::outcome::HealthSignal;
use domain::record::{Ending, SettlementReply};
use domain::status::Status;
use domain::time::Millis;

use crate::context::{Batch, Context, token, usable};
use crate::decision::{BreakerReport, Decided, Decision, HeldClaim};

/// Records what was decided, and gives what Redis did not take.
pub(crate) async fn record(context: &Context, batch: &mut Batch, decided: &[Decided]) -> Vec<LateOutcome> {
    let now = context.clock.now();
    let mut trip = Trip::default();
    let mut settlements = Vec::with_capacity(decided.len());
    let mut late_outcomes = Vec::new();
    let mut moved = Vec::new();
    for next in decided {
        if let Some((claim, ending)) = next.decision.settlement() {
            moved.extend(status_after(claim, &ending).map(|status| (claim.id.clone(), status)));
            let settlement = claim.settled(ending);
            let query = records::settle(&claim.id, &claim.new_record, &settlement, context.lifetimes);
            settlements.push((trip.add(query), claim, settlement));
        }
        if let Decision::Recorded(outcome) = &next.decision
            && let Some(status) = final_status(&outcome.settlement.ending)
        {
            moved.push((outcome.id.clone(), status));
            late_outcomes.push(outcome.as_ref());
        }
    }
    let reports = add_reports(context, &mut trip, decided.iter().filter_map(|next| next.report.as_ref()), now);
    let index = trip.add(indexes::move_to(&moved, now, context.lifetimes));
    let mut replies = batch.round_trip(context, trip).await;

    // A Redis that is full takes out of an index and puts nothing in. What is final would
    // be in no index for good, so it is treated as if it were not recorded.
    let is_indexed = index.take(&mut replies).is_ok();
    let mut unrecorded = Vec::new();
    for (ticket, claim, settlement) in settlements {
        match usable(ticket.take(&mut replies), &claim.id) {
            Some(SettlementReply::Recorded) if is_indexed || final_status(&settlement.ending).is_none() => {}
            Some(SettlementReply::Recorded) | None => unrecorded.extend(late_outcome(claim, settlement, now)),
            Some(SettlementReply::Stale | SettlementReply::Foreign) => {
                tracing::info!(webhook_id = %claim.id, hop = claim.hop, "settlement ignored: the record is newer");
            }
        }
    }
    for (destination, ticket) in reports {
        if let Some(Some(state)) = usable(ticket.take(&mut replies), &destination) {
            tell_change(&destination, state);
        }
    }
    if !is_indexed {
        // Not for ever: an index may be broken, and a late outcome revives its record.
        let living = late_outcomes.into_iter().filter(|outcome| now < outcome.deadline);
        unrecorded.extend(living.map(|outcome| outcome.delayed(now)));
    }
    unrecorded
}

/// Adds the reports of calls, in the order in which they ended: one for each destination
/// and epoch, and one for each probe. The destinations that they may have changed enter
/// the index of breakers.
fn add_reports<'d>(
    context: &Context,
    trip: &mut Trip,
    reports: impl Iterator<Item = &'d BreakerReport>,
    now: Millis,
) -> Vec<(String, Ticket<Option<State>>)> {
    let mut regular: BTreeMap<(&str, u64), Vec<HealthSignal>> = BTreeMap::new();
    let mut tickets = Vec::new();
    let mut touched = Vec::new();
    let mut add = |destination: &str, query: Query<Option<State>>| {
        tickets.push((destination.to_owned(), trip.add(query)));
    };
    for BreakerReport { destination, pass, signal } in reports {
        match pass {
            Pass::Regular { epoch } => regular.entry((destination, *epoch)).or_default().push(*signal),
            Pass::Probe { epoch, token, .. } => {
                let policy = context.breakers.of(destination);
                add(destination, breakers::report_probe(destination, token, *epoch, *signal, &policy));
                touched.push(destination.as_str());
            }
            Pass::Blind => {}
        }
    }
    for ((destination, epoch), signals) in regular {
        let policy = context.breakers.of(destination);
        add(destination, breakers::report(destination, &token(), epoch, &signals, &policy));
        if signals.contains(&HealthSignal::Unhealthy) {
            touched.push(destination);
        }
    }
    // An entry that is missing shows with the next report.
    drop(trip.add(breakers::enter(touched.into_iter(), now)));
    tickets
}

/// The status of a delivery whose claim ended like this; `None` when it stays as it is.
fn status_after(claim: &HeldClaim, ending: &Ending) -> Option<Status> {
    match ending {
        Ending::Delivered { .. } => Some(Status::Delivered),
        Ending::Retrying { attempts, .. } => Some(Status::waiting(*attempts)),
        Ending::Parked { .. } => Some(Status::waiting(claim.new_record.attempts)),
        Ending::Failed { .. } => Some(Status::Failed),
        Ending::Released => None,
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

/// What is to be recorded later. A successor records itself when it is claimed, but
/// until then its record would say less than we know.
fn late_outcome(claim: &HeldClaim, settlement: domain::record::Settlement, now: Millis) -> Option<LateOutcome> {
    if settlement.ending == Ending::Released {
        return None;
    }
    let outcome = LateOutcome {
        id: claim.id.clone(),
        new_record: claim.new_record.clone(),
        settlement,
        deadline: now.after(domain::webhook::MAX_LIFE),
        hop: 0,
        not_before: now,
    };
    Some(outcome.delayed(now))
}

/// Tells of a breaker that a report has changed.
fn tell_change(destination: &str, state: State) {
    metrics::breaker_changed(state);
    match state {
        State::Open => tracing::warn!(%destination, to = state.as_str(), "circuit breaker opened"),
        State::Closed => tracing::warn!(%destination, to = state.as_str(), "circuit breaker closed"),
        State::HalfOpen => tracing::warn!(%destination, to = state.as_str(), "circuit breaker half-open"),
    }
}
