//! `GET /health`: one line for each thing that Steadhook stands on. Its probes run
//! side by side, change nothing, and give up after a second. What they found is told for a
//! second more, so that a flood of requests costs little.

pub mod config;

mod caller;
mod condition;
mod delivery_path;
mod memory;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::aws::sqs::{Depth, DepthError, Depths, QueueName};
use adapters::clock::Clock;
use adapters::dead_letter_store::DeadLetterStore;
use adapters::http::{answer, entry};
use adapters::metrics::emf;
use adapters::redis::breakers;
use adapters::redis::heartbeats;
use adapters::redis::indexes;
use adapters::redis::info::{self, Info};
use adapters::redis::query::Trip;
use adapters::redis::transport::RedisPort;
use adapters::telemetry::chain;
use domain::breaker::{State, watched};
use domain::outcome::Watched;
use domain::status::Status;
use domain::time::Millis;
use futures_util::future::{join, join4};
use lambda_http::Request;
use lambda_http::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::condition::Condition;
use crate::delivery_path::{DeliveryPath, Sight};

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long looking again may take: both looks end within two seconds.
const SECOND_PATIENCE: Duration = Duration::from_millis(800);
/// How long a queue that seems left alone is given before it is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Most destinations that are named in one state.
const MAX_NAMED: usize = 100;
/// How long what was found is told without looking again.
const FRESH: Duration = Duration::from_secs(1);

/// One line of the answer.
struct Component {
    condition: Condition,
    figures: Value,
}

impl Component {
    fn down(detail: &str) -> Self {
        Self { condition: Condition::Down, figures: json!({ "detail": detail }) }
    }

    fn shown(&self) -> Value {
        let mut shown = json!({ "status": self.condition });
        extend(&mut shown, &self.figures);
        shown
    }
}

/// The line of the circuit breakers, with the counts of those of origins.
struct Breakers {
    component: Component,
    open_count: usize,
    half_open_count: usize,
    /// Figures that name receivers. Only callers who signed their request get them.
    names: Value,
}

impl Breakers {
    fn unreadable() -> Self {
        let component = Component::down("circuit breakers cannot be read; they count as closed");
        Self { component, open_count: 0, half_open_count: 0, names: json!({}) }
    }
}

/// Adds figures to those of a line.
fn extend(line: &mut Value, figures: &Value) {
    if let (Some(all), Value::Object(figures)) = (line.as_object_mut(), figures) {
        all.extend(figures.clone());
    }
}

/// All lines of the answer.
struct Components {
    redis: Component,
    queue: Component,
    delivery_path: Component,
    storage: Component,
    breakers: Breakers,
    /// Messages in the dead-letter queue; 0 while it does not answer.
    dead_letters_waiting: u64,
}

impl Components {
    /// Each line with its name. The delivery path's name is `facade`, as in the system
    /// that this one replaces.
    fn named(&self) -> [(&'static str, &Component); 5] {
        [
            ("redis", &self.redis),
            ("queue", &self.queue),
            ("facade", &self.delivery_path),
            ("storage", &self.storage),
            ("circuit_breakers", &self.breakers.component),
        ]
    }

    fn shown(&self, with_names: bool) -> BTreeMap<&'static str, Value> {
        let mut shown: BTreeMap<_, _> =
            self.named().into_iter().map(|(name, component)| (name, component.shown())).collect();
        if let Some(breakers) = shown.get_mut("circuit_breakers").filter(|_| with_names) {
            extend(breakers, &self.breakers.names);
        }
        shown
    }

    fn overall(&self) -> Overall {
        let is_down = |component: &Component| component.condition == Condition::Down;
        if is_down(&self.queue) || is_down(&self.delivery_path) {
            Overall::Unhealthy
        } else if self.named().iter().any(|(_, component)| component.condition != Condition::Up) {
            Overall::Degraded
        } else {
            Overall::Healthy
        }
    }
}

/// How the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overall {
    Healthy,
    /// Something is in trouble, and work goes on.
    Degraded,
    /// Nothing is accepted or delivered.
    Unhealthy,
}

