//! What history learns of deliveries: every one that ended, with its attempts, whatever failed
//! meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::history::{History as _, RowKey};
use adapters::redis::recent;
use adapters::redis::transport::{Redis, RedisConfig};
use domain::history::Row;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::reason::Reason;
use serde_json::{Value, json};
use tests::receiver::Reply;
use tests::world::World;

use crate::deliveries_to_endpoints::{endpoint, put};

/// The ends of deliveries that history has.
fn ends(world: &World) -> Vec<EndedDelivery> {
    let is_delivery = |row: &Row| row.partition.starts_with("L#") || row.partition.starts_with("D#");
    let rows = world.history.all().into_iter().filter(is_delivery);
    rows.map(|row| serde_json::from_str(&row.body).unwrap()).collect()
}

/// History loses everything, as if whoever had to tell it had ended before.
async fn forget(world: &World) {
    let key = |row: &Row| RowKey { partition: row.partition.clone(), place: row.place.clone() };
    let keys: Vec<RowKey> = world.history.all().iter().map(key).collect();
    world.history.delete(&keys).await.unwrap();
}

fn codes(ended: &EndedDelivery) -> Vec<Option<u16>> {
    ended.history.attempts.iter().map(|attempt| attempt.code).collect()
}

#[tokio::test]
async fn every_delivery_that_ended_is_kept_with_each_attempt() {
    let world = World::new().await;
    world.leaves([QueueName::DeadLetter]);
    let card = endpoint(&world).await;
    world.receiver.answer([Reply { body: "not now".into(), ..503.into() }, Reply { body: "ok".into(), ..200.into() }]);
    put(&world, &card, "order-1");
    world.settle().await;
    world.receiver.answer([410]);
    put(&world, &card, "order-2");
    world.settle().await;
    world.enqueue("direct-1", "1").await;
    world.settle().await;

    let ends = ends(&world);
    let of = |id: &str| ends.iter().find(|ended| ended.delivery_id() == id).unwrap();
    let delivered = of(&format!("order-1.{}", card.id));
    assert_eq!((delivered.result, codes(delivered)), (DeliveryEnd::Delivered, vec![Some(503), Some(200)]));
    let answers: Vec<_> = delivered.history.attempts.iter().map(|attempt| attempt.answer.as_deref()).collect();
    assert_eq!(answers, [Some("not now"), Some("ok")]);
    assert_eq!((delivered.attempts, delivered.hop, delivered.history.count), (2, 1, 2));
    let given_up = of(&format!("order-2.{}", card.id));
    assert_eq!((given_up.result, codes(given_up)), (DeliveryEnd::GivenUp(Reason::Gone), vec![Some(410)]));
    let direct = of("direct-1");
    assert_eq!(
        (direct.result, codes(direct), direct.target.is_none()),
        (DeliveryEnd::Delivered, vec![Some(200)], true)
    );
    assert_eq!(ends.len(), 3);
}

#[tokio::test]
async fn a_batch_is_one_write_and_one_without_an_end_is_none() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    for n in 0..10 {
        put(&world, &card, &format!("order-{n}"));
    }
    let (before, trips) = (world.history.calls(), world.redis_round_trips());
    assert_eq!(world.step(QueueName::Delivery).await, (10, 0));
    assert_eq!(world.history.calls(), (before.0 + 1, before.1));
    assert_eq!(world.redis_round_trips() - trips, 2, "history costs no round trip to Redis");
    world.receiver.answer([503]);
    put(&world, &card, "retried");
    let before = world.history.calls();
    world.step(QueueName::Delivery).await;
    assert_eq!(world.history.calls(), before);
    world.settle().await;
}

#[tokio::test]
async fn with_no_days_nothing_is_kept() {
    let world = World::with(&[("HISTORY_DAYS", "0")]).await;
    let card = endpoint(&world).await;
    world.event("order-1", "order.paid", "1").await;
    put(&world, &card, "order-2");
    world.enqueue("direct-1", "1").await;
    world.settle().await;
    assert_eq!((world.history.all(), world.history.calls()), (Vec::new(), (0, 0)));
}

