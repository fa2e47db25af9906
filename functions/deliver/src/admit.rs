//! Asks the circuit breakers that are not closed for admission, in one more round trip.
//! A closed breaker costs nothing here.

use std::time::Duration;

use adapters::metrics;
use adapters::redis::breakers;
use adapters::redis::query::Trip;
use domain::breaker::{Admission, Caller, Pass, ProbeTimes, State};
use domain::identity::sha256_hex;
use domain::message::Message;
use domain::record::Ending;
use url::Url;

use crate::claim::{BreakerSeen, Claimed};
use crate::context::{Batch, Context, usable};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::route::Route;

/// A delivery that is attempted now.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    pub(crate) route: Route,
    /// The receiver's origin; empty when the URL cannot be read.
    pub(crate) destination: String,
    /// The name of the breaker that watches over it.
    pub(crate) breaker: String,
    pub(crate) claim: HeldClaim,
    /// The right to call.
    pub(crate) pass: Pass,
}

impl Admitted {
    fn new(claimed: Claimed, pass: Pass) -> Self {
        let Claimed { record, message, route, destination, breaker, claim, .. } = claimed;
        Self { record, message, route, destination, breaker, claim, pass }
    }
}

/// Admits what may be called. What a breaker refuses is parked.
pub(crate) async fn admit(
    context: &Context,
    batch: &mut Batch,
    claimed: Vec<Claimed>,
    decided: &mut Vec<Decided>,
) -> Vec<Admitted> {
    let times = ProbeTimes { lease: batch.lease(context.clock.now()), call: context.attempt_budget };
    let mut admitted = Vec::with_capacity(claimed.len());
    let mut trip = Trip::default();
    let mut asking = Vec::new();
    for next in claimed {
        match next.seen {
            BreakerSeen::Closed(epoch) => admitted.push(Admitted::new(next, Pass::Regular { epoch })),
            BreakerSeen::Unreadable => admitted.push(Admitted::new(next, Pass::Blind)),
            BreakerSeen::NotClosed => {
                let policy = context.breakers.of(&next.breaker);
                let has_failed = next.message.history.count > 0;
                let path = short_path(next.route.url(&next.message.delivery).as_ref());
                let caller = Caller { id: &next.claim.id, token: &next.claim.token, has_failed, path: &path, times };
                asking.push((trip.add(breakers::admit(&next.breaker, caller, &policy)), next));
            }
        }
    }
    if asking.is_empty() {
        return admitted;
    }
    let mut replies = batch.round_trip(context, trip).await;
    for (ticket, next) in asking {
        match usable(ticket.take(&mut replies), &next.breaker) {
            Some(Admission::Admitted(pass)) => {
                if matches!(pass, Pass::Probe { .. }) {
                    metrics::breaker_changed(State::HalfOpen);
                }
                admitted.push(Admitted::new(next, pass));
            }
            Some(Admission::Refused { wait, first }) => decided.push(park(context, next, wait, first)),
            None => admitted.push(Admitted::new(next, Pass::Blind)),
        }
    }
    admitted
}

/// A short name for the path of a receiver's URL.
fn short_path(url: Option<&Url>) -> String {
    sha256_hex(url.map_or("", |url| url.path()).as_bytes()).chars().take(8).collect()
}

fn park(context: &Context, refused: Claimed, wait: Duration, first: bool) -> Decided {
    let Claimed { record, message, destination, claim, .. } = refused;
    let wait = context.parking.wait(wait, first, message.parked, fastrand::f64());
    // At its deadline it comes back all the same, and expires.
    let due = context.clock.now().after(wait).min(message.delivery.deadline);
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        %destination,
        outcome = "parked",
        wait_ms = wait.as_millis(),
        "refused by an open circuit breaker"
    );
    let error = "waiting: the circuit breaker of its destination is open".to_owned();
    let ending = Ending::Parked { error, next_attempt_at: due };
    Decided::new(record, Decision::Park { claim, successor: Box::new(message.parked(due)), ending })
}
