//! The function `endpoints` in virtual time, with models of the registry and of SQS.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::master_keys::{MasterKeySource, MasterKeyring};
use adapters::clock::Clock;
use adapters::config::reader::Environment;
use adapters::redis::breakers;
use adapters::redis::transport::{Call, Redis, RedisPort, Reply, Unavailable};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::breaker::BreakerPolicy;
use domain::outcome::HealthSignal;
use domain::seal::MasterKeys;
use domain::token::Token;
use fn_endpoints::config::Config;
use fn_endpoints::{Clients, Endpoints};
use http::{HeaderMap, HeaderValue};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};
use serde_json::{Value, json};

use crate::contract;
use crate::history_model::HistoryModel;
use crate::redis_server::{RedisServer, Server as _};
use crate::registry_model::RegistryModel;
use crate::sqs_model::SqsModel;
use crate::tokens_model::TokensModel;
use crate::world::{BEGINNING, MASTER_KEY, World, changed_settings};

/// The settings that the template gives `endpoints` alone.
pub fn settings() -> Vec<(&'static str, String)> {
    vec![
        ("REGISTRY_TABLE", "registry".to_owned()),
        ("MASTER_KEYS", master_key(1)),
        ("MAX_ENDPOINTS", "10000".to_owned()),
    ]
}

/// A master key.
pub fn master_key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// What a request got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; `null` when there is none.
    pub body: Value,
    /// The body as it was written.
    pub text: String,
}

