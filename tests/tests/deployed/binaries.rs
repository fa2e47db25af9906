//! The real binaries with the real Lambda runtime client. They get events as Lambda sends
//! them, and their answers are checked.

use serde_json::{Value, json};
use tests::binary::{Function, http_event, sqs_event};
use tests::receiver::Receiver;
use tests::redis_server::RedisServer;
use tests::stack::Stack;
use tests::world::settings;

/// Settings with queues of the local AWS that are created for this test.
async fn on_local_queues(redis: &RedisServer, name: &str) -> (Vec<(&'static str, String)>, aws_sdk_sqs::Client) {
    let stack = Stack::running();
    let client = stack.sqs();
    let mut settings = settings(&redis.url());
    for variable in [
        "DELIVERY_QUEUE_URL",
        "RETRY_QUEUE_URL",
        "WAIT_QUEUE_URL",
        "SLOW_QUEUE_URL",
        "EVENT_QUEUE_URL",
        "DEAD_LETTER_QUEUE_URL",
    ] {
        let queue = format!("binaries-{name}-{variable}-{}", fastrand::u64(..));
        let url = client.create_queue().queue_name(queue).send().await.unwrap().queue_url().unwrap().to_owned();
        settings.retain(|(other, _)| *other != variable);
        settings.push((variable, url));
    }
    settings.push(("AWS_ENDPOINT_URL", stack.get("AWS_ENDPOINT_URL").to_owned()));
    (settings, client)
}

async fn bodies(client: &aws_sdk_sqs::Client, settings: &[(&'static str, String)], queue: &str) -> Vec<String> {
    let url = &settings.iter().find(|(name, _)| *name == queue).unwrap().1;
    let received = client.receive_message().queue_url(url).max_number_of_messages(10).send().await.unwrap();
    received.messages().iter().map(|message| message.body().unwrap().to_owned()).collect()
}

fn body_of(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_webhook_goes_in_at_one_binary_and_out_at_the_other() {
    let redis = RedisServer::start();
    let receiver = Receiver::start().await;
    let (settings, client) = on_local_queues(&redis, "through").await;
    let enqueue = Function::start("enqueue", &settings).await;
    let deliver = Function::start("deliver", &settings).await;
    let operate = Function::start("operate", &settings).await;

    let payload = "{ \"b\":1.0, \"a\":[ ] }";
    let body = format!(r#"{{"webhook_url":"{}","payload":{payload},"reference_id":"a"}}"#, receiver.url("/"));
    let answer = enqueue.invoke(&http_event("POST", "/webhooks", &body)).await;
    assert_eq!(answer["statusCode"], 202, "{answer}");
    assert_eq!(answer["headers"]["content-type"], "application/json");

    let queued = bodies(&client, &settings, "DELIVERY_QUEUE_URL").await;
    let malformed = "not a message".to_owned();
    let answer = deliver.invoke(&sqs_event(&[queued[0].clone(), malformed.clone()])).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(receiver.arrivals()[0].body, payload.as_bytes());
    assert_eq!(bodies(&client, &settings, "DEAD_LETTER_QUEUE_URL").await, [malformed]);

    let answer = operate.invoke(&http_event("GET", "/webhook-statuses/a", "")).await;
    assert_eq!((answer["statusCode"].as_u64(), &body_of(&answer)["status"]), (Some(200), &json!("delivered")));
}

#[tokio::test]
async fn our_own_trouble_and_nothing_else_is_reported_to_sqs() {
    let redis = RedisServer::start();
    let receiver = Receiver::start().await;
    receiver.answer([500u16, 200]);
    let (mut settings, client) = on_local_queues(&redis, "report").await;
    let enqueue = Function::start("enqueue", &settings).await;
    for id in ["a", "b"] {
        let body = format!(r#"{{"webhook_url":"{}","payload":1,"reference_id":"{id}"}}"#, receiver.url("/"));
        enqueue.invoke(&http_event("POST", "/webhooks", &body)).await;
    }
    let queued = bodies(&client, &settings, "DELIVERY_QUEUE_URL").await;
    // The retry queue does not exist, so the delivery that fails cannot be queued again.
    settings.retain(|(name, _)| *name != "RETRY_QUEUE_URL");
    settings.push(("RETRY_QUEUE_URL", "http://localhost/000000000000/nowhere".to_owned()));
    let deliver = Function::start("deliver", &settings).await;
    let answer = deliver.invoke(&sqs_event(&queued)).await;
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn a_start_without_settings_names_all_of_them_and_fails() {
    for (name, missing) in [
        ("enqueue", "MAX_PAYLOAD_BYTES"),
        ("deliver", "SIGNING_SECRETS"),
        ("deliver", "MASTER_KEYS"),
        ("endpoints", "MASTER_KEYS"),
        ("fanout", "EVENT_QUEUE_URL"),
        ("operate", "REDIS_URL"),
    ] {
        let (code, output) = Function::start(name, &[]).await.ended().await;
        assert_eq!(code, Some(1), "{name}");
        assert!(output.contains("REDIS_URL") && output.contains(missing), "{name}: {output}");
    }
}
