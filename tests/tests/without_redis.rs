//! A Redis that is gone: deliveries go on, and what happened becomes known later.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::time::Duration;

use adapters::sqs::Lane;
use serde_json::json;
use tests::world::World;

#[tokio::test]
async fn accepted_and_delivered_without_redis_and_known_when_it_is_back() {
    let mut world = World::new().await;
    world.redis.stop();
    for i in 0..3 {
        world.enqueue(&format!("a-{i}"), "1").await;
    }
    assert_eq!(world.step(Lane::Delivery).await, (3, 0));
    assert_eq!(world.receiver.arrivals().len(), 3);
    assert_eq!(world.queues.all(Lane::Retry).len(), 3, "what happened is queued");
    world.redis.resume();
    world.settle().await;
    for i in 0..3 {
        let status = world.status(&format!("a-{i}")).await;
        assert_eq!((&status["status"], &status["attempts"]), (&json!("delivered"), &json!(1)));
        assert!(status["ttl_seconds"].as_u64().unwrap() <= 1800);
    }
    assert_eq!(world.receiver.arrivals().len(), 3);
}

#[tokio::test]
async fn a_redis_that_goes_away_in_mid_attempt_costs_no_second_call() {
    let mut world = World::new().await;
    world.enqueue("a", "1").await;
    world.receiver.always(tests::receiver::Reply { after: Duration::from_millis(300), ..200.into() });
    let url = world.redis.url();
    let stopping = async {
        world.receiver.wait_for(1).await;
        let mut look = redis::Client::open(url).unwrap().get_connection().unwrap();
        // It answers no more: SHUTDOWN closes the connection without a reply.
        assert!(redis::cmd("SHUTDOWN").arg("NOSAVE").query::<()>(&mut look).is_err());
    };
    let (stepped, ()) = tokio::join!(world.step(Lane::Delivery), stopping);
    assert_eq!(stepped, (1, 0), "a 200 is acknowledged whatever Redis does");
    world.redis.stop();
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 1);
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn without_redis_and_queue_a_200_is_let_go_and_never_repeated() {
    let mut world = World::new().await;
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.queues.breaks(Some(Lane::Retry));
    assert_eq!(world.step(Lane::Delivery).await, (1, 0));
    world.queues.breaks(None);
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn the_retry_budget_holds_without_redis() {
    let mut world = World::new().await;
    world.receiver.always(500u16);
    world.redis.stop();
    world.enqueue("a", "1").await;
    for _ in 0..400 {
        world.step(Lane::Delivery).await;
        world.step(Lane::Retry).await;
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.receiver.arrivals().len(), 4);
    assert_eq!(world.queues.all(Lane::DeadLetter).len(), 1);
    world.redis.resume();
    world.settle().await;
    world.file().await;
    assert_eq!(
        (&world.status("a").await["status"], &world.status("a").await["attempts"]),
        (&json!("failed"), &json!(4))
    );
}

#[tokio::test]
async fn an_outcome_waits_longer_and_longer_and_never_comes_back_as_failed() {
    let mut world = World::new().await;
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.step(Lane::Delivery).await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let began = world.clock.now();
        world.clock.advance(began.until(world.queues.next_visible().unwrap()));
        waits.push(began.until(world.clock.now()).as_secs());
        assert_eq!(world.step(Lane::Retry).await, (1, 0));
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(waits.last(), Some(&900));
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn an_outcome_that_was_received_too_often_is_applied_and_never_filed() {
    let mut world = World::new().await;
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.step(Lane::Delivery).await;
    let report = world.queues.all(Lane::Retry).remove(0).body;
    world.redis.resume();
    world.queues.put(Lane::DeadLetter, &report);
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.status("a").await["status"], "delivered");
    assert!(world.archive.all().is_empty());
}

#[tokio::test]
async fn a_redis_that_lost_everything_costs_nothing_but_the_view() {
    let world = World::new().await;
    world.receiver.answer([500u16, 200]);
    world.enqueue("a", "1").await;
    world.step(Lane::Delivery).await;
    let _: () = redis::cmd("FLUSHALL").query(&mut world.redis.connect()).unwrap();
    world.settle().await;
    let status = world.status("a").await;
    assert_eq!((&status["status"], &status["attempts"]), (&json!("delivered"), &json!(2)));
    assert_eq!(world.receiver.arrivals().len(), 2);
}
