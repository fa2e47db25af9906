//! A client in Python, generated from the contract and used against the deployed stack.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tests::endpoints::signatures_by;
use tests::receiver::Receiver;
use tests::stack::Stack;
use tokio::process::Command;

use crate::receiving::Folder;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const BIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/clients/bin");
/// The client's package, which `clients.py` imports.
const CLIENT: &str = "steadhook_client";

/// Generates the client into the folder. It is formatted on the way, so that Python that cannot be
/// read is a failure.
async fn generate(folder: &Path) -> Output {
    Command::new(format!("{BIN}/openapi-python-client"))
        .args(["generate", "--meta", "none", "--output-path", CLIENT, "--path", &format!("{ROOT}/infra/openapi.yaml")])
        .current_dir(folder)
        .env("PATH", format!("{BIN}:/usr/bin:/bin"))
        .output()
        .await
        .expect("openapi-python-client is missing: run the tests by `make test`")
}

/// How many operations the contract has.
fn operations() -> usize {
    let document: Value = serde_yaml_ng::from_str(include_str!("../../../infra/openapi.yaml")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.values().flat_map(|path| path.as_object().unwrap().values());
    methods.filter(|operation| operation.get("operationId").is_some()).count()
}

/// How many operations the client has: a module each, in a folder for each tag.
fn modules(client: &Path) -> usize {
    let tags = std::fs::read_dir(client.join("api")).unwrap().map(|tag| tag.unwrap().path());
    let files = tags.filter(|tag| tag.is_dir()).flat_map(|tag| std::fs::read_dir(tag).unwrap());
    files.filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().starts_with("__")).count()
}

#[tokio::test]
async fn a_client_that_is_generated_from_the_contract_sends_an_event_and_reads_its_state() {
    let (stack, receiver, folder) = (Stack::running(), Receiver::start().await, Folder::new());
    let Output { status, stdout, stderr } = generate(folder.path()).await;
    let said = [stdout, stderr].concat();
    // What it leaves out, it tells in a warning, and succeeds.
    assert_eq!(String::from_utf8_lossy(&said).trim(), format!("Generating {CLIENT}"));
    assert!(status.success());
    assert_eq!(modules(&folder.path().join(CLIENT)), operations());

    let payload = json!({ "order": 17, "amount": 42.5, "name": "Zoë 漢" });
    let output = Command::new(format!("{BIN}/python"))
        .arg(format!("{ROOT}/tests/tests/deployed/clients.py"))
        .env("PYTHONPATH", folder.path())
        .env("API_URL", stack.get("API_URL"))
        .env("TENANT", format!("generated-{}", fastrand::u64(..)))
        .env("RECEIVER_URL", receiver.url("/orders"))
        .env("PAYLOAD", payload.to_string())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let arrivals = receiver.wait_for(1).await;
    let [got] = &arrivals[..] else { panic!("{} calls", arrivals.len()) };
    assert_eq!((got.path.as_str(), serde_json::from_slice::<Value>(&got.body).unwrap()), ("/orders", payload));
    assert_eq!(got.header("webhook-id"), told["webhook_id"]);
    assert_eq!(signatures_by(got, told["secret"].as_str().unwrap()), 1);
}
