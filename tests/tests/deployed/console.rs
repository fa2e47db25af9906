//! The console in Chromium, on a deployed stack with IAM enforced.

use std::process::Command;

use serde_json::json;
use tests::stack::OwnStack;

use crate::tokens::token;

#[test]
fn every_screen_and_action_of_the_console_works_in_a_browser() {
    let own = OwnStack::start_guarded(&["RetryBaseS=1"]);
    let (operator, _) = token(own.stack(), json!({ "scope": "operator", "ttl_s": 3600 }));
    let output = Command::new("node")
        .arg("tests/browser/suite.mjs")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .envs(own.stack().lines())
        .env("STEADHOOK_TOKEN", operator)
        .output()
        .expect("Node is missing: run the tests by `make test`");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
}
