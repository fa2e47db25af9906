//! `/health`: true while things are away, within its time, and without a trace.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters::clock::Clock;
use adapters::config::RedisConfig;
use adapters::redis::Redis;
use adapters::sqs::{Depth, DepthError, Depths, Lane};
use async_trait::async_trait;
use fn_health::Health;
use lambda_http::{Body, Request};
use redis::Commands as _;
use serde_json::{Value, json};
use tests::archive_model::ArchiveModel;
use tests::contract;
use tests::proxy::{Proxy, Trouble};
use tests::redis_server::RedisServer;
use tests::world::World;

fn of<'a>(answer: &'a Value, component: &str) -> &'a str {
    answer["components"][component]["status"].as_str().unwrap()
}

#[tokio::test]
async fn an_idle_system_is_healthy_and_asking_changes_nothing() {
    let world = World::new().await;
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, &answer["status"]), (200, &json!("healthy")), "{answer}");
    for component in ["redis", "queue", "facade", "storage", "circuit_breakers"] {
        assert_eq!(of(&answer, component), "up", "{component}");
    }
    let keys: Vec<String> = world.redis.connect().keys("*").unwrap();
    assert!(keys.is_empty());
    assert!(world.queues.sends().is_empty());
}

#[tokio::test]
async fn work_that_nobody_takes_is_unhealthy_and_a_consumer_that_works_is_not() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "facade")), (503, "down"), "{answer}");
    assert_eq!(answer["components"]["queue"]["delivery"]["visible"], 1);
    world.settle().await;
    world.enqueue("b", "1").await;
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "facade")), (200, "up"), "{answer}");
    world.clock.advance(Duration::from_secs(121));
    assert_eq!(world.get("/health").await.0, 503);
    world.settle().await;
    assert_eq!(world.get("/health").await.1["status"], "healthy");
}

#[tokio::test]
async fn each_trouble_has_its_line() {
    let mut world = World::new().await;
    world.archive.be_away(true);
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "storage"), &answer["status"]), (200, "down", &json!("degraded")));
    world.archive.be_away(false);

    for (lane, wanted, state) in
        [(Lane::Delivery, 503, "down"), (Lane::Retry, 503, "down"), (Lane::DeadLetter, 200, "degraded")]
    {
        world.queues.breaks(Some(lane));
        let (code, answer) = world.get("/health").await;
        assert_eq!((code, of(&answer, "queue")), (wanted, state), "{lane:?}");
    }
    world.queues.breaks(None);

    world.receiver.always(500u16);
    for id in ["a", "b", "c", "d", "e"] {
        world.enqueue(id, "1").await;
    }
    world.step(Lane::Delivery).await;
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "circuit_breakers")), (200, "degraded"));
    assert_eq!(answer["components"]["circuit_breakers"]["open"], json!([world.receiver.origin()]));
    world.clock.advance(Duration::from_secs(60));
    let (_, answer) = world.get("/health").await;
    assert_eq!(answer["components"]["circuit_breakers"]["half_open"], json!([world.receiver.origin()]));

    world.redis.stop();
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "redis"), &answer["status"]), (200, "down", &json!("degraded")), "{answer}");
}

/// Queues that never answer.
struct Hanging;

#[async_trait]
impl Depths for Hanging {
    async fn depth(&self, _lane: Lane) -> Result<Depth, DepthError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn whatever_hangs_the_answer_comes_within_two_seconds() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    proxy.set(Trouble::Away);
    let clock = Clock::system();
    let redis = Redis::open(&RedisConfig::node(format!("redis://127.0.0.1:{}", proxy.port())), clock.clone()).unwrap();
    let health = Health::new("steadhook", Arc::new(redis), Arc::new(Hanging), Arc::new(ArchiveModel::default()), clock);
    let began = Instant::now();
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = "http://api/health".parse().unwrap();
    let response = health.handle(request).await;
    // Two seconds are the promise; a machine that is busy gets one more.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(response.status(), 503);
    contract::check("GET", "/health", 503, Some("application/json"), response.body());
}
