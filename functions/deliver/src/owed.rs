//! Keeps what endpoints are owed: the row of a delivery and the wake-up of its catch-up, before
//! its message is acknowledged. What cannot be kept waits in a queue.

use std::time::Duration;

use adapters::telemetry::chain;
use domain::record::Ending;

use crate::context::Context;
use crate::decision::{Decided, Decision};

/// Keeps what is owed. A delivery whose row or wake-up was not taken is parked instead.
pub(crate) async fn keep(context: &Context, decided: &mut [Decided]) {
    let (mut places, mut messages) = (Vec::new(), Vec::new());
    for (place, next) in decided.iter().enumerate() {
        if let Decision::Owe { message, .. } = &next.decision {
            places.push(place);
            messages.push(message.as_ref().clone());
        }
    }
    if messages.is_empty() {
        return;
    }
    let now = context.clock.now();
    let results = context.owing.owe(context.history.as_ref(), context.queue.as_ref(), &messages, now).await;
    for (place, result) in places.into_iter().zip(results) {
        if let Err(error) = result {
            tracing::error!(code = error.code(), error = %chain(&error), "what an endpoint is owed cannot be kept; it waits");
            wait(context, &mut decided[place]);
        }
    }
}

/// A delivery that cannot be kept as owed now waits. Its deadline does not end it, so beyond that
/// its message stays where it is.
fn wait(context: &Context, next: &mut Decided) {
    let Decision::Owe { claim, message, .. } = &next.decision else { return };
    let claim = claim.clone();
    let wait = context.parking.wait(Duration::ZERO, false, message.parked, fastrand::f64());
    let due = context.clock.now().after(wait);
    next.decision = if due < message.delivery.deadline {
        let error = "waiting: what its endpoint is owed cannot be kept now".to_owned();
        let ending = Ending::Parked { error, next_attempt_at: due };
        Decision::Park { claim, successor: Box::new(message.parked(due)), ending, to: None }
    } else {
        Decision::Release(claim)
    };
}
