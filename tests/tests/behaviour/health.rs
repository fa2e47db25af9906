//! `/health` tells the truth while dependencies are away, answers in time, and changes
//! nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters::aws::sqs::{Depth, DepthError, Depths, QueueName};
use adapters::clock::Clock;
use adapters::redis::transport::{Redis, RedisConfig};
use async_trait::async_trait;
use fn_health::Health;
use lambda_http::{Body, Request};
use redis::Commands as _;
use serde_json::{Value, json};
use tests::contract;
use tests::proxy::{Proxy, Trouble};
use tests::redis_server::RedisServer;
use tests::store_model::StoreModel;
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
    world.clock.advance(Duration::from_secs(1));
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "facade")), (200, "up"), "{answer}");
    world.clock.advance(Duration::from_secs(121));
    assert_eq!(world.get("/health").await.0, 503);
    world.settle().await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.get("/health").await.1["status"], "healthy");
}

#[tokio::test]
async fn events_that_wait_are_shown_and_do_not_tell_that_deliver_is_away() {
    let world = World::new().await;
    world.queues.put(QueueName::Event, "{}");
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "facade"), of(&answer, "queue")), (200, "up", "up"), "{answer}");
    assert_eq!(answer["components"]["queue"]["event"]["visible"], 1);
    world.leaves([QueueName::Event]);
}

/// The event of a request whose signature the gateway has checked, or was not asked to.
fn event(authorizer: Value) -> Request {
    let event = json!({
        "version": "2.0",
        "routeKey": "GET /health",
        "rawPath": "/health",
        "rawQueryString": "",
        "headers": { "host": "api.example" },
        "isBase64Encoded": false,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "authorizer": authorizer,
            "domainName": "api.example",
            "domainPrefix": "api",
            "http": { "method": "GET", "path": "/health", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
            "requestId": "id",
            "routeKey": "GET /health",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390_u64,
        },
    });
    lambda_http::request::from_str(&event.to_string()).unwrap()
}

fn signed() -> Request {
    event(json!({ "iam": {
        "accessKey": "AKIAEXAMPLE",
        "accountId": "123456789012",
        "callerId": "AIDAEXAMPLE",
        "cognitoIdentity": null,
        "principalOrgId": "o-example",
        "userArn": "arn:aws:iam::123456789012:user/operator",
        "userId": "AIDAEXAMPLE",
    } }))
}

#[tokio::test]
async fn receivers_are_named_only_to_callers_whose_signature_was_checked() {
    let world = World::new().await;
    world.leaves([QueueName::Retry]);
    world.receiver.always(500u16);
    for id in ["a", "b", "c", "d", "e"] {
        world.enqueue(id, "1").await;
    }
    world.step(QueueName::Delivery).await;
    let origin = world.receiver.origin();
    let breakers = |answer: Value| answer["components"]["circuit_breakers"].clone();
    let none = json!({ "open_count": 0, "half_open_count": 0 });
    let counts = json!({ "status": "degraded", "open_count": 1, "half_open_count": 0, "endpoints": none });
    let named = json!({
        "status": "degraded", "open_count": 1, "half_open_count": 0, "open": [origin], "half_open": [], "endpoints": none
    });
    // Whoever asks first: what one caller is told is not told to the next one.
    assert_eq!(breakers(world.send(signed()).await.1), named);
    let (_, open) = world.send(event(Value::Null)).await;
    assert!(!open.to_string().contains(&origin), "{open}");
    assert_eq!(breakers(open), counts);
    // No route without a signature has a gate before it.
    assert_eq!(world.send(event(json!({ "lambda": { "iam": "x" } }))).await.0, 403);
    assert_eq!(breakers(world.send(signed()).await.1), named);
    assert_eq!(world.get("/circuit-breakers").await.1["circuit_breakers"][0]["destination"], origin);
}

