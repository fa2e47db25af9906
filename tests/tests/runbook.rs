//! Every command of the runbook, run as it stands there on a deployed stack.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::time::Duration;

use serde_json::json;
use tests::client::Api;
use tests::receiver::Receiver;
use tests::stack::OwnStack;
use tokio::process::Command;

/// The runbook's blocks of commands, with the line that each begins at.
fn blocks() -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, line) in include_str!("../../infra/RUNBOOK.md").lines().enumerate() {
        match (&mut open, line) {
            (None, "```bash") => open = Some((i + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Version 1 of the AWS CLI, which PyPI has, asks SQS itself unless it is told so.
const AWS: &str = r#"aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }"#;

#[tokio::test]
async fn every_command_of_the_runbook_works() {
    let own = OwnStack::start(&["RetryBaseS=1", "BreakerFailureThreshold=1000"]);
    let api = Api::of(own.stack());
    let receiver = Receiver::start().await;
    let patience = Duration::from_secs(60);
    for (id, code, status) in [("fine", 200u16, "delivered"), ("gone", 410, "failed"), ("refused", 400, "failed")] {
        receiver.answer([code]);
        let body = json!({"webhook_url": receiver.url("/"), "payload": 1, "reference_id": id});
        assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
        api.until(id, status, patience).await;
    }
    let filed = async {
        while api.get("/dead-letters").await.1["dead_letters"].as_array().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(patience, filed).await.unwrap();

    // A refusal by HTTP is a failure of the command.
    let home = std::env::temp_dir().join(format!("steadhook-runbook-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join(".curlrc"), "fail-with-body\n").unwrap();
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/tools/bin");
    let blocks = blocks();
    assert!(blocks.len() >= 20, "{}", blocks.len());
    for (line, block) in blocks {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("PATH={tools}:$PATH\n{AWS}\n{block}")])
            .envs(own.stack().lines())
            .env("CURL_HOME", &home)
            .env("WEBHOOK_ID", "fine")
            .env("DEAD_LETTER_ID", "gone")
            .env("RECEIVER_URL", receiver.origin())
            .output()
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "infra/RUNBOOK.md:{line}\n{block}\n{said}");
        // A cleanup may have removed the record that the next commands ask for.
        if api.get("/webhook-statuses/fine").await.0 == 404 {
            let body = json!({"webhook_url": receiver.url("/"), "payload": 1, "reference_id": "fine"});
            assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
            api.until("fine", "delivered", patience).await;
        }
    }
    std::fs::remove_dir_all(&home).unwrap();
    // What it says of them came true: redriven under the same id, then deleted.
    let seen = receiver.wait_longer_for(5, patience).await;
    let ids: Vec<&str> = seen[3..].iter().map(|arrival| arrival.header("webhook-id")).collect();
    assert!(ids.contains(&"gone") && ids.contains(&"refused"), "{ids:?}");
    assert_eq!(api.get("/dead-letters/gone").await.0, 404);
}
