//! What is shown of an endpoint and of a tenant: how deliveries go, and what is owed.

use std::ops::Range;
use std::time::Duration;

use adapters::history::HistoryWriter as _;
use adapters::redis::transport::Redis;
use adapters::redis::waiting;
use domain::endpoint::Card;
use domain::history::owed;
use domain::status::Lifetimes;
use domain::time::Millis;
use redis::Commands as _;
use serde_json::{Value, json};
use tests::endpoints;
use tests::endpoints_world::EndpointsWorld;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::BEGINNING;

const URL: &str = "https://a.example/hook";

#[tokio::test]
async fn an_endpoint_shows_how_its_deliveries_go() {
    let redis = RedisServer::start();
    let world = EndpointsWorld::on(&redis);
    let (made, path) = world.create(json!({ "url": "https://A.example:443/hook" })).await;
    let id = made.body["id"].as_str().unwrap();
    let quiet = json!({ "breaker": "closed", "host_breaker": "closed", "failures": 0, "waiting": 0 });
    assert_eq!(world.get(&path).await.body["health"], quiet);

    let later = BEGINNING.after(Duration::from_secs(60));
    world.open_breaker(id).await;
    world.open_breaker("connect:https://a.example").await;
    world.open_breaker("https://a.example").await;
    let ms = |s: u64| Millis(BEGINNING.0 - s * 1000);
    let live = [
        ("failing_since", ms(50).0),
        ("failures", 4),
        ("last_success_at", ms(51).0),
        ("last_failure_at", ms(1).0),
        ("last_duration_ms", 120),
    ];
    let () = redis.connect().hset_multiple(format!("endpoint_state:{id}"), &live).unwrap();
    let advised = BEGINNING.after(Duration::from_secs(30));
    let rate = [("blocked_until", later.0), ("advised_until_us", advised.0 * 1000)];
    let () = redis.connect().hset_multiple(format!("rate:{id}"), &rate).unwrap();
    let port = Redis::open(&redis.config(), world.clock.clone()).unwrap();
    let wait =
        ["a", "b", "c"].map(|delivery_id| waiting::Change { endpoint: id, delivery_id, next_attempt_at: Some(later) });
    let lifetimes = Lifetimes { delivered_ms: 60_000, unfinished_ms: 60_000, event_ms: 60_000 };
    waiting::waits(&wait, lifetimes).run(&port).await.unwrap();

    let health = world.get(&path).await.body["health"].clone();
    let wanted = json!({
        "breaker": "open",
        "retry_at": later.to_string(),
        "host_breaker": "open",
        "host_retry_at": later.to_string(),
        "failing_since": ms(50).to_string(),
        "failures": 4,
        "last_success_at": ms(51).to_string(),
        "last_failure_at": ms(1).to_string(),
        "last_duration_ms": 120,
        "blocked_until": later.to_string(),
        "advised_until": advised.to_string(),
        "waiting": 3,
    });
    assert_eq!(health, wanted);
    world.clock.advance(Duration::from_secs(60));
    let health = world.get(&path).await.body["health"].clone();
    assert_eq!((&health["breaker"], &health["host_breaker"]), (&json!("half_open"), &json!("half_open")));
    assert_eq!((health.get("blocked_until"), health.get("advised_until")), (None, None), "they have passed");
}

/// Writes deliveries that an endpoint is owed.
async fn owe(world: &EndpointsWorld, endpoint: &str, events: Range<usize>) {
    let card = Card { id: endpoint.to_owned(), ..endpoints::card(1, URL, BEGINNING) };
    let row = |n: usize| {
        let accepted_at = BEGINNING.after(Duration::from_secs(n as u64));
        let message = endpoints::message(&card, &format!("order-{n}"), "{}", accepted_at);
        owed::row(&message, world.clock.now(), Duration::from_secs(1_209_600)).unwrap().unwrap()
    };
    assert!(world.history.write(events.map(row).collect()).await.is_empty());
}

#[tokio::test]
async fn an_endpoint_shows_what_it_is_owed_and_whether_that_is_on_its_way() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL })).await;
    let id = made.body["id"].as_str().unwrap();
    let seen = async || {
        let body = world.get(&path).await.body;
        (body["owed"].clone(), body["catch_up"]["state"].clone())
    };
    assert_eq!(seen().await, (json!({ "deliveries": 0, "is_more": false }), json!("none")));
    world.change(&path, json!({ "state": "paused" })).await;
    owe(&world, id, 7..19).await;
    owe(&world, &endpoints::endpoint_id(9), 0..3).await;
    let oldest = BEGINNING.after(Duration::from_secs(7)).to_string();
    let owed = json!({ "deliveries": 12, "is_more": false, "oldest_accepted_at": oldest });
    assert_eq!(seen().await, (owed.clone(), json!("none")));
    world.change(&path, json!({ "state": "enabled" })).await;
    assert_eq!(seen().await, (owed, json!("pending")));
    owe(&world, id, 100..1100).await;
    let many = json!({ "deliveries": 1000, "is_more": true, "oldest_accepted_at": oldest });
    assert_eq!(seen().await, (many, json!("pending")));

    world.history.be_away(true);
    assert_eq!(seen().await, (Value::Null, Value::Null));
}

#[tokio::test]
async fn a_tenant_shows_its_endpoints_by_state_and_what_those_are_owed_that_take_nothing() {
    let world = EndpointsWorld::new().await;
    let mut paths = Vec::new();
    for _ in 0..25 {
        paths.push(world.create(json!({ "url": URL })).await);
    }
    let tenant = async || {
        let body = world.get("/tenants/acme").await.body;
        (body["by_state"].clone(), body["owed"].clone())
    };
    let states = |enabled, paused, disabled| json!({ "enabled": enabled, "paused": paused, "disabled": disabled });
    let none = json!({ "deliveries": 0, "is_more": false });
    let lists = world.registry.lists();
    assert_eq!(tenant().await, (states(25, 0, 0), none.clone()));
    assert_eq!(world.registry.lists(), lists, "nothing is looked for");

    for (made, path) in &paths[..2] {
        world.change(path, json!({ "state": "paused" })).await;
        owe(&world, made.body["id"].as_str().unwrap(), 0..3).await;
    }
    owe(&world, paths[9].0.body["id"].as_str().unwrap(), 0..50).await;
    assert_eq!(tenant().await, (states(23, 2, 0), json!({ "deliveries": 6, "is_more": false })));
    for (_, path) in &paths[2..24] {
        world.change(path, json!({ "state": "paused" })).await;
    }
    let (by_state, owed) = tenant().await;
    assert_eq!((by_state, &owed["is_more"]), (states(1, 24, 0), &json!(true)), "20 are asked");
    for (_, path) in &paths[4..24] {
        world.change(path, json!({ "state": "enabled" })).await;
    }
    assert_eq!(tenant().await.0, states(21, 4, 0));
    assert_eq!(world.ask("DELETE", &paths[0].1, "").await.status, 204);
    assert_eq!(tenant().await, (states(21, 3, 0), json!({ "deliveries": 3, "is_more": false })));
    world.history.be_away(true);
    assert_eq!(tenant().await, (states(21, 3, 0), Value::Null));
}
