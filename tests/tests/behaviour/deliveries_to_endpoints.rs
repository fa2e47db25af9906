//! Deliveries to endpoints: by the card, signed with its own secrets, retried by its
//! schedule, and patient while there is no card.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::receiver_client::ReceiverCall;
use adapters::registry::{Registry as _, Written};
use domain::endpoint::{Card, CardHeader};
use domain::reason::Reason;
use domain::schedule::RetrySchedule;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::endpoints::{TENANT, card, endpoint_id, message, openssl_accepts, signatures_by, signed_with};
use tests::endpoints_world::EndpointsWorld;
use tests::logs::Logs;
use tests::receiver::{Receiver, Reply};
use tests::world::{MASTER_KEY, SECRET, World, master_keys};

const OTHER: &str = "whsec_b3RoZXIgc2VjcmV0IG9mIDMyIGJ5dGVzIGluIGFsbCE=";

/// Registers the world's receiver as endpoint 1.
pub(crate) async fn endpoint(world: &World) -> Card {
    register(world, card(1, &world.receiver.url("/hook"), world.clock.now())).await
}

pub(crate) async fn register(world: &World, card: Card) -> Card {
    assert_eq!(world.registry.create(&card, 100).await.unwrap(), Written::Done);
    card
}

/// Puts an event's delivery into the queue, as a fan-out does.
pub(crate) fn put(world: &World, card: &Card, event: &str) {
    let message = message(card, event, r#"{"n":1}"#, world.clock.now());
    world.queues.put(QueueName::Delivery, &message.encode().unwrap());
}

pub(crate) async fn change(world: &World, before: &Card, change: impl FnOnce(&mut Card)) -> Card {
    let mut card = Card { version: before.version + 1, ..before.clone() };
    change(&mut card);
    assert_eq!(world.registry.replace(before, &card).await.unwrap(), Written::Done);
    card
}

fn path(card: &Card, event: &str) -> String {
    format!("/tenants/{}/events/{event}/deliveries/{}", card.tenant, card.id)
}

pub(crate) async fn delivery(world: &World, card: &Card, event: &str) -> Value {
    let (code, answer) = world.get(&path(card, event)).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

#[tokio::test]
async fn it_is_signed_with_the_endpoints_own_secret_and_named_by_its_event() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/hook?x=1"), world.clock.now());
    card = signed_with(card, &[("s1", OTHER, None)], world.clock.now());
    card.headers.insert("x-plain".into(), CardHeader::Plain("1".into()));
    let sealed = master_keys().seal(card.header_place("authorization"), [3; 12], b"Bearer secret-token").unwrap();
    card.headers.insert("authorization".into(), CardHeader::Sealed(sealed));
    let card = register(&world, card).await;
    put(&world, &card, "order-1");
    world.settle().await;
    let arrivals = world.receiver.arrivals();
    let [arrival] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!((arrival.path.as_str(), &arrival.body[..]), ("/hook?x=1", &br#"{"n":1}"#[..]));
    assert_eq!((signatures_by(arrival, OTHER), signatures_by(arrival, SECRET)), (1, 0));
    assert_eq!((arrival.header("x-plain"), arrival.header("authorization")), ("1", "Bearer secret-token"));
    let shown = delivery(&world, &card, "order-1").await;
    assert_eq!(shown["webhook_id"], arrival.header("webhook-id"));
    assert!(arrival.header("webhook-id").starts_with("msg_"));
    assert_eq!((&shown["status"], &shown["attempt_count"]), (&json!("delivered"), &json!(1)));
    assert_eq!(world.get(&format!("/webhook-statuses/order-1.{}", card.id)).await.0, 422, "these are direct webhooks");
    assert_eq!(world.get("/webhook-statuses").await.1["webhooks"], json!([]));
}

#[tokio::test]
async fn every_answer_but_a_2xx_and_a_410_follows_the_schedule() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([404u16, 302, 500, 401, 204]);
    put(&world, &card, "e");
    let began = world.clock.now();
    world.settle().await;
    assert_eq!(world.receiver.count(), 5);
    let took = began.until(world.clock.now()).as_secs();
    let waits = 5 + 300 + 1800 + 7200;
    assert!((waits / 2..=waits + 60).contains(&took), "{took}");
    let shown = delivery(&world, &card, "e").await;
    let codes: Vec<&Value> = shown["attempts"].as_array().unwrap().iter().map(|one| &one["status_code"]).collect();
    assert_eq!(codes, [404, 302, 500, 401, 204]);
}

#[tokio::test]
async fn a_410_and_a_spent_schedule_are_dead_letters_that_name_the_endpoint() {
    let world = World::new().await;
    for (n, event, code, reason, calls) in [(1, "gone", 410u16, "gone", 1), (2, "spent", 500, "retries_exhausted", 3)] {
        // The one that is gone is disabled.
        let mut card = card(n, &world.receiver.url("/"), world.clock.now());
        card.retry_schedule = RetrySchedule::new(vec![1, 2]).unwrap();
        let card = register(&world, card).await;
        let before = world.receiver.count();
        world.receiver.always(code);
        put(&world, &card, event);
        world.settle().await;
        assert_eq!(world.receiver.count() - before, calls);
        assert_eq!(world.file().await, (1, 0));
        let (code, letter) = world.get(&format!("/dead-letters/{event}.{}", card.id)).await;
        assert_eq!((code, &letter["reason"]), (200, &json!(reason)), "{letter}");
        let named = ["tenant", "endpoint_id", "event_id"].map(|name| &letter[name]);
        assert_eq!(named, [&json!(TENANT), &json!(card.id), &json!(event)]);
        assert_eq!(letter.get("webhook_url"), None);
        assert_eq!(delivery(&world, &card, event).await["status"], "failed");
    }
}

#[tokio::test]
async fn a_mended_url_helps_what_already_waits_and_what_was_given_up() {
    let world = World::new().await;
    let other = Receiver::start().await;
    let card = endpoint(&world).await;
    world.receiver.always(500u16);
    put(&world, &card, "waits");
    world.step(QueueName::Delivery).await;
    let mended = change(&world, &card, |card| card.url = other.url("/new")).await;
    // A card is half a minute old at most.
    world.clock.advance(Duration::from_secs(30));
    world.settle().await;
    assert_eq!((world.receiver.count(), other.count()), (1, 1));
    assert_eq!(delivery(&world, &mended, "waits").await["status"], "delivered");

    let mended = change(&world, &mended, |card| card.retry_schedule = RetrySchedule::new(vec![]).unwrap()).await;
    world.clock.advance(Duration::from_secs(30));
    other.always(404u16);
    put(&world, &mended, "dead");
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    other.always(200u16);
    let id = format!("dead.{}", card.id);
    assert_eq!(world.operate(&format!("/dead-letters/{id}/redrive"), json!({})).await.0, 202);
    world.settle().await;
    assert_eq!(delivery(&world, &mended, "dead").await["status"], "delivered");
    assert_eq!(other.count(), 3);
}

#[tokio::test]
async fn what_waits_for_a_deleted_endpoint_ends_and_is_sent_nowhere() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(500u16);
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    assert_eq!(world.registry.delete(&card, world.clock.now()).await.unwrap(), Written::Done);
    world.clock.advance(Duration::from_secs(30));
    world.settle().await;
    assert_eq!((world.receiver.count(), world.file().await), (1, (1, 0)));
    let letter = world.store.all().remove(&format!("e.{}", card.id)).unwrap();
    assert_eq!(letter.reason, Some(Reason::EndpointGone));
    assert_eq!(world.operate(&format!("/dead-letters/e.{}/redrive", card.id), json!({})).await.0, 202);
    world.settle().await;
    assert_eq!((world.receiver.count(), world.file().await), (1, (1, 0)));
}

/// Everything that Redis keeps, as text.
pub(crate) fn redis_text(world: &World) -> String {
    let mut look = world.redis.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut look).unwrap();
    let mut text = String::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut look).unwrap();
        let value: redis::Value = match kind.as_str() {
            "hash" => redis::cmd("HGETALL").arg(&key).query(&mut look).unwrap(),
            "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).query(&mut look).unwrap(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query(&mut look).unwrap(),
            _ => redis::cmd("GET").arg(&key).query(&mut look).unwrap(),
        };
        text.push_str(&format!("{key} {value:?}"));
    }
    text
}

