//! What `deliver` promises to receivers, to clients and to operators.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::signature::Signer;
use serde_json::{Value, json};
use tests::receiver::Reply;
use tests::world::{BEGINNING, SECRET, World};

fn attribute<'a>(message: &'a tests::sqs_model::Stored, name: &str) -> &'a str {
    message.attributes.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte_signed_and_named() {
    let world = World::new().await;
    let payload = "{ \"z\":1.50,  \"a\" : 12345678901234567890123,\t\"é漢\":\"\\ud83d\\ude00\" , \"n\":[ ] }";
    let id = world.enqueue("order-1", payload).await;
    world.settle().await;
    let arrivals = world.receiver.arrivals();
    assert_eq!(arrivals.len(), 1);
    let got = &arrivals[0];
    assert_eq!(got.body, payload.as_bytes());
    assert_eq!((got.header("webhook-id"), got.header("content-type")), ("order-1", "application/json"));
    let timestamp: u64 = got.header("webhook-timestamp").parse().unwrap();
    assert_eq!(timestamp, BEGINNING.as_secs());
    let expected = Signer::parse(SECRET).unwrap().sign("order-1", timestamp, payload.as_bytes());
    assert_eq!(got.header("webhook-signature"), expected);
    assert!(got.header("user-agent").starts_with("Steadhook/"));
    assert_eq!(got.header("x-correlation-id"), world.status(&id).await["correlation_id"]);
    assert_eq!(got.header("traceparent").len(), 55);
    let status = world.status(&id).await;
    assert_eq!(
        (&status["status"], &status["attempts"], &status["in_flight"]),
        (&json!("delivered"), &json!(1), &json!(false))
    );
    assert!(status["ttl_seconds"].as_u64().unwrap() <= 1800);
}

#[tokio::test]
async fn a_clients_headers_are_sent_and_cannot_replace_ours() {
    let world = World::new().await;
    let body = json!({ "webhook_url": world.receiver.url("/x?y=1"), "payload": 1, "headers": {"X-Tenant": "t 1", "authorization": "Bearer z"} });
    world.post("/webhooks", body.to_string()).await;
    world.settle().await;
    let got = &world.receiver.arrivals()[0];
    assert_eq!((got.path.as_str(), got.header("x-tenant"), got.header("authorization")), ("/x?y=1", "t 1", "Bearer z"));
}

#[tokio::test]
async fn server_errors_are_retried_with_backoff_until_it_works() {
    let world = World::new().await;
    world.receiver.answer([500u16, 503, 200]);
    let id = world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    let status = world.status(&id).await;
    assert_eq!(
        (&status["status"], &status["attempts"], &status["error_class"]),
        (&json!("retrying"), &json!(1), &json!("server_error"))
    );
    let next = domain::time::Millis::parse_rfc3339(status["next_attempt_at"].as_str().unwrap()).unwrap();
    let wait = BEGINNING.until(next);
    assert!((5..=10).contains(&wait.as_secs()), "{wait:?}");
    world.settle().await;
    let status = world.status(&id).await;
    assert_eq!(
        (&status["status"], &status["attempts"], &status["last_status_code"]),
        (&json!("delivered"), &json!(3), &json!(200))
    );
    assert_eq!(status.get("error"), None);
    let ids: Vec<_> = world.receiver.arrivals().iter().map(|got| got.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, ["a", "a", "a"]);
}

