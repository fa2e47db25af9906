//! The deployed stack under fire: a Redis that is stopped and comes back empty,
//! consumers that are killed in mid-attempt, and messages that nobody can read.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tests::client::Api;
use tests::receiver::{Receiver, Reply};
use tests::stack::OwnStack;

/// Short times, so that what is lost on the way comes back soon.
const SOON: &[&str] =
    &["RetryBaseS=1", "DeliveryTimeoutMs=2000", "ConnectTimeoutMs=500", "DeliverTimeoutS=16", "QueueVisibilityS=96"];

/// Long enough for a message to come back twice.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_webhooks_survive_a_redis_that_comes_back_empty() {
    let own = OwnStack::start(SOON);
    let (api, receiver) = (Api::of(own.stack()), Receiver::start().await);
    for n in 0..200 {
        if n == 40 {
            own.stop_redis();
        }
        let body = json!({ "webhook_url": receiver.url("/"), "payload": n, "reference_id": format!("w-{n}") });
        let (code, answer) = api.post("/webhooks", body.to_string()).await;
        assert_eq!(code, 202, "{answer}");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    own.start_redis();
    let got: BTreeSet<String> = receiver
        .wait_longer_for(200, PATIENCE)
        .await
        .iter()
        .map(|got| String::from_utf8(got.body.to_vec()).unwrap())
        .collect();
    assert_eq!(got.len(), 200, "every webhook is at the receiver");
    // What was delivered before Redis lost its data is known to nobody; the rest is.
    let mut known = 0;
    for n in 0..200 {
        let id = format!("w-{n}");
        if n >= 40 || api.get(&format!("/webhook-statuses/{id}")).await.0 == 200 {
            api.until(&id, "delivered", PATIENCE).await;
            known += 1;
        }
    }
    assert!(known >= 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_killed_in_mid_attempt_loses_nothing() {
    let own = OwnStack::start(SOON);
    let (api, receiver) = (Api::of(own.stack()), Receiver::start().await);
    receiver.answer([Reply { after: Duration::from_secs(1), ..200.into() }]);
    let body = json!({ "webhook_url": receiver.url("/"), "payload": {"n": 1}, "reference_id": "killed" });
    assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
    receiver.wait_for(1).await;
    assert!(own.kill("Deliver") > 0, "no consumer was running");
    let arrivals = receiver.wait_longer_for(2, PATIENCE).await;
    assert!(arrivals.iter().all(|got| got.header("webhook-id") == "killed"));
    api.until("killed", "delivered", PATIENCE).await;
    assert_eq!(receiver.arrivals().len(), 2, "one more call and no other");

    // While it runs: a message that nobody can read.
    let sqs = own.stack().account().sqs();
    let url = own.stack().get("DELIVERY_QUEUE_URL");
    let sent = sqs.send_message().queue_url(url).message_body("broken {").send().await.unwrap();
    let key = "dead_letter:webhook:malformed-";
    let mut look = redis::Client::open(own.stack().get("REDIS_URL")).unwrap().get_connection().unwrap();
    let looking = async {
        loop {
            let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{key}*")).query(&mut look).unwrap();
            if let Some(found) = keys.into_iter().next() {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), looking).await.expect("it is not shown");
    let id = found.strip_prefix("dead_letter:webhook:").unwrap();
    assert!(sent.message_id().is_some());
    let client = own.stack().account().dynamodb();
    let item = client
        .get_item()
        .table_name(own.stack().get("DEAD_LETTER_TABLE"))
        .key("id", aws_sdk_dynamodb::types::AttributeValue::S(id.to_owned()))
        .send()
        .await
        .unwrap();
    let record = item.item().unwrap()["record"].as_s().unwrap();
    assert!(record.contains("\"reason\":\"malformed\"") && record.contains("broken {"), "{record}");
}
