//! The whole system in one process, in virtual time: the real functions on a real Redis with
//! a real receiver, and models of SQS and DynamoDB.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::master_keys::MasterKeyring;
use adapters::aws::secrets::{Keyring, SigningSource};
use adapters::aws::sqs::{Queue, QueueName};
use adapters::aws::sqs_event::Received;
use adapters::clock::Clock;
use adapters::config::reader::Environment;
use adapters::http::receiver_client::HttpReceiverClient;
use adapters::receiver_client::ReceiverClient;
use adapters::redis::records;
use adapters::redis::transport::{Call, Redis, RedisConfig, RedisPort, Reply, Unavailable};
use adapters::registry::{CardLists, Cards};
use async_trait::async_trait;
use bytes::Bytes;
use domain::message::Envelope;
use domain::record::Claim;
use domain::seal::MasterKeys;
use domain::status::Lifetimes;
use domain::time::Millis;
use fn_archive::Archivist;
use fn_cleanup::Cleanup;
use fn_deliver::{CardCache, Deliver};
use fn_enqueue::Enqueue;
use fn_fanout::{Fanout, Subscriptions};
use fn_health::Health;
use fn_metrics::Metrics;
use fn_operate::Operate;
use lambda_http::{Body, Request};
use serde_json::Value;
use strum::IntoEnumIterator as _;

use crate::bus_model::BusModel;
use crate::contract;
use crate::endpoints::TENANT;
use crate::history_model::HistoryModel;
use crate::receiver::Receiver;
use crate::redis_server::RedisServer;
use crate::registry_model::RegistryModel;
use crate::sqs_model::{SqsModel, Taken};
use crate::store_model::StoreModel;

/// The signing secret of all tests.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The master key of all tests.
pub const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The ARN of the queue for events of other systems.
pub const INGEST_QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:ingest";
/// The ARN of the dead-letter queue of that queue.
pub const INGEST_DEAD_LETTER_QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:ingest-dead";
/// Where virtual time begins.
pub const BEGINNING: Millis = Millis(1_700_000_000_000);
/// How long an invocation of `deliver` may take: the template's `DeliverTimeoutS`.
const INVOCATION: Duration = Duration::from_secs(60);

