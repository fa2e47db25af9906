//! `POST /webhooks` and `POST /webhooks/batch`: checks what a client asks for,
//! reserves its id, and answers 202 once the queue has it. What the queue has
//! will be delivered; nobody holds a 202 for anything else.

pub mod config;

mod accept;

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::redis::transport::RedisPort;
use domain::status::Lifetimes;
use domain::webhook::{self, Rejection, Rules};
use lambda_http::http::{Method, Response, StatusCode};
use lambda_http::{Body, Request};

use crate::config::Config;

/// Most faults that are listed of one item of a batch. A name in a pointer has a limit, too,
/// and so the answer to any batch has at most half of the 6 MB that Lambda takes: what is
/// queued is never lost with its answer.
const MAX_ITEM_FAULTS: usize = 20;

/// The handler and what it works with.
pub struct Enqueue {
    queue: Arc<dyn Queue>,
    redis: Arc<dyn RedisPort>,
    clock: Clock,
    rules: Rules,
    deadline: Duration,
    lifetimes: Lifetimes,
}

impl Enqueue {
    /// A handler with these settings.
    pub fn new(config: &Config, queue: Arc<dyn Queue>, redis: Arc<dyn RedisPort>, clock: Clock) -> Self {
        Self {
            queue,
            redis,
            clock,
            rules: config.rules.clone(),
            deadline: config.lives.deadline,
            lifetimes: config.lives.records,
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        let answer = match (request.method(), request.uri().path()) {
            (&Method::POST, "/webhooks") => self.one(request.body(), &correlation_id).await,
            (&Method::POST, "/webhooks/batch") => self.many(request.body(), &correlation_id).await,
            (method, path) => Err(Problem::not_found(format!("There is no {method} {path}."))),
        };
        answer.unwrap_or_else(|problem| problem.response(&correlation_id))
    }

    async fn one(&self, body: &Body, correlation_id: &str) -> Result<Response<String>, Problem> {
        let raw = body::json(body.as_ref())?;
        let webhook = webhook::read("", raw, self.clock.now(), &self.rules).map_err(|why| self.problem(why))?;
        let mut receipts = self.accept(vec![Ok(webhook)], correlation_id).await;
        let receipt = receipts.pop().unwrap_or_else(|| Err(Problem::unavailable("Nothing was accepted.")))?;
        Ok(answer::json(StatusCode::ACCEPTED, &receipt.to_json(), correlation_id))
    }

    async fn many(&self, body: &Body, correlation_id: &str) -> Result<Response<String>, Problem> {
        let raw = body::json(body.as_ref())?;
        let items = webhook::read_batch(raw).map_err(Problem::invalid)?;
        let now = self.clock.now();
        let webhooks = items
            .into_iter()
            .enumerate()
            .map(|(i, raw)| {
                let webhook = webhook::read(&format!("/webhooks/{i}"), raw, now, &self.rules);
                webhook.map_err(|why| self.problem(why.first(MAX_ITEM_FAULTS)))
            })
            .collect();
        let receipts = self.accept(webhooks, correlation_id).await;
        let accepted = receipts.iter().filter(|receipt| receipt.is_ok()).count();
        let rejected = receipts.len() - accepted;
        let results: Vec<serde_json::Value> = receipts
            .into_iter()
            .enumerate()
            .map(|(index, receipt)| match receipt {
                Ok(receipt) => receipt.to_item(index),
                Err(problem) => serde_json::json!({ "index": index, "error": problem.to_json(correlation_id) }),
            })
            .collect();
        let answer = serde_json::json!({ "accepted": accepted, "rejected": rejected, "results": results });
        Ok(answer::json(StatusCode::OK, &answer, correlation_id))
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
