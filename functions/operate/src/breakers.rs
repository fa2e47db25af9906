//! `GET /circuit-breakers` and `POST /circuit-breakers/reset`.

use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::metrics;
use adapters::redis::breakers;
use adapters::redis::query::{QueryError, Trip};
use adapters::telemetry::chain;
use domain::breaker::{Breaker, State, breaker_name, host_breaker, shown_name};
use domain::destination::Destination;
use domain::names::is_endpoint_id;
use domain::object::parsed;
use domain::time::Millis;
use lambda_http::Body;
use serde::Serialize;
use url::Url;

use crate::Operate;
use crate::request;

/// What a destination of a reset is, for a person.
const DESTINATION: &str = "must be an origin such as https://example.com, endpoint:<id> or host:<origin>";

impl Operate {
    /// Every breaker that changed within a day, the last changed first; those in one
    /// state if `state` says so.
    pub(crate) async fn breakers(&self, query: &str) -> Result<Listed, Problem> {
        let mut query = QueryString::of(query);
        let wanted: Option<State> =
            query.optional("state", |name| name.parse().ok(), "must be closed, open or half_open");
        query.finish()?;
        let now = self.clock.now();
        let found = breakers::survey(self.redis.as_ref()).await.map_err(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "circuit breakers cannot be read");
            away()
        })?;
        let circuit_breakers = found
            .iter()
            .filter(|(_, breaker)| wanted.is_none_or(|state| breaker.seen_at(now) == state))
            .map(|(destination, breaker)| Shown::of(destination, breaker, now))
            .collect();
        Ok(Listed { circuit_breakers })
    }

    /// Closes one by hand. What was parked comes when it is due.
    pub(crate) async fn reset(&self, body: &Body, correlation_id: &str) -> Result<Shown, Problem> {
        let named = named(body)?;
        let now = self.clock.now();
        let destination = match named {
            Named::Breaker(name) => name,
            Named::Url(url) => self.breaker_of(&url).await?,
        };
        let mut trip = Trip::default();
        let reset = trip.add(breakers::reset(&destination));
        // An entry that is missing shows with the next change.
        drop(trip.add(breakers::enter(std::iter::once(destination.as_str()), now)));
        let failed = |error: QueryError| {
            tracing::error!(%destination, code = error.code(), error = %chain(&error), "a circuit breaker cannot be reset");
            away()
        };
        let mut replies = trip.run(self.redis.as_ref()).await.map_err(|error| failed(error.into()))?;
        reset.take(&mut replies).map_err(|error| failed(error.into()))?;
        metrics::breaker_changed(&destination, State::Closed);
        tracing::warn!(%destination, %correlation_id, to = "closed", "circuit breaker closed by hand");
        Ok(Shown::of(&destination, &Breaker::default(), now))
    }
}

impl Operate {
    /// The breaker that a URL names: the one of its path if there is one, else the one of
    /// its destination.
    async fn breaker_of(&self, url: &Url) -> Result<String, Problem> {
        let (of_path, of_destination) = (breaker_name(url), Destination::of(url).as_str().to_owned());
        if of_path == of_destination {
            return Ok(of_destination);
        }
        let found = breakers::read(&of_path).run(self.redis.as_ref()).await.map_err(|error| {
            tracing::error!(destination = %of_path, code = error.code(), error = %chain(&error), "a circuit breaker cannot be read");
            away()
        })?;
        Ok(if found.is_some() { of_path } else { of_destination })
    }
}

fn away() -> Problem {
    Problem::unavailable("Circuit breakers cannot be read now; deliveries go on.")
}

/// What a request names.
enum Named {
    /// The breaker of an endpoint or a host.
    Breaker(String),
    /// A destination of direct webhooks, or a path of it.
    Url(Url),
}

impl Named {
    fn read(text: &str) -> Option<Self> {
        if let Some(endpoint) = text.strip_prefix("endpoint:") {
            return is_endpoint_id(endpoint).then(|| Self::Breaker(endpoint.to_owned()));
        }
        match text.strip_prefix("host:") {
            Some(host) => request::origin(host).map(|origin| Self::Breaker(host_breaker(&origin))),
            None => request::http_url(text).map(Self::Url),
        }
    }
}

/// What a request names.
fn named(body: &Body) -> Result<Named, Problem> {
    let mut reader = request::object(body, &["destination"])?;
    reader.required("destination");
    let read = |raw| parsed::<String>(raw).and_then(|text| Named::read(&text));
    let named = reader.optional("destination", read, DESTINATION);
    let faults = reader.finish();
    named.filter(|_| faults.is_empty()).ok_or_else(|| Problem::invalid(faults))
}

/// A list of breakers. There may be ten thousand.
#[derive(Serialize)]
pub(crate) struct Listed {
    circuit_breakers: Vec<Shown>,
}

/// A breaker as it is shown.
#[derive(Serialize)]
pub(crate) struct Shown {
    destination: String,
    state: State,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
}

impl Shown {
    fn of(name: &str, breaker: &Breaker, now: Millis) -> Self {
        Self {
            destination: shown_name(name),
            state: breaker.seen_at(now),
            failures: breaker.failures,
            opened_at: breaker.opened_at.as_ref().map(Millis::to_string),
            retry_at: breaker.retry_at.as_ref().map(Millis::to_string),
        }
    }
}