/// The settings that the template gives the functions, with the template's defaults. A test
/// compares them.
pub fn settings(redis_url: &str) -> Vec<(&'static str, String)> {
    [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
        ("REDIS_URL", redis_url),
        ("REDIS_CLUSTER", "false"),
        ("DELIVERY_QUEUE_URL", "http://localhost/delivery"),
        ("RETRY_QUEUE_URL", "http://localhost/retry"),
        ("WAIT_QUEUE_URL", "http://localhost/wait"),
        ("SLOW_QUEUE_URL", "http://localhost/slow"),
        ("EVENT_QUEUE_URL", "http://localhost/event"),
        ("DEAD_LETTER_QUEUE_URL", "http://localhost/dead"),
        ("SIGNING_SECRETS", SECRET),
        ("MASTER_KEYS", MASTER_KEY),
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
        ("TTL_EVENT_S", "604800"),
        ("TTL_DEAD_LETTER_S", "2592000"),
        ("DEAD_LETTER_TABLE", "dead-letters"),
        ("REGISTRY_TABLE", "registry"),
        ("PORTAL_FRAME_ANCESTORS", "'none'"),
        ("HISTORY_TABLE", "history"),
        ("HISTORY_DAYS", "7"),
        ("OWED_DAYS", "14"),
        ("DISABLE_AFTER_H", "120"),
        ("INGEST_QUEUE_ARN", INGEST_QUEUE),
        ("INGEST_DEAD_LETTER_QUEUE_ARN", INGEST_DEAD_LETTER_QUEUE),
        ("INGEST_TENANT", "default"),
        ("INGEST_TRUSTS_TENANT", "false"),
        ("VALIDATE_EVENTS", "false"),
        ("MAX_ENDPOINTS", "10000"),
        ("DELIVER_TIMEOUT_S", "60"),
        ("BATCH_WINDOW_S", "0"),
        ("INDEX_SHARDS", "1"),
        ("QUEUE_VISIBILITY_S", "370"),
        ("STACK_NAME", "steadhook"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

/// The settings with these changes.
pub fn changed_settings(redis_url: &str, changes: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut settings = settings(redis_url);
    for (name, value) in changes {
        settings.retain(|(other, _)| other != name);
        settings.push((name, (*value).to_owned()));
    }
    settings
}

fn receiver_client(config: &fn_deliver::config::Config, clock: &Clock) -> Arc<dyn ReceiverClient> {
    let SigningSource::Given(signer) = config.signing.clone() else { panic!("the tests' secret is given") };
    let keyring = Arc::new(Keyring::given(signer));
    Arc::new(HttpReceiverClient::new(config.receiver_client.clone(), keyring, clock.clone()).unwrap())
}

/// The master keys of all tests.
///
/// # Panics
/// Never.
pub fn master_keys() -> MasterKeys {
    MasterKeys::parse(MASTER_KEY).unwrap()
}

/// An empty cache of cards.
pub fn cards(cards: Arc<dyn Cards>) -> Arc<CardCache> {
    Arc::new(CardCache::new(cards, MasterKeyring::given(master_keys())))
}

/// Whether a path is that of a tenant's events or of a batch of them.
fn is_events(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["", "tenants", _, "events"] | ["", "tenants", _, "events", "batch"])
}

/// A message of a work queue as Lambda gives it to `deliver`.
pub(crate) fn received(queue_name: QueueName, taken: &Taken) -> Received {
    Received {
        message_id: taken.message.id.clone(),
        body: Bytes::from(taken.message.body.clone()),
        source: format!("arn:aws:sqs:eu-central-1:123456789012:{}", queue_name.as_str()),
        sent_at: Some(taken.message.sent_at),
    }
}

/// A message of the queue of events as Lambda gives it to `fanout`.
pub fn event(taken: &Taken) -> Received {
    Received {
        message_id: taken.message.id.clone(),
        body: Bytes::from(taken.message.body.clone()),
        source: String::new(),
        sent_at: Some(taken.message.sent_at),
    }
}

/// A message of the dead-letter queue as Lambda gives it to `archive`.
pub fn dead_letter(taken: &Taken) -> fn_archive::Received {
    let attribute =
        |name: &str| taken.message.attributes.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
    fn_archive::Received {
        message_id: taken.message.id.clone(),
        body: Bytes::from(taken.message.body.clone()),
        error_code: attribute("ERROR_CODE"),
        error_message: attribute("ERROR_MESSAGE"),
        sent_at: Some(taken.message.sent_at),
        is_foreign: false,
    }
}

/// Redis, with a count of the round trips to it.
struct CountedRedis {
    inner: Redis,
    round_trips: AtomicUsize,
}

#[async_trait]
impl RedisPort for CountedRedis {
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        self.round_trips.fetch_add(usize::from(!calls.is_empty()), Ordering::SeqCst);
        self.inner.round_trip(calls).await
    }
}

/// One world. When it ends, its queues must be empty, except those that [`World::leaves`]
/// names.
pub struct World {
    /// Its clock.
    pub clock: Clock,
    /// Its Redis.
    pub redis: RedisServer,
    /// Its queues.
    pub queues: SqsModel,
    /// Its receiver.
    pub receiver: Receiver,
    /// Its store of dead letters.
    pub store: StoreModel,
    /// Its endpoints.
    pub registry: RegistryModel,
    /// Its history.
    pub history: HistoryModel,
    /// The bus that is told of its endpoints.
    pub bus: BusModel,
    /// How many messages a batch of `deliver` has at most.
    pub batch_size: usize,
    counted_redis: Arc<CountedRedis>,
    leaves: Mutex<BTreeSet<QueueName>>,
    enqueue: Enqueue,
    fanout: Fanout,
    deliver: Deliver,
    archivist: Archivist,
    operate: Operate,
    cleanup: Cleanup,
    health: Health,
    metrics: Metrics,
}

impl World {
    /// A world with the template's defaults.
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
        Self::on_with(config, &[]).await
    }

    /// A world on another Redis, with other settings.
    ///
    /// # Panics
    /// When the settings are refused.
    pub async fn on_with(config: &RedisConfig, changes: &[(&'static str, &str)]) -> Self {
        Self::build(RedisServer::start(), config, changes).await
    }

    async fn build(server: RedisServer, redis: &RedisConfig, changes: &[(&'static str, &str)]) -> Self {
        let environment = Environment::of(changed_settings(&server.url(), changes));
        let clock = Clock::fixed(BEGINNING);
        let queues = SqsModel::new(clock.clone(), Duration::from_secs(360), 100);
        let queue: Arc<dyn Queue> = Arc::new(queues.clone());
        let store = StoreModel::default();
        let registry = RegistryModel::default();
        let (history, bus) = (HistoryModel::default(), BusModel::default());
        let inner = Redis::open(redis, clock.clone()).unwrap();
        let counted_redis = Arc::new(CountedRedis { inner, round_trips: AtomicUsize::new(0) });
        let redis: Arc<dyn RedisPort> = Arc::clone(&counted_redis) as _;

        let enqueue = environment.read(fn_enqueue::config::read).unwrap();
        let fanout = environment.read(fn_fanout::config::read).unwrap();
        let deliver = environment.read(fn_deliver::config::read).unwrap();
        let archive = environment.read(fn_archive::config::read).unwrap();
        let operate = environment.read(fn_operate::config::read).unwrap();
        let cleanup = environment.read(fn_cleanup::config::read).unwrap();
        let health = environment.read(fn_health::config::read).unwrap();
        let metrics = environment.read(fn_metrics::config::read).unwrap();
        let client = receiver_client(&deliver, &clock);
        Self {
            enqueue: Enqueue::new(
                &enqueue,
                Arc::clone(&queue),
                Arc::clone(&redis),
                Arc::new(registry.clone()),
                clock.clone(),
            ),
            fanout: Fanout::new(
                &fanout,
                fn_fanout::Clients {
                    queue: Arc::clone(&queue),
                    redis: Arc::clone(&redis),
                    subscriptions: Subscriptions::new(Arc::new(registry.clone())),
                    registry: Arc::new(registry.clone()),
                    store: Arc::new(store.clone()),
                    history: Arc::new(history.clone()),
                    bus: Some(Arc::new(bus.clone())),
                },
                clock.clone(),
            ),
            deliver: Deliver::new(
                &deliver,
                Arc::clone(&queue),
                Arc::clone(&redis),
                client,
                cards(Arc::new(registry.clone())),
                Arc::new(history.clone()),
                clock.clone(),
            ),
            archivist: Archivist::new(
                &archive,
                Arc::clone(&redis),
                Arc::new(store.clone()),
                Arc::new(history.clone()),
                clock.clone(),
            ),
            operate: Operate::new(
                &operate,
                fn_operate::Clients {
                    redis: Arc::clone(&redis),
                    store: Arc::new(store.clone()),
                    queue: Arc::clone(&queue),
                    history: Arc::new(history.clone()),
                    registry: Arc::new(registry.clone()),
                },
                clock.clone(),
            ),
            cleanup: Cleanup::new(&cleanup, Arc::clone(&redis), Arc::clone(&queue), clock.clone()),
            metrics: Metrics::new(
                Arc::clone(&redis),
                Some(Arc::new(queues.clone())),
                clock.clone(),
                metrics.lives.indexes,
            ),
            health: Health::new(
                "steadhook",
                redis,
                Arc::new(queues.clone()),
                Arc::new(store.clone()),
                health.index_shards,
                clock.clone(),
            ),
            receiver: Receiver::start().await,
            leaves: Mutex::default(),
            redis: server,
            store,
            registry,
            history,
            bus,
            batch_size: 10,
            counted_redis,
            queues,
            clock,
        }
    }

    /// Says which queues have messages when the test ends. All others must be empty then.
    ///
    /// # Panics
    /// Never, unless another user of the world panicked.
    pub fn leaves(&self, queues: impl IntoIterator<Item = QueueName>) {
        self.leaves.lock().unwrap().extend(queues);
    }

    /// Round trips to Redis so far.
    pub fn redis_round_trips(&self) -> usize {
        self.counted_redis.round_trips.load(Ordering::SeqCst)
    }

    /// The way to Redis that the functions use.
    pub fn redis_port(&self) -> &dyn RedisPort {
        self.counted_redis.as_ref()
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

    /// Sends a request to the function that the template routes it to.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn ask(&self, method: http::Method, path: &str, body: Body) -> (u16, Value) {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://api{path}").parse().unwrap();
        self.send(request).await
    }

    /// Sends a request as it is to the function that the template routes it to.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn send(&self, request: Request) -> (u16, Value) {
        let (status, body) = self.send_for_text(request).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The same, with the answer as it is written.
    ///
    /// # Panics
    /// When the answer is not as the contract says.
    pub async fn send_for_text(&self, request: Request) -> (u16, String) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match (method.as_str(), path.as_str()) {
            ("POST", "/webhooks" | "/webhooks/batch") => self.enqueue.handle(request).await,
            ("POST", path) if is_events(path) => self.enqueue.handle(request).await,
            ("GET", "/health") => self.health.handle(request).await,
            ("GET", "/metrics") => self.metrics.handle(request).await,
            ("POST", "/webhook-cleanup") => self.cleanup.handle(request).await,
            _ => self.operate.handle(request).await,
        };
        let (status, body) = (response.status().as_u16(), response.body());
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        contract::check(method.as_str(), &path, status, kind, body);
        (status, response.into_body())
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

    /// Runs the daily cleanup, as its schedule does. Says whether it did everything.
    pub async fn daily_cleanup_succeeds(&self) -> bool {
        self.cleanup.daily().await.1
    }

    /// Runs the daily cleanup, as its schedule does. Gives its report.
    ///
    /// # Panics
    /// When its report is not JSON.
    pub async fn daily_cleanup(&self) -> Value {
        serde_json::to_value(self.cleanup.daily().await.0).unwrap()
    }

    /// Replaces `deliver` by one with other settings. Everything else stays.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn configure(&mut self, changes: &[(&'static str, &str)]) {
        let environment = Environment::of(changed_settings(&self.redis.url(), changes));
        let config = environment.read(fn_deliver::config::read).unwrap();
        let client = receiver_client(&config, &self.clock);
        let (queue, redis) = (Arc::new(self.queues.clone()), Arc::clone(&self.counted_redis));
        let cards = cards(Arc::new(self.registry.clone()));
        let history = Arc::new(self.history.clone());
        self.deliver = Deliver::new(&config, queue, redis, client, cards, history, self.clock.clone());
    }

    /// From now on `deliver` reads cards there, and knows none.
    ///
    /// # Panics
    /// Never.
    pub fn read_cards_from(&mut self, registry: Arc<dyn Cards>) {
        let environment = Environment::of(settings(&self.redis.url()));
        let config = environment.read(fn_deliver::config::read).unwrap();
        let client = receiver_client(&config, &self.clock);
        let (queue, redis) = (Arc::new(self.queues.clone()), Arc::clone(&self.counted_redis));
        let history = Arc::new(self.history.clone());
        self.deliver = Deliver::new(&config, queue, redis, client, cards(registry), history, self.clock.clone());
    }

    /// Gives messages of a work queue to `deliver`, and deletes what it does not keep, as
    /// Lambda does. Says how many were received and how many stayed.
    async fn invoke_deliver(&self, queue_name: QueueName, taken: &[Taken]) -> (usize, usize) {
        let records: Vec<Received> = taken.iter().map(|taken| received(queue_name, taken)).collect();
        let kept = self.deliver.handle(&records, self.clock.now().after(INVOCATION)).await;
        for taken in taken.iter().filter(|taken| !kept.contains(&taken.message.id)) {
            self.queues.delete(queue_name, taken);
        }
        (taken.len(), kept.len())
    }

    /// One batch through `deliver`, of the due retries of this delivery alone.
    pub async fn step_only(&self, id: &str) {
        let mark = format!("\"id\":\"{id}\"");
        let taken = self.queues.receive_where(QueueName::Retry, |body| body.contains(&mark));
        self.invoke_deliver(QueueName::Retry, &taken).await;
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

    /// One batch of a work queue through `deliver`. Says how many messages were received and
    /// how many stayed.
    pub async fn step(&self, queue_name: QueueName) -> (usize, usize) {
        let taken = self.queues.receive(queue_name, self.batch_size);
        if taken.is_empty() {
            return (0, 0);
        }
        self.invoke_deliver(queue_name, &taken).await
    }

    /// From now on pages of events have so many cards. `fanout` knows no card.
    ///
    /// # Panics
    /// Never.
    pub fn pages_of(&mut self, cards: usize) {
        self.fan_out_through(Arc::new(self.queues.clone()), cards);
    }

    /// From now on `fanout` sends through this queue, and knows no card. Pages have so many.
    ///
    /// # Panics
    /// Never.
    pub fn fan_out_through(&mut self, queue: Arc<dyn Queue>, cards: usize) {
        let environment = Environment::of(settings(&self.redis.url()));
        let mut config = environment.read(fn_fanout::config::read).unwrap();
        config.pages.cards = cards;
        let lists: Arc<dyn CardLists> = Arc::new(self.registry.clone());
        let clients = fn_fanout::Clients {
            queue,
            redis: Arc::clone(&self.counted_redis) as _,
            subscriptions: Subscriptions::new(lists),
            registry: Arc::new(self.registry.clone()),
            store: Arc::new(self.store.clone()),
            history: Arc::new(self.history.clone()),
            bus: Some(Arc::new(self.bus.clone())),
        };
        self.fanout = Fanout::new(&config, clients, self.clock.clone());
    }

    /// Posts an event of the tests' tenant and gives the answer.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn event(&self, event_id: &str, event_type: &str, payload: &str) -> Value {
        let body = format!(r#"{{"event_id":"{event_id}","event_type":"{event_type}","payload":{payload}}}"#);
        let (code, answer) = self.post(&format!("/tenants/{TENANT}/events"), body).await;
        assert_eq!(code, 202, "{answer}");
        answer
    }

    /// What the API says of an event of the tests' tenant.
    ///
    /// # Panics
    /// When there is none.
    pub async fn event_status(&self, event_id: &str) -> Value {
        let (code, answer) = self.get(&format!("/tenants/{TENANT}/events/{event_id}")).await;
        assert_eq!(code, 200, "{answer}");
        answer
    }

    /// One batch of events through `fanout`. Says how many messages were received and how
    /// many stayed.
    pub async fn fan_out(&self) -> (usize, usize) {
        let taken = self.queues.receive(QueueName::Event, 10);
        self.invoke_fanout(&taken).await
    }

    /// Gives messages to `fanout`, and deletes what it does not keep, as Lambda does.
    pub async fn invoke_fanout(&self, taken: &[Taken]) -> (usize, usize) {
        if taken.is_empty() {
            return (0, 0);
        }
        let records: Vec<Received> = taken.iter().map(event).collect();
        let kept = self.fanout.handle(&records, self.clock.now().after(INVOCATION)).await;
        for taken in taken.iter().filter(|taken| !kept.contains(&taken.message.id)) {
            self.queues.delete(QueueName::Event, taken);
        }
        (taken.len(), kept.len())
    }

    /// Gives messages to `fanout`, as Lambda does. Says how many it keeps.
    pub async fn ingest(&self, records: &[Received]) -> usize {
        self.fanout.handle(records, self.clock.now().after(INVOCATION)).await.len()
    }

    /// Receives one batch and claims it, like a consumer that dies after its claim.
    ///
    /// # Panics
    /// When a message cannot be read or Redis is away.
    pub async fn claim_and_die(&self, queue_name: QueueName) {
        for taken in self.queues.receive(queue_name, 10) {
            let body = Bytes::from(taken.message.body);
            let Ok(Envelope::Deliver(message)) = Envelope::decode(&body) else { panic!("not a delivery") };
            let token = format!("{:x}", fastrand::u64(..));
            let claim = Claim { token, hop: message.hop, lease_ms: 61_000, new_record: message.new_record() };
            let lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };
            records::claim(&message.delivery.id, &claim, lifetimes).run(&*self.counted_redis).await.unwrap();
        }
    }

    /// Gives messages to `archive`, as Lambda does. Gives the ids of those that it keeps.
    pub async fn archive(&self, records: &[fn_archive::Received]) -> Vec<String> {
        self.archivist.handle(records).await
    }

    /// One batch of the dead-letter queue through `archive`. Says how many messages were
    /// received and how many stayed.
    pub async fn file(&self) -> (usize, usize) {
        let taken = self.queues.receive(QueueName::DeadLetter, 10);
        let records: Vec<fn_archive::Received> = taken.iter().map(dead_letter).collect();
        let kept = self.archivist.handle(&records).await;
        for taken in taken.iter().filter(|taken| !kept.contains(&taken.message.id)) {
            self.queues.delete(QueueName::DeadLetter, taken);
        }
        (records.len(), kept.len())
    }

    /// Runs until all work queues are empty. When no message is due, moves the clock to the
    /// next one.
    ///
    /// # Panics
    /// When that takes more steps than any delivery needs.
    pub async fn settle(&self) {
        for _ in 0..1000 {
            let events = self.fan_out().await;
            let fresh = self.step(QueueName::Delivery).await;
            let retried = self.step(QueueName::Retry).await;
            let waited = self.step(QueueName::Wait).await;
            let slow = self.step(QueueName::Slow).await;
            if events.0 + fresh.0 + retried.0 + waited.0 + slow.0 > 0 {
                continue;
            }
            let Some(at) = self.queues.next_visible() else { return };
            self.clock.advance(Duration::from_secs(1));
            self.clock.advance(self.clock.now().until(at));
        }
        panic!("the queues do not become empty");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The test has failed already, and says why.
        if std::thread::panicking() {
            return;
        }
        let left: BTreeSet<QueueName> =
            QueueName::iter().filter(|&queue_name| !self.queues.all(queue_name).is_empty()).collect();
        let said = self.leaves.get_mut().unwrap();
        assert_eq!(left, *said, "the queues that have messages at the end, and those that the test names");
    }
}
