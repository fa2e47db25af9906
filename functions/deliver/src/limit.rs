//! Asks the rates of endpoints for calls, in one more round trip for those that have one. What
//! may go now goes. The others wait until the time that they are advised, and then ask again:
//! nothing is reserved, and no attempt is spent.

use std::collections::BTreeMap;

use adapters::aws::sqs::QueueName;
use adapters::metrics;
use adapters::redis::query::{Ticket, Trip, usable};
use adapters::redis::{rates, token};
use domain::rate::{Rate, due};
use domain::rate_rules::Taken;
use domain::record::Ending;
use domain::time::Millis;

use crate::admit::Admitted;
use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision, HeldPass};

/// The deliveries of one endpoint that ask together.
struct Asking {
    all: Vec<Admitted>,
    ticket: Ticket<Taken>,
}

/// Lets go on what the rates of endpoints allow.
pub(crate) async fn limit(
    context: &Context,
    batch: &mut Batch,
    admitted: Vec<Admitted>,
    decided: &mut Vec<Decided>,
) -> Vec<Admitted> {
    let now = context.clock.now();
    let mut free = Vec::with_capacity(admitted.len());
    let mut limited: BTreeMap<String, (Option<Rate>, Vec<Admitted>)> = BTreeMap::new();
    for next in admitted {
        match limit_of(&next, now) {
            None => free.push(next),
            Some((endpoint, own)) => limited.entry(endpoint).or_insert((own, Vec::new())).1.push(next),
        }
    }
    if limited.is_empty() {
        return free;
    }
    let mut trip = Trip::default();
    let mut asking = BTreeMap::new();
    for (endpoint, (own, all)) in limited {
        let wanted = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let ticket = trip.add(rates::take(&endpoint, &token(), wanted, own));
        asking.insert(endpoint, Asking { all, ticket });
    }
    let mut replies = batch.round_trip(context, trip).await;
    for (endpoint, Asking { all, ticket }) in asking {
        let Some(Taken { granted, advice }) = usable(ticket.take(&mut replies), &endpoint) else {
            metrics::rate_not_held(all.len() as u64);
            free.extend(all);
            continue;
        };
        let mut advice = advice.into_iter();
        for (place, next) in (0..).zip(all) {
            if place < granted {
                free.push(next);
            } else {
                let advice = advice.next().unwrap_or(now);
                decided.push(wait(next, now, advice));
            }
        }
    }
    free
}

/// The endpoint of a delivery that has to ask, with the rate of its card. A test makes its call
/// in any case.
fn limit_of(next: &Admitted, now: Millis) -> Option<(String, Option<Rate>)> {
    let target = next.message.delivery.endpoint.as_ref().filter(|target| !target.is_test)?;
    let own = next.route.rate();
    let must_ask = next.rate.map_or(own.is_some(), |seen| seen.must_ask(own, now));
    must_ask.then(|| (target.endpoint.clone(), own))
}

/// It waits until it is advised to ask again, or until its deadline, where it expires.
fn wait(next: Admitted, now: Millis, advice: Millis) -> Decided {
    let Admitted { record, message, claim, passes, .. } = next;
    let due = due(now, advice).min(message.delivery.deadline);
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        outcome = "limited",
        wait_ms = now.until(due).as_millis(),
        "its endpoint takes no more calls now"
    );
    let error = "waiting: its endpoint takes no more calls a second".to_owned();
    let ending = Ending::Parked { error, next_attempt_at: due };
    let to = Some(QueueName::Wait);
    let decision = Decision::Park { claim, successor: Box::new(message.successor(due)), ending, to };
    let reports = passes.into_iter().map(HeldPass::unused).collect();
    Decided { reports, ..Decided::new(record, decision) }
}
