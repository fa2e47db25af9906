//! Dead letters are stored and shown, and they never contradict what happened.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::dead_letter::{DeadLetter, MAX_BODY};
use domain::reason::Reason;
use serde_json::{Value, json};
use tests::world::World;

fn shown(world: &World, id: &str) -> (Value, i64) {
    let mut look = world.redis.connect();
    let text: Option<String> = redis::cmd("GET").arg(format!("dead_letter:webhook:{id}")).query(&mut look).unwrap();
    let ttl: i64 = redis::cmd("TTL").arg(format!("dead_letter:webhook:{id}")).query(&mut look).unwrap();
    (text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()), ttl)
}

#[tokio::test]
async fn a_dead_letter_is_kept_whole_for_thirty_days() {
    let world = World::new().await;
    world.receiver.always(500u16);
    let payload = "{ \"b\":1.0, \"a\":[ ] }";
    let id = world.enqueue("a", payload).await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    let letter = world.store.all().remove("a").unwrap();
    assert_eq!((letter.reason, letter.attempts, letter.history.count), (Some(Reason::RetriesExhausted), 4, 4));
    assert_eq!(letter.payload.unwrap().get(), payload);
    let (view, ttl) = shown(&world, &id);
    assert!((2_591_990..=2_592_000).contains(&ttl), "{ttl}");
    assert_eq!((&view["reason"], &view["last_status_code"]), (&json!("retries_exhausted"), &json!(500)));
    assert_eq!(view["correlation_id"], world.status(&id).await["correlation_id"]);
    assert_eq!(view["history"]["attempts"].as_array().unwrap().len(), 4);
    assert!(view["error"].as_str().unwrap().contains("500"));
    assert!(world.queues.all(QueueName::DeadLetter).is_empty());
}

#[tokio::test]
async fn an_unreadable_message_is_kept_as_malformed() {
    let world = World::new().await;
    world.queues.put(QueueName::Delivery, "not json");
    let long = "{\"k\":\"v\",".repeat(100_000);
    world.queues.put(QueueName::Delivery, &long);
    world.settle().await;
    assert_eq!(world.file().await, (2, 0));
    let mut letters: Vec<DeadLetter> = world.store.all().into_values().collect();
    letters.sort_by_key(|letter| letter.truncated);
    assert!(letters.iter().all(|letter| letter.webhook_id.starts_with("malformed-")));
    assert!(letters.iter().all(|letter| letter.reason == Some(Reason::Malformed)));
    assert_eq!((letters[0].body.as_deref(), letters[0].truncated), (Some("not json"), false));
    assert!(letters[1].truncated && letters[1].body.as_ref().unwrap().len() <= MAX_BODY);
    let (view, _) = shown(&world, &letters[0].webhook_id);
    assert_eq!(view["body"], "not json");
}

#[tokio::test]
async fn what_sqs_itself_gave_up_on_is_crashed_and_its_status_failed() {
    let world = World::new().await;
    world.enqueue("a", "[1]").await;
    // A hundred consumers receive it and never come back.
    for _ in 0..100 {
        assert_eq!(world.queues.receive(QueueName::Delivery, 10).len(), 1);
        world.clock.advance(Duration::from_secs(360));
    }
    assert!(world.queues.receive(QueueName::Delivery, 10).is_empty());
    assert_eq!(world.file().await, (1, 0));
    let letter = world.store.all().remove("a").unwrap();
    assert_eq!((letter.reason, letter.payload.unwrap().get()), (Some(Reason::Crashed), "[1]"));
    assert_eq!(world.status("a").await["status"], "failed");
}

#[tokio::test]
async fn a_delivery_whose_consumers_die_again_and_again_is_crashed() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    for _ in 0..5 {
        // Nothing follows the claim, as if the consumer died.
        world.claim_and_die(QueueName::Delivery).await;
        world.clock.advance(Duration::from_secs(360));
    }
    world.settle().await;
    world.file().await;
    assert!(world.receiver.arrivals().is_empty());
    assert_eq!(world.store.all()["a"].reason, Some(Reason::Crashed));
    assert_eq!(world.status("a").await["status"], "failed");
}

#[tokio::test]
async fn filing_twice_changes_nothing() {
    let world = World::new().await;
    world.receiver.always(404u16);
    world.enqueue("a", "1").await;
    world.settle().await;
    let copy = world.queues.receive(QueueName::DeadLetter, 1).remove(0);
    world.queues.duplicate(QueueName::DeadLetter, &copy);
    world.file().await;
    let (before, first) = (world.status("a").await, world.store.all()["a"].failed_at);
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.file().await, (1, 0));
    assert_eq!((world.status("a").await, world.store.all()["a"].failed_at), (before, first));
}

#[tokio::test]
async fn what_was_delivered_after_all_is_not_filed() {
    let world = World::new().await;
    world.receiver.answer([404u16]);
    world.enqueue("a", "1").await;
    world.settle().await;
    // Meanwhile another message of this delivery got through.
    let _: () = redis::cmd("HSET")
        .arg("webhook_status:a")
        .arg("status")
        .arg("delivered")
        .query(&mut world.redis.connect())
        .unwrap();
    assert_eq!(world.file().await, (1, 0));
    assert!(world.store.all().is_empty());
    assert_eq!(shown(&world, "a").0, Value::Null);
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn another_body_under_the_same_id_is_filed_apart() {
    let mut world = World::new().await;
    world.receiver.always(404u16);
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.enqueue("a", "2").await;
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 1);
    world.file().await;
    let letters = world.store.all();
    let mut payloads: Vec<_> = letters.values().map(|letter| letter.payload.as_ref().unwrap().get()).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, ["1", "2"]);
    let apart = letters.values().find(|letter| letter.webhook_id != "a").unwrap();
    assert_eq!((apart.reason, apart.reused_id.as_deref()), (Some(Reason::Validation), Some("a")));
}

#[tokio::test]
async fn without_redis_a_dead_letter_stays_in_its_queue() {
    let mut world = World::new().await;
    world.receiver.always(404u16);
    world.enqueue("a", "1").await;
    world.settle().await;
    world.redis.stop();
    assert_eq!(world.file().await, (1, 1));
    world.redis.resume();
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.status("a").await["status"], "failed");
}

#[tokio::test]
async fn a_dead_letter_stays_in_its_queue_until_its_record_is_in_a_list() {
    let world = World::new().await;
    world.receiver.always(404u16);
    world.enqueue("a", "1").await;
    world.settle().await;
    let mut look = world.redis.connect();
    let _: () = redis::cmd("DEL").arg("webhook_index:failed").query(&mut look).unwrap();
    let _: () = redis::cmd("SET").arg("webhook_index:failed").arg("no list").query(&mut look).unwrap();
    assert_eq!(world.file().await, (1, 1));
    let _: () = redis::cmd("DEL").arg("webhook_index:failed").query(&mut look).unwrap();
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(listed(&world, "failed"), ["a"]);
}

/// The ids that the list of a status has.
fn listed(world: &World, status: &str) -> Vec<String> {
    let mut look = world.redis.connect();
    redis::cmd("ZRANGE").arg(format!("webhook_index:{status}")).arg(0).arg(-1).query(&mut look).unwrap()
}