#[tokio::test]
async fn no_secret_is_in_logs_redis_queues_letters_or_debug_output() {
    let logs = Logs::kept();
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    let sealed = master_keys().seal(card.header_place("x-key"), [3; 12], b"Bearer top-secret-token").unwrap();
    card.headers.insert("x-key".into(), CardHeader::Sealed(sealed));
    card.retry_schedule = RetrySchedule::new(vec![5]).unwrap();
    let card = register(&world, card).await;
    world.receiver.always(Reply { body: format!("top-secret-token {SECRET}"), ..500.into() });
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    let mut kept = format!("{:?} {}", world.queues.all(QueueName::Retry), redis_text(&world));
    world.settle().await;
    kept.push_str(&format!("{:?}", world.queues.all(QueueName::DeadLetter)));
    assert_eq!(world.file().await, (1, 0));
    let opened = card.open(&master_keys(), world.clock.now()).unwrap();
    let message = message(&card, "e", "1", world.clock.now());
    let call = ReceiverCall { headers: &opened.headers, ..ReceiverCall::direct(&message.delivery) };
    kept.push_str(&format!("{} {:?} {} ", redis_text(&world), world.store.all(), world.registry.all()));
    kept.push_str(&format!("{opened:?} {card:?} {message:?} {call:?} {:?}", master_keys()));
    kept.push_str(&logs.text());
    assert!(kept.contains("[removed]") && kept.contains("outcome=\"retried\""), "answers and logs are kept");
    let body = SECRET.strip_prefix("whsec_").unwrap();
    for canary in ["top-secret-token", SECRET, body, MASTER_KEY] {
        assert!(!kept.contains(canary), "{canary}");
    }
}

