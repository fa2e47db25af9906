//! Events: one call, and every endpoint that wants it gets a delivery.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::registry::{Registry as _, Written};
use domain::endpoint::Card;
use domain::filter::event::Event;
use domain::filter::{Filter, Match, Pattern};
use http::HeaderValue;
use lambda_http::{Body, Request};
use serde_json::{Value, json};
use tests::endpoints::{TENANT, card, endpoint_id};
use tests::world::World;

use crate::deliveries_to_endpoints::{change, delivery, register};

const EVENTS: &str = "/tenants/acme/events";

/// Registers so many endpoints, numbered from 1. Each has a path of its own.
async fn endpoints(world: &World, count: usize) -> Vec<Card> {
    let mut cards = Vec::new();
    for n in 1..=count {
        let card = card(n, &world.receiver.url(&format!("/{n}")), world.clock.now());
        assert_eq!(world.registry.create(&card, 100_000).await.unwrap(), Written::Done);
        cards.push(card);
    }
    cards
}

fn pattern(text: &str) -> Option<Pattern> {
    Some(Filter::read("", serde_json::from_str(text).unwrap()).unwrap().pattern().clone())
}

/// The paths that were called, sorted.
fn called(world: &World) -> Vec<String> {
    let mut paths: Vec<String> = world.receiver.arrivals().into_iter().map(|arrival| arrival.path).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn every_endpoint_that_wants_it_gets_it_under_one_webhook_id() {
    let world = World::new().await;
    let cards = endpoints(&world, 4).await;
    change(&world, &cards[1], |card| card.event_types = vec!["order.*".into()]).await;
    change(&world, &cards[2], |card| card.event_types = vec!["user.made".into()]).await;
    change(&world, &cards[3], |card| card.filter = pattern(r#"{"payload":{"amount":[{"numeric":[">",5]}]}}"#)).await;

    let accepted = world.event("order-1", "order.paid", r#"{ "amount": 1.0 }"#).await;
    assert_eq!((&accepted["status"], &accepted["duplicate"]), (&json!("accepted"), &json!(false)));
    assert_eq!(accepted["status_url"], "/tenants/acme/events/order-1");
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2"]);
    for arrival in world.receiver.arrivals() {
        assert_eq!(
            (arrival.header("webhook-id"), &arrival.body[..]),
            (accepted["webhook_id"].as_str().unwrap(), &b"{ \"amount\": 1.0 }"[..])
        );
        assert_eq!(arrival.header("x-correlation-id"), accepted["correlation_id"]);
    }
    let status = world.event_status("order-1").await;
    assert_eq!(
        (&status["status"], &status["matched"], &status["queued"]),
        (&json!("fanned_out"), &json!(2), &json!(2))
    );
    assert_eq!(delivery(&world, &cards[0], "order-1").await["status"], "delivered");

    world.event("order-2", "order.paid", r#"{"amount":6}"#).await;
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/1", "/2", "/2", "/4"]);
}

#[tokio::test]
async fn an_event_goes_through_the_states_that_its_status_tells() {
    let mut world = World::new().await;
    endpoints(&world, 3).await;
    world.pages_of(2);
    assert_eq!(world.get("/tenants/acme/events/e").await.0, 404);
    world.event("e", "a", "1").await;
    assert_eq!(world.event_status("e").await["status"], "accepted");
    world.fan_out().await;
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanning_out"), &json!(2)));
    world.fan_out().await;
    let status = world.event_status("e").await;
    assert_eq!(
        (&status["status"], &status["matched"], &status["event_type"]),
        (&json!("fanned_out"), &json!(3), &json!("a"))
    );
    assert_eq!(status["ttl_seconds"], 604_800);
    world.settle().await;
}

#[tokio::test]
async fn a_tenant_without_endpoints_may_have_events() {
    let world = World::new().await;
    world.event("e", "a", "1").await;
    world.settle().await;
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(0)));
}

#[tokio::test]
async fn the_same_event_twenty_times_at_once_is_one() {
    let world = World::new().await;
    endpoints(&world, 2).await;
    let body = r#"{"event_id":"e","event_type":"a","payload":1}"#;
    let answers = futures_util::future::join_all((0..20).map(|_| world.post(EVENTS, body))).await;
    assert!(answers.iter().all(|(code, answer)| *code == 202 && answer["event_id"] == "e"), "{answers:?}");
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2"]);
    let (code, answer) = world.post(EVENTS, body).await;
    assert_eq!((code, &answer["duplicate"], &answer["status"]), (202, &json!(true), &json!("fanned_out")));
    let (code, answer) = world.post(EVENTS, r#"{"event_id":"e","event_type":"a","payload":2}"#).await;
    assert_eq!(code, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("event_id"), "{answer}");
}

#[tokio::test]
async fn two_tenants_with_one_event_id_have_two_webhook_ids() {
    let world = World::new().await;
    for (n, tenant) in ["acme", "other"].into_iter().enumerate() {
        let card = Card { tenant: tenant.into(), ..card(n, &world.receiver.url("/"), world.clock.now()) };
        // Secrets are sealed for their tenant.
        let card = tests::endpoints::signed_with(card, &[("s", tests::world::SECRET, None)], world.clock.now());
        register(&world, card).await;
        let body = r#"{"event_id":"order-1","event_type":"a","payload":1}"#;
        assert_eq!(world.post(&format!("/tenants/{tenant}/events"), body).await.0, 202);
    }
    world.settle().await;
    let ids: BTreeSet<String> =
        world.receiver.arrivals().iter().map(|arrival| arrival.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_at_once() {
    let world = World::new().await;
    let pointers = async |path: &str, body: &str| {
        let (code, answer) = world.post(path, body).await;
        let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        (code, errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let body = r#"{"event_id":"a.b","event_type":"steadhook.x","expires_at":"then","url":"x"}"#;
    let (code, found) = pointers(EVENTS, body).await;
    assert_eq!(
        (code, found),
        (422, ["/url", "/event_type", "/payload", "/event_id", "/expires_at"].map(String::from).to_vec())
    );
    assert_eq!(pointers("/tenants/a%20b/events", "{}").await, (422, vec!["/tenant".to_owned()]));
    assert_eq!(world.post(EVENTS, "{").await.0, 400);
    let large = format!(r#"{{"event_type":"a","payload":"{}"}}"#, "x".repeat(262_143));
    assert_eq!(world.post(EVENTS, large).await.0, 413);
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item() {
    let world = World::new().await;
    endpoints(&world, 1).await;
    let event = |id: &str, n: usize| json!({ "event_id": id, "event_type": "a", "payload": n });
    let events = json!({ "events": [event("a", 1), event("b", 2), event("a", 1), event("a", 3), { "payload": 1 }] });
    let (code, answer) = world.post(&format!("{EVENTS}/batch"), events.to_string()).await;
    assert_eq!((code, &answer["accepted"], &answer["rejected"]), (200, &json!(3), &json!(2)), "{answer}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!((&results[0]["event_id"], &results[2]["duplicate"]), (&json!("a"), &json!(true)));
    assert_eq!(
        (&results[3]["error"]["status"], &results[4]["error"]["errors"][0]["pointer"]),
        (&json!(409), &json!("/events/4/event_type"))
    );
    world.settle().await;
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_clients_trace_is_carried_to_every_receiver() {
    let world = World::new().await;
    endpoints(&world, 2).await;
    world.receiver.answer([500u16]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut request = Request::new(Body::from(r#"{"event_type":"a","payload":1}"#));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("http://api{EVENTS}").parse().unwrap();
    let value = HeaderValue::try_from(format!("00-{trace}-b7ad6b7169203331-00")).unwrap();
    request.headers_mut().insert("traceparent", value);
    request.headers_mut().insert("x-correlation-id", HeaderValue::from_static("c-1"));
    let (code, answer) = world.send(request).await;
    assert_eq!((code, &answer["correlation_id"]), (202, &json!("c-1")));
    world.settle().await;
    let arrivals = world.receiver.arrivals();
    let spans: BTreeSet<&str> = arrivals.iter().map(|arrival| arrival.header("traceparent")).collect();
    assert_eq!((arrivals.len(), spans.len()), (3, 3), "every attempt has a span of its own");
    for arrival in &arrivals {
        let header = arrival.header("traceparent");
        assert!(header.starts_with(&format!("00-{trace}-")) && header.ends_with("-00"), "{header}");
        assert_eq!(arrival.header("x-correlation-id"), "c-1");
    }
}

#[tokio::test]
async fn accepting_goes_on_without_redis_and_is_fanned_out_once() {
    let mut world = World::new().await;
    endpoints(&world, 2).await;
    world.redis.stop();
    world.event("e", "a", "1").await;
    world.event("e", "a", "1").await;
    assert_eq!(world.queues.all(QueueName::Event).len(), 2);
    world.redis.resume();
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2"], "the second message is the same event");
}

#[tokio::test]
async fn without_redis_an_event_is_fanned_out_and_its_status_becomes_true() {
    let mut world = World::new().await;
    endpoints(&world, 3).await;
    world.pages_of(2);
    world.event("e", "a", "1").await;
    world.redis.stop();
    for _ in 0..2 {
        assert_eq!(world.fan_out().await, (1, 0));
    }
    world.redis.resume();
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2", "/3"]);
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(3)));
}

#[tokio::test]
async fn an_event_waits_for_the_registry_and_spends_nothing() {
    let world = World::new().await;
    endpoints(&world, 1).await;
    world.registry.be_away(true);
    world.event("e", "a", "1").await;
    for _ in 0..20 {
        world.fan_out().await;
        world.clock.advance(Duration::from_secs(300));
    }
    let status = world.event_status("e").await;
    assert_eq!(
        (&status["status"], &status["error"]),
        (&json!("fanning_out"), &json!("the registry of endpoints cannot be read"))
    );
    assert_eq!(world.queues.all(QueueName::Event).len(), 1);
    world.registry.be_away(false);
    world.settle().await;
    assert_eq!(called(&world), ["/1"]);
    assert_eq!(world.event_status("e").await["status"], "fanned_out");
}

#[tokio::test]
async fn what_waits_beyond_its_deadline_is_a_dead_letter_that_goes_on_where_it_was() {
    let mut world = World::new().await;
    let cards = endpoints(&world, 5).await;
    world.pages_of(2);
    world.event("e", "a", r#"{ "n" : 1.0 }"#).await;
    world.fan_out().await;
    world.registry.be_away(true);
    for _ in 0..2000 {
        world.fan_out().await;
        if world.queues.all(QueueName::Event).is_empty() {
            break;
        }
        world.clock.advance(Duration::from_secs(600));
    }
    assert_eq!(world.event_status("e").await["status"], "failed");
    assert_eq!(world.file().await, (1, 0));
    let (code, letter) = world.get("/dead-letters/acme~e").await;
    assert_eq!((code, &letter["reason"]), (200, &json!("expired")), "{letter}");
    let named = ["tenant", "event_id", "after", "matched"].map(|name| &letter[name]);
    assert_eq!(named, [&json!(TENANT), &json!("e"), &json!(cards[1].id), &json!(2)]);

    world.registry.be_away(false);
    let (code, answer) = world.operate("/dead-letters/acme~e/redrive", json!({})).await;
    assert_eq!(code, 202, "{answer}");
    let settled = world.queues.all(QueueName::Delivery).len();
    while !world.queues.all(QueueName::Event).is_empty() {
        world.clock.advance(Duration::from_secs(2));
        world.fan_out().await;
    }
    assert_eq!(world.queues.all(QueueName::Delivery).len() - settled, 3, "it goes on where it was");
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(5)));
    assert_eq!(world.operate("/dead-letters/acme~e/redrive", json!({})).await.0, 202, "a repeated request");
    world.settle().await;
    assert!(world.receiver.arrivals().iter().all(|arrival| &arrival.body[..] == b"{ \"n\" : 1.0 }"));
    // The first two had expired in their queue.
    assert_eq!(called(&world), ["/3", "/4", "/5"]);
    assert_eq!(world.file().await, (2, 0));
}

#[tokio::test]
async fn a_page_whose_deliveries_are_not_queued_is_worked_on_again() {
    let world = World::new().await;
    endpoints(&world, 3).await;
    world.queues.breaks(Some(QueueName::Delivery));
    world.event("e", "a", "1").await;
    assert_eq!(world.fan_out().await, (1, 0), "a successor carries it on");
    assert_eq!(world.event_status("e").await["error"], "the queue did not take its deliveries");
    world.queues.breaks(None);
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2", "/3"]);
}

#[tokio::test]
async fn an_event_that_has_expired_reaches_nobody() {
    let world = World::new().await;
    endpoints(&world, 1).await;
    let at = world.clock.now().after(Duration::from_secs(60));
    let body = json!({ "event_id": "e", "event_type": "a", "payload": 1, "expires_at": at.to_string() });
    assert_eq!(world.post(EVENTS, body.to_string()).await.0, 202);
    world.clock.advance(Duration::from_secs(61));
    world.settle().await;
    assert_eq!(world.receiver.count(), 0);
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.get("/dead-letters/acme~e").await.1["reason"], "expired");
    let (code, answer) = world.post(EVENTS, body.to_string()).await;
    assert_eq!((code, &answer["status"]), (202, &json!("failed")), "a repeated request is answered");
}

#[tokio::test]
async fn a_change_that_was_acknowledged_is_seen_by_the_next_event() {
    let world = World::new().await;
    let cards = endpoints(&world, 2).await;
    world.event("e-1", "a", "1").await;
    world.settle().await;
    let lists = world.registry.lists();
    world.event("e-2", "a", "1").await;
    world.settle().await;
    assert_eq!(world.registry.lists(), lists, "an unchanged tenant is not read again");
    let changed = change(&world, &cards[0], |card| card.event_types = vec!["b".into()]).await;
    world.event("e-3", "a", "1").await;
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/1", "/2", "/2", "/2"]);
    assert_eq!(world.registry.delete(&changed, world.clock.now()).await.unwrap(), Written::Done);
    world.event("e-4", "b", "1").await;
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/1", "/2", "/2", "/2", "/2"]);
}

#[tokio::test]
async fn many_endpoints_take_ten_deliveries_a_call_and_a_thousand_cards_a_page() {
    let world = World::new().await;
    for n in 0..2500 {
        let card = card(n, &format!("https://{n}.example/"), world.clock.now());
        assert_eq!(world.registry.create(&card, 100_000).await.unwrap(), Written::Done);
    }
    world.event("e", "a", "1").await;
    let before = world.queues.sends().len();
    let mut pages = 0;
    while world.fan_out().await.0 > 0 {
        pages += 1;
    }
    let sends = world.queues.sends()[before..].to_vec();
    let to = |name| sends.iter().filter(|(queue_name, _)| *queue_name == name).count();
    assert_eq!((pages, to(QueueName::Delivery), to(QueueName::Event)), (3, 250, 2));
    let endpoints: BTreeSet<String> = world
        .queues
        .all(QueueName::Delivery)
        .into_iter()
        .map(|message| {
            let message: Value = serde_json::from_str(&message.body).unwrap();
            message["endpoint"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(endpoints, (0..2500).map(endpoint_id).collect());
    assert_eq!(world.event_status("e").await["matched"], 2500);
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn a_card_that_cannot_be_read_gets_its_delivery_when_it_is_mended() {
    let world = World::new().await;
    let cards = endpoints(&world, 2).await;
    world.registry.misplace(&cards[0], TENANT, &cards[1].id);
    world.event("e", "a", "1").await;
    world.fan_out().await;
    world.step(QueueName::Delivery).await;
    assert_eq!(called(&world), ["/1"]);
    assert_eq!(world.event_status("e").await["matched"], 2);
    world.registry.overwrite(&cards[1]);
    world.settle().await;
    assert_eq!(called(&world), ["/1", "/2"]);
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_and_what_is_newer_stays() {
    let world = World::new().await;
    for body in [r#"{"v":1}"#, "x", r#"{"v":2,"kind":"event","tenant":"a/b"}"#] {
        world.queues.put(QueueName::Event, body);
    }
    world.queues.put(QueueName::Event, r#"{"v":3}"#);
    assert_eq!(world.fan_out().await, (4, 1));
    assert_eq!(world.file().await, (3, 0));
    let (_, page) = world.get("/dead-letters?reason=malformed").await;
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 3);
    world.leaves([QueueName::Event]);
}

#[tokio::test]
async fn another_body_under_an_id_that_was_accepted_unseen_is_filed_apart() {
    let mut world = World::new().await;
    endpoints(&world, 1).await;
    world.redis.stop();
    world.event("e", "a", "1").await;
    world.event("e", "a", "2").await;
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
    assert_eq!(world.file().await, (1, 0));
    let (_, page) = world.get("/dead-letters?reason=validation").await;
    let id = page["dead_letters"][0]["webhook_id"].as_str().unwrap().to_owned();
    let (_, letter) = world.get(&format!("/dead-letters/{id}")).await;
    assert_eq!((&letter["reused_id"], &letter["event_id"]), (&json!("acme~e"), &json!("e")), "{letter}");
}

#[tokio::test]
async fn a_filter_that_costs_too_much_matches_nothing() {
    let world = World::new().await;
    let cards = endpoints(&world, 2).await;
    let prefixes: Vec<Value> = (0..230).map(|n| json!({ "prefix": n.to_string() })).collect();
    let filter = json!({ "payload": prefixes }).to_string();
    change(&world, &cards[0], |card| card.filter = pattern(&filter)).await;
    let payload = json!(vec!["xxx"; 40_000]).to_string();
    let asked = Event::new("a", serde_json::from_str(&payload).unwrap());
    assert_eq!(pattern(&filter).unwrap().filter().unwrap().matches(&asked), Match::TooMuchWork);
    world.event("e", "a", &payload).await;
    world.settle().await;
    assert_eq!(called(&world), ["/2"]);
}