#[tokio::test]
async fn a_flood_of_requests_costs_one_look_a_second() {
    let world = World::new().await;
    let looks = async |asks: usize| {
        let before = world.redis_round_trips();
        let mut checked = std::collections::BTreeSet::new();
        for _ in 0..asks {
            let (code, answer) = world.get("/health").await;
            assert_eq!((code, &answer["status"]), (200, &json!("healthy")));
            checked.insert(answer["checked_at"].as_str().unwrap().to_owned());
        }
        (world.redis_round_trips() - before, checked.len())
    };
    let (one, _) = looks(1).await;
    assert!(one > 0);
    assert_eq!(looks(100).await, (0, 1));
    world.clock.advance(Duration::from_millis(999));
    assert_eq!(looks(100).await, (0, 1));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(looks(100).await, (one, 1));
    world.clock.step_back(Duration::from_secs(60));
    assert_eq!(looks(100).await, (one, 1), "a clock that steps back keeps no old answer");
    // The schedule tells CloudWatch, and always looks.
    let before = world.redis_round_trips();
    for _ in 0..3 {
        let mut request = lambda_http::request::from_str("{\"source\":\"aws.events\"}").unwrap();
        *request.uri_mut() = "http://api/health".parse().unwrap();
        *request.method_mut() = http::Method::GET;
        assert_eq!(world.send(request).await.0, 200);
    }
    assert_eq!(world.redis_round_trips() - before, 3 * one);
}

#[tokio::test]
async fn each_trouble_has_its_line() {
    let mut world = World::new().await;
    world.store.be_away(true);
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "storage"), &answer["status"]), (200, "down", &json!("degraded")));
    world.store.be_away(false);

    for (queue_name, wanted, state) in [
        (QueueName::Delivery, 503, "down"),
        (QueueName::Retry, 503, "down"),
        (QueueName::Wait, 503, "down"),
        (QueueName::Slow, 503, "down"),
        (QueueName::Event, 503, "down"),
        (QueueName::DeadLetter, 200, "degraded"),
    ] {
        world.queues.breaks(Some(queue_name));
        world.clock.advance(Duration::from_secs(1));
        let (code, answer) = world.get("/health").await;
        assert_eq!((code, of(&answer, "queue")), (wanted, state), "{queue_name:?}");
    }
    world.queues.breaks(None);

    world.receiver.always(500u16);
    for id in ["a", "b", "c", "d", "e"] {
        world.enqueue(id, "1").await;
    }
    world.step(QueueName::Delivery).await;
    world.clock.advance(Duration::from_secs(1));
    let (code, answer) = world.send(signed()).await;
    assert_eq!((code, of(&answer, "circuit_breakers")), (200, "degraded"));
    assert_eq!(answer["components"]["circuit_breakers"]["open"], json!([world.receiver.origin()]));
    world.clock.advance(Duration::from_secs(60));
    let (_, answer) = world.send(signed()).await;
    assert_eq!(answer["components"]["circuit_breakers"]["half_open"], json!([world.receiver.origin()]));

    world.redis.stop();
    world.clock.advance(Duration::from_secs(1));
    let (code, answer) = world.get("/health").await;
    assert_eq!((code, of(&answer, "redis"), &answer["status"]), (200, "down", &json!("degraded")), "{answer}");
    world.leaves([QueueName::Retry]);
}

/// Queues that never answer.
struct Hanging;

#[async_trait]
impl Depths for Hanging {
    async fn depth(&self, _queue_name: QueueName) -> Result<Depth, DepthError> {
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
    let health =
        Health::new("steadhook", Arc::new(redis), Arc::new(Hanging), Arc::new(StoreModel::default()), 1, clock);
    let began = Instant::now();
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = "http://api/health".parse().unwrap();
    let response = health.handle(request).await;
    // The limit is two seconds. A busy machine gets one more.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(response.status(), 503);
    contract::check("GET", "/health", 503, Some("application/json"), response.body());
}
