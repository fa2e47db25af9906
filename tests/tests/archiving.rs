//! What becomes of dead letters: kept, shown, and never against the truth.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::dynamodb::{Archive, Filed, Letters, Reserved, Table};
use adapters::sqs::Lane;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use domain::dead_letter::{DeadLetter, Filter, MAX_BODY, Reason};
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

/// Dead letters of three days in two months, two destinations and two reasons, with
/// ties; lists of them in pages.
async fn lists_are_newest_first_and_exact(archive: &(impl Archive + Letters)) {
    const DAY_MS: u64 = 86_400_000;
    // 2023-12-01T00:00:00Z
    let december = 1_701_388_800_000;
    let now = Millis(december + 2 * DAY_MS);
    let mut all = Vec::new();
    for i in 0..40u64 {
        let letter = DeadLetter {
            failed_at: Millis(december - DAY_MS + i / 3 * (DAY_MS / 8)),
            destination: if i % 4 == 0 { "https://b.example".into() } else { "https://a.example".into() },
            reason: Some(if i % 5 == 0 { Reason::Malformed } else { Reason::Expired }),
            ..letter(&format!("list-{i:02}"), "h", 1, 1)
        };
        assert_eq!(archive.file(&letter).await.unwrap(), Filed::Written);
        all.push(letter);
    }
    let reserved = archive.reserve("list-07", "t", now, now.after(Duration::from_secs(60))).await.unwrap();
    let Reserved::Granted(seven) = reserved else { panic!("{reserved:?}") };
    archive.redriven(&seven, now).await.unwrap();
    all.sort_by_key(|letter| std::cmp::Reverse((letter.failed_at, letter.webhook_id.clone())));

    let since = Millis(december - DAY_MS / 2);
    let until = Millis(december + DAY_MS / 4);
    type Wanted<'a> = Box<dyn Fn(&DeadLetter) -> bool + 'a>;
    let cases: Vec<(Filter, Wanted<'_>)> = vec![
        (Filter::default(), Box::new(|_| true)),
        (
            Filter { reason: Some(Reason::Malformed), ..Filter::default() },
            Box::new(|l| l.reason == Some(Reason::Malformed)),
        ),
        (
            Filter { destination: Some("https://b.example".into()), ..Filter::default() },
            Box::new(|l| l.destination == "https://b.example"),
        ),
        (
            Filter { since: Some(since), until: Some(until), ..Filter::default() },
            Box::new(move |l| l.failed_at >= since && l.failed_at < until),
        ),
        (
            Filter { redrivable: true, destination: Some("https://a.example".into()), ..Filter::default() },
            Box::new(|l| {
                l.reason != Some(Reason::Malformed) && l.destination == "https://a.example" && l.webhook_id != "list-07"
            }),
        ),
        (Filter { since: Some(until), until: Some(since), ..Filter::default() }, Box::new(|_| false)),
        (Filter { until: Some(Millis(1)), ..Filter::default() }, Box::new(|_| false)),
        (Filter { destination: Some("https://c.example".into()), ..Filter::default() }, Box::new(|_| false)),
    ];
    for (filter, wanted) in cases {
        let wanted: Vec<&str> = all.iter().filter(|l| wanted(l)).map(|l| l.webhook_id.as_str()).collect();
        for limit in [1, 7, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = archive.list(&filter, after.as_ref(), limit, now).await.unwrap();
                assert!(page.letters.len() <= limit);
                found.extend(page.letters.into_iter().map(|l| l.webhook_id).filter(|id| id.starts_with("list-")));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted, "{filter:?} by {limit}");
        }
    }
}

