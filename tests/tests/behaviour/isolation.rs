//! Nobody waits for somebody else's endpoint: answers count at the endpoint, and connections at
//! its host.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::endpoint::Card;
use serde_json::{Value, json};
use tests::endpoints::{TENANT, card};
use tests::receiver::Receiver;
use tests::world::{BEGINNING, World};

use crate::deliveries_to_endpoints::put;

/// Registers endpoint number `n` at this URL.
fn register(world: &World, n: usize, url: &str) -> Card {
    let card = card(n, url, world.clock.now());
    world.registry.overwrite(&card);
    card
}

fn endpoints(world: &World, numbers: Range<usize>, address: SocketAddr) -> Vec<Card> {
    numbers.map(|n| register(world, n, &format!("http://{address}/{n}"))).collect()
}

async fn work_until_idle(world: &World) -> usize {
    let mut worked = 0;
    loop {
        let mut once = 0;
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            once += world.step(queue_name).await.0;
        }
        if once == 0 {
            return worked;
        }
        worked += once;
    }
}

/// Moves the clock to the next message, and says whether there is one before `until`.
fn advance(world: &World, until: Duration) -> bool {
    let Some(at) = world.queues.next_visible().filter(|at| *at < BEGINNING.after(until)) else { return false };
    world.clock.advance(world.clock.now().until(at).max(Duration::from_millis(1)));
    true
}

