//! Carries decisions out: first the queues, then Redis, then what Redis did not take.
//!
//! A continuation goes to its queue before the record says so: a crash in between leaves two
//! messages, and `claim` drops the older. The other order would lose the rest of the event.

use adapters::aws::sqs::{Outgoing, QueueName, batches, delay_s};
use adapters::redis::query::{Trip, usable};
use adapters::redis::{marks, records};
use adapters::telemetry::chain;
use adapters::{metrics, telemetry};
use domain::dead_letter;
use domain::message::{LateOutcome, LateOutcomes};
use domain::reason::Reason;
use domain::record::{Ending, SettlementReply};
use domain::time::Millis;
use domain::work::Work;

use crate::context::Context;
use crate::decision::{Decided, Decision};
use crate::jobs;

/// Carries out what was decided, and names the records that SQS is to keep.
pub(crate) async fn finish(context: &Context, decided: Vec<Decided>) -> Vec<usize> {
    if decided.is_empty() {
        return Vec::new();
    }
    telemetry::flush();
    let decided = queue(context, decided).await;
    let now = context.clock.now();
    for Decided { decision, .. } in &decided {
        if let Decision::GiveUp { work: Work::Job(page), .. } = decision {
            jobs::given_up(context, page).await;
        }
    }
    for Decided { decision, .. } in &decided {
        if let Decision::JobDone { page, .. } = decision {
            tracing::info!(
                tenant = %page.tenant,
                job = page.job.kind(),
                job_id = %page.id,
                correlation_id = %page.correlation_id,
                pages = page.hop + 1,
                "job done"
            );
        }
        if let Decision::FannedOut { page, matched, owed, .. } = decision {
            metrics::event_fanned_out(page.event.accepted_at.until(now));
            tracing::info!(
                tenant = %page.event.tenant,
                event_id = %page.event.id,
                correlation_id = %page.event.correlation_id,
                matched,
                owed,
                pages = page.hop + 1,
                "event fanned out"
            );
        }
    }
    record(context, &decided, now).await;
    decided.iter().filter(|next| next.decision.keeps()).map(|next| next.record).collect()
}

/// Sends what must be queued. What is not taken is kept, and its lease given back.
async fn queue(context: &Context, decided: Vec<Decided>) -> Vec<Decided> {
    let now = context.clock.now();
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    let mut refused = vec![false; decided.len()];
    for (place, next) in decided.iter().enumerate() {
        match outgoing(&next.decision, now) {
            None => {}
            Some(Ok((QueueName::DeadLetter, message))) => dead.push((place, message)),
            Some(Ok((_, message))) => events.push((place, message)),
            Some(Err(error)) => {
                tracing::error!(error = %chain(&error), "a message cannot be written");
                refused[place] = true;
            }
        }
    }
    let (events, dead) =
        tokio::join!(send(context, QueueName::Event, events), send(context, QueueName::DeadLetter, dead));
    events.into_iter().chain(dead).for_each(|place| refused[place] = true);
    let settle = |(next, refused): (Decided, bool)| match refused {
        true => Decided { decision: next.decision.not_queued(), ..next },
        false => next,
    };
    decided.into_iter().zip(refused).map(settle).collect()
}

/// Sends messages, each with its place, a batch at a time, and gives the places of those that
/// the queue did not take.
async fn send(context: &Context, queue_name: QueueName, messages: Vec<(usize, Outgoing)>) -> Vec<usize> {
    let mut refused = Vec::new();
    for (places, messages) in batches(messages) {
        for (place, result) in places.into_iter().zip(context.send(queue_name, messages).await) {
            if let Err(error) = result {
                tracing::error!(queue = queue_name.as_str(), code = error.code(), error = %chain(&error), "not queued");
                refused.push(place);
            }
        }
    }
    refused
}

