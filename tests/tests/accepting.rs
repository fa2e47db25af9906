//! What `enqueue` promises its clients.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use adapters::sqs::Lane;
use redis::Commands as _;
use serde_json::{Value, json};
use tests::world::World;

fn webhook(world: &World, id: &str) -> Value {
    json!({ "webhook_url": world.receiver.url("/"), "payload": {"n": 1}, "reference_id": id })
}

#[tokio::test]
async fn an_accepted_webhook_is_queued_and_has_a_status() {
    let world = World::new().await;
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["webhook_id"], &answer["status"]), (202, &json!("a"), &json!("pending")));
    assert_eq!((&answer["duplicate"], &answer["status_url"]), (&json!(false), &json!("/webhook-statuses/a")));
    assert_eq!(world.queues.all(Lane::Delivery).len(), 1);
    assert_eq!(world.queues.all(Lane::Delivery)[0].group, world.receiver.origin());
    assert_eq!(world.status("a").await["status"], "pending");
}

#[tokio::test]
async fn an_id_is_made_when_none_is_given() {
    let world = World::new().await;
    let body = json!({ "webhook_url": world.receiver.url("/"), "payload": null });
    let (code, answer) = world.post("/webhooks", body.to_string()).await;
    let id = answer["webhook_id"].as_str().unwrap();
    assert_eq!((code, id.len(), id.as_bytes()[14]), (202, 36, b'7'));
    assert_eq!(world.status(id).await["status"], "pending");
}

