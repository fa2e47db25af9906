//! Each function while its dependencies are away: it starts, says what it cannot do, and
//! does the rest.

use std::time::Duration;

use adapters::clock::Clock;
use domain::scope::Scope;
use domain::seal::MasterKeys;
use domain::token::Token;
use serde_json::{Value, json};
use tests::binary::{Function, http_event, sqs_event};
use tests::receiver::Receiver;
use tests::redis_server::{RedisServer, free_port};
use tests::stack::Stack;
use tests::world::{MASTER_KEY, settings};

/// Settings with addresses where nothing listens.
fn nowhere() -> Vec<(&'static str, String)> {
    let mut settings = settings(&format!("redis://127.0.0.1:{}", free_port()));
    settings.push(("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", free_port())));
    settings
}

fn message(url: &str) -> String {
    json!({
        "v": 1, "kind": "deliver", "id": "a", "url": url, "correlation_id": "c", "accepted_at": 1,
        "deadline": 4_102_444_800_000_u64, "attempt": 0, "hop": 0, "payload": {"n": 1},
    })
    .to_string()
}

#[tokio::test]
async fn every_function_starts_with_nothing_there() {
    for name in [
        "authorize",
        "console",
        "enqueue",
        "fanout",
        "deliver",
        "archive",
        "operate",
        "endpoints",
        "cleanup",
        "health",
        "metrics",
    ] {
        Function::start(name, &nowhere()).await.polls().await;
    }
}

#[tokio::test]
async fn without_the_registry_the_gate_stays_shut() {
    let keys = MasterKeys::parse(MASTER_KEY).unwrap();
    let token = Token {
        id: format!("tok_{:022}", 1),
        scope: Scope::Operator,
        read_only: false,
        epoch: 0,
        expires_at: Clock::system().now().after(Duration::from_secs(600)),
    };
    let event = json!({
        "version": "2.0", "type": "REQUEST", "routeKey": "GET /api/tenants", "rawPath": "/api/tenants",
        "headers": { "authorization": format!("Bearer {}", token.to_text(&keys).unwrap()) },
        "requestContext": { "http": { "method": "GET" }, "timeEpoch": 0 },
    });
    let gate = Function::start("authorize", &nowhere()).await;
    // An error: the gateway answers 500, and the caller tries again.
    let error = gate.fails(&event).await;
    assert!(error["errorMessage"].as_str().unwrap().contains("the registry does not answer"), "{error}");
}