impl Answer {
    /// A header; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The pointers of its faults.
    ///
    /// # Panics
    /// When it is no problem with faults.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no faults: {self:?}"));
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

/// One world.
pub struct EndpointsWorld {
    /// Its clock.
    pub clock: Clock,
    /// Its registry.
    pub registry: RegistryModel,
    /// Its queues.
    pub queues: SqsModel,
    /// Its history.
    pub history: HistoryModel,
    /// Its tokens.
    pub tokens: TokensModel,
    redis: Arc<dyn RedisPort>,
    endpoints: Endpoints,
}

/// A Redis that is away.
struct NoRedis;

#[async_trait]
impl RedisPort for NoRedis {
    async fn round_trip(&self, _calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        Err(Unavailable::away())
    }
}

impl EndpointsWorld {
    /// A world with the template's defaults, whose Redis is away.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A world with other settings, whose Redis is away.
    ///
    /// # Panics
    /// When the settings are refused.
    pub async fn with(changes: &[(&'static str, &str)]) -> Self {
        Self::build(changes, Arc::new(NoRedis), Clock::fixed(BEGINNING))
    }

    /// A world with the template's defaults and this Redis.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn on(redis: &RedisServer) -> Self {
        let clock = Clock::fixed(BEGINNING);
        let redis = Redis::open(&redis.config(), clock.clone()).unwrap();
        Self::build(&[], Arc::new(redis), clock)
    }

    fn build(changes: &[(&'static str, &str)], redis: Arc<dyn RedisPort>, clock: Clock) -> Self {
        let queues = SqsModel::new(clock.clone(), Duration::from_secs(360), 100);
        let (registry, history, tokens) = (RegistryModel::default(), HistoryModel::default(), TokensModel::default());
        let (config, keyring) = read(changes);
        let endpoints = function(&config, keyring, (&registry, &history, &queues, &tokens), &redis, &clock);
        Self { clock, registry, queues, history, tokens, redis, endpoints }
    }

    /// The function beside the others: with their clock, registry, queues and master key.
    ///
    /// # Panics
    /// When the settings are refused.
    pub async fn beside(world: &World) -> Self {
        let (clock, registry, queues) = (world.clock.clone(), world.registry.clone(), world.queues.clone());
        let history = world.history.clone();
        let redis: Arc<dyn RedisPort> = Arc::new(Redis::open(&world.redis.config(), clock.clone()).unwrap());
        let (config, keyring) = read(&[("MASTER_KEYS", MASTER_KEY)]);
        let tokens = TokensModel::default();
        let endpoints = function(&config, keyring, (&registry, &history, &queues, &tokens), &redis, &clock);
        Self { clock, registry, queues, history, tokens, redis, endpoints }
    }

    /// Replaces the function by one with other settings. Everything else stays.
    ///
    /// # Panics
    /// When the settings are refused.
    pub async fn configure(&mut self, changes: &[(&'static str, &str)]) {
        let (config, keyring) = read(changes);
        self.rebuild(&config, keyring);
    }

    /// Replaces the function by one with these keys.
    ///
    /// # Panics
    /// Never.
    pub fn seal_with(&mut self, keyring: MasterKeyring) {
        self.rebuild(&read(&[]).0, keyring);
    }

    fn rebuild(&mut self, config: &Config, keyring: MasterKeyring) {
        let models = (&self.registry, &self.history, &self.queues, &self.tokens);
        self.endpoints = function(config, keyring, models, &self.redis, &self.clock);
    }

    /// The master keys of the function's settings.
    ///
    /// # Panics
    /// Never.
    pub fn master_keys() -> MasterKeys {
        MasterKeys::parse(&master_key(1)).unwrap()
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn ask(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        self.ask_if("", method, path, body).await
    }

    /// Sends a request with `If-Match`.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn ask_if(&self, etag: &str, method: &str, path: &str, body: impl ToString) -> Answer {
        let mut request = request(method, path, body);
        if !etag.is_empty() {
            request.headers_mut().insert("if-match", HeaderValue::try_from(etag).unwrap());
        }
        self.send(request, method, path).await
    }

    /// Sends a request below `/api`, with a token that the gate has let through.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn ask_with(&self, token: &Token, method: &str, path: &str, body: impl ToString) -> Answer {
        let told = json!({
            "token": token.id, "scope": token.scope, "read_only": token.read_only, "epoch": token.epoch,
            "expires_at": token.expires_at,
        });
        let (template, names) = contract::route(method, path);
        let context = json!({
            "http": { "method": method }, "routeKey": format!("{method} /api{template}"),
            "authorizer": { "lambda": told }, "timeEpoch": 0,
        });
        let context = RequestContext::ApiGatewayV2(serde_json::from_value(context).unwrap());
        let raw = format!("/api{}", path.split('?').next().unwrap_or_default());
        let request = request(method, &format!("/api{path}"), body).with_request_context(context);
        self.send(request.with_path_parameters(names).with_raw_http_path(raw), method, path).await
    }

    async fn send(&self, request: Request, method: &str, path: &str) -> Answer {
        let response = self.endpoints.handle(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
        contract::check(method, path, status, kind, response.body());
        let text = response.into_body();
        Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), headers, text }
    }

    /// Gets.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Changes an endpoint. Gives it as it is then.
    ///
    /// # Panics
    /// When it is not changed.
    pub async fn change(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("PATCH", path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Opens the circuit breaker of this name for a minute.
    ///
    /// # Panics
    /// When Redis is away.
    pub async fn open_breaker(&self, name: &str) {
        let redis = self.redis.as_ref();
        let policy = BreakerPolicy { failure_threshold: 1, reset_ms: 60_000, reset_max_ms: 900_000 };
        let epoch = breakers::closed_epoch(name).run(redis).await.unwrap().unwrap_or_default();
        let report = breakers::report(name, &format!("token-{epoch}"), epoch, &[HealthSignal::Unhealthy], &policy);
        report.run(redis).await.unwrap();
    }

    /// Makes an endpoint of `acme`. Gives the answer, and the path of the endpoint.
    ///
    /// # Panics
    /// When it is not made.
    pub async fn create(&self, body: impl ToString) -> (Answer, String) {
        let answer = self.ask("POST", "/tenants/acme/endpoints", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let path = answer.header("location").to_owned();
        (answer, path)
    }
}

fn request(method: &str, path: &str, body: impl ToString) -> Request {
    let body = body.to_string();
    let mut request = Request::new(if body.is_empty() { Body::Empty } else { Body::Text(body) });
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("http://api{path}").parse().unwrap();
    request
}

/// The settings of the function with these changes, and its master keys.
fn read(changes: &[(&'static str, &str)]) -> (Config, MasterKeyring) {
    let own = settings();
    let own: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut all = changed_settings("redis://127.0.0.1:1", &own);
    for (name, value) in changes {
        all.retain(|(other, _)| other != name);
        all.push((name, (*value).to_owned()));
    }
    let config = Environment::of(all).read(fn_endpoints::config::read).unwrap();
    let MasterKeySource::Given(keys) = config.master_keys.clone() else { panic!("the tests' keys are given") };
    (config, MasterKeyring::given(keys))
}

fn function(
    config: &Config,
    keyring: MasterKeyring,
    (registry, history, queues, tokens): (&RegistryModel, &HistoryModel, &SqsModel, &TokensModel),
    redis: &Arc<dyn RedisPort>,
    clock: &Clock,
) -> Endpoints {
    let clients = Clients {
        registry: Arc::new(registry.clone()),
        tokens: Arc::new(tokens.clone()),
        keyring,
        queue: Arc::new(queues.clone()),
        redis: Arc::clone(redis),
        history: Arc::new(history.clone()),
    };
    Endpoints::new(config, clients, clock.clone())
}