#[tokio::test]
async fn during_three_rotations_every_delivery_is_signed_with_a_secret_that_is_valid_then() {
    let world = World::new().await;
    let endpoints = EndpointsWorld::beside(&world).await;
    let (made, path) = endpoints.create(json!({ "url": world.receiver.url("/") })).await;
    let target = card(1, &world.receiver.url("/"), world.clock.now());
    let target = Card { id: made.body["id"].as_str().unwrap().to_owned(), ..target };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    // Each secret, and when it ends.
    let mut secrets: Vec<(String, Option<Millis>)> = vec![(text(&made.body["secret"]), None)];
    let mut sent = 0;
    for round in 0..4 {
        if round > 0 {
            // An overlap of 20 minutes: longer than a card is kept.
            let rotated = endpoints.ask("POST", &format!("{path}/rotate-secret"), json!({ "overlap_s": 1200 })).await;
            assert_eq!(rotated.status, 200);
            secrets.last_mut().unwrap().1 = Some(world.clock.now().after(Duration::from_secs(1200)));
            secrets.push((text(&rotated.body["secret"]), None));
        }
        for _ in 0..250 {
            for _ in 0..10 {
                put(&world, &target, &format!("e-{sent}"));
                sent += 1;
            }
            let (before, now) = (world.receiver.count(), world.clock.now());
            assert_eq!(world.step(QueueName::Delivery).await, (10, 0));
            for arrival in &world.receiver.arrivals()[before..] {
                let signatures = arrival.header("webhook-signature").split(' ').count();
                let valid = secrets.iter().filter(|(_, end)| end.is_none_or(|end| now < end));
                let made: usize = valid.map(|(secret, _)| signatures_by(arrival, secret)).sum();
                assert!(made >= 1 && made == signatures, "round {round}: {made} of {signatures} are valid");
            }
            world.clock.advance(Duration::from_secs(3));
        }
        let newest = world.receiver.arrivals().pop().unwrap();
        assert_eq!(signatures_by(&newest, &secrets[round].0), 1, "the newest secret signs within half a minute");
    }
    assert_eq!((sent, world.receiver.count()), (10_000, 10_000));
}

#[tokio::test]
async fn an_asymmetric_signature_is_accepted_by_another_implementation() {
    let world = World::new().await;
    let endpoints = EndpointsWorld::beside(&world).await;
    // Test 1 of RFC 8032 §7.1.
    let secret = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let (made, path) = endpoints.create(json!({ "url": world.receiver.url("/"), "secret": secret })).await;
    let shown = endpoints.get(&format!("{path}/secret")).await;
    let public_key = shown.body["secrets"][0]["public_key"].as_str().unwrap();
    assert_eq!(public_key, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    let target = card(1, &world.receiver.url("/"), world.clock.now());
    put(&world, &Card { id: made.body["id"].as_str().unwrap().to_owned(), ..target }, "e");
    world.settle().await;
    let mut arrival = world.receiver.arrivals().pop().unwrap();
    assert!(openssl_accepts(&arrival, public_key));
    arrival.body = bytes::Bytes::from_static(b"{}");
    assert!(!openssl_accepts(&arrival, public_key));
}

#[tokio::test]
async fn a_test_by_the_api_is_one_delivery_that_its_status_url_shows() {
    let world = World::new().await;
    let endpoints = EndpointsWorld::beside(&world).await;
    let (made, path) = endpoints.create(json!({ "url": world.receiver.url("/hook") })).await;
    world.receiver.always(Reply { body: "pong".into(), ..201.into() });
    let test = endpoints.ask("POST", &format!("{path}/test"), json!({ "event_type": "order.paid" })).await;
    assert_eq!(test.status, 202);
    world.settle().await;
    let arrival = world.receiver.arrivals().pop().unwrap();
    assert_eq!(signatures_by(&arrival, made.body["secret"].as_str().unwrap()), 1);
    assert_eq!(test.body["webhook_id"], arrival.header("webhook-id"));
    let (code, shown) = world.get(test.body["status_url"].as_str().unwrap()).await;
    assert_eq!((code, &shown["status"], &shown["event_type"]), (200, &json!("delivered"), &json!("order.paid")));
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["status_code"], &attempts[0]["answer"]), (1, &json!(201), &json!("pong")));
}

