//! The deployed stack with IAM enforced: a missing permission fails a delivery, and a caller
//! without permission is refused.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::receiver::Receiver;
use tests::stack::{OwnStack, Stack};

const PATIENCE: Duration = Duration::from_secs(60);

/// A signed call of one of the stack's users, or an unsigned call.
pub(crate) fn call(stack: &Stack, user: Option<&str>, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let mut curl = Command::new("curl");
    // A signature needs the API's host name. The local AWS answers /health of that name
    // itself, so unsigned calls use the path.
    let api = stack.get("API_URL");
    let id = api.trim_start_matches("http://").split('.').next().unwrap();
    let by_path = format!("{}/_aws/execute-api/{id}/$default", stack.get("AWS_ENDPOINT_URL"));
    let base = if user.is_some() { api } else { &by_path };
    curl.args(["-s", "-X", method, "-w", "\n%{http_code}", &format!("{base}{path}")]);
    if let Some(user) = user {
        curl.args(["--aws-sigv4", &format!("aws:amz:{}:execute-api", stack.get("AWS_REGION"))]);
        curl.args(["--user", stack.get(user)]);
    }
    if let Some(body) = body {
        curl.args(["-H", "content-type: application/json", "-d", body]);
    }
    let output = curl.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (answer, code) = said.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), serde_json::from_str(answer).unwrap_or_else(|_| Value::String(answer.to_owned())))
}