#[tokio::test]
async fn a_table_that_is_away_for_a_minute_has_all_rows_afterwards() {
    let world = World::new().await;
    world.leaves([QueueName::DeadLetter]);
    let card = endpoint(&world).await;
    let mut given_up = 0;
    for n in 0..1000 {
        match n {
            250 => world.history.be_away(true),
            750 => world.history.be_away(false),
            _ => {}
        }
        // Every tenth is given up at once.
        if n % 10 == 0 {
            world.receiver.answer([410]);
            given_up += 1;
        }
        put(&world, &card, &format!("order-{n}"));
        world.step(QueueName::Delivery).await;
        world.clock.advance(Duration::from_millis(120));
    }
    let before = ends(&world).len();
    assert!(before < 1000, "it was away");
    world.settle().await;
    let ends = ends(&world);
    let ids: BTreeSet<String> = ends.iter().map(EndedDelivery::delivery_id).collect();
    assert_eq!((ends.len(), ids.len()), (1000, 1000));
    assert_eq!(ends.iter().filter(|ended| !ended.is_delivered()).count(), given_up);
    assert_eq!(world.receiver.count(), 1000, "no call was repeated for it");
}

#[tokio::test]
async fn an_end_that_a_process_did_not_live_to_tell_is_told_by_the_next_one() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([Reply { body: "thanks".into(), ..200.into() }]);
    for id in ["order-1", "direct-1"] {
        if id == "order-1" {
            put(&world, &card, id);
        } else {
            world.enqueue(id, "1").await;
        }
        let taken = world.queues.receive(QueueName::Delivery, 1);
        let doubled = taken[0].clone();
        world.queues.duplicate(QueueName::Delivery, &doubled);
        world.queues.delete(QueueName::Delivery, &doubled);
        world.settle().await;
        let told = ends(&world).pop().unwrap();
        // As if the process had ended between the record and the row.
        forget(&world).await;
        world.queues.put(QueueName::Delivery, &doubled.message.body);
        world.settle().await;
        let again = ends(&world).pop().unwrap();
        assert_eq!((again.delivery_id(), again.hop, again.result), (told.delivery_id(), told.hop, told.result));
        assert_eq!(codes(&again), codes(&told));
        if id == "order-1" {
            assert_eq!(again.history, told.history, "the record of an endpoint's delivery has all of it");
        }
        forget(&world).await;
    }
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_repeated_end_does_not_change_what_is_kept() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "order-1");
    let body = world.queues.all(QueueName::Delivery)[0].body.clone();
    world.settle().await;
    let before = world.history.all();
    world.clock.advance(Duration::from_secs(60));
    world.queues.put(QueueName::Delivery, &body);
    world.settle().await;
    assert_eq!(world.history.all(), before);
}

#[tokio::test]
async fn two_different_ends_of_one_delivery_are_both_kept_and_it_counts_as_delivered() {
    let mut world = World::new().await;
    // The notice of the one that was given up waits, too.
    world.leaves([QueueName::DeadLetter, QueueName::Retry, QueueName::Event]);
    let card = endpoint(&world).await;
    put(&world, &card, "order-1");
    let body = world.queues.all(QueueName::Delivery)[0].body.clone();
    world.queues.put(QueueName::Delivery, &body);
    // Without Redis nobody knows of the other.
    world.redis.stop();
    world.receiver.answer([410, 200]);
    for _ in 0..2 {
        let taken = world.queues.receive(QueueName::Delivery, 1);
        assert_eq!(taken.len(), 1);
        world.queues.put(QueueName::Retry, &taken[0].message.body);
        world.queues.delete(QueueName::Delivery, &taken[0]);
        world.step(QueueName::Retry).await;
    }
    let mut results: Vec<_> = ends(&world).iter().map(|ended| ended.result.as_str()).collect();
    results.sort_unstable();
    assert_eq!(results, ["delivered", "gone"]);
}

