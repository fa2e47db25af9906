//! `GET /circuit-breakers` and `POST /circuit-breakers/reset`.

use adapters::api::Problem;
use adapters::breaker;
use adapters::redis::{Call, Reply};
use domain::breaker::{Breaker, State};
use domain::destination::Destination;
use domain::fault::Fault;
use domain::json::Fields;
use domain::time::Millis;
use lambda_http::Body;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::Operate;

/// Most pages of destinations that one answer looks through: 10,000 destinations.
const MAX_PAGES: usize = 10;

impl Operate {
    /// Every breaker that changed within a day, the last changed first; those in one
    /// state if `state` says so.
    pub(crate) async fn breakers(&self, query: &str) -> Result<Value, Problem> {
        let wanted = wanted_state(query)?;
        let now = self.clock.now();
        let mut shown = Vec::new();
        for page in 0..MAX_PAGES {
            let mut replies = self.ask(&[breaker::list(page)]).await?;
            let destinations = breaker::listed(next(&mut replies)?).map_err(|_| away())?;
            let calls: Vec<Call> = destinations.iter().map(|destination| breaker::read(destination)).collect();
            for (destination, reply) in destinations.iter().zip(self.ask(&calls).await?) {
                match breaker::breaker(reply) {
                    Ok(Some(found)) if wanted.is_none_or(|state| found.seen_at(now) == state) => {
                        shown.push(view(destination, &found, now));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%destination, code = error.code(), error = ?error, "a circuit breaker cannot be read");
                    }
                }
            }
            if destinations.len() < breaker::PAGE {
                break;
            }
        }
        Ok(json!({ "circuit_breakers": shown }))
    }

    /// Closes one by hand. What was parked comes when it is due.
    pub(crate) async fn reset(&self, body: &Body, correlation_id: &str) -> Result<Value, Problem> {
        let destination = destination(body)?;
        let now = self.clock.now();
        let mut calls = vec![breaker::reset(&destination)];
        calls.extend(breaker::touched(std::iter::once(destination.as_str()), now));
        let mut replies = self.ask(&calls).await?;
        next(&mut replies)?.map_err(|_| away())?;
        tracing::warn!(%destination, %correlation_id, to = "closed", "circuit breaker closed by hand");
        Ok(view(&destination, &Breaker::default(), now))
    }

    async fn ask(&self, calls: &[Call]) -> Result<Vec<Reply>, Problem> {
        self.redis.wave(calls).await.map_err(|error| {
            tracing::error!(code = error.code(), error = ?error, "circuit breakers cannot be read");
            away()
        })
    }
}

fn next(replies: &mut Vec<Reply>) -> Result<Reply, Problem> {
    if replies.is_empty() { Err(away()) } else { Ok(replies.remove(0)) }
}

fn away() -> Problem {
    Problem::unavailable("Circuit breakers cannot be read now; deliveries go on.")
}

fn wanted_state(query: &str) -> Result<Option<State>, Problem> {
    let mut wanted = None;
    let mut faults = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (name.as_ref(), State::named(&value)) {
            ("state", Some(state)) => wanted = Some(state),
            ("state", None) => faults.push(Fault::at("/state", "must be closed, open or half_open")),
            (name, _) => faults.push(Fault::at(format!("/{name}"), "unknown parameter")),
        }
    }
    if faults.is_empty() { Ok(wanted) } else { Err(Problem::invalid(faults)) }
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
        let url = serde_json::from_str::<String>(value.get()).ok().and_then(|text| Url::parse(&text).ok());
        match url.filter(|url| matches!(url.scheme(), "http" | "https")) {
            Some(url) => found = Some(Destination::of(&url).as_str().to_owned()),
            None => faults.push(Fault::at("/destination", "must be an origin such as https://example.com")),
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
