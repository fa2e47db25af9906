//! The whole system in one process, in virtual time: the real handlers over a
//! real Redis and a real receiver, with the model of SQS between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adapters::clock::Clock;
use adapters::config::{DeliverConfig, EnqueueConfig, Environment, RedisConfig};
use adapters::ledger;
use adapters::redis::{Call, Redis, Reply, Unavailable, Wire};
use adapters::secrets::{Keyring, Signing};
use adapters::sender::{Courier, HttpSender};
use adapters::sqs::{Lane, Queue};
use async_trait::async_trait;
use bytes::Bytes;
use domain::ledger::Claim;
use domain::message::Envelope;
use domain::status::Lifetimes;
use domain::time::Millis;
use fn_archive::Archivist;
use fn_cleanup::Cleanup;
use fn_deliver::{Deliver, Received};
use fn_enqueue::Enqueue;
use fn_health::Health;
use fn_metrics::Metrics;
use fn_operate::Operate;
use lambda_http::{Body, Request};
use serde_json::Value;

use crate::archive_model::ArchiveModel;
use crate::contract;
use crate::receiver::Receiver;
use crate::redis_server::RedisServer;
use crate::sqs_model::{SqsModel, Taken};

/// A secret that the tests sign with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Where virtual time begins.
pub const BEGINNING: Millis = Millis(1_700_000_000_000);

