//! What an operator asks: where a delivery stands, what was given up and is to be
//! sent again, which receivers are in trouble. Every path and method that no other
//! function answers ends here too.

pub mod config;

mod breakers;
mod dead_letters;
mod deliveries;
mod delivery_lists;
mod erase;
mod event_path;
mod events;
mod history;
mod known;
mod lives;
mod recent;
mod redrive;
mod replay_path;
mod replays;
mod request;
mod resend;
mod standing;
mod statuses;

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::config::Lives;
use adapters::dead_letter_store::DeadLetterStore;
use adapters::history::History;
use adapters::http::answer::{self, Problem};
use adapters::http::entry;
use adapters::redis::indexes::Indexes;
use adapters::redis::transport::RedisPort;
use adapters::registry::Registry;
use domain::status::Lifetimes;
use lambda_http::Request;
use lambda_http::http::{Method, Response, StatusCode};

use crate::config::Config;
use crate::event_path::EventPath;
use crate::replay_path::ReplayPath;

/// What `operate` works with.
pub struct Clients {
    /// Redis.
    pub redis: Arc<dyn RedisPort>,
    /// The store of dead letters.
    pub store: Arc<dyn DeadLetterStore>,
    /// The queues.
    pub queue: Arc<dyn Queue>,
    /// The table of history.
    pub history: Arc<dyn History>,
    /// The registry of endpoints.
    pub registry: Arc<dyn Registry>,
}

/// The handler and what it works with.
pub struct Operate {
    redis: Arc<dyn RedisPort>,
    store: Arc<dyn DeadLetterStore>,
    queue: Arc<dyn Queue>,
    history: Arc<dyn History>,
    registry: Arc<dyn Registry>,
    history_life: Option<Duration>,
    clock: Clock,
    lifetimes: Lifetimes,
    indexes: Indexes,
    deadline: Duration,
}