#[tokio::test]
async fn the_budget_ends_after_four_calls_in_the_dead_letter_queue() {
    let world = World::new().await;
    world.receiver.always(500u16);
    let id = world.enqueue("a", r#"{"k": 1}"#).await;
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 4);
    let status = world.status(&id).await;
    assert_eq!((&status["status"], &status["attempts"]), (&json!("failed"), &json!(4)));
    let dead = world.queues.all(QueueName::DeadLetter);
    assert_eq!(dead.len(), 1);
    assert_eq!(attribute(&dead[0], "ERROR_CODE"), "retries_exhausted");
    assert_eq!(attribute(&dead[0], "RETRY_ATTEMPTS"), "3");
    assert_eq!(attribute(&dead[0], "EXHAUSTED_RETRY_CONDITION"), "MaximumRetryAttempts");
    assert!(attribute(&dead[0], "ERROR_MESSAGE").contains("500"));
    let message: Value = serde_json::from_str(&dead[0].body).unwrap();
    assert_eq!((&message["history"]["count"], &message["payload"]), (&json!(4), &json!({"k": 1})));
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn what_will_not_become_better_is_dead_at_once() {
    for (code, reason, class) in
        [(404u16, "client_error", "client_error"), (410, "gone", "client_error"), (301, "client_error", "client_error")]
    {
        let world = World::new().await;
        world.receiver.always(code);
        let id = world.enqueue("a", "1").await;
        world.settle().await;
        assert_eq!(world.receiver.arrivals().len(), 1, "{code}");
        assert_eq!(attribute(&world.queues.all(QueueName::DeadLetter)[0], "ERROR_CODE"), reason);
        let status = world.status(&id).await;
        assert_eq!((&status["status"], &status["error_class"]), (&json!("failed"), &json!(class)), "{code}");
        world.leaves([QueueName::DeadLetter]);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let elsewhere = tests::receiver::Receiver::start().await;
    world.receiver.answer([Reply { headers: vec![("location", elsewhere.url("/"))], ..307.into() }]);
    world.enqueue("a", "1").await;
    world.settle().await;
    assert!(elsewhere.arrivals().is_empty());
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn retry_after_is_obeyed_and_never_shortens() {
    let world = World::new().await;
    let asking = |code: u16, seconds: &str| Reply { headers: vec![("retry-after", seconds.to_owned())], ..code.into() };
    for (reply, least, most) in [
        (asking(429, "2000"), 2000, 2000),
        (asking(429, "1"), 15, 30),
        (asking(503, "120"), 120, 120),
        (asking(500, "120"), 5, 10),
    ] {
        let id = format!("a-{least}");
        world.receiver.answer([reply]);
        world.enqueue(&id, "1").await;
        world.step(QueueName::Delivery).await;
        let status = world.status(&id).await;
        let next = domain::time::Millis::parse_rfc3339(status["next_attempt_at"].as_str().unwrap()).unwrap();
        let wait = world.clock.now().until(next).as_secs();
        assert!((least..=most).contains(&wait), "{wait}");
    }
    world.leaves([QueueName::Retry, QueueName::Wait]);
}

#[tokio::test]
async fn a_wait_longer_than_a_queue_can_hold_hops_without_calls() {
    let world = World::new().await;
    world.receiver.answer([Reply { headers: vec![("retry-after", "3000".to_owned())], ..429.into() }]);
    let id = world.enqueue("a", "1").await;
    world.settle().await;
    assert_eq!(world.receiver.arrivals().len(), 2);
    assert_eq!(world.status(&id).await["attempts"], 2);
    assert!(BEGINNING.until(world.clock.now()) >= Duration::from_secs(3000));
    assert!(world.queues.sends().iter().filter(|(queue_name, _)| *queue_name == QueueName::Wait).count() >= 4);
}

#[tokio::test]
async fn nobody_listening_is_a_network_error() {
    let world = World::new().await;
    let port = tests::redis_server::free_port();
    let body = json!({ "webhook_url": format!("http://127.0.0.1:{port}/"), "payload": 1, "reference_id": "a" });
    world.post("/webhooks", body.to_string()).await;
    world.settle().await;
    let status = world.status("a").await;
    assert_eq!(
        (&status["status"], &status["error_class"], &status["attempts"]),
        (&json!("failed"), &json!("network"), &json!(4))
    );
    assert_eq!(status.get("last_status_code"), None);
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn a_silent_receiver_is_a_timeout() {
    let world =
        World::with(&[("DELIVERY_TIMEOUT_MS", "200"), ("CONNECT_TIMEOUT_MS", "100"), ("MAX_RETRIES", "0")]).await;
    world.receiver.always(Reply { after: Duration::from_secs(60), ..200.into() });
    world.enqueue("a", "1").await;
    world.settle().await;
    assert_eq!(world.status("a").await["error_class"], "timeout");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn a_deadline_ends_the_retries() {
    let world = World::new().await;
    world.receiver.always(500u16);
    let expires_at = BEGINNING.after(Duration::from_secs(20)).to_string();
    let body =
        json!({ "webhook_url": world.receiver.url("/"), "payload": 1, "reference_id": "a", "expires_at": expires_at });
    world.post("/webhooks", body.to_string()).await;
    world.settle().await;
    assert_eq!(attribute(&world.queues.all(QueueName::DeadLetter)[0], "ERROR_CODE"), "expired");
    assert_eq!(world.status("a").await["status"], "failed");
    assert!(world.receiver.arrivals().len() < 4);
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn what_comes_after_its_deadline_is_not_sent() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    world.clock.advance(Duration::from_secs(86_400));
    world.settle().await;
    assert!(world.receiver.arrivals().is_empty());
    assert_eq!(attribute(&world.queues.all(QueueName::DeadLetter)[0], "ERROR_CODE"), "expired");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn an_unreadable_message_goes_to_the_dead_letter_queue_as_it_is() {
    let world = World::new().await;
    world.queues.put(QueueName::Delivery, "{\"v\":1}");
    world.enqueue("a", "1").await;
    assert_eq!(world.step(QueueName::Delivery).await, (2, 0));
    let dead = world.queues.all(QueueName::DeadLetter);
    assert_eq!((dead.len(), dead[0].body.as_str(), attribute(&dead[0], "ERROR_CODE")), (1, "{\"v\":1}", "malformed"));
    assert_eq!(world.receiver.arrivals().len(), 1, "the other message of its batch is delivered");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn a_message_that_no_queue_takes_stays_where_it_is() {
    let world = World::new().await;
    world.receiver.answer([500u16, 404]);
    world.enqueue("a", "1").await;
    world.queues.breaks(Some(QueueName::Retry));
    assert_eq!(world.step(QueueName::Delivery).await, (1, 1));
    assert_eq!(world.status("a").await["in_flight"], false);
    world.queues.breaks(Some(QueueName::DeadLetter));
    world.clock.advance(Duration::from_secs(360));
    assert_eq!(world.step(QueueName::Delivery).await, (1, 1));
    world.queues.breaks(None);
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn a_batch_takes_two_round_trips_and_no_send_when_delivered() {
    let world = World::new().await;
    for i in 0..10 {
        world.enqueue(&format!("a-{i}"), "1").await;
    }
    let (trips, sends) = (world.redis_round_trips(), world.queues.sends().len());
    assert_eq!(world.step(QueueName::Delivery).await, (10, 0));
    assert_eq!(world.redis_round_trips() - trips, 2);
    assert_eq!(world.queues.sends().len() - sends, 0);
}

#[tokio::test]
async fn a_batch_that_fails_takes_one_send_for_all_its_retries() {
    let world = World::new().await;
    world.receiver.always(500u16);
    for i in 0..10 {
        world.enqueue(&format!("a-{i}"), "1").await;
    }
    let (trips, sends) = (world.redis_round_trips(), world.queues.sends().len());
    assert_eq!(world.step(QueueName::Delivery).await, (10, 0));
    assert_eq!(world.redis_round_trips() - trips, 2);
    assert_eq!(world.queues.sends()[sends..], [(QueueName::Retry, 10)]);
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_slow_receiver_does_not_hold_back_its_batch_mates_truth() {
    let world = World::new().await;
    world.receiver.answer([Reply { after: Duration::from_secs(2), ..200.into() }]);
    for id in ["a", "b"] {
        world.enqueue(id, "1").await;
    }
    let done = async {
        loop {
            let delivered = [world.status("a").await, world.status("b").await];
            if let Some(first) = delivered.iter().find(|status| status["status"] == "delivered") {
                break (first.clone(), delivered.iter().filter(|status| status["in_flight"] == true).count());
            }
            tokio::task::yield_now().await;
        }
    };
    let (_, (_, in_flight)) = tokio::join!(world.step(QueueName::Delivery), done);
    assert_eq!(in_flight, 1, "one is recorded while the other is still out");
}

#[tokio::test]
async fn indexes_follow_the_status() {
    let world = World::new().await;
    world.receiver.answer([500u16, 404]);
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    world.enqueue("b", "1").await;
    world.step(QueueName::Delivery).await;
    let members = |status: &str| -> Vec<String> {
        redis::cmd("ZRANGE")
            .arg(format!("webhook_index:{status}"))
            .arg(0)
            .arg(-1)
            .query(&mut world.redis.connect())
            .unwrap()
    };
    assert_eq!(
        (members("pending"), members("retrying"), members("failed")),
        (vec![], vec!["a".into()], vec!["b".into()])
    );
    world.leaves([QueueName::Retry, QueueName::DeadLetter]);
}

#[tokio::test]
async fn a_redis_that_was_full_costs_no_entry_in_the_listing() {
    let world = World::new().await;
    world.receiver.answer([200u16, 410]);
    for id in ["delivered", "gone"] {
        world.enqueue(id, "1").await;
    }
    let limit = |bytes: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut world.redis.connect()).unwrap();
    };
    limit("1");
    assert_eq!(world.step(QueueName::Delivery).await, (2, 0));
    world.clock.advance(Duration::from_secs(6));
    world.step(QueueName::Retry).await;
    limit("0");
    world.settle().await;
    let (_, page) = world.get("/webhook-statuses").await;
    let mut listed: Vec<(&str, &str)> = page["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["webhook_id"].as_str().unwrap(), record["status"].as_str().unwrap()))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, [("delivered", "delivered"), ("gone", "failed")]);
    assert_eq!(world.receiver.count(), 2, "nothing is called again");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn crashes_are_counted_while_redis_is_full() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    world.claim_and_die(QueueName::Delivery).await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut world.redis.connect()).unwrap();
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(361));
        // It panics unless the claim is granted.
        world.claim_and_die(QueueName::Delivery).await;
    }
    world.clock.advance(Duration::from_secs(361));
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    assert_eq!(world.receiver.count(), 0, "poison is not called a fifth time");
    let dead = world.queues.all(QueueName::DeadLetter).remove(0);
    assert!(dead.attributes.iter().any(|(_, value)| value == "crashed"), "{:?}", dead.attributes);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").exec(&mut world.redis.connect()).unwrap();
    world.settle().await;
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn a_message_that_is_due_after_its_deadline_expires_at_its_deadline() {
    let world = World::new().await;
    let delivery = domain::delivery::Delivery {
        id: "late".into(),
        url: world.receiver.url("/"),
        payload: bytes::Bytes::from_static(b"1"),
        accepted_at: world.clock.now(),
        deadline: world.clock.now().after(Duration::from_secs(60)),
        ..domain::delivery::Delivery::default()
    };
    let not_before = world.clock.now().after(Duration::from_secs(86_400));
    let message = domain::message::Message { delivery, not_before, ..domain::message::Message::default() };
    world.queues.put(QueueName::Delivery, &message.encode().unwrap());
    let began = world.clock.now();
    world.settle().await;
    assert!(began.until(world.clock.now()) <= Duration::from_secs(62), "{:?}", began.until(world.clock.now()));
    let dead = world.queues.all(QueueName::DeadLetter);
    assert!(dead[0].attributes.contains(&("ERROR_CODE", "expired".to_owned())), "{dead:?}");
    world.leaves([QueueName::DeadLetter]);
}
