//! What goes to slow receivers has a queue of its own, so that nobody waits for it.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use serde_json::json;
use tests::receiver::Reply;
use tests::world::World;

use crate::deliveries_to_endpoints::{endpoint, put};

/// Notes that the last call to a receiver took so long.
fn note_duration(world: &World, receiver: &str, ms: u64) {
    let mut note = redis::cmd("HSET");
    note.arg(format!("endpoint_state:{receiver}")).arg("last_duration_ms").arg(ms);
    let _: i64 = note.query(&mut world.redis.connect()).unwrap();
}

#[tokio::test]
async fn what_goes_to_a_slow_endpoint_moves_to_the_queue_for_that_without_a_call() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    note_duration(&world, &card.id, 2_001);
    put(&world, &card, "a");
    let before = world.redis_round_trips();
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    assert_eq!((world.receiver.count(), world.queues.all(QueueName::Slow).len()), (0, 1));
    assert_eq!(world.redis_round_trips() - before, 2);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.step(QueueName::Slow).await, (1, 0));
    assert_eq!(world.receiver.count(), 1);
    // That call was fast, so the next one does not move.
    put(&world, &card, "b");
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_direct_webhook_to_a_slow_origin_moves_too() {
    let world = World::new().await;
    note_duration(&world, &world.receiver.origin(), 2_001);
    let id = world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    assert_eq!((world.receiver.count(), world.queues.all(QueueName::Slow).len()), (0, 1));
    let waiting = world.status(&id).await;
    assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("pending"), &json!(0)));
    world.settle().await;
    assert_eq!(world.status(&id).await["status"], "delivered");
}

#[tokio::test]
async fn two_seconds_and_more_are_noted_and_a_fast_answer_ends_it() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([Reply { after: Duration::from_millis(2_050), ..200.into() }]);
    put(&world, &card, "a");
    world.step(QueueName::Delivery).await;
    put(&world, &card, "b");
    put(&world, &card, "c");
    world.step(QueueName::Delivery).await;
    assert_eq!((world.receiver.count(), world.queues.all(QueueName::Slow).len()), (1, 2));
    world.settle().await;
    assert_eq!(world.receiver.count(), 3);
}

#[tokio::test]
async fn a_fast_direct_webhook_costs_no_note() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("endpoint_state:*").query(&mut world.redis.connect()).unwrap();
    assert_eq!(keys, [""; 0]);
}

#[tokio::test]
async fn a_call_counts_as_slow_while_it_is_under_way() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([Reply { after: Duration::from_secs(5), ..200.into() }]);
    put(&world, &card, "a");
    let others = async {
        world.receiver.wait_for(1).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        put(&world, &card, "b");
        world.step(QueueName::Delivery).await;
        (world.receiver.count(), world.queues.all(QueueName::Slow).len())
    };
    let (first, meanwhile) = tokio::join!(world.step(QueueName::Delivery), others);
    assert_eq!((first, meanwhile), ((1, 0), (1, 1)), "it moved before the first call had ended");
    world.settle().await;
    assert_eq!(world.receiver.count(), 2);
}