async fn one_of_two_redrives_wins(archive: &(impl Archive + Letters)) {
    let (now, minute) = (Millis(1_700_000_000_000), Duration::from_secs(60));
    let by = async |token: &str, now: Millis| archive.reserve("again", token, now, now.after(minute)).await.unwrap();
    let reserve = async |now: Millis| by(&format!("{:x}", fastrand::u64(..)), now).await;
    assert!(matches!(reserve(now).await, Reserved::Missing));
    assert!(archive.get("again").await.unwrap().is_none());
    assert!(!archive.delete("again").await.unwrap());
    archive.file(&letter("again", "h", 5, 1)).await.unwrap();

    let Reserved::Granted(first) = by("mine", now).await else { panic!("not granted") };
    assert!(matches!(by("mine", now).await, Reserved::Granted(_)), "a request that is repeated is granted again");
    assert_eq!(first.headers["x"], "é\"");
    assert!(matches!(reserve(now.after(minute / 2)).await, Reserved::Taken));
    assert!(matches!(reserve(now.after(minute)).await, Reserved::Granted(_)), "a lost reservation ends");
    archive.release(&first).await.unwrap();
    assert!(matches!(reserve(now.after(minute)).await, Reserved::Granted(_)), "one that is given back is free");
    archive.redriven(&first, now).await.unwrap();
    assert!(matches!(reserve(now.after(10 * minute)).await, Reserved::Redriven(_)), "it was sent");
    assert_eq!(archive.get("again").await.unwrap().unwrap().redriven_at, Some(now));

    // It failed again: a newer letter, which an older redrive says nothing about.
    assert_eq!(archive.file(&letter("again", "h", 5, 2)).await.unwrap(), Filed::Written);
    archive.redriven(&first, now).await.unwrap();
    archive.release(&first).await.unwrap();
    assert_eq!(archive.get("again").await.unwrap().unwrap().redriven_at, None);
    assert!(matches!(reserve(now).await, Reserved::Granted(_)));
    assert!(archive.delete("again").await.unwrap());
    archive.redriven(&first, now).await.unwrap();
    assert!(archive.get("again").await.unwrap().is_none(), "a note does not bring back what was deleted");
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    let model = ArchiveModel::default();
    only_what_is_newer_is_written(&model).await;
    one_of_two_redrives_wins(&model).await;
    lists_are_newest_first_and_exact(&model).await;
    model.ping().await.unwrap();
}

fn keys(hash: &str, range: &str) -> Vec<KeySchemaElement> {
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    vec![key(hash, KeyType::Hash), key(range, KeyType::Range)]
}

#[tokio::test]
async fn the_real_table_keeps_the_contract() {
    let client = Stack::running().account().dynamodb();
    let name = format!("contract-{}", fastrand::u64(..));
    let mut create = client.create_table().table_name(&name).key_schema(keys("id", "id").remove(0));
    for attribute in ["id", "month", "destination", "place"] {
        let definition = AttributeDefinition::builder().attribute_name(attribute);
        create = create.attribute_definitions(definition.attribute_type(ScalarAttributeType::S).build().unwrap());
    }
    for (index, hash) in [("by_month", "month"), ("by_destination", "destination")] {
        let projection = Projection::builder().projection_type(ProjectionType::All).build();
        let index = GlobalSecondaryIndex::builder().index_name(index).set_key_schema(Some(keys(hash, "place")));
        create = create.global_secondary_indexes(index.projection(projection).build().unwrap());
    }
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    let table = Table::new(client.clone(), name.clone(), 2_592_000);
    only_what_is_newer_is_written(&table).await;
    let items = client.scan().table_name(&name).send().await.unwrap();
    for item in items.items() {
        assert_eq!(item["expires_at"].as_n().unwrap(), "1702592000");
        let record: DeadLetter = serde_json::from_str(item["record"].as_s().unwrap()).unwrap();
        assert_eq!((&record.webhook_id, record.headers["x"].as_str()), (item["id"].as_s().unwrap(), "é\""));
    }
    one_of_two_redrives_wins(&table).await;
    lists_are_newest_first_and_exact(&table).await;
    table.ping().await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_not_there_keeps_the_letter_in_its_queue() {
    let table = Table::new(Stack::running().account().dynamodb(), "nowhere".into(), 1);
    assert!(table.file(&letter("a", "h", 1, 1)).await.is_err());
    assert!(table.ping().await.is_err());
}
