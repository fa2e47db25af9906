//! What an operator asks: where a delivery stands, which receivers are in trouble. Every path and method that
//! no other function answers ends here too.

mod breakers;

use std::sync::Arc;

use adapters::api::{self, Problem};
use adapters::clock::Clock;
use adapters::ledger;
use adapters::redis::Wire;
use domain::identity::is_webhook_id;
use domain::ledger::Record;
use domain::time::Millis;
use lambda_http::Request;
use lambda_http::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// The handler and what it works with.
pub struct Operate {
    redis: Arc<dyn Wire>,
    clock: Clock,
}

impl Operate {
    /// A handler over `redis`.
    pub fn new(redis: Arc<dyn Wire>, clock: Clock) -> Self {
        Self { redis, clock }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = api::correlation_id(request.headers());
        let path = request.uri().path().to_owned();
        let answer = match (request.method(), path.as_str()) {
            (&Method::GET, "/circuit-breakers") => self.breakers(request.uri().query().unwrap_or_default()).await,
            (&Method::POST, "/circuit-breakers/reset") => self.reset(request.body(), &correlation_id).await,
            (&Method::GET, path) if path.starts_with("/webhook-statuses/") => {
                self.status(path.trim_start_matches("/webhook-statuses/")).await
            }
            (method, _) => Err(Problem::not_found(format!("There is no {method} {path}."))),
        };
        match answer {
            Ok(body) => api::json(StatusCode::OK, &body, &correlation_id),
            Err(problem) => problem.response(&correlation_id),
        }
    }

    async fn status(&self, id: &str) -> Result<Value, Problem> {
        let unknown = || Problem::not_found("There is no webhook with this id, or its record has expired.");
        let away = || Problem::unavailable("Statuses cannot be read now; deliveries go on.");
        if !is_webhook_id(id) {
            return Err(unknown());
        }
        let replies = self.redis.wave(&ledger::read(id)).await.map_err(|error| {
            tracing::error!(code = error.code(), error = ?error, "a status cannot be read");
            away()
        })?;
        let Ok([get, ttl]) = <[_; 2]>::try_from(replies) else { return Err(away()) };
        let found = ledger::record(get, ttl).map_err(|error| {
            tracing::error!(code = error.code(), error = ?error, "a status cannot be read");
            away()
        })?;
        let (record, ttl_ms) = found.ok_or_else(unknown)?;
        Ok(view(id, &record, ttl_ms, self.clock.now()))
    }
}

/// A record as the API shows it. What is not known is left out.
fn view(id: &str, record: &Record, ttl_ms: Option<u64>, now: Millis) -> Value {
    let mut view = json!({
        "webhook_id": id,
        "status": record.status,
        "webhook_url": record.birth.url,
        "attempts": record.birth.attempts,
        "created_at": record.birth.accepted_at.to_string(),
        "updated_at": record.updated_at.to_string(),
        "expires_at": record.birth.expires_at.to_string(),
        "correlation_id": record.birth.correlation_id,
        "in_flight": record.lease.as_ref().is_some_and(|lease| lease.until > now),
    });
    let known = [
        ("ttl_seconds", ttl_ms.map(|ms| json!(ms.div_ceil(1000)))),
        ("event_type", record.birth.event_type.as_ref().map(|kind| json!(kind))),
        ("last_status_code", record.last_status_code.map(|code| json!(code))),
        ("error_class", record.error_class.map(|class| json!(class))),
        ("error", record.error.as_ref().map(|error| json!(error))),
        ("next_attempt_at", record.next_attempt_at.map(|at| json!(at.to_string()))),
        ("duration_ms", record.duration_ms.map(|ms| json!(ms))),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            view[name] = value;
        }
    }
    view
}
