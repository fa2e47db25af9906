//! What a deployed stack logs: one id finds one delivery, and no payload, header, query
//! string or secret is in the logs.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Api;
use tests::receiver::{Receiver, Reply};
use tests::stack::{OwnStack, Stack};

const PATIENCE: Duration = Duration::from_secs(60);

/// The output of an AWS CLI command, as JSON.
pub(crate) fn aws(stack: &Stack, arguments: &[&str]) -> Value {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(format!("{root}/.local/venvs/tools/bin/aws"))
        .args(["--endpoint-url", stack.get("AWS_ENDPOINT_URL")])
        .args(arguments)
        .envs(stack.lines())
        .output()
        .expect("the AWS CLI is missing: run the tests by `make test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Every line of every function, with its log group.
fn lines(stack: &Stack) -> Vec<(String, String)> {
    let groups = aws(stack, &["logs", "describe-log-groups"]);
    let mut lines = Vec::new();
    for group in groups["logGroups"].as_array().unwrap() {
        let name = group["logGroupName"].as_str().unwrap();
        let events = aws(stack, &["logs", "filter-log-events", "--log-group-name", name]);
        let said = events["events"].as_array().cloned().unwrap_or_default();
        lines.extend(said.iter().map(|event| (name.to_owned(), event["message"].as_str().unwrap().to_owned())));
    }
    lines
}

#[tokio::test]
async fn a_delivery_is_found_by_its_correlation_id_and_logs_keep_secrets() {
    let own = OwnStack::start(&["RetryBaseS=1"]);
    let (stack, api, receiver) = (own.stack(), Api::of(own.stack()), Receiver::start().await);
    let marked = |id: &str, path: &str| {
        json!({
            "webhook_url": receiver.url(path),
            "payload": {"card": "PAYLOAD-MARK"},
            "headers": {"authorization": "Bearer HEADER-MARK"},
            "reference_id": id,
        })
        .to_string()
    };
    let answer = |status: u16| Reply { body: "ANSWER-MARK".into(), ..Reply::from(status) };
    receiver.answer([answer(200)]);
    assert_eq!(api.post("/webhooks", marked("fine", "/?token=QUERY-MARK")).await.0, 202);
    api.until("fine", "delivered", PATIENCE).await;
    receiver.answer([answer(500), answer(404)]);
    let (_, accepted) = api.post("/webhooks", marked("lost", "/?token=QUERY-MARK")).await;
    let correlation_id = accepted["correlation_id"].as_str().unwrap().to_owned();
    api.until("lost", "failed", PATIENCE).await;
    // Refused requests and messages are not in the logs either.
    api.post("/webhooks", r#"{"webhook_url": "http://x/?QUERY-MARK", "payload": "PAYLOAD-MARK", "x": "HEADER-MARK"}"#)
        .await;
    api.post("/webhooks", "PAYLOAD-MARK").await;
    aws(
        stack,
        &["sqs", "send-message", "--queue-url", stack.get("DELIVERY_QUEUE_URL"), "--message-body", "PAYLOAD-MARK"],
    );
    let filed = async {
        while api.get("/dead-letters").await.1["dead_letters"].as_array().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, filed).await.unwrap();
    assert_eq!(api.get("/dead-letters/lost").await.1["correlation_id"], correlation_id.as_str());

    let lines = lines(stack);
    assert!(lines.len() > 50, "{}", lines.len());
    let secret = stack.get("SIGNING_SECRETS").trim_start_matches("whsec_").to_owned();
    for mark in ["PAYLOAD-MARK", "HEADER-MARK", "QUERY-MARK", "ANSWER-MARK", &secret] {
        let told: Vec<_> = lines.iter().filter(|(_, line)| line.contains(mark)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
    // One filter finds the acceptance, both attempts and the dead letter.
    let found: Vec<(&str, Value)> = lines
        .iter()
        .filter(|(_, line)| line.contains(&correlation_id))
        .map(|(group, line)| (group.rsplit('/').next().unwrap(), serde_json::from_str(line).unwrap()))
        .collect();
    let count = |group: &str, message: &str| {
        found.iter().filter(|(from, line)| *from == group && line["message"] == message).count()
    };
    assert_eq!(count("EnqueueLogs", "accepted"), 1, "{found:?}");
    assert_eq!(count("DeliverLogs", "attempt"), 2, "{found:?}");
    assert_eq!(count("ArchiveLogs", "dead letter filed"), 1, "{found:?}");
    for (_, line) in found.iter().filter(|(_, line)| line["message"] == "attempt") {
        for field in ["correlation_id", "webhook_id", "destination", "attempt", "outcome", "duration_ms", "status_code"]
        {
            assert!(line.get(field).is_some(), "{field}: {line}");
        }
    }
    // The metrics for CloudWatch are lines, too.
    let emf: Vec<Value> = lines
        .iter()
        .filter(|(_, line)| line.contains("\"_aws\""))
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect();
    let sum = |name: &str| emf.iter().filter_map(|line| line[name].as_u64()).sum::<u64>();
    assert_eq!(sum("webhook_enqueued_total"), 2);
    assert_eq!(
        (sum("webhook_deliveries_total.delivered.direct"), sum("webhook_deliveries_total.retried.direct")),
        (1, 1)
    );
    let metrics = &emf[0]["_aws"]["CloudWatchMetrics"][0];
    assert_eq!((&metrics["Namespace"], &metrics["Dimensions"]), (&json!("Steadhook"), &json!([["stack"]])));
}
