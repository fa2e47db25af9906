//! Deliveries that are queued among the retries of `deliver`, not as new ones.

use adapters::aws::sqs::{Outgoing, delay_s, retry_group};
use adapters::telemetry::chain;
use domain::message::Message;
use domain::time::Millis;

/// A delivery as the RetryQueue carries it, not earlier than the delivery says. `None` for one that
/// cannot be written: the log has it.
pub(crate) fn outgoing(message: &Message, now: Millis) -> Option<Outgoing> {
    match message.encode() {
        Ok(body) => Some(Outgoing::new(body, retry_group(&message.delivery), delay_s(now, message.not_before))),
        Err(error) => {
            tracing::error!(webhook_id = %message.delivery.id, error = %chain(&error), "a delivery cannot be written");
            None
        }
    }
}
