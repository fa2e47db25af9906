//! `GET /health`: one line for each thing that Steadhook stands on. Its probes run
//! side by side, change nothing, and give up after a second.

mod facade;
mod memory;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adapters::api;
use adapters::breaker;
use adapters::clock::Clock;
use adapters::dynamodb::Letters;
use adapters::heartbeat;
use adapters::index;
use adapters::meter;
use adapters::redis::Wire;
use adapters::redis_info::Info;
use adapters::sqs::{Depth, DepthError, Depths, Lane};
use domain::breaker::State;
use domain::status::Status;
use domain::time::Millis;
use facade::{Facade, Sight};
use futures_util::future::{join, join_all};
use lambda_http::http::{Response, StatusCode};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};
use serde::Serialize;
use serde_json::{Value, json};

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long looking again may take: both looks end within two seconds.
const SECOND_PATIENCE: Duration = Duration::from_millis(800);
/// How long a queue that seems left alone is given before it is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Most destinations that are named in one state.
const MAX_NAMED: usize = 100;

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// As it should be.
    Up,
    /// In trouble, but work goes on.
    Degraded,
    /// Not there.
    Down,
}

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
        if let (Some(all), Value::Object(figures)) = (shown.as_object_mut(), &self.figures) {
            all.extend(figures.clone());
        }
        shown
    }
}

/// What Redis told about itself and about the work.
struct Told {
    component: Component,
    /// `None` when it cannot be read, or when nobody can write it.
    heartbeat: Option<Option<Millis>>,
    oldest_pending: Option<Millis>,
}

/// The handler and what it looks at.
pub struct Health {
    redis: Arc<dyn Wire>,
    queues: Arc<dyn Depths>,
    letters: Arc<dyn Letters>,
    clock: Clock,
    stack: String,
}

impl Health {
    /// A handler over these, in the stack of that name.
    pub fn new(
        stack: impl Into<String>,
        redis: Arc<dyn Wire>,
        queues: Arc<dyn Depths>,
        letters: Arc<dyn Letters>,
        clock: Clock,
    ) -> Self {
        Self { redis, queues, letters, clock, stack: stack.into() }
    }

