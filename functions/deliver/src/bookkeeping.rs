//! What is written to Redis after the queues took their messages: settlements, breaker
//! reports and index entries, all in one round trip.

use std::collections::BTreeMap;

use adapters::redis::query::{Trip, usable};
use adapters::redis::{breakers, marks, records, token, waiting};
use domain::breaker::Pass;
use domain::history::Row;
use domain::identity::endpoint_of_delivery;
use domain::message::{LateOutcome, LateOutcomes, LateReport, ReportedCalls};
use domain::outcome::HealthSignal;
use domain::record::{Ending, Settlement, SettlementReply};
use domain::status::Status;
use domain::time::Millis;

use crate::context::{Batch, Context, tell_change};
use crate::decision::{BreakerReport, Decided, Decision, HeldClaim};
use crate::live::Failing;
use crate::{history, live, recent};

/// What is left to do after the round trip.
pub(crate) struct Recorded {
    /// What Redis did not take.
    pub(crate) late: Vec<LateOutcomes>,
    /// Rows that history may not have: the delivery had ended when its message came back.
    pub(crate) missed: Vec<Row>,
    /// Endpoints that have failed for too long.
    pub(crate) failing: Vec<Failing>,
}

/// Records what was decided.
pub(crate) async fn record(context: &Context, batch: &mut Batch, decided: &[Decided]) -> Recorded {
    let now = context.clock.now();
    let mut trip = Trip::default();
    let mut settlements = Vec::with_capacity(decided.len());
    let mut moved = Vec::new();
    let mut finished = Vec::new();
    for next in decided {
        match &next.decision {
            Decision::Finished(message) if context.history_life.is_some() && !message.delivery.is_test() => {
                finished.push((message, trip.add(records::read(&message.delivery.id))));
            }
            Decision::Erased { id, accepted_at } => drop(trip.add(marks::discard(id, *accepted_at))),
            Decision::Late { erased, .. } => {
                for (id, accepted_at) in erased {
                    drop(trip.add(marks::discard(id, *accepted_at)));
                }
            }
            Decision::Finished(_)
            | Decision::Superseded
            | Decision::Keep
            | Decision::Release(_)
            | Decision::Wait(_)
            | Decision::Delivered { .. }
            | Decision::Retry { .. }
            | Decision::Park { .. }
            | Decision::Owe { .. }
            | Decision::TestFailed { .. }
            | Decision::GiveUp { .. }
            | Decision::ReusedId(_)
            | Decision::Malformed { .. } => {}
        }
        if let Some((claim, ending)) = next.decision.ending() {
            moved.extend(status_after(claim, &ending).map(|status| (claim.id.clone(), status)));
            let settlement = claim.settlement(ending);
            let query = records::settle(&claim.id, &claim.new_record, &settlement, context.lifetimes);
            settlements.push((trip.add(query), claim, settlement));
        }
        moved.extend(
            recorded_late(next).filter_map(|outcome| {
                outcome.settlement.ending.final_status().map(|status| (outcome.id.clone(), status))
            }),
        );
    }
    let reports = reports(decided.iter().flat_map(|next| &next.reports));
    let tickets = trip.add_all(reports.iter().map(|report| context.report(report)));
    let touched = reports.iter().filter(|report| report.may_open()).map(|report| report.breaker.as_str());
    // An entry that is missing shows with the next report.
    drop(trip.add(breakers::enter(touched, now)));
    let index = trip.add(context.indexes.move_to(&moved, now));
    // Whoever reads these checks them, and what is missing from them is no loss.
    let waits: Vec<waiting::Change<'_>> = decided.iter().filter_map(|next| wait_of(&next.decision)).collect();
    drop(trip.add(waiting::waits(&waits, context.lifetimes)));
    let notes = live::add(context, &mut trip, decided, now);
    recent::add(context, &mut trip, decided, now);
    let mut replies = batch.round_trip(context, trip).await;

    // A Redis that is full takes out of an index and puts nothing in. What is final would
    // be in no index for good, so it is treated as if it were not recorded.
    let is_indexed = index.take(&mut replies).is_ok();
    let mut outcomes = Vec::new();
    for (ticket, claim, settlement) in settlements {
        match usable(ticket.take(&mut replies), &claim.id) {
            Some(SettlementReply::Recorded) if is_indexed || settlement.ending.final_status().is_none() => {}
            Some(SettlementReply::Recorded) | None => outcomes.extend(late_outcome(claim, settlement)),
            Some(SettlementReply::Stale | SettlementReply::Foreign) => {
                tracing::info!(webhook_id = %claim.id, hop = claim.hop, "settlement ignored: the record is newer");
            }
        }
    }
    let mut unreported = Vec::new();
    for (report, ticket) in reports.into_iter().zip(tickets) {
        match usable(ticket.take(&mut replies), &report.breaker) {
            Some(Some(state)) => tell_change(&report.breaker, state),
            Some(None) => {}
            None => unreported.push(report),
        }
    }
    let own = LateOutcomes::of_batch(outcomes, unreported, now);
    let mut late: Vec<LateOutcomes> = own.into_iter().map(|message| message.delayed(now)).collect();
    if !is_indexed {
        late.extend(decided.iter().filter_map(|next| again(next, now)));
    }
    let mut missed = Vec::new();
    for (message, ticket) in finished {
        let record = usable(ticket.take(&mut replies), &message.delivery.id).flatten();
        missed.extend(record.and_then(|stored| history::missed(context, message, &stored.record)));
    }
    let failing = notes.failing(context, &mut replies, now);
    Recorded { late, missed, failing }
}