#[tokio::test]
async fn who_asks_is_told_what_is_away() {
    for (name, method, path, body) in [
        ("enqueue", "POST", "/webhooks", r#"{"webhook_url":"http://127.0.0.1:9/","payload":1}"#),
        ("enqueue", "POST", "/tenants/acme/events", r#"{"event_type":"order.paid","payload":1}"#),
        ("operate", "GET", "/webhook-statuses", ""),
        ("operate", "GET", "/webhook-statuses/a", ""),
        ("operate", "GET", "/tenants/acme/events/a", ""),
        ("operate", "GET", "/dead-letters", ""),
        ("operate", "GET", "/circuit-breakers", ""),
        ("cleanup", "POST", "/webhook-cleanup", ""),
        ("health", "GET", "/health", ""),
    ] {
        let function = Function::start(name, &nowhere()).await;
        let answer = function.invoke(&http_event(method, path, body)).await;
        assert_eq!(answer["statusCode"], 503, "{path}: {answer}");
        let told: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        if name == "health" {
            for component in ["redis", "queue", "storage"] {
                assert_eq!(told["components"][component]["status"], "down", "{told}");
            }
            assert_eq!(told["components"]["facade"]["status"], "degraded", "it is not known: {told}");
        } else {
            assert_eq!((&told["status"], told["detail"].is_string()), (&json!(503), true), "{path}: {told}");
            assert!(answer["headers"]["retry-after"].is_string(), "{path}: {answer}");
        }
    }
    // A scrape succeeds, and says that Redis is away.
    let metrics = Function::start("metrics", &nowhere()).await;
    let answer = metrics.invoke(&http_event("GET", "/metrics", "")).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("redis_up 0"), "{answer}");
}

#[tokio::test]
async fn what_one_thing_is_missing_for_is_refused_and_the_rest_goes_on() {
    let stack = Stack::running();
    let redis = RedisServer::start();
    let with = |name: &'static str, value: &str| {
        let mut settings = settings(&redis.url());
        settings.retain(|(other, _)| *other != name);
        settings.push((name, value.to_owned()));
        settings
    };
    let webhook = r#"{"webhook_url":"http://127.0.0.1:9/","payload":1,"reference_id":"a"}"#;
    let code = async |function: &Function, method: &str, path: &str, body: &str| {
        function.invoke(&http_event(method, path, body)).await["statusCode"].as_u64().unwrap()
    };
    // AWS is away, Redis works.
    let no_aws = with("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", free_port()));
    let enqueue = Function::start("enqueue", &no_aws).await;
    assert_eq!(code(&enqueue, "POST", "/webhooks", webhook).await, 503, "a 202 needs a queue");
    let operate = Function::start("operate", &no_aws).await;
    assert_eq!(code(&operate, "GET", "/webhook-statuses", "").await, 200);
    assert_eq!(code(&operate, "GET", "/dead-letters", "").await, 503);

    // Redis is away, AWS works.
    let queue = format!("dependencies-{}", fastrand::u64(..));
    let client = stack.sqs();
    let url = client.create_queue().queue_name(queue).send().await.unwrap().queue_url().unwrap().to_owned();
    let mut no_redis = with("REDIS_URL", &format!("redis://127.0.0.1:{}", free_port()));
    no_redis.retain(|(name, _)| *name != "DELIVERY_QUEUE_URL" && *name != "DEAD_LETTER_TABLE");
    no_redis.push(("DELIVERY_QUEUE_URL", url.clone()));
    no_redis.push(("DEAD_LETTER_TABLE", stack.get("DEAD_LETTER_TABLE").to_owned()));
    no_redis.push(("AWS_ENDPOINT_URL", stack.get("AWS_ENDPOINT_URL").to_owned()));
    let enqueue = Function::start("enqueue", &no_redis).await;
    assert_eq!(code(&enqueue, "POST", "/webhooks", webhook).await, 202, "a queue is enough");
    let received = client.receive_message().queue_url(&url).send().await.unwrap();
    assert_eq!(received.messages().len(), 1);
    let operate = Function::start("operate", &no_redis).await;
    assert_eq!(code(&operate, "GET", "/webhook-statuses", "").await, 503);
    assert_eq!(code(&operate, "GET", "/dead-letters", "").await, 200);
}

#[tokio::test]
async fn a_delivery_needs_nothing_but_its_receiver() {
    let receiver = Receiver::start().await;
    let deliver = Function::start("deliver", &nowhere()).await;
    let answer = deliver.invoke(&sqs_event(&[message(&receiver.url("/"))])).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }), "an attempt that got an answer is not repeated");
    assert_eq!(receiver.arrivals().len(), 1);

    // A failed delivery stays in its queue when the retry queue does not take it.
    let answer = deliver.invoke(&sqs_event(&[message(&format!("http://127.0.0.1:{}/", free_port()))])).await;
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1);

    let archive = Function::start("archive", &nowhere()).await;
    let answer = archive.invoke(&sqs_event(&[message("http://127.0.0.1:9/")])).await;
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_its_signing_secrets_deliver_ends_and_says_so() {
    let mut settings = nowhere();
    settings.retain(|(name, _)| *name != "SIGNING_SECRETS");
    settings.push(("SIGNING_SECRETS_ARN", "arn:aws:secretsmanager:eu-central-1:000000000000:secret:s-1".to_owned()));
    let (code, output) = Function::start("deliver", &settings).await.ended().await;
    assert_eq!(code, Some(1));
    assert!(output.contains("signing secrets"), "{output}");
}
