//! Rates of endpoints: what may not go now waits without an attempt, and asks again.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::endpoint::Card;
use domain::message::Envelope;
use domain::rate::Rate;
use serde_json::json;
use tests::endpoints::{TENANT, card};
use tests::receiver::Reply;
use tests::world::{BEGINNING, World};

use crate::deliveries_to_endpoints::{put, register};

async fn limited(world: &World, per_s: f64) -> Card {
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    card.rate = Some(Rate::try_from(per_s).unwrap());
    register(world, card).await
}

/// What became of a run.
struct Run {
    /// Calls by second from the beginning.
    by_second: BTreeMap<u64, usize>,
    /// Messages received.
    received: usize,
}

/// Works until nothing is left, with the time of the next message whenever none is due.
async fn run(world: &World) -> Run {
    let mut run = Run { by_second: BTreeMap::new(), received: 0 };
    loop {
        let before = world.receiver.count();
        let mut worked = 0;
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            worked += world.step(queue_name).await.0;
        }
        run.received += worked;
        let second = BEGINNING.until(world.clock.now()).as_secs();
        *run.by_second.entry(second).or_default() += world.receiver.count() - before;
        if worked > 0 {
            continue;
        }
        match world.queues.next_visible() {
            Some(at) => world.clock.advance(world.clock.now().until(at).max(Duration::from_millis(1))),
            None => return run,
        }
    }
}

#[tokio::test]
async fn what_a_rate_refuses_waits_without_an_attempt_and_not_among_retries() {
    let world = World::new().await;
    let card = limited(&world, 1.0).await;
    (0..10).for_each(|n| put(&world, &card, &format!("e-{n}")));
    let before = world.redis_round_trips();
    world.step(QueueName::Delivery).await;
    assert_eq!(world.redis_round_trips() - before, 3, "claims, the rate, settlements");
    assert_eq!(world.receiver.count(), 3, "a burst of three");
    assert_eq!((world.queues.all(QueueName::Wait).len(), world.queues.all(QueueName::Retry).len()), (7, 0));
    for waiting in world.queues.all(QueueName::Wait) {
        let Ok(Envelope::Deliver(message)) = Envelope::decode(&waiting.body.into()) else { panic!("no delivery") };
        assert_eq!((message.attempts, message.parked, message.hop), (0, 0, 1));
    }
    let run = run(&world).await;
    assert!(run.by_second.values().skip(1).all(|calls| *calls <= 2), "{:?}", run.by_second);
    assert_eq!(world.receiver.count(), 10);
    assert!(*run.by_second.keys().last().unwrap() <= 9, "{:?}", run.by_second);
}

#[tokio::test]
async fn fifty_a_second_are_held_for_five_thousand_deliveries() {
    const DELIVERIES: usize = 5_000;
    fastrand::seed(4);
    let world = World::new().await;
    let card = limited(&world, 50.0).await;
    (0..DELIVERIES).for_each(|n| put(&world, &card, &format!("e-{n}")));
    let run = run(&world).await;
    let (most, last) = (
        run.by_second.range(1..).map(|(_, calls)| *calls).max().unwrap(),
        run.by_second.iter().rev().find(|(_, calls)| **calls > 0).map(|(second, _)| *second).unwrap(),
    );
    println!(
        "{DELIVERIES} at 50/s: {} receives, at most {most} calls in a second, the last after {last} s",
        run.received
    );
    assert_eq!(world.receiver.count(), DELIVERIES, "no attempt is spent, and none made twice");
    assert!(most <= 55, "{:?}", run.by_second);
    assert!(last <= 110, "{last} s");
    assert!(run.received <= 3 * DELIVERIES, "{} receives", run.received);
}

#[tokio::test]
async fn a_low_rate_delivers() {
    let world = World::new().await;
    let card = limited(&world, 0.1).await;
    (0..8).for_each(|n| put(&world, &card, &format!("e-{n}")));
    let run = run(&world).await;
    assert_eq!(world.receiver.count(), 8);
    assert!(*run.by_second.keys().last().unwrap() <= 60, "{:?}", run.by_second);
}

#[tokio::test]
async fn a_429_with_retry_after_stops_calls_until_then_and_they_begin_slowly() {
    let world = World::new().await;
    let card = register(&world, card(1, &world.receiver.url("/"), world.clock.now())).await;
    world.receiver.answer([Reply { headers: vec![("retry-after", "120".into())], ..429.into() }]);
    put(&world, &card, "first");
    world.step(QueueName::Delivery).await;
    (0..40).for_each(|n| put(&world, &card, &format!("e-{n}")));
    for _ in 0..5 {
        world.step(QueueName::Delivery).await;
    }
    assert_eq!(world.receiver.count(), 1, "nobody calls during the block");
    let run = run(&world).await;
    assert_eq!(world.receiver.count(), 42);
    let first = run.by_second.iter().find(|(_, calls)| **calls > 0).map(|(second, _)| *second).unwrap();
    assert!(first >= 120, "{:?}", run.by_second);
    assert!(run.by_second.values().all(|calls| *calls <= 11), "{:?}", run.by_second);
    let shown = world.get(&format!("/tenants/{TENANT}/events/e-0/deliveries/{}", card.id)).await.1;
    assert_eq!(shown["lives"][0]["attempt_count"], 1);
}

#[tokio::test]
async fn without_redis_no_rate_is_held_and_with_it_at_once_again() {
    let mut world = World::new().await;
    let card = limited(&world, 1.0).await;
    put(&world, &card, "warm");
    world.step(QueueName::Delivery).await;
    (0..10).for_each(|n| put(&world, &card, &format!("a-{n}")));
    world.redis.stop();
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 11, "deliveries go on");
    world.redis.resume();
    world.clock.advance(Duration::from_secs(10));
    (0..10).for_each(|n| put(&world, &card, &format!("b-{n}")));
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 11 + 3, "its burst, as it forgot everything");
    world.settle().await;
}

#[tokio::test]
async fn a_test_goes_whatever_the_rate_says() {
    let world = World::new().await;
    let card = limited(&world, 0.1).await;
    (0..5).for_each(|n| put(&world, &card, &format!("e-{n}")));
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 3);
    let mut test = tests::endpoints::message(&card, "test", "1", world.clock.now());
    test.delivery.endpoint.as_mut().unwrap().is_test = true;
    world.queues.put(QueueName::Delivery, &test.encode().unwrap());
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 4);
    assert_eq!(
        world.get(&format!("/tenants/{TENANT}/events/e-4/deliveries/{}", card.id)).await.1["lives"][0]["status"],
        json!("pending")
    );
    world.settle().await;
}
