//! `POST /webhooks`, `POST /tenants/{tenant}/events` and their batches: checks what a client
//! asks for, reserves its id, and answers 202 once the queue has it. What the queue has will
//! be delivered; nobody holds a 202 for anything else.

pub mod config;

mod accept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapters::acceptance::{Acceptor, Incoming};
use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::event_schemas::EventSchemas;
use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::http::entry;
use adapters::http::path::PathNames;
use adapters::redis::transport::RedisPort;
use adapters::registry::EventTypes;
use domain::event_request::{self, EventRequest};
use domain::fault::{Faults, MAX_FAULTS};
use domain::webhook::{self, Rejection, Rules};
use lambda_http::Request;
use lambda_http::http::{Method, Response, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::accept::{Origin, Receipt};
use crate::config::Config;

/// Most faults that are listed of one item of a batch. A name in a pointer has a limit, too,
/// and so the answer to any batch has at most half of the 6 MB that Lambda takes: what is
/// queued is never lost with its answer.
const MAX_ITEM_FAULTS: usize = 20;

/// How long the payloads of one request are held against schemas. A check may take some tenths
/// of a second.
const CHECKING: Duration = Duration::from_secs(5);

/// The handler and what it works with.
pub struct Enqueue {
    acceptor: Acceptor,
    clock: Clock,
    rules: Rules,
    deadline: Duration,
    /// The schemas that payloads are held against, if they are.
    schemas: Option<EventSchemas>,
}

/// What a path asks for.
enum Route<'a> {
    Webhook,
    Webhooks,
    /// An event of this tenant.
    Event(&'a str),
    /// Events of this tenant.
    Events(&'a str),
}

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        if method != Method::POST {
            return None;
        }
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match parts[..] {
            ["webhooks"] => Some(Self::Webhook),
            ["webhooks", "batch"] => Some(Self::Webhooks),
            ["tenants", tenant, "events"] => Some(Self::Event(tenant)),
            ["tenants", tenant, "events", "batch"] => Some(Self::Events(tenant)),
            _ => None,
        }
    }
}

impl Enqueue {
    /// A handler with these settings. Event types are read if events are validated.
    pub fn new(
        config: &Config,
        queue: Arc<dyn Queue>,
        redis: Arc<dyn RedisPort>,
        event_types: Arc<dyn EventTypes>,
        clock: Clock,
    ) -> Self {
        Self {
            acceptor: Acceptor::new(queue, redis, config.lives),
            clock,
            rules: config.rules.clone(),
            deadline: config.lives.deadline,
            schemas: config.validates_events.then(|| EventSchemas::new(event_types)),
        }
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
        let Some(route) = Route::of(method, path) else {
            return Err(Problem::not_found(format!("There is no {method} {path}.")));
        };
        let trace = answer::trace(request.headers());
        let origin = Origin { correlation_id, trace: trace.as_ref(), now: self.clock.now() };
        let raw = body::json(request.body().as_ref())?;
        match route {
            Route::Webhook => {
                let item = self.read_webhook("", raw, origin).map_err(|why| self.problem(why));
                self.one(item, origin).await
            }
            Route::Webhooks => {
                let items = webhook::read_batch(raw).map_err(Problem::invalid)?;
                let read = |(i, raw)| self.read_webhook(&format!("/webhooks/{i}"), raw, origin);
                let items = items.into_iter().enumerate().map(read).map(|item| self.of_batch(item)).collect();
                self.many(items, origin).await
            }
            Route::Event(tenant) => {
                let tenant = tenant_of(tenant)?;
                let mut items = self.read_events(&tenant, vec![(String::new(), raw)], origin).await;
                let item = items.pop().unwrap_or_else(|| Err(Problem::unavailable("Nothing was accepted.")));
                self.one(item, origin).await
            }
            Route::Events(tenant) => {
                let tenant = tenant_of(tenant)?;
                let items = event_request::read_batch(raw).map_err(Problem::invalid)?;
                let items = items.into_iter().enumerate().map(|(i, raw)| (format!("/events/{i}"), raw)).collect();
                let items = self.read_events(&tenant, items, origin).await;
                self.many(items, origin).await
            }
        }
    }