#[tokio::test]
async fn a_dead_letter_tells_history_what_it_missed() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([410]);
    put(&world, &card, "order-1");
    world.settle().await;
    let told = ends(&world);
    forget(&world).await;
    assert_eq!(world.file().await, (1, 0));
    let again = ends(&world);
    assert_eq!((again.len(), &again[0].history, again[0].result), (1, &told[0].history, told[0].result));
    // It is also known where the dead letter is.
    let is_pointer = |row: &Row| row.partition == "X#acme" && row.place == format!("order-1#order-1.{}", card.id);
    assert!(world.history.all().iter().any(is_pointer));
}

#[tokio::test]
async fn dead_letters_of_tenants_wait_for_history_and_others_do_not() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(410);
    put(&world, &card, "order-1");
    world.enqueue("direct-1", "1").await;
    world.settle().await;
    world.history.be_away(true);
    let (seen, kept) = world.file().await;
    // The direct one waits as well: its end may be missing from history.
    assert_eq!((seen, kept), (2, 2));
    world.history.be_away(false);
    world.clock.advance(Duration::from_secs(400));
    assert_eq!(world.file().await, (2, 0));
    assert_eq!(world.store.all().len(), 2);
}

#[tokio::test]
async fn what_ended_last_and_the_sums_of_the_minute_are_there_to_look_at() {
    let world = World::new().await;
    world.leaves([QueueName::DeadLetter]);
    let card = endpoint(&world).await;
    world.receiver.answer([503, 200, 410]);
    put(&world, &card, "order-1");
    world.settle().await;
    put(&world, &card, "order-2");
    world.settle().await;
    world.enqueue("direct-1", "1").await;
    world.settle().await;

    let redis = Redis::open(&RedisConfig::node(world.redis.url()), world.clock.clone()).unwrap();
    let latest = recent::latest(10).run(&redis).await.unwrap();
    let latest: Vec<Value> = latest.iter().map(|entry| serde_json::from_str(entry).unwrap()).collect();
    let told: Vec<_> = latest.iter().map(|entry| (entry["delivery_id"].clone(), entry["result"].clone())).collect();
    assert_eq!(
        told,
        [
            (json!("direct-1"), json!("delivered")),
            (json!(format!("order-2.{}", card.id)), json!("gone")),
            (json!(format!("order-1.{}", card.id)), json!("delivered")),
        ]
    );
    assert_eq!(latest[0]["destination"], world.receiver.origin());
    assert_eq!((&latest[1]["tenant"], &latest[1]["endpoint_id"]), (&json!("acme"), &json!(card.id)));
    assert!(latest[1].get("destination").is_none());

    let minutes = recent::read(world.clock.now(), 60).run(&redis).await.unwrap();
    let sum = |field: &str| minutes.iter().filter_map(|sums| sums.get(field)).sum::<u64>();
    assert_eq!((sum("delivered"), sum("failed"), sum("retried"), sum("calls")), (2, 1, 1, 4));
}

#[tokio::test]
async fn what_waits_is_listed_for_its_endpoint_until_it_ends() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    let redis = Redis::open(&RedisConfig::node(world.redis.url()), world.clock.clone()).unwrap();
    let waiting = || adapters::redis::waiting::count(&card.id).run(&redis);
    put(&world, &card, "at-once");
    world.settle().await;
    assert_eq!(waiting().await.unwrap(), 0);
    world.receiver.answer([503, 503]);
    put(&world, &card, "order-1");
    put(&world, &card, "order-2");
    world.step(QueueName::Delivery).await;
    assert_eq!(waiting().await.unwrap(), 2);
    world.settle().await;
    assert_eq!(waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn a_row_that_neither_history_nor_the_queue_takes_costs_no_second_call() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.history.be_away(true);
    world.queues.breaks(Some(QueueName::Retry));
    put(&world, &card, "order-1");
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    world.queues.breaks(None);
    world.history.be_away(false);
    world.settle().await;
    assert_eq!((world.receiver.count(), ends(&world).len()), (1, 0));
    let (code, status) = world.get(&format!("/tenants/acme/events/order-1/deliveries/{}", card.id)).await;
    assert_eq!((code, &status["status"]), (200, &json!("delivered")));
}
