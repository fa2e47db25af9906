//! Erasing: the payload of an event, and a whole tenant. Afterwards nothing of it is anywhere.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::registry::{CardFound, Cards as _, EndpointKey};
use domain::endpoint::{Card, EndpointState};
use domain::history::event::KeptEvent;
use domain::schedule::RetrySchedule;
use http::Method;
use lambda_http::Body;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;
use tests::endpoints::card;
use tests::endpoints_world::EndpointsWorld;
use tests::logs::Logs;
use tests::receiver::Reply;
use tests::world::World;

use crate::deliveries_to_endpoints::{change, redis_text, register};

const CANARY: &str = "canary-4711";
/// Longer than any message is out of sight.
const SIXTEEN_MINUTES: Duration = Duration::from_secs(16 * 60);

async fn delete(world: &World, path: &str) -> (u16, Value) {
    world.ask(Method::DELETE, path, Body::Empty).await
}

/// Everything that is kept anywhere but in queues.
fn kept(world: &World) -> String {
    format!("{:?} {} {:?} {}", world.history.all(), world.registry.all(), world.store.all(), redis_text(world))
}

fn queued(world: &World) -> String {
    QueueName::iter().map(|queue_name| format!("{:?}", world.queues.all(queue_name))).collect()
}

/// An event of which one delivery was made, one failed for good, one waits for hours, and each
/// receiver said the payload back. A paused endpoint is owed a fourth one.
async fn event_with_three_ends(world: &World, event: &str) -> [Card; 3] {
    let now = world.clock.now();
    let echo = |code: u16| Reply { body: format!("got {CANARY}"), ..code.into() };
    world.receiver.always_below("/1", echo(200));
    world.receiver.always_below("/2", echo(410));
    world.receiver.always_below("/3", echo(503));
    let paused = card(9, &world.receiver.url("/9"), now);
    register(world, Card { state: EndpointState::Paused, ..paused }).await;
    let mut cards = Vec::new();
    for n in 1..=3 {
        let card = register(world, card(n, &world.receiver.url(&format!("/{n}")), now)).await;
        let schedule = RetrySchedule::new(vec![36_000, 36_000]).unwrap();
        cards.push(change(world, &card, |card| card.retry_schedule = schedule).await);
    }
    world.event(event, "order.paid", &format!(r#"{{"secret":"{CANARY}"}}"#)).await;
    world.fan_out().await;
    world.step(QueueName::Delivery).await;
    assert_eq!(world.file().await, (1, 0));
    cards.try_into().unwrap()
}

/// Lets everything happen for so long that is due in that time.
async fn live(world: &World, time: Duration) {
    let end = world.clock.now().after(time);
    loop {
        let events = world.fan_out().await;
        let mut seen = events.0 + world.file().await.0;
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            seen += world.step(queue_name).await.0;
        }
        if seen > 0 {
            continue;
        }
        match world.queues.next_visible_anywhere().filter(|at| *at <= end) {
            Some(at) => world.clock.advance(world.clock.now().until(at).max(Duration::from_millis(1))),
            None => break,
        }
    }
    world.clock.advance(world.clock.now().until(end));
}

#[tokio::test]
async fn an_erased_event_is_found_nowhere() {
    let logs = Logs::kept();
    let world = World::new().await;
    let cards = event_with_three_ends(&world, "order-1").await;
    world.receiver.answer([503, 503, 503]);
    world.event("order-2", "order.paid", r#"{"other":"stays-here"}"#).await;
    world.fan_out().await;
    world.step(QueueName::Delivery).await;
    let calls = world.receiver.count();
    assert!(kept(&world).contains(CANARY) && queued(&world).contains(CANARY));
    let owed = |world: &World| world.history.all().iter().filter(|row| row.partition.starts_with("K#")).count();
    assert_eq!(owed(&world), 3, "two to the endpoint that is paused, and one to the endpoint that is gone");

    let (code, answer) = delete(&world, "/tenants/acme/events/order-1/payload").await;
    assert_eq!((code, &answer["event_id"]), (202, &json!("order-1")), "{answer}");
    // The first sweep takes what history has.
    world.fan_out().await;
    let rows = format!("{:?}", world.history.all());
    assert!(!rows.contains(CANARY) && rows.contains("stays-here"));
    assert_eq!(owed(&world), 2);
    let row = world.history.all().into_iter().find(|row| row.partition == "I#acme#order-1").unwrap();
    let event: KeptEvent = serde_json::from_str(&row.body).unwrap();
    assert!(event.erased_at.is_some() && event.event_type == "order.paid", "it is known that there was one");

    live(&world, SIXTEEN_MINUTES).await;
    assert!(!kept(&world).contains(CANARY), "{}", kept(&world));
    assert!(!queued(&world).contains(CANARY));
    assert!(queued(&world).contains("stays-here"), "another event waits");
    assert!(!logs.text().contains(CANARY));
    assert!(logs.text().contains("audit=true") && logs.text().contains("erased"));
    assert!(world.queues.all(QueueName::Event).is_empty(), "the work is done");
    // Nothing of it is sent any more.
    let sent = &world.receiver.arrivals()[calls..];
    assert!(sent.iter().all(|arrival| !String::from_utf8_lossy(&arrival.body).contains(CANARY)));

    // The same request again brings nothing back.
    let body = json!({ "event_id": "order-1", "event_type": "order.paid", "payload": { "secret": CANARY } });
    let (code, _) = world.post("/tenants/acme/events", body.to_string()).await;
    assert_eq!(code, 409);
    let (code, _) = world.get(&format!("/tenants/acme/events/order-1/deliveries/{}", cards[0].id)).await;
    assert_eq!(code, 200, "how it was delivered is still known");
    live(&world, Duration::from_secs(10 * 86_400)).await;
    world.file().await;
}

#[tokio::test]
async fn an_erased_event_is_dropped_where_it_is_met() {
    let world = World::new().await;
    let card = register(&world, card(1, &world.receiver.url("/"), world.clock.now())).await;
    // One that was not fanned out, one whose delivery is queued, and one in the dead letters.
    world.event("order-1", "order.paid", "1").await;
    world.fan_out().await;
    world.event("order-2", "order.paid", "2").await;
    world.receiver.answer([410]);
    world.event("order-3", "order.paid", "3").await;
    let taken = world.queues.receive_where(QueueName::Event, |body| body.contains("order-3"));
    world.invoke_fanout(&taken).await;
    let only = |body: &str| body.contains("order-3");
    for taken in world.queues.receive_where(QueueName::Delivery, only) {
        world.queues.put(QueueName::Retry, &taken.message.body);
        world.queues.delete(QueueName::Delivery, &taken);
    }
    world.step(QueueName::Retry).await;
    for event in ["order-1", "order-2", "order-3"] {
        assert_eq!(delete(&world, &format!("/tenants/acme/events/{event}/payload")).await.0, 202);
    }
    let calls = world.receiver.count();
    live(&world, SIXTEEN_MINUTES).await;
    assert_eq!(world.receiver.count(), calls, "nothing was sent");
    assert!(world.store.all().is_empty(), "nothing was filed");
    let ends = world.history.all().into_iter().filter(|row| row.partition.starts_with("L#"));
    assert_eq!(ends.count(), 1, "only what had ended before");
    let text = redis_text(&world);
    assert!(!text.contains(&format!("delivery:order-1.{}", card.id)), "no record is left of what was dropped");
}

#[tokio::test]
async fn an_id_that_is_used_again_after_an_erasing_is_another_event() {
    let world = World::new().await;
    register(&world, card(1, &world.receiver.url("/"), world.clock.now())).await;
    world.event("order-1", "order.paid", "1").await;
    world.settle().await;
    delete(&world, "/tenants/acme/events/order-1/payload").await;
    live(&world, SIXTEEN_MINUTES).await;
    // When the mark is gone, the id is free.
    world.clock.advance(Duration::from_secs(16 * 86_400));
    redis::cmd("FLUSHDB").exec(&mut world.redis.connect()).unwrap();
    world.event("order-1", "order.paid", "2").await;
    world.settle().await;
    let bodies: Vec<_> = world.receiver.arrivals().into_iter().map(|arrival| arrival.body).collect();
    assert_eq!(bodies, [&b"1"[..], &b"2"[..]]);
}

#[tokio::test]
async fn an_erased_tenant_is_found_nowhere_and_can_be_made_anew() {
    let logs = Logs::kept();
    let world = World::new().await;
    let endpoints = EndpointsWorld::beside(&world).await;
    let cards = event_with_three_ends(&world, "order-1").await;
    // An endpoint that was deleted before, whose delivery waits.
    let gone = register(&world, card(4, &world.receiver.url("/3"), world.clock.now())).await;
    world.event("order-2", "order.paid", &format!(r#"{{"secret":"{CANARY}"}}"#)).await;
    world.fan_out().await;
    world.step(QueueName::Delivery).await;
    let path = format!("/tenants/acme/endpoints/{}", gone.id);
    assert_eq!(endpoints.ask("DELETE", &path, Value::Null).await.status, 204);
    // An event that is not fanned out yet.
    world.event("order-3", "order.paid", &format!(r#"{{"secret":"{CANARY}"}}"#)).await;
    let calls = world.receiver.count();

    let (code, answer) = delete(&world, "/tenants/acme").await;
    assert_eq!((code, &answer["erasing"]["done"]), (202, &json!(false)), "{answer}");
    let shown = endpoints.get("/tenants/acme").await;
    assert_eq!((shown.status, &shown.body["erasing"]["done"]), (200, &json!(false)));
    // Meanwhile nothing is added.
    let body = json!({ "event_type": "order.paid", "payload": 1 });
    assert_eq!(world.post("/tenants/acme/events", body.to_string()).await.0, 409);
    assert_eq!(world.post("/tenants/other/events", body.to_string()).await.0, 202);
    let url = world.receiver.url("/new");
    assert_eq!(endpoints.ask("POST", "/tenants/acme/endpoints", json!({ "url": url })).await.status, 409);
    let test = format!("/tenants/acme/endpoints/{}/test", cards[0].id);
    assert_eq!(endpoints.ask("POST", &test, json!({})).await.status, 409);

    live(&world, SIXTEEN_MINUTES + Duration::from_secs(60)).await;
    let found = kept(&world);
    assert!(!found.contains(CANARY), "{found}");
    let history: Vec<String> = world.history.all().into_iter().map(|row| row.partition).collect();
    assert!(history.iter().all(|partition| !partition.contains("#acme")), "{history:?}");
    assert!(!queued(&world).contains(CANARY) && world.queues.all(QueueName::Event).is_empty());
    assert!(!logs.text().contains(CANARY));
    assert_eq!(world.receiver.count(), calls, "nothing was sent");
    let redis = redis_text(&world);
    let keys = ["event:acme:", "delivery:order-", "waiting:", "erasing:acme"];
    assert!(keys.iter().all(|key| !redis.contains(key)), "{redis}");
    let key = |card: &Card| EndpointKey { tenant: "acme".into(), endpoint: card.id.clone() };
    assert_eq!(
        world.registry.cards(&[key(&cards[0]), key(&gone)], true).await.unwrap(),
        [CardFound::Erased, CardFound::Erased]
    );

    // Made anew, it sees nothing of the old one, and the same ids are new.
    let shown = endpoints.get("/tenants/acme").await;
    assert_eq!((&shown.body["erasing"]["done"], &shown.body["endpoints"]), (&json!(true), &json!(0)));
    world.clock.advance(Duration::from_secs(1));
    let made = endpoints.ask("POST", "/tenants/acme/endpoints", json!({ "url": url })).await;
    assert_eq!(made.status, 201);
    world.receiver.always_below("/new", 200);
    let answer = world.event("order-1", "order.paid", "7").await;
    assert_eq!(answer["duplicate"], false);
    world.settle().await;
    let arrivals = world.receiver.arrivals();
    let new: BTreeSet<&str> = arrivals[calls..].iter().map(|arrival| arrival.path.as_str()).collect();
    assert_eq!(new, BTreeSet::from(["/new"]));
    let (_, status) = world.get("/tenants/acme/events/order-1").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(1)));
}

#[tokio::test]
async fn a_tenant_is_erased_although_everything_was_away_for_a_while() {
    let world = World::new().await;
    event_with_three_ends(&world, "order-1").await;
    delete(&world, "/tenants/acme").await;
    world.history.be_away(true);
    live(&world, Duration::from_secs(300)).await;
    world.history.be_away(false);
    world.registry.be_away(true);
    live(&world, Duration::from_secs(300)).await;
    world.registry.be_away(false);
    live(&world, Duration::from_secs(2400)).await;
    assert!(!kept(&world).contains(CANARY) && !queued(&world).contains(CANARY));
    assert!(world.queues.all(QueueName::Event).is_empty());
}

#[tokio::test]
async fn erasing_begins_only_when_it_is_marked_and_queued() {
    let mut world = World::new().await;
    for path in ["/tenants/acme/events/order-1/payload", "/tenants/acme"] {
        world.queues.breaks(Some(QueueName::Event));
        assert_eq!(delete(&world, path).await.0, 503);
        world.queues.breaks(None);
    }
    for path in ["/tenants/a%20b/events/order-1/payload", "/tenants/acme/events/a.b/payload", "/tenants/a.b"] {
        assert_eq!(delete(&world, path).await.0, 422, "{path}");
    }
    world.redis.stop();
    for path in ["/tenants/acme/events/order-1/payload", "/tenants/acme"] {
        assert_eq!(delete(&world, path).await.0, 503);
    }
}