/// The state of every breaker that is known.
async fn breakers(world: &World) -> BTreeMap<String, String> {
    let answer = world.get("/circuit-breakers").await.1;
    let all = answer["circuit_breakers"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.iter().map(|one| (text(&one["destination"]), text(&one["state"]))).collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_not_felt_by_another_one_of_its_host() {
    let world = World::new().await;
    world.receiver.always_below("/bad", 500u16);
    let bad = register(&world, 1, &world.receiver.url("/bad"));
    let good = register(&world, 2, &world.receiver.url("/good"));
    for n in 0..50 {
        put(&world, &bad, &format!("e-{n}"));
        put(&world, &good, &format!("e-{n}"));
        world.step(QueueName::Delivery).await;
    }
    let arrived = |path: &str| world.receiver.arrivals().iter().filter(|one| one.path == path).count();
    assert_eq!(arrived("/good"), 50, "each at once");
    assert!(arrived("/bad") < 15, "{}", arrived("/bad"));
    let parked = world.queues.all(QueueName::Retry);
    assert!(parked.iter().all(|message| !message.body.contains(&good.id)), "none of its deliveries waits");
    let breakers = breakers(&world).await;
    assert_eq!(breakers[&format!("endpoint:{}", bad.id)], "open");
    assert_eq!(breakers.len(), 1, "the host takes connections: {breakers:?}");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_dead_host_opens_its_own_breaker_and_none_of_its_endpoints() {
    let world = World::new().await;
    let address = Receiver::nobody().await;
    let cards = endpoints(&world, 0..10, address);
    cards.iter().for_each(|card| put(&world, card, "a"));
    world.step(QueueName::Delivery).await;
    let host = format!("host:http://{address}");
    assert_eq!(breakers(&world).await, BTreeMap::from([(host.clone(), "open".to_owned())]));
    cards.iter().for_each(|card| put(&world, card, "b"));
    world.step(QueueName::Delivery).await;
    let shown = world.get(&format!("/tenants/{TENANT}/events/b/deliveries/{}", cards[0].id)).await.1;
    assert!(shown["lives"][0]["error"].as_str().is_some_and(|error| error.contains("takes no connections")), "{shown}");
    assert_eq!(shown["lives"][0]["attempt_count"], 0);

    // Direct webhooks neither hear of it nor tell it.
    let body = json!({ "webhook_url": format!("http://{address}/direct"), "payload": 1, "reference_id": "d" });
    assert_eq!(world.post("/webhooks", body.to_string()).await.0, 202);
    world.step(QueueName::Delivery).await;
    assert_eq!(world.status("d").await["attempts"], 1);

    // The host is back: the first answer closes its breaker, though it is a failure of its endpoint.
    let receiver = Receiver::start_at(address).await;
    receiver.always(500u16);
    while receiver.arrivals().iter().all(|one| one.path == "/direct") {
        work_until_idle(&world).await;
        assert!(advance(&world, Duration::from_secs(3600)));
    }
    assert_eq!(breakers(&world).await[&host], "closed");
    receiver.always(200u16);
    world.settle().await;
    assert_eq!(breakers(&world).await[&host], "closed");
}

#[tokio::test]
async fn a_probe_that_the_host_refuses_is_given_back_at_once() {
    let world = World::new().await;
    let address = Receiver::nobody().await;
    let receiver = Receiver::start_at(address).await;
    receiver.always(500u16);
    let one = register(&world, 1, &format!("http://{address}/1"));
    (0..5).for_each(|n| put(&world, &one, &format!("a-{n}")));
    world.step(QueueName::Delivery).await;
    let name = format!("endpoint:{}", one.id);
    assert_eq!(breakers(&world).await[&name], "open");
    world.clock.advance(Duration::from_secs(61));
    // Meanwhile others found that the host takes no connections.
    let now = world.clock.now();
    let mut open = redis::cmd("HSET");
    open.arg(format!("circuit_breaker:connect:http://{address}")).arg("state").arg("open").arg("epoch").arg(1);
    open.arg("retry_at").arg(now.after(Duration::from_secs(60)).0).arg("reset_ms").arg(60_000);
    let _: i64 = open.query(&mut world.redis.connect()).unwrap();
    put(&world, &one, "c");
    world.step(QueueName::Delivery).await;
    assert_eq!(receiver.count(), 5);
    let key = format!("circuit_breaker:{}", one.id);
    let probe: Option<String> = redis::cmd("HGET").arg(&key).arg("probe").query(&mut world.redis.connect()).unwrap();
    assert_eq!((breakers(&world).await[&name].as_str(), probe), ("half_open", None), "nobody holds the probe's place");
    world.leaves([QueueName::Retry]);
}

/// An earlier design left a host half-open for hours: its probes were answered, and nobody told
/// the host's breaker so.
#[tokio::test]
async fn a_host_that_answers_again_is_closed_within_minutes_for_all_its_endpoints() {
    let world = World::new().await;
    let address = Receiver::nobody().await;
    let cards = endpoints(&world, 0..30, address);
    cards.iter().for_each(|card| put(&world, card, "while-away"));
    work_until_idle(&world).await;
    world.clock.advance(Duration::from_secs(300));
    let receiver = Receiver::start_at(address).await;
    let mut minutes = 0;
    while minutes < 360 {
        minutes += 1;
        cards.iter().step_by(7).for_each(|card| put(&world, card, &format!("e-{minutes}")));
        work_until_idle(&world).await;
        world.clock.advance(Duration::from_secs(60));
        let states = breakers(&world).await;
        assert!(minutes < 20 || states.values().all(|state| state == "closed"), "minute {minutes}: {states:?}");
    }
    let fresh = receiver.arrivals().iter().filter(|one| one.header("webhook-id").starts_with("msg_")).count();
    assert!(fresh >= 360 * 5, "{fresh}");
    world.settle().await;
}

#[tokio::test]
async fn ten_thousand_endpoints_of_a_dead_host_are_a_few_calls_a_minute() {
    const ENDPOINTS: usize = 10_000;
    fastrand::seed(3);
    let world = World::new().await;
    let address = Receiver::nobody().await;
    endpoints(&world, 0..ENDPOINTS, address).iter().for_each(|card| put(&world, card, "e"));
    loop {
        work_until_idle(&world).await;
        if !advance(&world, Duration::from_secs(1200)) {
            break;
        }
    }
    let by_minute = calls_by_minute(&world).await;
    println!("{ENDPOINTS} endpoints of a dead host, calls by minute: {by_minute:?}");
    assert!(by_minute.iter().all(|calls| *calls <= 50), "{by_minute:?}");
    assert!(by_minute.iter().sum::<u64>() >= 8, "{by_minute:?}");
    world.leaves([QueueName::Retry, QueueName::Wait]);
}

/// Calls to receivers, by minute.
async fn calls_by_minute(world: &World) -> Vec<u64> {
    let answer = world.get("/metrics/recent?minutes=25").await.1;
    answer["minutes"].as_array().unwrap().iter().map(|minute| minute["calls"].as_u64().unwrap()).collect()
}
