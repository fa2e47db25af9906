//! Every command of the runbook works on a deployed stack, as it is written there, for the
//! user of the cache that the template creates.

use std::time::Duration;

use serde_json::json;
use tests::binary::path_of;
use tests::client::Api;
use tests::receiver::Receiver;
use tests::redis_server::RedisServer;
use tests::stack::OwnStack;
use tokio::process::Command;

/// The runbook's blocks of commands, each with the number of its first line.
fn blocks() -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, line) in include_str!("../../../infra/RUNBOOK.md").lines().enumerate() {
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

/// PyPI has version 1 of the AWS CLI, which needs the endpoint as an option.
const AWS: &str = r#"aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }"#;

/// A Redis that lets in only the user of the cache that the template creates. Also its URL.
fn cache() -> (RedisServer, String) {
    let server = RedisServer::start();
    let template: serde_yaml_ng::Value = serde_yaml_ng::from_str(include_str!("../../../infra/cache.yaml")).unwrap();
    let access = template["Resources"]["User"]["Properties"]["AccessString"].as_str().unwrap();
    let mut connection = server.connect();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("steadhook").arg(">secret").arg(access.split_whitespace().collect::<Vec<_>>());
    let _: () = user.query(&mut connection).unwrap();
    let _: () = redis::cmd("ACL").arg("SETUSER").arg("default").arg("off").query(&mut connection).unwrap();
    let url = format!("redis://steadhook:secret@127.0.0.1:{}", server.port());
    (server, url)
}

#[tokio::test]
async fn every_command_of_the_runbook_works() {
    let (_cache, url) = cache();
    let own = OwnStack::start(&["RetryBaseS=1", "BreakerFailureThreshold=1000", &format!("RedisUrl={url}")]);
    let api = Api::of(own.stack());
    let receiver = Receiver::start().await;
    let patience = Duration::from_secs(60);
    for (id, code, status) in [("fine", 200u16, "delivered"), ("gone", 410, "failed"), ("refused", 400, "failed")] {
        receiver.answer([code]);
        let body = json!({"webhook_url": receiver.url("/"), "payload": 1, "reference_id": id});
        assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
        api.until(id, status, patience).await;
    }
    let endpoint = json!({"url": receiver.url("/endpoint"), "event_types": ["never.sent"]});
    let (code, endpoint) = api.post("/tenants/acme/endpoints", endpoint.to_string()).await;
    assert_eq!(code, 201, "{endpoint}");
    let event = json!({"event_type": "order.paid", "event_id": "order-1", "payload": 1});
    assert_eq!(api.post("/tenants/acme/events", event.to_string()).await.0, 202);
    let (code, token) = api.post("/tokens", json!({"scope": "tenant:acme", "ttl_s": 600}).to_string()).await;
    assert_eq!(code, 201, "{token}");
    let filed = async {
        while api.get("/dead-letters").await.1["dead_letters"].as_array().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(patience, filed).await.unwrap();

    // An HTTP error makes the command fail.
    let home = std::env::temp_dir().join(format!("steadhook-runbook-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join(".curlrc"), "fail-with-body\n").unwrap();
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/tools/bin");
    let steadhook = path_of("steadhook");
    let built = steadhook.parent().unwrap().display();
    let blocks = blocks();
    assert!(blocks.len() >= 20, "{}", blocks.len());
    for (line, block) in blocks {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("PATH={tools}:{built}:$PATH\n{AWS}\n{block}")])
            .envs(own.stack().lines())
            .env("CURL_HOME", &home)
            .env("WEBHOOK_ID", "fine")
            .env("DEAD_LETTER_ID", "gone")
            .env("TENANT", "acme")
            .env("EVENT_ID", "order-1")
            .env("ENDPOINT_ID", endpoint["id"].as_str().unwrap())
            .env("RECEIVER_URL", receiver.origin())
            .env("TOKEN", token["token"].as_str().unwrap())
            .env("TOKEN_ID", token["id"].as_str().unwrap())
            .env("SCOPE", "tenant:acme")
            .output()
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "infra/RUNBOOK.md:{line}\n{block}\n{said}");
        // redis-cli succeeds although Redis refuses a command.
        assert!(!said.contains("NOPERM"), "infra/RUNBOOK.md:{line}\n{block}\n{said}");
        // A cleanup may have removed the record that later commands read.
        if api.get("/webhook-statuses/fine").await.0 == 404 {
            let body = json!({"webhook_url": receiver.url("/"), "payload": 1, "reference_id": "fine"});
            assert_eq!(api.post("/webhooks", body.to_string()).await.0, 202);
            api.until("fine", "delivered", patience).await;
        }
    }
    std::fs::remove_dir_all(&home).unwrap();
    // The dead letters were redriven under the same id, and then deleted.
    let seen = receiver.wait_longer_for(5, patience).await;
    let ids: Vec<&str> = seen[3..].iter().map(|arrival| arrival.header("webhook-id")).collect();
    assert!(ids.contains(&"gone") && ids.contains(&"refused"), "{ids:?}");
    assert_eq!(api.get("/dead-letters/gone").await.0, 404);
}