impl Overall {
    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Self::Healthy | Self::Degraded => StatusCode::OK,
            Self::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The level that alarms watch.
    fn level(self) -> u64 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Unhealthy => 2,
        }
    }
}

type MaybeDepth = Result<Depth, DepthError>;

/// How full each queue is.
struct QueueDepths {
    delivery: MaybeDepth,
    retry: MaybeDepth,
    wait: MaybeDepth,
    slow: MaybeDepth,
    event: MaybeDepth,
    dead_letter: MaybeDepth,
}

impl QueueDepths {
    /// The queues that hold work for `deliver`. Events say nothing of it: others take them.
    fn work(&self) -> [&MaybeDepth; 4] {
        [&self.delivery, &self.retry, &self.wait, &self.slow]
    }
}

/// What Redis told about itself and about the work.
struct Told {
    component: Component,
    /// `None` when it cannot be read, or when nobody can write it.
    heartbeat: Option<Option<Millis>>,
    oldest_pending: Option<Millis>,
}

/// What was found, and when.
#[derive(Clone)]
struct Findings {
    at: Millis,
    components: Arc<Components>,
}

/// The handler and what it looks at.
pub struct Health {
    redis: Arc<dyn RedisPort>,
    queues: Arc<dyn Depths>,
    store: Arc<dyn DeadLetterStore>,
    clock: Clock,
    stack: String,
    /// Over how many keys each index is split.
    index_shards: u8,
    kept: Mutex<Option<Findings>>,
}

impl Health {
    /// A handler over these, in the stack of that name.
    pub fn new(
        stack: impl Into<String>,
        redis: Arc<dyn RedisPort>,
        queues: Arc<dyn Depths>,
        store: Arc<dyn DeadLetterStore>,
        index_shards: u8,
        clock: Clock,
    ) -> Self {
        Self { redis, queues, store, clock, stack: stack.into(), index_shards, kept: Mutex::default() }
    }

