//! What `enqueue` promises its clients.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
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
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    assert_eq!(world.queues.all(QueueName::Delivery)[0].group, world.receiver.origin());
    assert_eq!(world.status("a").await["status"], "pending");
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn an_id_is_made_when_none_is_given() {
    let world = World::new().await;
    let body = json!({ "webhook_url": world.receiver.url("/"), "payload": null });
    let (code, answer) = world.post("/webhooks", body.to_string()).await;
    let id = answer["webhook_id"].as_str().unwrap();
    assert_eq!((code, id.len(), id.as_bytes()[14]), (202, 36, b'7'));
    assert_eq!(world.status(id).await["status"], "pending");
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn the_same_request_again_is_a_duplicate_and_queues_nothing() {
    let world = World::new().await;
    world.post("/webhooks", webhook(&world, "a").to_string()).await;
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"], &answer["status"]), (202, &json!(true), &json!("pending")));
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    world.settle().await;
    let (_, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((&answer["duplicate"], &answer["status"]), (&json!(true), &json!("delivered")));
    assert_eq!(world.receiver.arrivals().len(), 1);
}

/// A webhook whose `expires_at` is a minute after the beginning.
fn expiring(world: &World, id: &str) -> Value {
    let mut webhook = webhook(world, id);
    webhook["expires_at"] = json!("2023-11-14T22:14:20Z");
    webhook
}

#[tokio::test]
async fn a_request_that_is_repeated_after_its_time_is_a_duplicate() {
    let world = World::new().await;
    let body = expiring(&world, "a").to_string();
    assert_eq!(world.post("/webhooks", body.clone()).await.1["duplicate"], false);
    world.settle().await;
    world.clock.advance(Duration::from_secs(60));
    let before = world.redis_round_trips();
    let (code, answer) = world.post("/webhooks", body).await;
    assert_eq!((code, &answer["duplicate"], &answer["status"]), (202, &json!(true), &json!("delivered")));
    assert_eq!(answer["correlation_id"], world.status("a").await["correlation_id"]);
    assert_eq!(world.redis_round_trips() - before, 2, "one to look it up, and one for the status");
    assert_eq!(world.queues.sends().len(), 1);
}

#[tokio::test]
async fn a_request_that_comes_first_after_its_time_is_refused_and_leaves_no_trace() {
    let mut world = World::new().await;
    world.post("/webhooks", expiring(&world, "known").to_string()).await;
    world.settle().await;
    // It was refused before it was queued: nobody holds a 202 for it.
    world.queues.breaks(Some(QueueName::Delivery));
    assert_eq!(world.post("/webhooks", expiring(&world, "reserved").to_string()).await.0, 503);
    world.queues.breaks(None);
    world.clock.advance(Duration::from_secs(60));
    let sends = world.queues.sends().len();
    let mut other = expiring(&world, "known");
    other["payload"] = json!("other");
    let mut nameless = expiring(&world, "x");
    nameless.as_object_mut().unwrap().remove("reference_id");
    let mut faulty = expiring(&world, "known");
    faulty["event_type"] = json!("");
    for (body, faults) in
        [(expiring(&world, "new"), 1), (expiring(&world, "reserved"), 1), (other, 1), (nameless, 1), (faulty, 2)]
    {
        let (code, answer) = world.post("/webhooks", body.to_string()).await;
        let errors = answer["errors"].as_array().unwrap();
        assert_eq!((code, errors.len()), (422, faults), "{body}: {answer}");
        let last = errors.last().unwrap();
        assert_eq!(last, &json!({"pointer": "/expires_at", "message": "lies in the past: it has expired"}), "{body}");
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("webhook_status:new").query(&mut world.redis.connect()).unwrap();
    assert!(keys.is_empty());

    let batch = json!({ "webhooks": [expiring(&world, "known"), expiring(&world, "new"), webhook(&world, "fresh"), expiring(&world, "known")] });
    let before = world.redis_round_trips();
    let (_, answer) = world.post("/webhooks/batch", batch.to_string()).await;
    assert_eq!(world.redis_round_trips() - before, 2, "no more than for any other batch");
    let results = answer["results"].as_array().unwrap();
    let duplicate = |index: usize| (&results[index]["status"], &results[index]["duplicate"]);
    assert_eq!(
        (duplicate(0), duplicate(3)),
        ((&json!("delivered"), &json!(true)), (&json!("delivered"), &json!(true)))
    );
    assert_eq!(results[1]["error"]["errors"][0]["pointer"], "/webhooks/1/expires_at");
    assert_eq!(results[2]["duplicate"], false);
    assert_eq!(world.queues.sends().len() - sends, 1);
    world.settle().await;
    world.redis.stop();
    assert_eq!(world.post("/webhooks", expiring(&world, "known").to_string()).await.0, 422, "nobody knows it");
    assert_eq!(world.queues.sends().len() - sends, 1);
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
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    world.leaves([QueueName::Delivery]);
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
    world.queues.breaks(Some(QueueName::Delivery));
    let (code, _) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!(code, 503);
    world.queues.breaks(None);
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"]), (202, &json!(false)));
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn a_made_up_id_leaves_no_trace_when_the_queue_refuses() {
    let world = World::new().await;
    world.queues.breaks(Some(QueueName::Delivery));
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
    assert!(world.queues.all(QueueName::Delivery).is_empty());
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
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 2);
    assert_eq!(world.post("/webhooks/batch", r#"{"webhooks":[]}"#).await.0, 422);
    let (code, answer) = world.post("/webhooks/batch", r#"{"webhooks":[1]}"#).await;
    assert_eq!((code, &answer["rejected"]), (200, &json!(1)));
    world.leaves([QueueName::Delivery]);
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
            // A generated id needs no reservation.
            assert_eq!(world.redis_round_trips() - before, if given { 2 } else { 1 });
        }
    }
    // The adapter splits this into calls of ten, and its own tests check that.
    assert_eq!(world.queues.sends(), [1, 1, 100, 100].map(|count| (QueueName::Delivery, count)));
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn accepting_goes_on_without_redis() {
    let mut world = World::new().await;
    world.redis.stop();
    let (code, answer) = world.post("/webhooks", webhook(&world, "a").to_string()).await;
    assert_eq!((code, &answer["duplicate"]), (202, &json!(false)));
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    world.leaves([QueueName::Delivery]);
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
        assert_eq!(entries, left, "the new entries, and the old ones that one write may not take");
    }
    world.leaves([QueueName::Delivery]);
}
