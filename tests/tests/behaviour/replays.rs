//! Replays: deliveries that failed are made again, and those that were never made are made, each
//! once, spread over time, and only because somebody asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError};
use adapters::history::HistoryWriter as _;
use adapters::registry::{Registry as _, Written};
use async_trait::async_trait;
use bytes::Bytes;
use domain::endpoint::Card;
use domain::filter::Filter;
use domain::history::delivery::DeliveryEnd;
use domain::history::event::KeptEvent;
use domain::message::{Envelope, Message};
use domain::reason::Reason;
use domain::schedule::RetrySchedule;
use domain::time::Millis;
use http::Method;
use lambda_http::Body;
use serde_json::{Value, json};
use tests::endpoints::{card, endpoint_id};
use tests::history_rows;
use tests::sqs_model::SqsModel;
use tests::world::{BEGINNING, World};
use tokio::sync::Notify;

/// Longer than the visibility timeout.
const AWAY: Duration = Duration::from_secs(400);
/// How many deliveries a page has where pages crash.
const PAGE: usize = 80;

async fn register(world: &World, n: usize, change: impl FnOnce(&mut Card)) -> Card {
    let mut card = card(n, &world.receiver.url(&format!("/{n}")), world.clock.now());
    change(&mut card);
    assert_eq!(world.registry.create(&card, 100).await.unwrap(), Written::Done);
    card
}

/// Accepts so many events of the tenant, of two types by turns, and fans them out.
async fn events(world: &World, tenant: &str, count: usize) {
    let event = |n: usize| {
        let event_type = ["order.paid", "user.made"][n % 2];
        json!({ "event_id": format!("e-{n}"), "event_type": event_type, "payload": { "n": n } })
    };
    let all: Vec<Value> = (0..count).map(event).collect();
    for batch in all.chunks(100) {
        let body = json!({ "events": batch }).to_string();
        let (code, answer) = world.post(&format!("/tenants/{tenant}/events/batch"), body).await;
        assert!(code < 300, "{answer}");
        world.clock.advance(Duration::from_secs(7));
    }
    world.settle().await;
}

fn replays(n: usize) -> String {
    format!("/tenants/acme/endpoints/{}/replays", endpoint_id(n))
}

