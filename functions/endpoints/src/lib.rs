//! The registry of endpoints: tenants make them, change them, rotate their secrets and test
//! them. A card is configuration: what waits for an endpoint is delivered by the card of the
//! time of its attempt. The catalogue says which event types there are.

pub mod config;

mod change;
mod create;
mod event_types;
mod health;
mod links;
mod live_state;
mod owed;
mod path;
mod precondition;
mod problems;
mod read;
mod reseal;
mod rotate;
mod sealing;
mod tenants;
mod test_delivery;
mod tokens;
mod view;
mod wake_up;

use std::sync::Arc;

use adapters::aws::master_keys::MasterKeyring;
use adapters::aws::sqs::Queue;
use adapters::clock::Clock;
use adapters::history::History;
use adapters::http::answer::{self, Problem};
use adapters::http::entry;
use adapters::redis::transport::RedisPort;
use adapters::registry::Registry;
use adapters::tokens::Tokens;
use domain::webhook::Rules;
use lambda_http::Request;
use lambda_http::http::{Method, Response};

use crate::config::Config;
use crate::path::{Kind, Path};
use crate::precondition::Precondition;

/// How often a change is tried that other changes overtake.
const TRIES: usize = 8;

/// What `endpoints` works with.
pub struct Clients {
    /// The registry of endpoints and event types.
    pub registry: Arc<dyn Registry>,
    /// Tokens, and links to the console.
    pub tokens: Arc<dyn Tokens>,
    /// What secrets are sealed with, and tokens authenticated.
    pub keyring: MasterKeyring,
    /// The queues.
    pub queue: Arc<dyn Queue>,
    /// Redis.
    pub redis: Arc<dyn RedisPort>,
    /// The table of history.
    pub history: Arc<dyn History>,
}

/// The handler and what it works with.
pub struct Endpoints {
    registry: Arc<dyn Registry>,
    tokens: Arc<dyn Tokens>,
    keyring: MasterKeyring,
    queue: Arc<dyn Queue>,
    redis: Arc<dyn RedisPort>,
    history: Arc<dyn History>,
    clock: Clock,
    rules: Rules,
    max_endpoints: u64,
}

impl Endpoints {
    /// A handler with these settings.
    pub fn new(config: &Config, clients: Clients, clock: Clock) -> Self {
        let Clients { registry, tokens, keyring, queue, redis, history } = clients;
        let (rules, max_endpoints) = (config.rules.clone(), config.max_endpoints);
        Self { registry, tokens, keyring, queue, redis, history, clock, rules, max_endpoints }
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
        let (body, precondition) = (request.body(), Precondition::of(request.headers()));
        let bearer = entry::bearer(request);
        let Some(path) = Path::of(path) else {
            return Err(Problem::not_found(format!("There is no {method} {path}.")));
        };
        if *method != Method::GET
            && let Some(tenant) = path.changed_tenant()
        {
            self.refuse_erasing(&tenant).await?;
        }
        match (path.kind, method.as_str()) {
            (Kind::Tenants, "GET") => self.tenants(query, correlation_id).await,
            (Kind::Tenant, "GET") => self.tenant(&path.tenant()?, correlation_id).await,
            (Kind::Endpoints, "GET") => self.list(&path.tenant()?, query, correlation_id).await,
            (Kind::Endpoints, "POST") => self.create(&path.tenant()?, body, correlation_id).await,
            (Kind::Endpoint, "GET") => self.endpoint(&path.endpoint()?, correlation_id).await,
            (Kind::Endpoint, "PATCH") => self.patch(&path.endpoint()?, &precondition, body, correlation_id).await,
            (Kind::Endpoint, "DELETE") => self.delete(&path.endpoint()?, &precondition, correlation_id).await,
            (Kind::Secret, "GET") => self.secrets(&path.endpoint()?, correlation_id).await,
            (Kind::RotateSecret, "POST") => self.rotate(&path.endpoint()?, &precondition, body, correlation_id).await,
            (Kind::Test, "POST") => self.test(&path.endpoint()?, body, correlation_id).await,
            (Kind::Reseal, "GET") => self.resealing(correlation_id).await,
            (Kind::Reseal, "POST") => self.reseal(correlation_id).await,
            (Kind::EventTypes, "GET") => self.event_types(query, correlation_id).await,
            (Kind::EventType, "GET") => self.event_type(&path.event_type()?, correlation_id).await,
            (Kind::EventType, "PUT") => self.put_event_type(&path.own_event_type()?, body, correlation_id).await,
            (Kind::EventType, "DELETE") => self.delete_event_type(&path.own_event_type()?, correlation_id).await,
            (Kind::Tokens, "GET") => self.list_tokens(bearer, query, correlation_id).await,
            (Kind::Tokens, "POST") => self.make_token(bearer, body, correlation_id).await,
            (Kind::Token, "DELETE") => self.revoke_token(bearer, &path.token()?, correlation_id).await,
            (Kind::Epochs, "POST") => self.end_tokens(bearer, body, correlation_id).await,
            (Kind::Links, "POST") => self.make_link(bearer, body, correlation_id).await,
            (Kind::Link, "GET") => self.link(&path.code_hash()?, correlation_id).await,
            (Kind::Sessions, "POST") => self.open_session(body, correlation_id).await,
            (kind, _) => Err(Problem::method_not_allowed(kind.methods())),
        }
    }
}