/// A receiver that is down for so long, and then works: how a lone delivery ends.
async fn after_an_outage(outage: Duration, neighbours: usize) -> Value {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(503u16);
    for n in 0..neighbours {
        put(&world, &card, &format!("neighbour-{n}"));
    }
    for _ in 0..neighbours.div_ceil(10) {
        world.step(QueueName::Delivery).await;
    }
    put(&world, &card, "e");
    let until = world.clock.now().after(outage);
    while world.clock.now() < until {
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            world.step(queue_name).await;
        }
        world.clock.advance(Duration::from_secs(20));
    }
    world.receiver.always(200u16);
    world.settle().await;
    while world.file().await.0 > 0 {}
    delivery(&world, &card, "e").await
}

#[tokio::test]
async fn a_lone_delivery_survives_an_outage_of_half_an_hour_and_of_half_a_day() {
    // However chance shortens its waits, the schedule takes 13.8 hours.
    for half_hours in [1, 16, 26] {
        let shown = after_an_outage(Duration::from_secs(1800) * half_hours, 0).await;
        assert_eq!(shown["status"], "delivered", "{half_hours}: {shown}");
    }
}

#[tokio::test]
async fn an_open_breaker_does_not_use_up_a_schedule_before_its_time() {
    let shown = after_an_outage(Duration::from_secs(8 * 3600), 8).await;
    assert_eq!(shown["status"], "delivered", "{shown}");
}

#[tokio::test]
async fn a_test_makes_its_one_call_whatever_the_breaker_says_and_reports_nothing() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(500u16);
    let test = |event: &str| {
        let mut message = message(&card, event, "1", world.clock.now());
        message.delivery.endpoint.as_mut().unwrap().is_test = true;
        world.queues.put(QueueName::Delivery, &message.encode().unwrap());
    };
    for n in 0..8 {
        test(&format!("test-{n}"));
    }
    assert_eq!(world.step(QueueName::Delivery).await, (8, 0));
    assert_eq!(world.receiver.count(), 8);
    assert_eq!(world.get("/circuit-breakers").await.1["circuit_breakers"], json!([]), "no breaker heard of it");
    for event in ["a", "b", "c", "d", "e"] {
        put(&world, &card, event);
    }
    world.step(QueueName::Delivery).await;
    assert_eq!(world.get("/circuit-breakers?state=open").await.1["circuit_breakers"].as_array().unwrap().len(), 1);
    world.receiver.always(Reply { body: "pong".into(), ..200.into() });
    test("while-open");
    world.step(QueueName::Delivery).await;
    let shown = delivery(&world, &card, "while-open").await;
    assert_eq!((&shown["status"], &shown["attempts"][0]["answer"]), (&json!("delivered"), &json!("pong")));
    let failed = delivery(&world, &card, "test-0").await;
    assert_eq!((&failed["status"], &failed["attempt_count"]), (&json!("failed"), &json!(1)));
    assert!(world.queues.all(QueueName::DeadLetter).is_empty(), "a test that fails is no dead letter");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_test_shows_what_was_changed_just_now() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "warm");
    world.step(QueueName::Delivery).await;
    let now = world.clock.now();
    let secrets = [("s2", OTHER, None), ("s1", SECRET, Some(now.after(Duration::from_secs(1200))))];
    let card = change(&world, &card, |card| *card = signed_with(card.clone(), &secrets, now)).await;
    let mut test = message(&card, "test", "1", now);
    test.delivery.endpoint.as_mut().unwrap().is_test = true;
    world.queues.put(QueueName::Delivery, &test.encode().unwrap());
    world.step(QueueName::Delivery).await;
    let arrival = world.receiver.arrivals().pop().unwrap();
    assert_eq!((signatures_by(&arrival, OTHER), signatures_by(&arrival, SECRET)), (1, 1));
}

