//! Claims every delivery of a batch and looks at each destination's breaker, in one
//! round trip. Late outcomes are recorded in the same one.

use std::collections::{BTreeMap, BTreeSet};

use adapters::redis::query::Trip;
use adapters::redis::{breakers, heartbeats, records};
use domain::message::{LateOutcome, Message};
use domain::next_step::give_up;
use domain::reason::Reason;
use domain::record::{Claim, Grant, SettlementReply};
use domain::time::{Millis, whole_ms};

use crate::context::{Batch, Context, token, usable};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::read::Due;

/// A delivery that may be attempted, as far as its record is concerned.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    /// The receiver's origin; empty when the URL cannot be read.
    pub(crate) destination: String,
    pub(crate) claim: HeldClaim,
    pub(crate) breaker: BreakerSeen,
}

/// What was seen of a breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakerSeen {
    /// It is closed, in this epoch.
    Closed(u64),
    /// It is not closed: the caller has to ask for admission.
    NotClosed,
    /// It cannot be read, and counts as closed.
    Unreadable,
}

/// Claims what is due. Without Redis every delivery is granted: its attempts are
/// counted in the message.
pub(crate) async fn claim(context: &Context, batch: &mut Batch, due: Due, decided: &mut Vec<Decided>) -> Vec<Claimed> {
    let Due { deliveries, late_outcomes } = due;
    if deliveries.is_empty() && late_outcomes.is_empty() {
        return Vec::new();
    }
    let now = context.clock.now();
    let lease_ms = whole_ms(batch.lease(now));
    let mut trip = Trip::default();
    let mut wanted = Vec::with_capacity(deliveries.len());
    for (record, message) in deliveries {
        let wish = Claim { token: token(), hop: message.hop, lease_ms, new_record: message.new_record() };
        let id = message.delivery.id.clone();
        let grant = trip.add(records::claim(&id, &wish, context.lifetimes));
        let claim = HeldClaim { id, token: wish.token, hop: wish.hop, new_record: wish.new_record, is_known: false };
        let destination = message.delivery.destination().map(|to| to.as_str().to_owned()).unwrap_or_default();
        wanted.push((grant, Claimed { record, message, destination, claim, breaker: BreakerSeen::Unreadable }));
    }
    let mut late = Vec::with_capacity(late_outcomes.len());
    for (record, outcome) in late_outcomes {
        let LateOutcome { id, new_record, settlement, .. } = outcome.as_ref();
        let settled = trip.add(records::settle(id, new_record, settlement, context.lifetimes));
        late.push((record, outcome, settled));
    }
    let destinations: BTreeSet<String> = wanted.iter().map(|(_, next)| next.destination.clone()).collect();
    let epochs = trip.add_all(destinations.iter().map(|destination| breakers::closed_epoch(destination)));
    let heartbeat = trip.add(heartbeats::beat("deliver", now));
    let mut replies = batch.round_trip(context, trip).await;

    let breakers: BTreeMap<String, BreakerSeen> = destinations
        .into_iter()
        .zip(epochs)
        .map(|(destination, epoch)| {
            let seen = BreakerSeen::of(usable(epoch.take(&mut replies), &destination));
            (destination, seen)
        })
        .collect();
    for (record, outcome, settled) in late {
        let settled = usable(settled.take(&mut replies), &outcome.id);
        decided.push(Decided::new(record, after_recording(*outcome, settled, now)));
    }
    usable(heartbeat.take(&mut replies), "heartbeat");
    let mut claimed = Vec::with_capacity(wanted.len());
    for (grant, mut next) in wanted {
        let grant = usable(grant.take(&mut replies), &next.claim.id);
        next.claim.is_known = grant.is_some();
        next.breaker = breakers.get(&next.destination).copied().unwrap_or(BreakerSeen::Unreadable);
        claimed.extend(judge(context, batch, grant.unwrap_or(Grant::Granted), next, decided));
    }
    claimed
}

impl BreakerSeen {
    fn of(epoch: Option<Option<u64>>) -> Self {
        match epoch {
            Some(Some(epoch)) => Self::Closed(epoch),
            Some(None) => Self::NotClosed,
            None => Self::Unreadable,
        }
    }
}

/// What becomes of a late outcome after the attempt to record it.
fn after_recording(outcome: LateOutcome, settled: Option<SettlementReply>, now: Millis) -> Decision {
    match settled {
        Some(SettlementReply::Recorded) => Decision::Recorded(Box::new(outcome)),
        Some(SettlementReply::Stale | SettlementReply::Foreign) => Decision::Outdated,
        None if now >= outcome.deadline => {
            tracing::error!(webhook_id = %outcome.id, outcome = "unrecorded", "a late outcome was never recorded");
            Decision::Outdated
        }
        None => Decision::RecordLater(Box::new(outcome.delayed(now))),
    }
}

/// Lets a delivery go on whose claim is granted, or decides what becomes of it.
fn judge(context: &Context, batch: &Batch, grant: Grant, next: Claimed, decided: &mut Vec<Decided>) -> Option<Claimed> {
    let now = context.clock.now();
    let delivery = &next.message.delivery;
    let decision = match grant {
        Grant::Done | Grant::Stale => {
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                hop = next.message.hop,
                outcome = "duplicate",
                "superseded"
            );
            Decision::Superseded
        }
        // Never delete what another holder may still need.
        Grant::Busy(left) => {
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                busy_ms = left.as_millis(),
                outcome = "busy",
                "claimed by another"
            );
            Decision::Keep
        }
        Grant::Foreign => Decision::ReusedId(next.message),
        Grant::Crashed => {
            let why = "outcome unknown: its consumer ended in mid-attempt again and again";
            Decision::GiveUp { given_up: give_up(&next.message, Reason::Crashed, why), claim: next.claim }
        }
        Grant::Granted if now >= delivery.deadline => {
            let why = "the deadline passed before the next attempt";
            Decision::GiveUp { given_up: give_up(&next.message, Reason::Expired, why), claim: next.claim }
        }
        Grant::Granted if now.until(batch.ends_at) < context.attempt_budget => {
            tracing::warn!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                outcome = "no_time",
                "too little time left for an attempt"
            );
            Decision::Release(next.claim)
        }
        Grant::Granted => return Some(next),
    };
    decided.push(Decided::new(next.record, decision));
    None
}
