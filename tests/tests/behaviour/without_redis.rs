//! While Redis is away, deliveries go on. What happened is recorded when it is back.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use serde_json::json;
use tests::world::World;

#[tokio::test]
async fn accepted_and_delivered_without_redis_and_known_when_it_is_back() {
    let mut world = World::new().await;
    world.redis.stop();
    for i in 0..3 {
        world.enqueue(&format!("a-{i}"), "1").await;
    }
    assert_eq!(world.step(QueueName::Delivery).await, (3, 0));
    assert_eq!(world.receiver.arrivals().len(), 3);
    assert_eq!(world.queues.all(QueueName::Retry).len(), 1, "the outcomes of a batch are queued in one message");
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
async fn what_large_batches_could_not_tell_redis_is_recorded_ten_messages_at_a_time() {
    let mut world = World::new().await;
    world.batch_size = 100;
    world.redis.stop();
    for i in 0..200 {
        world.enqueue(&format!("a-{i}"), "1").await;
    }
    for _ in 0..2 {
        assert_eq!(world.step(QueueName::Delivery).await, (100, 0));
    }
    assert_eq!(world.queues.all(QueueName::Retry).len(), 20, "ten outcomes a message");
    world.redis.resume();
    world.clock.advance(Duration::from_secs(60));
    let before = world.redis_round_trips();
    assert_eq!(world.step(QueueName::Retry).await, (20, 0));
    assert_eq!(world.redis_round_trips() - before, 2);
    assert_eq!(world.queues.all(QueueName::Retry).len(), 10, "the others wait");
    world.settle().await;
    for i in 0..200 {
        assert_eq!(world.status(&format!("a-{i}")).await["status"], "delivered");
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_while_redis_is_away_is_delivered_once() {
    let mut world = World::new().await;
    world.redis.stop();
    for _ in 0..2 {
        world.enqueue("a", "1").await;
        world.clock.advance(Duration::from_millis(20));
    }
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 2, "nobody knows yet that it is the same");
    world.redis.resume();
    world.clock.advance(Duration::from_secs(5));
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 1);
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn a_redis_that_failed_is_left_alone_for_a_while_and_then_tried_once() {
    let mut world = World::new().await;
    world.enqueue("a", "1").await;
    world.redis.stop();
    let mut trips = Vec::new();
    for n in 0..6 {
        world.enqueue(&format!("b-{n}"), "1").await;
        let before = world.redis_round_trips();
        world.step(QueueName::Delivery).await;
        trips.push(world.redis_round_trips() - before);
        if n >= 3 {
            world.clock.advance(Duration::from_secs(5));
        }
    }
    assert_eq!(trips, [1, 0, 0, 0, 1, 1], "one try, and one more whenever its time is over");
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.status("b-5").await["status"], "delivered");
}

#[tokio::test]
async fn failures_that_redis_missed_open_the_breaker_when_it_is_back() {
    let world = failures_that_redis_missed().await;
    world.clock.advance(Duration::from_secs(20));
    world.step(QueueName::Retry).await;
    let (_, listed) = world.get("/circuit-breakers?state=open").await;
    assert_eq!(listed["circuit_breakers"].as_array().unwrap().len(), 1, "{listed}");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn failures_that_redis_missed_too_long_ago_open_nothing() {
    let world = failures_that_redis_missed().await;
    world.clock.advance(Duration::from_secs(61));
    world.receiver.always(200);
    world.step(QueueName::Retry).await;
    let (_, listed) = world.get("/circuit-breakers?state=open").await;
    assert_eq!(listed["circuit_breakers"].as_array().unwrap().len(), 0, "{listed}");
}

/// Five calls fail while Redis goes away, and it comes back.
async fn failures_that_redis_missed() -> World {
    let mut world = World::new().await;
    for n in 0..5 {
        world.enqueue(&format!("a-{n}"), "1").await;
    }
    world.receiver.always(tests::receiver::Reply { after: Duration::from_millis(300), ..500.into() });
    let url = world.redis.url();
    let stopping = async {
        world.receiver.wait_for(5).await;
        let mut look = redis::Client::open(url).unwrap().get_connection().unwrap();
        assert!(redis::cmd("SHUTDOWN").arg("NOSAVE").query::<()>(&mut look).is_err());
    };
    tokio::join!(world.step(QueueName::Delivery), stopping);
    world.redis.stop();
    world.redis.resume();
    let outcomes = world.queues.all(QueueName::Retry).into_iter().find(|message| message.body.contains("\"outcomes\""));
    assert!(outcomes.unwrap().body.contains("\"unhealthy\""), "the report waits with the outcomes");
    world
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
        // SHUTDOWN closes the connection without a reply.
        assert!(redis::cmd("SHUTDOWN").arg("NOSAVE").query::<()>(&mut look).is_err());
    };
    let (stepped, ()) = tokio::join!(world.step(QueueName::Delivery), stopping);
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
    world.queues.breaks(Some(QueueName::Retry));
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
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
        world.step(QueueName::Delivery).await;
        world.step(QueueName::Retry).await;
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.receiver.arrivals().len(), 4);
    assert_eq!(world.queues.all(QueueName::DeadLetter).len(), 1);
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
    world.step(QueueName::Delivery).await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let began = world.clock.now();
        world.clock.advance(began.until(world.queues.next_visible().unwrap()));
        waits.push(began.until(world.clock.now()).as_secs());
        assert_eq!(world.step(QueueName::Retry).await, (1, 0));
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(waits.last(), Some(&300));
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn an_outcome_that_was_received_too_often_is_applied_and_never_filed() {
    let mut world = World::new().await;
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    let late_outcome = world.queues.all(QueueName::Retry).remove(0).body;
    world.redis.resume();
    world.queues.put(QueueName::DeadLetter, &late_outcome);
    assert_eq!(world.file().await, (1, 0));
    // Nothing touches the record again, so it must be in its list now.
    let (_, page) = world.get("/webhook-statuses?status=delivered").await;
    assert_eq!(page["webhooks"][0]["webhook_id"], "a");
    assert_eq!(world.status("a").await["status"], "delivered");
    assert!(world.store.all().is_empty());
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_redis_that_lost_everything_costs_nothing_but_the_view() {
    let world = World::new().await;
    world.receiver.answer([500u16, 200]);
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    let _: () = redis::cmd("FLUSHALL").query(&mut world.redis.connect()).unwrap();
    world.settle().await;
    let status = world.status("a").await;
    assert_eq!((&status["status"], &status["attempts"]), (&json!("delivered"), &json!(2)));
    assert_eq!(world.receiver.arrivals().len(), 2);
}
