//! Redrive when an id was used more than once: which dead letter stands under it, what is
//! sent, and when nothing is.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use serde_json::{Value, json};
use tests::world::World;

/// One delivery that a receiver refuses, filed.
async fn fail(world: &World, id: &str, payload: &str) {
    world.receiver.answer([410u16]);
    world.enqueue(id, payload).await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
}

/// One delivery that succeeds.
async fn succeed(world: &World, id: &str, payload: &str) {
    world.enqueue(id, payload).await;
    world.settle().await;
    assert_eq!(world.status(id).await["status"], "delivered");
}

/// A day goes by: the records of finished deliveries are gone.
async fn forget(world: &World) {
    world.clock.advance(Duration::from_secs(86_400));
    let (code, answer) = world.post("/webhook-cleanup", "").await;
    assert_eq!((code, &answer["complete"]), (200, &json!(true)), "{answer}");
}

async fn letter(world: &World, id: &str) -> Value {
    let (code, answer) = world.get(&format!("/dead-letters/{id}")).await;
    assert_eq!(code, 200, "{id}: {answer}");
    answer
}

/// The ids of all dead letters, newest first.
async fn letters(world: &World) -> Vec<String> {
    let (_, page) = world.get("/dead-letters").await;
    let all = page["dead_letters"].as_array().unwrap();
    all.iter().map(|letter| letter["webhook_id"].as_str().unwrap().to_owned()).collect()
}

async fn redrive(world: &World, id: &str) -> (u16, Value) {
    world.operate(&format!("/dead-letters/{id}/redrive"), json!({})).await
}

/// A redrive that is refused, and why.
async fn refused(world: &World, id: &str) -> String {
    let before = world.queues.all(QueueName::Retry).len();
    let (code, answer) = redrive(world, id).await;
    assert_eq!(code, 409, "{answer}");
    assert_eq!(world.queues.all(QueueName::Retry).len(), before, "nothing is sent");
    answer["detail"].as_str().unwrap().to_owned()
}

