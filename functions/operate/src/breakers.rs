//! `GET /circuit-breakers` and `POST /circuit-breakers/reset`.

use adapters::api::Problem;
use adapters::breaker;
use adapters::metric;
use adapters::query::Query;
use domain::breaker::{Breaker, State};
use domain::destination::Destination;
use domain::fault::Fault;
use domain::json::Fields;
use domain::time::Millis;
use lambda_http::Body;
use serde_json::{Value, json};
use url::Url;

use crate::Operate;
use crate::dead_letters::ORIGIN;

impl Operate {
    /// Every breaker that changed within a day, the last changed first; those in one
    /// state if `state` says so.
    pub(crate) async fn breakers(&self, query: &str) -> Result<Value, Problem> {
        let mut query = Query::of(query);
        let wanted = query.optional("state", State::named, "must be closed, open or half_open");
        query.finish()?;
        let now = self.clock.now();
        let found = breaker::survey(self.redis.as_ref()).await.map_err(|error| {
            tracing::error!(code = error.code(), error = ?error, "circuit breakers cannot be read");
            away()
        })?;
        let shown: Vec<Value> = found
            .iter()
            .filter(|(_, breaker)| wanted.is_none_or(|state| breaker.seen_at(now) == state))
            .map(|(destination, breaker)| view(destination, breaker, now))
            .collect();
        Ok(json!({ "circuit_breakers": shown }))
    }

    /// Closes one by hand. What was parked comes when it is due.
    pub(crate) async fn reset(&self, body: &Body, correlation_id: &str) -> Result<Value, Problem> {
        let destination = destination(body)?;
        let now = self.clock.now();
        let mut calls = vec![breaker::reset(&destination)];
        calls.extend(breaker::touched(std::iter::once(destination.as_str()), now));
        let reset = self.redis.wave(&calls).await.map(|replies| replies.into_iter().next());
        match reset {
            Ok(Some(Ok(_))) => {}
            Ok(reply) => {
                tracing::error!(%destination, ?reply, "a circuit breaker cannot be reset");
                return Err(away());
            }
            Err(error) => {
                tracing::error!(%destination, code = error.code(), error = ?error, "a circuit breaker cannot be reset");
                return Err(away());
            }
        }
        metric::breaker_changed(State::Closed);
        tracing::warn!(%destination, %correlation_id, to = "closed", "circuit breaker closed by hand");
        Ok(view(&destination, &Breaker::default(), now))
    }
}

fn away() -> Problem {
    Problem::unavailable("Circuit breakers cannot be read now; deliveries go on.")
}

/// The destination that a text names, in its normal form.
pub(crate) fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Some(Destination::of(&url).as_str().to_owned())
}

/// The destination that a request names, in its normal form.
fn destination(body: &Body) -> Result<String, Problem> {
    let text = std::str::from_utf8(body.as_ref()).map_err(|_| Problem::not_json("The body is not UTF-8."))?;
    let raw = domain::json::well_formed(text)
        .map_err(|error| Problem::not_json(format!("The body is not JSON: {error}.")))?;
    let Ok(Fields(fields)) = serde_json::from_str::<Fields<'_>>(raw.get()) else {
        return Err(Problem::invalid(vec![Fault::at("", "the request is a JSON object")]));
    };
    let mut faults = Vec::new();
    let mut found = None;
    for (name, value) in fields {
        if name != "destination" {
            faults.push(Fault::at(format!("/{name}"), "unknown field"));
            continue;
        }
        match serde_json::from_str::<String>(value.get()).ok().and_then(|text| origin(&text)) {
            Some(destination) => found = Some(destination),
            None => faults.push(Fault::at("/destination", ORIGIN)),
        }
    }
    if found.is_none() && faults.is_empty() {
        faults.push(Fault::at("/destination", "the field is missing"));
    }
    found.filter(|_| faults.is_empty()).ok_or_else(|| Problem::invalid(faults))
}

fn view(destination: &str, breaker: &Breaker, now: Millis) -> Value {
    let mut view = json!({
        "destination": destination,
        "state": breaker.seen_at(now),
        "failures": breaker.failures,
    });
    for (name, at) in [("opened_at", breaker.opened_at), ("retry_at", breaker.retry_at)] {
        if let Some(at) = at {
            view[name] = json!(at.to_string());
        }
    }
    view
}
