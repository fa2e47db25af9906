//! What is noted of receivers: how their calls went, and that one asks for none for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::redis::query::{Replies, Ticket, Trip, usable};
use adapters::redis::{live_states, rates, token};
use adapters::telemetry::chain;
use domain::live_state::{Called, LiveState, SLOW, kept_for};
use domain::outcome::Outcome;
use domain::time::{Millis, whole_ms};

use crate::context::Context;
use crate::decision::{Call, CalledEndpoint, Decided, Receiver};

/// How long it is known whether the receiver of direct webhooks is slow.
const DIRECT_LIFE: Duration = Duration::from_secs(3600);
/// A success that follows another one so soon is no news.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// Notes that a receiver is slow while a call to it is still under way. Otherwise every consumer
/// could be waiting for it before the first of these calls has ended.
pub(crate) async fn note_slow(context: &Context, receiver: &str, so_far: Duration, is_endpoint: bool) {
    if context.redis_health.is_away(context.clock.now()) {
        return;
    }
    let noting = live_states::note_slow(receiver, so_far, life(context, is_endpoint));
    if let Err(error) = noting.run(context.redis.as_ref()).await {
        tracing::warn!(receiver, code = error.code(), error = %chain(&error), "Redis does not know that a receiver is slow");
    }
}

/// How long the live state of a receiver is kept.
fn life(context: &Context, is_endpoint: bool) -> Duration {
    if is_endpoint { kept_for(context.disable_after) } else { DIRECT_LIFE }
}

/// The calls of a batch to one receiver.
struct Calls<'d> {
    receiver: &'d Receiver,
    called: Vec<Called>,
    /// Whether one of them was with an event that may be told of.
    may_tell: bool,
}

/// Notes that are on their way.
pub(crate) struct Notes {
    endpoints: Vec<(String, CalledEndpoint, Ticket<LiveState>)>,
}

/// An endpoint that has failed for too long.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) endpoint: String,
    pub(crate) called: CalledEndpoint,
    pub(crate) since: Millis,
    pub(crate) failures: u64,
}

/// Adds to a round trip what is to be noted of receivers.
pub(crate) fn add(context: &Context, trip: &mut Trip, decided: &[Decided], now: Millis) -> Notes {
    let mut by_receiver: BTreeMap<&str, Calls<'_>> = BTreeMap::new();
    // A fault of our own says nothing of a receiver.
    let calls = decided.iter().filter_map(|next| next.call.as_ref());
    for call in calls.filter(|call| call.outcome != Outcome::Faulted) {
        let Call { receiver, outcome, ms, block } = call;
        if let (Some(block), Some(_)) = (block, &receiver.endpoint) {
            drop(trip.add(rates::block(&receiver.name, &token(), *block)));
        }
        let calls = by_receiver.entry(&receiver.name).or_insert_with(|| Calls {
            receiver,
            called: Vec::new(),
            may_tell: false,
        });
        calls.called.push(Called { delivered: *outcome == Outcome::Delivered, duration_ms: *ms });
        calls.may_tell |= receiver.endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_own_event);
    }
    let mut endpoints = Vec::new();
    for (name, Calls { receiver, called, may_tell }) in by_receiver {
        let is_news = match receiver.endpoint {
            Some(_) => is_news(&receiver.live, &called, now),
            None => may_be_slow(&receiver.live, &called),
        };
        if !is_news {
            continue;
        }
        let life = life(context, receiver.endpoint.is_some());
        let ticket = trip.add(live_states::note(name, &token(), &called, life));
        if let Some(endpoint) = receiver.endpoint.clone().filter(|_| may_tell) {
            endpoints.push((name.to_owned(), endpoint, ticket));
        }
    }
    Notes { endpoints }
}

impl Notes {
    /// The endpoints that have failed for too long by now.
    pub(crate) fn failing(self, context: &Context, replies: &mut Replies, now: Millis) -> Vec<Failing> {
        let mut failing = Vec::new();
        for (endpoint, called, ticket) in self.endpoints {
            let Some(live) = usable(ticket.take(replies), &endpoint) else { continue };
            if let Some(since) = live.failing_since.filter(|_| live.must_disable(now, context.disable_after)) {
                failing.push(Failing { endpoint, called, since, failures: live.failures });
            }
        }
        failing
    }
}

/// Whether calls say something that is not known of an endpoint.
fn is_news(live: &LiveState, called: &[Called], now: Millis) -> bool {
    let is_fresh = live.last_success_at.is_some_and(|at| at.until(now) < NEWS_AFTER);
    let all_delivered = called.iter().all(|call| call.delivered);
    !all_delivered || !is_fresh || live.is_failing() || may_be_slow(live, called)
}

/// Whether a receiver is slow, or was.
fn may_be_slow(live: &LiveState, called: &[Called]) -> bool {
    live.is_slow() || called.iter().any(|call| call.duration_ms > whole_ms(SLOW))
}