/// How long a delivery to an endpoint waits now. One that ended at once never waited.
fn wait_of(decision: &Decision) -> Option<waiting::Change<'_>> {
    let (claim, ending) = match decision {
        Decision::Retry { claim, ending, .. } | Decision::Park { claim, ending, .. } => (claim, Some(ending)),
        // What is owed waits for somebody, and not for a time.
        Decision::Delivered { claim, .. } | Decision::GiveUp { claim, .. } | Decision::Owe { claim, .. }
            if claim.hop > 0 =>
        {
            (claim, None)
        }
        Decision::Delivered { .. }
        | Decision::GiveUp { .. }
        | Decision::Owe { .. }
        | Decision::Superseded
        | Decision::Finished(_)
        | Decision::Erased { .. }
        | Decision::Keep
        | Decision::Release(_)
        | Decision::Wait(_)
        | Decision::TestFailed { .. }
        | Decision::ReusedId(_)
        | Decision::Malformed { .. }
        | Decision::Late { .. } => return None,
    };
    let next_attempt_at = ending.and_then(Ending::next_attempt_at);
    Some(waiting::Change { endpoint: endpoint_of_delivery(&claim.id)?, delivery_id: &claim.id, next_attempt_at })
}

/// The late outcomes of a record that are recorded now.
fn recorded_late(decided: &Decided) -> impl Iterator<Item = &LateOutcome> {
    let recorded = if let Decision::Late { recorded, .. } = &decided.decision { &recorded.outcomes[..] } else { &[] };
    recorded.iter()
}

/// Late outcomes that no index took, to be recorded once more until their deadline. Not
/// for ever: an index may be broken, and a late outcome revives its record.
fn again(decided: &Decided, now: Millis) -> Option<LateOutcomes> {
    let Decision::Late { recorded, .. } = &decided.decision else { return None };
    let is_final = |outcome: &&LateOutcome| outcome.settlement.ending.final_status().is_some();
    let outcomes: Vec<LateOutcome> = recorded.outcomes.iter().filter(is_final).cloned().collect();
    let is_wanted = !outcomes.is_empty() && now < recorded.deadline;
    is_wanted.then(|| LateOutcomes { outcomes, ..recorded.emptied() }.delayed(now))
}

/// The reports of passes, in the order in which their calls ended: one for each breaker and
/// epoch, and one for each probe. A regular pass that says nothing changes nothing.
fn reports<'d>(calls: impl Iterator<Item = &'d BreakerReport>) -> Vec<LateReport> {
    let mut regular: BTreeMap<(&str, u64), Vec<HealthSignal>> = BTreeMap::new();
    let mut reports = Vec::new();
    for BreakerReport { breaker, pass, signal } in calls {
        match pass {
            Pass::Regular { .. } if *signal == HealthSignal::Neutral => {}
            Pass::Regular { epoch } => regular.entry((breaker, *epoch)).or_default().push(*signal),
            Pass::Probe { epoch, token, .. } => reports.push(LateReport {
                breaker: breaker.clone(),
                token: token.clone(),
                epoch: *epoch,
                calls: ReportedCalls::Probe(*signal),
            }),
            Pass::Blind => {}
        }
    }
    reports.extend(regular.into_iter().map(|((breaker, epoch), signals)| LateReport {
        breaker: breaker.to_owned(),
        token: token(),
        epoch,
        calls: ReportedCalls::Regular(signals),
    }));
    reports
}

/// The status of a delivery whose claim ended like this; `None` when it stays as it is.
fn status_after(claim: &HeldClaim, ending: &Ending) -> Option<Status> {
    match ending {
        Ending::Delivered { .. } => Some(Status::Delivered),
        Ending::Retrying { attempts, .. } => Some(Status::waiting(*attempts)),
        Ending::Parked { .. } => Some(Status::waiting(claim.new_record.attempts)),
        Ending::Failed { .. } => Some(Status::Failed),
        // Of events.
        Ending::Continued { .. } | Ending::FannedOut { .. } => None,
        Ending::Released => None,
    }
}

/// What is to be recorded later. A successor records itself when it is claimed, but
/// until then its record would say less than we know.
fn late_outcome(claim: &HeldClaim, settlement: Settlement) -> Option<LateOutcome> {
    let is_release = settlement.ending == Ending::Released;
    (!is_release).then(|| LateOutcome { id: claim.id.clone(), new_record: claim.new_record.clone(), settlement })
}