    fn read_webhook(&self, base: &str, raw: &RawValue, origin: Origin<'_>) -> Result<Incoming, Rejection> {
        let webhook = webhook::read(base, raw, origin.now, &self.rules)?;
        Ok(accept::webhook(webhook, self.deadline, origin))
    }

    /// Reads events, and holds their payloads against the schemas of their types.
    async fn read_events(
        &self,
        tenant: &str,
        items: Vec<(String, &RawValue)>,
        origin: Origin<'_>,
    ) -> Vec<Result<Incoming, Problem>> {
        let read = |(base, raw): (String, _)| {
            let event = event_request::read(&base, raw, origin.now, self.rules.max_payload_bytes);
            event.map(|event| (base, event))
        };
        let events: Vec<_> = items.into_iter().map(read).collect();
        let schemas = match &self.schemas {
            None => BTreeMap::new(),
            Some(schemas) => {
                let names = events.iter().flatten().map(|(_, event)| event.event_type.clone()).collect();
                schemas.schemas(names, origin.now).await
            }
        };
        let until = self.clock.now().after(CHECKING);
        let is_batch = events.len() > 1;
        let accept = |event: Result<(String, EventRequest<'_>), Rejection>| {
            let most = if is_batch { MAX_ITEM_FAULTS } else { MAX_FAULTS };
            let (base, event) = event.map_err(|why| self.problem(why.first(most)))?;
            let Some(schema) = schemas.get(&event.event_type) else {
                return Ok(accept::event(tenant, event, Faults::default(), origin));
            };
            if self.clock.now() >= until {
                return Err(Problem::unavailable("There was no time to check it. Send fewer events in a batch."));
            }
            let faults = schema.check_text(&format!("{base}/payload"), event.payload).first(most);
            Ok(accept::event(tenant, event, faults, origin))
        };
        events.into_iter().map(accept).collect()
    }

    async fn one(&self, item: Result<Incoming, Problem>, origin: Origin<'_>) -> Result<Response<String>, Problem> {
        let mut receipts = accept::accept(&self.acceptor, vec![Ok(item?)], origin).await;
        let receipt = receipts.pop().unwrap_or_else(|| Err(Problem::unavailable("Nothing was accepted.")))?;
        Ok(answer::json(StatusCode::ACCEPTED, &receipt.to_json(), origin.correlation_id))
    }

    async fn many(
        &self,
        items: Vec<Result<Incoming, Problem>>,
        origin: Origin<'_>,
    ) -> Result<Response<String>, Problem> {
        let receipts = accept::accept(&self.acceptor, items, origin).await;
        let accepted = receipts.iter().filter(|receipt| receipt.is_ok()).count();
        let rejected = receipts.len() - accepted;
        let result = |(index, receipt): (usize, Result<Receipt, Problem>)| match receipt {
            Ok(receipt) => receipt.to_item(index),
            Err(problem) => json!({ "index": index, "error": problem.to_json(origin.correlation_id) }),
        };
        let results: Vec<Value> = receipts.into_iter().enumerate().map(result).collect();
        let answer = json!({ "accepted": accepted, "rejected": rejected, "results": results });
        Ok(answer::json(StatusCode::OK, &answer, origin.correlation_id))
    }

    /// An item of a batch. Few of its faults are told.
    fn of_batch(&self, item: Result<Incoming, Rejection>) -> Result<Incoming, Problem> {
        item.map_err(|why| self.problem(why.first(MAX_ITEM_FAULTS)))
    }

    fn problem(&self, why: Rejection) -> Problem {
        match why {
            Rejection::Invalid(faults) => Problem::invalid(faults),
            Rejection::TooLarge { bytes } => Problem::too_large(format!(
                "The payload has {bytes} bytes; at most {} are taken.",
                self.rules.max_payload_bytes
            )),
        }
    }
}

/// The tenant that a path names.
fn tenant_of(segment: &str) -> Result<String, Problem> {
    let mut names = PathNames::default();
    let tenant = names.tenant(segment);
    names.finish().map(|()| tenant)
}
