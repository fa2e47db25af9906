//! A function on the bench: its real binary with everything it talks to, and what
//! a number of invocations cost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::ConnectionLike as _;
use serde_json::{Value, json};
use tests::binary::{Function, http_event, sqs_event};
use tests::proxy::Proxy;
use tests::redis_server::RedisServer;
use tests::world::settings;

use crate::surroundings::{Cloud, Sink};

/// Variables of a function.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// Everything that is not measured, and Redis.
pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) sink: Sink,
    pub(crate) cloud: Cloud,
    accepting: Function,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let redis = RedisServer::start();
        let (sink, cloud) = (Sink::start().await, Cloud::start().await);
        let accepting = Function::start("enqueue", &surrounded(&redis.url(), &cloud)).await;
        Self { redis, sink, cloud, accepting }
    }

    /// The settings of the template, with this stage around.
    pub(crate) fn settings(&self, changes: &[(&'static str, &str)]) -> Settings {
        let mut settings = surrounded(&self.redis.url(), &self.cloud);
        for (name, value) in changes {
            settings.retain(|(other, _)| other != name);
            settings.push((name, (*value).to_owned()));
        }
        settings
    }

    /// The same with a proxy before Redis, which counts round trips.
    pub(crate) async fn counted(&self, changes: &[(&'static str, &str)]) -> (Settings, Proxy) {
        let proxy = Proxy::before(self.redis.port()).await;
        let mut settings = self.settings(changes);
        settings.retain(|(name, _)| *name != "REDIS_URL");
        settings.push(("REDIS_URL", format!("redis://127.0.0.1:{}", proxy.port())));
        (settings, proxy)
    }

    /// Messages of accepted webhooks, as `enqueue` queues them.
    pub(crate) async fn accepted(&self, count: usize, payload_bytes: usize, status: u16) -> Vec<String> {
        self.accepted_at(count, payload_bytes, &self.sink.url(status)).await
    }

    /// The same for this URL.
    pub(crate) async fn accepted_at(&self, count: usize, payload_bytes: usize, url: &str) -> Vec<String> {
        let at_once = (1_000_000 / payload_bytes).clamp(1, 100).min(count);
        while self.cloud_has() < count {
            self.accepting.invoke_with(batch_request(url, payload_bytes, at_once)).await;
        }
        let mut messages = self.cloud.take("delivery");
        messages.truncate(count);
        messages
    }

    fn cloud_has(&self) -> usize {
        self.cloud.waiting("delivery")
    }

    /// CPU time that Redis has used.
    pub(crate) fn redis_cpu(&self) -> Duration {
        let info = self.info("cpu");
        let seconds = ["used_cpu_user:", "used_cpu_sys:"].map(|name| number(&info, name));
        Duration::from_secs_f64(seconds.iter().sum())
    }

    /// Bytes that Redis has allocated.
    pub(crate) fn redis_memory(&self) -> f64 {
        number(&self.info("memory"), "used_memory:")
    }

    fn info(&self, section: &str) -> String {
        redis::cmd("INFO").arg(section).query(&mut self.redis.connect()).unwrap()
    }

    /// Empties Redis.
    pub(crate) fn forget(&self) {
        self.redis.connect().req_command(&redis::cmd("FLUSHALL")).unwrap();
    }
}

fn number(info: &str, name: &str) -> f64 {
    info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

fn surrounded(redis_url: &str, cloud: &Cloud) -> Settings {
    let mut settings = settings(redis_url);
    settings.push(("AWS_ENDPOINT_URL", cloud.url()));
    // A part of its own tells what history costs.
    settings.retain(|(name, _)| *name != "HISTORY_DAYS");
    settings.push(("HISTORY_DAYS", "0".to_owned()));
    settings
}

/// What some invocations of a function cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of the function, user and system.
    pub(crate) cpu: Duration,
    /// Of Redis.
    pub(crate) redis: Duration,
    /// From the first event to the last answer.
    pub(crate) wall: Duration,
}

/// Invokes a function with all events, one after the other.
pub(crate) async fn spend(stage: &Stage, function: &Function, events: Vec<Bytes>) -> Cost {
    let (cpu, redis, began) = (function.usage().cpu, stage.redis_cpu(), Instant::now());
    for event in events {
        function.invoke_with(event).await;
    }
    let wall = began.elapsed();
    // The last answer is out before the function is idle again.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Cost { cpu: function.usage().cpu.saturating_sub(cpu), redis: stage.redis_cpu().saturating_sub(redis), wall }
}

/// Microseconds a piece.
pub(crate) fn us_each(time: Duration, pieces: usize) -> f64 {
    time.as_secs_f64() * 1e6 / pieces as f64
}

/// SQS events with these messages.
pub(crate) fn batches(messages: &[String], size: usize) -> Vec<Bytes> {
    messages.chunks(size).map(|chunk| Bytes::from(sqs_event(chunk).to_string())).collect()
}

/// A payload of exactly this many bytes of JSON.
fn payload(bytes: usize) -> Value {
    let empty = json!({ "type": "bench", "note": "" }).to_string().len();
    json!({ "type": "bench", "note": "x".repeat(bytes - empty) })
}

/// `POST /webhooks` with one webhook.
pub(crate) fn single_request(url: &str, payload_bytes: usize) -> Bytes {
    let body = json!({ "webhook_url": url, "payload": payload(payload_bytes) }).to_string();
    Bytes::from(http_event("POST", "/webhooks", &body).to_string())
}

/// `POST /tenants/acme/events` with one event.
pub(crate) fn event_request(payload_bytes: usize) -> Bytes {
    let body = json!({ "event_type": "invoice.paid", "payload": payload(payload_bytes) }).to_string();
    Bytes::from(http_event("POST", "/tenants/acme/events", &body).to_string())
}

/// `POST /webhooks/batch` with some webhooks.
pub(crate) fn batch_request(url: &str, payload_bytes: usize, count: usize) -> Bytes {
    let webhook = json!({ "webhook_url": url, "payload": payload(payload_bytes) });
    let body = json!({ "webhooks": vec![webhook; count] }).to_string();
    Bytes::from(http_event("POST", "/webhooks/batch", &body).to_string())
}
