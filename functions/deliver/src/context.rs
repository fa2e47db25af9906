//! What every phase works with: clients and settings, and what one batch remembers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::aws::sqs::{Queue, QueueUrls};
use adapters::clock::Clock;
use adapters::history::HistoryWriter;
use adapters::metrics::{self, DeliveryKind};
use adapters::owed::Owing;
use adapters::receiver_client::ReceiverClient;
use adapters::redis::indexes::Indexes;
use adapters::redis::query::{Query, Replies, Trip};
use adapters::redis::transport::RedisPort;
use adapters::redis::{breakers, token};
use adapters::telemetry::chain;
use domain::breaker::{BreakerPolicies, State, shown_name};
use domain::message::{LateReport, ReportedCalls};
use domain::parking::Parking;
use domain::retry::RetryPolicy;
use domain::status::Lifetimes;
use domain::time::Millis;

use crate::cards::CardCache;
use crate::told::Told;
use crate::urls::ReceiverUrls;

/// How long Redis is left alone after a failure; doubled by every further one.
const SHORTEST_AWAY: Duration = Duration::from_secs(1);
/// It is never left alone for longer: what happens meanwhile is recorded late.
const LONGEST_AWAY: Duration = Duration::from_secs(5);
/// A lease outlives its holder by this much.
const GRACE: Duration = Duration::from_secs(1);

/// Clients and settings.
pub(crate) struct Context {
    pub(crate) queue: Arc<dyn Queue>,
    /// Where the queues are.
    pub(crate) queues: QueueUrls,
    /// Keeps what an endpoint is owed.
    pub(crate) owing: Owing,
    /// How long an endpoint is owed a delivery.
    pub(crate) owed_life: Duration,
    /// After how long an endpoint is disabled that only fails.
    pub(crate) disable_after: Duration,
    /// What this process has told of endpoints lately.
    pub(crate) told: Told,
    /// The URLs of receivers that this process has read.
    pub(crate) urls: ReceiverUrls,
    pub(crate) redis: Arc<dyn RedisPort>,
    pub(crate) receiver_client: Arc<dyn ReceiverClient>,
    pub(crate) clock: Clock,
    pub(crate) cards: Arc<CardCache>,
    pub(crate) history: Arc<dyn HistoryWriter>,
    /// How long history keeps a delivery that ended; `None` if it keeps none.
    pub(crate) history_life: Option<Duration>,
    /// Numbers the batches of this process for the sums of the last hour.
    pub(crate) batches: Batches,
    pub(crate) retry: RetryPolicy,
    pub(crate) breakers: BreakerPolicies,
    pub(crate) parking: Parking,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) indexes: Indexes,
    /// How Redis was doing lately.
    pub(crate) redis_health: RedisHealth,
    /// What one attempt may take, with the bookkeeping after it.
    pub(crate) attempt_budget: Duration,
}

impl Context {
    /// The report of calls to their breaker.
    pub(crate) fn report(&self, report: &LateReport) -> Query<Option<State>> {
        let LateReport { breaker, token, epoch, calls } = report;
        let policy = self.breakers.of(breaker);
        match calls {
            ReportedCalls::Regular(signals) => breakers::report(breaker, token, *epoch, signals, &policy),
            ReportedCalls::Probe(signal) => breakers::report_probe(breaker, token, *epoch, *signal, &policy),
        }
    }
}

/// The batches of this process, numbered.
pub(crate) struct Batches {
    /// Names the process among others.
    pub(crate) instance: String,
    last: AtomicU64,
}

impl Default for Batches {
    fn default() -> Self {
        Self { instance: token(), last: AtomicU64::new(0) }
    }
}

impl Batches {
    /// The next number, from 1.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How Redis was doing lately, over all batches of this process. A Redis that is silent
/// costs each batch half a second, so it is left alone for a while after a failure, and
/// then one batch tries it again.
#[derive(Default)]
pub(crate) struct RedisHealth(Mutex<Away>);

#[derive(Default)]
struct Away {
    until: Millis,
    /// How often in a row it failed.
    failures: u32,
}

impl RedisHealth {
    pub(crate) fn is_away(&self, now: Millis) -> bool {
        now < self.lock().until
    }

    fn note(&self, now: Millis, succeeded: bool) {
        let mut away = self.lock();
        if succeeded {
            *away = Away::default();
        } else {
            away.until = now.after(SHORTEST_AWAY.saturating_mul(1 << away.failures.min(8)).min(LONGEST_AWAY));
            away.failures += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Away> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a breaker that a report has changed.
pub(crate) fn tell_change(breaker: &str, state: State) {
    metrics::breaker_changed(breaker, state);
    let (to, breaker) = (state.as_str(), shown_name(breaker));
    let breaker = breaker.as_str();
    match state {
        State::Open => tracing::warn!(destination = breaker, to, "circuit breaker opened"),
        State::Closed => tracing::warn!(destination = breaker, to, "circuit breaker closed"),
        State::HalfOpen => tracing::warn!(destination = breaker, to, "circuit breaker half-open"),
    }
}

/// What one invocation remembers.
pub(crate) struct Batch {
    /// When Lambda ends the invocation.
    pub(crate) ends_at: Millis,
    /// Records of the batch that are deliveries to endpoints.
    pub(crate) to_endpoints: BTreeSet<usize>,
    redis_failed: bool,
}

impl Batch {
    /// A batch whose invocation ends at `ends_at`.
    pub(crate) fn new(ends_at: Millis) -> Self {
        Self { ends_at, to_endpoints: BTreeSet::new(), redis_failed: false }
    }

    /// The kind of a record, for metrics.
    pub(crate) fn kind(&self, record: usize) -> DeliveryKind {
        if self.to_endpoints.contains(&record) { DeliveryKind::Endpoint } else { DeliveryKind::Direct }
    }

    /// How long this invocation can still live.
    pub(crate) fn lease(&self, now: Millis) -> Duration {
        now.until(self.ends_at) + GRACE
    }

    /// One round trip. After the first failure Redis is left alone for the rest of the
    /// batch, and there are no replies.
    pub(crate) async fn round_trip(&mut self, context: &Context, trip: Trip) -> Replies {
        let now = context.clock.now();
        if self.redis_failed || trip.is_empty() || context.redis_health.is_away(now) {
            return Replies::default();
        }
        match trip.run(context.redis.as_ref()).await {
            Ok(replies) => {
                context.redis_health.note(now, true);
                replies
            }
            Err(error) => {
                context.redis_health.note(context.clock.now(), false);
                tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; delivering goes on without it");
                self.redis_failed = true;
                Replies::default()
            }
        }
    }
}
