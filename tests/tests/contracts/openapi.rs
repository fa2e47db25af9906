//! The OpenAPI document agrees with itself. Every answer that a test gets is checked
//! against it, too.

/// `/health` and the header `user-agent` tell the version of the workspace.
#[test]
fn the_contract_and_the_changelog_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let contract = include_str!("../../../infra/openapi.yaml");
    assert!(contract.contains(&format!("\n  version: {version}\n")), "{version}");
    assert!(include_str!("../../../CHANGELOG.md").contains(&format!("\n## {version} - ")), "{version}");
    assert!(include_str!("../../../infra/RECEIVING.md").contains(&format!("user-agent: Steadhook/{version}\n")));
}

#[test]
fn the_examples_of_the_contract_are_valid() {
    let count = tests::contract::check_examples();
    assert!(count >= 15, "{count}");
}
