//! Asks the circuit breakers that are not closed for admission: one more round trip for those
//! of endpoints and origins, and one for those of hosts. A closed breaker costs nothing here.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::{QueueName, is_far};
use adapters::metrics;
use adapters::redis::breakers;
use adapters::redis::query::{Trip, usable};
use domain::breaker::{Admission, Caller, Pass, ProbeTimes, State, shown_name};
use domain::identity::sha256_hex;
use domain::live_state::LiveState;
use domain::message::Message;
use domain::outcome::Watched;
use domain::rate::RateSeen;
use domain::record::Ending;

use crate::claimed::{BreakerSeen, Claimed, WatchingBreaker, destination_of};
use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision, HeldClaim, HeldPass};
use crate::route::Route;
use crate::urls::ReceiverUrl;

/// A delivery that is attempted now.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    pub(crate) route: Route,
    /// The receiver's URL; `None` when it cannot be read.
    pub(crate) url: Option<Arc<ReceiverUrl>>,
    pub(crate) claim: HeldClaim,
    /// The right to call, of every breaker that watches over it.
    pub(crate) passes: Vec<HeldPass>,
    /// What is known of its receiver.
    pub(crate) live: LiveState,
    /// What is known of its endpoint's rate; `None` if that cannot be read.
    pub(crate) rate: Option<RateSeen>,
}

impl Admitted {
    /// The origin of the receiver's URL; empty when that cannot be read.
    pub(crate) fn destination(&self) -> &str {
        destination_of(self.url.as_ref())
    }
}

/// A delivery that asks its breakers, one after another.
struct Asking {
    claimed: Claimed,
    passes: Vec<HeldPass>,
}

impl Asking {
    fn pass(&mut self, breaker: &WatchingBreaker, pass: Pass) {
        self.passes.push(HeldPass { watched: breaker.watched, breaker: breaker.name.clone(), pass });
    }

    fn admitted(self) -> Admitted {
        let Claimed { record, message, route, url, claim, live, rate, .. } = self.claimed;
        Admitted { record, message, route, url, claim, passes: self.passes, live, rate }
    }
}

/// Admits what may be called. What a breaker refuses is parked, and does not ask the next one:
/// it would take the place of a probe there.
pub(crate) async fn admit(
    context: &Context,
    batch: &mut Batch,
    claimed: Vec<Claimed>,
    decided: &mut Vec<Decided>,
) -> Vec<Admitted> {
    let mut asking: Vec<Asking> = claimed.into_iter().map(|claimed| Asking { claimed, passes: Vec::new() }).collect();
    let most = asking.iter().map(|next| next.claimed.breakers.len()).max().unwrap_or_default();
    for place in 0..most {
        asking = ask(context, batch, asking, place, decided).await;
    }
    asking.into_iter().map(Asking::admitted).collect()
}

/// Asks the breakers at one place of all deliveries, in one round trip if any is not closed.
async fn ask(
    context: &Context,
    batch: &mut Batch,
    all: Vec<Asking>,
    place: usize,
    decided: &mut Vec<Decided>,
) -> Vec<Asking> {
    let times = ProbeTimes { lease: batch.lease(context.clock.now()), call: context.attempt_budget };
    let mut passed = Vec::with_capacity(all.len());
    let mut trip = Trip::default();
    let mut asked = Vec::new();
    for mut next in all {
        let Some(breaker) = next.claimed.breakers.get(place).cloned() else {
            passed.push(next);
            continue;
        };
        let known = match breaker.seen {
            BreakerSeen::Closed(epoch) => Some(Pass::Regular { epoch }),
            BreakerSeen::Unreadable => Some(Pass::Blind),
            BreakerSeen::NotClosed => None,
        };
        if let Some(pass) = known {
            next.pass(&breaker, pass);
            passed.push(next);
            continue;
        }
        let policy = context.breakers.of(&breaker.name);
        let Claimed { message, url, claim, .. } = &next.claimed;
        let has_failed = message.calls() > 0;
        let path = short_path(url.as_ref().map_or("", |url| url.read.url.path()));
        let caller = Caller { id: &claim.id, token: &claim.token, has_failed, path: &path, times };
        asked.push((trip.add(breakers::admit(&breaker.name, caller, &policy)), breaker, next));
    }
    if asked.is_empty() {
        return passed;
    }
    let mut replies = batch.round_trip(context, trip).await;
    for (ticket, breaker, mut next) in asked {
        match usable(ticket.take(&mut replies), &breaker.name) {
            Some(Admission::Admitted(pass)) => {
                if matches!(pass, Pass::Probe { .. }) {
                    metrics::breaker_changed(&breaker.name, State::HalfOpen);
                }
                next.pass(&breaker, pass);
                passed.push(next);
            }
            Some(Admission::Refused { wait, first }) => decided.push(park(context, next, &breaker, wait, first)),
            None => {
                next.pass(&breaker, Pass::Blind);
                passed.push(next);
            }
        }
    }
    passed
}

/// A short name for the path of a receiver's URL.
fn short_path(path: &str) -> String {
    sha256_hex(path.as_bytes()).chars().take(8).collect()
}

fn park(context: &Context, refused: Asking, by: &WatchingBreaker, wait: Duration, first: bool) -> Decided {
    let Asking { claimed: Claimed { record, message, url, claim, is_among_slow, .. }, passes } = refused;
    let wait = context.parking.wait(wait, first, message.parked, fastrand::f64());
    // At its deadline it comes back all the same, and expires.
    let now = context.clock.now();
    let due = now.after(wait).min(message.delivery.deadline);
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        destination = destination_of(url.as_ref()),
        breaker = %shown_name(&by.name),
        outcome = "parked",
        wait_ms = wait.as_millis(),
        "refused by an open circuit breaker"
    );
    let error = match by.watched {
        Watched::Origin => "waiting: the circuit breaker of its destination is open",
        Watched::Endpoint => "waiting: the circuit breaker of its endpoint is open",
        Watched::Host => "waiting: the host of its endpoint takes no connections, and its circuit breaker is open",
    };
    let ending = Ending::Parked { error: error.to_owned(), next_attempt_at: due };
    // It would only move back.
    let to = (is_among_slow && !is_far(now, due)).then_some(QueueName::Slow);
    let decision = Decision::Park { claim, successor: Box::new(message.parked(due)), ending, to };
    let reports = passes.into_iter().map(HeldPass::unused).collect();
    Decided { reports, ..Decided::new(record, decision) }
}
