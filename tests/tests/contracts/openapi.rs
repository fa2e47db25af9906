//! The OpenAPI document agrees with itself. Every answer that a test gets is checked
//! against it, too.

#[test]
fn the_examples_of_the_contract_are_valid() {
    let count = tests::contract::check_examples();
    assert!(count >= 15, "{count}");
}
