//! The real template, deployed on the local AWS and driven over HTTP.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::time::Duration;

use domain::signature::Signer;
use serde_json::{Value, json};
use tests::receiver::Receiver;
use tests::stack::Stack;

struct Api {
    stack: Stack,
    http: reqwest::Client,
}

impl Api {
    fn of_the_stack() -> Self {
        Self { stack: Stack::running(), http: reqwest::Client::new() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let mut response = request.send().await.unwrap();
        let code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            body.extend_from_slice(&chunk);
        }
        (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: impl Into<String>) -> (u16, Value) {
        let url = format!("{}{path}", self.stack.get("API_URL"));
        self.send(self.http.post(url).header("content-type", "application/json").body(body.into())).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(format!("{}{path}", self.stack.get("API_URL")))).await
    }

    /// Waits until the delivery has this status.
    async fn until(&self, id: &str, status: &str) -> Value {
        let looking = async {
            loop {
                let (code, record) = self.get(&format!("/webhook-statuses/{id}")).await;
                if code == 200 && record["status"] == status {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), looking).await;
        found.unwrap_or_else(|_| panic!("{id} is not {status} within a minute"))
    }
}

#[tokio::test]
async fn a_webhook_travels_through_the_template_byte_for_byte() {
    let (api, receiver) = (Api::of_the_stack(), Receiver::start().await);
    let payload = "{ \"b\":1.0,  \"a\" : 12345678901234567890123 ,\"é漢\":\"\\ud83d\\ude00\"}";
    let body = format!(r#"{{"webhook_url":"{}","payload":{payload}}}"#, receiver.url("/hook?x=1"));
    let (code, answer) = api.post("/webhooks", body).await;
    assert_eq!((code, &answer["status"]), (202, &json!("pending")));
    let got = receiver.wait_for(1).await.remove(0);
    assert_eq!((got.body.as_ref(), got.path.as_str()), (payload.as_bytes(), "/hook?x=1"));
    let signer = Signer::parse(api.stack.get("SIGNING_SECRETS")).unwrap();
    let timestamp = got.header("webhook-timestamp").parse().unwrap();
    assert_eq!(got.header("webhook-signature"), signer.sign(got.header("webhook-id"), timestamp, payload.as_bytes()));
    let id = answer["webhook_id"].as_str().unwrap();
    let record = api.until(id, "delivered").await;
    assert!(record["ttl_seconds"].as_u64().unwrap() <= 1800);
    let mut redis = redis::Client::open(api.stack.get("REDIS_URL")).unwrap().get_connection().unwrap();
    let ttl: i64 = redis::cmd("TTL").arg(format!("webhook_status:{id}")).query(&mut redis).unwrap();
    assert!((1700..=1800).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_and_then_has_it() {
    let (api, receiver) = (Api::of_the_stack(), Receiver::start().await);
    receiver.answer([500u16, 500]);
    let body = json!({ "webhook_url": receiver.url("/"), "payload": 1 });
    let (_, answer) = api.post("/webhooks", body.to_string()).await;
    let record = api.until(answer["webhook_id"].as_str().unwrap(), "delivered").await;
    assert_eq!((&record["attempts"], receiver.arrivals().len()), (&json!(3), 3));
}

#[tokio::test]
async fn a_refused_webhook_is_failed_and_dead() {
    let (api, receiver) = (Api::of_the_stack(), Receiver::start().await);
    receiver.always(404u16);
    let body = json!({ "webhook_url": receiver.url("/"), "payload": 1 });
    let (_, answer) = api.post("/webhooks", body.to_string()).await;
    let record = api.until(answer["webhook_id"].as_str().unwrap(), "failed").await;
    assert_eq!((&record["attempts"], &record["last_status_code"]), (&json!(1), &json!(404)));
    assert!(record["ttl_seconds"].as_u64().unwrap() <= 604_800);
    assert_eq!(receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn identical_requests_at_once_lead_to_one_delivery() {
    let (api, receiver) = (Api::of_the_stack(), Receiver::start().await);
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
    api.until(&id, "delivered").await;
    let other = json!({ "webhook_url": receiver.url("/"), "payload": 2, "reference_id": id });
    assert_eq!(api.post("/webhooks", other.to_string()).await.0, 409);
    assert_eq!(receiver.arrivals().len(), 1);
}

#[tokio::test]
async fn a_batch_of_twenty_arrives() {
    let (api, receiver) = (Api::of_the_stack(), Receiver::start().await);
    let webhooks: Vec<Value> = (0..20).map(|i| json!({ "webhook_url": receiver.url("/"), "payload": i })).collect();
    let (code, answer) = api.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await;
    assert_eq!((code, &answer["accepted"]), (200, &json!(20)));
    receiver.wait_for(20).await;
    for result in answer["results"].as_array().unwrap() {
        api.until(result["webhook_id"].as_str().unwrap(), "delivered").await;
    }
    let mut bodies: Vec<u32> =
        receiver.arrivals().iter().map(|got| std::str::from_utf8(&got.body).unwrap().parse().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn faults_are_told_in_full() {
    let api = Api::of_the_stack();
    assert_eq!(api.post("/webhooks", "{").await.0, 400);
    let (code, problem) = api.post("/webhooks", r#"{"webhook_url":1,"reference_id":"a b","more":1,"payload":1}"#).await;
    assert_eq!((code, problem["errors"].as_array().unwrap().len()), (422, 3));
    let large = json!({ "webhook_url": "https://a.example/", "payload": "x".repeat(300 * 1024) });
    assert_eq!(api.post("/webhooks", large.to_string()).await.0, 413);
    assert_eq!(api.get("/webhook-statuses/unknown").await.0, 404);
    let (code, problem) = api.get("/nowhere").await;
    assert_eq!((code, &problem["status"]), (404, &json!(404)));
}