#[tokio::test]
async fn what_a_receiver_sends_back_is_kept_without_its_secrets() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    let sealed = master_keys().seal(card.header_place("x-key"), [3; 12], b"Bearer top-secret-token").unwrap();
    card.headers.insert("x-key".into(), CardHeader::Sealed(sealed));
    card.retry_schedule = RetrySchedule::new(vec![]).unwrap();
    let card = register(&world, card).await;
    let body = format!("denied: top-secret-token is not {SECRET}");
    world.receiver.always(Reply { body, ..403.into() });
    put(&world, &card, "e");
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    let shown = delivery(&world, &card, "e").await;
    assert_eq!(shown["attempts"][0]["answer"], "denied: [removed] is not [removed]");
    let letter = serde_json::to_string(&world.store.all().into_values().next().unwrap()).unwrap();
    for canary in ["top-secret-token", SECRET, SECRET.strip_prefix("whsec_").unwrap()] {
        assert!(!letter.contains(canary) && !shown.to_string().contains(canary), "{canary}");
    }
}

#[tokio::test]
async fn a_tenant_learns_nothing_of_anothers_delivery() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "e");
    world.settle().await;
    assert_eq!(world.get(&format!("/tenants/other/events/e/deliveries/{}", card.id)).await.0, 404);
    assert_eq!(world.get(&format!("/tenants/{TENANT}/events/e/deliveries/{}", endpoint_id(2))).await.0, 404);
    let (code, problem) = world.get("/tenants/-/events/a.b/deliveries/ep_1").await;
    let pointers: Vec<&Value> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!((code, pointers), (422, vec![&json!("/tenant"), &json!("/event"), &json!("/endpoint")]));
}

#[tokio::test]
async fn what_is_due_far_ahead_waits_in_a_queue_of_its_own() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    card.retry_schedule = RetrySchedule::new(vec![600, 7200]).unwrap();
    let card = register(&world, card).await;
    world.receiver.answer([500u16, 500, 200]);
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    assert_eq!((world.queues.all(QueueName::Retry).len(), world.queues.all(QueueName::Wait).len()), (1, 0));
    world.clock.advance(Duration::from_secs(601));
    world.step(QueueName::Retry).await;
    assert_eq!((world.queues.all(QueueName::Retry).len(), world.queues.all(QueueName::Wait).len()), (0, 1));
    // It hops there without a call, and is worked on there when it is due.
    world.clock.advance(Duration::from_secs(901));
    assert_eq!(world.step(QueueName::Wait).await, (1, 0));
    assert_eq!((world.receiver.count(), world.queues.all(QueueName::Wait).len()), (2, 1));
    world.settle().await;
    assert_eq!(world.receiver.count(), 3);
    assert_eq!(delivery(&world, &card, "e").await["status"], "delivered");
}

#[tokio::test]
async fn the_daily_cleanup_writes_off_what_was_never_heard_of_again() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(500u16);
    put(&world, &card, "lost");
    world.step(QueueName::Delivery).await;
    // Its message vanishes.
    let taken = world.queues.receive_where(QueueName::Retry, |_| true);
    assert!(taken.is_empty(), "it is delayed");
    world.clock.advance(Duration::from_secs(10));
    for taken in world.queues.receive_where(QueueName::Retry, |_| true) {
        world.queues.delete(QueueName::Retry, &taken);
    }
    world.clock.advance(Duration::from_secs(4 * 86_400));
    let report = world.daily_cleanup().await;
    assert_eq!((&report["outcome_unknown"], &report["complete"]), (&json!(1), &json!(true)));
    assert_eq!(delivery(&world, &card, "lost").await["error"], "outcome unknown");
    world.settle().await;
}

#[tokio::test]
async fn a_hundred_thousand_that_wait_for_hours_do_not_stand_before_a_retry_that_is_due() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([500u16, 200]);
    let mut waiting = message(&card, "waits", "1", world.clock.now());
    waiting.hop = 3;
    waiting.not_before = world.clock.now().after(Duration::from_secs(10 * 3600));
    let waiting = waiting.encode().unwrap();
    (0..100_000).for_each(|_| world.queues.put(QueueName::Wait, &waiting));
    put(&world, &card, "due");
    world.step(QueueName::Delivery).await;
    world.clock.advance(Duration::from_secs(5));
    // Those that are looked at go back to where they came from, without a call.
    assert_eq!(world.step(QueueName::Wait).await, (10, 0));
    assert_eq!(world.queues.all(QueueName::Wait).len(), 100_000);
    assert_eq!(world.step(QueueName::Retry).await, (1, 0), "the first receive has it");
    assert_eq!(delivery(&world, &card, "due").await["status"], "delivered");
    assert_eq!(world.receiver.count(), 2);
    world.leaves([QueueName::Wait]);
}
