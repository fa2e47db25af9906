//! The deployed stack while things fail: Redis stops and comes back empty, consumers are
//! killed during an attempt, and messages cannot be read.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tests::client::Api;
use tests::receiver::{Receiver, Reply};
use tests::stack::{LITTLE_TIME, OwnStack};

/// How long a delivery may take here.
const PATIENCE: Duration = Duration::from_secs(180);

/// A stack in which the message of a killed consumer comes back soon.
async fn quick_stack() -> OwnStack {
    let own = OwnStack::start(&[&LITTLE_TIME[..], &["RetryBaseS=1"]].concat());
    own.shorten_visibility().await;
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_webhooks_survive_a_redis_that_comes_back_empty() {
    let own = quick_stack().await;
    let (api, receiver) = (Api::of(own.stack()), Receiver::start().await);
    for n in 0..200 {
        if n == 40 {
            own.stop_redis();
        }
        if n == 41 {
            let (code, health) = api.get("/health").await;
            assert_eq!((code, &health["status"]), (200, &json!("degraded")), "{health}");
            assert_eq!(health["components"]["redis"]["status"], "down");
            assert_eq!(api.get("/dead-letters").await.0, 200, "dead letters can be listed without Redis");
        }
        let body = json!({ "webhook_url": receiver.url("/"), "payload": n, "reference_id": format!("w-{n}") });
        let (code, answer) = api.post("/webhooks", body.to_string()).await;
        assert_eq!(code, 202, "{answer}");
    }
    // The length of the outage. No event marks its end.
    tokio::time::sleep(Duration::from_secs(20)).await;
    own.start_redis();
    let got: BTreeSet<String> = receiver
        .wait_longer_for(200, PATIENCE)
        .await
        .iter()
        .map(|got| String::from_utf8(got.body.to_vec()).unwrap())
        .collect();
    assert_eq!(got.len(), 200, "every webhook arrived");
    // A record from before the outage may be lost. All others are there.
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
    let own = quick_stack().await;
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

    // The same stack gets a message that cannot be read.
    let sqs = own.stack().sqs();
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
    let found = tokio::time::timeout(Duration::from_secs(60), looking).await.expect("its dead letter is not shown");
    let id = found.strip_prefix("dead_letter:webhook:").unwrap();
    assert!(sent.message_id().is_some());
    let client = own.stack().dynamodb();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_range_allowed_nothing_reaches_the_inside() {
    let own = OwnStack::start(&["AllowedPrivateCidrs=", "RetryBaseS=1"]);
    let (api, inside) = (Api::of(own.stack()), Receiver::start().await);
    let port = inside.origin().rsplit(':').next().unwrap().to_owned();
    let literals = ["127.0.0.1", "[::ffff:127.0.0.1]", "0x7f.1", "169.254.169.254", "10.0.0.1", "[::1]"];
    for host in literals {
        let body = json!({ "webhook_url": format!("http://{host}:{port}/"), "payload": 1 });
        let (code, problem) = api.post("/webhooks", body.to_string()).await;
        assert_eq!((code, &problem["errors"][0]["pointer"]), (422, &json!("/webhook_url")), "{host}");
    }
    // The address of a name is known only when it is called.
    let body = json!({ "webhook_url": format!("http://localhost:{port}/"), "payload": 1, "reference_id": "name" });
    assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
    let record = api.until("name", "failed", PATIENCE).await;
    assert_eq!((&record["error_class"], &record["attempts"]), (&json!("validation"), &json!(1)));
    // Messages that were put into the queue by hand are refused, too.
    let sqs = own.stack().sqs();
    for (n, host) in literals.iter().enumerate() {
        let id = format!("by-hand-{n}");
        let message = json!({
            "v": 1, "kind": "deliver", "id": id, "url": format!("http://{host}:{port}/"), "correlation_id": "c",
            "accepted_at": 1, "deadline": 99_999_999_999_999u64, "attempt": 0, "hop": 0, "payload": 1,
        });
        let send = sqs.send_message().queue_url(own.stack().get("DELIVERY_QUEUE_URL"));
        send.message_body(message.to_string()).send().await.unwrap();
        assert_eq!(api.until(&id, "failed", PATIENCE).await["error_class"], "validation", "{host}");
    }
    assert_eq!(inside.connections(), 0, "not a single packet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_opens_and_heals_on_the_deployed_stack() {
    let own = OwnStack::start(&["RetryBaseS=1", "BreakerResetTimeoutS=5", "ParkBaseS=1", "ParkCapS=2"]);
    let (api, receiver) = (Api::of(own.stack()), Receiver::start().await);
    receiver.always(500u16);
    let webhooks: Vec<_> = (0..5)
        .map(|n| json!({ "webhook_url": receiver.url("/"), "payload": n, "reference_id": format!("b-{n}") }))
        .collect();
    assert_eq!(api.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await.0, 200);
    let state = async || {
        let (_, answer) = api.get("/circuit-breakers").await;
        answer["circuit_breakers"][0]["state"].as_str().unwrap_or("none").to_owned()
    };
    let until = async |wanted: &str| {
        let looking = async {
            while state().await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looking).await.unwrap_or_else(|_| panic!("never {wanted}"));
    };
    until("open").await;
    until("half_open").await;
    receiver.always(200u16);
    until("closed").await;
    for n in 0..5 {
        api.until(&format!("b-{n}"), "delivered", PATIENCE).await;
    }
}