/// Begins a replay of endpoint 1 and gives its id.
async fn begin(world: &World, what: &str, more: Value) -> String {
    let mut body = json!({ "what": what, "since": BEGINNING.to_string(), "per_second": 500 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    // What was accepted in this moment is not before it.
    world.clock.advance(Duration::from_secs(1));
    let (code, answer) = world.operate(&replays(1), body).await;
    assert_eq!((code, &answer["state"]), (202, &json!("running")), "{answer}");
    answer["replay_id"].as_str().unwrap().to_owned()
}

async fn shown(world: &World, replay: &str) -> Value {
    let (code, answer) = world.get(&format!("/tenants/acme/replays/{replay}")).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

async fn stop(world: &World, replay: &str) -> Value {
    let (code, answer) = world.ask(Method::DELETE, &format!("/tenants/acme/replays/{replay}"), Body::Empty).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

fn counts(shown: &Value) -> [u64; 4] {
    ["examined", "matched", "queued", "unsendable"].map(|name| shown[name].as_u64().unwrap())
}

/// Begins a replay, lets it come to its end, and gives what is shown of it.
async fn replayed(world: &World, what: &str, more: Value) -> Value {
    let replay = begin(world, what, more).await;
    world.settle().await;
    let shown = shown(world, &replay).await;
    assert_eq!(shown["state"], "done", "{shown}");
    shown
}

/// The numbers of the events that arrived at a path, sorted.
fn arrived(world: &World, path: &str) -> Vec<u64> {
    let arrivals = world.receiver.arrivals().into_iter().filter(|arrival| arrival.path == path);
    let number = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["n"].as_u64().unwrap();
    let mut numbers: Vec<u64> = arrivals.map(|arrival| number(&arrival.body)).collect();
    numbers.sort_unstable();
    numbers
}

/// Messages of deliveries in a queue.
fn deliveries(world: &World, queue_name: QueueName) -> Vec<Message> {
    let read = |body: String| match Envelope::decode(&Bytes::from(body)) {
        Ok(Envelope::Deliver(message)) => *message,
        other => panic!("not a delivery: {other:?}"),
    };
    world.queues.all(queue_name).into_iter().map(|stored| read(stored.body)).collect()
}

/// Only orders whose number is large.
fn large_orders(card: &mut Card) {
    let filter = r#"{"payload":{"n":[{"numeric":[">=",100]}]}}"#;
    card.event_types = vec!["order.*".into()];
    card.filter = Some(Filter::read("", serde_json::from_str(filter).unwrap()).unwrap().pattern().clone());
}

/// The queues, in which a process ends when it has sent, or is about to send, so many times.
struct Ending {
    queues: SqsModel,
    queue_name: QueueName,
    /// Whether the last of these sends is made.
    sends: bool,
    left: AtomicUsize,
    reached: Notify,
}

#[async_trait]
impl Queue for Ending {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let ends = queue_name == self.queue_name && self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        let sent = if ends && !self.sends { Vec::new() } else { self.queues.send(queue_name, messages).await };
        if ends {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        sent
    }
}

/// The next page ends so, and its message comes back.
async fn crash(world: &mut World, queue_name: QueueName, sends: bool, after: usize) {
    let queues = world.queues.clone();
    let left = AtomicUsize::new(after);
    let ending = Arc::new(Ending { queues, queue_name, sends, left, reached: Notify::new() });
    world.fan_out_through(Arc::clone(&ending) as _, PAGE);
    tokio::select! {
        () = ending.reached.notified() => {}
        _ = world.fan_out() => panic!("it did not end"),
    }
    world.clock.advance(AWAY);
    world.pages_of(PAGE);
}

#[tokio::test]
async fn an_endpoint_that_was_made_later_gets_what_it_wants_once_whatever_crashes() {
    let mut world = World::new().await;
    events(&world, "acme", 500).await;
    register(&world, 1, large_orders).await;
    let replay = begin(&world, "missing", json!({})).await;
    crash(&mut world, QueueName::Retry, true, 3).await;
    crash(&mut world, QueueName::Event, false, 1).await;
    world.fan_out().await;
    world.clock.advance(Duration::from_secs(2));
    crash(&mut world, QueueName::Event, true, 1).await;
    world.settle().await;
    let wanted: Vec<u64> = (100..500).step_by(2).collect();
    assert_eq!(arrived(&world, "/1"), wanted);
    let shown = shown(&world, &replay).await;
    assert_eq!((&shown["state"], shown["examined"].as_u64()), (&json!("done"), Some(500)), "{shown}");

    // Redis knows of all of them, and then history.
    for is_forgotten in [false, true] {
        if is_forgotten {
            for n in &wanted {
                let kept = world.history.all().into_iter().find(|row| row.partition == format!("I#acme#e-{n}"));
                let event = serde_json::from_str::<KeptEvent>(&kept.unwrap().body).unwrap().event().unwrap();
                let card = card(1, "http://a.example/", world.clock.now());
                let message = domain::subscription::Subscription::of(&card).delivery(&event, world.clock.now());
                history_rows::ended(&world.history, &message, DeliveryEnd::Delivered, world.clock.now()).await;
            }
            world.redis.forget();
        }
        let again = replayed(&world, "missing", json!({})).await;
        assert_eq!(counts(&again), [500, 0, 0, 0]);
        assert_eq!(counts(&replayed(&world, "failed", json!({})).await)[1..], [0, 0, 0]);
    }
    assert_eq!(arrived(&world, "/1").len(), wanted.len());
}

#[tokio::test]
async fn a_page_that_comes_again_changes_nothing() {
    let mut world = World::new().await;
    events(&world, "acme", 60).await;
    register(&world, 1, |_| {}).await;
    world.pages_of(25);
    let replay = begin(&world, "missing", json!({})).await;
    let first = world.queues.receive(QueueName::Event, 1);
    world.invoke_fanout(&first).await;
    let after_one = shown(&world, &replay).await;
    assert_eq!(counts(&after_one), [25, 25, 25, 0]);
    // A Redis that lost everything lets it in again.
    world.redis.forget();
    world.queues.put(QueueName::Event, &first[0].message.body);
    world.settle().await;
    let shown = shown(&world, &replay).await;
    assert_eq!((&shown["state"], counts(&shown)), (&json!("done"), [60, 60, 60, 0]));
    assert_eq!(arrived(&world, "/1"), (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dry_run_counts_and_sends_nothing() {
    let world = World::new().await;
    events(&world, "acme", 50).await;
    register(&world, 1, |_| {}).await;
    let shown = replayed(&world, "missing", json!({ "dry_run": true, "event_types": ["order.*"] })).await;
    assert_eq!((counts(&shown), world.receiver.count()), ([50, 25, 0, 0], 0));
    let shown = replayed(&world, "missing", json!({ "event_types": ["user.made"] })).await;
    assert_eq!((counts(&shown), world.receiver.count()), ([50, 25, 25, 0], 25));
}

#[tokio::test]
async fn a_replay_keeps_its_pace_and_can_be_stopped() {
    let world = World::new().await;
    events(&world, "acme", 300).await;
    register(&world, 1, |_| {}).await;
    let replay = begin(&world, "missing", json!({ "per_second": 2 })).await;
    let began = world.clock.now();
    world.fan_out().await;
    let due = |message: &Message| began.until(message.not_before).as_millis();
    let queued = deliveries(&world, QueueName::Retry);
    assert_eq!(queued.iter().map(due).collect::<Vec<_>>(), (0..120).map(|n| 1000 + n * 500).collect::<Vec<_>>());
    assert_eq!(world.fan_out().await, (0, 0), "the next page is not due");
    world.clock.advance(Duration::from_secs(60));
    world.fan_out().await;
    assert_eq!(counts(&shown(&world, &replay).await), [240, 240, 240, 0]);

    let stopped = stop(&world, &replay).await;
    assert_eq!((&stopped["state"], counts(&stopped)), (&json!("stopped"), [240, 240, 240, 0]));
    assert_eq!(stop(&world, &replay).await, stopped);
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 240);
    assert_eq!(shown(&world, &replay).await, stopped);

    let done = replayed(&world, "missing", json!({})).await;
    assert_eq!(done["queued"], 60);
    let stopped = stop(&world, done["replay_id"].as_str().unwrap()).await;
    assert_eq!(stopped, done, "what is done stays done");
}

#[tokio::test]
async fn what_failed_is_sent_again_under_its_webhook_id_and_once() {
    let world = World::with(&[("BREAKER_FAILURE_THRESHOLD", "100")]).await;
    let one_attempt = |card: &mut Card| card.retry_schedule = RetrySchedule::new(Vec::new()).unwrap();
    register(&world, 1, one_attempt).await;
    world.receiver.always(500u16);
    events(&world, "acme", 20).await;
    let failed = deliveries(&world, QueueName::DeadLetter);
    assert_eq!(failed.len(), 20);
    for message in &failed {
        let result = DeliveryEnd::GivenUp(Reason::RetriesExhausted);
        history_rows::ended(&world.history, message, result, world.clock.now()).await;
    }
    while world.file().await.0 > 0 {}
    let ids = |from: usize| -> BTreeSet<String> {
        let arrivals = world.receiver.arrivals().into_iter().skip(from);
        arrivals.map(|arrival| arrival.header("webhook-id").to_owned()).collect()
    };
    let (before, storm) = (world.receiver.count(), ids(0));
    assert_eq!(storm.len(), 20);

    world.receiver.always(200u16);
    let shown = replayed(&world, "failed", json!({ "event_types": ["order.paid"] })).await;
    assert_eq!(counts(&shown), [20, 10, 10, 0]);
    assert_eq!((world.receiver.count() - before, ids(before).len()), (10, 10));
    let shown = replayed(&world, "failed", json!({})).await;
    assert_eq!(shown["queued"], 10, "what the first replay sent is not sent again");
    assert_eq!((world.receiver.count() - before, ids(before)), (20, storm));
    assert_eq!(replayed(&world, "failed", json!({})).await["queued"], 0);
    assert_eq!(replayed(&world, "missing", json!({})).await["queued"], 0);
}

#[tokio::test]
async fn what_is_erased_or_has_expired_is_counted_and_not_sent() {
    let world = World::new().await;
    let until = world.clock.now().after(Duration::from_secs(60)).to_string();
    for n in 0..3u64 {
        let mut event = json!({ "event_id": format!("e-{n}"), "event_type": "a", "payload": { "n": n } });
        if n == 0 {
            event["expires_at"] = json!(until);
        }
        assert_eq!(world.post("/tenants/acme/events", event.to_string()).await.0, 202);
    }
    world.settle().await;
    let row = world.history.all().into_iter().find(|row| row.partition == "I#acme#e-1").unwrap();
    let erased = serde_json::from_str::<KeptEvent>(&row.body).unwrap().erased(world.clock.now());
    assert!(world.history.write(vec![erased.row(history_rows::LIFE).unwrap()]).await.is_empty());
    register(&world, 1, |_| {}).await;
    world.clock.advance(Duration::from_secs(60));
    let shown = replayed(&world, "missing", json!({})).await;
    assert_eq!((counts(&shown), arrived(&world, "/1")), ([3, 3, 1, 2], vec![2]));
}

#[tokio::test]
async fn a_replay_waits_for_what_is_away_and_counts_nothing_twice() {
    let world = World::new().await;
    events(&world, "acme", 30).await;
    register(&world, 1, |_| {}).await;
    let replay = begin(&world, "missing", json!({})).await;
    world.registry.be_away(true);
    world.fan_out().await;
    world.registry.be_away(false);
    for away in [true, false] {
        world.history.be_away(away);
        world.clock.advance(AWAY);
        world.queues.breaks((!away).then_some(QueueName::Retry));
        world.fan_out().await;
    }
    world.queues.breaks(None);
    assert_eq!((counts(&shown(&world, &replay).await), world.receiver.count()), ([0; 4], 0));
    world.settle().await;
    let shown = shown(&world, &replay).await;
    assert_eq!((&shown["state"], counts(&shown)), (&json!("done"), [30, 30, 30, 0]));
    assert_eq!(arrived(&world, "/1"), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_replay_ends_with_its_endpoint() {
    let world = World::new().await;
    events(&world, "acme", 10).await;
    let card = register(&world, 1, |_| {}).await;
    let replay = begin(&world, "missing", json!({})).await;
    assert_eq!(world.registry.delete(&card, world.clock.now()).await.unwrap(), Written::Done);
    world.settle().await;
    assert_eq!((&shown(&world, &replay).await["state"], world.receiver.count()), (&json!("failed"), 0));
    assert_eq!(world.operate(&replays(1), json!({ "what": "failed", "since": BEGINNING.to_string() })).await.0, 404);
}

#[tokio::test]
async fn tenants_do_not_see_each_others_replays_or_events() {
    let world = World::new().await;
    events(&world, "other", 5).await;
    register(&world, 1, |_| {}).await;
    let shown = replayed(&world, "missing", json!({})).await;
    assert_eq!((counts(&shown), world.receiver.count()), ([0; 4], 0));
    let replay = shown["replay_id"].as_str().unwrap();
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(world.ask(method, &format!("/tenants/other/replays/{replay}"), Body::Empty).await.0, 404);
    }
    let body = json!({ "what": "failed", "since": BEGINNING.to_string() });
    let path = format!("/tenants/other/endpoints/{}/replays", endpoint_id(1));
    assert_eq!(world.operate(&path, body).await.0, 404);
}

#[tokio::test]
async fn a_replay_that_cannot_begin_says_why() {
    let world = World::new().await;
    register(&world, 1, |_| {}).await;
    let (code, answer) = world.operate(&replays(1), json!({ "what": "all", "per_second": 0 })).await;
    let faults: Vec<&str> =
        answer["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    assert_eq!((code, faults), (422, vec!["/what", "/since", "/per_second"]));
    let old = Millis(world.clock.now().0 - 8 * 86_400_000).to_string();
    let (code, answer) = world.operate(&replays(1), json!({ "what": "missing", "since": old })).await;
    assert_eq!(code, 422, "{answer}");

    world.queues.breaks(Some(QueueName::Event));
    world.clock.advance(Duration::from_secs(1));
    let body = json!({ "what": "failed", "since": BEGINNING.to_string() });
    assert_eq!(world.operate(&replays(1), body.clone()).await.0, 503);
    world.queues.breaks(None);
    let states: Vec<String> = world.history.all().into_iter().map(|row| row.body).collect();
    assert!(states.len() == 1 && states[0].contains(r#""state":"failed""#), "{states:?}");

    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(begin(&world, "failed", json!({})).await);
    }
    let (code, answer) = world.operate(&replays(1), body).await;
    let detail = answer["detail"].as_str().unwrap();
    assert!(code == 409 && running.iter().all(|replay| detail.contains(replay.as_str())), "{answer}");
    world.settle().await;
    begin(&world, "failed", json!({})).await;
    world.settle().await;
}