/// What a decision queues, and where.
fn outgoing(decision: &Decision, now: Millis) -> Option<Result<(QueueName, Outgoing), serde_json::Error>> {
    Some(match decision {
        Decision::Continue { successor: work, .. } | Decision::Wait(work) => {
            page(work, now).map(|message| (QueueName::Event, message))
        }
        Decision::GiveUp { work, reason, error, .. } => dead_letter(work, *reason, error),
        Decision::ReusedId(work) => dead_letter(work, Reason::Validation, "id reused with another body"),
        Decision::Malformed { body, error } => {
            let outgoing = Outgoing::new(body.clone(), String::new(), 0);
            let attributes = dead_letter::attributes(Reason::Malformed, error, 0);
            Ok((QueueName::DeadLetter, Outgoing { attributes, ..outgoing }))
        }
        Decision::Superseded
        | Decision::Erased { .. }
        | Decision::Keep
        | Decision::Release(_)
        | Decision::FannedOut { .. }
        | Decision::JobDone { .. }
        | Decision::JobIdle(_) => return None,
    })
}

/// A page on its way into its queue. What is due at once is not delayed.
fn page(work: &Work, now: Millis) -> Result<Outgoing, serde_json::Error> {
    let due = work.due();
    let delay = if due > now { delay_s(now, due) } else { 0 };
    Ok(Outgoing::new(work.encode()?, group(work), delay))
}

fn dead_letter(work: &Work, reason: Reason, error: &str) -> Result<(QueueName, Outgoing), serde_json::Error> {
    let outgoing = Outgoing::new(work.encode()?, group(work), 0);
    let attributes = dead_letter::attributes(reason, error, 0);
    Ok((QueueName::DeadLetter, Outgoing { attributes, ..outgoing }))
}

/// Tenants are equals in the queue.
fn group(work: &Work) -> String {
    work.tenant().unwrap_or_default().to_owned()
}

/// Tells the records, in one round trip. What Redis does not take becomes late outcomes,
/// which `deliver` records.
async fn record(context: &Context, decided: &[Decided], now: Millis) {
    let mut trip = Trip::default();
    let mut settled = Vec::new();
    for (claim, ending) in decided.iter().filter_map(|next| next.decision.ending()) {
        let settlement = claim.settlement(ending);
        let ticket = trip.add(records::settle(&claim.id, &claim.new_record, &settlement, claim.lifetimes));
        settled.push((claim, settlement, ticket));
    }
    for next in decided {
        if let Decision::Erased { id, accepted_at } = &next.decision {
            drop(trip.add(marks::discard(id, *accepted_at)));
        }
        if let Decision::JobIdle(claim) = &next.decision {
            drop(trip.add(marks::discard(&claim.id, claim.new_record.accepted_at)));
        }
    }
    if trip.is_empty() {
        return;
    }
    let mut replies = context.round_trip(trip).await;
    let mut late = Vec::new();
    for (claim, settlement, ticket) in settled {
        match usable(ticket.take(&mut replies), &claim.id) {
            Some(SettlementReply::Recorded) => {}
            Some(SettlementReply::Stale | SettlementReply::Foreign) => {
                tracing::info!(webhook_id = %claim.id, hop = claim.hop, "settlement ignored: the record is newer");
            }
            None if settlement.ending == Ending::Released => {}
            None => {
                let (id, new_record) = (claim.id.clone(), claim.new_record.clone());
                late.push(LateOutcome { id, new_record, settlement });
            }
        }
    }
    for late in LateOutcomes::of_batch(late, Vec::new(), now) {
        queue_late_outcomes(context, late.delayed(now), now).await;
    }
}

/// Queues what could not be recorded. What cannot be queued either is logged and let go.
async fn queue_late_outcomes(context: &Context, late: LateOutcomes, now: Millis) {
    if !context.queue_late(&late, now).await {
        for LateOutcome { id, .. } in &late.outcomes {
            tracing::error!(webhook_id = %id, outcome = "unrecorded", "neither Redis nor the queue took an outcome");
        }
    }
}
