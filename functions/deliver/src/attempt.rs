//! The calls to receivers: all of a batch at once, each by itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use adapters::metrics::{self, DeliveryKind};
use domain::breaker::{Pass, next_reset_ms};
use domain::live_state::SLOW;
use domain::message::Message;
use domain::next_step::{GivenUp, NextStep, after_failed_probe, in_history, next_step};
use domain::outcome::{Attempted, ErrorClass, Outcome};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::admit::Admitted;
use crate::claimed::receiver_name;
use crate::context::Context;
use crate::decision::{Call, CalledEndpoint, Decided, Decision, HeldClaim, HeldPass, Receiver};
use crate::history;
use crate::live::note_slow;
use crate::notices::may_be_told;

/// How long a finished attempt waits for its batch-mates before it is recorded.
const PATIENCE: Duration = Duration::from_millis(250);

/// The attempts of a batch that are still out.
pub(crate) struct Attempts<'c> {
    running: FuturesUnordered<BoxFuture<'c, Decided>>,
    /// Those that ended while others were finished.
    ended: Vec<Decided>,
}

impl<'c> Attempts<'c> {
    /// Begins every attempt.
    pub(crate) fn begin(context: &'c Context, admitted: Vec<Admitted>) -> Self {
        let running = admitted.into_iter().map(|next| attempt(context, next).boxed()).collect();
        Self { running, ended: Vec::new() }
    }

    /// Whether every attempt has ended and was gathered.
    pub(crate) fn are_over(&self) -> bool {
        self.running.is_empty() && self.ended.is_empty()
    }

    /// Gathers attempts that have ended, so that a slow receiver does not hold up the
    /// records of its batch-mates: the first of a group is waited for, and others have a
    /// moment to join it.
    pub(crate) async fn gather(&mut self, decided: &mut Vec<Decided>) {
        decided.append(&mut self.ended);
        if decided.is_empty() {
            decided.extend(self.running.next().await);
        }
        let joining = async {
            while let Some(ended) = self.running.next().await {
                decided.push(ended);
            }
        };
        // When time is up, the group is what it is.
        timeout(PATIENCE, joining).await.unwrap_or_default();
    }

    /// Lets the calls that are still out go on beside other work.
    pub(crate) async fn run_beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while !self.running.is_empty() {
            match select(work.as_mut(), self.running.next()).await {
                Either::Left((done, _)) => return done,
                Either::Right((ended, _)) => self.ended.extend(ended),
            }
        }
        work.await
    }
}

/// One attempt. A panic costs this record and no other: its lease runs out and counts,
/// which bounds poison.
async fn attempt(context: &Context, admitted: Admitted) -> Decided {
    let (record, id, passes) = (admitted.record, admitted.claim.id.clone(), admitted.passes.clone());
    AssertUnwindSafe(call(context, admitted)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(webhook_id = %id, outcome = "panicked", "an attempt panicked");
        let reports = passes.into_iter().map(HeldPass::unused).collect();
        Decided { reports, ..Decided::new(record, Decision::Keep) }
    })
}

async fn call(context: &Context, admitted: Admitted) -> Decided {
    let attempted = post(context, &admitted).await;
    let step = step_after(context, &admitted, &attempted);
    let kind = DeliveryKind::of(&admitted.message.delivery);
    metrics::attempt(attempted.outcome.error_class(), kind, Duration::from_millis(attempted.ms));
    log(&admitted, &attempted, &step);
    let call = (!admitted.message.delivery.is_test()).then(|| called(&admitted, &attempted));
    let Admitted { record, message, claim, passes, .. } = admitted;
    let claim = HeldClaim { log: log_of(&message, &attempted), ..claim };
    let decision = match step {
        NextStep::Delivered { ending } => {
            let ended = history::delivered(context, &message, in_history(&attempted));
            Decision::Delivered { claim, ending, ended }
        }
        NextStep::Retry { successor, ending } => Decision::Retry { claim, successor, ending },
        NextStep::GiveUp(given_up) => Decision::give_up(claim, given_up),
        NextStep::Keep => Decision::Release(claim),
    };
    let reports = passes.into_iter().map(|pass| pass.used(attempted.outcome)).collect();
    Decided { record, decision, call, reports }
}

/// The call itself. If it turns out to be slow, others are told before it ends.
async fn post(context: &Context, admitted: &Admitted) -> Attempted {
    let Admitted { message, route, url, live, .. } = admitted;
    let delivery = &message.delivery;
    let call = route.call(delivery, url.as_ref().map(|url| &url.read));
    let mut posting = pin!(context.receiver_client.post(&call));
    if let Ok(attempted) = timeout(SLOW, posting.as_mut()).await {
        return attempted;
    }
    if live.is_slow() || delivery.is_test() {
        return posting.await;
    }
    let (name, so_far) = (receiver_name(delivery, admitted.destination()), SLOW + Duration::from_millis(1));
    tokio::join!(posting, note_slow(context, &name, so_far, delivery.endpoint.is_some())).0
}

/// What is noted of the receiver.
fn called(admitted: &Admitted, attempted: &Attempted) -> Call {
    let Admitted { message, route, live, .. } = admitted;
    let target = message.delivery.endpoint.as_ref();
    let endpoint = target.zip(route.version()).map(|(target, version)| CalledEndpoint {
        tenant: target.tenant.clone(),
        version,
        is_own_event: !may_be_told(message),
    });
    let name = receiver_name(&message.delivery, admitted.destination());
    let is_throttled = attempted.outcome == Outcome::Throttled;
    Call {
        receiver: Receiver { name, live: live.clone(), endpoint },
        outcome: attempted.outcome,
        ms: attempted.ms,
        block: attempted.retry_after.filter(|_| is_throttled),
    }
}

fn step_after(context: &Context, admitted: &Admitted, attempted: &Attempted) -> NextStep {
    let Admitted { message, route, passes, .. } = admitted;
    let retries = route.retries(&message.delivery, &context.retry);
    let now = context.clock.now();
    for HeldPass { watched, breaker, pass } in passes {
        let Pass::Probe { reset_ms, .. } = pass else { continue };
        let open = Duration::from_millis(next_reset_ms(*reset_ms, &context.breakers.of(breaker)));
        let wait = context.parking.wait(open, false, message.parked, fastrand::f64());
        let signal = attempted.outcome.health_signal(*watched);
        if let Some(step) = after_failed_probe(message, attempted, signal, now, wait, retries, fastrand::f64()) {
            return step;
        }
    }
    next_step(message, attempted, now, retries, fastrand::f64())
}

/// The attempts of a delivery to an endpoint, this one included, for its record.
fn log_of(message: &Message, attempted: &Attempted) -> Option<String> {
    message.delivery.endpoint.as_ref()?;
    let mut history = message.history.clone();
    history.push(in_history(attempted));
    serde_json::to_string(&history).ok()
}

fn log(admitted: &Admitted, attempted: &Attempted, step: &NextStep) {
    let delivery = &admitted.message.delivery;
    tracing::info!(
        correlation_id = delivery.correlation_id.as_str(),
        webhook_id = delivery.id.as_str(),
        destination = admitted.destination(),
        attempt = admitted.message.attempts + 1,
        outcome = match step {
            NextStep::Delivered { .. } => "delivered",
            NextStep::Retry { .. } => "retried",
            NextStep::GiveUp(GivenUp { reason, .. }) => reason.as_str(),
            NextStep::Keep => "kept",
        },
        status_code = attempted.code(),
        error_class = attempted.outcome.error_class().map(ErrorClass::as_str),
        duration_ms = attempted.ms,
        "attempt"
    );
}