    /// Answers one request. Once a minute the schedule asks too: then CloudWatch is
    /// told, whose alarms watch it.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = api::correlation_id(request.headers());
        let scheduled = matches!(request.request_context_ref(), Some(RequestContext::PassThrough));
        let now = self.clock.now();
        let (work, (storage, breakers)) = join(self.work(now), join(self.storage(), self.breakers(now))).await;
        let (told, depths, sight) = work;
        let facade = facade_component(sight, told.heartbeat.flatten());
        let queue = queue_component(&depths, told.oldest_pending, now);
        let dead = [&queue, &facade].iter().any(|component| component.condition == Condition::Down);
        let components = [
            ("redis", told.component),
            ("queue", queue),
            ("facade", facade),
            ("storage", storage),
            ("circuit_breakers", breakers),
        ];
        let troubled = components.iter().any(|(_, component)| component.condition != Condition::Up);
        let (code, status) = match (dead, troubled) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
            (false, true) => (StatusCode::OK, "degraded"),
            (false, false) => (StatusCode::OK, "healthy"),
        };
        if troubled {
            let in_trouble: Vec<&str> =
                components.iter().filter(|(_, c)| c.condition != Condition::Up).map(|(name, _)| *name).collect();
            tracing::warn!(%correlation_id, status, ?in_trouble, "not healthy");
        }
        if scheduled {
            self.tell(status, &components, now);
        }
        let components: BTreeMap<&str, Value> = components.iter().map(|(name, c)| (*name, c.shown())).collect();
        let body = json!({
            "status": status,
            "version": env!("CARGO_PKG_VERSION"),
            "checked_at": now.to_string(),
            "components": components,
        });
        api::json(code, &body, &correlation_id)
    }

    fn tell(&self, status: &str, components: &[(&str, Component); 5], now: Millis) {
        let level = match status {
            "healthy" => 0,
            "degraded" => 1,
            _ => 2,
        };
        let figure = |component: usize, name: &str| components[component].1.figures[name].as_u64().unwrap_or_default();
        let redis_is_down = components[0].1.condition == Condition::Down;
        let inbox = &components[1].1.figures["dead_letter"];
        let waiting = ["visible", "in_flight"].iter().filter_map(|state| inbox[state].as_u64()).sum();
        meter::tell(
            &self.stack,
            "health",
            now.0,
            &[
                ("health_level", "None", level),
                ("redis_down", "None", u64::from(redis_is_down)),
                ("storage_down", "None", u64::from(components[3].1.condition == Condition::Down)),
                ("dead_letters_waiting", "Count", waiting),
                ("circuit_breakers_open", "Count", figure(4, "open_count")),
                ("circuit_breakers_half_open", "Count", figure(4, "half_open_count")),
            ],
        );
    }

    /// Redis, the queues, and what both together say of the consumer. When it seems
    /// that nobody takes the work, it is looked at once more: a message that has
    /// just come is no trouble.
    async fn work(&self, now: Millis) -> (Told, Vec<Result<Depth, DepthError>>, Facade) {
        let (told, depths) = join(self.redis(), self.depths()).await;
        let first = facade::judge(&sight(&told, &depths, now));
        if !matches!(first, Facade::Abandoned | Facade::Failing) {
            return (told, depths, first);
        }
        let again = within(SECOND_PATIENCE, async {
            tokio::time::sleep(SECOND_LOOK).await;
            Some(join(self.redis(), self.depths()).await)
        });
        match again.await {
            Some((told, depths)) => {
                let second = facade::judge(&sight(&told, &depths, now));
                (told, depths, second)
            }
            None => (told, depths, first),
        }
    }

    async fn redis(&self) -> Told {
        let mut calls = vec![redis::cmd("PING").into(), heartbeat::last("deliver"), index::oldest(Status::Pending)];
        calls.extend(Info::calls());
        let replies = within(PATIENCE, async {
            self.redis
                .wave(&calls)
                .await
                .inspect_err(|error| tracing::error!(code = error.code(), error = ?error, "redis"))
                .ok()
        });
        let mut replies = replies.await.unwrap_or_default().into_iter();
        let Some(Ok(_)) = replies.next() else {
            let component = Component::down("no answer in time");
            return Told { component, heartbeat: None, oldest_pending: None };
        };
        let heartbeat = replies.next().and_then(heartbeat::heard);
        let oldest_pending = replies.next().and_then(index::oldest_at);
        let (condition, figures) = memory::judge(&Info::read(replies));
        // A Redis that is full refuses signs of life.
        let heartbeat = heartbeat.filter(|_| condition == Condition::Up);
        Told { component: Component { condition, figures }, heartbeat, oldest_pending }
    }

    async fn depths(&self) -> Vec<Result<Depth, DepthError>> {
        let ask = |lane| async move {
            let depth = within(PATIENCE, async { Some(self.queues.depth(lane).await) }).await;
            depth.unwrap_or_else(|| Err(DepthError::away())).inspect_err(|error| {
                tracing::error!(queue = lane.as_str(), code = error.code(), %error, "queue");
            })
        };
        join_all(Lane::ALL.map(ask)).await
    }

    async fn storage(&self) -> Component {
        let ping = within(PATIENCE, async {
            self.letters.ping().await.inspect_err(|error| tracing::error!(code = error.code(), %error, "table")).ok()
        });
        match ping.await {
            Some(()) => Component { condition: Condition::Up, figures: json!({}) },
            None => Component::down("the table does not answer; dead letters stay in their queue"),
        }
    }

    async fn breakers(&self, now: Millis) -> Component {
        let survey = within(PATIENCE, async {
            let found = breaker::survey(self.redis.as_ref()).await;
            found.inspect_err(|error| tracing::error!(code = error.code(), error = ?error, "circuit breakers")).ok()
        });
        let Some(found) = survey.await else {
            return Component::down("circuit breakers cannot be read; they count as closed");
        };
        let of = |state: State| -> Vec<&str> {
            found.iter().filter(|(_, breaker)| breaker.seen_at(now) == state).map(|(name, _)| name.as_str()).collect()
        };
        let (open, half_open) = (of(State::Open), of(State::HalfOpen));
        let all_closed = open.is_empty() && half_open.is_empty();
        let figures = json!({
            "open_count": open.len(),
            "half_open_count": half_open.len(),
            "open": open.iter().take(MAX_NAMED).collect::<Vec<_>>(),
            "half_open": half_open.iter().take(MAX_NAMED).collect::<Vec<_>>(),
        });
        Component { condition: if all_closed { Condition::Up } else { Condition::Degraded }, figures }
    }
}

/// What a probe found, if it did in time.
async fn within<T>(patience: Duration, probe: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(patience, probe).await.ok().flatten()
}

fn sight(told: &Told, depths: &[Result<Depth, DepthError>], now: Millis) -> Sight {
    let work = depths.iter().take(2).filter_map(|depth| depth.as_ref().ok());
    let (visible, in_flight) = work.fold((0, 0), |(v, f), depth| (v + depth.visible, f + depth.in_flight));
    Sight {
        queues_are_up: depths.iter().take(2).all(Result::is_ok),
        visible,
        in_flight,
        redis_is_up: told.heartbeat.is_some(),
        heartbeat_age: told.heartbeat.flatten().map(|at| at.until(now)),
        oldest_pending_age: told.oldest_pending.map(|at| at.until(now)),
    }
}

fn queue_component(depths: &[Result<Depth, DepthError>], oldest_pending: Option<Millis>, now: Millis) -> Component {
    let mut figures = json!({});
    let mut condition = Condition::Up;
    for (lane, depth) in Lane::ALL.into_iter().zip(depths) {
        match depth {
            Ok(Depth { visible, in_flight, delayed }) => {
                figures[lane.as_str()] = json!({ "visible": visible, "in_flight": in_flight, "delayed": delayed });
            }
            // Without the dead-letter queue, what is given up stays where it is.
            Err(_) if lane == Lane::DeadLetter => condition = condition.max(Condition::Degraded),
            Err(_) => condition = Condition::Down,
        }
    }
    if let Some(at) = oldest_pending {
        figures["oldest_pending_age_seconds"] = json!(at.until(now).as_secs());
    }
    Component { condition, figures }
}

fn facade_component(facade: Facade, heartbeat: Option<Millis>) -> Component {
    let mut figures = json!({ "detail": facade.detail() });
    if let Some(at) = heartbeat {
        figures["last_heartbeat_at"] = json!(at.to_string());
    }
    Component { condition: facade.condition(), figures }
}
