//! What is told of endpoints: that one must be disabled, and that a delivery was given up. Each
//! process tells the same only once a minute, and the queue's consumer tells it once in all.

use adapters::aws::sqs::{Outgoing, QueueName};
use adapters::telemetry::chain;
use domain::endpoint::StateReason;
use domain::job::{JobPage, Notice, Noticed};
use domain::message::Message;
use domain::names::is_reserved_event_type;
use domain::next_step::GivenUp;
use domain::outcome::Outcome;
use domain::time::Millis;

use crate::context::Context;
use crate::decision::{Decided, Decision};
use crate::live::Failing;

/// Tells what was decided: deliveries that were given up, and receivers that are gone. What
/// the queue does not take is told by the next one.
pub(crate) async fn tell_decided(context: &Context, decided: &[Decided], now: Millis) {
    let given_up = decided.iter().filter_map(|next| match &next.decision {
        Decision::GiveUp { given_up, .. } => delivery_failed(given_up, now),
        Decision::Superseded
        | Decision::Finished(_)
        | Decision::Erased { .. }
        | Decision::Keep
        | Decision::Release(_)
        | Decision::Wait(_)
        | Decision::Delivered { .. }
        | Decision::Retry { .. }
        | Decision::Park { .. }
        | Decision::Owe { .. }
        | Decision::TestFailed { .. }
        | Decision::ReusedId(_)
        | Decision::Malformed { .. }
        | Decision::Late { .. } => None,
    });
    let gone = decided.iter().filter_map(|next| gone(next, now));
    send(context, given_up.chain(gone).collect(), now).await;
}

/// Tells that endpoints have failed for too long.
pub(crate) async fn tell_failing(context: &Context, failing: Vec<Failing>, now: Millis) {
    let notice = |failing: Failing| {
        let Failing { endpoint, called, since, failures } = failing;
        let what = Noticed::MustDisable {
            reason: StateReason::Failing,
            version: called.version,
            failing_since: since,
            failures,
        };
        JobPage::notice(&called.tenant, Notice { endpoint, what }, now)
    };
    send(context, failing.into_iter().map(notice).collect(), now).await;
}

/// The notice of a delivery that is given up.
fn delivery_failed(given_up: &GivenUp, now: Millis) -> Option<JobPage> {
    let GivenUp { reason, message, error, .. } = given_up;
    if !may_be_told(message) {
        return None;
    }
    let target = message.delivery.endpoint.as_ref()?;
    let what = Noticed::DeliveryFailed {
        delivery_id: message.delivery.id.clone(),
        event_id: target.event_id.clone(),
        event_type: message.delivery.event_type.clone(),
        reason: *reason,
        error: error.clone(),
    };
    let notice = Notice { endpoint: target.endpoint.clone(), what };
    Some(JobPage::notice(&target.tenant, notice, now))
}

/// The notice of an endpoint whose receiver answered 410.
fn gone(next: &Decided, now: Millis) -> Option<JobPage> {
    let call = next.call.as_ref().filter(|call| call.outcome == Outcome::Gone)?;
    let called = call.receiver.endpoint.as_ref().filter(|endpoint| !endpoint.is_own_event)?;
    let what = Noticed::MustDisable {
        reason: StateReason::Gone,
        version: called.version,
        failing_since: call.receiver.live.failing_since.unwrap_or(now),
        failures: call.receiver.live.failures + 1,
    };
    let notice = Notice { endpoint: call.receiver.name.clone(), what };
    Some(JobPage::notice(&called.tenant, notice, now))
}

/// Whether anybody is told what became of a delivery: nobody of a test, and nobody of what
/// Steadhook itself told, because two endpoints that fail would tell of each other for ever.
pub(crate) fn may_be_told(message: &Message) -> bool {
    let is_own = message.delivery.event_type.as_deref().is_some_and(is_reserved_event_type);
    !is_own && !message.delivery.is_test()
}

async fn send(context: &Context, mut notices: Vec<JobPage>, now: Millis) {
    notices.sort_by(|one, other| one.id.cmp(&other.id));
    notices.dedup_by(|one, other| one.id == other.id);
    notices.retain(|notice| context.told.is_new(&notice.id, now));
    let (mut ids, mut messages) = (Vec::new(), Vec::new());
    for notice in notices {
        match notice.encode() {
            Ok(body) => {
                messages.push(Outgoing::new(body, notice.tenant.clone(), 0));
                ids.push(notice.id);
            }
            Err(error) => tracing::error!(job_id = %notice.id, error = %chain(&error), "a notice cannot be written"),
        }
    }
    if messages.is_empty() {
        return;
    }
    let results = context.queue.send(QueueName::Event, messages).await;
    for (id, result) in ids.into_iter().zip(results) {
        match result {
            Ok(()) => context.told.remember(id, now),
            Err(error) => {
                tracing::error!(job_id = %id, code = error.code(), error = %chain(&error), "a notice is not queued");
            }
        }
    }
}
