//! Wakes the catch-up of an endpoint, which queues what the endpoint is owed, or ends it.

use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName, SendError, delay_s};
use adapters::http::answer::Problem;
use adapters::registry::EndpointKey;
use adapters::telemetry::chain;
use domain::job::JobPage;
use domain::time::{Millis, whole_ms};

use crate::Endpoints;

/// How long after its wake-up is queued a catch-up begins at the earliest. This function ends
/// within 29 s, so the card is written by then, or is never.
const WAIT: Duration = Duration::from_secs(60);
/// Wake-ups of one minute are one job.
const MINUTE: Duration = Duration::from_secs(60);

impl Endpoints {
    /// Queues a wake-up of the catch-up. Only what is written afterwards may rely on it.
    pub(crate) async fn wake_catch_up(&self, key: &EndpointKey) -> Result<(), Problem> {
        let now = self.clock.now();
        let due = due(now);
        let page = JobPage::wake_up(&key.tenant, &key.endpoint, due);
        let sent = match page.encode() {
            Ok(body) => {
                let message = Outgoing::new(body, key.tenant.clone(), delay_s(now, due));
                self.queue.send(QueueName::Event, vec![message]).await.into_iter().next()
            }
            Err(error) => Some(Err(SendError::refused(error))),
        };
        match sent {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => {
                tracing::error!(tenant = %key.tenant, endpoint_id = %key.endpoint, code = error.code(), error = %chain(&error), "a catch-up is not queued");
            }
            None => tracing::error!(tenant = %key.tenant, endpoint_id = %key.endpoint, "a catch-up is not queued"),
        }
        Err(Problem::unavailable("The queue did not take what this change needs. Nothing was changed; try again."))
    }
}

/// When a catch-up begins that is queued at `now`: with a minute. All wake-ups of that minute are
/// one job, which is done once, and an earlier one in it could find the card as it was before.
fn due(now: Millis) -> Millis {
    let minute_ms = whole_ms(MINUTE);
    Millis(now.after(WAIT).0.div_ceil(minute_ms) * minute_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wake_up_of_its_minute_is_due_before_the_card_is_written() {
        let ids = |due| JobPage::wake_up("acme", "ep_1", due).id;
        for now in (0..120_000).step_by(500).map(|ms| Millis(1_700_000_000_000 + ms)) {
            let due = due(now);
            assert!((WAIT..=WAIT + MINUTE).contains(&now.until(due)), "{now}");
            assert_ne!(ids(due), ids(Millis(due.0 - 1)), "{now}");
        }
    }
}
