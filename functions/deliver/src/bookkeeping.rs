//! What is written to Redis after the queues took their messages: settlements, breaker
//! reports and index entries, all in one round trip.

use std::collections::BTreeMap;

use adapters::redis::query::Trip;
use adapters::redis::{breakers, indexes, records};
use domain::breaker::Pass;
use domain::message::{LateOutcome, LateOutcomes, LateReport, ReportedCalls};
use domain::outcome::HealthSignal;
use domain::record::{Ending, Settlement, SettlementReply};
use domain::status::Status;
use domain::time::Millis;

use crate::context::{Batch, Context, tell_change, token, usable};
use crate::decision::{BreakerReport, Decided, Decision, HeldClaim};

/// Records what was decided, and gives what Redis did not take.
pub(crate) async fn record(context: &Context, batch: &mut Batch, decided: &[Decided]) -> Vec<LateOutcomes> {
    let now = context.clock.now();
    let mut trip = Trip::default();
    let mut settlements = Vec::with_capacity(decided.len());
    let mut moved = Vec::new();
    for next in decided {
        if let Some((claim, ending)) = next.decision.settlement() {
            moved.extend(status_after(claim, &ending).map(|status| (claim.id.clone(), status)));
            let settlement = claim.settled(ending);
            let query = records::settle(&claim.id, &claim.new_record, &settlement, context.lifetimes);
            settlements.push((trip.add(query), claim, settlement));
        }
        moved.extend(
            recorded_late(next).filter_map(|outcome| {
                outcome.settlement.ending.final_status().map(|status| (outcome.id.clone(), status))
            }),
        );
    }
    let reports = reports(decided.iter().filter_map(|next| next.report.as_ref()));
    let tickets = trip.add_all(reports.iter().map(|report| context.report(report)));
    let touched = reports.iter().filter(|report| report.may_open()).map(|report| report.breaker.as_str());
    // An entry that is missing shows with the next report.
    drop(trip.add(breakers::enter(touched, now)));
    let index = trip.add(indexes::move_to(&moved, now, context.lifetimes));
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
    // One message for all that this batch could not tell.
    let mut late = Vec::new();
    let own = LateOutcomes::new(outcomes, unreported, now);
    late.extend((!own.is_empty()).then(|| own.delayed(now)));
    if !is_indexed {
        late.extend(decided.iter().filter_map(|next| again(next, now)));
    }
    late
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

/// The reports of calls, in the order in which they ended: one for each breaker and
/// epoch, and one for each probe.
fn reports<'d>(calls: impl Iterator<Item = &'d BreakerReport>) -> Vec<LateReport> {
    let mut regular: BTreeMap<(&str, u64), Vec<HealthSignal>> = BTreeMap::new();
    let mut reports = Vec::new();
    for BreakerReport { breaker, pass, signal } in calls {
        match pass {
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