/// A part of a path that names something.
enum Id<'a> {
    Status(&'a str),
    DeadLetter(&'a str),
    Redrive(&'a str),
    Tenants(EventPath<'a>),
    Replays(ReplayPath<'a>),
}

impl Operate {
    /// A handler with these settings.
    pub fn new(config: &Config, clients: Clients, clock: Clock) -> Self {
        let Clients { redis, store, queue, history, registry } = clients;
        let (lives, history_life) = (config.lives, config.history.life);
        let Lives { deadline, records: lifetimes, indexes } = lives;
        Self { redis, store, queue, history, registry, history_life, clock, lifetimes, indexes, deadline }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        let answer = match entry::enter(request) {
            Ok(request) => self.route(&request, &correlation_id).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(|problem| problem.response(&correlation_id))
    }

    async fn route(&self, request: &Request, correlation_id: &str) -> Result<Response<String>, Problem> {
        let (method, path) = (request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let ok = |body| answer::json(StatusCode::OK, &body, correlation_id);
        if entry::is_unrouted(request) {
            return Err(refused(method, path));
        }
        match (method, path) {
            (&Method::GET, "/webhook-statuses") => return self.statuses(query).await.map(ok),
            (&Method::GET, "/deliveries/recent") => return self.recent_deliveries(query).await.map(ok),
            (&Method::GET, "/metrics/recent") => return self.recent_metrics(query).await.map(ok),
            (&Method::GET, "/circuit-breakers") => {
                let listed = self.breakers(query).await?;
                return Ok(answer::json(StatusCode::OK, &listed, correlation_id));
            }
            (&Method::POST, "/circuit-breakers/reset") => {
                let closed = self.reset(request.body(), correlation_id).await?;
                return Ok(answer::json(StatusCode::OK, &closed, correlation_id));
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
            (_, Some(Id::Tenants(named))) => self.of_tenant(request, named, correlation_id).await,
            (&Method::POST, Some(Id::Replays(ReplayPath::Replays { tenant, endpoint }))) => {
                let body = self.begin_replay(tenant, endpoint, request.body(), correlation_id).await?;
                Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
            }
            (&Method::GET, Some(Id::Replays(ReplayPath::Replay { tenant, replay }))) => {
                self.replay(tenant, replay).await.map(ok)
            }
            (&Method::DELETE, Some(Id::Replays(ReplayPath::Replay { tenant, replay }))) => {
                self.stop_replay(tenant, replay, correlation_id).await.map(ok)
            }
            _ => Err(refused(method, path)),
        }
    }

    /// Answers a request for what tenants were told.
    async fn of_tenant(
        &self,
        request: &Request,
        named: EventPath<'_>,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let (method, path) = (request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let ok = |body| answer::json(StatusCode::OK, &body, correlation_id);
        match (method.as_str(), named) {
            ("GET", EventPath::Events { tenant }) => self.events(tenant, query).await.map(ok),
            ("GET", EventPath::Event { tenant, event }) => {
                let body = self.event(tenant, event).await?;
                Ok(answer::json(StatusCode::OK, &body, correlation_id))
            }
            ("GET", EventPath::Deliveries { tenant, event }) => {
                self.deliveries_of_event(tenant, event, query).await.map(ok)
            }
            ("GET", EventPath::Delivery { tenant, event, endpoint }) => {
                self.delivery(tenant, event, endpoint, query).await.map(ok)
            }
            ("POST", EventPath::Resend { tenant, event, endpoint }) => {
                let body = self.resend(tenant, event, endpoint, request.body(), correlation_id).await?;
                Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
            }
            ("GET", EventPath::OfEndpoint { tenant, endpoint }) => {
                self.deliveries_of_endpoint(tenant, endpoint, query).await.map(ok)
            }
            ("DELETE", EventPath::Payload { tenant, event }) => {
                let body = self.erase_event(tenant, event, correlation_id).await?;
                Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
            }
            ("DELETE", EventPath::Tenant { tenant }) => {
                let body = self.erase_tenant(tenant, correlation_id).await?;
                Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
            }
            _ => Err(refused(method, path)),
        }
    }
}

/// What is answered to a method that a path does not have, or on a path that is not there.
fn refused(method: &Method, path: &str) -> Problem {
    match methods_of(path) {
        Some(methods) => Problem::method_not_allowed(methods),
        None => Problem::not_found(format!("There is no {method} {path}.")),
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
    if let Some(path) = ReplayPath::of(path) {
        return Some(Id::Replays(path));
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
        "/webhooks"
        | "/webhooks/batch"
        | "/webhook-cleanup"
        | "/circuit-breakers/reset"
        | "/tokens/links"
        | "/tokens/epochs"
        | "/console/sessions" => Some("POST"),
        "/webhook-statuses" | "/dead-letters" | "/circuit-breakers" | "/event-types" | "/health" | "/metrics"
        | "/deliveries/recent" | "/metrics/recent" => Some("GET"),
        "/reseal" | "/tokens" => Some("GET, POST"),
        "/dead-letters/redrive" => Some("GET, DELETE, POST"),
        path => match named(path) {
            Some(Id::Tenants(named)) => Some(named.methods()),
            Some(Id::Status(_)) => Some("GET"),
            Some(Id::DeadLetter(_)) => Some("GET, DELETE"),
            Some(Id::Redrive(_)) => Some("POST"),
            Some(Id::Replays(path)) => Some(path.methods()),
            None => methods_of_one(path).or_else(|| methods_of_tenants(path)),
        },
    }
}

/// The methods of one event type, token or link.
fn methods_of_one(path: &str) -> Option<&'static str> {
    let of = |list: &str| path.strip_prefix(list).is_some_and(|name| !name.is_empty() && !name.contains('/'));
    match () {
        () if of("/event-types/") => Some("DELETE, GET, PUT"),
        () if of("/tokens/") => Some("DELETE"),
        () if of("/console/links/") => Some("GET"),
        () => None,
    }
}

/// The methods of a path below `/tenants`.
fn methods_of_tenants(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.strip_prefix("/tenants")?.split('/').collect();
    match parts[..] {
        [""] | ["", _, "endpoints", _, "secret"] => Some("GET"),
        ["", _, "replays", _] => Some("DELETE, GET"),
        ["", _, "endpoints"] => Some("GET, POST"),
        ["", _, "endpoints", _] => Some("DELETE, GET, PATCH"),
        ["", _, "endpoints", _, "rotate-secret" | "test" | "replays"] => Some("POST"),
        _ => None,
    }
}