/// The answer to an AWS CLI command of the account's owner.
fn aws(stack: &Stack, arguments: &[&str]) -> Value {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(format!("{root}/.local/venvs/tools/bin/aws"))
        .args(["--output", "json", "--endpoint-url", stack.get("AWS_ENDPOINT_URL")])
        .args(arguments)
        .envs(stack.lines())
        .output()
        .expect("the AWS CLI is missing: run the tests by `make test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command of the AWS CLI of a user without permissions fails with.
fn stranger(stack: &Stack, arguments: &[&str]) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (key, secret) = stack.get("STRANGER_USER").split_once(':').unwrap();
    let output = Command::new(format!("{root}/.local/venvs/tools/bin/aws"))
        .args(["--endpoint-url", stack.get("AWS_ENDPOINT_URL")])
        .args(arguments)
        .envs(stack.lines())
        .envs([("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)])
        .output()
        .expect("the AWS CLI is missing: run the tests by `make test`");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// Whom the queue of others lets in, and what becomes of what they send. The tenant has this
/// endpoint.
async fn events_of_other_systems(stack: &Stack, receiver: &Receiver, first: &str) {
    let operator = Some("OPERATOR_USER");
    let get = |path: &str| call(stack, operator, "GET", path, None);
    let post = |path: &str, body: &str| call(stack, operator, "POST", path, Some(body));
    let path = |id: &str| format!("/tenants/acme/events/{id}");
    // fanout consumes the queue of others. A topic of this account may send to it.
    let topic = aws(stack, &["sns", "create-topic", "--name", "orders"]);
    let topic = topic["TopicArn"].as_str().unwrap();
    let queue = ["--queue-url", stack.get("INGEST_QUEUE_URL"), "--attribute-names", "QueueArn"];
    let queue = aws(stack, &[&["sqs", "get-queue-attributes"][..], &queue].concat());
    let queue = queue["Attributes"]["QueueArn"].as_str().unwrap();
    let raw = ["--protocol", "sqs", "--attributes", "RawMessageDelivery=true"];
    aws(stack, &[&["sns", "subscribe", "--topic-arn", topic, "--notification-endpoint", queue][..], &raw].concat());
    aws(
        stack,
        &[
            "sns",
            "publish",
            "--topic-arn",
            topic,
            "--message",
            r#"{"event_type":"order.paid","event_id":"order-3","payload":1}"#,
        ],
    );
    until("taken in", || get(&path("order-3")).1["status"] == "fanned_out").await;
    let delivery = format!("{}/deliveries/{}", path("order-3"), first);
    until("delivered", || get(&delivery).1["status"] == "delivered").await;
    // The template made a rule. What it matches goes to both endpoints.
    let (code, second) = post("/tenants/acme/endpoints", &json!({"url": receiver.url("/second")}).to_string());
    assert_eq!(code, 201, "{second}");
    let entry = json!([{"Source": "shop", "DetailType": "Order Paid", "Detail": "{\"n\":4}"}]).to_string();
    let put = aws(stack, &["events", "put-events", "--entries", &entry]);
    let id = put["Entries"][0]["EventId"].as_str().unwrap();
    until("taken in", || get(&path(id)).1["status"] == "fanned_out").await;
    let event = get(&path(id)).1;
    assert_eq!((&event["matched"], &event["event_type"]), (&json!(2), &json!("Order_Paid")), "{event}");
    for endpoint in [first, second["id"].as_str().unwrap()] {
        let delivery = format!("{}/deliveries/{endpoint}", path(id));
        until("delivered", || get(&delivery).1["status"] == "delivered").await;
    }
    let is_detail = |body: &[u8]| serde_json::from_slice::<Value>(body).is_ok_and(|body| body == json!({"n": 4}));
    assert_eq!(receiver.arrivals().iter().filter(|arrival| is_detail(&arrival.body)).count(), 2);
    // Who is not named may not send there.
    let refused =
        stranger(stack, &["sqs", "send-message", "--queue-url", stack.get("INGEST_QUEUE_URL"), "--message-body", "x"]);
    assert!(refused.contains("AccessDenied"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_works_with_its_own_role_and_only_who_may_is_served() {
    let own = OwnStack::start_guarded(&[
        "RetryBaseS=1",
        "IngestTenant=acme",
        "IngestBusName=default",
        r#"IngestPattern={"source": ["shop"]}"#,
    ]);
    let (stack, receiver) = (own.stack(), Receiver::start().await);
    let operator = Some("OPERATOR_USER");
    let get = |path: &str| call(stack, operator, "GET", path, None);
    let post = |path: &str, body: &str| call(stack, operator, "POST", path, Some(body));

    let webhook = |id: &str| json!({"webhook_url": receiver.url("/"), "payload": 1, "reference_id": id}).to_string();
    for stranger in [None, Some("STRANGER_USER")] {
        for (method, path) in
            [("POST", "/webhooks"), ("GET", "/webhook-statuses"), ("GET", "/metrics"), ("GET", "/nope")]
        {
            let body = (method == "POST").then(|| webhook("no"));
            assert_eq!(call(stack, stranger, method, path, body.as_deref()).0, 403, "{stranger:?} {path}");
        }
    }
    // enqueue and deliver send to their queues.
    receiver.answer([200u16]);
    assert_eq!(post("/webhooks", &webhook("fine")).0, 202);
    let status = |id: &str, wanted: &str| get(&format!("/webhook-statuses/{id}")).1["status"] == wanted;
    until("delivered", || status("fine", "delivered")).await;
    receiver.answer([500u16, 200]);
    assert_eq!(post("/webhooks/batch", &format!("{{\"webhooks\": [{}]}}", webhook("again"))).0, 200);
    until("retried", || status("again", "delivered")).await;
    receiver.answer([410u16]);
    assert_eq!(post("/webhooks", &webhook("gone")).0, 202);
    // archive writes to the table. operate reads it and sends to the retry queue.
    until("filed", || get("/dead-letters/gone").0 == 200).await;
    let origin = receiver.origin().replace(':', "%3A").replace('/', "%2F");
    let (code, page) = get(&format!("/dead-letters?destination={origin}"));
    assert_eq!((code, &page["dead_letters"][0]["webhook_id"]), (200, &json!("gone")), "{page}");
    assert_eq!(get("/dead-letters").1["dead_letters"].as_array().unwrap().len(), 1);
    crate::cli::signs_its_calls(stack, ("gone", &receiver.origin())).await;
    receiver.always(200u16);
    assert_eq!(post("/dead-letters/gone/redrive", "{}").0, 202);
    until("redriven", || status("gone", "delivered")).await;
    assert_eq!(call(stack, operator, "DELETE", "/dead-letters/gone", None).0, 204);
    // deliver consumes the queue of what is not due yet, and sends it on until it is.
    let (id, now) = ("later", std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis());
    let message = json!({
        "v": 1, "kind": "deliver", "id": id, "url": receiver.url("/"), "correlation_id": "c", "accepted_at": now,
        "deadline": now + 60_000, "not_before": now + 3_000, "attempt": 0, "hop": 0, "payload": {"n": 1},
    });
    let wait = stack.sqs().send_message().queue_url(stack.get("WAIT_QUEUE_URL")).message_body(message.to_string());
    wait.send().await.unwrap();
    until("waited", || status(id, "delivered")).await;
    // endpoints reads and writes the registry, and sends test deliveries. deliver reads the card.
    for stranger in [None, Some("STRANGER_USER")] {
        for path in ["/tenants", "/tenants/acme/endpoints", "/tenants/acme/events/order-1", "/reseal"] {
            assert_eq!(call(stack, stranger, "GET", path, None).0, 403, "{stranger:?} {path}");
        }
    }
    let (code, made) = post("/tenants/acme/endpoints", &json!({"url": receiver.url("/")}).to_string());
    assert_eq!(code, 201, "{made}");
    let endpoint = format!("/tenants/acme/endpoints/{}", made["id"].as_str().unwrap());
    let (code, tested) = post(&format!("{endpoint}/test"), "{}");
    assert_eq!(code, 202, "{tested}");
    let status_url = tested["status_url"].as_str().unwrap();
    until("tested", || get(status_url).1["status"] == "delivered").await;
    // enqueue sends to the queue of events. fanout consumes it, reads the registry and sends deliveries. operate tells.
    let event = |id: &str| json!({"event_type": "order.paid", "event_id": id, "payload": 1}).to_string();
    let path = |id: &str| format!("/tenants/acme/events/{id}");
    assert_eq!(post("/tenants/acme/events", &event("order-1")).0, 202);
    assert_eq!(post("/tenants/acme/events/batch", &format!("{{\"events\": [{}]}}", event("order-2"))).0, 200);
    for id in ["order-1", "order-2"] {
        until("fanned out", || get(&path(id)).1["status"] == "fanned_out").await;
        let delivery = format!("{}/deliveries/{}", path(id), made["id"].as_str().unwrap());
        until("delivered", || get(&delivery).1["status"] == "delivered").await;
    }
    events_of_other_systems(stack, &receiver, made["id"].as_str().unwrap()).await;
    // endpoints reads Redis and history, and sends to the queue of events before it enables one.
    for state in ["paused", "enabled"] {
        let change = json!({ "state": state }).to_string();
        assert_eq!(call(stack, operator, "PATCH", &endpoint, Some(&change)).0, 200, "{state}");
        let (code, tenant) = get("/tenants/acme");
        assert!(code == 200 && tenant["owed"].is_object(), "{tenant}");
    }
    let (code, seen) = get(&endpoint);
    assert!(code == 200 && seen["health"].is_object() && seen["owed"].is_object(), "{seen}");
    assert_eq!(get("/tenants/acme/endpoints").0, 200);
    assert_eq!(get("/tenants").0, 200);
    assert_eq!(get("/tenants/acme").0, 200);
    let change = json!({"description": "moved"}).to_string();
    assert_eq!(call(stack, operator, "PATCH", &endpoint, Some(&change)).0, 200);
    assert_eq!(post(&format!("{endpoint}/rotate-secret"), "{}").0, 200);
    assert_eq!(get(&format!("{endpoint}/secret")).0, 200);
    assert_eq!(post("/reseal", "{}").0, 202);
    assert_eq!(get("/reseal").0, 200);
    assert_eq!(call(stack, operator, "DELETE", &endpoint, None).0, 204);
    assert_eq!(get("/circuit-breakers").0, 200);
    assert_eq!(post("/webhook-cleanup?dry_run=true", "").1["complete"], true);
    // health and metrics: they read every queue and the table. /health needs no signature.
    let (code, health) = call(stack, None, "GET", "/health", None);
    assert_eq!((code, &health["status"]), (200, &json!("healthy")), "{health}");
    let (code, metrics) = get("/metrics");
    assert_eq!(code, 200);
    for queue in ["delivery", "retry", "wait", "event", "dead_letter"] {
        assert!(metrics.as_str().unwrap().contains(&format!("queue_messages{{queue=\"{queue}\"")), "{queue}");
    }
    assert_eq!(receiver.count(), 12);
}
