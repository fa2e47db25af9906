//! The real template, deployed to the local AWS and used over HTTP.

use std::time::Duration;

use domain::signature::Signer;
use serde_json::{Value, json};
use tests::client::Api;
use tests::receiver::Receiver;
use tests::stack::Stack;

fn api() -> Api {
    Api::of(&Stack::running())
}

/// How long a delivery may take here, retries included.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_webhook_travels_through_the_template_byte_for_byte() {
    let (api, receiver) = (api(), Receiver::start().await);
    let payload = "{ \"b\":1.0,  \"a\" : 12345678901234567890123 ,\"é漢\":\"\\ud83d\\ude00\"}";
    let body = format!(r#"{{"webhook_url":"{}","payload":{payload}}}"#, receiver.url("/hook?x=1"));
    let (code, answer) = api.post("/webhooks", body).await;
    assert_eq!((code, &answer["status"]), (202, &json!("pending")));
    let got = receiver.wait_for(1).await.remove(0);
    assert_eq!((got.body.as_ref(), got.path.as_str()), (payload.as_bytes(), "/hook?x=1"));
    let signer = Signer::parse(api.stack().get("SIGNING_SECRETS")).unwrap();
    let timestamp = got.header("webhook-timestamp").parse().unwrap();
    assert_eq!(got.header("webhook-signature"), signer.sign(got.header("webhook-id"), timestamp, payload.as_bytes()));
    let id = answer["webhook_id"].as_str().unwrap();
    let record = api.until(id, "delivered", PATIENCE).await;
    assert!(record["ttl_seconds"].as_u64().unwrap() <= 1800);
    let mut redis = redis::Client::open(api.stack().get("REDIS_URL")).unwrap().get_connection().unwrap();
    let ttl: i64 = redis::cmd("TTL").arg(format!("webhook_status:{id}")).query(&mut redis).unwrap();
    assert!((1700..=1800).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_and_then_has_it() {
    let (api, receiver) = (api(), Receiver::start().await);
    receiver.answer([500u16, 500]);
    let body = json!({ "webhook_url": receiver.url("/"), "payload": 1 });
    let (_, answer) = api.post("/webhooks", body.to_string()).await;
    let record = api.until(answer["webhook_id"].as_str().unwrap(), "delivered", PATIENCE).await;
    assert_eq!((&record["attempts"], receiver.arrivals().len()), (&json!(3), 3));
}

#[tokio::test]
async fn a_refused_webhook_is_failed_and_dead() {
    let (api, receiver) = (api(), Receiver::start().await);
    receiver.always(404u16);
    let body = json!({ "webhook_url": receiver.url("/"), "payload": 1 });
    let (_, answer) = api.post("/webhooks", body.to_string()).await;
    let record = api.until(answer["webhook_id"].as_str().unwrap(), "failed", PATIENCE).await;
    assert_eq!((&record["attempts"], &record["last_status_code"]), (&json!(1), &json!(404)));
    assert!(record["ttl_seconds"].as_u64().unwrap() <= 604_800);
    assert_eq!(receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn identical_requests_at_once_lead_to_one_delivery() {
    let (api, receiver) = (api(), Receiver::start().await);
    let id = format!("same-{}", fastrand::u64(..));
    let body = json!({ "webhook_url": receiver.url("/"), "payload": 1, "reference_id": id }).to_string();
    let answers = tokio::join!(
        api.post("/webhooks", body.clone()),
        api.post("/webhooks", body.clone()),
        api.post("/webhooks", body.clone()),
        api.post("/webhooks", body.clone())
    );
    for (code, answer) in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!((code, &answer["webhook_id"]), (202, &json!(id)));
    }
    api.until(&id, "delivered", PATIENCE).await;
    let other = json!({ "webhook_url": receiver.url("/"), "payload": 2, "reference_id": id });
    assert_eq!(api.post("/webhooks", other.to_string()).await.0, 409);
    assert_eq!(receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn a_batch_of_twenty_arrives() {
    let (api, receiver) = (api(), Receiver::start().await);
    let webhooks: Vec<Value> = (0..20).map(|i| json!({ "webhook_url": receiver.url("/"), "payload": i })).collect();
    let (code, answer) = api.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await;
    assert_eq!((code, &answer["accepted"]), (200, &json!(20)));
    receiver.wait_for(20).await;
    for result in answer["results"].as_array().unwrap() {
        api.until(result["webhook_id"].as_str().unwrap(), "delivered", PATIENCE).await;
    }
    let mut bodies: Vec<u32> =
        receiver.arrivals().iter().map(|got| std::str::from_utf8(&got.body).unwrap().parse().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn faults_are_told_in_full() {
    let api = api();
    assert_eq!(api.post("/webhooks", "{").await.0, 400);
    let (code, problem) = api.post("/webhooks", r#"{"webhook_url":1,"reference_id":"a b","more":1,"payload":1}"#).await;
    assert_eq!((code, problem["errors"].as_array().unwrap().len()), (422, 3));
    let large = json!({ "webhook_url": "https://a.example/", "payload": "x".repeat(300 * 1024) });
    assert_eq!(api.post("/webhooks", large.to_string()).await.0, 413);
    assert_eq!(api.get("/webhook-statuses/unknown").await.0, 404);
    let (code, problem) = api.get("/nowhere").await;
    assert_eq!((code, &problem["status"]), (404, &json!(404)));
}
