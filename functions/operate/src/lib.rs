//! What an operator asks: where a delivery stands, what was given up and is to be
//! sent again, which receivers are in trouble. Every path and method that no other
//! function answers ends here too.

pub mod config;

mod breakers;
mod dead_letters;
mod deliveries;
mod event_path;
mod events;
mod known;
mod redrive;
mod request;
mod standing;
mod statuses;

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::dead_letter_store::DeadLetterStore;
use adapters::http::answer::{self, Problem};
use adapters::redis::transport::RedisPort;
use domain::status::Lifetimes;
use lambda_http::Request;
use lambda_http::http::{Method, Response, StatusCode};

use crate::config::Config;
use crate::event_path::EventPath;

/// The handler and what it works with.
pub struct Operate {
    redis: Arc<dyn RedisPort>,
    store: Arc<dyn DeadLetterStore>,
    queue: Arc<dyn Queue>,
    clock: Clock,
    lifetimes: Lifetimes,
    deadline: Duration,
}

/// A part of a path that names something.
enum Id<'a> {
    Status(&'a str),
    DeadLetter(&'a str),
    Redrive(&'a str),
    Tenants(EventPath<'a>),
}

impl Operate {
    /// A handler with these settings.
    pub fn new(
        config: &Config,
        redis: Arc<dyn RedisPort>,
        store: Arc<dyn DeadLetterStore>,
        queue: Arc<dyn Queue>,
        clock: Clock,
    ) -> Self {
        Self { redis, store, queue, clock, lifetimes: config.lives.records, deadline: config.lives.deadline }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        let answer = self.route(&request, &correlation_id).await;
        answer.unwrap_or_else(|problem| problem.response(&correlation_id))
    }

    async fn route(&self, request: &Request, correlation_id: &str) -> Result<Response<String>, Problem> {
        let (method, path) = (request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let ok = |body| answer::json(StatusCode::OK, &body, correlation_id);
        match (method, path) {
            (&Method::GET, "/webhook-statuses") => return self.statuses(query).await.map(ok),
            (&Method::GET, "/circuit-breakers") => return self.breakers(query).await.map(ok),
            (&Method::POST, "/circuit-breakers/reset") => {
                return self.reset(request.body(), correlation_id).await.map(ok);
            }
            (&Method::GET, "/dead-letters") => return self.dead_letters(query).await.map(ok),
            (&Method::POST, "/dead-letters/redrive") => {
                return self.redrive_many(request.body(), correlation_id).await.map(ok);
            }
            _ => {}
        }
        match (method, named(path)) {
            (&Method::GET, Some(Id::Status(id))) => self.status(&request::id(id)?).await.map(ok),
            (&Method::GET, Some(Id::DeadLetter(id))) => {
                let body = self.dead_letter(&request::dead_letter_id(id)?).await?;
                Ok(answer::json(StatusCode::OK, &body, correlation_id))
            }
            (&Method::DELETE, Some(Id::DeadLetter(id))) => {
                self.delete_dead_letter(&request::dead_letter_id(id)?, correlation_id).await?;
                Ok(answer::no_content(correlation_id))
            }
            (&Method::POST, Some(Id::Redrive(id))) => {
                let body = self.redrive_one(&request::dead_letter_id(id)?, correlation_id).await?;
                Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
            }
            (&Method::GET, Some(Id::Tenants(EventPath::Event { tenant, event }))) => {
                self.event(tenant, event).await.map(ok)
            }
            (&Method::GET, Some(Id::Tenants(EventPath::Delivery { tenant, event, endpoint }))) => {
                self.delivery(tenant, event, endpoint).await.map(ok)
            }
            (method, _) => Err(match methods_of(path) {
                Some(methods) => Problem::method_not_allowed(methods),
                None => Problem::not_found(format!("There is no {method} {path}.")),
            }),
        }
    }
}

/// What a path names, as it stands there.
fn named(path: &str) -> Option<Id<'_>> {
    if let Some(id) = path.strip_prefix("/webhook-statuses/") {
        return (!id.contains('/')).then_some(Id::Status(id));
    }
    if let Some(path) = EventPath::of(path) {
        return Some(Id::Tenants(path));
    }
    match path.strip_prefix("/dead-letters/")?.split_once('/') {
        None => Some(Id::DeadLetter(path.strip_prefix("/dead-letters/")?)),
        Some((id, "redrive")) => Some(Id::Redrive(id)),
        Some(_) => None,
    }
}

/// The methods of a path of the API, whoever answers them.
fn methods_of(path: &str) -> Option<&'static str> {
    match path {
        "/webhooks" | "/webhooks/batch" | "/webhook-cleanup" | "/circuit-breakers/reset" => Some("POST"),
        "/webhook-statuses" | "/dead-letters" | "/circuit-breakers" | "/event-types" | "/health" | "/metrics" => {
            Some("GET")
        }
        "/reseal" => Some("GET, POST"),
        "/dead-letters/redrive" => Some("GET, DELETE, POST"),
        path => match named(path) {
            // An event may be called `batch`.
            Some(Id::Tenants(EventPath::Event { event: "batch", .. })) => Some("GET, POST"),
            Some(Id::Status(_) | Id::Tenants(_)) => Some("GET"),
            Some(Id::DeadLetter(_)) => Some("GET, DELETE"),
            Some(Id::Redrive(_)) => Some("POST"),
            None => methods_of_event_type(path).or_else(|| methods_of_tenants(path)),
        },
    }
}

/// The methods of one event type.
fn methods_of_event_type(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("/event-types/")?;
    (!name.is_empty() && !name.contains('/')).then_some("DELETE, GET, PUT")
}

/// The methods of a path below `/tenants`.
fn methods_of_tenants(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.strip_prefix("/tenants")?.split('/').collect();
    match parts[..] {
        [""] | ["", _] | ["", _, "endpoints", _, "secret"] => Some("GET"),
        ["", _, "endpoints"] => Some("GET, POST"),
        ["", _, "endpoints", _] => Some("DELETE, GET, PATCH"),
        ["", _, "endpoints", _, "rotate-secret" | "test"] | ["", _, "events"] => Some("POST"),
        _ => None,
    }
}
