//! What every phase works with: clients and settings, and what one batch remembers.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::http::sender::ReceiverClient;
use adapters::redis::query::{Replies, ReplyError, Trip};
use adapters::redis::transport::RedisPort;
use adapters::telemetry::chain;
use domain::breaker::BreakerPolicies;
use domain::parking::Parking;
use domain::retry::RetryPolicy;
use domain::status::Lifetimes;
use domain::time::Millis;

/// A lease outlives its holder by this much.
const GRACE: Duration = Duration::from_secs(1);

/// Clients and settings.
pub(crate) struct Context {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) redis: Arc<dyn RedisPort>,
    pub(crate) receiver_client: Arc<dyn ReceiverClient>,
    pub(crate) clock: Clock,
    pub(crate) retry: RetryPolicy,
    pub(crate) breakers: BreakerPolicies,
    pub(crate) parking: Parking,
    pub(crate) lifetimes: Lifetimes,
    /// What one attempt may take, with the bookkeeping after it.
    pub(crate) attempt_budget: Duration,
}

/// What one invocation remembers.
pub(crate) struct Batch {
    /// When Lambda ends the invocation.
    pub(crate) ends_at: Millis,
    redis_failed: bool,
}

impl Batch {
    /// A batch whose invocation ends at `ends_at`.
    pub(crate) fn new(ends_at: Millis) -> Self {
        Self { ends_at, redis_failed: false }
    }

    /// How long this invocation can still live.
    pub(crate) fn lease(&self, now: Millis) -> Duration {
        now.until(self.ends_at) + GRACE
    }

    /// One round trip. After the first failure Redis is left alone for the rest of the
    /// batch, and there are no replies.
    pub(crate) async fn round_trip(&mut self, context: &Context, trip: Trip) -> Replies {
        if self.redis_failed {
            return Replies::default();
        }
        match trip.run(context.redis.as_ref()).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; delivering goes on without it");
                self.redis_failed = true;
                Replies::default()
            }
        }
    }
}

/// The reply of Redis about `subject`; `None` when there is none that can be used.
pub(crate) fn usable<T>(reply: Result<T, ReplyError>, subject: &str) -> Option<T> {
    match reply {
        Ok(answer) => Some(answer),
        // Its round trip failed, and that is in the log already.
        Err(error) if error.was_not_sent() => None,
        Err(error) => {
            tracing::error!(subject, code = error.code(), error = %chain(&error), "Redis rejected a command or sent an unusable reply");
            None
        }
    }
}

/// A fresh token: 64 random bits in hex.
pub(crate) fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}
