//! How the deliveries of an endpoint go, as Redis knows it.

use adapters::redis::query::{QueryError, Trip};
use adapters::redis::{breakers, live_states, rates, waiting};
use adapters::telemetry::chain;
use domain::breaker::{Breaker, State, host_breaker};
use domain::destination::Destination;
use domain::endpoint::Card;
use domain::time::Millis;
use serde::Serialize;
use url::Url;

use crate::Endpoints;

/// How deliveries go.
#[derive(Serialize)]
pub(crate) struct Health {
    /// The endpoint's circuit breaker.
    breaker: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    /// The circuit breaker of the host, which other endpoints may share.
    host_breaker: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_retry_at: Option<String>,
    /// The first failure since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    /// Failures since the last success.
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_duration_ms: Option<u64>,
    /// Until when the receiver asked for no calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_until: Option<String>,
    /// Until when deliveries wait for the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    advised_until: Option<String>,
    /// Deliveries that wait for their next attempt.
    waiting: u64,
}

impl Endpoints {
    /// How the deliveries of an endpoint go; `None` while Redis is away.
    pub(crate) async fn health(&self, card: &Card) -> Option<Health> {
        let read = self.read_health(card).await;
        read.inspect_err(|error| {
            tracing::error!(endpoint_id = %card.id, code = error.code(), error = %chain(error), "the health of an endpoint cannot be read");
        })
        .ok()
    }

    /// Reads it in one round trip.
    async fn read_health(&self, card: &Card) -> Result<Health, QueryError> {
        let mut trip = Trip::default();
        let host = Url::parse(&card.url).map(|url| Destination::of(&url).as_str().to_owned()).unwrap_or_default();
        let breaker = trip.add(breakers::read(&card.id));
        let host_breaker = trip.add(breakers::read(&host_breaker(&host)));
        let live = trip.add(live_states::read(&card.id));
        let rate = trip.add(rates::read(&card.id));
        let waiting = trip.add(waiting::count(&card.id));
        let mut replies = trip.run(self.redis.as_ref()).await?;
        let now = self.clock.now();
        let breaker = breaker.take(&mut replies)?.unwrap_or_default();
        let host_breaker = host_breaker.take(&mut replies)?.unwrap_or_default();
        let (live, rate) = (live.take(&mut replies)?, rate.take(&mut replies)?);
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        let ahead = |at: Option<Millis>| text(at.filter(|at| *at > now));
        Ok(Health {
            breaker: breaker.seen_at(now),
            retry_at: retry_at(&breaker),
            host_breaker: host_breaker.seen_at(now),
            host_retry_at: retry_at(&host_breaker),
            failing_since: text(live.failing_since),
            failures: live.failures,
            last_success_at: text(live.last_success_at),
            last_failure_at: text(live.last_failure_at),
            last_duration_ms: live.last_duration_ms,
            blocked_until: ahead(rate.blocked_until),
            advised_until: ahead(rate.advised_until),
            waiting: waiting.take(&mut replies)?,
        })
    }
}

/// When a breaker lets its next probe through.
fn retry_at(breaker: &Breaker) -> Option<String> {
    breaker.retry_at.map(|at| at.to_string())
}
