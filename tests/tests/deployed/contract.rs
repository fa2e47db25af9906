//! A deployed stack gets generated requests, valid and invalid ones. Its answers are
//! checked against the OpenAPI document.

use std::process::{Command, Output};

use tests::stack::OwnStack;

/// Python 3.11 sometimes fails to parse a deep expression that it parses the next time:
/// no request is to blame.
const INTERPRETER_FAULT: &str = "SystemError: AST constructor recursion depth mismatch";

#[test]
fn generated_requests_get_the_answers_of_the_contract() {
    // Every address is refused, so that nothing is sent to a generated URL.
    let own = OwnStack::start(&["AllowedPrivateCidrs=", "RefusedCidrs=0.0.0.0/0,::/0"]);
    let mut output = check(&own);
    if String::from_utf8_lossy(&output.stdout).contains(INTERPRETER_FAULT) {
        output = check(&own);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Tested: 52"), "{said}");
}

fn check(own: &OwnStack) -> Output {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    Command::new(format!("{root}/.local/venvs/tools/bin/schemathesis"))
        .args(["--config-file", "infra/schemathesis.toml", "run", "infra/openapi.yaml", "--no-color", "--url"])
        .arg(own.stack().get("API_URL"))
        .current_dir(root)
        .output()
        .expect("schemathesis is missing: run the tests by `make test`")
}