#[tokio::test]
async fn the_same_request_again_is_a_duplicate_and_queues_nothing() {
    let world = World::new().await;
    world.post("/webhooks", webhook(&world, "a").to_string()).await;
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"], &answer["status"]), (202, &json!(true), &json!("pending")));
    assert_eq!(world.queues.all(Lane::Delivery).len(), 1);
    world.settle().await;
    let (_, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((&answer["duplicate"], &answer["status"]), (&json!(true), &json!("delivered")));
    assert_eq!(world.receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn another_body_under_the_same_id_is_a_conflict() {
    let world = World::new().await;
    world.post("/webhooks", webhook(&world, "a").to_string()).await;
    for (field, value) in [
        ("payload", json!({"n": 2})),
        ("event_type", json!("x")),
        ("headers", json!({"x-a": "1"})),
        ("webhook_url", json!(world.receiver.url("/other"))),
    ] {
        let mut other = webhook(&world, "a");
        other[field] = value;
        let (code, answer) = world.post("/webhooks", other.to_string()).await;
        assert_eq!((code, &answer["status"]), (409, &json!(409)), "{field}");
    }
    assert_eq!(world.queues.all(Lane::Delivery).len(), 1);
}

#[tokio::test]
async fn identical_requests_at_once_lead_to_one_delivery() {
    let world = World::new().await;
    let body = webhook(&world, "a").to_string();
    let answers = tokio::join!(
        world.post("/webhooks", body.clone()),
        world.post("/webhooks", body.clone()),
        world.post("/webhooks", body.clone()),
        world.post("/webhooks", body.clone())
    );
    for (code, answer) in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!((code, &answer["webhook_id"]), (202, &json!("a")));
    }
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn nobody_holds_a_202_for_what_is_not_queued_and_a_retry_resumes() {
    let world = World::new().await;
    world.queues.breaks(Some(Lane::Delivery));
    let (code, _) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!(code, 503);
    world.queues.breaks(None);
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"]), (202, &json!(false)));
    assert_eq!(world.queues.all(Lane::Delivery).len(), 1);
}

#[tokio::test]
async fn a_made_up_id_leaves_no_trace_when_the_queue_refuses() {
    let world = World::new().await;
    world.queues.breaks(Some(Lane::Delivery));
    let body = json!({ "webhook_url": world.receiver.url("/"), "payload": 1 });
    let (code, _) = world.post("/webhooks", body.to_string()).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut world.redis.connect()).unwrap();
    assert_eq!((code, keys), (503, vec![]));
}

#[tokio::test]
async fn faults_have_their_codes() {
    let world = World::new().await;
    let long = "x".repeat(300 * 1024);
    let url = world.receiver.url("/");
    for (body, code, faults) in [
        ("{".to_owned(), 400, 0),
        (String::new(), 400, 0),
        ("\u{fffe}".to_owned(), 400, 0),
        ("[]".to_owned(), 422, 1),
        (r#"{"webhook_url":"x","reference_id":" ","extra":1,"payload":1}"#.to_owned(), 422, 3),
        (format!(r#"{{"webhook_url":"{url}","payload":"{long}"}}"#), 413, 0),
        (format!(r#"{{"webhook_url":"{url}","payload":"{}"}}"#, "x".repeat(5 * 1024 * 1024)), 413, 0),
    ] {
        let (answered, problem) = world.post("/webhooks", body).await;
        assert_eq!(answered, code, "{problem}");
        assert_eq!(problem["status"], code);
        assert_eq!(problem["errors"].as_array().map_or(0, Vec::len), faults, "{problem}");
        assert!(problem["correlation_id"].is_string() && problem["type"].is_string() && problem["title"].is_string());
    }
    assert!(world.queues.all(Lane::Delivery).is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_text_is_not_json() {
    let world = World::new().await;
    assert_eq!(world.post("/webhooks", vec![0xff, 0xfe]).await.0, 400);
}

#[tokio::test]
async fn a_batch_answers_every_item_in_order() {
    let world = World::new().await;
    let mut other = webhook(&world, "a");
    other["payload"] = json!(2);
    let batch = json!({ "webhooks": [webhook(&world, "a"), {"payload": 1}, webhook(&world, "a"), other, webhook(&world, "b")] });
    let (code, answer) = world.post("/webhooks/batch", batch.to_string()).await;
    assert_eq!((code, &answer["accepted"], &answer["rejected"]), (200, &json!(3), &json!(2)));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.iter().map(|r| r["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!((&results[0]["duplicate"], &results[2]["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(results[1]["error"]["errors"][0]["pointer"], "/webhooks/1/webhook_url");
    assert_eq!(results[3]["error"]["status"], 409);
    assert_eq!(world.queues.all(Lane::Delivery).len(), 2);
    assert_eq!(world.post("/webhooks/batch", r#"{"webhooks":[]}"#).await.0, 422);
    let (code, answer) = world.post("/webhooks/batch", r#"{"webhooks":[1]}"#).await;
    assert_eq!((code, &answer["rejected"]), (200, &json!(1)));
}

#[tokio::test]
async fn accepting_takes_two_round_trips_at_most_and_one_send_for_ten() {
    let world = World::new().await;
    for (ids, name) in [(1, "a"), (100, "b")] {
        for given in [true, false] {
            let webhooks: Vec<Value> = (0..ids)
                .map(|i| {
                    let mut webhook = webhook(&world, &format!("{name}-{i}"));
                    if !given {
                        webhook.as_object_mut().unwrap().remove("reference_id");
                    }
                    webhook
                })
                .collect();
            let before = world.redis_round_trips();
            let (_, answer) = world.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await;
            assert_eq!(answer["accepted"], ids);
            // An id that was made here needs no reservation.
            assert_eq!(world.redis_round_trips() - before, if given { 2 } else { 1 });
        }
    }
    // The split into calls of ten is the adapter's, and tested there.
    assert_eq!(world.queues.sends(), [1, 1, 100, 100].map(|count| (Lane::Delivery, count)));
}

#[tokio::test]
async fn accepting_goes_on_without_redis() {
    let mut world = World::new().await;
    world.redis.stop();
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"]), (202, &json!(false)));
    assert_eq!(world.queues.all(Lane::Delivery).len(), 1);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_as_problems() {
    let world = World::new().await;
    assert_eq!(world.post("/nope", "{}").await.0, 404);
    assert_eq!(world.get("/nope").await.0, 404);
    assert_eq!(world.get("/webhook-statuses/unknown").await.0, 404);
    assert_eq!(world.get("/webhook-statuses/a%2Fb").await.0, 422);
}

#[tokio::test]
async fn what_a_long_silence_left_in_an_index_is_trimmed_piece_by_piece() {
    let world = World::new().await;
    let key = "webhook_index:pending";
    let mut redis = world.redis.connect();
    let mut pipe = redis::pipe();
    (0..1000).for_each(|i| {
        pipe.zadd(key, format!("old-{i}"), i).ignore();
    });
    pipe.query::<()>(&mut redis).unwrap();
    for left in [801, 602, 403, 204, 5, 6] {
        world.post("/webhooks", webhook(&world, &format!("new-{left}")).to_string()).await;
        let entries: usize = redis.zcard(key).unwrap();
        assert_eq!(entries, left, "all that is young, and what one write may not take");
    }
}
