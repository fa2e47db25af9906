//! What every step works with: clients and settings, and questions to Redis.

use std::sync::Arc;
use std::time::Duration;

use adapters::acceptance::Acceptor;
use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError, delay_s};
use adapters::clock::Clock;
use adapters::dead_letter_store::DeadLetterStore;
use adapters::history::History;
use adapters::notify_bus::Bus;
use adapters::owed::{OweError, Owing};
use adapters::redis::indexes::Indexes;
use adapters::redis::query::{Replies, Trip};
use adapters::redis::transport::RedisPort;
use adapters::registry::Registry;
use adapters::telemetry::chain;
use domain::ingest::IngestRules;
use domain::live_state;
use domain::message::{LateOutcomes, Message};
use domain::status::Lifetimes;
use domain::time::{Millis, whole_ms};
use domain::work::Work;
use tokio::sync::Semaphore;

use crate::config::{Config, PageLimits};
use crate::subscriptions::Subscriptions;

/// The first wait for a registry or a queue that failed. It doubles.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_secs(5);
/// A lease outlives its holder by this much.
const GRACE: Duration = Duration::from_secs(1);
/// Most calls of SQS at a time. Each carries a megabyte at most, so this bounds memory.
const MOST_SENDS: usize = 8;

/// How long the record of a job stays that begins by itself every minute: longer than its
/// messages may come again.
pub(crate) const BRIEF_LIFE: Duration = Duration::from_secs(3600);

/// Most pages of replays and catch-ups at a time. Each holds some payloads.
const MOST_REPLAYS: usize = 2;

/// Bytes of a payload that take one share.
const SHARE: usize = 1024;
/// How many shares there are: payloads of half a megabyte are asked about at a time. What is
/// read of a payload may be fifty times as large.
const PAYLOAD_SHARES: u32 = 512;

/// The shares that a payload of so many bytes takes.
pub(crate) fn share(bytes: usize) -> u32 {
    u32::try_from(bytes / SHARE + 1).unwrap_or(PAYLOAD_SHARES).min(PAYLOAD_SHARES)
}

/// What `fanout` works with.
pub struct Clients {
    /// The queues.
    pub queue: Arc<dyn Queue>,
    /// Redis.
    pub redis: Arc<dyn RedisPort>,
    /// What the endpoints of tenants want.
    pub subscriptions: Subscriptions,
    /// The registry of endpoints, for jobs.
    pub registry: Arc<dyn Registry>,
    /// The store of dead letters, for jobs.
    pub store: Arc<dyn DeadLetterStore>,
    /// The table of history.
    pub history: Arc<dyn History>,
    /// The bus that is told of endpoints, if there is one.
    pub bus: Option<Arc<dyn Bus>>,
}

/// Clients and settings.
pub(crate) struct Context {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) redis: Arc<dyn RedisPort>,
    pub(crate) clock: Clock,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) store: Arc<dyn DeadLetterStore>,
    pub(crate) history: Arc<dyn History>,
    /// How long history keeps events and deliveries; `None` if it keeps none.
    pub(crate) history_life: Option<Duration>,
    /// The bus that is told of endpoints, if there is one.
    pub(crate) bus: Option<Arc<dyn Bus>>,
    /// How long deliveries are owed.
    pub(crate) owed_life: Duration,
    /// How long Redis knows what state an endpoint is in.
    pub(crate) state_life: Duration,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) indexes: Indexes,
    pub(crate) pages: PageLimits,
    pub(crate) ingest: IngestRules,
    pub(crate) ingest_queue: String,
    /// Accepts events of other systems.
    pub(crate) acceptor: Acceptor,
    /// The memory for payloads that are asked about, in shares.
    pub(crate) payloads: Semaphore,
    /// Pages of replays and catch-ups that are worked on at a time.
    pub(crate) replays: Semaphore,
    owing: Owing,
    sends: Semaphore,
}

impl Context {
    pub(crate) fn new(config: &Config, clients: Clients, clock: Clock) -> Self {
        let Clients { queue, redis, subscriptions, registry, store, history, bus } = clients;
        let (lives, pages) = (config.lives, config.pages);
        let (ingest, ingest_queue) = (config.ingest.clone(), config.ingest_queue.clone());
        let acceptor = Acceptor::new(Arc::clone(&queue), Arc::clone(&redis), lives);
        let (sends, payloads) = (Semaphore::new(MOST_SENDS), Semaphore::new(PAYLOAD_SHARES as usize));
        let history_life = config.history.life;
        Self {
            queue,
            redis,
            clock,
            subscriptions,
            registry,
            store,
            history,
            history_life,
            bus,
            owed_life: config.owed_life,
            state_life: live_state::kept_for(config.disable_after),
            lifetimes: lives.records,
            indexes: lives.indexes,
            pages,
            ingest,
            ingest_queue,
            acceptor,
            payloads,
            replays: Semaphore::new(MOST_REPLAYS),
            owing: Owing::new(config.owed_life),
            sends,
        }
    }

    /// How long an invocation that ends at `ends_at` can still live.
    pub(crate) fn lease(&self, ends_at: Millis) -> Duration {
        self.clock.now().until(ends_at) + GRACE
    }

    /// How long the record of this work lives.
    pub(crate) fn lifetimes_of(&self, work: &Work) -> Lifetimes {
        let event_ms = match work {
            Work::Job(page) if page.job.is_brief() => whole_ms(BRIEF_LIFE).min(self.lifetimes.event_ms),
            Work::Job(_) | Work::Event(_) | Work::Delivery(_) => self.lifetimes.event_ms,
        };
        Lifetimes { event_ms, ..self.lifetimes }
    }

    /// One round trip; no replies if Redis is away.
    pub(crate) async fn round_trip(&self, trip: Trip) -> Replies {
        trip.run(self.redis.as_ref()).await.unwrap_or_else(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; fan-out goes on without it");
            Replies::default()
        })
    }

    /// Sends messages in one call, when its turn has come.
    pub(crate) async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        if messages.is_empty() {
            return Vec::new();
        }
        // Nothing closes it.
        let _permit = self.sends.acquire().await.ok();
        self.queue.send(queue_name, messages).await
    }

    /// Queues what could not be recorded or written, for `deliver` to try later. Says whether the
    /// queue has it.
    pub(crate) async fn queue_late(&self, late: &LateOutcomes, now: Millis) -> bool {
        let Ok(body) = late.encode() else { return false };
        let message = Outgoing::new(body, String::new(), delay_s(now, late.not_before));
        self.send(QueueName::Retry, vec![message]).await.iter().all(Result::is_ok)
    }

    /// Keeps deliveries as owed, when their turn has come: they carry payloads, as calls of SQS
    /// do.
    pub(crate) async fn owe(&self, messages: &[Message]) -> Vec<Result<(), OweError>> {
        // Nothing closes it.
        let _permit = self.sends.acquire().await.ok();
        self.owing.owe(self.history.as_ref(), self.queue.as_ref(), messages, self.clock.now()).await
    }
}