/// What the template sets, for tests.
pub fn settings(redis_url: &str) -> Vec<(&'static str, String)> {
    [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("REDIS_URL", redis_url),
        ("REDIS_CLUSTER", "false"),
        ("DELIVERY_QUEUE_URL", "http://localhost/delivery"),
        ("RETRY_QUEUE_URL", "http://localhost/retry"),
        ("DEAD_LETTER_QUEUE_URL", "http://localhost/dead"),
        ("SIGNING_SECRETS", SECRET),
        ("ALLOWED_PRIVATE_CIDRS", "127.0.0.0/8,::1/128"),
        ("MAX_RETRIES", "3"),
        ("RETRY_BASE_S", "10"),
        ("RETRY_BASE_THROTTLED_S", "30"),
        ("RETRY_FACTOR", "4"),
        ("RETRY_CAP_S", "900"),
        ("DELIVERY_TIMEOUT_MS", "15000"),
        ("BREAKER_FAILURE_THRESHOLD", "5"),
        ("BREAKER_RESET_TIMEOUT_S", "60"),
        ("BREAKER_RESET_MAX_S", "900"),
        ("PARK_BASE_S", "30"),
        ("PARK_CAP_S", "300"),
        ("CONNECT_TIMEOUT_MS", "3000"),
        ("DELIVERY_DEADLINE_S", "86400"),
        ("MAX_PAYLOAD_BYTES", "262144"),
        ("TTL_DELIVERED_S", "1800"),
        ("TTL_UNFINISHED_S", "604800"),
        ("TTL_DEAD_LETTER_S", "2592000"),
        ("DEAD_LETTER_TABLE", "dead-letters"),
        ("DELIVER_TIMEOUT_S", "60"),
        ("QUEUE_VISIBILITY_S", "360"),
        ("STACK_NAME", "steadhook"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

fn environment(redis_url: &str, changes: &[(&'static str, &str)]) -> Environment {
    let mut settings = settings(redis_url);
    for (name, value) in changes {
        settings.retain(|(other, _)| other != name);
        settings.push((name, (*value).to_owned()));
    }
    Environment::of(settings)
}

fn keyring(config: &DeliverConfig) -> Arc<Keyring> {
    let Signing::Given(signer) = config.signing.clone() else { panic!("the tests' secret is given") };
    Arc::new(Keyring::given(signer))
}

fn received(taken: &Taken) -> Received {
    Received { message_id: taken.message.id.clone(), body: Bytes::from(taken.message.body.clone()) }
}

/// A dead letter as Lambda hands it over.
pub fn dead_letter(taken: &Taken) -> fn_archive::Received {
    let attribute =
        |name: &str| taken.message.attributes.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
    fn_archive::Received {
        message_id: taken.message.id.clone(),
        body: Bytes::from(taken.message.body.clone()),
        error_code: attribute("ERROR_CODE"),
        error_message: attribute("ERROR_MESSAGE"),
        sent_at: Some(taken.message.sent_at),
    }
}

/// Counts the round trips to Redis.
pub struct Counting {
    inner: Arc<dyn Wire>,
    waves: AtomicUsize,
}

#[async_trait]
impl Wire for Counting {
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        self.waves.fetch_add(usize::from(!calls.is_empty()), Ordering::SeqCst);
        self.inner.wave(calls).await
    }
}

/// One world.
pub struct World {
    /// Its clock.
    pub clock: Clock,
    /// Its Redis.
    pub redis: RedisServer,
    /// Its queues.
    pub queues: SqsModel,
    /// Its receiver.
    pub receiver: Receiver,
    /// Its archive.
    pub archive: ArchiveModel,
    wire: Arc<Counting>,
    enqueue: Enqueue,
    deliver: Deliver,
    archivist: Archivist,
    operate: Operate,
    cleanup: Cleanup,
    health: Health,
    metrics: Metrics,
}

impl World {
    /// A world as the template's defaults make it.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A world with other settings.
    ///
    /// # Panics
    /// When the settings are refused.
    pub async fn with(changes: &[(&'static str, &str)]) -> Self {
        let redis = RedisServer::start();
        let config = RedisConfig::node(redis.url());
        Self::build(redis, &config, changes).await
    }

    /// A world on another Redis, such as a cluster. Its own server stays empty.
    pub async fn on(config: &RedisConfig) -> Self {
        Self::build(RedisServer::start(), config, &[]).await
    }

    async fn build(redis: RedisServer, redis_config: &RedisConfig, changes: &[(&'static str, &str)]) -> Self {
        let environment = environment(&redis.url(), changes);
        let (enqueue, deliver): (EnqueueConfig, DeliverConfig) =
            (environment.enqueue().unwrap(), environment.deliver().unwrap());
        let clock = Clock::fixed(BEGINNING);
        let queues = SqsModel::new(clock.clone(), Duration::from_secs(360), 100);
        let client: Arc<dyn Wire> = Arc::new(Redis::open(redis_config, clock.clone()).unwrap());
        let wire = Arc::new(Counting { inner: client, waves: AtomicUsize::new(0) });
        let courier: Arc<dyn Courier> =
            Arc::new(HttpSender::new(deliver.sender.clone(), keyring(&deliver), clock.clone()).unwrap());
        let queue: Arc<dyn Queue> = Arc::new(queues.clone());
        let archive = ArchiveModel::default();
        let archiving = environment.archive().unwrap();
        Self {
            enqueue: Enqueue::new(&enqueue, Arc::clone(&queue), Arc::clone(&wire) as _, clock.clone()),
            deliver: Deliver::new(&deliver, Arc::clone(&queue), Arc::clone(&wire) as _, courier, clock.clone()),
            archivist: Archivist::new(&archiving, Arc::clone(&wire) as _, Arc::new(archive.clone()), clock.clone()),
            operate: Operate::new(
                &environment.operate().unwrap(),
                Arc::clone(&wire) as _,
                Arc::new(archive.clone()),
                Arc::clone(&queue),
                clock.clone(),
            ),
            cleanup: Cleanup::new(&environment.cleanup().unwrap(), Arc::clone(&wire) as _, clock.clone()),
            metrics: Metrics::new(
                Arc::clone(&wire) as _,
                Some(Arc::new(queues.clone())),
                clock.clone(),
                environment.metrics().unwrap().lifetimes,
            ),
            health: Health::new(
                "steadhook",
                Arc::clone(&wire) as _,
                Arc::new(queues.clone()),
                Arc::new(archive.clone()),
                clock.clone(),
            ),
            archive,
            receiver: Receiver::start().await,
            wire,
            queues,
            redis,
            clock,
        }
    }

    /// Round trips to Redis so far.
    pub fn redis_round_trips(&self) -> usize {
        self.wire.waves.load(Ordering::SeqCst)
    }

    /// Posts text: the status code and the answer.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> (u16, Value) {
        self.ask(http::Method::POST, path, body.into()).await
    }

    /// Enqueues one webhook for the world's receiver and gives its id.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn enqueue(&self, reference_id: &str, payload: &str) -> String {
        let url = self.receiver.url("/hook");
        let body = format!(r#"{{"webhook_url":"{url}","payload":{payload},"reference_id":"{reference_id}"}}"#);
        let (code, answer) = self.post("/webhooks", body).await;
        assert_eq!(code, 202, "{answer}");
        answer["webhook_id"].as_str().unwrap().to_owned()
    }

    /// Gets: the status code and the answer.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(http::Method::GET, path, Body::Empty).await
    }

    /// Posts JSON: the status code and the answer.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn operate(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(http::Method::POST, path, body.to_string().into()).await
    }

    /// Asks whichever function the template routes this to.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn ask(&self, method: http::Method, path: &str, body: Body) -> (u16, Value) {
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = format!("http://api{path}").parse().unwrap();
        let response = match (method.as_str(), request.uri().path()) {
            ("POST", "/webhooks" | "/webhooks/batch") => self.enqueue.handle(request).await,
            ("GET", "/health") => self.health.handle(request).await,
            ("GET", "/metrics") => self.metrics.handle(request).await,
            ("POST", "/webhook-cleanup") => self.cleanup.handle(request).await,
            _ => self.operate.handle(request).await,
        };
        let (status, body) = (response.status().as_u16(), response.body());
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        contract::check(method.as_str(), path, status, kind, body);
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// The text that Prometheus gets.
    ///
    /// # Panics
    /// When there is none.
    pub async fn metrics(&self) -> String {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = "http://api/metrics".parse().unwrap();
        let response = self.metrics.handle(request).await;
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    /// The daily cleanup, as its schedule starts it: what it reports.
    ///
    /// # Panics
    /// When its report is not JSON.
    pub async fn daily_cleanup(&self) -> Value {
        serde_json::to_value(self.cleanup.daily().await.0).unwrap()
    }

    /// Replaces `deliver` by one with other settings, over the same everything.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn configure(&mut self, changes: &[(&'static str, &str)]) {
        let config = environment(&self.redis.url(), changes).deliver().unwrap();
        let courier = HttpSender::new(config.sender.clone(), keyring(&config), self.clock.clone()).unwrap();
        let queue: Arc<dyn Queue> = Arc::new(self.queues.clone());
        self.deliver = Deliver::new(&config, queue, Arc::clone(&self.wire) as _, Arc::new(courier), self.clock.clone());
    }

    /// One batch of this delivery's due retries alone through `deliver`.
    pub async fn step_only(&self, id: &str) {
        let mark = format!("\"id\":\"{id}\"");
        let taken = self.queues.receive_where(Lane::Retry, |body| body.contains(&mark));
        let records: Vec<Received> = taken.iter().map(received).collect();
        let failed = self.deliver.handle(&records, self.clock.now().after(Duration::from_secs(60))).await;
        for taken in taken.iter().filter(|taken| !failed.contains(&taken.message.id)) {
            self.queues.delete(Lane::Retry, taken);
        }
    }

    /// A delivery's status record.
    ///
    /// # Panics
    /// When there is none.
    pub async fn status(&self, id: &str) -> Value {
        let (code, answer) = self.get(&format!("/webhook-statuses/{id}")).await;
        assert_eq!(code, 200, "{answer}");
        answer
    }

    /// One batch from a queue through `deliver`, as Lambda does it. Gives how many
    /// were received and how many stayed.
    pub async fn step(&self, lane: Lane) -> (usize, usize) {
        let taken = self.queues.receive(lane, 10);
        if taken.is_empty() {
            return (0, 0);
        }
        let records: Vec<Received> = taken.iter().map(received).collect();
        let failed = self.deliver.handle(&records, self.clock.now().after(Duration::from_secs(60))).await;
        for taken in taken.iter().filter(|taken| !failed.contains(&taken.message.id)) {
            self.queues.delete(lane, taken);
        }
        (records.len(), failed.len())
    }

    /// Receives one batch and claims it, as a consumer does that then dies.
    ///
    /// # Panics
    /// When a message cannot be read or Redis is away.
    pub async fn claim_and_die(&self, lane: Lane) {
        for taken in self.queues.receive(lane, 10) {
            let body = Bytes::from(taken.message.body);
            let Ok(Envelope::Deliver(message)) = Envelope::decode(&body) else { panic!("not a delivery") };
            let token = format!("{:x}", fastrand::u64(..));
            let claim = Claim { token, hop: message.hop, lease_ms: 61_000, birth: message.birth() };
            let lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000 };
            let replies = self.wire.wave(&[ledger::claim(&message.id, &claim, lifetimes)]).await.unwrap();
            assert!(replies[0].is_ok());
        }
    }

    /// One batch from the dead-letter queue through `archive`.
    pub async fn file(&self) -> (usize, usize) {
        let taken = self.queues.receive(Lane::DeadLetter, 10);
        let records: Vec<fn_archive::Received> = taken.iter().map(dead_letter).collect();
        let failed = self.archivist.handle(&records).await;
        for taken in taken.iter().filter(|taken| !failed.contains(&taken.message.id)) {
            self.queues.delete(Lane::DeadLetter, taken);
        }
        (records.len(), failed.len())
    }

    /// Runs until both work queues are empty, moving time as needed.
    ///
    /// # Panics
    /// When that takes more steps than any delivery needs.
    pub async fn settle(&self) {
        for _ in 0..1000 {
            let fresh = self.step(Lane::Delivery).await;
            let retried = self.step(Lane::Retry).await;
            if fresh.0 + retried.0 > 0 {
                continue;
            }
            let waiting = [Lane::Delivery, Lane::Retry].iter().any(|&lane| !self.queues.all(lane).is_empty());
            if !waiting {
                return;
            }
            self.clock.advance(Duration::from_secs(1));
            if let Some(at) = self.queues.next_visible() {
                self.clock.advance(self.clock.now().until(at));
            }
        }
        panic!("the queues do not become empty");
    }
}
