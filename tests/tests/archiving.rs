//! What becomes of dead letters: kept, shown, and never against the truth.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::dynamodb::{Archive, Filed, Table};
use adapters::sqs::Lane;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use domain::dead_letter::{DeadLetter, MAX_BODY, Reason};
use domain::time::Millis;
use serde_json::{Value, json};
use tests::archive_model::ArchiveModel;
use tests::stack::Stack;
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
    let letter = world.archive.all().remove("a").unwrap();
    assert_eq!((letter.reason, letter.attempts, letter.history.count), (Some(Reason::RetriesExhausted), 4, 4));
    assert_eq!(letter.payload.unwrap().get(), payload);
    let (view, ttl) = shown(&world, &id);
    assert!((2_591_990..=2_592_000).contains(&ttl), "{ttl}");
    assert_eq!((&view["reason"], &view["last_status_code"]), (&json!("retries_exhausted"), &json!(500)));
    assert_eq!(view["correlation_id"], world.status(&id).await["correlation_id"]);
    assert_eq!(view["history"]["attempts"].as_array().unwrap().len(), 4);
    assert!(view["error"].as_str().unwrap().contains("500"));
    assert!(world.queues.all(Lane::DeadLetter).is_empty());
}

#[tokio::test]
async fn an_unreadable_message_is_kept_as_malformed() {
    let world = World::new().await;
    world.queues.put(Lane::Delivery, "not json");
    let long = "{\"k\":\"v\",".repeat(100_000);
    world.queues.put(Lane::Delivery, &long);
    world.settle().await;
    assert_eq!(world.file().await, (2, 0));
    let mut letters: Vec<DeadLetter> = world.archive.all().into_values().collect();
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
    // Received by consumers that never came back, a hundred times.
    for _ in 0..100 {
        assert_eq!(world.queues.receive(Lane::Delivery, 10).len(), 1);
        world.clock.advance(Duration::from_secs(360));
    }
    assert!(world.queues.receive(Lane::Delivery, 10).is_empty());
    assert_eq!(world.file().await, (1, 0));
    let letter = world.archive.all().remove("a").unwrap();
    assert_eq!((letter.reason, letter.payload.unwrap().get()), (Some(Reason::Crashed), "[1]"));
    assert_eq!(world.status("a").await["status"], "failed");
}

#[tokio::test]
async fn a_delivery_whose_consumers_die_again_and_again_is_crashed() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    for _ in 0..5 {
        // The claim is made and nobody ends it: as if each consumer died.
        world.claim_and_die(Lane::Delivery).await;
        world.clock.advance(Duration::from_secs(360));
    }
    world.settle().await;
    world.file().await;
    assert!(world.receiver.arrivals().is_empty());
    assert_eq!(world.archive.all()["a"].reason, Some(Reason::Crashed));
    assert_eq!(world.status("a").await["status"], "failed");
}

#[tokio::test]
async fn filing_twice_changes_nothing() {
    let world = World::new().await;
    world.receiver.always(404u16);
    world.enqueue("a", "1").await;
    world.settle().await;
    let copy = world.queues.receive(Lane::DeadLetter, 1).remove(0);
    world.queues.duplicate(Lane::DeadLetter, &copy);
    world.file().await;
    let (before, first) = (world.status("a").await, world.archive.all()["a"].failed_at);
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.file().await, (1, 0));
    assert_eq!((world.status("a").await, world.archive.all()["a"].failed_at), (before, first));
}

#[tokio::test]
async fn what_was_delivered_after_all_is_not_filed() {
    let world = World::new().await;
    world.receiver.answer([404u16]);
    world.enqueue("a", "1").await;
    world.settle().await;
    // A twin that was out at the same time got through.
    let _: () = redis::cmd("HSET")
        .arg("webhook_status:a")
        .arg("status")
        .arg("delivered")
        .query(&mut world.redis.connect())
        .unwrap();
    assert_eq!(world.file().await, (1, 0));
    assert!(world.archive.all().is_empty());
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
    let letters = world.archive.all();
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

fn letter(id: &str, hash: &str, accepted_at: u64, hop: u32) -> DeadLetter {
    DeadLetter {
        webhook_id: id.into(),
        body_hash: hash.into(),
        accepted_at: Millis(accepted_at),
        hop,
        reason: Some(Reason::Gone),
        failed_at: Millis(1_700_000_000_000),
        headers: BTreeMap::from([("x".into(), "é\"".into())]),
        ..DeadLetter::default()
    }
}

async fn only_what_is_newer_is_written(archive: &impl Archive) {
    let file = async |letter: DeadLetter| archive.file(&letter).await.unwrap();
    assert_eq!(file(letter("a", "h", 5, 1)).await, Filed::Written);
    assert_eq!(file(letter("a", "h", 5, 1)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 5, 0)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 4, 9)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 5, 2)).await, Filed::Written);
    assert_eq!(file(letter("a", "h", 6, 0)).await, Filed::Written);
    assert_eq!(file(letter("a", "other", 9, 9)).await, Filed::Foreign);
    assert_eq!(file(letter("a", "other", 9, 9).apart()).await, Filed::Written);
    assert_eq!(file(letter("a", "other", 9, 9).apart()).await, Filed::Known);
    assert_eq!(file(letter("b", "", 0, 0)).await, Filed::Written);
    assert_eq!(file(letter("b", "", 0, 0)).await, Filed::Known);
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    only_what_is_newer_is_written(&ArchiveModel::default()).await;
}

#[tokio::test]
async fn the_real_table_keeps_the_contract() {
    let client = Stack::running().account().dynamodb();
    let name = format!("contract-{}", fastrand::u64(..));
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let attribute =
        AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build().unwrap();
    let create = client.create_table().table_name(&name).key_schema(key).attribute_definitions(attribute);
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    only_what_is_newer_is_written(&Table::new(client.clone(), name.clone(), 2_592_000)).await;
    let items = client.scan().table_name(&name).send().await.unwrap();
    for item in items.items() {
        assert_eq!(item["expires_at"].as_n().unwrap(), "1702592000");
        let record: DeadLetter = serde_json::from_str(item["record"].as_s().unwrap()).unwrap();
        assert_eq!((&record.webhook_id, record.headers["x"].as_str()), (item["id"].as_s().unwrap(), "é\""));
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_keeps_the_letter_in_its_queue() {
    let table = Table::new(Stack::running().account().dynamodb(), "nowhere".into(), 1);
    assert!(table.file(&letter("a", "h", 1, 1)).await.is_err());
}