    /// Answers one request. Once a minute the schedule asks too: then CloudWatch is
    /// told, whose alarms watch it.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        let request = match entry::enter(request) {
            Ok(request) => request,
            Err(problem) => return problem.response(&correlation_id),
        };
        let caller = Caller::of(&request);
        let Findings { at, components } = match self.kept() {
            Some(findings) if caller != Caller::Schedule => findings,
            Some(_) | None => self.look(&correlation_id).await,
        };
        let status = components.overall();
        if caller == Caller::Schedule {
            self.tell(status, &components, at);
        }
        let body = json!({
            "status": status.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "checked_at": at.to_string(),
            "components": components.shown(caller == Caller::Signed),
        });
        answer::json(status.code(), &body, &correlation_id)
    }

    /// What was found within the last second.
    fn kept(&self) -> Option<Findings> {
        let now = self.clock.now();
        let is_fresh = |findings: &Findings| findings.at <= now && findings.at.until(now) < FRESH;
        lock(&self.kept).clone().filter(is_fresh)
    }

    /// Looks at everything, and keeps what it finds.
    async fn look(&self, correlation_id: &str) -> Findings {
        let now = self.clock.now();
        let (work, (storage, breakers)) = join(self.work(now), join(self.storage(), self.breakers(now))).await;
        let (told, depths, path) = work;
        let components = Components {
            delivery_path: delivery_path_component(path, told.heartbeat.flatten()),
            queue: queue_component(&depths, told.oldest_pending, now),
            redis: told.component,
            storage,
            breakers,
            dead_letters_waiting: depths.dead_letter.as_ref().map_or(0, |depth| depth.visible + depth.in_flight),
        };
        let status = components.overall();
        if status != Overall::Healthy {
            let in_trouble: Vec<&str> = components
                .named()
                .into_iter()
                .filter(|(_, component)| component.condition != Condition::Up)
                .map(|(name, _)| name)
                .collect();
            tracing::warn!(%correlation_id, status = status.as_str(), ?in_trouble, "not healthy");
        }
        // A look may take two seconds: it is kept from its end on.
        let findings = Findings { at: self.clock.now(), components: Arc::new(components) };
        *lock(&self.kept) = Some(findings.clone());
        findings
    }

    fn tell(&self, status: Overall, components: &Components, now: Millis) {
        let Components { redis, storage, breakers, dead_letters_waiting, .. } = components;
        let is_down = |component: &Component| u64::from(component.condition == Condition::Down);
        emf::write_gauges(
            &self.stack,
            "health",
            now.0,
            &[
                ("health_level", "None", status.level()),
                ("redis_down", "None", is_down(redis)),
                ("storage_down", "None", is_down(storage)),
                ("dead_letters_waiting", "Count", *dead_letters_waiting),
                ("circuit_breakers_open", "Count", breakers.open_count as u64),
                ("circuit_breakers_half_open", "Count", breakers.half_open_count as u64),
            ],
        );
    }

    /// Redis, the queues, and what both together say of the consumer. When it seems
    /// that nobody takes the work, it is looked at once more: a message that has
    /// just come is no trouble.
    async fn work(&self, now: Millis) -> (Told, QueueDepths, DeliveryPath) {
        let (told, depths) = join(self.redis(), self.depths()).await;
        let first = delivery_path::judge(&sight(&told, &depths, now));
        if !matches!(first, DeliveryPath::Abandoned | DeliveryPath::Failing) {
            return (told, depths, first);
        }
        let again = within(SECOND_PATIENCE, async {
            tokio::time::sleep(SECOND_LOOK).await;
            Some(join(self.redis(), self.depths()).await)
        });
        match again.await {
            Some((told, depths)) => {
                let second = delivery_path::judge(&sight(&told, &depths, now));
                (told, depths, second)
            }
            None => (told, depths, first),
        }
    }

    async fn redis(&self) -> Told {
        let mut trip = Trip::default();
        let ping = trip.add(info::ping());
        let heartbeat = trip.add(heartbeats::last("deliver"));
        let oldest_pending = trip.add(indexes::oldest(self.index_shards, Status::Pending));
        let figures = trip.add(Info::query());
        let replies = within(PATIENCE, async {
            let replies = trip.run(self.redis.as_ref()).await;
            replies
                .inspect_err(
                    |error| tracing::error!(code = error.code(), error = %chain(error), "Redis cannot be checked"),
                )
                .ok()
        });
        let mut replies = replies.await.unwrap_or_default();
        if ping.take(&mut replies).is_err() {
            let component = Component::down("no answer in time");
            return Told { component, heartbeat: None, oldest_pending: None };
        }
        let heartbeat = heartbeat.take(&mut replies).ok();
        let oldest_pending = oldest_pending.take(&mut replies).ok().flatten();
        let (condition, figures) = memory::judge(&figures.take(&mut replies).unwrap_or_default());
        // A Redis that is full refuses heartbeats.
        let heartbeat = heartbeat.filter(|_| condition == Condition::Up);
        Told { component: Component { condition, figures }, heartbeat, oldest_pending }
    }

    async fn depths(&self) -> QueueDepths {
        let ask = |queue_name: QueueName| async move {
            let depth = within(PATIENCE, async { Some(self.queues.depth(queue_name).await) }).await;
            depth.unwrap_or_else(|| Err(DepthError::away())).inspect_err(|error| {
                tracing::error!(queue = queue_name.as_str(), code = error.code(), error = %chain(error), "a queue cannot be checked");
            })
        };
        let work = join4(ask(QueueName::Delivery), ask(QueueName::Retry), ask(QueueName::Wait), ask(QueueName::Slow));
        let others = join(ask(QueueName::Event), ask(QueueName::DeadLetter));
        let ((delivery, retry, wait, slow), (event, dead_letter)) = join(work, others).await;
        QueueDepths { delivery, retry, wait, slow, event, dead_letter }
    }

    async fn storage(&self) -> Component {
        let ping = within(PATIENCE, async {
            self.store
                .ping()
                .await
                .inspect_err(
                    |error| tracing::error!(code = error.code(), error = %chain(&error), "the table cannot be checked"),
                )
                .ok()
        });
        match ping.await {
            Some(()) => Component { condition: Condition::Up, figures: json!({}) },
            None => Component::down("the table does not answer; dead letters stay in their queue"),
        }
    }

    async fn breakers(&self, now: Millis) -> Breakers {
        let survey = within(PATIENCE, async {
            let found = breakers::survey(self.redis.as_ref()).await;
            found
                .inspect_err(|error| tracing::error!(code = error.code(), error = %chain(&error), "circuit breakers cannot be checked"))
                .ok()
        });
        let Some(found) = survey.await else { return Breakers::unreadable() };
        let (direct, of_endpoints): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(name, _)| watched(name).0 == Watched::Origin);
        let of = |state: State| -> Vec<&str> {
            direct.iter().filter(|(_, breaker)| breaker.seen_at(now) == state).map(|(name, _)| name.as_str()).collect()
        };
        let (open, half_open) = (of(State::Open), of(State::HalfOpen));
        let all_closed = open.is_empty() && half_open.is_empty();
        // An endpoint that fails is its tenant's trouble, and no name of it is for everybody.
        let count = |state: State| of_endpoints.iter().filter(|(_, breaker)| breaker.seen_at(now) == state).count();
        let figures = json!({
            "open_count": open.len(),
            "half_open_count": half_open.len(),
            "endpoints": { "open_count": count(State::Open), "half_open_count": count(State::HalfOpen) },
        });
        let condition = if all_closed { Condition::Up } else { Condition::Degraded };
        let names = json!({
            "open": open.iter().take(MAX_NAMED).collect::<Vec<_>>(),
            "half_open": half_open.iter().take(MAX_NAMED).collect::<Vec<_>>(),
        });
        Breakers {
            component: Component { condition, figures },
            open_count: open.len(),
            half_open_count: half_open.len(),
            names,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a probe found, if it did in time.
async fn within<T>(patience: Duration, probe: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(patience, probe).await.ok().flatten()
}

fn sight(told: &Told, depths: &QueueDepths, now: Millis) -> Sight {
    let work = depths.work().into_iter().filter_map(|depth| depth.as_ref().ok());
    let (visible, in_flight) = work.fold((0, 0), |(v, f), depth| (v + depth.visible, f + depth.in_flight));
    Sight {
        queues_are_up: depths.work().into_iter().all(Result::is_ok),
        visible,
        in_flight,
        redis_is_up: told.heartbeat.is_some(),
        heartbeat_age: told.heartbeat.flatten().map(|at| at.until(now)),
        oldest_pending_age: told.oldest_pending.map(|at| at.until(now)),
    }
}

fn queue_component(depths: &QueueDepths, oldest_pending: Option<Millis>, now: Millis) -> Component {
    let mut figures = json!({});
    let mut condition = Condition::Up;
    // Without the dead-letter queue, what is given up stays where it is.
    for (name, depth, without) in [
        (QueueName::Delivery, &depths.delivery, Condition::Down),
        (QueueName::Retry, &depths.retry, Condition::Down),
        (QueueName::Wait, &depths.wait, Condition::Down),
        (QueueName::Slow, &depths.slow, Condition::Down),
        (QueueName::Event, &depths.event, Condition::Down),
        (QueueName::DeadLetter, &depths.dead_letter, Condition::Degraded),
    ] {
        match depth {
            Ok(Depth { visible, in_flight, delayed }) => {
                figures[name.as_str()] = json!({ "visible": visible, "in_flight": in_flight, "delayed": delayed });
            }
            Err(_) => condition = condition.max(without),
        }
    }
    if let Some(at) = oldest_pending {
        figures["oldest_pending_age_seconds"] = json!(at.until(now).as_secs());
    }
    Component { condition, figures }
}

fn delivery_path_component(path: DeliveryPath, heartbeat: Option<Millis>) -> Component {
    let mut figures = json!({ "detail": path.detail() });
    if let Some(at) = heartbeat {
        figures["last_heartbeat_at"] = json!(at.to_string());
    }
    Component { condition: path.condition(), figures }
}