/// Webhook id and body of the last call.
fn last_call(world: &World) -> (String, String) {
    let last = world.receiver.arrivals().pop().unwrap();
    (last.header("webhook-id").to_owned(), String::from_utf8(last.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_dead_letter_that_was_redriven_gives_way_to_a_newer_one_under_its_id() {
    let world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    assert_eq!(redrive(&world, "daily").await.0, 202);
    world.settle().await;
    assert_eq!(last_call(&world), ("daily".to_owned(), r#""monday""#.to_owned()));
    forget(&world).await;

    fail(&world, "daily", r#""tuesday""#).await;
    assert_eq!(letters(&world).await, ["daily"]);
    let shown = letter(&world, "daily").await;
    assert_eq!((&shown["payload"], shown.get("reused_id"), shown.get("redriven_at")), (&json!("tuesday"), None, None));
    let redis: String = redis::cmd("GET").arg("dead_letter:webhook:daily").query(&mut world.redis.connect()).unwrap();
    assert!(redis.contains("tuesday") && !redis.contains("monday"), "{redis}");
    assert_eq!(redrive(&world, "daily").await, (202, json!({"webhook_id": "daily", "status": "pending"})));
    world.settle().await;
    assert_eq!(last_call(&world), ("daily".to_owned(), r#""tuesday""#.to_owned()));
    assert_eq!(world.receiver.count(), 4);
    assert_eq!(world.status("daily").await["status"], "delivered");
}

#[tokio::test]
async fn a_dead_letter_that_nobody_redrove_keeps_its_place_and_both_keep_their_webhook_id() {
    let world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    forget(&world).await;
    fail(&world, "daily", r#""tuesday""#).await;
    let all = letters(&world).await;
    assert_eq!((all.len(), all[1].as_str()), (2, "daily"));
    assert_eq!(letter(&world, "daily").await["payload"], "monday");
    let apart = letter(&world, &all[0]).await;
    assert_eq!((&apart["payload"], &apart["reused_id"]), (&json!("tuesday"), &json!("daily")));

    // The record under this id is Tuesday's.
    assert!(refused(&world, "daily").await.contains("another body"));
    assert_eq!(letter(&world, "daily").await.get("redriven_at"), None);
    assert_eq!(redrive(&world, &all[0]).await, (202, json!({"webhook_id": "daily", "status": "pending"})));
    world.settle().await;
    assert_eq!(last_call(&world), ("daily".to_owned(), r#""tuesday""#.to_owned()));
    assert_eq!(world.status("daily").await["status"], "delivered");

    forget(&world).await;
    assert_eq!(redrive(&world, "daily").await.0, 202);
    world.settle().await;
    assert_eq!(last_call(&world), ("daily".to_owned(), r#""monday""#.to_owned()));
    assert_eq!(world.receiver.count(), 4);
}

#[tokio::test]
async fn a_redrive_from_apart_that_fails_is_filed_apart_again_or_under_its_own_id() {
    let world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    forget(&world).await;
    fail(&world, "daily", r#""tuesday""#).await;
    let apart = letters(&world).await.remove(0);
    let fail_again = async || {
        world.receiver.answer([410u16]);
        assert_eq!(redrive(&world, &apart).await.0, 202);
        world.settle().await;
        assert_eq!(world.file().await, (1, 0));
    };
    fail_again().await;
    let again = letter(&world, &apart).await;
    assert_eq!((&again["payload"], again.get("redriven_at")), (&json!("tuesday"), None), "it can be redriven again");
    assert_eq!(world.status("daily").await["status"], "failed");
    // Monday's is redriven. Then it gives way.
    forget(&world).await;
    assert_eq!(redrive(&world, "daily").await.0, 202);
    world.settle().await;
    forget(&world).await;
    fail_again().await;
    let under_its_id = letter(&world, "daily").await;
    assert_eq!((&under_its_id["payload"], under_its_id.get("reused_id")), (&json!("tuesday"), None));
    assert!(letter(&world, &apart).await["redriven_at"].is_string());
}

#[tokio::test]
async fn a_delivery_that_is_filed_apart_has_a_true_status() {
    let world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    forget(&world).await;
    world.enqueue("daily", r#""tuesday""#).await;
    // Its consumers never come back, and SQS gives it up: only `archive` can tell.
    for _ in 0..100 {
        assert_eq!(world.queues.receive(QueueName::Delivery, 10).len(), 1);
        world.clock.advance(Duration::from_secs(360));
    }
    assert!(world.queues.receive(QueueName::Delivery, 10).is_empty());
    assert_eq!(world.file().await, (1, 0));
    let all = letters(&world).await;
    assert_eq!((all.len(), letter(&world, &all[0]).await["reused_id"].as_str()), (2, Some("daily")));
    assert_eq!(world.status("daily").await["status"], "failed");
}

#[tokio::test]
async fn a_redrive_of_what_was_delivered_meanwhile_says_so_and_is_over() {
    let world = World::new().await;
    fail(&world, "a", "1").await;
    forget(&world).await;
    succeed(&world, "a", "1").await;
    assert!(refused(&world, "a").await.contains("succeeded"));
    let (_, bulk) = world.operate("/dead-letters/redrive", json!({})).await;
    assert_eq!(bulk, json!({"matched": 0, "redriven": 0, "complete": true}));
    // Nobody needs it, so it gives way.
    forget(&world).await;
    fail(&world, "a", "2").await;
    assert_eq!((letters(&world).await, &letter(&world, "a").await["payload"]), (vec!["a".to_owned()], &json!(2)));
}

#[tokio::test]
async fn a_redrive_that_a_claim_would_drop_says_so() {
    let world = World::new().await;
    // The client sent it once more by itself.
    fail(&world, "a", "1").await;
    forget(&world).await;
    world.enqueue("a", "1").await;
    assert!(refused(&world, "a").await.contains("under way"));
    world.settle().await;

    // Its redrive failed, and that is not filed yet.
    fail(&world, "b", "1").await;
    assert_eq!(redrive(&world, "b").await.0, 202);
    world.receiver.answer([410u16]);
    world.settle().await;
    assert!(refused(&world, "b").await.contains("failed since"));
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(redrive(&world, "b").await.0, 202);
    world.settle().await;
    assert_eq!(redrive(&world, "b").await, (202, json!({"webhook_id": "b", "status": "delivered"})));

    // It was redriven, and nobody knows any more how that ended.
    forget(&world).await;
    assert!(refused(&world, "b").await.contains("redriven before"));
}

#[tokio::test]
async fn without_redis_a_redrive_under_a_reused_id_comes_back_as_a_dead_letter() {
    let mut world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    forget(&world).await;
    succeed(&world, "daily", r#""tuesday""#).await;
    world.redis.stop();
    assert_eq!(redrive(&world, "daily").await.0, 202);
    // The data of Tuesday is restored.
    world.redis.resume();
    succeed(&world, "daily", r#""tuesday""#).await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    let found = letters(&world).await;
    let back = letter(&world, found.iter().find(|id| id.starts_with("reused-")).unwrap()).await;
    assert_eq!((&back["payload"], &back["reused_id"]), (&json!("monday"), &json!("daily")));
    assert_eq!(world.receiver.count(), 3, "one call for Monday and two for Tuesday");
}

#[tokio::test]
async fn a_bulk_redrive_skips_what_a_claim_would_drop_and_goes_on() {
    let world = World::new().await;
    for i in 0..3 {
        fail(&world, &format!("good-{i}"), "1").await;
    }
    for i in 0..12 {
        fail(&world, &format!("used-{i:02}"), "1").await;
    }
    forget(&world).await;
    for i in 0..12 {
        succeed(&world, &format!("used-{i:02}"), if i == 0 { "1" } else { "2" }).await;
    }
    let (_, dry) = world.operate("/dead-letters/redrive", json!({"limit": 3, "dry_run": true})).await;
    assert_eq!(dry, json!({"matched": 3, "redriven": 0, "complete": false}));
    // The newest come first, and they are those that would be dropped.
    let (_, answer) = world.operate("/dead-letters/redrive", json!({"limit": 3})).await;
    assert_eq!(answer, json!({"matched": 3, "redriven": 3, "skipped": 12, "complete": true}));
    assert_eq!(world.queues.all(QueueName::Retry).len(), 3);
    assert_eq!(letter(&world, "used-05").await.get("redriven_at"), None);
    let (_, answer) = world.operate("/dead-letters/redrive", json!({})).await;
    assert_eq!(
        answer,
        json!({"matched": 0, "redriven": 0, "skipped": 11, "complete": true}),
        "the delivered one is over"
    );
    let before = world.receiver.count();
    world.settle().await;
    assert_eq!(world.receiver.count() - before, 3);
    // When the id is free, they are sent.
    forget(&world).await;
    let (_, answer) = world.operate("/dead-letters/redrive", json!({})).await;
    assert_eq!(answer, json!({"matched": 11, "redriven": 11, "complete": true}));
    world.settle().await;
}

#[tokio::test]
async fn of_two_bodies_under_one_id_one_bulk_redrive_sends_one() {
    let world = World::new().await;
    fail(&world, "daily", r#""monday""#).await;
    forget(&world).await;
    fail(&world, "daily", r#""tuesday""#).await;
    forget(&world).await;
    let (_, answer) = world.operate("/dead-letters/redrive", json!({})).await;
    assert_eq!(answer, json!({"matched": 1, "redriven": 1, "skipped": 1, "complete": true}));
    world.settle().await;
    assert_eq!(last_call(&world), ("daily".to_owned(), r#""tuesday""#.to_owned()));
    assert_eq!(world.file().await, (0, 0), "none comes back");
}
